//! Projections at work: one thread feeds all read models of a store from its log.

mod alarm;
mod cursors;
mod mailbox;
mod model;
mod progress;
mod read_model;
mod runner;
mod worker;

use std::any::Any;
use std::fmt;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::{Mutex, RwLock};
use tidelog_core::{
    Clock, Error, EventLog, IdSource, Poison, Prepared, Projection, RetryPolicy, RowStore, Sleeper,
    SystemClock, SystemIds,
};

use mailbox::Mailbox;
use model::Model;
use runner::Runner;
use worker::{Tools, TypedWorker, Worker};

pub use progress::{ProjectionState, ProjectionStatus};
pub use read_model::{BlockingReadModel, ReadModel};

/// What a projection does about an event that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProjectionOptions {
    /// How often it is tried; 3 times unless set. A projection is a fold: what fails once mostly
    /// fails again.
    pub retry: RetryPolicy,
    /// What follows then; it stops, unless set.
    pub poison: Poison,
}

impl Default for ProjectionOptions {
    fn default() -> Self {
        Self {
            retry: RetryPolicy {
                attempts: 3,
                ..RetryPolicy::default()
            },
            poison: Poison::Stop,
        }
    }
}

/// Feeds projections from the log of any store that keeps rows, on a thread of its own, until it
/// is stopped or dropped.
///
/// [`Tidelog::builder`](crate::Tidelog::builder) does this for the embedded store; this is for
/// others:
///
/// ```
/// # use tidelog::{EventEnvelope, HandlerError, Projection, Rows};
/// # use tidelog::{AppendBatch, ContentType, ExpectedVersion, NewEvent, StreamId};
/// use tidelog::{MemoryStore, Projections};
///
/// /// Counts the events of each aggregate type.
/// struct Counts;
/// impl Projection for Counts {
///     const NAME: &'static str = "counts";
///     type Key = String;
///     type Row = u64;
///     fn apply(&self, event: &EventEnvelope, rows: &mut Rows<'_, String, u64>) -> Result<(), HandlerError> {
///         rows.update(event.aggregate_type().to_owned(), |count| *count += 1)
///     }
/// }
///
/// let store = MemoryStore::new();
/// let projections = Projections::builder(store.clone()).projection(Counts).start()?;
/// let counts = projections.get::<Counts>()?.blocking();
/// # let store = store.blocking();
/// # let sold = NewEvent::new("Sold", 1, ContentType::Json, "{}");
/// let receipt = store.append(AppendBatch::new(
///     StreamId::new("Till", "3")?,
///     ExpectedVersion::NoStream,
///     vec![sold],
/// ))?;
/// counts.wait_for(receipt.last_position)?;
/// assert_eq!(counts.get(&"Till".to_owned())?, Some(1));
/// # Ok::<(), tidelog::Error>(())
/// ```
pub struct Projections<S> {
    shared: Arc<Shared<S>>,
    /// The prepared projections, in the order of the models.
    prepared: Vec<Arc<dyn Any + Send + Sync>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What read models and the runner share.
pub(crate) struct Shared<S> {
    /// Gone once it is stopped: read models do not keep a store open.
    stores: RwLock<Option<Stores<S>>>,
    models: Vec<Arc<Model>>,
    mailbox: Arc<Mailbox>,
}

/// One store, for async callers and for threads that may block.
#[derive(Clone)]
pub(crate) struct Stores<S> {
    pub(crate) asynchronous: S,
    pub(crate) blocking: S,
}

impl<S> Shared<S> {
    fn stores(&self) -> Result<Stores<S>, Error>
    where
        S: Clone,
    {
        self.stores.read().clone().ok_or(Error::Closed)
    }

    /// Lets the runner end, and everybody who asks or waits know.
    fn stop(&self) {
        self.mailbox.stop();
        for model in &self.models {
            model.close();
        }
        let stores = self.stores.write().take();
        // Outside the lock: it may be the last handle of the store.
        drop(stores);
    }
}

impl<S: EventLog + RowStore> Projections<S> {
    /// Projections over `store`; nothing happens before [`start`](ProjectionsBuilder::start).
    pub fn builder(store: S) -> ProjectionsBuilder<S> {
        ProjectionsBuilder {
            store,
            registrations: Registrations::default(),
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            sleeper: None,
        }
    }

    /// The read model of `P`.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when `P` was not registered.
    pub fn get<P: Projection>(&self) -> Result<ReadModel<P, S>, Error> {
        self.named(P::NAME)
    }

