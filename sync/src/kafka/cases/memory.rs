//! Kafka in memory, where a seed chooses what happens next.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;

use super::kit::{BATCH, LIMIT, MESSAGE, QUEUE, Stored, Subject, place};
use crate::kafka::fake::moves::{Fault, Move};
use crate::kafka::fake::{Fake, FakeBroker, Queue};
use crate::sim::rng::Rng;

pub(super) struct Memory {
    fake: Fake,
    rng: Mutex<Rng>,
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

impl Memory {
    pub fn new(order: u64) -> Self {
        let fake = Fake::new(Queue {
            messages: QUEUE,
            bytes: QUEUE * MESSAGE,
            message_bytes: MESSAGE,
        });
        Self {
            fake,
            rng: Mutex::new(Rng::new(order)),
        }
    }

    /// Something happens, if anything can.
    fn step(&self) -> bool {
        let mut state = self.fake.lock();
        let mut rng = self.rng.lock();
        let moves = state.moves();
        let Some(chosen) = rng.pick(&moves).cloned() else {
            return false;
        };
        state.make(match chosen {
            // A batch waits until it is full, or until nothing more comes.
            Move::Cut(id, place, waiting) => Move::Cut(id, place, waiting.min(BATCH)),
            Move::Tell(id, place, count) => Move::Tell(id, place, 1 + rng.index(count)),
            other => other,
        });
        true
    }

    fn is_of_origins(&self, topic: &str) -> bool {
        topic == self.origins()
    }
}

impl Subject for Memory {
    type Client = FakeBroker;

    fn client(&self) -> FakeBroker {
        self.fake.broker(0)
    }

    fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        loop {
            self.fake.begin();
            if let Poll::Ready(done) = work.as_mut().poll(&mut Context::from_waker(&waker)) {
                return done;
            }
            while !woken.0.swap(false, Ordering::AcqRel) {
                assert!(self.step(), "nothing happens any more");
            }
        }
    }

    fn name(&self, topic: &str) -> String {
        topic.to_owned()
    }

    fn origins(&self) -> String {
        self.fake.lock().cluster.origins_topic.to_string()
    }

    fn make(&self, topic: &str, partitions: usize, limit: usize) {
        let is_of_origins = self.is_of_origins(topic);
        let cluster = &mut self.fake.lock().cluster;
        if is_of_origins {
            cluster.origins = Some(std::collections::BTreeMap::new());
        } else {
            cluster.make_topic(topic, partitions, limit);
        }
    }

    fn grow(&self, topic: &str, partitions: usize) {
        let cluster = &mut self.fake.lock().cluster;
        let topic = cluster.topics.get_mut(topic).unwrap();
        topic.parts.resize_with(partitions, Default::default);
    }

    fn delete(&self, topic: &str) {
        let is_of_origins = self.is_of_origins(topic);
        let cluster = &mut self.fake.lock().cluster;
        if is_of_origins {
            cluster.origins = None;
        } else {
            cluster.topics.remove(topic);
        }
    }

    fn limit(&self, topic: &str, limit: usize) {
        let cluster = &mut self.fake.lock().cluster;
        cluster.topics.get_mut(topic).unwrap().limit = limit;
    }

    fn expire(&self, topic: &str, partition: i32, offset: usize) {
        let place = place(topic, usize::try_from(partition).unwrap());
        self.fake.lock().cluster.expire(&place, offset);
    }

    fn intrude(&self, topic: &str) -> Box<dyn Send> {
        self.fake.lock().cluster.intrude(&place(topic, 0));
        Box::new(())
    }

    fn refuse_records(&self, is_refused: bool) {
        self.fake.lock().cluster.refuses_records = is_refused;
    }

    fn stop(&self) {
        self.fake.lock().cluster.is_up = false;
    }

    fn go_on(&self) {
        self.fake.lock().cluster.is_up = true;
    }

    fn crash(&self) {
        let mut rng = self.rng.lock();
        let mut state = self.fake.lock();
        loop {
            let fault = state.moves().into_iter().find_map(|next| match next {
                Move::Meet(id, at) | Move::Land(id, at) => {
                    Some(Fault::Break(id, at, rng.chance(50)))
                }
                // Where it was asked in time, or is asked again, nothing has happened to it.
                Move::Ask(key) if rng.chance(50) => Some(Fault::Fail(key, rng.chance(50))),
                _ => None,
            });
            let Some(fault) = fault else { return };
            state.spoil(&fault);
        }
    }

    fn rob(&self, topic: &str, is_all: bool) {
        self.crash();
        let mut state = self.fake.lock();
        let had = state.cluster.topics[topic].parts[0].messages.len();
        let lost = if is_all { had } else { had / 2 };
        state.cluster.lose(&place(topic, 0), lost);
    }

    fn read(&self, topic: &str) -> Vec<Vec<Stored>> {
        let parts = &self.fake.lock().cluster.topics[topic].parts;
        let parts = parts.iter();
        parts
            .map(|part| part.messages[part.low..].to_vec())
            .collect()
    }
}

const _: () = assert!(LIMIT < MESSAGE);
