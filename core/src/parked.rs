//! Streams that a consumer has set aside.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::id::EventId;
use crate::stream_id::StreamId;

/// A stream whose event a consumer could not take: it is set aside with all that follows it there,
/// while other streams go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedStream {
    /// The stream.
    pub stream: StreamId,
    /// The event that could not be taken.
    pub event_id: EventId,
    /// Its position.
    pub position: u64,
    /// Its sequence.
    pub sequence: u64,
    /// Sequence of the newest event that is held behind it, or its own.
    pub last_sequence: u64,
    /// How often it was tried; 0 while the stream is being taken in again and none has failed since,
    /// also when that was cut off. The event is then the last one that was taken in.
    pub attempts: u32,
    /// When it was given up.
    pub since: Timestamp,
    /// Why, at most [`MAX_REASON_BYTES`](Self::MAX_REASON_BYTES).
    pub reason: Box<str>,
}

impl ParkedStream {
    /// Most bytes of a reason; what is longer is cut.
    pub const MAX_REASON_BYTES: usize = 1024;

    /// How many of the stream's events wait, the one that could not be taken included.
    pub fn held(&self) -> u64 {
        self.last_sequence
            .saturating_add(1)
            .saturating_sub(self.sequence)
    }

    /// The text of a failure, cut to what is kept.
    pub fn reason_of(failure: impl std::fmt::Display) -> Box<str> {
        let mut reason = failure.to_string();
        let mut end = reason.len().min(Self::MAX_REASON_BYTES);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        reason.truncate(end);
        reason.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut_between_two_characters() {
        for padding in 0..4 {
            let long = "x".repeat(padding) + &"\u{1f980}".repeat(400);
            let reason = ParkedStream::reason_of(&long);
            assert!(long.starts_with(&*reason), "{padding}");
            assert!((1021..=1024).contains(&reason.len()), "{padding}");
        }
        assert_eq!(&*ParkedStream::reason_of("no answer"), "no answer");
    }
}
