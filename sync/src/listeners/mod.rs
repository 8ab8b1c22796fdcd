//! Listeners over a store: what runs them, and what steers them.

mod blocking;
mod control;
mod handler;
mod lane;
mod options;
mod parked;
mod session;
mod timer_thread;
mod unit;

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use futures_util::future::join_all;
use tidelog_backends::SledStore;
use tidelog_core::{
    CheckpointStore, Clock, Error, EventListener, EventLog, IdSource, Sleeper, SystemClock,
    SystemIds,
};

pub use blocking::BlockingListenerControl;
pub use control::{ListenerControl, ListenerPhase, ListenerStatus};
pub use options::{ListenerOptions, StartAt};
pub use timer_thread::ThreadSleeper;

#[cfg(feature = "kafka")]
pub(crate) use lane::{Lanes, Next, Queued};
#[cfg(feature = "kafka")]
pub(crate) use session::poll_in;

use control::Shared;
pub(crate) use handler::Handler;
pub(crate) use unit::Tools;
use unit::{Unit, WhenStopped};

/// Runs [`EventListener`]s over one store, each from its own durable checkpoint.
///
/// Each listener gets every event at least once, those of one stream in order and one at a time,
/// different streams side by side. How far it is, and which streams it has parked, stands in the
/// store beside the log, and is saved at most once a second: after a crash what was handled since
/// then comes again. Nothing is handed out that a power cut could still take from the log.
///
/// ```
/// use tidelog::{
///     AppendBatch, ContentType, Error, EventEnvelope, EventListener, ExpectedVersion, HandlerError,
///     NewEvent, StreamId, Tidelog,
/// };
///
/// struct Mail;
/// impl EventListener for Mail {
///     async fn on(&self, event: &EventEnvelope) -> Result<(), HandlerError> {
///         println!("mail about {} {}", event.stream, event.event_type);
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("events");
/// let log = Tidelog::open(&path)?;
/// let running = log.listeners().listener("mail", Mail).build()?.start()?;
/// let sold = NewEvent::new("Sold", 1, ContentType::Json, r#"{"article":"tea"}"#);
/// log.append(AppendBatch::new(StreamId::new("Till", "3")?, ExpectedVersion::Any, vec![sold])).await?;
///
/// running.control("mail")?.wait_for(log.last_position()).await?;
/// running.stop()?; // lets running handlers end, and saves
/// log.close().await
/// # }
/// ```
pub struct EventListenerContainer<S = SledStore> {
    units: Vec<Unit<S>>,
}

/// Which listeners a container runs; made by [`EventListenerContainer::builder`] or
/// [`Tidelog::listeners`](crate::Tidelog::listeners).
#[must_use = "nothing runs before the container is built and run"]
pub struct ContainerBuilder<S = SledStore> {
    store: S,
    listeners: Vec<(Box<str>, Handler, ListenerOptions)>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    sleeper: Option<Arc<dyn Sleeper>>,
}

impl<S: EventLog + CheckpointStore> EventListenerContainer<S> {
    /// A container over `store`.
    pub fn builder(store: S) -> ContainerBuilder<S> {
        ContainerBuilder {
            store,
            listeners: Vec::new(),
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            sleeper: None,
        }
    }

    /// Runs all listeners until they are stopped, the store is closed, or one of them cannot go on;
    /// the others are then stopped, too. Handlers run where this is polled: on tokio they may use
    /// tokio.
    ///
    /// Dropping the future stops at once: what was settled since the last save comes again.
    ///
    /// # Errors
    /// The first listener's error that cannot go on: [`Error::Stopped`] by its policy,
    /// [`Error::OtherHistory`] or [`Error::Gap`] (see [`ListenerControl::replay_from`], which may be
    /// called before this is first polled), or what the store met.
    pub async fn run(self) -> Result<(), Error> {
        self.serve(WhenStopped::End).await
    }

    /// Runs all listeners on a thread of their own, for handlers that need no runtime. A listener
    /// that cannot go on stands still, with the reason in its status, until it is told to go on; the
    /// others do not.
    ///
    /// # Errors
    /// [`Error::Io`] when there is no thread to be had.
    pub fn start(self) -> Result<RunningListeners, Error> {
        let controls = self.controls();
        let thread = thread::Builder::new()
            .name("tidelog-listeners".into())
            .spawn(move || pollster::block_on(self.serve(WhenStopped::Wait)));
        let thread = thread.map_err(|error| Error::io("start a thread for", "listeners", error))?;
        Ok(RunningListeners {
            controls,
            thread: Some(thread),
        })
    }

    /// Shows and steers the listener `name`.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when there is none.
    pub fn control(&self, name: &str) -> Result<ListenerControl, Error> {
        find(&self.controls(), name)
    }

    /// Of all listeners, in the order in which they were added.
    pub fn controls(&self) -> Vec<ListenerControl> {
        let shared = self.units.iter().map(|unit| Arc::clone(&unit.shared));
        shared.map(ListenerControl::new).collect()
    }

    /// Runs until it is stopped or the store is closed; a listener that cannot go on stands still.
    pub(crate) async fn run_until_stopped(self) {
        if let Err(error) = self.serve(WhenStopped::Wait).await {
            tracing::error!(%error, "a listener's state was not saved; its last events come again");
        }
    }

