//! What can be seen of a running listener, and what it can be told.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tidelog_core::{Cause, Error, HandlerError, Mark, ParkedStream, StreamId, Timestamp};

use crate::requests::Requests;
use crate::signal::Signal;

use super::blocking::BlockingListenerControl;

/// What a listener does at present.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ListenerPhase {
    /// Its container does not run yet.
    Waiting,
    /// It takes events.
    Running,
    /// It stands still; [`retry`](ListenerControl::retry) or
    /// [`replay_from`](ListenerControl::replay_from) lets it go on.
    Stopped(Error),
    /// It was stopped, or its store was closed, or its container was dropped.
    Ended,
}

/// How far a listener is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ListenerStatus {
    /// Its name.
    pub name: Box<str>,
    /// What it does.
    pub phase: ListenerPhase,
    /// Everything up to this position is settled: handled, not wanted, or parked.
    pub settled: u64,
    /// The newest position of the log when it last took a look.
    pub last_position: u64,
    /// Records above `settled` that it has taken.
    pub taken: usize,
    /// Handlers that run at this moment.
    pub in_flight: usize,
    /// When the longest-running one of them began.
    pub in_flight_since: Option<Timestamp>,
    /// Streams that wait to be tried again.
    pub retrying: usize,
    /// Streams that are parked.
    pub parked: usize,
}

/// Shows and steers one listener; made by
/// [`EventListenerContainer::control`](crate::EventListenerContainer::control). Cheap to clone; it
/// keeps neither the listener nor the store going.
#[derive(Clone)]
pub struct ListenerControl(Arc<Shared>);

/// What a control and its listener have together.
pub(super) struct Shared {
    name: Box<str>,
    view: Mutex<View>,
    requests: Requests<Request>,
    /// Notified when the view has changed.
    changed: Signal,
}

/// What can be seen from outside.
pub(super) struct View {
    pub(super) phase: ListenerPhase,
    pub(super) mark: Mark,
    /// Streams set aside; see [`ListenerState`](tidelog_core::ListenerState).
    pub(super) parked: BTreeMap<StreamId, ParkedStream>,
    pub(super) last_position: u64,
    pub(super) taken: usize,
    pub(super) in_flight: usize,
    pub(super) in_flight_since: Option<Timestamp>,
    pub(super) retrying: usize,
}

/// Answers a request.
pub(super) type Reply = oneshot::Sender<Result<(), Error>>;

pub(super) enum Request {
    Resume {
        stream: StreamId,
        skip: bool,
        reply: Reply,
    },
    Replay {
        position: u64,
        reply: Reply,
    },
    Retry {
        reply: Reply,
    },
    Stop,
}

impl Shared {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            view: Mutex::new(View {
                phase: ListenerPhase::Waiting,
                mark: Mark::START,
                parked: BTreeMap::new(),
                last_position: 0,
                taken: 0,
                in_flight: 0,
                in_flight_since: None,
                retrying: 0,
            }),
            requests: Requests::default(),
            changed: Signal::default(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock()
    }

    pub(super) fn set_phase(&self, phase: ListenerPhase) {
        self.view().phase = phase;
        self.notify();
    }

    /// Tells whoever waits that the view has changed.
    pub(super) fn notify(&self) {
        self.changed.notify();
    }

    pub(super) fn requests(&self) -> &Requests<Request> {
        &self.requests
    }

    /// Nothing is taken any more: whoever waits for an answer gets none.
    pub(super) fn end(&self) {
        self.view().phase = ListenerPhase::Ended;
        self.requests.end();
        self.notify();
    }

    /// [`Error::Stopped`] of this listener, at its settled position.
    pub(super) fn stopped(&self, source: Cause) -> Error {
        Error::Stopped {
            what: self.what(),
            position: self.view().mark.position,
            source,
        }
    }

    pub(super) fn was_told_to_stop(&self) -> Error {
        let reason = HandlerError::passing("it was told to stop, or its store was closed");
        self.stopped(Arc::clone(reason.cause()))
    }

    /// How errors call it.
    pub(super) fn what(&self) -> Box<str> {
        format!("listener {}", self.name).into()
    }
}

impl ListenerControl {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// The listener's name.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The same calls for threads without a runtime.
    pub fn blocking(&self) -> BlockingListenerControl {
        BlockingListenerControl::new(self.clone())
    }

