//! Rows of read models in memory: the model that other row stores are compared with.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::ops::{Bound, ControlFlow};

use parking_lot::RwLock;
use tidelog_core::{
    Change, Checkpoint, Direction, Entry, Error, ModelSlots, RowStore, RowsError, Slot, Space,
    check_model_name,
};

use super::{MemoryStore, Shared};

/// All read models of one store.
#[derive(Default)]
pub(super) struct ReadModels(RwLock<Models>);

#[derive(Default)]
struct Models {
    /// Raised when all rows are lost at once.
    generation: u64,
    last_slot: u32,
    named: HashMap<String, Named>,
    slots: HashMap<u32, Rows>,
}

/// The slots of one model.
#[derive(Default)]
struct Named {
    active: Option<u32>,
    building: Option<u32>,
}

/// What stands in one slot.
struct Rows {
    checkpoint: Checkpoint,
    spaces: [BTreeMap<Vec<u8>, Vec<u8>>; 3],
}

impl Rows {
    fn space(&self, space: Space) -> &BTreeMap<Vec<u8>, Vec<u8>> {
        let [rows, lookups, parked] = &self.spaces;
        match space {
            Space::Rows => rows,
            Space::Lookups => lookups,
            Space::Parked => parked,
        }
    }

    fn space_mut(&mut self, space: Space) -> &mut BTreeMap<Vec<u8>, Vec<u8>> {
        let [rows, lookups, parked] = &mut self.spaces;
        match space {
            Space::Rows => rows,
            Space::Lookups => lookups,
            Space::Parked => parked,
        }
    }
}

impl Models {
    fn slot(&self, id: u32) -> Slot {
        Slot {
            generation: self.generation,
            id,
        }
    }

    fn rows(&self, slot: &Slot) -> Result<&Rows, RowsError> {
        let rows = self.slots.get(&slot.id);
        rows.filter(|_| slot.generation == self.generation)
            .ok_or_else(|| lost(slot))
    }

    fn named(&self, id: Option<u32>) -> Option<(Slot, Checkpoint)> {
        let id = id?;
        let rows = self.slots.get(&id)?;
        Some((self.slot(id), rows.checkpoint))
    }

    fn remove(&mut self, id: Option<u32>) {
        if let Some(id) = id {
            self.slots.remove(&id);
        }
    }
}

fn lost(slot: &Slot) -> RowsError {
    RowsError::Lost(format!("slot {} of generation {} is gone", slot.id, slot.generation).into())
}

impl MemoryStore {
    /// Loses all rows at once, as a store does whose index is made again: for tests of those who
    /// must notice.
    #[doc(hidden)]
    pub fn lose_rows(&self) {
        let mut models = self.shared().read_models.0.write();
        let generation = models.generation + 1;
        *models = Models {
            generation,
            last_slot: models.last_slot,
            ..Models::default()
        };
    }
}

impl Shared {
    fn check_open(&self) -> Result<(), Error> {
        self.with_model(|_| Ok(()))
    }
}

impl RowStore for MemoryStore {
    fn slots(
        &self,
        model: &str,
        _: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<ModelSlots, Error> {
        self.shared().check_open()?;
        let models = self.shared().read_models.0.read();
        let Some(named) = models.named.get(model) else {
            return Ok(ModelSlots::default());
        };
        Ok(ModelSlots {
            active: models.named(named.active),
            building: models.named(named.building),
        })
    }

    fn create_slot(&self, model: &str, checkpoint: &Checkpoint) -> Result<Slot, RowsError> {
        self.shared().check_open()?;
        check_model_name(model)?;
        let mut models = self.shared().read_models.0.write();
        models.last_slot += 1;
        let id = models.last_slot;
        let rows = Rows {
            checkpoint: Checkpoint {
                rows: 0,
                ..*checkpoint
            },
            spaces: Default::default(),
        };
        models.slots.insert(id, rows);
        let named = models.named.entry(model.to_owned()).or_default();
        let before = named.building.replace(id);
        models.remove(before);
        Ok(models.slot(id))
    }

    fn commit(
        &self,
        slot: &Slot,
        changes: &[Change],
        checkpoint: &Checkpoint,
    ) -> Result<u64, RowsError> {
        self.shared().check_open()?;
        changes.iter().try_for_each(Change::check)?;
        let mut models = self.shared().read_models.0.write();
        models.rows(slot)?;
        let rows = models.slots.get_mut(&slot.id).ok_or_else(|| lost(slot))?;
        for change in changes {
            let space = rows.space_mut(change.space);
            match &change.value {
                Some(value) => space.insert(change.key.clone(), value.clone()),
                None => space.remove(&change.key),
            };
        }
        let count = rows.space(Space::Rows).len() as u64;
        rows.checkpoint = Checkpoint {
            rows: count,
            ..*checkpoint
        };
        Ok(count)
    }

    fn activate(&self, model: &str, slot: &Slot) -> Result<(), RowsError> {
        self.shared().check_open()?;
        let mut models = self.shared().read_models.0.write();
        models.rows(slot)?;
        let named = models.named.get_mut(model).ok_or_else(|| lost(slot))?;
        if named.active == Some(slot.id) {
            return Ok(());
        }
        if named.building != Some(slot.id) {
            return Err(lost(slot));
        }
        named.building = None;
        let before = named.active.replace(slot.id);
        models.remove(before);
        Ok(())
    }

    fn get(&self, slot: &Slot, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        self.shared().check_open()?;
        let models = self.shared().read_models.0.read();
        Ok(models.rows(slot)?.space(space).get(key).cloned())
    }

    fn scan(
        &self,
        slot: &Slot,
        space: Space,
        (from, to): (Bound<&[u8]>, Bound<&[u8]>),
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, RowsError> {
        self.shared().check_open()?;
        let models = self.shared().read_models.0.read();
        let entries = models.rows(slot)?.space(space);
        if is_empty(from, to) {
            return Ok(Vec::new());
        }
        let within = entries.range::<[u8], _>((from, to));
        let within = within.map(|(key, value)| (key.clone(), value.clone()));
        Ok(match direction {
            Direction::Forward => within.take(limit).collect(),
            Direction::Backward => within.rev().take(limit).collect(),
        })
    }

    fn remove_model(&self, model: &str) -> Result<(), Error> {
        self.shared().check_open()?;
        let mut models = self.shared().read_models.0.write();
        if let Some(named) = models.named.remove(model) {
            models.remove(named.active);
            models.remove(named.building);
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), Error> {
        self.shared().check_open()
    }

    fn renew(&self) -> Result<(), Error> {
        self.shared().check_open()?;
        self.lose_rows();
        Ok(())
    }

    fn on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> impl Future<Output = Result<T, Error>> + Send {
        // Nothing here blocks for longer than another's call.
        let store = self.clone();
        async move {
            store.shared().check_open()?;
            work(&store)
        }
    }
}

/// Whether nothing can be between: `BTreeMap::range` panics for such bounds.
fn is_empty(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Excluded(to))
        | (Bound::Excluded(from), Bound::Included(to)) => from >= to,
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
    }
}
