//! What a transaction is filled with: letters, records of the parked set, offsets.

use bytes::Bytes;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use tidelog_core::Error;

use super::WITHIN;
use super::letters::{self, LeftOut};
use super::parked_set::{self, Written};
use super::topics::DeadTopics;
use super::transaction::{Change, PIECE, Ready, TRIES, Writer, may_be_tried};
use crate::kafka::listen::feed::{FeedError, Letter, LetterPlace, Parking, Place, RecordKey};

/// Why a try came to nothing. Nothing of it will be seen.
pub(super) enum Failed {
    /// The letter with this number does not fit, and nothing else was in its batch.
    TooLarge(usize),
    /// One of several does not fit.
    OneIsTooLarge,
    With(FeedError),
}

/// A letter and how it goes.
pub(super) struct Sent<'a> {
    letter: &'a Letter,
    pub(super) name: String,
    left_out: LeftOut,
}

impl Writer {
    /// The partition of a key's letters: all of them are in one, however many there are by now.
    fn home(&self, sent: &Sent<'_>, partitions: i32) -> Option<i32> {
        let own = self.homes.get(&sent.name).copied();
        let read = || self.set.lock().get(&sent.name)?.letter;
        let home = own.or_else(|| read().map(|letter| letter.partition));
        let home = home.filter(|home| *home < partitions);
        home.or_else(|| {
            // Without a key librdkafka would spread them.
            let is_spread = sent.letter.record.key.is_none();
            let digits = sent.name.get(..8).unwrap_or_default();
            let number = u32::from_str_radix(digits, 16).unwrap_or_default();
            let home = i32::try_from(number % partitions.unsigned_abs().max(1)).ok();
            home.filter(|_| is_spread)
        })
    }

    /// All of a transaction but its end.
    pub(super) fn fill(
        &self,
        ready: &Ready,
        change: &Change,
        sent: &[Sent<'_>],
        one_by_one: bool,
        proof: &mut Option<(Place, i64)>,
    ) -> Result<Vec<LetterPlace>, Failed> {
        let places = self.letters(ready, sent, one_by_one)?;
        if let Some(first) = places.first() {
            *proof = Some(proof_of(&self.known.topics.letters, *first));
        }
        let records = match change {
            Change::Park(parking, _) => self.changes(parking, sent, &places),
            Change::Ask(key, asked) => parked_set::ask(key, *asked).map(|record| vec![record]),
            Change::Forget(key) => Ok(vec![parked_set::answered(key)]),
        };
        let records = records.map_err(|error| Failed::With(FeedError::Passing(error)))?;
        let written = self.parked(ready, &records)?;
        if let (None, Some(first)) = (&*proof, written) {
            *proof = Some(proof_of(&self.known.topics.parked, first));
        }
        if let Change::Park(parking, group) = change {
            self.offsets(ready, &parking.offsets, group)?;
        }
        Ok(places)
    }

    /// The records of the parked set that `parking` comes to, its letters standing at `places`.
    fn changes(
        &self,
        parking: &Parking,
        sent: &[Sent<'_>],
        places: &[LetterPlace],
    ) -> Result<Vec<Written>, Error> {
        let mut records = Vec::new();
        for parked in &parking.parked {
            let mut parked = parked.clone();
            let name = parked_set::name(&parked.key);
            if parked.letter.is_none() {
                let first = sent.iter().position(|sent| sent.name == name);
                parked.letter = first.and_then(|at| places.get(at)).copied();
            }
            records.push(parked_set::entry(&parked)?);
            if parked.asked.is_none() && self.set.lock().is_asked(&name) {
                records.push(parked_set::answered(&parked.key));
            }
        }
        records.extend(parking.resumed.iter().flat_map(parked_set::taken_back));
        Ok(records)
    }

    fn letters(
        &self,
        ready: &Ready,
        sent: &[Sent<'_>],
        one_by_one: bool,
    ) -> Result<Vec<LetterPlace>, Failed> {
        let mut places = vec![None; sent.len()];
        let topic = &*self.known.topics.letters;
        for (number, one) in sent.iter().enumerate() {
            let record = &one.letter.record;
            let mut message = BaseRecord::with_opaque_to(topic, number);
            message.key = record.key.as_deref();
            message.payload = letters::value(one.letter, one.left_out).map(|value| &**value);
            message.partition = self.home(one, ready.partitions);
            let headers = letters::headers(one.letter, &self.known.group, one.left_out);
            let headers = headers.iter().fold(
                OwnedHeaders::new_with_capacity(headers.len()),
                |all, (key, value)| {
                    let value = value.as_deref();
                    all.insert(Header { key, value })
                },
            );
            self.send(ready, message.headers(headers))?;
            if one_by_one {
                Self::reports(ready, topic, &mut places)?;
            }
        }
        Self::reports(ready, topic, &mut places)?;
        let all: Option<Vec<_>> = places.into_iter().collect();
        all.ok_or_else(|| self.no_report())
    }

    /// Writes records of the parked set; answers where the last one stands.
    fn parked(&self, ready: &Ready, records: &[Written]) -> Result<Option<LetterPlace>, Failed> {
        let topic = &*self.known.topics.parked;
        let mut places = vec![None; records.len()];
        for (number, (key, value)) in records.iter().enumerate() {
            let mut message = BaseRecord::with_opaque_to(topic, number);
            message.key = Some(key.as_bytes());
            message.payload = value.as_deref().map(str::as_bytes);
            self.send(ready, message)?;
        }
        match Self::reports(ready, topic, &mut places) {
            Err(Failed::TooLarge(_) | Failed::OneIsTooLarge) => {
                Err(Failed::With(FeedError::Passing(too_large(topic))))
            }
            Err(failed) => Err(failed),
            Ok(()) if places.contains(&None) => Err(self.no_report()),
            Ok(()) => Ok(places.last().copied().flatten()),
        }
    }

    fn send(
        &self,
        ready: &Ready,
        mut message: BaseRecord<'_, [u8], [u8], usize>,
    ) -> Result<(), Failed> {
        loop {
            let (number, topic) = (message.delivery_opaque, message.topic);
            match ready.producer.send(message) {
                Ok(()) => return Ok(()),
                Err((error, again)) => match error.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::QueueFull) => {
                        ready.producer.poll(PIECE);
                        message = again;
                    }
                    Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
                        return Err(Failed::TooLarge(number));
                    }
                    _ => return Err(Failed::With(self.refused(&write_to(topic), &error, ready))),
                },
            }
        }
    }

