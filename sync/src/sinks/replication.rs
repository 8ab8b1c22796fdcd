//! What replication keeps between two runs, and its bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidelog_backends::commits::CommitEnd;
use tidelog_core::{Batch, Error, EventId, StreamId};
use uuid::Uuid;

use super::{ParkedReason, shortened};

/// The name that it is saved under.
pub(crate) const NAME: &str = "sink.scylla";
/// The format of the bytes.
const FORMAT: u32 = 1;
/// Most bytes of a text kept with a parked stream.
const MAX_TEXT: usize = 512;

/// How far a sink is, under which session, and what it has parked: saved together, so that they
/// cannot disagree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SinkState {
    /// What the server's keyspace was the last time; `None` before the first connection.
    pub replica: Option<Replica>,
    pub origin: Uuid,
    pub epoch: Uuid,
    /// The session that was claimed last; nil before the first claim.
    pub session: Uuid,
    /// Sessions that were claimed since, of which no answer came: one of them may have it. A claim can
    /// arrive late, after the process that sent it has ended.
    pub next_sessions: Vec<Uuid>,
    /// Everything up to here is settled.
    pub settled: CommitEnd,
    /// In whose partition the rows from each position on stand, oldest first.
    pub lineage: Vec<Stretch>,
    /// Streams that are parked, by stream and the position of the first event held.
    pub parked: BTreeMap<(StreamId, u64), ParkedEntry>,
}

/// What is fixed for ever when a keyspace is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replica {
    pub keyspace_id: Uuid,
    pub bucket_events: u64,
    pub chunk_records: u64,
    /// Where conditional writes are decided; none where all data centres decide them.
    pub arbitration_dc: Option<Box<str>>,
}

/// Rows from a position on stand in the partitions of this epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stretch {
    pub epoch: Uuid,
    pub first_position: u64,
}

impl SinkState {
    /// Nothing is known yet.
    pub(crate) fn new(origin: Uuid, epoch: Uuid, genesis: CommitEnd) -> Self {
        Self {
            replica: None,
            origin,
            epoch,
            session: Uuid::nil(),
            next_sessions: Vec::new(),
            settled: genesis,
            lineage: vec![Stretch {
                epoch,
                first_position: 1,
            }],
            parked: BTreeMap::new(),
        }
    }

