//! What runs a listener over Kafka.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tidelog_core::{Clock, Error, EventListener, IdSource, Sleeper, SystemClock, SystemIds};
use tracing::Instrument as _;

use super::config::KafkaListenerConfig;
use super::consumer::{KafkaFeed, Membership};
use super::control::KafkaControl;
use super::decode::decode;
use super::replay::Replay;
use super::session::{End, Session, Setup, answer};
use super::shared::{Request, Shared};
use crate::listeners::{
    EventListenerContainer, Handler, ListenerOptions, ListenerPhase, StartAt, ThreadSleeper, Tools,
};

impl EventListenerContainer {
    /// A container that hears from Kafka: one member of a group, with one listener.
    ///
    /// ```no_run
    /// use tidelog::{
    ///     Error, EventEnvelope, EventListener, EventListenerContainer, HandlerError,
    ///     KafkaListenerConfig, TopicSpec,
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
    /// let config = KafkaListenerConfig::new(["kafka1:9092"], "mail").topic_prefix("shop.").types(["Till"]);
    /// config.ensure_topics(TopicSpec::new(12, 3)).await?; // for what cannot be handled; once, by whoever deploys
    /// let running = EventListenerContainer::kafka(config).listener(Mail).build()?.start()?;
    ///
    /// println!("{:?}", running.control().status().places);
    /// running.stop() // lets running handlers end, commits, and leaves the group
    /// # }
    /// ```
    pub fn kafka(config: KafkaListenerConfig) -> KafkaContainerBuilder {
        KafkaContainerBuilder {
            config,
            listener: None,
            others: 0,
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            sleeper: None,
        }
    }
}

/// What a container over Kafka runs; made by [`EventListenerContainer::kafka`].
#[must_use = "nothing runs before the container is built and run"]
pub struct KafkaContainerBuilder {
    config: KafkaListenerConfig,
    listener: Option<(Handler, ListenerOptions)>,
    others: usize,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    sleeper: Option<Arc<dyn Sleeper>>,
}

impl KafkaContainerBuilder {
    /// Its listener, with default options. A second listener is another group, with a container of its
    /// own.
    pub fn listener(self, listener: impl EventListener) -> Self {
        self.listener_with(listener, ListenerOptions::default())
    }

    /// Its listener. Options mean what they mean over a store, with keys in place of streams and offsets
    /// in place of positions:
    ///
    /// - a group without offsets starts at the [`Beginning`](StartAt::Beginning) or at the
    ///   [`End`](StartAt::End); nothing else can be said;
    /// - [`Poison::Park`](crate::Poison::Park) writes the record and what follows it of its key to the
    ///   dead-letter topic, [`Poison::Stop`](crate::Poison::Stop) leaves the group and stands still;
    /// - `max_parked` counts the keys of the whole group.
    pub fn listener_with(mut self, listener: impl EventListener, options: ListenerOptions) -> Self {
        self.others += usize::from(self.listener.is_some());
        self.listener = Some((Arc::new(listener), options));
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

    /// The container. Nobody is called yet.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a configuration that cannot be, without a listener, or with two.
    pub fn build(self) -> Result<KafkaContainer, Error> {
        self.config.check()?;
        let refuse = |reason| Error::invalid("kafka container", &self.config.group, reason);
        let listener = self.listener;
        let (handler, options) = listener.ok_or_else(|| refuse("it has no listener"))?;
        if self.others > 0 {
            let reason = "it has one listener; a second one is another group's";
            return Err(refuse(reason));
        }
        if let StartAt::After(_) = options.start {
            let reason = "a group starts at the beginning or at the end";
            return Err(refuse(reason));
        }
        let sleeper = self.sleeper;
        let tools = Tools {
            clock: self.clock,
            ids: self.ids,
            sleeper: sleeper.unwrap_or_else(|| Arc::new(ThreadSleeper::new())),
        };
        Ok(KafkaContainer {
            setup: Setup {
                shared: Arc::new(Shared::new(&self.config.group)),
                handler,
                decode,
                options,
                hold_for: self.config.hold_for,
                tools,
            },
            replay: Replay::new(self.config.clone()),
            config: self.config,
        })
    }
}

impl fmt::Debug for KafkaContainerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaContainerBuilder")
            .field("config", &self.config)
            .field(
                "options",
                &self.listener.as_ref().map(|(_, options)| options),
            )
            .finish_non_exhaustive()
    }
}

