//! One aggregate repository a type, made when it is first asked for.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use tidelog_backends::SledStore;
use tidelog_core::{Aggregate, AggregateRepository, Clock, IdSource, Sleeper, SnapshotStrategy};

/// How repositories are made.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) snapshots: SnapshotStrategy,
    pub(crate) snapshots_of: HashMap<TypeId, SnapshotStrategy>,
    pub(crate) cache_bytes: u64,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    /// How managers and timers wait, when it is not by a thread of their own.
    pub(crate) sleeper: Option<Arc<dyn Sleeper>>,
}

/// The repositories over one face of the store.
pub(crate) struct Repositories {
    store: SledStore,
    settings: Arc<Settings>,
    by_type: RwLock<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
}

impl Repositories {
    pub(crate) fn new(store: SledStore, settings: Arc<Settings>) -> Self {
        Self {
            store,
            settings,
            by_type: RwLock::default(),
        }
    }

    pub(crate) fn store(&self) -> &SledStore {
        &self.store
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn of<A: Aggregate>(&self) -> Arc<AggregateRepository<A, SledStore>> {
        let key = TypeId::of::<A>();
        let known = self.by_type.read().get(&key).cloned();
        let repository = known.unwrap_or_else(|| {
            let mut by_type = self.by_type.write();
            let made = by_type
                .entry(key)
                .or_insert_with(|| Arc::new(self.make::<A>()));
            Arc::clone(made)
        });
        // What stands under a type's id was made for that type, so the other arm is never taken.
        repository
            .downcast()
            .unwrap_or_else(|_| Arc::new(self.make::<A>()))
    }

    fn make<A: Aggregate>(&self) -> AggregateRepository<A, SledStore> {
        let settings = &self.settings;
        let strategy = settings.snapshots_of.get(&TypeId::of::<A>());
        let strategy = strategy.unwrap_or(&settings.snapshots).clone();
        let mut repository = AggregateRepository::new(self.store.clone())
            .with_cache(settings.cache_bytes)
            .with_clock(Arc::clone(&settings.clock))
            .with_ids(Arc::clone(&settings.ids));
        if !matches!(strategy, SnapshotStrategy::Never) {
            repository = repository.with_snapshots(self.store.clone(), strategy);
        }
        if let Some(attempts) = settings.max_attempts {
            repository = repository.with_max_attempts(attempts);
        }
        repository
    }
}
