//! Records of the library itself. They have a position and are chained like events; their stream is
//! `$tidelog/control`, their sequence 0.

use serde::{Deserialize, Serialize};
use tidelog_core::{Error, RecordKind, StreamId, Superseded};
use uuid::Uuid;

use super::frame::ChainHash;
use super::losses::{LostRange, StreamLoss};
use super::record::Parsed;
use super::segment::Epoch;
use super::state;

/// Event type of the record that begins a new epoch.
pub(crate) const EPOCH: &str = "Epoch";

/// Event type of the record that says which commits a repair could not keep.
pub(crate) const GAP: &str = "Gap";
/// Event type of the records that say which events of which streams are gone.
pub(crate) const LOSS: &str = "Loss";
/// Event type of the record that accepts a loss.
pub(crate) const ACCEPTED: &str = "LossAccepted";

/// Event type of the record that begins another branch of a stream.
pub(crate) const SUPERSEDE: &str = Superseded::EVENT_TYPE;

/// What a repair declares of the log. It is complete: it stands for all that earlier ones declared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GapFields {
    /// Ascending.
    pub holes: Vec<HoleFields>,
    /// Records that are gone and may have been of any stream.
    pub unnamed: u64,
    /// Sequences left out above each stream's head.
    pub skip: u64,
    /// Whether all of it was accepted before.
    pub accepted: bool,
}

/// Commits that are gone, and the chain on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HoleFields {
    pub first_commit: u64,
    pub last_commit: u64,
    pub first_position: u64,
    pub last_position: u64,
    /// Chain hash after the last commit before it.
    pub hash_before: ChainHash,
    /// The chain hash that the next commit kept says was before it; `hash_before` where none is.
    pub hash_after: ChainHash,
}

impl HoleFields {
    /// Without the hashes, for people.
    pub(crate) fn range(&self) -> LostRange {
        LostRange::new(
            (self.first_commit, self.last_commit),
            (self.first_position, self.last_position),
        )
    }
}

#[derive(Serialize, Deserialize)]
struct LossFields<'a> {
    aggregate_type: &'a str,
    aggregate_id: &'a str,
    lost: Vec<(u64, u64)>,
    accepted: bool,
}

/// What a record says of losses.
pub(crate) enum Declared {
    Gap(GapFields),
    Loss(Vec<(StreamId, StreamLoss)>),
    /// `None`: all of it.
    Accepted(Option<StreamId>),
}

#[derive(Serialize, Deserialize)]
struct EpochFields {
    id: [u8; 16],
    parent: [u8; 16],
    parent_position: u64,
    parent_hash: ChainHash,
}

/// The stream that control records name.
pub(crate) fn stream() -> Result<StreamId, Error> {
    StreamId::new_reserved("$tidelog", "control")
}

/// The payload of an epoch record.
pub(crate) fn encode_epoch(epoch: &Epoch) -> Result<Vec<u8>, Error> {
    state::encode(&EpochFields {
        id: *epoch.id.as_bytes(),
        parent: *epoch.parent.as_bytes(),
        parent_position: epoch.parent_position,
        parent_hash: epoch.parent_hash,
    })
}

/// The epoch that a record begins, when it is such a record.
pub(crate) fn epoch_of(parsed: &Parsed<'_>) -> Option<Epoch> {
    if parsed.kind != RecordKind::Control || parsed.event_type != EPOCH.as_bytes() {
        return None;
    }
    let fields: EpochFields = postcard::from_bytes(parsed.payload).ok()?;
    Some(Epoch {
        id: Uuid::from_bytes(fields.id),
        parent: Uuid::from_bytes(fields.parent),
        parent_position: fields.parent_position,
        parent_hash: fields.parent_hash,
    })
}

/// What a record says of superseded events, when it is such a record.
pub(crate) fn superseded_by(parsed: &Parsed<'_>) -> Option<Superseded> {
    if parsed.kind != RecordKind::Control || parsed.event_type != SUPERSEDE.as_bytes() {
        return None;
    }
    // A repair that lost such a record says later what it has found out.
    Superseded::decode(parsed.payload).filter(|what| what.at <= parsed.position)
}

