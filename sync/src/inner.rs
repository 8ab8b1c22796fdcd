//! What stands behind all handles of one open store.

use std::ops::ControlFlow;
use std::sync::Arc;

use tidelog_backends::SledStore;
use tidelog_core::{Command, CommandError, CommandResponse, Context, Decide, Error};

use crate::processes::{Bus, Manager, Processes};
use crate::projections::{Projections, Registrations, Stores};
use crate::repositories::{Repositories, Settings};

/// The store with what works on it. Users hold it by their [`Owner`]; the library's own threads hold
/// it alone, so that they keep no store open.
pub(crate) struct Inner {
    // Dropped in this order: managers execute commands, and projections take in what these record.
    processes: Processes,
    projections: Projections<SledStore>,
    #[cfg(any(feature = "scylla", feature = "kafka"))]
    sinks: Sinks,
    asynchronous: Arc<Repositories>,
    blocking: Repositories,
}

/// What users hold, and nobody else. When the last one is gone, the library's threads end, and with
/// their handles the store closes.
pub(crate) struct Owner(Arc<Inner>);

impl Owner {
    pub(crate) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Inner {
    /// Starts what works on `store`; inline projections have caught up when it returns. `progress` is
    /// told how far they are, and may cancel.
    pub(crate) fn start(
        store: SledStore,
        settings: Settings,
        projections: Registrations<SledStore>,
        managers: Vec<Manager>,
        progress: impl FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<Self, Error> {
        let settings = Arc::new(settings);
        let blocking = store.blocking().inner().clone();
        let stores = Stores {
            asynchronous: store.clone(),
            blocking: blocking.clone(),
        };
        let (clock, ids) = (Arc::clone(&settings.clock), Arc::clone(&settings.ids));
        let projections = projections.start(stores, clock, ids, settings.sleeper.clone())?;
        projections.catch_up(progress)?;
        let asynchronous = Arc::new(Repositories::new(store, Arc::clone(&settings)));
        Ok(Self {
            processes: Processes::start(managers, &Bus(Arc::clone(&asynchronous)), &projections)?,
            projections,
            #[cfg(any(feature = "scylla", feature = "kafka"))]
            sinks: Sinks::default(),
            asynchronous,
            blocking: Repositories::new(blocking, settings),
        })
    }

    /// The same, with what sends its log elsewhere.
    #[cfg(any(feature = "scylla", feature = "kafka"))]
    pub(crate) fn with_sinks(mut self, sinks: Sinks) -> Self {
        self.sinks = sinks;
        self
    }

    #[cfg(feature = "scylla")]
    pub(crate) fn replication(self: &Arc<Self>) -> crate::Replication {
        let handle = self.sinks.replication.as_ref();
        crate::Replication::new(handle.map(|(handle, _)| Arc::clone(handle)), self)
    }

    #[cfg(feature = "kafka")]
    pub(crate) fn publishing(self: &Arc<Self>) -> crate::Publishing {
        let handle = self.sinks.publishing.as_ref();
        crate::Publishing::new(handle.map(|(handle, _)| Arc::clone(handle)), self)
    }

    pub(crate) fn processes(&self) -> &Processes {
        &self.processes
    }

    pub(crate) fn projections(&self) -> &Projections<SledStore> {
        &self.projections
    }

    pub(crate) fn store(&self) -> &SledStore {
        self.asynchronous.store()
    }

    pub(crate) fn repositories(&self) -> &Repositories {
        &self.asynchronous
    }

    pub(crate) fn blocking_repositories(&self) -> &Repositories {
        &self.blocking
    }

    /// Executes `command` on this face's repositories, in a context of the library's making if none
    /// is given.
    pub(crate) async fn execute<C>(
        &self,
        repositories: &Repositories,
        command: C,
        context: Option<Context>,
    ) -> Result<CommandResponse, CommandError<C>>
    where
        C: Command,
        C::Aggregate: Decide<C>,
    {
        let repository = repositories.of::<C::Aggregate>();
        let response = match context {
            Some(context) => repository.execute_with(command, context).await?,
            None => repository.execute(command).await?,
        };
        self.applied(response.position).await;
        Ok(response)
    }

    /// Returns when inline projections have taken in everything up to `position`.
    pub(crate) async fn applied(&self, position: Option<u64>) {
        if let Some(position) = position {
            self.projections.applied(position).await;
        }
    }

    /// Whether there is anything to stop.
    pub(crate) fn has_threads(&self) -> bool {
        #[cfg(any(feature = "scylla", feature = "kafka"))]
        if !self.sinks.is_empty() {
            return true;
        }
        !(self.processes.is_empty() && self.projections.is_empty())
    }

    /// Ends the threads that work on the store, in the order in which they need each other, and waits
    /// for them. Doing so again does nothing.
    pub(crate) fn stop(&self) {
        self.processes.stop();
        self.projections.stop();
        #[cfg(any(feature = "scylla", feature = "kafka"))]
        self.sinks.stop();
    }
}

/// What sends the log elsewhere.
#[cfg(any(feature = "scylla", feature = "kafka"))]
#[derive(Default)]
pub(crate) struct Sinks {
    // Dropped in this order: what is published follows what is replicated.
    #[cfg(feature = "kafka")]
    publishing: Option<crate::publishing::AtWork>,
    #[cfg(feature = "scylla")]
    replication: Option<crate::replication::Replicating>,
}

#[cfg(any(feature = "scylla", feature = "kafka"))]
impl Sinks {
    /// Starts those that `config` asks for.
    pub(crate) fn start(
        store: &SledStore,
        config: crate::DistributedConfig,
        ids: &Arc<dyn tidelog_core::IdSource>,
    ) -> Result<Self, Error> {
        #[cfg(feature = "kafka")]
        let kafka = config.kafka.clone();
        #[cfg(feature = "scylla")]
        let replication = crate::replication::Replication::start(store, config, ids)?;
        #[cfg(feature = "kafka")]
        let publishing = {
            #[cfg(feature = "scylla")]
            let behind = match &replication {
                Some((handle, _)) => Some(handle.behind(store)?),
                None => None,
            };
            #[cfg(not(feature = "scylla"))]
            let behind = None;
            crate::publishing::Publishing::start(store, kafka, behind, ids)?
        };
        #[cfg(not(feature = "scylla"))]
        drop(config);
        Ok(Self {
            #[cfg(feature = "kafka")]
            publishing,
            #[cfg(feature = "scylla")]
            replication,
        })
    }

    fn is_empty(&self) -> bool {
        #[cfg(feature = "kafka")]
        if self.publishing.is_some() {
            return false;
        }
        #[cfg(feature = "scylla")]
        if self.replication.is_some() {
            return false;
        }
        true
    }

    /// The last that the publisher tells is for the replica.
    fn stop(&self) {
        #[cfg(feature = "kafka")]
        if let Some((_, running)) = &self.publishing {
            running.stop();
        }
        #[cfg(feature = "scylla")]
        if let Some((handle, running)) = &self.replication {
            handle.stop_pulling();
            running.stop();
        }
    }
}
