//! Kafka in memory: brokers, producers as librdkafka makes them, and what is under way between them.
//! Nothing moves by itself; somebody chooses what happens next.
//!
//! | file | subject |
//! |---|---|
//! | `cluster` | what the brokers have |
//! | `producer` | one producer, from its making to its end |
//! | `moves` | what can happen next, and what can go wrong |
//! | `asks` | questions on their way, and their answers |
//!
//! It does what brokers and librdkafka do for what the publisher asks, and for nothing else: `cases`
//! ask it and a real broker the same and want the same.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "these are tests"
)]

mod asks;
pub(crate) mod cluster;
pub(crate) mod moves;
mod producer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::{Mutex, MutexGuard};
use tidelog_core::{BoxFuture, Error};
use uuid::Uuid;

use self::asks::{Ask, Asking};
use self::cluster::{Cluster, Stored};
pub(crate) use self::producer::Queue;
use self::producer::{At, Flight, Producer};
use super::broker::{
    Broker, BrokerError, Fatal, Message, NotSent, Offsets, OriginRecord, Place, Report, Tag,
};

/// All there is.
pub(crate) struct State {
    pub cluster: Cluster,
    /// By the id that brokers knew them by at first.
    pub producers: BTreeMap<u64, Producer>,
    asks: BTreeMap<u64, Asking>,
    /// Batches of producers that are over, still on their way.
    late: Vec<Flight>,
    /// Handshake records written and not looked at yet, and whose they are.
    pub marked: Vec<(usize, OriginRecord)>,
    /// Whose messages were queued and not looked at yet: machine, and origin.
    pub sent: Vec<(usize, Uuid)>,
    /// The fence that each client holds.
    fences: BTreeMap<u64, (Uuid, u64)>,
    pub queue: Queue,
    next: u64,
    /// How much was called since the last action.
    calls: u64,
}

/// The cluster, shared with all its clients.
#[derive(Clone)]
pub(crate) struct Fake(Arc<Mutex<State>>);