    /// What it does and how far it is.
    pub fn status(&self) -> ListenerStatus {
        let view = self.0.view();
        let held = view.parked.values().filter(|stream| stream.held() > 0);
        ListenerStatus {
            name: self.0.name.clone(),
            phase: view.phase.clone(),
            settled: view.mark.position,
            last_position: view.last_position,
            taken: view.taken,
            in_flight: view.in_flight,
            in_flight_since: view.in_flight_since,
            retrying: view.retrying,
            parked: held.count(),
        }
    }

    /// The streams that are parked, each with its reason, in the order of their names.
    pub fn parked(&self) -> Vec<ParkedStream> {
        let view = self.0.view();
        let held = view.parked.values().filter(|stream| stream.held() > 0);
        held.cloned().collect()
    }

    /// Handles what is held of `stream`, then takes it in as before. Answers when nothing of it is
    /// held any more and that is saved.
    ///
    /// Cancel safe: dropping the call does not end what it began.
    ///
    /// # Errors
    /// [`Error::Parked`] when an event still fails: the stream is parked there again.
    /// [`Error::InvalidInput`] when nothing of it is parked; [`Error::Stopped`] when the listener
    /// stands still or is stopped meanwhile.
    pub async fn resume(&self, stream: &StreamId) -> Result<(), Error> {
        self.ask(|reply| Request::Resume {
            stream: stream.clone(),
            skip: false,
            reply,
        })
        .await
    }

    /// Passes over the event that could not be handled, and over no other; then as
    /// [`resume`](Self::resume).
    ///
    /// # Errors
    /// As there.
    pub async fn skip(&self, stream: &StreamId) -> Result<(), Error> {
        self.ask(|reply| Request::Resume {
            stream: stream.clone(),
            skip: true,
            reply,
        })
        .await
    }

    /// Lets running handlers end, then begins again with the event at `position`: everything from
    /// there on is delivered anew. What is parked at or after it is forgotten, since it is met
    /// again. Answers when that is saved.
    ///
    /// This is how a listener goes on whose checkpoint is of another history, or that has met a gap.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a position beyond the log's end; [`Error::Stopped`] when the
    /// listener is stopped meanwhile, or its state cannot be saved.
    pub async fn replay_from(&self, position: u64) -> Result<(), Error> {
        self.ask(|reply| Request::Replay { position, reply }).await
    }

    /// Goes on after [`Stopped`](ListenerPhase::Stopped): the event that failed is tried again. Does
    /// nothing while it runs.
    ///
    /// # Errors
    /// [`Error::Stopped`] when it has ended.
    pub async fn retry(&self) -> Result<(), Error> {
        self.ask(|reply| Request::Retry { reply }).await
    }

    /// Returns once everything up to `position` is settled. Cancel safe.
    ///
    /// # Errors
    /// Why the listener stands still, or [`Error::Stopped`] when it has ended.
    pub async fn wait_for(&self, position: u64) -> Result<(), Error> {
        loop {
            let changed = self.0.changed.listen();
            let (settled, phase) = {
                let view = self.0.view();
                (view.mark.position, view.phase.clone())
            };
            match phase {
                _ if settled >= position => return Ok(()),
                ListenerPhase::Stopped(error) => return Err(error),
                ListenerPhase::Ended => return Err(self.0.was_told_to_stop()),
                ListenerPhase::Waiting | ListenerPhase::Running => changed.await,
            }
        }
    }

    /// Returns once the listener has ended. Cancel safe.
    pub async fn ended(&self) {
        loop {
            let changed = self.0.changed.listen();
            if matches!(self.0.view().phase, ListenerPhase::Ended) {
                return;
            }
            changed.await;
        }
    }

    /// Takes no more events, lets running handlers end, saves, and ends.
    pub fn stop(&self) {
        self.0.requests().ask(Request::Stop);
    }

    async fn ask(&self, request: impl FnOnce(Reply) -> Request) -> Result<(), Error> {
        let (reply, answer) = oneshot::async_channel();
        self.0.requests().ask(request(reply));
        answer
            .await
            .unwrap_or_else(|_| Err(self.0.was_told_to_stop()))
    }
}

impl fmt::Debug for ListenerControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ListenerControl")
            .field(&self.status())
            .finish()
    }
}
