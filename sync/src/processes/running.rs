//! The managers of an open store, on a thread of their own.

use std::any::TypeId;
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use futures_util::future::{join_all, select};
use parking_lot::Mutex;
use tidelog_backends::SledStore;
use tidelog_core::{
    BoxFuture, Command, CommandBus, CommandError, CommandResponse, Context, Decide, Error, EventId,
    EventLog, EventStore, ProcessManager, Sleeper, StreamId, Timers,
};

use super::{ProcessListener, TimerLoop};
use crate::listeners::{EventListenerContainer, ListenerControl, ListenerOptions, ThreadSleeper};
use crate::projections::Projections;
use crate::repositories::Repositories;

/// A manager that is to be run, whatever its type.
pub(crate) type Manager = Box<dyn FnOnce(&mut Starting<'_>) -> Result<(), Error> + Send>;

/// `manager`, to be run once the store is open; its timers are among the store's projections.
pub(crate) fn manager<M: ProcessManager>(manager: Arc<M>, options: ListenerOptions) -> Manager {
    Box::new(|starting| starting.add(manager, options))
}

/// Executes managers' commands. It keeps the store open, as the thread does that holds it; whoever
/// closes the store ends that thread first.
#[derive(Clone)]
pub(crate) struct Bus(pub(crate) Arc<Repositories>);

impl CommandBus for Bus {
    async fn execute_with<C>(
        &self,
        command: C,
        context: Context,
    ) -> Result<CommandResponse, CommandError<C>>
    where
        C: Command + Debug + 'static,
        C::Aggregate: Decide<C>,
    {
        let repository = self.0.of::<C::Aggregate>();
        repository.execute_with(command, context).await
    }

    async fn find_event(&self, stream: &StreamId, event_id: EventId) -> Result<bool, Error> {
        let found = self.0.store().find_event(stream, event_id).await?;
        Ok(found.is_some())
    }
}

/// Managers that are about to run.
pub(crate) struct Starting<'a> {
    bus: &'a Bus,
    projections: &'a Projections<SledStore>,
    sleeper: Arc<dyn Sleeper>,
    runs: Vec<BoxFuture<'static, ()>>,
    controls: HashMap<TypeId, ListenerControl>,
}

impl Starting<'_> {
    fn add<M: ProcessManager>(
        &mut self,
        manager: Arc<M>,
        options: ListenerOptions,
    ) -> Result<(), Error> {
        let bus = self.bus;
        let (store, settings) = (bus.0.store(), bus.0.settings());
        let listener = ProcessListener::of(manager, bus.clone())
            .with_clock(Arc::clone(&settings.clock))
            .with_ids(Arc::clone(&settings.ids));
        let timers = self.projections.get::<Timers<M>>()?;
        let timers = TimerLoop::new(&listener, timers, Arc::clone(&self.sleeper));
        let name = ProcessListener::<M, Bus>::listener_name();
        let container = EventListenerContainer::builder(store.clone())
            .listener_with(&name, listener, options)
            .clock(Arc::clone(&settings.clock))
            .ids(Arc::clone(&settings.ids))
            .sleeper(Arc::clone(&self.sleeper))
            .build()?;
        self.controls
            .insert(TypeId::of::<M>(), container.control(&name)?);
        let position = store.last_position();
        self.runs.push(Box::pin(async move {
            let events = Box::pin(container.run_until_stopped());
            // Timers end with the events: when the store is closed, or the manager stopped.
            let timers = Box::pin(timers.run(position));
            if let futures_util::future::Either::Right(((), events)) = select(events, timers).await
            {
                events.await;
            }
        }));
        Ok(())
    }
}

/// Running managers; dropping it stops them and waits for that.
pub(crate) struct Processes {
    controls: HashMap<TypeId, ListenerControl>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Processes {
    /// Starts `managers`; without any there is no thread.
    pub(crate) fn start(
        managers: Vec<Manager>,
        bus: &Bus,
        projections: &Projections<SledStore>,
    ) -> Result<Self, Error> {
        let settings = bus.0.settings();
        let mut starting = Starting {
            bus,
            projections,
            sleeper: settings
                .sleeper
                .clone()
                .unwrap_or_else(|| Arc::new(ThreadSleeper::new())),
            runs: Vec::new(),
            controls: HashMap::new(),
        };
        for manager in managers {
            manager(&mut starting)?;
        }
        let Starting { runs, controls, .. } = starting;
        let mut thread = None;
        if !runs.is_empty() {
            let spawned = thread::Builder::new()
                .name("tidelog-processes".into())
                .spawn(move || drop(pollster::block_on(join_all(runs))));
            thread = Some(spawned.map_err(|e| Error::io("start a thread for", "processes", e))?);
        }
        Ok(Self {
            controls,
            thread: Mutex::new(thread),
        })
    }

    pub(crate) fn control<M: ProcessManager>(&self) -> Result<ListenerControl, Error> {
        let control = self.controls.get(&TypeId::of::<M>());
        control.cloned().ok_or_else(|| {
            let reason = "it was not given to the builder of this store";
            Error::invalid("process manager", M::NAME, reason)
        })
    }

    /// Whether there is anything to stop.
    pub(crate) fn is_empty(&self) -> bool {
        self.controls.is_empty()
    }

    /// Takes no more events, lets the commands under way end, saves, and waits for all that; on the
    /// managers' own thread it only says so.
    pub(crate) fn stop(&self) {
        self.controls.values().for_each(ListenerControl::stop);
        let thread = self.thread.lock().take();
        if let Some(thread) = thread
            && thread.thread().id() != thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the process managers panicked");
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.stop();
    }
}