    /// The state as bytes.
    pub(crate) fn encode(&self) -> Result<Bytes, Error> {
        let replica = self.replica.as_ref();
        let kept = Kept {
            format: FORMAT,
            keyspace_id: replica.map_or([0; 16], |replica| *replica.keyspace_id.as_bytes()),
            bucket_events: replica.map_or(0, |replica| replica.bucket_events),
            chunk_records: replica.map_or(0, |replica| replica.chunk_records),
            arbitration_dc: replica
                .and_then(|replica| replica.arbitration_dc.as_deref())
                .map(Cow::Borrowed),
            origin: *self.origin.as_bytes(),
            epoch: *self.epoch.as_bytes(),
            session: *self.session.as_bytes(),
            next_sessions: self
                .next_sessions
                .iter()
                .map(|session| *session.as_bytes())
                .collect(),
            position: self.settled.position,
            commit: self.settled.number,
            hash: self.settled.hash,
            lineage: self
                .lineage
                .iter()
                .map(|stretch| (*stretch.epoch.as_bytes(), stretch.first_position))
                .collect(),
            parked: self.parked.values().map(KeptParked::of).collect(),
        };
        let bytes = postcard::to_stdvec(&kept).map_err(|error| Error::Codec {
            what: "encoding the state",
            type_name: "SinkState".into(),
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
        let replica = Replica {
            keyspace_id: Uuid::from_bytes(kept.keyspace_id),
            bucket_events: kept.bucket_events,
            chunk_records: kept.chunk_records,
            arbitration_dc: kept.arbitration_dc.map(Into::into),
        };
        let mut parked = BTreeMap::new();
        for entry in kept.parked {
            let entry = entry.into_entry()?;
            parked.insert((entry.stream.clone(), entry.first_position), entry);
        }
        let lineage = kept.lineage.into_iter();
        Ok(Self {
            replica: Some(replica).filter(|replica| !replica.keyspace_id.is_nil()),
            origin: Uuid::from_bytes(kept.origin),
            epoch: Uuid::from_bytes(kept.epoch),
            session: Uuid::from_bytes(kept.session),
            next_sessions: kept
                .next_sessions
                .into_iter()
                .map(Uuid::from_bytes)
                .collect(),
            settled: CommitEnd {
                position: kept.position,
                number: kept.commit,
                hash: kept.hash,
            },
            lineage: lineage
                .map(|(epoch, first_position)| Stretch {
                    epoch: Uuid::from_bytes(epoch),
                    first_position,
                })
                .collect(),
            parked,
        })
    }
}

/// A stream that is set aside from one event on, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ParkedEntry {
    pub stream: StreamId,
    pub reason: ParkedReason,
    /// The first event that is held.
    pub first_sequence: u64,
    pub first_position: u64,
    pub local_event: EventId,
    /// What stands in its way.
    pub remote: Option<(u64, EventId)>,
    /// The append that wrote the first event held.
    pub batch: Batch,
    /// It stands at the server; it is listed because others of its batch do not.
    pub accepted: bool,
    /// Position of the local commit that resolved it; 0 while none has.
    pub resolved_at: u64,
    /// Where the log ended when it was parked.
    pub since_position: u64,
}

#[derive(Serialize, Deserialize)]
struct Kept<'a> {
    format: u32,
    keyspace_id: [u8; 16],
    bucket_events: u64,
    chunk_records: u64,
    #[serde(borrow)]
    arbitration_dc: Option<Cow<'a, str>>,
    origin: [u8; 16],
    epoch: [u8; 16],
    session: [u8; 16],
    next_sessions: Vec<[u8; 16]>,
    position: u64,
    commit: u64,
    hash: [u8; 32],
    lineage: Vec<([u8; 16], u64)>,
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
    local_event: [u8; 16],
    remote_sequence: u64,
    remote_event: [u8; 16],
    batch_first: u64,
    batch_count: u32,
    accepted: bool,
    resolved_at: u64,
    since_position: u64,
    text: Cow<'a, str>,
}

impl<'a> KeptParked<'a> {
    fn of(entry: &'a ParkedEntry) -> Self {
        let (remote_sequence, remote_event) =
            entry.remote.unwrap_or((0, EventId::from_uuid(Uuid::nil())));
        let text = entry.reason.text();
        Self {
            aggregate_type: entry.stream.aggregate_type().into(),
            aggregate_id: entry.stream.aggregate_id().into(),
            reason: entry.reason.number(),
            first_sequence: entry.first_sequence,
            first_position: entry.first_position,
            local_event: *entry.local_event.as_bytes(),
            remote_sequence,
            remote_event: *remote_event.as_bytes(),
            batch_first: entry.batch.first,
            batch_count: entry.batch.count,
            accepted: entry.accepted,
            resolved_at: entry.resolved_at,
            since_position: entry.since_position,
            text: shortened(text, MAX_TEXT).into(),
        }
    }

