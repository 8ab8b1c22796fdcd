//! Rows of read models, in the engine that the index stands in. Nothing here is the truth: a slot
//! that does not add up is thrown away, and made again from the log.

mod check;
mod commit;
mod digest;
mod layout;
mod sweep;
#[cfg(test)]
#[cfg(not(feature = "shuttle"))]
mod tests;

use std::collections::BTreeSet;
use std::future::Future;
use std::ops::{Bound, ControlFlow};

use tidelog_core::{
    Change, Checkpoint, Direction, Entry, Error, ModelSlots, RowStore, RowsError, Slot, Space,
    check_model_name,
};

use self::digest::Digest;
use self::layout::{Directory, SlotState};
use self::sweep::Leftovers;
use super::index::{Index, IndexError, RowKv};
use super::index_failed;
use super::store::SledStore;
use crate::primitives::{Mutex, RwLock};

/// What an open store knows of its read models.
pub(crate) struct ReadModels {
    /// The store's own number, which the digests of its slots begin with.
    own: Digest,
    /// Held shared by whoever reads rows, alone while a commit is put: what one call reads is the
    /// state of one commit.
    checked: RwLock<Checked>,
    /// Held while slots come and go.
    naming: Mutex<Naming>,
    leftovers: Mutex<Leftovers>,
}

/// The slots that add up.
#[derive(Default)]
struct Checked {
    generation: u64,
    slots: BTreeSet<u32>,
}

impl Checked {
    fn require(&self, generation: u64, slot: &Slot) -> Result<(), IndexError> {
        let same = generation == self.generation && generation == slot.generation;
        if same && self.slots.contains(&slot.id) {
            Ok(())
        } else {
            let (id, of) = (slot.id, slot.generation);
            let what = format!("slot {id} of generation {of} is gone");
            Err(IndexError::damaged(what))
        }
    }
}

#[derive(Default)]
struct Naming {
    /// The generation that was looked through; 0 before the first look.
    looked: Option<u64>,
    /// No slot of a higher number was ever met.
    highest: u32,
}

impl ReadModels {
    /// `identity` is what tells this store from others.
    pub(crate) fn new(identity: [u8; 16]) -> Self {
        Self {
            own: Digest(u128::from_le_bytes(identity)),
            checked: RwLock::new(Checked::default()),
            naming: Mutex::new(Naming::default()),
            leftovers: Mutex::new(Leftovers::default()),
        }
    }

    /// Looks through what stands there, once a generation: which numbers are taken, and what no
    /// model names.
    fn look(&self, naming: &mut Naming, kv: &dyn RowKv, generation: u64) -> Result<(), IndexError> {
        if naming.looked == Some(generation) {
            return Ok(());
        }
        let (highest, unnamed) = sweep::look(kv)?;
        *self.checked.write() = Checked {
            generation,
            slots: BTreeSet::new(),
        };
        *self.leftovers.lock() = Leftovers::new(generation, unnamed);
        *naming = Naming {
            looked: Some(generation),
            highest,
        };
        Ok(())
    }

    /// Nobody names `slot` any more: it is read no more, and taken away bit by bit.
    fn leave(&self, slot: u32) {
        if slot != 0 {
            self.checked.write().slots.remove(&slot);
            self.leftovers.lock().push(slot);
        }
    }

    /// The names of all models that have rows.
    pub(crate) fn names(index: &Index) -> Result<Vec<String>, IndexError> {
        index.rows(|kv, _| sweep::names(kv))
    }

