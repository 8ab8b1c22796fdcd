//! How far an event has come.

/// What [`Tidelog::wait_for`](crate::Tidelog::wait_for) waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// It stands in the log here.
    Committed,
    /// It stands at the server as well.
    Replicated,
    /// It was published.
    Published,
}
