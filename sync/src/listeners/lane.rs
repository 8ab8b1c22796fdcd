//! Lanes: what is to be handled of each key, waiting in order, one at a time.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use tidelog_core::Timestamp;

/// What waits in a lane.
pub(crate) trait Queued {
    /// What it takes of the memory, roughly.
    fn bytes(&self) -> usize;
}

/// All lanes that hold something.
pub(crate) struct Lanes<K, E> {
    by_key: HashMap<K, Lane<E>>,
    ready: VecDeque<K>,
    /// The keys of which something is being handled, and since when: as many as handlers run.
    running: HashMap<K, Timestamp>,
    bytes: usize,
}

struct Lane<E> {
    /// The first is the one that is handled; it stays until it is settled.
    queue: VecDeque<Arc<E>>,
    attempts: u32,
    /// Whether it takes what is held of a parked key, not what comes by itself.
    held: bool,
}

impl<K, E> Default for Lanes<K, E> {
    fn default() -> Self {
        Self {
            by_key: HashMap::new(),
            ready: VecDeque::new(),
            running: HashMap::new(),
            bytes: 0,
        }
    }
}

impl<K: Clone + Eq + Hash, E: Queued> Lanes<K, E> {
    /// Bytes of all that waits or is handled.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the longest-running attempt began.
    pub(crate) fn oldest(&self) -> Option<Timestamp> {
        self.running.values().min().copied()
    }

    /// Whether the lane of `key` takes what is held of it.
    pub(crate) fn is_held(&self, key: &K) -> bool {
        self.by_key.get(key).is_some_and(|lane| lane.held)
    }

    /// What came by itself.
    pub(crate) fn push(&mut self, key: K, event: E) {
        self.queue(key, event, false);
    }

    /// Opens the lane of a parked key, with nothing in it yet.
    pub(crate) fn open_held(&mut self, key: &K) {
        self.by_key.insert(key.clone(), Lane::new(true));
    }

    /// What is held of a parked key.
    pub(crate) fn push_held(&mut self, key: K, event: E) {
        self.queue(key, event, true);
    }

    fn queue(&mut self, key: K, event: E, held: bool) {
        self.bytes += event.bytes();
        let lane = self
            .by_key
            .entry(key.clone())
            .or_insert_with(|| Lane::new(held));
        lane.queue.push_back(Arc::new(event));
        if lane.queue.len() == 1 {
            self.ready.push_back(key);
        }
    }

    /// The next one whose turn it is.
    pub(crate) fn begin(&mut self, now: Timestamp) -> Option<Arc<E>> {
        loop {
            let key = self.ready.pop_front()?;
            if self.running.contains_key(&key) {
                continue;
            }
            let lane = self.by_key.get(&key);
            if let Some(event) = lane.and_then(|lane| lane.queue.front()) {
                let event = Arc::clone(event);
                self.running.insert(key, now);
                return Some(event);
            }
        }
    }

    /// The attempt failed: which one it was.
    pub(crate) fn failed(&mut self, key: &K) -> u32 {
        self.running.remove(key);
        let Some(lane) = self.by_key.get_mut(key) else {
            return 0;
        };
        lane.attempts = lane.attempts.saturating_add(1);
        lane.attempts
    }

    /// What failed may be tried again.
    pub(crate) fn again(&mut self, key: K) {
        if self.by_key.contains_key(&key) {
            self.ready.push_back(key);
        }
    }

    /// It was handled. A lane that is empty by that is gone, unless it takes what is held.
    pub(crate) fn done(&mut self, key: &K) -> Next {
        self.running.remove(key);
        let Some(lane) = self.by_key.get_mut(key) else {
            return Next::Empty;
        };
        lane.attempts = 0;
        if let Some(event) = lane.queue.pop_front() {
            self.bytes -= event.bytes();
        }
        if !lane.queue.is_empty() {
            self.ready.push_back(key.clone());
            return Next::Ready;
        }
        if lane.held {
            return Next::Read;
        }
        self.by_key.remove(key);
        Next::Empty
    }

    /// Ends the lane: what was in it, in order.
    pub(crate) fn close(&mut self, key: &K) -> VecDeque<Arc<E>> {
        self.running.remove(key);
        let lane = self.by_key.remove(key);
        let queue = lane.map(|lane| lane.queue).unwrap_or_default();
        self.bytes -= queue.iter().map(|event| event.bytes()).sum::<usize>();
        queue
    }
}

#[cfg(feature = "kafka")]
impl<K: Clone + Eq + Hash, E: Queued> Lanes<K, E> {
    /// Whether `event` is the one that is handled, or next.
    pub(crate) fn is_first(&self, key: &K, event: &Arc<E>) -> bool {
        let lane = self.by_key.get(key);
        let first = lane.and_then(|lane| lane.queue.front());
        first.is_some_and(|first| Arc::ptr_eq(first, event))
    }

    /// Whether nothing of the key waits or is handled.
    pub(crate) fn is_empty(&self, key: &K) -> bool {
        let lane = self.by_key.get(key);
        lane.is_none_or(|lane| lane.queue.is_empty())
    }

    /// Puts one before all that waits; nothing of its key may be under way.
    pub(crate) fn put_back(&mut self, key: &K, event: Arc<E>) {
        self.insert(key, 0, event);
    }

    /// Puts one behind the first, which may be under way.
    pub(crate) fn put_second(&mut self, key: &K, event: Arc<E>) {
        self.insert(key, 1, event);
    }

    fn insert(&mut self, key: &K, at: usize, event: Arc<E>) {
        self.bytes += event.bytes();
        let lane = self.by_key.entry(key.clone());
        let lane = lane.or_insert_with(|| Lane::new(false));
        lane.queue.insert(at.min(lane.queue.len()), event);
        if lane.queue.len() == 1 {
            self.ready.push_back(key.clone());
        }
    }

    /// Drops all that waits behind the first.
    pub(crate) fn keep_first(&mut self, key: &K) {
        if let Some(lane) = self.by_key.get_mut(key) {
            let behind = lane.queue.split_off(lane.queue.len().min(1));
            self.bytes -= behind.iter().map(|event| event.bytes()).sum::<usize>();
        }
    }

    /// The keys of all lanes.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.by_key.keys()
    }
}

/// What follows when something was handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The next one of its key waits.
    Ready,
    /// More of what is held has to be read.
    Read,
    /// Nothing of the key waits.
    Empty,
}

impl<E> Lane<E> {
    fn new(held: bool) -> Self {
        Self {
            queue: VecDeque::new(),
            attempts: 0,
            held,
        }
    }
}
