//! What the publisher keeps between two runs, and its bytes.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidelog_backends::commits::CommitEnd;
use tidelog_core::{Error, EventId, StreamId};
use uuid::Uuid;

use super::broker::Place;
use super::park::ParkedEntry;
use crate::replicate::ParkedReason;
use crate::replicate::keeper::KeptState;
use crate::replicate::outbox::Identity;

pub(super) type Keeper = crate::replicate::keeper::Keeper<KafkaState>;

/// The name that the state is saved under.
pub(crate) const NAME: &str = "sink.kafka";

/// The state of a store that was restored, of which everything up to `settled` is published.
#[cfg(feature = "scylla")]
pub(crate) fn restored(origin: Uuid, epoch: Uuid, settled: CommitEnd) -> Result<Bytes, Error> {
    let identity = Identity {
        origin,
        first_epoch: epoch,
        epoch,
    };
    let state = KafkaState {
        settled,
        ..KafkaState::new(&identity)
    };
    state.encode()
}

/// The format of the bytes.
const FORMAT: u32 = 1;
/// Most bytes of a text kept with a parked stream.
const MAX_TEXT: usize = 512;
/// Most topics kept that began again, and most places.
const MAX_RESTARTED: usize = 100;
const MAX_PLACES: usize = 1_000;

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
    /// Nothing is known yet.
    pub(crate) fn new(identity: &Identity) -> Self {
        Self {
            cluster: "".into(),
            origin: identity.origin,
            epoch: identity.epoch,
            session: Uuid::nil(),
            next_session: Uuid::nil(),
            settled: identity.genesis(),
            republish: None,
            restarted: BTreeSet::new(),
            places: BTreeMap::new(),
            parked: BTreeMap::new(),
        }
    }

    /// Whether this session was claimed by us.
    pub(crate) fn is_ours(&self, session: Uuid) -> bool {
        !session.is_nil() && (self.session == session || self.next_session == session)
    }

    /// Everything up to here is published, and nothing of it set aside: where another machine may go
    /// on that does not know what is.
    pub(crate) fn published(&self) -> u64 {
        let held = self.parked.values().map(|entry| entry.first_position);
        let before = held.min().map_or(u64::MAX, |first| first.saturating_sub(1));
        self.settled.position.min(before)
    }

    /// What was published last is to be published again: the last `overlap` records of what is settled,
    /// and of what is being published once more.
    pub(super) fn want_again(&mut self, overlap: u64) {
        let to = self.settled.position;
        let from = to.saturating_sub(overlap) + 1;
        if from > to {
            return;
        }
        self.republish = Some(match self.republish {
            None => Pass {
                from,
                to,
                at: from - 1,
            },
            Some(now) => {
                let back = now.at.saturating_sub(overlap).max(now.from - 1);
                Pass {
                    from: now.from.min(from),
                    to: now.to.max(to),
                    at: back.min(from - 1),
                }
            }
        });
    }

    /// Notes that a topic began again.
    pub(super) fn note_restarted(&mut self, topic: &str) {
        if self.restarted.len() < MAX_RESTARTED {
            self.restarted.insert(topic.into());
        }
    }

    /// Notes the newest offset of a place.
    pub(super) fn note_place(&mut self, place: Place, offset: i64) {
        if self.places.len() < MAX_PLACES || self.places.contains_key(&place) {
            self.places.insert(place, offset);
        }
    }

    /// Nothing but whose it is: without that, what the cluster knows of this store would be another's.
    fn nameless(&self, identity: &Identity) -> Option<Self> {
        let is_known = !(self.session.is_nil() && self.next_session.is_nil());
        is_known.then(|| Self {
            session: self.session,
            next_session: self.next_session,
            ..Self::new(identity)
        })
    }

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

impl KeptState for KafkaState {
    fn unknown(identity: &Identity) -> Self {
        Self::new(identity)
    }

    fn origin(&self) -> Uuid {
        self.origin
    }

    fn epoch(&self) -> Uuid {
        self.epoch
    }

    fn session(&self) -> Uuid {
        self.session
    }

    fn settled(&self) -> CommitEnd {
        self.settled
    }

    fn set_settled(&mut self, settled: CommitEnd) {
        self.settled = settled;
    }

    fn left_when_forgotten(&self, identity: &Identity) -> Option<Self> {
        self.nameless(identity)
    }

    fn encode(&self) -> Result<Bytes, Error> {
        Self::encode(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        Self::decode(bytes)
    }
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

fn shortened(text: &str, most: usize) -> &str {
    let mut ends = (0..=text.len().min(most)).rev();
    ends.find_map(|end| text.get(..end)).unwrap_or_default()
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn state() -> KafkaState {
        let uuid = |byte| Uuid::from_bytes([byte; 16]);
        let identity = Identity {
            origin: uuid(1),
            first_epoch: uuid(2),
            epoch: uuid(2),
        };
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
            ..KafkaState::new(&identity)
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

    #[test]
    fn what_others_are_told_ends_before_the_first_event_that_is_set_aside() {
        let mut state = state();
        assert_eq!(state.published(), 299);
        state.parked.clear();
        assert_eq!(state.published(), 301);
    }

    #[test]
    fn what_was_lost_is_wanted_again_from_before_whatever_is_being_published_once_more() {
        let mut state = state();
        let wanted = |state: &KafkaState| state.republish.map(|pass| (pass.from, pass.to, pass.at));
        state.want_again(10);
        assert_eq!(wanted(&state), Some((1, 301, 7)));
        state.republish = None;
        state.want_again(10);
        assert_eq!(wanted(&state), Some((292, 301, 291)));
        state.republish = Some(Pass {
            from: 300,
            to: 300,
            at: 299,
        });
        state.want_again(0);
        assert_eq!(wanted(&state), Some((300, 300, 299)));
        state.want_again(1_000);
        assert_eq!(wanted(&state), Some((1, 301, 0)));
        state.republish = None;
        state.settled.position = 0;
        state.want_again(1_000);
        assert_eq!(wanted(&state), None);
    }

    #[test]
    fn what_is_forgotten_is_all_but_whose_it_is() {
        let state = state();
        let identity = Identity {
            origin: state.origin,
            first_epoch: state.epoch,
            epoch: state.epoch,
        };
        let left = KeptState::left_when_forgotten(&state, &identity).unwrap();
        assert!(left.is_ours(state.session) && left.is_ours(state.next_session));
        let nobodys = KafkaState {
            session: Uuid::nil(),
            next_session: Uuid::nil(),
            ..left
        };
        assert_eq!(nobodys, KafkaState::new(&identity));
        assert_eq!(KeptState::left_when_forgotten(&nobodys, &identity), None);
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
                state.note_place(Place { topic: topic.into(), partition }, offset);
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
