//! Why a stream is set aside.

use std::fmt;

use tidelog_core::StreamId;

/// Why a stream is parked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParkedReason {
    /// Another origin's event stands where this one belongs.
    Diverged,
    /// An event of this stream was recorded together with one of another stream that is parked.
    TornBatch {
        /// That stream.
        sibling: StreamId,
    },
    /// An event is larger than the server takes.
    TooLarge,
    /// Events before it are gone since a repair, more than a bucket's.
    Gap,
    /// The server refuses this event, and only this.
    Refused(Box<str>),
    /// The replica has not accepted it: publishing waits for that.
    NotReplicated,
}

impl ParkedReason {
    /// A stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Diverged => "diverged",
            Self::TornBatch { .. } => "torn_batch",
            Self::TooLarge => "too_large",
            Self::Gap => "gap",
            Self::Refused(_) => "refused",
            Self::NotReplicated => "not_replicated",
        }
    }

    pub(crate) fn number(&self) -> u8 {
        match self {
            Self::Diverged => 1,
            Self::TornBatch { .. } => 2,
            Self::TooLarge => 3,
            Self::Gap => 4,
            Self::Refused(_) => 5,
            Self::NotReplicated => 6,
        }
    }

    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Diverged | Self::TooLarge | Self::Gap | Self::NotReplicated => "",
            Self::TornBatch { sibling } => sibling.as_str(),
            Self::Refused(text) => text,
        }
    }

    pub(crate) fn from_number(number: u8, text: &str) -> Option<Self> {
        Some(match number {
            1 => Self::Diverged,
            2 => Self::TornBatch {
                sibling: text.parse().ok()?,
            },
            3 => Self::TooLarge,
            4 => Self::Gap,
            5 => Self::Refused(text.into()),
            6 => Self::NotReplicated,
            _ => return None,
        })
    }
}

impl fmt::Display for ParkedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Diverged => f.write_str("another origin's event stands in its place"),
            Self::TornBatch { sibling } => {
                write!(
                    f,
                    "it was recorded together with events of {sibling}, which is parked"
                )
            }
            Self::TooLarge => f.write_str("it is larger than the server takes"),
            Self::Gap => f.write_str("too many events before it are gone since a repair"),
            Self::Refused(text) => write!(f, "the server refuses it: {text}"),
            Self::NotReplicated => f.write_str("the replica has not accepted it"),
        }
    }
}
