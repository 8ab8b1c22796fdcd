//! Kafka as the publisher sees it: `client` is it over librdkafka, a fake in the simulation.

use std::task::{Context, Poll};

use tidelog_core::cloudevents::Headers;
use tidelog_core::{BoxFuture, Error};
use uuid::Uuid;

pub(crate) use crate::sinks::publishing::Place;

/// How messages reach Kafka. None of its calls waits for the network, but for those that answer a
/// future; those may be dropped at any await.
pub(crate) trait Broker: Send + 'static {
    /// Begins a new generation: what was under way in the one before means nothing any more. Fails
    /// only when no producer can be made of the configuration.
    fn renew(&mut self, generation: u32) -> Result<(), Error>;

    /// Answers when the cluster does: who it is, and which of `names` are there.
    fn cluster(&self, names: Vec<Box<str>>) -> BoxFuture<'static, Result<Cluster, BrokerError>>;

    /// Queues a message; never blocks.
    fn send(&mut self, message: &Message<'_>, tag: Tag) -> Result<(), NotSent>;

    /// Puts what has come of messages since the last call behind `into`: `Ready` when that was
    /// something, or when the generation is over.
    fn poll_reports(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<Report>,
    ) -> Poll<Result<(), Fatal>>;

    /// The newest and oldest offset that each place has now, in the order asked. Of one that does not
    /// answer nothing is known, and the others are answered.
    fn offsets(&self, places: Vec<Place>) -> BoxFuture<'static, Result<Vec<Offsets>, BrokerError>>;

    /// The newest valid handshake record of an origin.
    fn record(&self, origin: Uuid)
    -> BoxFuture<'static, Result<Option<OriginRecord>, BrokerError>>;

    /// Takes the fence of an origin: whoever holds it now can write no more records.
    fn fence(&self, origin: Uuid) -> BoxFuture<'static, Result<(), BrokerError>>;

    /// Writes a handshake record under the fence taken last.
    fn mark(&self, record: OriginRecord) -> BoxFuture<'static, Result<(), BrokerError>>;

    /// Ends the generation without waiting: what is under way is given up.
    fn end(&mut self);
}

/// One event as it goes to Kafka.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub topic: &'a str,
    /// Never empty.
    pub key: &'a [u8],
    pub headers: &'a Headers,
    /// Zero-length is a value, not a tombstone.
    pub value: &'a [u8],
}

impl Message<'_> {
    /// About the memory that librdkafka takes for it.
    pub(crate) fn cost(&self) -> usize {
        self.value.len() + self.key.len() + self.headers.bytes() + 100 * self.headers.len() + 400
    }
}

/// Which message a report is about. Reports of another generation than the present one mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tag {
    pub generation: u32,
    pub lane: u32,
}

/// What a place holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offsets {
    /// From `low` on, the next one written becomes `high`.
    There { low: i64, high: i64 },
    /// There is no such place.
    Missing,
    /// Nobody says so now: it has no leader, or may not be asked for.
    Unknown,
}

/// What has come of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub tag: Tag,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It stands in Kafka. An offset below 0 is not known.
    Delivered { partition: i32, offset: i64 },
    /// Never like this: it, or another message of its batch.
    Refused(Refusal),
    /// Not now.
    Failed(Trouble),
    /// The generation ended; whether it stands in Kafka is not known.
    Purged,
}

impl Outcome {
    /// For spans.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Delivered { .. } => "delivered",
            Self::Refused(_) => "refused",
            Self::Failed(_) => "failed",
            Self::Purged => "unknown",
        }
    }
}

/// Why a message is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    TooLarge,
    Other(Box<str>),
}

/// Why a message is not taken now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    NoTopic,
    /// The topic takes the sender's time, and this machine's is too far ahead.
    Clock,
    Denied(Box<str>),
    Passing(Box<str>),
}

/// Why a message was not queued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotSent {
    /// The queue is full; a report makes room.
    Full,
    TooLarge,
    NoTopic,
    /// The generation is over; `poll_reports` says why.
    Fatal,
}

/// Why a generation is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fatal {
    pub reason: Box<str>,
    /// The broker no longer has what it acknowledged.
    pub lost_data: bool,
}

/// The cluster that answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cluster {
    pub id: Box<str>,
    /// Partitions of each topic asked for, in the order asked; `None` when it is not there.
    pub topics: Vec<Option<u32>>,
}

#[derive(Clone, Debug)]
pub(crate) enum BrokerError {
    /// Another copy of this store took the fence since.
    Fenced,
    /// It will not be different without a person.
    Denied(Box<str>),
    NoTopic(Box<str>),
    Passing(Error),
}

/// What is kept at Kafka of an origin, when there is no replica to keep it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OriginRecord {
    pub origin: Uuid,
    pub first_epoch: Uuid,
    pub epoch: Uuid,
    /// The epoch that this one was forked from.
    pub parent: Option<Uuid>,
    pub session: Uuid,
    /// Everything up to here is published; the end of a commit.
    pub position: u64,
    pub commit: u64,
    pub hash: [u8; 32],
    pub name: Box<str>,
    /// Epochs that were given up.
    pub retired: Vec<Uuid>,
}
