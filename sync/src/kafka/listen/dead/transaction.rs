//! What is written by transactions: letters, changes of the parked set and offsets, all of it or nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaError};
use rdkafka::producer::{BaseProducer, Producer};
use uuid::Uuid;

use super::WITHIN;
use super::client::{Hears, Known};
use super::filling::{Failed, Sent, shorten};
use super::parked_set::{self, ParkedSet};
use super::reading;
use crate::kafka::listen::feed::{Asked, FeedError, LetterPlace, Parking, Place, RecordKey};
use crate::kafka::settings::Role;

/// How long the broker keeps a transaction open that nobody ends.
const OPEN: &str = "10000";
/// How often what may be tried again is, within one call.
pub(super) const TRIES: usize = 3;
pub(super) const PIECE: Duration = Duration::from_millis(100);
/// What no broker takes: its bound is the one that counts.
const MESSAGE_MAX_BYTES: &str = "104857600";

/// What is to be written.
pub(super) enum Change {
    Park(Parking, ConsumerGroupMetadata),
    Ask(RecordKey, Asked),
    /// What was asked of a key that is not parked.
    Forget(RecordKey),
}

/// Writes; on a thread of its own, since librdkafka's transactions block.
pub(super) struct Writer {
    pub(super) known: Arc<Known>,
    transactional_id: String,
    /// What the reading thread has read, for the homes of keys.
    pub(super) set: Arc<Mutex<ParkedSet>>,
    /// Where letters go of keys that were parked here, which may not have been read yet.
    pub(super) homes: BTreeMap<String, i32>,
    closed: Arc<AtomicBool>,
    producer: Option<Ready>,
}

/// A producer whose transactions are initialized.
pub(super) struct Ready {
    pub(super) producer: BaseProducer<Hears>,
    pub(super) partitions: i32,
}

impl Writer {
    pub(super) fn new(
        known: Arc<Known>,
        member: Uuid,
        set: Arc<Mutex<ParkedSet>>,
        closed: Arc<AtomicBool>,
    ) -> Self {
        Self {
            transactional_id: format!("{}-{member}", known.group),
            known,
            set,
            homes: BTreeMap::new(),
            closed,
            producer: None,
        }
    }

    /// Writes `change`; answers where its letters stand.
    pub(super) fn write(&mut self, change: &Change) -> Result<Vec<LetterPlace>, FeedError> {
        let nothing = Vec::new();
        let letters = match change {
            Change::Park(parking, _) => &parking.letters,
            Change::Ask(..) | Change::Forget(_) => &nothing,
        };
        let mut sent: Vec<_> = letters.iter().map(Sent::new).collect();
        let mut one_by_one = false;
        loop {
            match self.attempt(change, &sent, one_by_one) {
                Ok(places) => {
                    self.remember(change, &sent, &places);
                    return Ok(places);
                }
                Err(Failed::OneIsTooLarge) => one_by_one = true,
                Err(Failed::TooLarge(which)) => shorten(&mut sent, which, &self.known.topics)?,
                Err(Failed::With(error)) => return Err(error),
            }
        }
    }

