//! `tidelog`: looks into stores, backs them up, repairs them.

mod args;
mod confirm;
mod error;
mod event;
mod layout;
mod output;
mod saved;
mod select;
mod stop;
mod table;
mod text;
mod verbs;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use self::args::Cli;
use self::error::CliError;
use self::output::Output;
use self::text::shown;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(said) if said.use_stderr() => return refuse(&said),
        Err(help) => {
            // Whoever does not read it any more has seen enough.
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
    };
    let mut out = Output::stdout(cli.json);
    let done = verbs::run(cli.verb, &mut out);
    match done.and_then(|code| out.flush().map(|()| code)) {
        Ok(code) => code,
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            out.tell(&error);
            error.exit_code()
        }
    }
}

/// Says what is wrong with the command line, which is repeated in it: that steers no terminal either.
fn refuse(said: &clap::Error) -> ExitCode {
    let text = said.render().to_string();
    let error = CliError::Usage(text.trim_start_matches("error: ").trim_end().to_owned());
    if std::env::args_os().any(|word| word == "--json") {
        Output::stdout(true).tell(&error);
        return error.exit_code();
    }
    let mut stderr = io::stderr().lock();
    for line in text.lines() {
        let _ = writeln!(stderr, "{}", shown(line));
    }
    error.exit_code()
}
