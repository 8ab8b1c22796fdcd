//! What is known of a projection from outside.

use tidelog_core::Error;

/// How far a projection is, and what it is doing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProjectionStatus {
    /// Its name.
    pub name: Box<str>,
    /// The version of its code.
    pub version: u32,
    /// Whether appends wait for it.
    pub inline: bool,
    /// What it is doing.
    pub state: ProjectionState,
    /// Everything up to it is in the rows that are asked.
    pub position: u64,
    /// The newest position of the log.
    pub last_position: u64,
    /// How many rows there are.
    pub rows: u64,
    /// How many streams are parked.
    pub parked: u64,
}

/// What a projection is doing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ProjectionState {
    /// Its rows are being checked; questions wait.
    Checking,
    /// It takes in what the log has and the rows have not.
    CatchingUp,
    /// Its rows hold all that the log has.
    Live,
    /// Rows are being made anew. Older ones serve meanwhile, or questions are answered by
    /// [`Error::Rebuilding`].
    Rebuilding {
        /// How far the new ones are.
        position: u64,
    },
    /// An event failed and is tried again soon.
    Waiting {
        /// How often it was tried.
        attempts: u32,
        /// Why it failed the last time.
        reason: Box<str>,
    },
    /// It stands still; the error says at which event, and why. Rows go on answering.
    Stopped(Error),
    /// The store is closed.
    Closed,
}
