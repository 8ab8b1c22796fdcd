//! Events that gave way to another origin's: what is asked for, and what the log says of it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use std::future::Future;

use uuid::Uuid;

use crate::append::{AppendBatch, AppendReceipt, ExpectedVersion, check_append};
use crate::envelope::{EventEnvelope, NewEvent, RecordKind};
use crate::error::Error;
use crate::id::EventId;
use crate::limits::Limits;
use crate::store::{EventLog, StreamHead};
use crate::stream_id::StreamId;

/// A log in which the newest events of a stream may give way to another origin's: how a conflict
/// between two stores that wrote one stream is resolved.
///
/// # Laws
/// 17. **Superseding.** It is one step, which fails when the stream has moved on. From then on the
///     stream is what it was below [`from`](Supersession::from), then the events given, then what is
///     appended: reads, heads, expectations, snapshots and retries mean that, and sequences stay
///     dense. A read that was asked for before sees what was there then. What gave way stays in the
///     log, [is known to have](EventLog::is_superseded), and is announced by a control record
///     ([`Superseded`]) in front of what took its place. An append with an id among the newest
///     [`Limits::retry_window`] events that gave way at one time, or at the sequences that it implies,
///     is [`Error::IdConflict`]: nothing is done twice because it was superseded once.
pub trait Supersede: EventLog {
    /// Lets the events of a stream give way to others: adopted ones first, which keep their births,
    /// then the store's own. Answers, when it survives a power cut, with the receipt of the new
    /// events; without any the stream ends below [`from`](Supersession::from), and the receipt's
    /// `last_sequence` is below its `first_sequence`.
    ///
    /// Dropping the future does not undo it: it is done whole or not at all.
    ///
    /// # Errors
    /// [`Error::WrongVersion`] when `head` is not the stream's newest event, [`Error::IdConflict`]
    /// when an id of the store's own events is known, [`Error::InvalidInput`], [`Error::TooLarge`],
    /// [`Error::LostEvents`]: nothing was written. [`Error::Refused`], [`Error::Closed`],
    /// [`Error::Io`] as of an append.
    fn supersede(
        &self,
        what: Supersession,
    ) -> impl Future<Output = Result<AppendReceipt, Error>> + Send;
}

/// What the log says where events of a stream gave way to others: a control record, and what
/// follows it in its commit.
///
/// From here on the stream is what it was below [`from`](Self::from), then the events that were
/// recorded since. The events that gave way stay in the log; reads of the stream pass over them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Superseded {
    /// The stream.
    pub stream: StreamId,
    /// The first sequence that does not count any more.
    pub from: u64,
    /// Position of the record: what was recorded before it, from `from` on, is superseded. (Where a
    /// repair lost the record, the first position behind the loss; the record stands further on.)
    pub at: u64,
    /// The stream's last sequence before; below `from` when nothing gave way.
    pub replaced: u64,
    /// How many events of another origin follow, from sequence `from` on.
    pub adopted: u32,
    /// How many of this store's own follow those.
    pub reissued: u32,
}

/// A stream's new end: what [`Superseded`] records. It takes the place of the stream's events from
/// [`from`](Self::from) on.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Supersession {
    /// The stream.
    pub stream: StreamId,
    /// Its newest event, which must still be that.
    pub head: StreamHead,
    /// The first sequence that is superseded.
    pub from: u64,
    /// Events that were recorded elsewhere first, with their births: they get the sequences from
    /// `from` on.
    pub adopted: Vec<NewEvent>,
    /// Events of this store's own behind those.
    pub reissued: Vec<NewEvent>,
}

impl Supersession {
    /// Nothing in place of the events of `stream` from `from` on; `head` is its newest one.
    pub fn new(stream: StreamId, head: StreamHead, from: u64) -> Self {
        Self {
            stream,
            head,
            from,
            adopted: Vec::new(),
            reissued: Vec::new(),
        }
    }

    /// The same with these events of another origin first.
    pub fn with_adopted(mut self, adopted: Vec<NewEvent>) -> Self {
        self.adopted = adopted;
        self
    }

    /// The same with these events of this store's own last.
    pub fn with_reissued(mut self, reissued: Vec<NewEvent>) -> Self {
        self.reissued = reissued;
        self
    }

    /// Checks all that can be checked without the log; backends call it first.
    ///
    /// # Errors
    /// [`Error::InvalidInput`], [`Error::TooLarge`].
    pub fn check(&self, limits: &Limits) -> Result<(), Error> {
        if self.from == 0 || self.from > self.head.sequence.saturating_add(1) {
            let reason = format!("the stream has sequences from 1 to {}", self.head.sequence);
            return Err(Error::invalid("sequence", self.from, reason));
        }
        if self.stream.is_reserved() {
            let reason = "types beginning with '$' are reserved";
            return Err(Error::invalid("stream", &self.stream, reason));
        }
        let no_birth = self.adopted.iter().find(|event| event.birth.is_none());
        let birth = self.reissued.iter().find(|event| event.birth.is_some());
        if let Some(event) = no_birth.or(birth) {
            let reason = "adopted events have a birth, the store's own have none";
            return Err(Error::invalid("event", event.event_id, reason));
        }
        let events = self.events();
        if events.is_empty() {
            return Ok(());
        }
        let all = AppendBatch::new(self.stream.clone(), ExpectedVersion::Any, events);
        check_append(&[all], limits)
    }

