//! The store in memory keeps every law: it is the model that the others are compared with.

use std::sync::Arc;

use parking_lot::Mutex;
use tidelog_backends::MemoryStore;
use tidelog_core::testing::{Harness, PersistentHarness, Settings};
use tidelog_core::{Clock, DynEventStore, Timestamp, conformance_tests};

fn store_with(settings: Settings) -> MemoryStore {
    MemoryStore::with_limits(settings.limits).with_clock(settings.clock)
}

struct Memory;

impl Harness for Memory {
    type Store = MemoryStore;

    fn open(&mut self, settings: Settings) -> MemoryStore {
        store_with(settings)
    }

    fn close(&mut self, store: MemoryStore) {
        store.close();
    }
}

conformance_tests!(memory, Memory; store, multi_stream, log, snapshots, rows, checkpoints, superseding);

/// The same store behind a pointer: all that is left of it is an `EventStore`.
#[derive(Default)]
struct Dyn(Option<MemoryStore>);

impl Harness for Dyn {
    type Store = Arc<dyn DynEventStore>;

    fn open(&mut self, settings: Settings) -> Self::Store {
        let store = store_with(settings);
        self.0 = Some(store.clone());
        Arc::new(store)
    }

    fn close(&mut self, _: Self::Store) {
        if let Some(store) = &self.0 {
            store.close();
        }
    }
}

conformance_tests!(dyn_memory, Dyn::default(); store);

/// Keeps one store over all reopens, so that the laws of persistence are held against the model,
/// too. It takes the limits of its first opening and the clock of each.
#[derive(Default)]
struct Kept {
    store: Option<MemoryStore>,
    clock: Arc<LatestClock>,
}

/// Shows what the clock of the latest opening shows.
#[derive(Default)]
struct LatestClock(Mutex<Option<Arc<dyn Clock>>>);

impl Clock for LatestClock {
    fn now(&self) -> Timestamp {
        let latest = self.0.lock();
        latest.as_ref().map(|clock| clock.now()).unwrap_or_default()
    }
}

impl Harness for Kept {
    type Store = MemoryStore;

    fn open(&mut self, settings: Settings) -> MemoryStore {
        *self.clock.0.lock() = Some(settings.clock);
        let clock = Arc::clone(&self.clock);
        self.store
            .get_or_insert_with(|| MemoryStore::with_limits(settings.limits).with_clock(clock))
            .clone()
    }

    fn close(&mut self, _: MemoryStore) {}
}

impl PersistentHarness for Kept {
    fn crash(&mut self, _: MemoryStore) {}
}

conformance_tests!(
    kept_memory,
    Kept::default();
    persistence,
    log_persistence,
    multi_stream_persistence,
    snapshot_persistence,
    row_persistence,
    checkpoint_persistence,
    superseding_persistence
);
