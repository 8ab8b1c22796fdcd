//! Slots that no model names: found when a store is opened, and taken away bit by bit.

use std::collections::BTreeSet;
use std::ops::{Bound, ControlFlow};

use tidelog_core::Direction;

use super::layout::{self, Directory};
use crate::sled::index::{IndexError, RowKv};

/// Entries taken away beside a commit: about as many as it writes, so that it takes twice as long
/// while anything is left.
pub(super) const A_COMMIT: usize = 512;
/// Entries taken away by a flush, about half a second's work.
pub(super) const A_FLUSH: usize = 1 << 15;
const AT_ONCE: usize = 1_024;

/// Where all directories stand.
const DIRECTORIES: (Bound<&[u8]>, Bound<&[u8]>) =
    (Bound::Included(&[0; 4]), Bound::Excluded(&[0, 0, 0, 1]));

/// The highest slot that stands there, and those that no model names.
pub(super) fn look(kv: &dyn RowKv) -> Result<(u32, Vec<u32>), IndexError> {
    let mut named = BTreeSet::new();
    kv.scan(DIRECTORIES, Direction::Forward, &mut |key, value| {
        let directory = Directory::decode(key, value).unwrap_or_default();
        named.extend([directory.active, directory.building]);
        ControlFlow::Continue(())
    })?;
    let mut unnamed = Vec::new();
    let mut highest = named.last().copied().unwrap_or(0);
    let mut next = Some(1_u32);
    while let Some(from) = next {
        let mut found = None;
        let range = (Bound::Included(&from.to_be_bytes()[..]), Bound::Unbounded);
        kv.scan(range, Direction::Forward, &mut |key, _| {
            found = layout::slot_of(key);
            ControlFlow::Break(())
        })?;
        let Some(slot) = found else { break };
        highest = highest.max(slot);
        if !named.contains(&slot) {
            unnamed.push(slot);
        }
        next = slot.checked_add(1);
    }
    Ok((highest, unnamed))
}

/// The names of all models that name a slot.
pub(super) fn names(kv: &dyn RowKv) -> Result<Vec<String>, IndexError> {
    let mut names = Vec::new();
    kv.scan(DIRECTORIES, Direction::Forward, &mut |key, value| {
        let named = Directory::decode(key, value).unwrap_or_default();
        if named != Directory::default()
            && let Some(name) = layout::model_of(key)
        {
            names.push(name.to_owned());
        }
        ControlFlow::Continue(())
    })?;
    Ok(names)
}

/// Slots to be taken away.
#[derive(Default)]
pub(super) struct Leftovers {
    generation: u64,
    slots: Vec<u32>,
}

impl Leftovers {
    pub(super) fn new(generation: u64, slots: Vec<u32>) -> Self {
        Self { generation, slots }
    }

    pub(super) fn push(&mut self, slot: u32) {
        self.slots.push(slot);
    }

    /// Takes away at most `limit` entries.
    pub(super) fn sweep(
        &mut self,
        kv: &dyn RowKv,
        generation: u64,
        limit: usize,
    ) -> Result<(), IndexError> {
        if generation != self.generation {
            self.slots.clear();
        }
        let mut left = limit;
        while let Some(slot) = self.slots.last().copied().filter(|_| left > 0) {
            let most = left.min(AT_ONCE);
            let mut keys = Vec::new();
            let range = (Bound::Included(&slot.to_be_bytes()[..]), Bound::Unbounded);
            kv.scan(range, Direction::Forward, &mut |key, _| {
                if layout::slot_of(key) != Some(slot) {
                    return ControlFlow::Break(());
                }
                keys.push(key.to_vec());
                if keys.len() < most {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            })?;
            kv.remove(&keys)?;
            left -= keys.len();
            if keys.len() < most {
                self.slots.pop();
            }
        }
        Ok(())
    }
}
