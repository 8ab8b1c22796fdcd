//! Why a verb ended early, and what the process answers then.

use std::io;
use std::process::ExitCode;

use tidelog::{Error, ErrorKind, ImportError};

/// Done.
pub const DONE: u8 = 0;
/// Failed: a file that cannot be written, an event that is refused, and the like.
const FAILED: u8 = 1;
/// The command line is wrong, or a change was not confirmed.
const USAGE: u8 = 2;
/// Another process has the store open.
const IN_USE: u8 = 3;
/// There is no store, or one of a format that this version does not know.
const NO_STORE: u8 = 4;
/// The store is damaged, or events are gone.
pub const DAMAGED: u8 = 5;
/// Ended by Ctrl-C, or by a signal that asks for the end.
pub const STOPPED: u8 = 130;

/// Why nothing, or not all, was done.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The library's own.
    #[error(transparent)]
    Store(#[from] Error),
    /// An import ended.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// What was to be shown could not be written.
    #[error("cannot write the answer: {0}")]
    Output(#[from] io::Error),
    /// Something that was said cannot be done.
    #[error("{0}")]
    Usage(String),
    /// It was asked to end.
    #[error("stopped; {0}")]
    Stopped(String),
}

impl CliError {
    /// What the process answers.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code_number())
    }

    fn code_number(&self) -> u8 {
        match self {
            Self::Store(error) => code_of(error),
            Self::Import(ImportError { error, .. }) => code_of(error),
            Self::Output(_) => FAILED,
            Self::Usage(_) => USAGE,
            Self::Stopped(_) => STOPPED,
        }
    }

    /// A stable word for scripts.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Store(error) => error.code(),
            Self::Import(error) => error.error.code(),
            Self::Output(_) => "output",
            Self::Usage(_) => "usage",
            Self::Stopped(_) => "stopped",
        }
    }

    /// Whether who reads along has seen enough: `events | head`.
    pub fn is_broken_pipe(&self) -> bool {
        let of = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
        match self {
            Self::Output(error) => of(error),
            Self::Store(Error::Io { source, .. }) => of(source),
            _ => false,
        }
    }

    /// With what to do next, where that is not in the error itself.
    pub fn stopped(self, next: &str) -> Self {
        let is_it = |error: &Error| error.kind() == ErrorKind::Stopped;
        let stopped = match &self {
            Self::Store(error) => is_it(error),
            Self::Import(error) => is_it(&error.error),
            _ => false,
        };
        if stopped {
            Self::Stopped(next.to_owned())
        } else {
            self
        }
    }
}

fn code_of(error: &Error) -> u8 {
    match error {
        Error::Locked { .. } => IN_USE,
        Error::NotAStore { .. } | Error::UnsupportedFormat { .. } => NO_STORE,
        Error::Cancelled { .. } => STOPPED,
        error if error.kind() == ErrorKind::Repair => DAMAGED,
        _ => FAILED,
    }
}