impl Fake {
    pub(crate) fn new(queue: Queue) -> Self {
        Self(Arc::new(Mutex::new(State {
            cluster: Cluster::new(),
            producers: BTreeMap::new(),
            asks: BTreeMap::new(),
            late: Vec::new(),
            marked: Vec::new(),
            sent: Vec::new(),
            fences: BTreeMap::new(),
            queue,
            next: 0,
            calls: 0,
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }

    /// A client of it.
    pub(crate) fn broker(&self, node: usize) -> FakeBroker {
        let mut state = self.lock();
        state.next += 1;
        FakeBroker {
            fake: self.clone(),
            node,
            client: state.next,
            producer: None,
        }
    }

    /// The next action begins.
    pub(crate) fn begin(&self) {
        self.lock().calls = 0;
    }

    /// A future that never waits is found out by this.
    fn call(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        state.calls += 1;
        assert!(
            state.calls < 50_000,
            "a future calls without end and never waits"
        );
        state
    }
}

impl State {
    /// Clients take messages of this size from now on.
    pub(crate) fn raise(&mut self, message_bytes: usize) {
        self.queue.message_bytes = message_bytes;
        for producer in self.producers.values_mut() {
            producer.queue.message_bytes = message_bytes;
        }
    }

    /// A producer is over: what it had on its way may still arrive.
    fn leave(&mut self, id: u64) {
        if let Some(producer) = self.producers.remove(&id) {
            let flights = producer.flights.into_iter();
            self.late.extend(flights.filter(|f| f.at == At::Sent));
        }
    }
}

/// One client, as [`KafkaBroker`](super::client::KafkaBroker) is one.
pub(crate) struct FakeBroker {
    fake: Fake,
    node: usize,
    /// Its questions are answered one after the other.
    client: u64,
    producer: Option<u64>,
}

impl FakeBroker {
    fn ask<T: Send + 'static>(
        &self,
        ask: Ask,
        take: impl Fn(asks::Reply) -> Option<T> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, BrokerError>> {
        asks::ask(&self.fake, (self.node, self.client), ask, take)
    }
}

impl Broker for FakeBroker {
    fn renew(&mut self, generation: u32) -> Result<(), Error> {
        self.end();
        let mut state = self.fake.call();
        state.next += 1;
        let id = state.next << 20;
        let producer = Producer::new(self.node, generation, id, state.queue);
        state.producers.insert(id, producer);
        self.producer = Some(id);
        Ok(())
    }

    fn cluster(
        &self,
        names: Vec<Box<str>>,
    ) -> BoxFuture<'static, Result<super::broker::Cluster, BrokerError>> {
        self.ask(Ask::Cluster(names, self.producer), |reply| match reply {
            asks::Reply::Cluster(cluster) => Some(cluster),
            _ => None,
        })
    }

    fn send(&mut self, message: &Message<'_>, tag: Tag) -> Result<(), NotSent> {
        let mut state = self.fake.call();
        let producer = self.producer.and_then(|id| state.producers.get_mut(&id));
        let Some(producer) = producer else {
            return Err(NotSent::Fatal);
        };
        let headers = message.headers.iter();
        let stored = Stored {
            key: message.key.to_vec(),
            headers: headers.map(|(n, v)| (n.to_owned(), v.to_vec())).collect(),
            value: message.value.to_vec(),
        };
        let value = stored.value.clone();
        let sent = producer.send(message.topic, tag, stored);
        match sent {
            Ok(()) => {
                let of = message
                    .headers
                    .iter()
                    .find(|(name, _)| *name == "ce_source");
                let of = of.and_then(|(_, source)| std::str::from_utf8(source).ok());
                let of = of.and_then(|source| source.strip_prefix("urn:uuid:")?.parse().ok());
                state.sent.extend(of.map(|origin| (self.node, origin)));
            }
            Err(NotSent::TooLarge) => {
                state.cluster.condemned.insert(value);
            }
            Err(_) => {}
        }
        sent
    }

    fn poll_reports(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<Report>,
    ) -> Poll<Result<(), Fatal>> {
        let mut state = self.fake.call();
        let producer = self.producer.and_then(|id| state.producers.get_mut(&id));
        let Some(producer) = producer else {
            return Poll::Pending;
        };
        producer.waker = Some(cx.waker().clone());
        if !producer.came.is_empty() {
            into.append(&mut producer.came);
            if producer.fatal.is_some() {
                cx.waker().wake_by_ref();
            }
            return Poll::Ready(Ok(()));
        }
        if let Some(fatal) = &producer.fatal {
            return Poll::Ready(Err(fatal.clone()));
        }
        if std::mem::take(&mut producer.has_room) {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }

    fn offsets(&self, places: Vec<Place>) -> BoxFuture<'static, Result<Vec<Offsets>, BrokerError>> {
        self.ask(Ask::Offsets(places), |reply| match reply {
            asks::Reply::Offsets(offsets) => Some(offsets),
            _ => None,
        })
    }

    fn record(
        &self,
        origin: Uuid,
    ) -> BoxFuture<'static, Result<Option<OriginRecord>, BrokerError>> {
        self.ask(Ask::Record(origin), |reply| match reply {
            asks::Reply::Record(record) => Some(record),
            _ => None,
        })
    }

    fn fence(&self, origin: Uuid) -> BoxFuture<'static, Result<(), BrokerError>> {
        self.ask(Ask::Fence(origin), |reply| match reply {
            asks::Reply::Done => Some(()),
            _ => None,
        })
    }

    fn mark(&self, record: OriginRecord) -> BoxFuture<'static, Result<(), BrokerError>> {
        self.ask(Ask::Mark(record), |reply| match reply {
            asks::Reply::Done => Some(()),
            _ => None,
        })
    }

    fn end(&mut self) {
        if let Some(id) = self.producer.take() {
            self.fake.lock().leave(id);
        }
    }
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        self.end();
    }
}
