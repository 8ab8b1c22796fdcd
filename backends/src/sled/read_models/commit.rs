//! One commit of one slot: entries that change, with what it does to the digest and the count.

use tidelog_core::{Change, Checkpoint, Space};

use super::digest::Digest;
use super::layout::{self, Head, SlotState};
use crate::sled::index::{IndexError, RowChange, RowKv};

/// What the engine is to do for a commit, the checkpoint last; answers how many rows there are then.
pub(super) fn plan(
    kv: &dyn RowKv,
    slot: u32,
    changes: &[Change],
    checkpoint: &Checkpoint,
) -> Result<(Vec<RowChange>, u64), IndexError> {
    let before = state(kv, slot)?;
    let mut digest = Digest(before.digest);
    let mut rows = before.checkpoint.rows;
    let mut out = Vec::with_capacity(changes.len() + 1);
    for change in changes {
        let entry_key = layout::entry_key(slot, change.space, &change.key);
        let stood = take(kv, &entry_key, &mut digest, &mut out)?;
        if change.space == Space::Rows {
            rows = rows.wrapping_sub(u64::from(stood));
            rows = rows.wrapping_add(u64::from(change.value.is_some()));
        }
        match &change.value {
            Some(value) => {
                let first = out.len();
                layout::put(entry_key, value, &mut out);
                digest.add_all(out.get(first..).unwrap_or_default());
            }
            None if stood => out.push((entry_key, None)),
            None => {}
        }
    }
    let after = SlotState {
        checkpoint: Checkpoint {
            rows,
            ..*checkpoint
        },
        digest: digest.0,
    };
    out.push(after.encode(slot));
    Ok((out, rows))
}

/// Takes what stands under a key out of the digest, and has its parts removed; whether anything
/// stands there.
fn take(
    kv: &dyn RowKv,
    entry_key: &[u8],
    digest: &mut Digest,
    out: &mut Vec<RowChange>,
) -> Result<bool, IndexError> {
    let Some(head) = kv.get(entry_key)? else {
        return Ok(false);
    };
    digest.remove(entry_key, &head);
    match layout::head(entry_key, &head) {
        Some(Head::Whole(_)) => {}
        Some(Head::Parts(len, _)) => {
            for number in 0..layout::parts(len) {
                let key = layout::part_key(entry_key, number);
                let part = kv
                    .get(&key)?
                    .ok_or_else(|| damaged("a part of a row is gone"))?;
                digest.remove(&key, &part);
                out.push((key, None));
            }
        }
        None => return Err(damaged("a row is not what was written")),
    }
    Ok(true)
}

/// The checkpoint of a slot with its digest.
pub(super) fn state(kv: &dyn RowKv, slot: u32) -> Result<SlotState, IndexError> {
    let value = kv.get(&layout::checkpoint_key(slot))?;
    let state = value.and_then(|value| SlotState::decode(slot, &value));
    state.ok_or_else(|| damaged("the checkpoint of a slot is not what was written"))
}

/// The value that `head` begins.
pub(super) fn value(kv: &dyn RowKv, entry_key: &[u8], head: &[u8]) -> Result<Vec<u8>, IndexError> {
    let (len, crc) = match layout::head(entry_key, head) {
        Some(Head::Whole(value)) => return Ok(value.to_vec()),
        Some(Head::Parts(len, crc)) => (len, crc),
        None => return Err(damaged("a row is not what was written")),
    };
    let mut value = Vec::with_capacity(len.min(Change::MAX_VALUE_BYTES));
    for number in 0..layout::parts(len) {
        let part = kv.get(&layout::part_key(entry_key, number))?;
        value.extend_from_slice(&part.ok_or_else(|| damaged("a part of a row is gone"))?);
    }
    if value.len() == len && crc32c::crc32c(&value) == crc {
        Ok(value)
    } else {
        Err(damaged("a row is not what was written"))
    }
}

fn damaged(what: &str) -> IndexError {
    IndexError::damaged(what)
}
