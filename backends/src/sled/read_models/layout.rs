//! How read models stand in the engine. Numbers in keys are big-endian, in values little-endian.
//!
//! ```text
//! directory   00000000 'd' model name        CRC, active slot u32, slot being built u32 (0: none)
//! checkpoint  slot u32 'c'                   CRC, version u32, lookups u64, position u64, event id,
//!                                            recorded time i64, rows u64, digest u128
//! row         slot u32 'r' key             ┐ nothing for an empty value; else CRC, length u32, and
//! lookup      slot u32 'l' key             ├ the value when it has at most 4,080 bytes, or the CRC
//! parked      slot u32 'x' key             ┘ of it when it stands in parts
//! part        slot u32 'p' its space, its key, number u32      up to 4,080 bytes
//! ```
//!
//! A CRC is over the key and what follows it. The digest is the sum of a hash of every entry of the
//! slot but the checkpoint: it tells entries of one commit from those of another, which no CRC does.

use tidelog_core::{Checkpoint, EventId, Space, Timestamp};

use crate::sled::index::RowChange;
use crate::sled::varint::Reader;

/// Bytes of a value that stand in one entry.
pub(super) const PART: usize = 4_080;
const CHECKPOINT: u8 = b'c';
const DIRECTORY: u8 = b'd';
const PARTS: u8 = b'p';
const HEAD: usize = 8;

fn letter(space: Space) -> u8 {
    match space {
        Space::Rows => b'r',
        Space::Lookups => b'l',
        Space::Parked => b'x',
    }
}

pub(super) fn directory_key(model: &str) -> Vec<u8> {
    [&0_u32.to_be_bytes(), &[DIRECTORY][..], model.as_bytes()].concat()
}

/// The model whose directory has this key.
pub(super) fn model_of(key: &[u8]) -> Option<&str> {
    let name = key.strip_prefix(&[0, 0, 0, 0, DIRECTORY])?;
    std::str::from_utf8(name).ok()
}

/// The lowest key of a slot.
pub(super) fn slot_key(slot: u32) -> Vec<u8> {
    slot.to_be_bytes().to_vec()
}

/// The slot that a key belongs to; 0 for the directory.
pub(super) fn slot_of(key: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*key.first_chunk()?))
}

pub(super) fn checkpoint_key(slot: u32) -> Vec<u8> {
    [&slot.to_be_bytes(), &[CHECKPOINT][..]].concat()
}

/// Whether an entry counts as a row, and whether it is a checkpoint.
pub(super) fn kind_of(key: &[u8]) -> (bool, bool) {
    let kind = key.get(4).copied();
    (kind == Some(letter(Space::Rows)), kind == Some(CHECKPOINT))
}

pub(super) fn entry_key(slot: u32, space: Space, key: &[u8]) -> Vec<u8> {
    [&slot.to_be_bytes(), &[letter(space)][..], key].concat()
}

/// The key that was made an entry's.
pub(super) fn key_in(entry_key: &[u8]) -> &[u8] {
    entry_key.get(5..).unwrap_or_default()
}

/// The lowest key above all entries of a space.
pub(super) fn space_end(slot: u32, space: Space) -> Vec<u8> {
    [&slot.to_be_bytes(), &[letter(space) + 1][..]].concat()
}

/// `entry_key` is the head's, `number` counts from 0.
pub(super) fn part_key(entry_key: &[u8], number: u32) -> Vec<u8> {
    let (slot, rest) = entry_key.split_at_checked(4).unwrap_or_default();
    [slot, &[PARTS], rest, &number.to_be_bytes()].concat()
}

/// How many parts a value of `len` bytes stands in beside its head.
pub(super) fn parts(len: usize) -> u32 {
    if len <= PART {
        return 0;
    }
    // Values have at most 1 MiB.
    u32::try_from(len.div_ceil(PART)).unwrap_or(u32::MAX)
}

fn crc(key: &[u8], rest: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), rest)
}