    async fn serve(self, when_stopped: WhenStopped) -> Result<(), Error> {
        let controls = self.controls();
        let stop_all = || controls.iter().for_each(ListenerControl::stop);
        let units = self.units.into_iter().map(|unit| async {
            let done = unit.serve(when_stopped).await;
            if done.is_err() {
                stop_all();
            }
            done
        });
        let done = pin!(join_all(units)).await;
        done.into_iter().collect()
    }
}

impl<S> fmt::Debug for EventListenerContainer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.units.iter().map(|unit| unit.shared.name());
        f.debug_tuple("EventListenerContainer")
            .field(&names.collect::<Vec<_>>())
            .finish()
    }
}

impl<S: EventLog + CheckpointStore> ContainerBuilder<S> {
    /// Adds a listener with default options. Its checkpoint is kept under `name`: 1 to 48 of
    /// `a-z 0-9 - _ .`, beginning with a letter.
    pub fn listener(self, name: &str, listener: impl EventListener) -> Self {
        self.listener_with(name, listener, ListenerOptions::default())
    }

    /// Adds a listener.
    pub fn listener_with(
        mut self,
        name: &str,
        listener: impl EventListener,
        options: ListenerOptions,
    ) -> Self {
        let handler: Handler = Arc::new(listener);
        self.listeners.push((name.into(), handler, options));
        self
    }

    /// Where the present moment comes from.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Where randomness comes from.
    pub fn ids(mut self, ids: Arc<dyn IdSource>) -> Self {
        self.ids = ids;
        self
    }

    /// How it waits: a [`ThreadSleeper`], unless set.
    pub fn sleeper(mut self, sleeper: Arc<dyn Sleeper>) -> Self {
        self.sleeper = Some(sleeper);
        self
    }

    /// The container. It holds the names of its listeners from now on.
    ///
    /// # Errors
    /// [`Error::Locked`] when another container has a listener of one of the names,
    /// [`Error::InvalidInput`] for a name that cannot be one, [`Error::Closed`].
    pub fn build(self) -> Result<EventListenerContainer<S>, Error> {
        let tools = Tools {
            clock: self.clock,
            ids: self.ids,
            sleeper: self
                .sleeper
                .unwrap_or_else(|| Arc::new(ThreadSleeper::new())),
        };
        let units = self.listeners.into_iter().map(|(name, handler, options)| {
            Ok(Unit {
                claim: self.store.claim(ensure_free(&name)?)?,
                shared: Arc::new(Shared::new(&name)),
                store: self.store.clone(),
                handler,
                options,
                tools: tools.clone(),
            })
        });
        let units = units.collect::<Result<_, _>>()?;
        Ok(EventListenerContainer { units })
    }
}

impl<S> fmt::Debug for ContainerBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self
            .listeners
            .iter()
            .map(|(name, _, options)| (name, options));
        f.debug_map().entries(names).finish()
    }
}

/// Listeners that run on a thread of their own. Dropping it stops them, as [`stop`](Self::stop) does.
#[derive(Debug)]
pub struct RunningListeners {
    controls: Vec<ListenerControl>,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl RunningListeners {
    /// Shows and steers the listener `name`.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when there is none.
    pub fn control(&self, name: &str) -> Result<ListenerControl, Error> {
        find(&self.controls, name)
    }

    /// Of all listeners, in the order in which they were added.
    pub fn controls(&self) -> &[ListenerControl] {
        &self.controls
    }

    /// Takes no more events, waits for running handlers, at most as long as
    /// [`stop_within`](ListenerOptions::stop_within) says, saves, and ends. Blocks; called on the
    /// listeners' own thread it only tells them to end.
    ///
    /// # Errors
    /// What kept a checkpoint from being saved.
    pub fn stop(mut self) -> Result<(), Error> {
        self.stop_and_join()
    }

    fn stop_and_join(&mut self) -> Result<(), Error> {
        self.controls.iter().for_each(ListenerControl::stop);
        match self.thread.take() {
            Some(running) if running.thread().id() != thread::current().id() => {
                // A panic there is none of a handler: those are caught.
                running.join().unwrap_or(Err(Error::Closed))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for RunningListeners {
    fn drop(&mut self) {
        if let Err(error) = self.stop_and_join() {
            tracing::error!(%error, "stopping the listeners failed; their last events come again");
        }
    }
}

fn find(controls: &[ListenerControl], name: &str) -> Result<ListenerControl, Error> {
    let found = controls.iter().find(|control| control.name() == name);
    found
        .cloned()
        .ok_or_else(|| Error::invalid("listener", name, "the container has none of this name"))
}

/// Refuses names that the library keeps for states of its own.
fn ensure_free(name: &str) -> Result<&str, Error> {
    if ["sink.", "peer."].iter().any(|kept| name.starts_with(kept)) {
        let reason = "names beginning with 'sink.' and 'peer.' are kept for replication";
        return Err(Error::invalid("listener name", name, reason));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::ensure_free;

    #[test]
    fn names_of_the_library_s_own_states_are_refused() {
        for kept in ["sink.scylla", "sink.x", "peer.1"] {
            let refused = ensure_free(kept).unwrap_err();
            assert!(refused.to_string().contains(kept), "{refused}");
        }
        assert_eq!(ensure_free("sinks").unwrap(), "sinks");
    }
}
