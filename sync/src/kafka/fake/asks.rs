//! Questions on their way, one client's in order, and their answers.

use std::future::poll_fn;
use std::task::{Poll, Waker};

use tidelog_core::{BoxFuture, Error};
use uuid::Uuid;

use super::{Fake, State};
use crate::kafka::broker::{BrokerError, Cluster, Offsets, OriginRecord, Place};

#[derive(Clone, Debug)]
pub(super) enum Ask {
    /// Which topics there are; a producer learns it by the way.
    Cluster(Vec<Box<str>>, Option<u64>),
    Offsets(Vec<Place>),
    Record(Uuid),
    Fence(Uuid),
    Mark(OriginRecord),
}

pub(super) enum Reply {
    Cluster(Cluster),
    Offsets(Vec<Offsets>),
    Record(Option<OriginRecord>),
    Done,
}

/// A question, or its answer on its way back.
pub(super) struct Asking {
    pub node: usize,
    client: u64,
    pub ask: Ask,
    pub answer: Option<Result<Reply, BrokerError>>,
    /// It has arrived where it was asked.
    is_here: bool,
    is_waited_for: bool,
    waker: Option<Waker>,
}

/// Who asks; gives up the waiting when dropped.
struct Waiting {
    fake: Fake,
    key: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.fake.lock();
        if let Some(asking) = state.asks.get_mut(&self.key) {
            asking.is_waited_for = false;
            if asking.answer.is_some() {
                state.asks.remove(&self.key);
            }
        }
    }
}

pub(super) fn ask<T: Send + 'static>(
    fake: &Fake,
    (node, client): (usize, u64),
    ask: Ask,
    take: impl Fn(Reply) -> Option<T> + Send + 'static,
) -> BoxFuture<'static, Result<T, BrokerError>> {
    let key = {
        let mut state = fake.call();
        state.next += 1;
        let key = state.next;
        let asking = Asking {
            node,
            client,
            ask,
            answer: None,
            is_here: false,
            is_waited_for: true,
            waker: None,
        };
        state.asks.insert(key, asking);
        key
    };
    let waiting = Waiting {
        fake: fake.clone(),
        key,
    };
    Box::pin(async move {
        let waiting = waiting;
        let answer = poll_fn(|cx| {
            let mut state = waiting.fake.call();
            let Some(asking) = state.asks.get_mut(&waiting.key) else {
                return Poll::Ready(Err(unreachable("the question is gone")));
            };
            if asking.is_here
                && let Some(answer) = asking.answer.take()
            {
                state.asks.remove(&waiting.key);
                return Poll::Ready(answer);
            }
            asking.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await?;
        Ok(take(answer).expect("the answer is of the question"))
    })
}

pub(super) fn unreachable(reason: &str) -> BrokerError {
    BrokerError::Passing(Error::Unreachable {
        server: "memory".into(),
        action: "ask".into(),
        reason: reason.into(),
    })
}

impl State {
    /// Questions whose turn has come, of each client the first.
    pub(super) fn asked(&self) -> Vec<u64> {
        let mut clients = Vec::new();
        let mut found = Vec::new();
        for (key, asking) in &self.asks {
            if asking.answer.is_some() || clients.contains(&asking.client) {
                continue;
            }
            clients.push(asking.client);
            found.push(*key);
        }
        found
    }

    /// Answers on their way back.
    pub(super) fn answered(&self) -> Vec<u64> {
        let asks = self.asks.iter();
        asks.filter(|(_, asking)| asking.answer.is_some() && !asking.is_here)
            .map(|(key, _)| *key)
            .collect()
    }

    /// Handshake records that a machine's clients want written, and that are not.
    pub(crate) fn marks_under_way(&self, node: usize) -> Vec<OriginRecord> {
        let asks = self.asks.values();
        let own = asks.filter(|asking| asking.node == node && asking.answer.is_none());
        own.filter_map(|asking| match &asking.ask {
            Ask::Mark(record) => Some(record.clone()),
            _ => None,
        })
        .collect()
    }

    /// What becomes of a question: done, and how that is told.
    pub(super) fn answer(&mut self, key: u64, is_done: bool, is_clear: bool) {
        let Some(asking) = self.asks.get(&key) else {
            return;
        };
        // What nobody waits for is not begun, but it may have been.
        let (who, ask) = ((asking.node, asking.client), asking.ask.clone());
        let mut answer = Err(unreachable("the cluster does not answer"));
        let takes_fence = matches!(ask, Ask::Fence(_) | Ask::Mark(_));
        if is_done && self.cluster.is_up {
            let done = self.answer_to(who, ask);
            if is_clear {
                answer = done;
            }
        }
        // A fence is held as long as it is known what came of everything under it.
        if takes_fence && !matches!(answer, Ok(_) | Err(BrokerError::NoTopic(_))) {
            self.fences.remove(&who.1);
        }
        if let Some(asking) = self.asks.get_mut(&key) {
            asking.answer = Some(answer);
            if !asking.is_waited_for {
                self.asks.remove(&key);
            }
        }
    }

    /// An answer arrives.
    pub(super) fn bring(&mut self, key: u64) {
        if let Some(asking) = self.asks.get_mut(&key) {
            asking.is_here = true;
            if let Some(waker) = asking.waker.take() {
                waker.wake();
            }
        }
    }

    fn answer_to(&mut self, (node, client): (usize, u64), ask: Ask) -> Result<Reply, BrokerError> {
        let cluster = &mut self.cluster;
        match ask {
            Ask::Cluster(names, producer) => {
                let parts = |name: &str| cluster.topics.get(name).map(|topic| topic.parts.len());
                let found: Vec<Option<usize>> = names.iter().map(|name| parts(name)).collect();
                if let Some(producer) = producer.and_then(|id| self.producers.get_mut(&id)) {
                    for (name, found) in names.iter().zip(&found) {
                        if producer.topics.contains_key(name) {
                            producer.learn(name, *found);
                        }
                    }
                    producer.bump();
                }
                let count = |found: Option<usize>| found.map(|count| u32::try_from(count).unwrap());
                Ok(Reply::Cluster(Cluster {
                    id: self.cluster.id.clone(),
                    topics: found.into_iter().map(count).collect(),
                }))
            }
            Ask::Offsets(places) => {
                let offsets = places.iter().map(|place| cluster.offsets(place));
                Ok(Reply::Offsets(offsets.collect()))
            }
            Ask::Record(origin) => match &cluster.origins {
                None => Err(BrokerError::NoTopic(cluster.origins_topic.clone())),
                Some(records) => {
                    let newest = records.get(&origin).and_then(|all| all.last());
                    Ok(Reply::Record(newest.cloned()))
                }
            },
            Ask::Fence(origin) => {
                let fence = cluster.fence(origin);
                self.fences.insert(client, (origin, fence));
                Ok(Reply::Done)
            }
            Ask::Mark(record) => {
                let held = self.fences.get(&client);
                let is_held = held.is_some_and(|(origin, fence)| {
                    *origin == record.origin && cluster.holds(*origin, *fence)
                });
                if !is_held {
                    return Err(BrokerError::Fenced);
                }
                match &mut cluster.origins {
                    None => Err(BrokerError::NoTopic(cluster.origins_topic.clone())),
                    Some(_) if cluster.refuses_records => Err(unreachable("it is refused")),
                    Some(records) => {
                        self.marked.push((node, record.clone()));
                        records.entry(record.origin).or_default().push(record);
                        Ok(Reply::Done)
                    }
                }
            }
        }
    }
}
