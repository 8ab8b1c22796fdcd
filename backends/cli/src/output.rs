//! Where answers go: tables and lines for people, JSON for programs.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use serde::Serialize;

use crate::error::CliError;
use crate::text::{json_shown, shown};

/// What is done and where its answer goes.
pub struct Output {
    to: BufWriter<Stdout>,
    /// One JSON object a line in place of tables.
    pub json: bool,
    /// How wide the terminal is, where it is one.
    pub width: Option<usize>,
}

impl Output {
    pub fn stdout(json: bool) -> Self {
        let stdout = io::stdout();
        let columns = || usize::from(console::Term::stdout().size().1);
        Self {
            width: stdout.is_terminal().then(columns),
            to: BufWriter::with_capacity(1 << 16, stdout),
            json,
        }
    }

    /// A line for people; what comes from a store is [`shown`] by who makes it.
    pub fn line(&mut self, line: &str) -> Result<(), CliError> {
        Ok(writeln!(self.to, "{}", line.trim_end())?)
    }

    /// A line for programs.
    pub fn object(&mut self, object: &impl Serialize) -> Result<(), CliError> {
        let line = serde_json::to_string(object).map_err(io::Error::other)?;
        Ok(writeln!(self.to, "{}", json_shown(&line))?)
    }

    /// What is said beside the answer.
    pub fn note(&mut self, note: &str) -> Result<(), CliError> {
        self.flush()?;
        // A note that nobody hears is no failure.
        let _ = writeln!(io::stderr(), "note: {}", shown(note));
        Ok(())
    }

    /// An error, for people or programs.
    pub fn tell(&mut self, error: &CliError) {
        // What was read before it is right, and stands before it.
        let _ = self.flush();
        let text = error.to_string();
        if self.json {
            let object = serde_json::json!({"error": {"code": error.word(), "message": text}});
            let _ = writeln!(io::stderr(), "{}", json_shown(&object.to_string()));
        } else {
            let _ = writeln!(io::stderr(), "error: {}", shown(&text));
        }
    }

    pub fn flush(&mut self) -> Result<(), CliError> {
        Ok(self.to.flush()?)
    }

    /// For what writes by itself.
    pub fn writer(&mut self) -> &mut impl Write {
        &mut self.to
    }
}