/// A listener over Kafka: one member of a group.
///
/// It gets every event of the partitions that the group gives it at least once, those of one key in
/// order and one at a time, different keys side by side. What was handled is committed at most once a
/// second: after a crash, or when partitions go to another member that is missed, what was handled since
/// then comes again. With [`InOrder`](crate::InOrder) each event of a store's takes effect once.
pub struct KafkaContainer {
    config: KafkaListenerConfig,
    setup: Setup,
    replay: Arc<Replay>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WhenStopped {
    End,
    Wait,
}

impl KafkaContainer {
    /// Shows and steers it.
    pub fn control(&self) -> KafkaControl {
        KafkaControl::new(Arc::clone(&self.setup.shared), Arc::clone(&self.replay))
    }

    /// Runs until it is stopped, or cannot go on. Handlers run where this is polled: on tokio they may
    /// use tokio.
    ///
    /// Dropping the future stops at once: what was handled since the last commit comes again.
    ///
    /// # Errors
    /// [`Error::Stopped`] by its policy, [`Error::NoTopic`] without a topic for dead letters,
    /// [`Error::InvalidInput`] when librdkafka refuses a setting, [`Error::ServerRefused`] when the
    /// cluster does not have it as a member.
    pub async fn run(self) -> Result<(), Error> {
        self.serve(WhenStopped::End).await
    }

    /// Runs on a thread of its own, for handlers that need no runtime. When it cannot go on it leaves
    /// the group and stands still, with the reason in its status, until it is told to go on.
    ///
    /// # Errors
    /// [`Error::Io`] when there is no thread to be had.
    pub fn start(self) -> Result<RunningKafkaListeners, Error> {
        let control = self.control();
        let thread = thread::Builder::new()
            .name("tidelog-listeners".into())
            .spawn(move || pollster::block_on(self.serve(WhenStopped::Wait)));
        let thread = thread.map_err(|error| Error::io("start a thread for", "listeners", error))?;
        Ok(RunningKafkaListeners {
            control,
            thread: Some(thread),
        })
    }

    async fn serve(self, when_stopped: WhenStopped) -> Result<(), Error> {
        let shared = &self.setup.shared;
        // Whatever ends it, nobody waits for its answers any more.
        let _ends = Ends(shared);
        loop {
            shared.set_phase(ListenerPhase::Running);
            let error = match self.session().await {
                Ok(End::Stop(uncommitted)) => return uncommitted.map_or(Ok(()), Err),
                Ok(End::Failed(error)) | Err(error) => error,
            };
            tracing::error!(group = &*self.config.group, %error, "a listener stands still");
            shared.set_phase(ListenerPhase::Stopped(error.clone()));
            if when_stopped == WhenStopped::End {
                return Err(error);
            }
            loop {
                match poll_fn(|cx| shared.requests().poll_next(cx)).await {
                    Request::Stop => return Ok(()),
                    Request::Resume { reply, .. } => drop(reply.send(Err(error.clone()))),
                    Request::Retry { reply } => {
                        // Whoever is answered must not meet the state of before.
                        shared.set_phase(ListenerPhase::Running);
                        answer(reply, Ok(()));
                        break;
                    }
                }
            }
        }
    }

    async fn session(&self) -> Result<End, Error> {
        let membership = Membership {
            topics: self.config.subscription()?,
            starts_at_end: self.setup.options.start == StartAt::End,
            id: self.setup.tools.ids.next_uuid(),
        };
        let topics = membership.topics.join(",");
        let feed = KafkaFeed::open(&membership, &self.config)?;
        let span = tracing::info_span!("listen", group = &*self.config.group, topics);
        Ok(Session::new(&self.setup, feed).run().instrument(span).await)
    }
}

impl fmt::Debug for KafkaContainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KafkaContainer").field(&self.config).finish()
    }
}

struct Ends<'a>(&'a Shared);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A listener over Kafka that runs on a thread of its own. Dropping it stops it, as
/// [`stop`](Self::stop) does.
#[derive(Debug)]
pub struct RunningKafkaListeners {
    control: KafkaControl,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl RunningKafkaListeners {
    /// Shows and steers it.
    pub fn control(&self) -> KafkaControl {
        self.control.clone()
    }

    /// Takes no more records, waits for running handlers, at most as long as
    /// [`stop_within`](ListenerOptions::stop_within) says, commits, leaves the group, and ends. Blocks;
    /// called on the listener's own thread it only tells it to end.
    ///
    /// # Errors
    /// [`Error::Stopped`] when the last offsets could not be committed: their events come again.
    pub fn stop(mut self) -> Result<(), Error> {
        self.stop_and_join()
    }

    fn stop_and_join(&mut self) -> Result<(), Error> {
        self.control.stop();
        match self.thread.take() {
            Some(running) if running.thread().id() != thread::current().id() => {
                // A panic there is none of a handler: those are caught.
                running.join().unwrap_or(Err(Error::Closed))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for RunningKafkaListeners {
    fn drop(&mut self) {
        if let Err(error) = self.stop_and_join() {
            tracing::error!(%error, "stopping a listener failed; its last events come again");
        }
    }
}
