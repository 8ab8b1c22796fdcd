//! Changes that are asked for twice.

use std::io::{self, IsTerminal, Write};

use crate::error::CliError;

/// Asks on a terminal whether to go on with what `change` says, unless that was said on the command line.
pub fn confirm(yes: bool, change: &str) -> Result<(), CliError> {
    if yes {
        return Ok(());
    }
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        let what = format!("{change}; nothing was changed: say --yes if that is wanted");
        return Err(CliError::Usage(what));
    }
    let mut stderr = io::stderr();
    write!(stderr, "{change}. Go on? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(CliError::Usage("nothing was changed".into()))
    }
}