    /// Waits for what came of everything that was sent.
    fn reports(
        ready: &Ready,
        topic: &str,
        places: &mut [Option<LetterPlace>],
    ) -> Result<(), Failed> {
        // Ends: what is not delivered in time is reported as that.
        while ready.producer.in_flight_count() > 0 {
            ready.producer.poll(PIECE);
        }
        let (mut failed, mut refused) = (None, Vec::new());
        for (number, outcome) in ready.producer.context().take_reports() {
            match outcome {
                Ok(place) => {
                    if let Some(slot) = places.get_mut(number) {
                        *slot = Some(place);
                    }
                }
                Err(RDKafkaErrorCode::MessageSizeTooLarge) => refused.push(number),
                // Why, another report may say.
                Err(code @ (RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight)) => {
                    failed = failed.or(Some(code));
                }
                Err(code) => failed = Some(code),
            }
        }
        match (refused.as_slice(), failed) {
            ([], None) => Ok(()),
            ([], Some(code)) => {
                let hears = ready.producer.context();
                let text = code.to_string();
                let error = hears.coded(&write_to(topic), topic, code, &text);
                Err(Failed::With(error))
            }
            ([number], _) => Err(Failed::TooLarge(*number)),
            _ => Err(Failed::OneIsTooLarge),
        }
    }

    fn offsets(
        &self,
        ready: &Ready,
        offsets: &[(Place, i64)],
        group: &ConsumerGroupMetadata,
    ) -> Result<(), Failed> {
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        let action = "commit offsets with letters";
        for (place, offset) in offsets {
            let offset = Offset::Offset(*offset);
            let added = list.add_partition_offset(&place.topic, place.partition, offset);
            added.map_err(|error| Failed::With(self.refused(action, &error, ready)))?;
        }
        let topic = offsets.first().map_or("", |(place, _)| &place.topic);
        let mut tries = 0;
        loop {
            let sent = ready
                .producer
                .send_offsets_to_transaction(&list, group, WITHIN);
            tries += 1;
            match sent {
                Ok(()) => return Ok(()),
                Err(KafkaError::Transaction(error)) if may_be_tried(&error) && tries < TRIES => {}
                Err(error) => {
                    let hears = ready.producer.context();
                    let error = hears.failure(action, topic, &error);
                    return Err(Failed::With(error));
                }
            }
        }
    }

    fn no_report(&self) -> Failed {
        Failed::With(self.passing("a message has no report"))
    }

    fn passing(&self, reason: &str) -> FeedError {
        FeedError::Passing(Error::Unreachable {
            server: self.known.connection.server(),
            action: write_to(&self.known.topics.letters).into(),
            reason: reason.into(),
        })
    }
}

impl<'a> Sent<'a> {
    pub(super) fn new(letter: &'a Letter) -> Self {
        let name = parked_set::name(&RecordKey {
            place: letter.record.place.clone(),
            key: letter.record.key.clone(),
        });
        Self {
            letter,
            name,
            left_out: LeftOut::Nothing,
        }
    }

    /// About its size, for comparing.
    fn bytes(&self) -> usize {
        let value = letters::value(self.letter, self.left_out).map_or(0, Bytes::len);
        let whole = self.letter.record.value.as_ref().map_or(0, Bytes::len);
        let headers = self.letter.record.bytes() - whole;
        value
            + if self.left_out < LeftOut::Headers {
                headers
            } else {
                0
            }
    }
}

/// Leaves something out of the letter that did not fit, and of all that are as large.
pub(super) fn shorten(
    sent: &mut [Sent<'_>],
    which: usize,
    topics: &DeadTopics,
) -> Result<(), FeedError> {
    let too_large = || FeedError::Passing(too_large(&topics.letters));
    let bytes = sent.get(which).map(Sent::bytes).ok_or_else(too_large)?;
    for (number, one) in sent.iter_mut().enumerate() {
        if number == which {
            one.left_out = one.left_out.more().ok_or_else(too_large)?;
        } else if one.bytes() >= bytes {
            one.left_out = one.left_out.more().unwrap_or(one.left_out);
        }
    }
    Ok(())
}

fn too_large(topic: &str) -> Error {
    let reason =
        "it does not take a letter without its value and headers: raise its max.message.bytes";
    Error::invalid("topic", topic, reason)
}

fn write_to(topic: &str) -> String {
    format!("write to topic {topic}")
}

fn proof_of(topic: &str, at: LetterPlace) -> (Place, i64) {
    let (topic, partition) = (topic.into(), at.partition);
    (Place { topic, partition }, at.offset)
}
