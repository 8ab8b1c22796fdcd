//! The states that a repository keeps in memory, bounded in bytes.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::aggregate::Aggregate;
use crate::repository::Current;
use crate::stream_id::StreamId;

/// What an entry takes beside its id and its state: keys, counters, the cache's own lists.
const ENTRY_BYTES: usize = 192;

/// Newest known states by aggregate id.
///
/// An entry may be old: it is a state that its stream has had, and still is one of its history unless
/// events gave way to another origin's since. Who starts from one has to find out both: whether its
/// event still stands in the stream, by its id, and whether it is the newest.
pub(crate) struct StateCache<A: Aggregate>(Cache<Key, Current<A>, Weigh>);

impl<A: Aggregate> StateCache<A> {
    pub(crate) fn new(bytes: u64) -> Self {
        let items = usize::try_from(bytes / 1024).unwrap_or(usize::MAX);
        Self(Cache::with_weighter(items.clamp(16, 1 << 16), bytes, Weigh))
    }

    pub(crate) fn get(&self, aggregate_id: &str) -> Option<Current<A>> {
        self.0.get(aggregate_id)
    }

    /// Keeps `current` unless a newer state is there.
    pub(crate) fn keep(&self, current: &Current<A>) {
        let id = current.stream.aggregate_id();
        let newer = |kept: Current<A>| kept.sequence > current.sequence;
        if !self.0.peek(id).is_some_and(newer) {
            self.0.insert(Key(current.stream.clone()), current.clone());
        }
    }

    pub(crate) fn forget(&self, aggregate_id: &str) {
        self.0.remove(aggregate_id);
    }
}

/// A stream of the one aggregate type of a repository: its id alone tells it apart.
struct Key(StreamId);

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        self.0.aggregate_id()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0.aggregate_id() == other.0.aggregate_id()
    }
}

impl Eq for Key {}

// Must hash as the `str` it is borrowed as.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.aggregate_id().hash(state);
    }
}

#[derive(Clone)]
struct Weigh;

impl<A: Aggregate> Weighter<Key, Current<A>> for Weigh {
    fn weight(&self, key: &Key, current: &Current<A>) -> u64 {
        let beside = ENTRY_BYTES + key.0.as_str().len();
        // Capped, so that no hint, however wrong, overflows the sum of weights.
        let state = current.size.min(1 << 30);
        (beside + state) as u64
    }
}