    pub(crate) fn slots(
        &self,
        index: &Index,
        model: &str,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<ModelSlots, Error> {
        let mut naming = self.naming.lock();
        let found = index.rows(|kv, generation| {
            self.look(&mut naming, kv, generation)?;
            Ok((directory(kv, model)?, generation))
        });
        let (mut named, generation) = found.map_err(index_failed)?;
        let before = named;
        let (mut done, own) = (0, self.own.of(model));
        let mut whole = |slot: &mut u32| -> Result<Option<(Slot, Checkpoint)>, Error> {
            let id = *slot;
            if id == 0 {
                return Ok(None);
            }
            let state = if self.checked.read().slots.contains(&id) {
                known(index, generation, id)?
            } else {
                check::check(index, (generation, id), own, &mut done, progress)?
            };
            let Some(state) = state else {
                tracing::warn!(model, slot = id, "the rows of a read model do not add up");
                *slot = 0;
                return Ok(None);
            };
            self.checked.write().slots.insert(id);
            Ok(Some((Slot { generation, id }, state.checkpoint)))
        };
        let slots = ModelSlots {
            active: whole(&mut named.active)?,
            building: whole(&mut named.building)?,
        };
        if named != before {
            put(index, generation, vec![named.encode(model)])?;
            for slot in [before.active, before.building] {
                if !named.names(slot) {
                    self.leave(slot);
                }
            }
        }
        Ok(slots)
    }

    fn create(
        &self,
        index: &Index,
        model: &str,
        checkpoint: &Checkpoint,
    ) -> Result<Slot, RowsError> {
        check_model_name(model)?;
        let mut naming = self.naming.lock();
        let made = index.rows(|kv, generation| {
            self.look(&mut naming, kv, generation)?;
            let before = directory(kv, model)?;
            let id = naming.highest.checked_add(1);
            let id = id.ok_or_else(|| IndexError::damaged("it has no numbers left"))?;
            let named = Directory {
                building: id,
                ..before
            };
            let state = SlotState {
                checkpoint: Checkpoint {
                    rows: 0,
                    ..*checkpoint
                },
                digest: self.own.of(model).0,
            };
            kv.apply(vec![state.encode(id), named.encode(model)])?;
            naming.highest = id;
            self.checked.write().slots.insert(id);
            self.leave(before.building);
            Ok(Slot { generation, id })
        });
        // A new slot has lost nothing yet: what is damaged here is the engine.
        made.map_err(|error| RowsError::Failed(index_failed(error)))
    }

    fn commit(
        &self,
        index: &Index,
        slot: &Slot,
        changes: &[Change],
        checkpoint: &Checkpoint,
    ) -> Result<u64, IndexError> {
        index.rows(|kv, generation| {
            self.checked.read().require(generation, slot)?;
            let (entries, rows) = commit::plan(kv, slot.id, changes, checkpoint)?;
            fail::fail_point!("rows_before_apply", |_| Err(Error::Closed.into()));
            // Readers of all models would wait for the flush with it.
            kv.await_turn();
            {
                // Not under the lock before: what is read for the plan nobody else changes.
                let checked = self.checked.write();
                checked.require(generation, slot)?;
                kv.apply(entries)?;
            }
            fail::fail_point!("rows_after_apply", |_| Err(Error::Closed.into()));
            let mut leftovers = self.leftovers.lock();
            leftovers.sweep(kv, generation, sweep::A_COMMIT)?;
            Ok(rows)
        })
    }

    fn activate(&self, index: &Index, model: &str, slot: &Slot) -> Result<(), IndexError> {
        let _one_at_a_time = self.naming.lock();
        index.rows(|kv, generation| {
            self.checked.read().require(generation, slot)?;
            let before = directory(kv, model)?;
            if before.active == slot.id {
                return Ok(());
            }
            if before.building != slot.id {
                return Err(IndexError::damaged(format!("slot {} is not its", slot.id)));
            }
            let named = Directory {
                active: slot.id,
                building: 0,
            };
            fail::fail_point!("activate", |_| Err(Error::Closed.into()));
            kv.apply(vec![named.encode(model)])?;
            self.leave(before.active);
            Ok(())
        })
    }

    fn remove_model(&self, index: &Index, model: &str) -> Result<(), IndexError> {
        let mut naming = self.naming.lock();
        index.rows(|kv, generation| {
            self.look(&mut naming, kv, generation)?;
            let before = directory(kv, model)?;
            if before != Directory::default() {
                kv.apply(vec![Directory::default().encode(model)])?;
                self.leave(before.active);
                self.leave(before.building);
            }
            Ok(())
        })
    }

    fn get(
        &self,
        index: &Index,
        slot: &Slot,
        space: Space,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, IndexError> {
        index.rows(|kv, generation| {
            let checked = self.checked.read();
            checked.require(generation, slot)?;
            let entry_key = layout::entry_key(slot.id, space, key);
            let head = kv.get(&entry_key)?;
            head.map(|head| commit::value(kv, &entry_key, &head))
                .transpose()
        })
    }

    pub(crate) fn scan(
        &self,
        index: &Index,
        slot: &Slot,
        space: Space,
        (from, to): (Bound<&[u8]>, Bound<&[u8]>),
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, IndexError> {
        let entry_key = |key| layout::entry_key(slot.id, space, key);
        let from = match from {
            Bound::Unbounded => Bound::Included(entry_key(&[])),
            from => from.map(entry_key),
        };
        let to = match to {
            Bound::Unbounded => Bound::Excluded(layout::space_end(slot.id, space)),
            to => to.map(entry_key),
        };
        index.rows(|kv, generation| {
            let checked = self.checked.read();
            checked.require(generation, slot)?;
            let mut heads: Vec<Entry> = Vec::new();
            if limit > 0 && !is_empty(&from, &to) {
                let range = (as_slice(&from), as_slice(&to));
                kv.scan(range, direction, &mut |key, head| {
                    heads.push((key.to_vec(), head.to_vec()));
                    if heads.len() < limit {
                        ControlFlow::Continue(())
                    } else {
                        ControlFlow::Break(())
                    }
                })?;
            }
            let whole = heads.into_iter().map(|(key, head)| {
                let value = commit::value(kv, &key, &head)?;
                Ok((layout::key_in(&key).to_vec(), value))
            });
            whole.collect()
        })
    }

    fn flush(&self, index: &Index) -> Result<(), IndexError> {
        let swept = index.rows(|kv, generation| {
            let mut leftovers = self.leftovers.lock();
            leftovers.sweep(kv, generation, sweep::A_FLUSH)
        });
        match swept {
            // What cannot be taken away is in nobody's way.
            Err(IndexError::Damaged(_)) | Ok(()) => index.flush(),
            Err(failed) => Err(failed),
        }
    }

    /// What a failed call means to its caller. Rows that are not what was written are read no more.
    fn lost(&self, slot: &Slot, error: IndexError) -> RowsError {
        match error {
            IndexError::Failed(error) => RowsError::Failed(error),
            IndexError::Damaged(what) => {
                let mut checked = self.checked.write();
                if checked.generation == slot.generation {
                    checked.slots.remove(&slot.id);
                }
                RowsError::Lost(what.into())
            }
        }
    }
}

/// The checkpoint of a slot that was checked before.
fn known(index: &Index, generation: u64, id: u32) -> Result<Option<SlotState>, Error> {
    let state = index.rows(|kv, now| {
        if now == generation {
            commit::state(kv, id)
        } else {
            Err(IndexError::damaged("another generation was begun"))
        }
    });
    match state {
        Ok(state) => Ok(Some(state)),
        Err(IndexError::Damaged(_)) => Ok(None),
        Err(IndexError::Failed(error)) => Err(error),
    }
}

fn directory(kv: &dyn RowKv, model: &str) -> Result<Directory, IndexError> {
    let key = layout::directory_key(model);
    let value = kv.get(&key)?;
    // One that is not whole names nothing.
    let whole = value.and_then(|value| Directory::decode(&key, &value));
    Ok(whole.unwrap_or_default())
}

fn put(index: &Index, generation: u64, changes: Vec<super::index::RowChange>) -> Result<(), Error> {
    let put = index.rows(|kv, now| {
        if now == generation {
            kv.apply(changes)
        } else {
            Ok(())
        }
    });
    put.map_err(index_failed)
}

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

fn is_empty(from: &Bound<Vec<u8>>, to: &Bound<Vec<u8>>) -> bool {
    match (from, to) {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Excluded(to))
        | (Bound::Excluded(from), Bound::Included(to)) => from >= to,
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
    }
}

impl SledStore {
    fn rows(&self) -> Result<(&ReadModels, &Index), Error> {
        self.ensure_open()?;
        let shared = self.shared();
        Ok((&shared.read_models, shared.streams.index()))
    }
}

impl RowStore for SledStore {
    fn slots(
        &self,
        model: &str,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<ModelSlots, Error> {
        let (models, index) = self.rows()?;
        models.slots(index, model, progress)
    }

    fn create_slot(&self, model: &str, checkpoint: &Checkpoint) -> Result<Slot, RowsError> {
        let (models, index) = self.rows()?;
        models.create(index, model, checkpoint)
    }

    fn commit(
        &self,
        slot: &Slot,
        changes: &[Change],
        checkpoint: &Checkpoint,
    ) -> Result<u64, RowsError> {
        let (models, index) = self.rows()?;
        changes.iter().try_for_each(Change::check)?;
        let done = models.commit(index, slot, changes, checkpoint);
        done.map_err(|error| models.lost(slot, error))
    }

    fn await_turn(&self) {
        if let Ok((_, index)) = self.rows() {
            // Closed, it has nobody to wait for.
            let _ = index.rows(|kv, _| {
                kv.await_turn();
                Ok(())
            });
        }
    }

    fn activate(&self, model: &str, slot: &Slot) -> Result<(), RowsError> {
        let (models, index) = self.rows()?;
        let done = models.activate(index, model, slot);
        done.map_err(|error| match error {
            IndexError::Failed(error) => RowsError::Failed(error),
            // It may be another model's, and whole.
            IndexError::Damaged(what) => RowsError::Lost(what.into()),
        })
    }

    fn get(&self, slot: &Slot, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        let (models, index) = self.rows()?;
        let found = models.get(index, slot, space, key);
        found.map_err(|error| models.lost(slot, error))
    }

    fn scan(
        &self,
        slot: &Slot,
        space: Space,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, RowsError> {
        let (models, index) = self.rows()?;
        let found = models.scan(index, slot, space, range, direction, limit);
        found.map_err(|error| models.lost(slot, error))
    }

    fn remove_model(&self, model: &str) -> Result<(), Error> {
        let (models, index) = self.rows()?;
        models.remove_model(index, model).map_err(index_failed)
    }

    fn flush(&self) -> Result<(), Error> {
        let (models, index) = self.rows()?;
        models.flush(index).map_err(index_failed)
    }

    fn renew(&self) -> Result<(), Error> {
        self.ensure_open()?;
        let shared = self.shared();
        shared.format.ensure_writable(&shared.dir)?;
        shared.streams.rebuild("rows could not be kept in it", None)
    }

    fn on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> impl Future<Output = Result<T, Error>> + Send {
        let store = self.clone();
        async move {
            let on_thread = store.clone();
            store.read(move |_| work(&on_thread)).await
        }
    }
}
