//! Rows in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use parking_lot::Mutex;
use tidelog_core::{EditableRepository, Error, Repository};

/// Rows in the memory of the process, gone with it. A handle: clones share the rows.
///
/// ```
/// use tidelog_backends::MemoryRepository;
/// use tidelog_core::{EditableRepository, Repository};
///
/// # pollster::block_on(async {
/// let balances = MemoryRepository::<String, i64>::new();
/// balances.put("acc-1".into(), 500).await?;
/// balances.put("acc-2".into(), 700).await?;
/// assert_eq!(balances.get(&"acc-1".into()).await?, Some(500));
/// assert_eq!(balances.scan("acc-2".to_owned().., 10).await?, [("acc-2".into(), 700)]);
/// # Ok::<(), tidelog_core::Error>(())
/// # }).unwrap();
/// ```
pub struct MemoryRepository<K, V> {
    rows: Arc<Mutex<BTreeMap<K, V>>>,
}

impl<K, V> MemoryRepository<K, V> {
    /// A repository without rows.
    pub fn new() -> Self {
        Self {
            rows: Arc::new(Mutex::new(BTreeMap::new())),
        }
    }
}

impl<K, V> Default for MemoryRepository<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> Clone for MemoryRepository<K, V> {
    fn clone(&self) -> Self {
        Self {
            rows: Arc::clone(&self.rows),
        }
    }
}

impl<K, V> fmt::Debug for MemoryRepository<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryRepository")
            .field("rows", &self.rows.lock().len())
            .finish()
    }
}

impl<K, V> Repository<K, V> for MemoryRepository<K, V>
where
    K: Ord + Clone + Send,
    V: Clone + Send,
{
    fn get(&self, key: &K) -> impl Future<Output = Result<Option<V>, Error>> + Send {
        // A future holding `&K` would not be `Send`: keys need not be `Sync`.
        let key = key.clone();
        async move { Ok(self.rows.lock().get(&key).cloned()) }
    }

    async fn scan(
        &self,
        range: impl RangeBounds<K> + Send,
        limit: usize,
    ) -> Result<Vec<(K, V)>, Error> {
        if is_empty(&range) {
            return Ok(Vec::new());
        }
        let rows = self.rows.lock();
        let found = rows.range(range).take(limit);
        Ok(found.map(|(key, row)| (key.clone(), row.clone())).collect())
    }

    async fn scan_back(
        &self,
        range: impl RangeBounds<K> + Send,
        limit: usize,
    ) -> Result<Vec<(K, V)>, Error> {
        if is_empty(&range) {
            return Ok(Vec::new());
        }
        let rows = self.rows.lock();
        let found = rows.range(range).rev().take(limit);
        Ok(found.map(|(key, row)| (key.clone(), row.clone())).collect())
    }
}

impl<K, V> EditableRepository<K, V> for MemoryRepository<K, V>
where
    K: Ord + Clone + Send,
    V: Clone + Send,
{
    async fn put(&self, key: K, row: V) -> Result<(), Error> {
        self.rows.lock().insert(key, row);
        Ok(())
    }

    fn remove(&self, key: &K) -> impl Future<Output = Result<Option<V>, Error>> + Send {
        let key = key.clone();
        async move { Ok(self.rows.lock().remove(&key)) }
    }
}

/// Whether no key can be in `range`; `BTreeMap::range` panics on such.
fn is_empty<K: Ord>(range: &impl RangeBounds<K>) -> bool {
    match (range.start_bound(), range.end_bound()) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (Bound::Included(start) | Bound::Excluded(start), Bound::Excluded(end))
        | (Bound::Excluded(start), Bound::Included(end)) => start >= end,
    }
}

#[cfg(test)]
mod tests {
    use pollster::block_on;

    use super::*;

    #[test]
    fn scans_go_in_key_order_and_stop_at_their_limit() {
        let rows = MemoryRepository::new();
        for key in [3, 1, 2] {
            block_on(rows.put(key, key * 10)).unwrap();
        }
        assert_eq!(block_on(rows.scan(.., 2)).unwrap(), [(1, 10), (2, 20)]);
        assert_eq!(block_on(rows.scan(2..=3, 9)).unwrap(), [(2, 20), (3, 30)]);
        assert_eq!(block_on(rows.scan_back(.., 2)).unwrap(), [(3, 30), (2, 20)]);
        assert_eq!(block_on(rows.clone().remove(&2)).unwrap(), Some(20));
        assert_eq!(block_on(rows.get(&2)).unwrap(), None);
    }

    #[test]
    fn ranges_that_hold_nothing_are_empty() {
        let rows = MemoryRepository::new();
        block_on(rows.put(2, ())).unwrap();
        let excluded = (Bound::Excluded(2), Bound::Excluded(2));
        #[allow(clippy::reversed_empty_ranges, reason = "that is the case tested")]
        let reversed = 3..1;
        assert_eq!(block_on(rows.scan(reversed, 9)).unwrap(), []);
        assert_eq!(block_on(rows.scan(2..2, 9)).unwrap(), []);
        assert_eq!(block_on(rows.scan(excluded, 9)).unwrap(), []);
    }
}
