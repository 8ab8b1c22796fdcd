//! What is under way: requests and answers. Nothing of it moves by itself; the
//! scheduler chooses what happens next.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tidelog_backends::wire::{ErrorClass, Reply, Request, Wire, WireError};
use tidelog_core::BoxFuture;

use crate::sim::jobs::Jobs;

/// How long a client waits for an answer.
pub(super) const TIMEOUT: Duration = Duration::from_secs(12);
/// How long it waits for an answer to a question whether anybody is there.
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// How long it waits for a connection.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What somebody asks.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    Connect,
    Request(Request),
}

/// An answer; that to [`Ask::Connect`] is [`Reply::Done`].
pub(super) type Answer = Result<Reply, WireError>;

/// Where a message is.
#[derive(Debug)]
pub(super) enum Place {
    /// On its way to the server.
    Sent,
    /// On its way back.
    Answered(Answer),
    /// Nowhere; who waits for it does not know.
    Lost,
}

/// A question on its way, or its answer.
#[derive(Debug)]
pub(super) struct Message {
    /// Who asks.
    pub node: usize,
    pub ask: Ask,
    pub place: Place,
    /// When the client gives up; none when it has, or is gone.
    pub deadline: Option<Duration>,
    waker: Option<Waker>,
}

#[derive(Default)]
pub(super) struct Net {
    pub messages: BTreeMap<u64, Message>,
    /// What came back and was not looked at yet.
    arrived: BTreeMap<u64, Answer>,
    next: u64,
    /// How much was ever asked.
    pub asked: u64,
    /// What time it is.
    pub now: Duration,
    /// Whose connections are dead: nothing that is asked by them arrives before there are others.
    pub dead: BTreeSet<usize>,
    /// Who has woken up and had something to send since then, and sent nothing yet.
    pub woken: BTreeMap<usize, Duration>,
}

impl Net {
    /// Nobody waits for this message any more: if it is not under way to the server it is over.
    fn let_go(&mut self, key: u64) -> Option<Waker> {
        let message = self.messages.get_mut(&key)?;
        message.deadline = None;
        let waker = message.waker.take();
        if !matches!(message.place, Place::Sent) {
            self.messages.remove(&key);
        }
        waker
    }
}

/// The net, shared with all who ask.
#[derive(Clone, Default)]
pub(super) struct SharedNet {
    net: Arc<Mutex<Net>>,
    /// Writes to disks.
    pub jobs: Jobs,
}

impl SharedNet {
    pub(super) fn lock(&self) -> parking_lot::MutexGuard<'_, Net> {
        self.net.lock()
    }

    /// Whether somebody waits for an answer.
    pub(super) fn waits(&self, node: usize) -> bool {
        let net = self.lock();
        let mut messages = net.messages.values();
        messages.any(|message| message.node == node && message.deadline.is_some())
    }

    /// The server's answer is on its way, if anybody waits for it.
    pub(super) fn answer(&self, key: u64, answer: Answer) {
        self.put(key, Place::Answered(answer));
    }

    /// A message, or its answer, is lost.
    pub(super) fn lose(&self, key: u64) {
        self.put(key, Place::Lost);
    }

    fn put(&self, key: u64, place: Place) {
        let mut net = self.lock();
        match net.messages.get_mut(&key) {
            Some(message) if message.deadline.is_some() => message.place = place,
            _ => {
                net.messages.remove(&key);
            }
        }
    }

    /// A second copy of a request is under way, whose answer nobody waits for.
    pub(super) fn copy(&self, key: u64) {
        let mut net = self.lock();
        let Some(message) = net.messages.get(&key) else {
            return;
        };
        let copy = Message {
            node: message.node,
            ask: message.ask.clone(),
            place: Place::Sent,
            deadline: None,
            waker: None,
        };
        net.next += 1;
        let key = net.next;
        net.messages.insert(key, copy);
    }

    /// Brings an answer to who waits for it.
    pub(super) fn deliver(&self, key: u64) {
        let waker = {
            let mut net = self.lock();
            let Some(message) = net.messages.remove(&key) else {
                return;
            };
            if let Place::Answered(answer) = message.place {
                net.arrived.insert(key, answer);
            }
            message.waker
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The client gives up; what it asked may still be on its way.
    pub(super) fn give_up(&self, key: u64) {
        let waker = {
            let mut net = self.lock();
            let waker = net.let_go(key);
            net.arrived
                .insert(key, Err(unclear("no answer came in time")));
            waker
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

pub(super) fn unclear(text: &str) -> WireError {
    WireError {
        class: ErrorClass::Unclear,
        text: text.into(),
    }
}

pub(super) fn not_sent(text: &str) -> WireError {
    WireError {
        class: ErrorClass::NotSent,
        text: text.into(),
    }
}

/// The wire of one node.
#[derive(Clone)]
pub(super) struct SimWire {
    pub net: SharedNet,
    pub node: usize,
}

impl SimWire {
    fn send(&self, ask: Ask, timeout: Duration) -> Pending {
        self.net.jobs.call();
        let mut net = self.net.lock();
        net.next += 1;
        net.asked += 1;
        let key = net.next;
        let deadline = Some(net.now + timeout);
        let is_dead = net.dead.contains(&self.node) && !matches!(ask, Ask::Connect);
        if !is_dead {
            net.woken.remove(&self.node);
        }
        let place = if is_dead { Place::Lost } else { Place::Sent };
        let message = Message {
            node: self.node,
            ask,
            place,
            deadline,
            waker: None,
        };
        net.messages.insert(key, message);
        Pending {
            net: self.net.clone(),
            key,
        }
    }
}

/// Waits for an answer.
struct Pending {
    net: SharedNet,
    key: u64,
}

impl Pending {
    async fn answer(self) -> Answer {
        poll_fn(|cx| {
            let mut net = self.net.lock();
            if let Some(answer) = net.arrived.remove(&self.key) {
                return Poll::Ready(answer);
            }
            match net.messages.get_mut(&self.key) {
                Some(message) => message.waker = Some(cx.waker().clone()),
                None => return Poll::Ready(Err(unclear("the message is lost"))),
            }
            Poll::Pending
        })
        .await
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut net = self.net.lock();
        net.arrived.remove(&self.key);
        net.let_go(self.key);
    }
}

impl Wire for SimWire {
    fn ask(&self, request: Request) -> BoxFuture<'_, Result<Reply, WireError>> {
        let timeout = match request {
            Request::Ping => PING_TIMEOUT,
            _ => TIMEOUT,
        };
        Box::pin(async move { self.send(Ask::Request(request), timeout).answer().await })
    }

    fn renew(&self) -> BoxFuture<'_, Result<(), WireError>> {
        Box::pin(async move {
            let answer = self.send(Ask::Connect, CONNECT_TIMEOUT).answer().await;
            if answer.is_ok() {
                self.net.lock().dead.remove(&self.node);
            }
            answer.map(|_| ())
        })
    }
}