/// The payload of a loss record.
pub(crate) fn encode_loss<'a>(
    streams: impl Iterator<Item = (&'a StreamId, &'a StreamLoss)>,
) -> Result<Vec<u8>, Error> {
    let fields: Vec<_> = streams
        .map(|(stream, loss)| LossFields {
            aggregate_type: stream.aggregate_type(),
            aggregate_id: stream.aggregate_id(),
            lost: loss.lost.clone(),
            accepted: loss.accepted,
        })
        .collect();
    state::encode(&fields)
}

/// The payload of the record that accepts a stream's loss, or all of it.
pub(crate) fn encode_accepted(stream: Option<&StreamId>) -> Result<Vec<u8>, Error> {
    state::encode(&stream.map(|stream| (stream.aggregate_type(), stream.aggregate_id())))
}

/// What a record says of losses; `None` when it is about something else.
pub(crate) fn declared_by(parsed: &Parsed<'_>) -> Option<Declared> {
    if parsed.kind != RecordKind::Control {
        return None;
    }
    match std::str::from_utf8(parsed.event_type).ok()? {
        GAP => postcard::from_bytes(parsed.payload).ok().map(Declared::Gap),
        LOSS => {
            let fields: Vec<LossFields<'_>> = postcard::from_bytes(parsed.payload).ok()?;
            let streams = fields.into_iter().map(|fields| {
                let stream =
                    StreamId::new_reserved(fields.aggregate_type, fields.aggregate_id).ok()?;
                let (lost, accepted) = (fields.lost, fields.accepted);
                Some((stream, StreamLoss { lost, accepted }))
            });
            streams.collect::<Option<_>>().map(Declared::Loss)
        }
        ACCEPTED => {
            let names: Option<(&str, &str)> = postcard::from_bytes(parsed.payload).ok()?;
            let Some((aggregate_type, aggregate_id)) = names else {
                return Some(Declared::Accepted(None));
            };
            let stream = StreamId::new_reserved(aggregate_type, aggregate_id).ok()?;
            Some(Declared::Accepted(Some(stream)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes_of_a_gap_record() {
        let gap = GapFields {
            holes: vec![HoleFields {
                first_commit: 4,
                last_commit: 5,
                first_position: 300,
                last_position: 301,
                hash_before: [6; 32],
                hash_after: [7; 32],
            }],
            unnamed: 2,
            skip: 9,
            accepted: false,
        };
        let positions = vec![4, 5, 0xac, 0x02, 0xad, 0x02];
        let golden = [vec![1], positions, vec![6; 32], vec![7; 32], vec![2, 9, 0]].concat();
        assert_eq!(state::encode(&gap).unwrap(), golden);
        assert_eq!(postcard::from_bytes::<GapFields>(&golden).unwrap(), gap);
    }

    #[test]
    fn golden_bytes_of_what_streams_lost_and_of_its_acceptance() {
        let stream = StreamId::new("Till", "7").unwrap();
        let loss = StreamLoss {
            lost: vec![(2, 300), (302, 302)],
            accepted: true,
        };
        let golden = b"\x01\x04Till\x017\x02\x02\xac\x02\xae\x02\xae\x02\x01";
        assert_eq!(encode_loss([(&stream, &loss)].into_iter()).unwrap(), golden);
        assert_eq!(
            encode_accepted(Some(&stream)).unwrap(),
            b"\x01\x04Till\x017"
        );
        assert_eq!(encode_accepted(None).unwrap(), [0]);
    }

    #[test]
    fn golden_bytes_of_an_epoch_record() {
        let epoch = Epoch {
            id: Uuid::from_bytes([1; 16]),
            parent: Uuid::from_bytes([2; 16]),
            parent_position: 300,
            parent_hash: [3; 32],
        };
        let golden = [vec![1; 16], vec![2; 16], vec![0xac, 0x02], vec![3; 32]].concat();
        assert_eq!(encode_epoch(&epoch).unwrap(), golden);
    }
}