fn sealed(key: &[u8], rest: &[u8]) -> Vec<u8> {
    [&crc(key, rest).to_le_bytes(), rest].concat()
}

fn unsealed<'a>(key: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let (stated, rest) = value.split_first_chunk()?;
    (u32::from_le_bytes(*stated) == crc(key, rest)).then_some(rest)
}

/// Pushes the entries that hold `value` under `entry_key`.
pub(super) fn put(entry_key: Vec<u8>, value: &[u8], out: &mut Vec<RowChange>) {
    if value.is_empty() {
        out.push((entry_key, Some(Vec::new())));
        return;
    }
    let mut rest = Vec::with_capacity(HEAD + value.len().min(PART));
    rest.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
    if value.len() <= PART {
        rest.extend_from_slice(value);
    } else {
        rest.extend_from_slice(&crc32c::crc32c(value).to_le_bytes());
        for (number, part) in (0..).zip(value.chunks(PART)) {
            out.push((part_key(&entry_key, number), Some(part.to_vec())));
        }
    }
    let head = sealed(&entry_key, &rest);
    out.push((entry_key, Some(head)));
}

/// What a head says.
pub(super) enum Head<'a> {
    Whole(&'a [u8]),
    /// The value has this length and CRC, and stands in parts.
    Parts(usize, u32),
}

/// `None` when it is not what was written.
pub(super) fn head<'a>(entry_key: &[u8], value: &'a [u8]) -> Option<Head<'a>> {
    if value.is_empty() {
        return Some(Head::Whole(value));
    }
    let (len, rest) = unsealed(entry_key, value)?.split_first_chunk()?;
    let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
    if len > PART {
        return Some(Head::Parts(len, u32::from_le_bytes(rest.try_into().ok()?)));
    }
    (rest.len() == len).then_some(Head::Whole(rest))
}

/// A checkpoint with the digest of the slot that it stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotState {
    pub checkpoint: Checkpoint,
    pub digest: u128,
}

impl SlotState {
    pub(super) fn encode(&self, slot: u32) -> RowChange {
        let Checkpoint {
            version,
            lookups,
            position,
            event_id,
            recorded_time,
            rows,
        } = self.checkpoint;
        let mut rest = Vec::with_capacity(68);
        rest.extend_from_slice(&version.to_le_bytes());
        rest.extend_from_slice(&lookups.to_le_bytes());
        rest.extend_from_slice(&position.to_le_bytes());
        rest.extend_from_slice(event_id.as_bytes());
        rest.extend_from_slice(&recorded_time.as_micros().to_le_bytes());
        rest.extend_from_slice(&rows.to_le_bytes());
        rest.extend_from_slice(&self.digest.to_le_bytes());
        let key = checkpoint_key(slot);
        let value = sealed(&key, &rest);
        (key, Some(value))
    }

    pub(super) fn decode(slot: u32, value: &[u8]) -> Option<Self> {
        let mut reader = Reader(unsealed(&checkpoint_key(slot), value)?);
        let state = Self {
            checkpoint: Checkpoint {
                version: u32::from_le_bytes(reader.array()?),
                lookups: u64::from_le_bytes(reader.array()?),
                position: u64::from_le_bytes(reader.array()?),
                event_id: EventId::from_bytes(reader.array()?),
                recorded_time: Timestamp::from_micros(i64::from_le_bytes(reader.array()?)),
                rows: u64::from_le_bytes(reader.array()?),
            },
            digest: u128::from_le_bytes(reader.array()?),
        };
        reader.0.is_empty().then_some(state)
    }
}

/// The slots of one model; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Directory {
    pub active: u32,
    pub building: u32,
}

impl Directory {
    pub(super) fn encode(self, model: &str) -> RowChange {
        let key = directory_key(model);
        if self == Self::default() {
            return (key, None);
        }
        let rest = [self.active.to_le_bytes(), self.building.to_le_bytes()].concat();
        let value = sealed(&key, &rest);
        (key, Some(value))
    }

