//! What publishing keeps between two runs, and its bytes.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidelog_backends::commits::CommitEnd;
use tidelog_core::{Error, EventId, StreamId};
use uuid::Uuid;

use super::{ParkedReason, shortened};

/// The name that it is saved under.
pub(crate) const NAME: &str = "sink.kafka";
/// The format of the bytes.
const FORMAT: u32 = 1;
/// Most bytes of a text kept with a parked stream.
const MAX_TEXT: usize = 512;

/// How far the log is published, under which session, and what is set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KafkaState {
    /// The cluster that answered first; empty before that.
    pub cluster: Box<str>,
    pub origin: Uuid,
    pub epoch: Uuid,
    /// The session that was marked last; nil before the first mark.
    pub session: Uuid,
    /// The one that a mark may have been made under since; nil when none.
    pub next_session: Uuid,
    /// Everything up to here is published, or set aside.
    pub settled: CommitEnd,
    /// What is published once more.
    pub republish: Option<Pass>,
    /// Topics that began again, and were not refilled since.
    pub restarted: BTreeSet<Box<str>>,
    /// The newest offset that was written to each place.
    pub places: BTreeMap<Place, i64>,
    /// Streams that are set aside, each from one event on.
    pub parked: BTreeMap<StreamId, ParkedEntry>,
}

/// A part of the log that is published once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pass {
    /// Its first position.
    pub from: u64,
    /// Its last one.
    pub to: u64,
    /// Up to here it is done.
    pub at: u64,
}

impl KafkaState {
    /// The state as bytes.
    pub(crate) fn encode(&self) -> Result<Bytes, Error> {
        let kept = Kept {
            format: FORMAT,
            cluster: shortened(&self.cluster, 64).into(),
            origin: *self.origin.as_bytes(),
            epoch: *self.epoch.as_bytes(),
            session: *self.session.as_bytes(),
            next_session: *self.next_session.as_bytes(),
            position: self.settled.position,
            commit: self.settled.number,
            hash: self.settled.hash,
            republish: self.republish,
            restarted: self.restarted.iter().map(|t| Cow::from(&**t)).collect(),
            places: self
                .places
                .iter()
                .map(|(place, offset)| (Cow::from(&*place.topic), place.partition, *offset))
                .collect(),
            parked: self.parked.values().map(KeptParked::of).collect(),
        };
        let bytes = postcard::to_stdvec(&kept).map_err(|error| Error::Codec {
            what: "encoding the state",
            type_name: "KafkaState".into(),
            revision: FORMAT,
            recorded: None,
            reason: error.to_string().into(),
        })?;
        Ok(bytes.into())
    }

    /// The state from its bytes; what is wrong with them otherwise.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let (kept, rest): (Kept<'_>, _) =
            postcard::take_from_bytes(bytes).map_err(|error| error.to_string())?;
        if !rest.is_empty() {
            return Err(format!("{} bytes follow it", rest.len()));
        }
        if kept.format != FORMAT {
            let found = kept.format;
            return Err(format!(
                "it has format {found}, this program reads {FORMAT}"
            ));
        }
        let mut parked = BTreeMap::new();
        for entry in kept.parked {
            let entry = entry.into_entry()?;
            parked.insert(entry.stream.clone(), entry);
        }
        let places = kept.places.into_iter();
        Ok(Self {
            cluster: kept.cluster.into(),
            origin: Uuid::from_bytes(kept.origin),
            epoch: Uuid::from_bytes(kept.epoch),
            session: Uuid::from_bytes(kept.session),
            next_session: Uuid::from_bytes(kept.next_session),
            settled: CommitEnd {
                position: kept.position,
                number: kept.commit,
                hash: kept.hash,
            },
            republish: kept.republish,
            restarted: kept.restarted.into_iter().map(Into::into).collect(),
            places: places
                .map(|(topic, partition, offset)| {
                    let topic = topic.into();
                    (Place { topic, partition }, offset)
                })
                .collect(),
            parked,
        })
    }
}

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    pub topic: Box<str>,
    pub partition: i32,
}

/// A stream that is set aside from one event on, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ParkedEntry {
    pub stream: StreamId,
    pub reason: ParkedReason,
    /// The first event that is held.
    pub first_sequence: u64,
    pub first_position: u64,
    pub event_id: EventId,
    /// Where the log ended when it was set aside.
    pub since_position: u64,
}

#[derive(Serialize, Deserialize)]
struct Kept<'a> {
    format: u32,
    cluster: Cow<'a, str>,
    origin: [u8; 16],
    epoch: [u8; 16],
    session: [u8; 16],
    next_session: [u8; 16],
    position: u64,
    commit: u64,
    hash: [u8; 32],
    republish: Option<Pass>,
    #[serde(borrow)]
    restarted: Vec<Cow<'a, str>>,
    #[serde(borrow)]
    places: Vec<(Cow<'a, str>, i32, i64)>,
    #[serde(borrow)]
    parked: Vec<KeptParked<'a>>,
}

