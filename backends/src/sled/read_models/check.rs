//! Whether a slot adds up: one pass over all that stands in it.

use std::ops::{Bound, ControlFlow};

use tidelog_core::{Direction, Error};

use super::digest::Digest;
use super::layout::{self, SlotState};
use crate::sled::index::{Index, IndexError};

/// Entries looked at in one go; in between the store may be closed.
const AT_ONCE: usize = 4_096;

/// The checkpoint of `slot`, when every entry is there that it speaks of and no other; `None` when
/// not, or when the engine has begun another generation. `done` counts the entries of all slots.
pub(super) fn check(
    index: &Index,
    (generation, slot): (u64, u32),
    own: Digest,
    done: &mut u64,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Option<SlotState>, Error> {
    let mut pass = Pass::begin(slot, own);
    loop {
        let more = index.rows(|kv, now| {
            if now != generation {
                return Err(IndexError::damaged("another generation was begun"));
            }
            let from = pass.from();
            let range = (from.as_ref().map(Vec::as_slice), Bound::Unbounded);
            let mut left = AT_ONCE;
            let mut inside = true;
            kv.scan(range, Direction::Forward, &mut |key, value| {
                inside = pass.take(key, value);
                left -= 1;
                if inside && left > 0 {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            })?;
            Ok(inside && left == 0)
        });
        let more = match more {
            Ok(more) => more,
            Err(IndexError::Damaged(_)) => return Ok(None),
            Err(IndexError::Failed(error)) => return Err(error),
        };
        *done += std::mem::take(&mut pass.taken);
        if progress(*done).is_break() {
            let what = "checking the rows of a read model";
            return Err(Error::Cancelled { what });
        }
        if !more {
            return Ok(pass.end());
        }
    }
}

/// A pass under way.
struct Pass {
    slot: u32,
    last: Option<Vec<u8>>,
    stated: Option<SlotState>,
    digest: Digest,
    rows: u64,
    taken: u64,
    whole: bool,
}

impl Pass {
    fn begin(slot: u32, own: Digest) -> Self {
        Self {
            slot,
            last: None,
            stated: None,
            digest: own,
            rows: 0,
            taken: 0,
            whole: true,
        }
    }

    fn from(&self) -> Bound<Vec<u8>> {
        match &self.last {
            None => Bound::Included(layout::slot_key(self.slot)),
            Some(last) => Bound::Excluded(last.clone()),
        }
    }

    /// Whether the entry is of this slot.
    fn take(&mut self, key: &[u8], value: &[u8]) -> bool {
        if layout::slot_of(key) != Some(self.slot) {
            return false;
        }
        let (is_row, is_checkpoint) = layout::kind_of(key);
        if is_checkpoint {
            // No key but its own may say so.
            self.whole &= key == layout::checkpoint_key(self.slot);
            self.stated = SlotState::decode(self.slot, value);
        } else {
            self.digest.add(key, value);
            self.rows += u64::from(is_row);
        }
        self.taken += 1;
        let last = self.last.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
        true
    }

    fn end(self) -> Option<SlotState> {
        let (digest, rows) = (self.digest.0, self.rows);
        self.stated.filter(|stated| {
            self.whole && stated.digest == digest && stated.checkpoint.rows == rows
        })
    }
}
