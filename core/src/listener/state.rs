//! What a listener's checkpoint consists of, and its bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::error::Error;
use crate::id::EventId;
use crate::listener::Mark;
use crate::parked::ParkedStream;
use crate::stream_id::StreamId;

/// The format of the bytes.
const FORMAT: u32 = 1;

/// How far a listener is, and what it has set aside: saved together, so that they cannot disagree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerState {
    /// Everything up to it is settled.
    pub mark: Mark,
    /// The streams that are set aside. One that [holds](ParkedStream::held) nothing any more stands
    /// here while the mark is below its position: its events below its sequence are settled, too.
    pub parked: BTreeMap<StreamId, ParkedStream>,
}

impl ListenerState {
    /// Everything up to `mark` is settled, nothing is set aside.
    pub fn after(mark: Mark) -> Self {
        Self {
            mark,
            parked: BTreeMap::new(),
        }
    }

    /// The state as bytes, the same for every backend.
    ///
    /// # Errors
    /// [`Error::Codec`]; none of its values can cause that.
    pub fn encode(&self) -> Result<Bytes, Error> {
        let recorded = Kept {
            format: FORMAT,
            position: self.mark.position,
            event_id: *self.mark.event_id.as_bytes(),
            recorded_time: self.mark.recorded_time.as_micros(),
            parked: self.parked.values().map(KeptStream::of).collect(),
        };
        let bytes = postcard::to_stdvec(&recorded).map_err(|error| Error::Codec {
            what: "encoding the state",
            type_name: "ListenerState".into(),
            revision: FORMAT,
            recorded: None,
            reason: error.to_string().into(),
        })?;
        Ok(bytes.into())
    }

    /// The state of the listener `name` from its bytes.
    ///
    /// # Errors
    /// [`Error::Damaged`] when they are no such state: it is never taken for a fresh start.
    pub fn decode(name: &str, bytes: &[u8]) -> Result<Self, Error> {
        let damaged = |what: String| {
            Error::damaged(
                format!("listeners/{name}"),
                what,
                "put it back from a backup, or remove it and choose where the listener begins",
            )
        };
        let (recorded, rest): (Kept<'_>, _) =
            postcard::take_from_bytes(bytes).map_err(|error| damaged(error.to_string()))?;
        if !rest.is_empty() {
            return Err(damaged(format!("{} bytes follow it", rest.len())));
        }
        if recorded.format != FORMAT {
            let found = recorded.format;
            return Err(damaged(format!(
                "it has format {found}, this program reads {FORMAT}"
            )));
        }
        let mut parked = BTreeMap::new();
        for stream in recorded.parked {
            let stream = stream
                .into_parked()
                .map_err(|error| damaged(error.to_string()))?;
            parked.insert(stream.stream.clone(), stream);
        }
        let mark = Mark {
            position: recorded.position,
            event_id: EventId::from_bytes(recorded.event_id),
            recorded_time: Timestamp::from_micros(recorded.recorded_time),
        };
        Ok(Self { mark, parked })
    }
}

#[derive(Serialize, Deserialize)]
struct Kept<'a> {
    format: u32,
    position: u64,
    event_id: [u8; 16],
    recorded_time: i64,
    #[serde(borrow)]
    parked: Vec<KeptStream<'a>>,
}

#[derive(Serialize, Deserialize)]
struct KeptStream<'a> {
    aggregate_type: Cow<'a, str>,
    aggregate_id: Cow<'a, str>,
    event_id: [u8; 16],
    position: u64,
    sequence: u64,
    last_sequence: u64,
    attempts: u32,
    since: i64,
    reason: Cow<'a, str>,
}

impl<'a> KeptStream<'a> {
    fn of(parked: &'a ParkedStream) -> Self {
        Self {
            aggregate_type: parked.stream.aggregate_type().into(),
            aggregate_id: parked.stream.aggregate_id().into(),
            event_id: *parked.event_id.as_bytes(),
            position: parked.position,
            sequence: parked.sequence,
            last_sequence: parked.last_sequence,
            attempts: parked.attempts,
            since: parked.since.as_micros(),
            reason: Cow::Borrowed(&parked.reason),
        }
    }

    fn into_parked(self) -> Result<ParkedStream, Error> {
        Ok(ParkedStream {
            stream: StreamId::new_reserved(&self.aggregate_type, &self.aggregate_id)?,
            event_id: EventId::from_bytes(self.event_id),
            position: self.position,
            sequence: self.sequence,
            last_sequence: self.last_sequence,
            attempts: self.attempts,
            since: Timestamp::from_micros(self.since),
            reason: self.reason.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parked(stream: &str, sequence: u64) -> ParkedStream {
        ParkedStream {
            stream: stream.parse().unwrap(),
            event_id: EventId::from_bytes([7; 16]),
            position: 300,
            sequence,
            last_sequence: 5,
            attempts: 8,
            since: Timestamp::from_micros(1_000),
            reason: "no".into(),
        }
    }

    fn state() -> ListenerState {
        let mark = Mark {
            position: 301,
            event_id: EventId::from_bytes([9; 16]),
            recorded_time: Timestamp::from_micros(-1),
        };
        let mut state = ListenerState::after(mark);
        let stream = parked("T/a", 2);
        state.parked.insert(stream.stream.clone(), stream);
        state
    }

    #[test]
    fn its_bytes_never_change() {
        let mut golden = vec![1, 0xad, 2];
        golden.extend([9; 16]);
        golden.extend([1, 1, 1, b'T', 1, b'a']);
        golden.extend([7; 16]);
        golden.extend([0xac, 2, 2, 5, 8, 0xd0, 0x0f, 2, b'n', b'o']);
        assert_eq!(state().encode().unwrap(), golden);
        assert_eq!(ListenerState::decode("mail", &golden).unwrap(), state());
    }

    #[test]
    fn what_is_no_state_is_damage_and_names_the_file_and_the_remedy() {
        let bytes = state().encode().unwrap();
        let mut newer = bytes.to_vec();
        newer[0] = 2;
        let longer = [&bytes[..], b"x"].concat();
        for bad in [&bytes[..bytes.len() - 1], &longer, &newer, b""] {
            let error = ListenerState::decode("mail", bad).unwrap_err();
            assert_eq!(error.code(), "damaged");
            let text = error.to_string();
            assert!(
                text.contains("listeners/mail") && text.contains("remove it"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_parked_stream_counts_what_it_holds() {
        let held = [(2, 4), (5, 1), (6, 0)];
        assert!(
            held.iter()
                .all(|(sequence, held)| parked("T/a", *sequence).held() == *held)
        );
    }

    proptest! {
        #[test]
        fn every_state_reads_back(
            position: u64,
            ids in prop::collection::vec(("[a-zé/ ]{1,20}", any::<[u8; 16]>(), any::<[u64; 3]>(), any::<i64>(), ".{0,40}"), 0..5),
        ) {
            let mut state = ListenerState::after(Mark { position, ..Mark::START });
            for (id, event_id, [place, sequence, last_sequence], since, reason) in ids {
                let stream = StreamId::new("T", &id).unwrap();
                state.parked.insert(stream.clone(), ParkedStream {
                    stream, event_id: EventId::from_bytes(event_id), position: place, sequence, last_sequence,
                    attempts: 3, since: Timestamp::from_micros(since), reason: reason.into(),
                });
            }
            prop_assert_eq!(ListenerState::decode("x", &state.encode().unwrap()).unwrap(), state);
        }
    }
}
