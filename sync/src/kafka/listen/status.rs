//! What can be seen of a listener over Kafka.

use bytes::Bytes;
use tidelog_core::{Error, StreamId, Timestamp};

use super::feed::{ParkedKey, Place};
use super::job::name_of;
use crate::listeners::ListenerPhase;

/// How far a listener over Kafka is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KafkaListenerStatus {
    /// Its group.
    pub group: Box<str>,
    /// What it does.
    pub phase: ListenerPhase,
    /// The partitions that this member has, in order.
    pub places: Vec<KafkaPlaceStatus>,
    /// Handlers that run at this moment.
    pub in_flight: usize,
    /// When the longest-running one of them began.
    pub in_flight_since: Option<Timestamp>,
    /// Keys that wait to be tried again.
    pub retrying: usize,
    /// Events that wait for what is missing before them in their stream.
    pub held: usize,
    /// Keys of the whole group that are parked, as far as this member knows.
    pub parked: usize,
    /// Records that were no event, since it was made.
    pub garbage: u64,
    /// Records that were handled, since it was made.
    pub handled: u64,
    /// How often places came or went, since it was made.
    pub rebalances: u64,
    /// What went wrong last, if anything did; it is tried again by itself.
    pub last_error: Option<Error>,
}

/// How far one partition is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KafkaPlaceStatus {
    /// Its topic.
    pub topic: Box<str>,
    /// Its number.
    pub partition: i32,
    /// The offset that is read next after a crash; `None` before this member has put one down.
    pub committed: Option<i64>,
    /// The first offset taken that is neither handled nor set aside, or the next one if there is none;
    /// `None` before this member has taken anything.
    pub settled: Option<i64>,
    /// The newest offset taken.
    pub taken: Option<i64>,
    /// The offset that is written next, as it was some seconds ago.
    pub end: Option<i64>,
}

impl KafkaPlaceStatus {
    /// How many records stand in it that are not settled, as far as that is known.
    pub fn lag(&self) -> Option<u64> {
        let lag = self.end? - self.settled.or(self.committed)?;
        Some(u64::try_from(lag).unwrap_or(0))
    }
}

/// A key that was set aside, with all that follows it there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KafkaParkedKey {
    /// The partition's topic.
    pub topic: Box<str>,
    /// The partition.
    pub partition: i32,
    /// The key; `None` when records without a key are meant.
    pub key: Option<Bytes>,
    /// The stream of the event that could not be handled, or else the key as text: what
    /// [`resume`](crate::KafkaControl::resume) takes.
    pub stream: Box<str>,
    /// Why it could not be handled.
    pub reason: Box<str>,
    /// When it was given up.
    pub since: Timestamp,
    /// The offset of the first record that was set aside.
    pub first_offset: i64,
    /// How often it was tried; 0 while it is being taken in again.
    pub attempts: u32,
}

impl KafkaParkedKey {
    pub(super) fn of(parked: &ParkedKey) -> Self {
        Self {
            topic: parked.key.place.topic.clone(),
            partition: parked.key.place.partition,
            key: parked.key.key.clone(),
            stream: parked.stream.clone(),
            reason: parked.reason.clone(),
            since: parked.since,
            first_offset: parked.first_offset,
            attempts: parked.attempts,
        }
    }
}

/// Whether `which` means this key.
pub(super) fn is_meant(which: &str, parked: &ParkedKey) -> bool {
    *parked.stream == *which || *name_of(&parked.key) == *which
}

/// What whoever asked for a key is told when it failed again; `stream` is what stands in its entry, which
/// is no stream where the record was no event.
pub(super) fn still_parked(what: Box<str>, stream: &str, offset: i64, reason: &str) -> Error {
    match stream.parse::<StreamId>() {
        Ok(stream) => Error::Parked {
            what,
            stream,
            position: u64::try_from(offset).unwrap_or(0),
            reason: reason.into(),
        },
        Err(_) => Error::invalid("parked key", stream, reason),
    }
}

/// Of a place of this member.
pub(super) fn place_status(place: &Place) -> KafkaPlaceStatus {
    KafkaPlaceStatus {
        topic: place.topic.clone(),
        partition: place.partition,
        committed: None,
        settled: None,
        taken: None,
        end: None,
    }
}