    /// The read model of a `P` that was registered as `name`.
    pub(crate) fn named<P: Projection>(&self, name: &str) -> Result<ReadModel<P, S>, Error> {
        let mut models = self.prepared.iter().zip(&self.shared.models).enumerate();
        let found = models.find_map(|(number, (prepared, model))| {
            let prepared = Arc::clone(prepared).downcast::<Prepared<P>>().ok()?;
            (&*model.name == name).then_some((number, prepared, model))
        });
        let Some((number, prepared, model)) = found else {
            let reason = "it is not registered with this store; do so when it is opened";
            return Err(Error::invalid("projection", name, reason));
        };
        Ok(ReadModel::new(
            prepared,
            number,
            Arc::clone(model),
            Arc::clone(&self.shared),
        ))
    }

    /// How far each one is, in the order they were registered in.
    pub fn status(&self) -> Vec<ProjectionStatus> {
        let last = self
            .shared
            .stores()
            .map(|stores| stores.blocking.last_position());
        let models = self.shared.models.iter();
        models
            .map(|model| model.status(last.clone().unwrap_or(0)))
            .collect()
    }

    /// Returns once every inline projection has taken in everything up to `position`, or cannot
    /// for now: it is stopped, or its rows are being made and none serve. What an append waits for.
    /// Cancel safe.
    pub async fn applied(&self, position: u64) {
        for model in self.shared.models.iter().filter(|model| model.inline) {
            while !model.lets_go(position) {
                let changed = model.listen();
                if model.lets_go(position) {
                    break;
                }
                changed.await;
            }
        }
    }

    /// Catches inline projections up to the present end of the log; `progress` is told how far the
    /// hindmost one is, and may cancel.
    pub(crate) fn catch_up(
        &self,
        mut progress: impl FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let last = self.shared.stores()?.blocking.last_position();
        for model in self.shared.models.iter().filter(|model| model.inline) {
            loop {
                let changed = model.listen();
                let status = model.status(last);
                let there = match &status.state {
                    ProjectionState::Closed => return Err(Error::Closed),
                    ProjectionState::Stopped(_) => true,
                    ProjectionState::Checking => false,
                    _ => matches!(
                        model.reached(last),
                        Some(Ok(()) | Err(Error::Parked { .. }))
                    ),
                };
                if there {
                    break;
                }
                let done = match status.state {
                    ProjectionState::Rebuilding { position } => position,
                    _ => status.position,
                };
                if progress(done, last).is_break() {
                    return Err(Error::Cancelled {
                        what: "catching up projections",
                    });
                }
                pollster::block_on(changed);
            }
        }
        Ok(())
    }
}

impl<S> Projections<S> {
    pub(crate) fn is_empty(&self) -> bool {
        self.shared.models.is_empty()
    }

    /// Lets the thread end with what it has under way, and waits for that; read models answer
    /// [`Error::Closed`] from now on. Stopping again does nothing.
    pub fn stop(&self) {
        self.shared.stop();
        let Some(thread) = self.thread.lock().take() else {
            return;
        };
        // A waker run on that thread may drop the last handle there.
        if thread.thread().id() != thread::current().id() {
            // A panic there was caught and told.
            let _ = thread.join();
        }
    }
}

impl<S> Drop for Projections<S> {
    fn drop(&mut self) {
        self.stop();
    }
}

impl<S> fmt::Debug for Projections<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.shared.models.iter().map(|model| &*model.name);
        f.debug_list().entries(names).finish()
    }
}

/// Which projections are fed, and with what; made by [`Projections::builder`].
#[must_use = "nothing is fed before `start` is called"]
pub struct ProjectionsBuilder<S> {
    store: S,
    registrations: Registrations<S>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    sleeper: Option<Arc<dyn Sleeper>>,
}

impl<S: EventLog + RowStore> ProjectionsBuilder<S> {
    /// Feeds `projection`, with the default options.
    pub fn projection<P: Projection>(self, projection: P) -> Self {
        self.projection_with(projection, ProjectionOptions::default())
    }

    /// Feeds `projection`.
    pub fn projection_with<P: Projection>(
        mut self,
        projection: P,
        options: ProjectionOptions,
    ) -> Self {
        self.registrations.add(P::NAME, projection, options, false);
        self
    }

    /// Feeds `projection`, which [`Projections::applied`] waits for.
    pub fn inline_projection<P: Projection>(mut self, projection: P) -> Self {
        let options = ProjectionOptions::default();
        self.registrations.add(P::NAME, projection, options, true);
        self
    }

    /// Where the present moment comes from: when a stream was parked.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Where the random part of waits comes from.
    pub fn ids(mut self, ids: Arc<dyn IdSource>) -> Self {
        self.ids = ids;
        self
    }

