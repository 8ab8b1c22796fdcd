//! Kafka as a listener's session sees it: `consumer` is it over librdkafka, a fake in the tests.

use std::task::{Context, Poll};

use bytes::Bytes;
use tidelog_core::{BoxFuture, Error, Timestamp};

pub(crate) use crate::kafka::broker::Place;

/// What comes from Kafka, and what is said to it. Futures may be dropped at any await.
pub(crate) trait Feed: Send + 'static {
    /// What comes next.
    fn poll_fed(&mut self, cx: &mut Context<'_>) -> Poll<Fed>;

    /// Whether records are to come at all; heartbeats go on. What is on its way may still come.
    fn pause(&mut self, paused: bool);

    /// Whether records of one place are to come.
    fn hold(&mut self, place: Place, held: bool);

    /// Begins to fetch a place that was assigned: none does by itself.
    fn begin(&mut self, places: Vec<Place>);

    /// Puts down what is to be read next of each place.
    fn commit(&self, offsets: Vec<(Place, i64)>) -> BoxFuture<'static, Result<(), FeedError>>;

    /// Writes letters, changes of the parked set and offsets: all of it or nothing. An entry without a
    /// [`letter`](ParkedKey::letter) gets the place of the first letter of its key in this change.
    /// Answers the places of the letters, in their order. Not called again before it has answered.
    fn park(&self, change: Parking) -> BoxFuture<'static, Result<Vec<LetterPlace>, FeedError>>;

    /// What is parked, by the whole group, up to now.
    fn parked_set(&self) -> BoxFuture<'static, Result<Vec<ParkedKey>, FeedError>>;

    /// Letters of one key from a place in the dead-letter topic on, some at a time and where to go on;
    /// none when there are no more now.
    fn letters(
        &self,
        key: RecordKey,
        from: LetterPlace,
    ) -> BoxFuture<'static, Result<Letters, FeedError>>;

    /// Asks whoever owns the place to take a parked key in again: kept until an entry of the key is
    /// written by which nothing is asked any more, or it is resumed.
    fn ask(&self, key: RecordKey, asked: Asked) -> BoxFuture<'static, Result<(), FeedError>>;

    /// Leaves the group, without waiting for what is under way.
    fn leave(&mut self) -> BoxFuture<'static, ()>;
}

/// What comes.
pub(crate) enum Fed {
    Records(Vec<Record>),
    /// These places are this member's from now on.
    Assigned(Vec<Place>),
    /// These are to be given up. With `lost` another member may have them already. `done` is sent, or
    /// dropped, when nothing of them is under way any more.
    Revoked {
        places: Vec<Place>,
        lost: bool,
        done: oneshot::Sender<()>,
    },
    /// Somebody, perhaps this member, asked for a parked key.
    Asked(RecordKey, Asked),
    /// An entry of the parked set was written, by any member; `asked` says nothing here.
    Parked(ParkedKey),
    /// An entry of the parked set is gone.
    Resumed(RecordKey),
    /// The offsets that places will write next, as far as they are known.
    Ends(Vec<(Place, i64)>),
    /// It is tried again by itself.
    Trouble(Error),
    /// Nothing will come any more.
    Ended(Error),
}

/// One message as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub place: Place,
    pub offset: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(Box<str>, Option<Bytes>)>,
}

impl Record {
    /// About the memory that it takes.
    pub(crate) fn bytes(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers = self.headers.iter();
        length(&self.key)
            + length(&self.value)
            + headers
                .map(|(name, value)| name.len() + length(value) + 48)
                .sum::<usize>()
            + 128
    }
}

/// A key of one place: what is in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RecordKey {
    pub place: Place,
    /// `None` for records without a key: all of the place's.
    pub key: Option<Bytes>,
}

/// One transaction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parking {
    pub letters: Vec<Letter>,
    pub parked: Vec<ParkedKey>,
    /// No longer parked.
    pub resumed: Vec<RecordKey>,
    pub offsets: Vec<(Place, i64)>,
}

/// A record that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Letter {
    pub record: Record,
    pub reason: Box<str>,
    pub attempts: u32,
    pub since: Timestamp,
}

/// Where a letter stands in the dead-letter topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LetterPlace {
    pub partition: i32,
    pub offset: i64,
}

/// Some letters of a key, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Letters {
    pub letters: Vec<(LetterPlace, Letter)>,
    /// Where to go on.
    pub next: LetterPlace,
}

/// An entry of the parked set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ParkedKey {
    pub key: RecordKey,
    pub stream: Box<str>,
    pub reason: Box<str>,
    pub since: Timestamp,
    pub first_offset: i64,
    /// Where its first letter stands; `None` until that is written.
    pub letter: Option<LetterPlace>,
    pub attempts: u32,
    /// Read: what somebody asks for since. Written: `None` ends what was asked.
    pub asked: Option<Asked>,
}

/// What somebody wants done with a parked key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Resume,
    /// Drop its first letter, then resume.
    Skip,
}

#[derive(Clone, Debug)]
pub(crate) enum FeedError {
    /// The places are no longer this member's.
    Lost,
    /// A topic of ours is missing.
    NoTopic(Box<str>),
    /// Letters before the one asked for are gone.
    Gone {
        from: LetterPlace,
        found: LetterPlace,
    },
    Passing(Error),
}