    pub(super) fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        let mut reader = Reader(unsealed(key, value)?);
        let directory = Self {
            active: u32::from_le_bytes(reader.array()?),
            building: u32::from_le_bytes(reader.array()?),
        };
        reader.0.is_empty().then_some(directory)
    }

    pub(super) fn names(self, slot: u32) -> bool {
        slot != 0 && (self.active == slot || self.building == slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(key: Vec<u8>, value: &[u8]) -> Vec<RowChange> {
        let mut out = Vec::new();
        put(key, value, &mut out);
        out
    }

    #[test]
    fn golden_bytes_of_a_directory_entry() {
        let directory = Directory {
            active: 3,
            building: 0x0102_0304,
        };
        let (key, value) = directory.encode("accounts");
        assert_eq!(key, *b"\0\0\0\0daccounts");
        let value = value.unwrap();
        assert_eq!(value, *b"\xa1\xdd\x86\x4e\x03\0\0\0\x04\x03\x02\x01");
        assert_eq!(Directory::decode(&key, &value), Some(directory));
        assert_eq!(Directory::default().encode("accounts"), (key, None));
    }

    #[test]
    fn golden_bytes_of_a_checkpoint() {
        let state = SlotState {
            checkpoint: Checkpoint {
                version: 2,
                lookups: 3,
                position: 4,
                event_id: EventId::from_bytes(*b"the event's id!!"),
                recorded_time: Timestamp::from_micros(-5),
                rows: 6,
            },
            digest: 7,
        };
        let (key, value) = state.encode(258);
        assert_eq!(key, [0, 0, 1, 2, b'c']);
        let value = value.unwrap();
        let mut golden = vec![0xa1, 0x5a, 0xaa, 0x42, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0];
        golden.extend_from_slice(&[4, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend_from_slice(b"the event's id!!");
        golden.extend_from_slice(&[0xfb, 255, 255, 255, 255, 255, 255, 255]);
        golden.extend_from_slice(&[6, 0, 0, 0, 0, 0, 0, 0, 7]);
        golden.extend_from_slice(&[0; 15]);
        assert_eq!(value, golden);
        assert_eq!(SlotState::decode(258, &value), Some(state));
        assert_eq!(SlotState::decode(259, &value), None);
    }

    #[test]
    fn golden_bytes_of_entries() {
        let key = entry_key(7, Space::Rows, b"ada");
        assert_eq!(key, *b"\0\0\0\x07rada");
        let golden = (key.clone(), Some(b"\x60\x00\xed\x4b\x03\0\0\0row".to_vec()));
        assert_eq!(entries(key.clone(), b"row"), [golden]);
        let lookup = entry_key(7, Space::Lookups, b"x");
        assert_eq!(
            entries(lookup, b""),
            [(b"\0\0\0\x07lx".to_vec(), Some(vec![]))]
        );
        assert_eq!(entry_key(7, Space::Parked, b""), *b"\0\0\0\x07x");
        let long = vec![9; PART + 1];
        let parts = entries(key, &long);
        assert_eq!(
            parts[0],
            (b"\0\0\0\x07prada\0\0\0\0".to_vec(), Some(vec![9; PART]))
        );
        assert_eq!(
            parts[1],
            (b"\0\0\0\x07prada\0\0\0\x01".to_vec(), Some(vec![9]))
        );
        let head = b"\xba\x73\x93\x9e\xf1\x0f\0\0\xd4\xb2\xe0\x9b".to_vec();
        assert_eq!(parts[2], (b"\0\0\0\x07rada".to_vec(), Some(head)));
        assert_eq!(parts.len(), 3);
    }

    #[test]
    fn every_single_bit_flip_of_a_head_is_noticed() {
        let key = entry_key(7, Space::Rows, b"ada");
        for len in [1, 40, PART + 1] {
            let written = entries(key.clone(), &vec![9; len])
                .pop()
                .unwrap()
                .1
                .unwrap();
            for bit in 0..written.len() * 8 {
                let mut changed = written.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(head(&key, &changed).is_none(), "bit {bit} of {len}");
            }
        }
    }
}