    /// How the thread waits before it tries again, and before it writes out; by the machine's own
    /// time unless set.
    pub fn sleeper(mut self, sleeper: Arc<dyn Sleeper>) -> Self {
        self.sleeper = Some(sleeper);
        self
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a projection that cannot be, or two of one name; [`Error::Io`]
    /// when no thread can be had.
    pub fn start(self) -> Result<Projections<S>, Error> {
        let stores = Stores {
            asynchronous: self.store.clone(),
            blocking: self.store,
        };
        self.registrations.check()?;
        self.registrations
            .start(stores, self.clock, self.ids, self.sleeper)
    }
}

impl<S> fmt::Debug for ProjectionsBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProjectionsBuilder")
            .field("projections", &self.registrations)
            .finish_non_exhaustive()
    }
}

/// What was registered, before there is a store.
pub(crate) struct Registrations<S>(Vec<Registration<S>>);

struct Registration<S> {
    name: Box<str>,
    version: u32,
    inline: bool,
    prepared: Result<Arc<dyn Any + Send + Sync>, Error>,
    make: Make<S>,
}

type Make<S> = Box<dyn FnOnce(Arc<Model>, Tools<S>) -> Option<Box<dyn Worker>> + Send>;

impl<S> Default for Registrations<S> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<S> fmt::Debug for Registrations<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|registration| &*registration.name);
        f.debug_list().entries(names).finish()
    }
}

impl<S: EventLog + RowStore> Registrations<S> {
    /// Registers `projection` as `name`, which is its own unless it is one of several of its type.
    pub(crate) fn add<P: Projection>(
        &mut self,
        name: &str,
        projection: P,
        options: ProjectionOptions,
        inline: bool,
    ) {
        let prepared = Prepared::new(projection).map(Arc::new);
        let of = prepared.clone();
        self.0.push(Registration {
            name: name.into(),
            version: P::VERSION,
            inline,
            prepared: prepared.map(|prepared| prepared as Arc<dyn Any + Send + Sync>),
            make: Box::new(move |model, tools| {
                let worker = TypedWorker::new(model, of.ok()?, options, tools);
                Some(Box::new(worker))
            }),
        });
    }

    /// Something that cannot be registered; [`check`](Self::check) says so.
    pub(crate) fn refuse(&mut self, name: &str, error: Error) {
        self.0.push(Registration {
            name: name.into(),
            version: 0,
            inline: false,
            prepared: Err(error),
            make: Box::new(|_, _| None),
        });
    }

    /// Refuses what cannot be, before anything is opened.
    pub(crate) fn check(&self) -> Result<(), Error> {
        for (number, registration) in self.0.iter().enumerate() {
            if let Err(error) = &registration.prepared {
                return Err(error.clone());
            }
            if self
                .0
                .iter()
                .take(number)
                .any(|r| r.name == registration.name)
            {
                let reason = "there are two of it; each needs a name of its own";
                return Err(Error::invalid("projection", &registration.name, reason));
            }
        }
        Ok(())
    }

    pub(crate) fn start(
        self,
        stores: Stores<S>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
        sleeper: Option<Arc<dyn Sleeper>>,
    ) -> Result<Projections<S>, Error> {
        let mailbox = Arc::new(Mailbox::default());
        let tools = Tools {
            store: stores.blocking.clone(),
            clock,
            ids,
            sleeper,
            mailbox: Arc::clone(&mailbox),
        };
        let (mut prepared, mut models, mut workers) = (Vec::new(), Vec::new(), Vec::new());
        for one in self.0 {
            let model = Arc::new(Model::new(&one.name, one.version, one.inline));
            prepared.push(one.prepared?);
            workers.extend((one.make)(Arc::clone(&model), tools.clone()));
            models.push(model);
        }
        let shared = Arc::new(Shared {
            stores: RwLock::new(Some(stores)),
            models,
            mailbox,
        });
        let thread = if workers.is_empty() {
            None
        } else {
            Some(spawn(Runner::new(tools, workers), Arc::clone(&shared))?)
        };
        Ok(Projections {
            shared,
            prepared,
            thread: Mutex::new(thread),
        })
    }
}

fn spawn<S: EventLog + RowStore>(
    runner: Runner<S>,
    shared: Arc<Shared<S>>,
) -> Result<JoinHandle<()>, Error> {
    let spawned = thread::Builder::new()
        .name("tidelog-projections".into())
        .spawn(move || {
            // Projections' own panics are caught where they are called; a waker's are not.
            let ran = catch_unwind(AssertUnwindSafe(|| runner.run()));
            if ran.is_err() {
                tracing::error!("projections stopped: their thread panicked");
            }
            shared.stop();
            shared.mailbox.clear();
        });
    spawned.map_err(|error| Error::io("start a thread for", ".", error))
}
