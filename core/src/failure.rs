//! Why an event was not taken in by whoever follows the log.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use crate::error::{Cause, Error, ErrorKind};

/// Why a projection, a listener or a process manager did not take an event.
///
/// `?` makes one of any error. It is then tried again, by the [`RetryPolicy`](crate::RetryPolicy);
/// what can never succeed is marked by [`permanent`](HandlerError::permanent), and so are the
/// library's own errors that ask for other input, such as an event that cannot be decoded.
///
/// It is not itself a [`std::error::Error`], so that `?` works from every one.
///
/// ```
/// use tidelog_core::HandlerError;
///
/// fn send(address: &str) -> Result<(), HandlerError> {
///     let port = address.parse::<u16>().map_err(HandlerError::permanent)?;
///     std::net::TcpListener::bind(("127.0.0.1", port))?; // tried again when it fails
///     Ok(())
/// }
/// assert!(send("nowhere").unwrap_err().is_permanent());
/// ```
#[derive(Clone)]
pub struct HandlerError {
    cause: Cause,
    permanent: bool,
    gap: Option<SequenceGap>,
}

/// A hole in a stream that a handler was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceGap {
    /// The sequence that should have come.
    pub expected: u64,
    /// The one that came.
    pub found: u64,
}

impl HandlerError {
    /// A failure that trying again cannot mend.
    pub fn permanent(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self {
            cause: Arc::from(cause.into()),
            permanent: true,
            gap: None,
        }
    }

    /// A failure that may be gone the next time.
    pub fn passing(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self {
            cause: Arc::from(cause.into()),
            permanent: false,
            gap: None,
        }
    }

    /// Events between the last one handled and this one are missing: this one has to wait for them.
    /// A container that can hold it does; any other tries again, and gives up like with any failure.
    pub fn gap(expected: u64, found: u64) -> Self {
        let mut gap = Self::passing(format!(
            "sequence {found} came where {expected} is next; what is between is missing"
        ));
        gap.gap = Some(SequenceGap { expected, found });
        gap
    }

    /// What is missing, if that is what it says.
    pub fn sequence_gap(&self) -> Option<SequenceGap> {
        self.gap
    }

    /// What a caught panic of the handler is: a permanent failure with the panic's text.
    pub fn panicked(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Self::permanent(format!("it panicked: {}", text.unwrap_or("no text")))
    }

    /// Whether trying again is useless.
    pub fn is_permanent(&self) -> bool {
        self.permanent
    }

    /// What went wrong.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// Whether the store was closed meanwhile: nothing is wrong with the event then.
    pub fn is_closed(&self) -> bool {
        matches!(self.cause.downcast_ref::<Error>(), Some(Error::Closed))
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for HandlerError {
    fn from(cause: E) -> Self {
        let own = (&cause as &dyn Any).downcast_ref::<Error>();
        Self {
            permanent: own.is_some_and(|error| error.kind() == ErrorKind::FixInput),
            cause: Arc::new(cause),
            gap: None,
        }
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.cause, f)
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerError")
            .field("cause", &self.cause)
            .field("permanent", &self.permanent)
            .field("gap", &self.gap)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed_by(error: Error) -> HandlerError {
        fn run(error: Error) -> Result<(), HandlerError> {
            Err(error)?
        }
        run(error).unwrap_err()
    }

    #[test]
    fn an_error_that_asks_for_other_input_is_permanent_and_any_other_is_tried_again() {
        assert!(failed_by(Error::invalid("key", "x", "too short")).is_permanent());
        assert!(!failed_by(Error::Cancelled { what: "a read" }).is_permanent());
        assert!(!HandlerError::from(fmt::Error).is_permanent());
        assert!(HandlerError::permanent("no such account").is_permanent());
    }

    #[test]
    fn a_closed_store_is_recognized() {
        assert!(failed_by(Error::Closed).is_closed());
        assert!(!HandlerError::passing("closed").is_closed());
    }
    #[test]
    fn a_gap_is_passing_and_says_what_is_missing() {
        let gap = HandlerError::gap(4, 7);
        assert!(!gap.is_permanent());
        let missing = gap.sequence_gap().unwrap();
        assert_eq!((missing.expected, missing.found), (4, 7));
        assert_eq!(HandlerError::passing("no").sequence_gap(), None);
    }
}
