//! An engine that keeps nothing: for stores that may only be read, and for models and fuzz targets,
//! which open thousands of stores a minute; sled takes longer than all the rest of opening.

use std::collections::BTreeMap;
use std::ops::Bound;

use parking_lot::Mutex;
use tidelog_core::Direction;

use super::IndexError;
use super::kv::{Kv, RowChange, RowKv, VisitRow};

#[derive(Default)]
pub(super) struct MemoryKv {
    pages: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
    rows: MemoryRows,
}

impl Kv for MemoryKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        Ok(self.pages.lock().get(key).cloned())
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), IndexError> {
        self.pages.lock().insert(key.into(), value.into());
        Ok(())
    }

    fn put_new(&self, pairs: &[(Vec<u8>, Vec<u8>)]) -> Result<(), IndexError> {
        self.pages.lock().extend(pairs.iter().cloned());
        Ok(())
    }

    fn remove(&self, key: &[u8]) -> Result<(), IndexError> {
        self.pages.lock().remove(key);
        Ok(())
    }

    fn remove_all(&self, prefix: &[u8]) -> Result<(), IndexError> {
        self.pages.lock().retain(|key, _| !key.starts_with(prefix));
        Ok(())
    }

    fn next_key(&self, from: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        let pages = self.pages.lock();
        let mut above = pages.range::<[u8], _>((Bound::Included(from), Bound::Unbounded));
        Ok(above.next().map(|(key, _)| key.clone()))
    }

    fn flush(&self) -> Result<(), IndexError> {
        Ok(())
    }

    fn size_on_disk(&self) -> u64 {
        0
    }

    fn rows(&self) -> &dyn RowKv {
        &self.rows
    }
}

#[derive(Default)]
struct MemoryRows(Mutex<BTreeMap<Vec<u8>, Vec<u8>>>);

impl RowKv for MemoryRows {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        Ok(self.0.lock().get(key).cloned())
    }

    fn scan(
        &self,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        direction: Direction,
        visit: &mut VisitRow<'_>,
    ) -> Result<(), IndexError> {
        let rows = self.0.lock();
        let mut range = rows.range::<[u8], _>(range);
        loop {
            let next = match direction {
                Direction::Forward => range.next(),
                Direction::Backward => range.next_back(),
            };
            match next {
                Some((key, value)) if visit(key, value).is_continue() => {}
                _ => return Ok(()),
            }
        }
    }

    fn await_turn(&self) {}

    fn apply(&self, changes: Vec<RowChange>) -> Result<(), IndexError> {
        let mut rows = self.0.lock();
        for (key, value) in changes {
            match value {
                Some(value) => rows.insert(key, value),
                None => rows.remove(&key),
            };
        }
        Ok(())
    }

    fn remove(&self, keys: &[Vec<u8>]) -> Result<(), IndexError> {
        let mut rows = self.0.lock();
        for key in keys {
            rows.remove(key);
        }
        Ok(())
    }
}
