//! What a backend gives the kit: a way to open a store, close it, and end it abruptly.

use std::sync::Arc;

use crate::clock::{Clock, SystemClock};
use crate::limits::Limits;
use crate::store::EventStore;

/// What a store is opened with.
#[derive(Clone)]
pub struct Settings {
    /// What it takes at most.
    pub limits: Limits,
    /// Where its recorded times come from.
    pub clock: Arc<dyn Clock>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            clock: Arc::new(SystemClock),
        }
    }
}

/// Makes the stores of one test. Every law gets a harness of its own, so its store is empty.
///
/// The harness keeps no handle of the stores it gave out: dropping the last handle must end them.
pub trait Harness {
    /// The store under test.
    type Store: EventStore;

    /// Opens the harness's store; a law calls it once, unless it takes a [`PersistentHarness`].
    ///
    /// # Panics
    /// When it cannot be opened: the test has failed.
    fn open(&mut self, settings: Settings) -> Self::Store;

    /// Closes the store in good order, though clones of its handle may still be there.
    fn close(&mut self, store: Self::Store);

    /// The largest limits that the backend takes; a law that wants others lowers some of them.
    fn limits(&self) -> Limits {
        Limits::default()
    }

    /// The machine's clock, and the largest limits.
    fn settings(&self) -> Settings {
        Settings {
            limits: self.limits(),
            ..Settings::default()
        }
    }

    /// A store with the harness's own settings.
    fn store(&mut self) -> Self::Store {
        let settings = self.settings();
        self.open(settings)
    }

    /// A store with these limits.
    fn store_with_limits(&mut self, limits: Limits) -> Self::Store {
        let settings = Settings {
            limits,
            ..self.settings()
        };
        self.open(settings)
    }
}

/// A harness whose store outlives its handles: after [`close`](Harness::close) or
/// [`crash`](PersistentHarness::crash), [`open`](Harness::open) opens the same one again.
pub trait PersistentHarness: Harness {
    /// Ends the store as the death of its process would, without closing it.
    fn crash(&mut self, store: Self::Store);
}
