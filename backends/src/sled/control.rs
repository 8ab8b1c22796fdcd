//! Records of the library itself. They have a position and are chained like events; their stream is
//! `$tidelog/control`, their sequence 0.

use serde::{Deserialize, Serialize};
use tidelog_core::{Error, RecordKind, StreamId};
use uuid::Uuid;

use super::frame::ChainHash;
use super::record::Parsed;
use super::segment::Epoch;
use super::state;

/// Event type of the record that begins a new epoch.
pub(crate) const EPOCH: &str = "Epoch";

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

#[cfg(test)]
mod tests {
    use super::*;

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