#[derive(Serialize, Deserialize)]
struct KeptParked<'a> {
    aggregate_type: Cow<'a, str>,
    aggregate_id: Cow<'a, str>,
    reason: u8,
    first_sequence: u64,
    first_position: u64,
    event_id: [u8; 16],
    since_position: u64,
    text: Cow<'a, str>,
}

impl<'a> KeptParked<'a> {
    fn of(entry: &'a ParkedEntry) -> Self {
        Self {
            aggregate_type: entry.stream.aggregate_type().into(),
            aggregate_id: entry.stream.aggregate_id().into(),
            reason: entry.reason.number(),
            first_sequence: entry.first_sequence,
            first_position: entry.first_position,
            event_id: *entry.event_id.as_bytes(),
            since_position: entry.since_position,
            text: shortened(entry.reason.text(), MAX_TEXT).into(),
        }
    }

    fn into_entry(self) -> Result<ParkedEntry, String> {
        let stream = StreamId::new_reserved(&self.aggregate_type, &self.aggregate_id);
        Ok(ParkedEntry {
            stream: stream.map_err(|error| error.to_string())?,
            reason: ParkedReason::from_number(self.reason, &self.text)
                .ok_or_else(|| format!("{} is no reason for parking", self.reason))?,
            first_sequence: self.first_sequence,
            first_position: self.first_position,
            event_id: EventId::from_bytes(self.event_id),
            since_position: self.since_position,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn state() -> KafkaState {
        let uuid = |byte| Uuid::from_bytes([byte; 16]);
        let entry = ParkedEntry {
            stream: "T/a".parse().unwrap(),
            reason: ParkedReason::Refused("no".into()),
            first_sequence: 3,
            first_position: 300,
            event_id: EventId::from_bytes([7; 16]),
            since_position: 301,
        };
        let place = Place {
            topic: "t.T".into(),
            partition: 5,
        };
        KafkaState {
            cluster: "c1".into(),
            origin: uuid(1),
            epoch: uuid(2),
            session: uuid(4),
            next_session: uuid(5),
            settled: CommitEnd {
                number: 5,
                position: 301,
                hash: [9; 32],
            },
            republish: Some(Pass {
                from: 1,
                to: 301,
                at: 17,
            }),
            restarted: BTreeSet::from(["t.U".into()]),
            places: BTreeMap::from([(place, 200)]),
            parked: BTreeMap::from([(entry.stream.clone(), entry)]),
        }
    }

    #[test]
    fn its_bytes_never_change() {
        let mut golden = vec![1, 2, b'c', b'1'];
        for byte in [1, 2, 4, 5] {
            golden.extend([byte; 16]);
        }
        golden.extend([0xad, 2, 5]);
        golden.extend([9; 32]);
        golden.extend([1, 1, 0xad, 2, 17]);
        golden.extend([1, 3, b't', b'.', b'U']);
        golden.extend([1, 3, b't', b'.', b'T', 10, 0x90, 3]);
        golden.extend([1, 1, b'T', 1, b'a', 5, 3, 0xac, 2]);
        golden.extend([7; 16]);
        golden.extend([0xad, 2, 2, b'n', b'o']);
        assert_eq!(state().encode().unwrap(), golden);
        assert_eq!(KafkaState::decode(&golden).unwrap(), state());
    }

    #[test]
    fn what_is_no_state_is_said() {
        let bytes = state().encode().unwrap();
        let mut newer = bytes.to_vec();
        newer[0] = 2;
        let longer = [&bytes[..], b"x"].concat();
        for bad in [&bytes[..bytes.len() - 1], &longer, &newer, b""] {
            assert!(KafkaState::decode(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn every_state_reads_back(
            position: u64, pass: Option<(u64, u64, u64)>, places in prop::collection::vec(("[a-z]{1,9}", any::<i32>(), any::<i64>()), 0..5),
            ids in prop::collection::vec(("[a-zé/ ]{1,20}", any::<[u64; 3]>(), 3_u8..7, ".{0,40}"), 0..5),
        ) {
            let mut state = state();
            state.settled.position = position;
            state.republish = pass.map(|(from, to, at)| Pass { from, to, at });
            for (topic, partition, offset) in places {
                state.places.insert(Place { topic: topic.into(), partition }, offset);
            }
            for (id, [a, b, c], reason, text) in ids {
                let stream = StreamId::new("T", &id).unwrap();
                let text = if reason == 5 { text } else { String::new() };
                state.parked.insert(stream.clone(), ParkedEntry {
                    stream, first_sequence: a, first_position: b, event_id: EventId::from_bytes([3; 16]), since_position: c,
                    reason: ParkedReason::from_number(reason, &text).unwrap(),
                });
            }
            prop_assert_eq!(KafkaState::decode(&state.encode().unwrap()).unwrap(), state);
        }
    }
}
