//! An engine that keeps nothing: for stores that may only be read, and for models and fuzz targets,
//! which open thousands of stores a minute; sled takes longer than all the rest of opening.

use std::collections::BTreeMap;
use std::ops::Bound;

use parking_lot::Mutex;

use super::IndexError;
use super::kv::Kv;

#[derive(Default)]
pub(super) struct MemoryKv(Mutex<BTreeMap<Vec<u8>, Vec<u8>>>);

impl Kv for MemoryKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        Ok(self.0.lock().get(key).cloned())
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), IndexError> {
        self.0.lock().insert(key.into(), value.into());
        Ok(())
    }

    fn put_new(&self, pairs: &[(Vec<u8>, Vec<u8>)]) -> Result<(), IndexError> {
        self.0.lock().extend(pairs.iter().cloned());
        Ok(())
    }

    fn remove(&self, key: &[u8]) -> Result<(), IndexError> {
        self.0.lock().remove(key);
        Ok(())
    }

    fn remove_all(&self, prefix: &[u8]) -> Result<(), IndexError> {
        self.0.lock().retain(|key, _| !key.starts_with(prefix));
        Ok(())
    }

    fn next_key(&self, from: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        let pages = self.0.lock();
        let mut above = pages.range::<[u8], _>((Bound::Included(from), Bound::Unbounded));
        Ok(above.next().map(|(key, _)| key.clone()))
    }

    fn flush(&self) -> Result<(), IndexError> {
        Ok(())
    }

    fn size_on_disk(&self) -> u64 {
        0
    }
}
