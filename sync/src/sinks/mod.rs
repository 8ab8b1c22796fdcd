//! What sinks keep in a store between two runs, without what sends: it is read by builds that have no
//! driver, too.
//!
//! | file | subject |
//! |---|---|
//! | `replication` | what the replica's sink keeps |
//! | `publishing` | what Kafka's keeps |
//! | `reason` | why a stream is set aside |

// Written and asked by the features alone.
#![cfg_attr(not(all(feature = "kafka", feature = "scylla")), allow(dead_code))]

pub(crate) mod publishing;
mod reason;
pub(crate) mod replication;

use tidelog_core::{Error, EventId, StreamId};

pub use reason::ParkedReason;

use self::publishing::KafkaState;
use self::replication::SinkState;

/// Where a store's log is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SinkKind {
    /// To the replica, at ScyllaDB or Cassandra.
    Replication,
    /// To Kafka.
    Publishing,
}

impl SinkKind {
    /// A stable word for it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Replication => "replication",
            Self::Publishing => "publishing",
        }
    }
}

/// How far a store's log has been sent, and what was set aside on the way, as the store keeps it between
/// two runs: read from a store that nobody has to have open, in builds without the features that send.
///
/// Beside a running application it is as of when that saved it last; the application's own status is
/// newer.
///
/// ```
/// use tidelog::{LogReader, SavedSink, Tidelog};
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("events");
/// let log = Tidelog::open(&path)?.blocking();
///
/// for saved in LogReader::open(&path)?.saved()? {
///     if let Some(sink) = SavedSink::decode(&saved.name, &saved.state?)? {
///         println!("{}: {} streams are set aside", sink.kind.code(), sink.parked.len());
///     }
/// }
/// # Ok::<(), tidelog::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SavedSink {
    /// Where to.
    pub kind: SinkKind,
    /// Everything up to this position has arrived, or is set aside.
    pub settled: u64,
    /// The streams that are set aside, by name.
    pub parked: Vec<SinkParked>,
}

/// A stream that a sink has set aside: nothing of it is sent from one event on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SinkParked {
    /// The stream.
    pub stream: StreamId,
    /// Why.
    pub reason: ParkedReason,
    /// Sequence of the first event that is held.
    pub first_sequence: u64,
    /// Its position.
    pub first_position: u64,
    /// Its id.
    pub event_id: EventId,
    /// Nothing is held: the event has arrived, while others of its append have not.
    pub accepted: bool,
    /// What stands in its way at the server, where the server said so: sequence and event.
    pub remote: Option<(u64, EventId)>,
    /// Where the log ended when the stream was set aside.
    pub since_position: u64,
}

impl SavedSink {
    /// What is saved under `name`, as [`LogReader::saved`](crate::LogReader::saved) hands it out; `None`
    /// when no sink that this version knows saves under that name.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the bytes are no such state.
    pub fn decode(name: &str, bytes: &[u8]) -> Result<Option<Self>, Error> {
        let decoded = match name {
            replication::NAME => SinkState::decode(bytes).map(Self::from),
            publishing::NAME => KafkaState::decode(bytes).map(Self::from),
            _ => return Ok(None),
        };
        let path = format!("listeners/{name}");
        let remedy =
            "the sink's `forget_state`, then `fork`: it finds out by the server how far it is";
        decoded
            .map(Some)
            .map_err(|what| Error::damaged(path, what, remedy))
    }
}

impl From<SinkState> for SavedSink {
    fn from(state: SinkState) -> Self {
        let listed = state.parked.into_values();
        let listed = listed.filter(|entry| entry.resolved_at == 0);
        Self {
            kind: SinkKind::Replication,
            settled: state.settled.position,
            parked: listed
                .map(|entry| SinkParked {
                    stream: entry.stream,
                    reason: entry.reason,
                    first_sequence: entry.first_sequence,
                    first_position: entry.first_position,
                    event_id: entry.local_event,
                    accepted: entry.accepted,
                    remote: entry.remote,
                    since_position: entry.since_position,
                })
                .collect(),
        }
    }
}

impl From<KafkaState> for SavedSink {
    fn from(state: KafkaState) -> Self {
        Self {
            kind: SinkKind::Publishing,
            settled: state.settled.position,
            parked: state
                .parked
                .into_values()
                .map(|entry| SinkParked {
                    stream: entry.stream,
                    reason: entry.reason,
                    first_sequence: entry.first_sequence,
                    first_position: entry.first_position,
                    event_id: entry.event_id,
                    accepted: false,
                    remote: None,
                    since_position: entry.since_position,
                })
                .collect(),
        }
    }
}

/// As much of a text as is kept: at most so many bytes.
fn shortened(text: &str, most: usize) -> &str {
    let mut ends = (0..=text.len().min(most)).rev();
    ends.find_map(|end| text.get(..end)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sinks_have_set_aside_is_read_without_them() {
        let mut kept = replication::tests::state();
        let first = kept.parked.values().next().unwrap().clone();
        let resolved = replication::ParkedEntry {
            stream: "T/b".parse().unwrap(),
            resolved_at: 400,
            ..first
        };
        kept.parked.insert((resolved.stream.clone(), 300), resolved);
        let bytes = kept.encode().unwrap();
        let sink = SavedSink::decode("sink.scylla", &bytes).unwrap().unwrap();
        assert_eq!((sink.kind, sink.settled), (SinkKind::Replication, 301));
        // What a person has resolved is not set aside any more.
        let [parked] = &*sink.parked else {
            panic!("{:?}", sink.parked)
        };
        assert_eq!((parked.stream.as_str(), parked.first_sequence), ("T/a", 3));
        assert_eq!(parked.remote, Some((4, EventId::from_bytes([8; 16]))));
        let bytes = publishing::tests::state().encode().unwrap();
        let sink = SavedSink::decode("sink.kafka", &bytes).unwrap().unwrap();
        assert_eq!((sink.kind, sink.settled), (SinkKind::Publishing, 301));
        let [parked] = &*sink.parked else {
            panic!("{:?}", sink.parked)
        };
        assert_eq!(parked.reason, ParkedReason::Refused("no".into()));
        assert_eq!((parked.first_position, parked.since_position), (300, 301));
    }

    #[test]
    fn damage_is_named_with_a_remedy_and_other_names_are_nobodys() {
        for name in ["sink.scylla", "sink.kafka"] {
            let error = SavedSink::decode(name, b"?").unwrap_err().to_string();
            assert!(
                error.contains(name) && error.contains("forget_state"),
                "{error}"
            );
        }
        assert_eq!(SavedSink::decode("mail", b"?").unwrap(), None);
        assert_eq!(SavedSink::decode("sink.later", b"?").unwrap(), None);
    }
}
