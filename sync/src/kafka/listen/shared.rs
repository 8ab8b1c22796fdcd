//! What a listener and whoever watches and steers it have together.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tidelog_core::{Error, HandlerError, Timestamp};

use super::feed::{ParkedKey, RecordKey};
use super::status::{KafkaListenerStatus, KafkaPlaceStatus};
use crate::listeners::ListenerPhase;
use crate::requests::Requests;
use crate::signal::{Listener, Signal};

/// What a control and its listener have together.
pub(super) struct Shared {
    group: Box<str>,
    view: Mutex<View>,
    requests: Requests<Request>,
    /// Notified when the view has changed.
    changed: Signal,
}

/// What can be seen from outside.
pub(super) struct View {
    pub(super) phase: ListenerPhase,
    pub(super) places: Vec<KafkaPlaceStatus>,
    /// Of the whole group.
    pub(super) parked: BTreeMap<RecordKey, ParkedKey>,
    pub(super) in_flight: usize,
    pub(super) in_flight_since: Option<Timestamp>,
    pub(super) retrying: usize,
    pub(super) held: usize,
    pub(super) garbage: u64,
    pub(super) handled: u64,
    pub(super) rebalances: u64,
    pub(super) last_error: Option<Error>,
}

/// Answers a request.
pub(super) type Reply = oneshot::Sender<Result<(), Error>>;
type Answer = oneshot::AsyncReceiver<Result<(), Error>>;
pub(super) type ResumeReply = oneshot::Sender<Result<Vec<Answer>, Error>>;

pub(super) enum Request {
    /// Answered with one to wait for of each key that is meant.
    Resume {
        which: Box<str>,
        skip: bool,
        reply: ResumeReply,
    },
    Retry {
        reply: Reply,
    },
    Stop,
}

impl Shared {
    pub(super) fn new(group: &str) -> Self {
        Self {
            group: group.into(),
            view: Mutex::new(View {
                phase: ListenerPhase::Waiting,
                places: Vec::new(),
                parked: BTreeMap::new(),
                in_flight: 0,
                in_flight_since: None,
                retrying: 0,
                held: 0,
                garbage: 0,
                handled: 0,
                rebalances: 0,
                last_error: None,
            }),
            requests: Requests::default(),
            changed: Signal::default(),
        }
    }

    pub(super) fn group(&self) -> &str {
        &self.group
    }

    pub(super) fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock()
    }

    pub(super) fn status(&self) -> KafkaListenerStatus {
        let view = self.view();
        KafkaListenerStatus {
            group: self.group.clone(),
            phase: view.phase.clone(),
            places: view.places.clone(),
            in_flight: view.in_flight,
            in_flight_since: view.in_flight_since,
            retrying: view.retrying,
            held: view.held,
            parked: view.parked.len(),
            garbage: view.garbage,
            handled: view.handled,
            rebalances: view.rebalances,
            last_error: view.last_error.clone(),
        }
    }

    pub(super) fn set_phase(&self, phase: ListenerPhase) {
        self.view().phase = phase;
        self.changed.notify();
    }

    /// Ends with the next change of the view.
    pub(super) fn changed(&self) -> Listener<'_> {
        self.changed.listen()
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
        self.changed.notify();
    }

    pub(super) fn was_told_to_stop(&self) -> Error {
        let reason = HandlerError::passing("it was told to stop, or is not running");
        Error::Stopped {
            what: self.what(),
            position: 0,
            source: Arc::clone(reason.cause()),
        }
    }

    /// How errors call it.
    pub(super) fn what(&self) -> Box<str> {
        format!("the listener of group {}", self.group).into()
    }
}