    /// The adopted events, then the store's own.
    #[doc(hidden)]
    pub fn events(&self) -> Vec<NewEvent> {
        [self.adopted.as_slice(), self.reissued.as_slice()].concat()
    }
}

#[derive(Serialize, Deserialize)]
struct Fields<'a> {
    aggregate_type: &'a str,
    aggregate_id: &'a str,
    from: u64,
    at: u64,
    replaced: u64,
    adopted: u32,
    reissued: u32,
}

impl Superseded {
    /// Event type of the control record.
    pub const EVENT_TYPE: &'static str = "Supersede";

    /// What `envelope` says, if it is such a record.
    pub fn of(envelope: &EventEnvelope<Bytes>) -> Option<Self> {
        let is_it = envelope.kind == RecordKind::Control
            && &*envelope.event_type == Self::EVENT_TYPE
            && envelope.stream.is_reserved();
        let what = is_it.then(|| Self::decode(&envelope.event)).flatten()?;
        // A repair that lost such a record says later what it has found out.
        (Some(what.at) <= envelope.position).then_some(what)
    }

    /// Whether it is about the event: its stream's, at or above `from`, recorded before.
    ///
    /// `position` is where the event stands in the log.
    pub fn concerns(&self, stream: &StreamId, sequence: u64, position: u64) -> bool {
        self.from <= sequence && position < self.at && self.stream == *stream
    }

    /// Payload of the record.
    ///
    /// # Errors
    /// None that this version knows of.
    #[doc(hidden)]
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let fields = Fields {
            aggregate_type: self.stream.aggregate_type(),
            aggregate_id: self.stream.aggregate_id(),
            from: self.from,
            at: self.at,
            replaced: self.replaced,
            adopted: self.adopted,
            reissued: self.reissued,
        };
        postcard::to_stdvec(&fields)
            .map_err(|error| Error::invalid("superseded events", &self.stream, error.to_string()))
    }

    /// The same read back.
    #[doc(hidden)]
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let (fields, rest) = postcard::take_from_bytes::<Fields<'_>>(payload).ok()?;
        let stream = StreamId::new(fields.aggregate_type, fields.aggregate_id).ok()?;
        let is_right = rest.is_empty() && fields.from > 0 && fields.at > 0;
        is_right.then_some(Self {
            stream,
            from: fields.from,
            at: fields.at,
            replaced: fields.replaced,
            adopted: fields.adopted,
            reissued: fields.reissued,
        })
    }

    /// Id of the record: a version 8 UUID from BLAKE3 over its payload.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    #[doc(hidden)]
    pub fn record_id(&self) -> Result<EventId, Error> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"tidelog superseded v1");
        hasher.update(&self.encode()?);
        let mut bytes = [0; 16];
        hasher.finalize_xof().fill(&mut bytes);
        Ok(EventId::from_uuid(Uuid::new_v8(bytes)))
    }

    /// One as a repair finds it out: what stands behind position `at` begins at sequence `from`.
    #[doc(hidden)]
    pub fn found(stream: StreamId, from: u64, at: u64) -> Self {
        Self {
            stream,
            from,
            at,
            replaced: 0,
            adopted: 0,
            reissued: 0,
        }
    }

    /// One as a backend records it.
    #[doc(hidden)]
    pub fn new(what: &Supersession, at: u64) -> Self {
        let count = |events: &[NewEvent]| u32::try_from(events.len()).unwrap_or(u32::MAX);
        Self {
            stream: what.stream.clone(),
            from: what.from,
            at,
            replaced: what.head.sequence,
            adopted: count(&what.adopted),
            reissued: count(&what.reissued),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails shall stop")]
mod tests {
    use super::*;

    fn sample() -> Superseded {
        Superseded {
            stream: StreamId::new("Till", "7").unwrap(),
            from: 300,
            at: 5,
            replaced: 301,
            adopted: 2,
            reissued: 1,
        }
    }

    #[test]
    fn golden_bytes_of_the_record() {
        let golden = b"\x04Till\x017\xac\x02\x05\xad\x02\x02\x01";
        assert_eq!(sample().encode().unwrap(), golden);
        assert_eq!(Superseded::decode(golden), Some(sample()));
    }

    #[test]
    fn what_is_no_such_record_is_not_read_as_one() {
        let golden = sample().encode().unwrap();
        for end in 0..golden.len() {
            assert_eq!(Superseded::decode(&golden[..end]), None, "cut at {end}");
        }
        assert_eq!(Superseded::decode(&[&golden[..], &[0]].concat()), None);
        let from_nowhere = Superseded {
            from: 0,
            ..sample()
        };
        assert_eq!(Superseded::decode(&from_nowhere.encode().unwrap()), None);
        let reserved = Superseded {
            stream: StreamId::new_reserved("$tidelog", "control").unwrap(),
            ..sample()
        };
        assert_eq!(Superseded::decode(&reserved.encode().unwrap()), None);
    }

    #[test]
    fn it_concerns_what_was_recorded_before_it_from_its_sequence_on() {
        let what = sample();
        let stream = &what.stream;
        assert!(what.concerns(stream, 300, 4));
        assert!(!what.concerns(stream, 299, 4), "below it");
        assert!(!what.concerns(stream, 300, 6), "recorded since");
        assert!(!what.concerns(&stream.sibling("8").unwrap(), 300, 4));
    }
}