    /// Where letters of keys go from now on that `change` parked.
    fn remember(&mut self, change: &Change, sent: &[Sent<'_>], places: &[LetterPlace]) {
        let Change::Park(parking, _) = change else {
            return;
        };
        for parked in &parking.parked {
            let name = parked_set::name(&parked.key);
            let written = sent.iter().position(|sent| sent.name == name);
            let first = written.and_then(|at| places.get(at)).copied();
            if let Some(letter) = parked.letter.or(first) {
                self.homes.insert(name, letter.partition);
            }
        }
        for key in &parking.resumed {
            self.homes.remove(&parked_set::name(key));
        }
    }

    fn attempt(
        &mut self,
        change: &Change,
        sent: &[Sent<'_>],
        one_by_one: bool,
    ) -> Result<Vec<LetterPlace>, Failed> {
        let ready = match self.producer.take() {
            Some(ready) => ready,
            None => self.renew().map_err(Failed::With)?,
        };
        if let Err(error) = ready.producer.begin_transaction() {
            // The next try makes another one.
            return Err(Failed::With(self.refused(
                "begin a transaction",
                &error,
                &ready,
            )));
        }
        let mut proof = None;
        let done = self.fill(&ready, change, sent, one_by_one, &mut proof);
        match done {
            Err(failed) => {
                Self::abort(&ready);
                Err(failed)
            }
            Ok(places) => match self.commit(ready, proof) {
                Ok(()) => Ok(places),
                Err(error) => Err(Failed::With(error)),
            },
        }
    }

    /// Ends a transaction. Where it is not known whether it was, Kafka is asked until it is.
    fn commit(&mut self, ready: Ready, proof: Option<(Place, i64)>) -> Result<(), FeedError> {
        let action = "commit letters";
        let mut tries = 0;
        let error = loop {
            tries += 1;
            match ready.producer.commit_transaction(WITHIN) {
                Ok(()) => {
                    self.producer = Some(ready);
                    return Ok(());
                }
                Err(KafkaError::Transaction(error)) if may_be_tried(&error) && tries < TRIES => {}
                Err(error) => break error,
            }
        };
        let answer = self.refused(action, &error, &ready);
        if let KafkaError::Transaction(error) = &error
            && error.txn_requires_abort()
        {
            Self::abort(&ready);
            return Err(answer);
        }
        drop(ready);
        let Some((place, offset)) = proof else {
            return Err(answer);
        };
        while !self.closed.load(Ordering::Acquire) {
            // Whatever was open is over once there is another one with its id.
            let ready = match self.renew() {
                Ok(ready) => ready,
                Err(FeedError::NoTopic(topic)) => return Err(FeedError::NoTopic(topic)),
                Err(_) => {
                    std::thread::sleep(PIECE);
                    continue;
                }
            };
            self.producer = Some(ready);
            match reading::stands(&self.known, &place, offset) {
                Ok(true) => return Ok(()),
                Ok(false) => return Err(answer),
                Err(error) => {
                    tracing::debug!(?error, "whether letters were committed is asked again");
                    std::thread::sleep(PIECE);
                }
            }
        }
        Err(answer)
    }

    /// Gives a transaction up, and the producer: after an abort librdkafka has been seen to give up the
    /// first message of the next transaction, too.
    fn abort(ready: &Ready) {
        // Aborting with reports untaken is an error, and keeps readers waiting for the broker to do it.
        while ready.producer.in_flight_count() > 0 {
            ready.producer.poll(PIECE);
        }
        if let Err(error) = ready.producer.abort_transaction(WITHIN) {
            tracing::debug!(%error, "a transaction is aborted by the next one, or by the broker");
        }
    }

    /// Another producer with the same id: what the one before left open is aborted.
    fn renew(&self) -> Result<Ready, FeedError> {
        let known = &self.known;
        let client = known.connection.client(Role::Transactional);
        let mut client = client.map_err(FeedError::Passing)?;
        client.set("transactional.id", &self.transactional_id);
        client.set("transaction.timeout.ms", OPEN);
        client.set("message.timeout.ms", OPEN);
        // librdkafka takes no more.
        client.set("socket.timeout.ms", OPEN);
        client.set("message.max.bytes", MESSAGE_MAX_BYTES);
        let producer: BaseProducer<Hears> = client
            .create_with_context(Hears::new(known))
            .map_err(|error| FeedError::Passing(known.connection.refused(&error)))?;
        let hears = producer.context();
        hears.partitions(producer.client(), &known.topics.parked)?;
        let partitions = hears.partitions(producer.client(), &known.topics.letters)?;
        let begun = producer.init_transactions(WITHIN);
        begun.map_err(|error| hears.failure("begin to write letters", "", &error))?;
        Ok(Ready {
            producer,
            partitions,
        })
    }

    pub(super) fn refused(&self, action: &str, error: &KafkaError, ready: &Ready) -> FeedError {
        let topic = &self.known.topics.letters;
        let hears = ready.producer.context();
        hears.failure(action, topic, error)
    }
}

pub(super) fn may_be_tried(error: &RDKafkaError) -> bool {
    error.is_retriable() && !error.txn_requires_abort() && !error.is_fatal()
}