    fn into_entry(self) -> Result<ParkedEntry, String> {
        let stream = StreamId::new_reserved(&self.aggregate_type, &self.aggregate_id);
        let remote_event = EventId::from_bytes(self.remote_event);
        Ok(ParkedEntry {
            stream: stream.map_err(|error| error.to_string())?,
            reason: ParkedReason::from_number(self.reason, &self.text)
                .ok_or_else(|| format!("{} is no reason for parking", self.reason))?,
            first_sequence: self.first_sequence,
            first_position: self.first_position,
            local_event: EventId::from_bytes(self.local_event),
            remote: (self.remote_sequence > 0).then_some((self.remote_sequence, remote_event)),
            batch: Batch {
                first: self.batch_first,
                count: self.batch_count,
            },
            accepted: self.accepted,
            resolved_at: self.resolved_at,
            since_position: self.since_position,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(stream: &str, reason: ParkedReason) -> ParkedEntry {
        ParkedEntry {
            stream: stream.parse().unwrap(),
            reason,
            first_sequence: 3,
            first_position: 300,
            local_event: EventId::from_bytes([7; 16]),
            remote: Some((4, EventId::from_bytes([8; 16]))),
            batch: Batch {
                first: 299,
                count: 2,
            },
            accepted: false,
            resolved_at: 0,
            since_position: 301,
        }
    }

    pub(crate) fn state() -> SinkState {
        let uuid = |byte| Uuid::from_bytes([byte; 16]);
        let settled = CommitEnd {
            number: 5,
            position: 301,
            hash: [9; 32],
        };
        let mut state = SinkState::new(uuid(1), uuid(2), settled);
        state.replica = Some(Replica {
            keyspace_id: uuid(3),
            bucket_events: 1_000,
            chunk_records: 1_000,
            arbitration_dc: Some("dc1".into()),
        });
        state.session = uuid(4);
        state.next_sessions = vec![uuid(5)];
        let parked = entry("T/a", ParkedReason::Refused("no".into()));
        state.parked.insert((parked.stream.clone(), 300), parked);
        state
    }

    #[test]
    fn its_bytes_never_change() {
        let mut golden = vec![1];
        golden.extend([3; 16]);
        golden.extend([0xe8, 7, 0xe8, 7, 1, 3, b'd', b'c', b'1']);
        golden.extend([1; 16]);
        golden.extend([2; 16]);
        golden.extend([4; 16]);
        golden.push(1);
        golden.extend([5; 16]);
        golden.extend([0xad, 2, 5]);
        golden.extend([9; 32]);
        golden.push(1);
        golden.extend([2; 16]);
        golden.push(1);
        golden.extend([1, 1, b'T', 1, b'a', 5, 3, 0xac, 2]);
        golden.extend([7; 16]);
        golden.push(4);
        golden.extend([8; 16]);
        golden.extend([0xab, 2, 2, 0, 0, 0xad, 2, 2, b'n', b'o']);
        assert_eq!(state().encode().unwrap(), golden);
        assert_eq!(SinkState::decode(&golden).unwrap(), state());
    }

    #[test]
    fn what_is_no_state_is_said() {
        let bytes = state().encode().unwrap();
        let mut newer = bytes.to_vec();
        newer[0] = 2;
        let longer = [&bytes[..], b"x"].concat();
        for bad in [&bytes[..bytes.len() - 1], &longer, &newer, b""] {
            assert!(SinkState::decode(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn every_state_reads_back(
            position: u64, lineage in prop::collection::vec((any::<[u8; 16]>(), any::<u64>()), 0..4),
            ids in prop::collection::vec(("[a-zé/ ]{1,20}", any::<[u8; 16]>(), any::<[u64; 5]>(), any::<bool>(), 1_u8..6, ".{0,40}"), 0..5),
        ) {
            let mut state = state();
            state.settled.position = position;
            state.lineage = lineage.into_iter()
                .map(|(epoch, first_position)| Stretch { epoch: Uuid::from_bytes(epoch), first_position }).collect();
            for (id, event, [a, b, c, d, e], accepted, reason, text) in ids {
                let stream = StreamId::new("T", &id).unwrap();
                let text = if reason == 2 { stream.to_string() } else if reason == 5 { text } else { String::new() };
                state.parked.insert((stream.clone(), b), ParkedEntry {
                    stream, first_sequence: a, first_position: b, local_event: EventId::from_bytes(event),
                    remote: (c > 0).then_some((c, EventId::from_bytes(event))), accepted, resolved_at: d, since_position: e,
                    reason: ParkedReason::from_number(reason, &text).unwrap(), batch: Batch { first: e, count: 2 },
                });
            }
            prop_assert_eq!(SinkState::decode(&state.encode().unwrap()).unwrap(), state);
        }
    }
}
