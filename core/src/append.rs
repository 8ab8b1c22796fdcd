//! What an append asks for and what it answers.

use std::collections::HashSet;
use std::fmt;

use crate::clock::Timestamp;
use crate::content_type::ContentType;
use crate::envelope::{EventEnvelope, NewEvent};
use crate::error::Error;
use crate::id::EventId;
use crate::limits::Limits;
use crate::stream_id::StreamId;

/// Where the caller expects the stream to be; checked in one step with the append.
///
/// ```
/// use tidelog_core::ExpectedVersion;
/// assert!(ExpectedVersion::Exact(7).holds(7));
/// assert!(!ExpectedVersion::NoStream.holds(7));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ExpectedVersion {
    /// Anywhere.
    #[default]
    Any,
    /// Without any event.
    NoStream,
    /// With at least one event.
    StreamExists,
    /// With its last event at this sequence. `Exact(0)` is the same as `NoStream`.
    Exact(u64),
}

impl ExpectedVersion {
    /// Whether a stream whose last sequence is `actual` (0: no events) is as expected.
    pub const fn holds(self, actual: u64) -> bool {
        match self {
            Self::Any => true,
            Self::NoStream => actual == 0,
            Self::StreamExists => actual > 0,
            Self::Exact(sequence) => actual == sequence,
        }
    }

    /// The head sequence this expectation implies, when it implies one.
    pub const fn implied_head(self) -> Option<u64> {
        match self {
            Self::NoStream => Some(0),
            Self::Exact(sequence) => Some(sequence),
            Self::Any | Self::StreamExists => None,
        }
    }
}

impl fmt::Display for ExpectedVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any version"),
            Self::NoStream => f.write_str("no stream"),
            Self::StreamExists => f.write_str("an existing stream"),
            Self::Exact(sequence) => write!(f, "sequence {sequence}"),
        }
    }
}

/// The sequence that the next event of a stream gets: one above the last event's, 1 for an empty
/// stream.
///
/// `events` are the stream's events (or its newest ones); `snapshot_sequence` counts when there is
/// no event after the snapshot.
///
/// A stream whose newest records are read as no event any more, since an upcaster drops them, has a
/// later one: [`EventStore::head`](crate::EventStore::head) tells it then.
///
/// ```
/// use bytes::Bytes;
/// use tidelog_core::{EventEnvelope, next_sequence};
/// assert_eq!(next_sequence::<Bytes>(&[], None), 1);
/// assert_eq!(next_sequence::<Bytes>(&[], Some(41)), 42);
/// ```
pub fn next_sequence<E>(events: &[EventEnvelope<E>], snapshot_sequence: Option<u64>) -> u64 {
    let last_event = events
        .iter()
        .map(|envelope| envelope.sequence)
        .max()
        .unwrap_or(0);
    last_event.max(snapshot_sequence.unwrap_or(0)) + 1
}

/// What an acknowledged append has survived; the strongest asked for in a group commit holds for
/// the whole group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Durability {
    /// The end of the process: the bytes are with the operating system. A power cut may take the
    /// newest of such appends, always whole and from the end.
    Process,
    /// A power cut: the bytes are on the disk.
    #[default]
    Power,
}

/// Events for one stream, recorded all or not at all.
///
/// ```
/// use tidelog_core::{AppendBatch, ContentType, ExpectedVersion, NewEvent, StreamId};
/// let stream = StreamId::new("BankAccount", "acc-1")?;
/// let opened = NewEvent::new("Opened", 1, ContentType::Postcard, vec![]);
/// let batch = AppendBatch::new(stream, ExpectedVersion::NoStream, vec![opened]);
/// assert_eq!(batch.events.len(), 1);
/// # Ok::<(), tidelog_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct AppendBatch {
    /// The stream to append to.
    pub stream: StreamId,
    /// Where it is expected to be.
    pub expected: ExpectedVersion,
    /// The event that stands at the expected sequence, by its id. It is looked at only in a stream
    /// whose events gave way to another origin's ([`Superseded`](crate::Superseded)): there, an equal
    /// sequence may mean another event, and what was decided on the old one must not be appended to
    /// the new one. `None`: the sequence alone counts.
    pub after: Option<EventId>,
    /// What to append, in order; at least one event.
    pub events: Vec<NewEvent>,
    /// What the acknowledgement shall have survived; `None` leaves it to the store, whose default
    /// is [`Durability::Power`].
    pub durability: Option<Durability>,
}

impl AppendBatch {
    /// A batch with the store's own durability: by default it is acknowledged when it survives a
    /// power cut.
    pub fn new(stream: StreamId, expected: ExpectedVersion, events: Vec<NewEvent>) -> Self {
        Self {
            stream,
            expected,
            after: None,
            events,
            durability: None,
        }
    }

    /// The same, to follow this event; see [`after`](Self::after).
    pub fn with_after(mut self, event_id: EventId) -> Self {
        self.after = Some(event_id);
        self
    }

    /// The same with another durability.
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }
}

/// Checks all parts of one append against the limits and the naming rules; backends call it first.
///
/// # Errors
/// [`Error::TooLarge`] or [`Error::InvalidInput`], naming the first fault found.
pub fn check_append(parts: &[AppendBatch], limits: &Limits) -> Result<(), Error> {
    let mut count = 0_usize;
    let mut bytes = 0_usize;
    check_streams_once(parts)?;
    for part in parts {
        if part.stream.is_reserved() {
            return Err(Error::invalid(
                "stream",
                &part.stream,
                "types beginning with '$' are reserved",
            ));
        }
        if part.events.is_empty() {
            return Err(Error::invalid(
                "batch",
                &part.stream,
                "it holds no events for this stream",
            ));
        }
        count += part.events.len();
        if count > limits.batch_events {
            return Err(Error::too_large(
                "batch (events)",
                count,
                limits.batch_events,
            ));
        }
        for event in &part.events {
            check_event(event, limits)?;
            bytes += event.payload.len() + event.metadata.size() + event.tags.size();
        }
        if bytes > limits.batch_bytes {
            return Err(Error::too_large("batch", bytes, limits.batch_bytes));
        }
        check_ids_once(&part.events)?;
    }
    if parts.is_empty() {
        return Err(Error::invalid("batch", "", "it names no stream"));
    }
    Ok(())
}

fn check_streams_once(parts: &[AppendBatch]) -> Result<(), Error> {
    if parts.len() < 2 {
        return Ok(());
    }
    let mut streams = HashSet::with_capacity(parts.len());
    match parts.iter().find(|part| !streams.insert(&part.stream)) {
        None => Ok(()),
        Some(twice) => {
            let reason = "the stream stands twice in one batch; join its events into one part";
            Err(Error::invalid("batch", &twice.stream, reason))
        }
    }
}

fn check_event(event: &NewEvent, limits: &Limits) -> Result<(), Error> {
    let type_len = event.event_type.len();
    if type_len > NewEvent::MAX_TYPE_BYTES {
        return Err(Error::too_large(
            "event type",
            type_len,
            NewEvent::MAX_TYPE_BYTES,
        ));
    }
    if type_len == 0 || event.event_type.chars().any(char::is_control) {
        let reason = "it must be 1 to 128 bytes without control characters";
        return Err(Error::invalid(
            "event type",
            event.event_type.escape_debug(),
            reason,
        ));
    }
    if let ContentType::Other(name) = &event.content_type
        && ContentType::parse(name)? != event.content_type
    {
        return Err(Error::invalid(
            "content type",
            name,
            "write it as ContentType::parse gives it",
        ));
    }
    if event.revision == 0 {
        return Err(Error::invalid("revision", 0, "revisions start at 1"));
    }
    if event.payload.len() > limits.payload_bytes {
        return Err(Error::too_large(
            "payload",
            event.payload.len(),
            limits.payload_bytes,
        ));
    }
    let beside = event.metadata.size() + event.tags.size();
    if beside > limits.metadata_bytes {
        return Err(Error::too_large(
            "metadata and tags",
            beside,
            limits.metadata_bytes,
        ));
    }
    Ok(())
}

fn check_ids_once(events: &[NewEvent]) -> Result<(), Error> {
    if events.len() < 2 {
        return Ok(());
    }
    let mut ids: Vec<_> = events.iter().map(|event| event.event_id).collect();
    ids.sort_unstable();
    match ids.windows(2).find(|pair| pair.first() == pair.last()) {
        Some([twice, ..]) => Err(Error::invalid(
            "event id",
            twice,
            "it stands twice in one batch",
        )),
        _ => Ok(()),
    }
}

/// Whether an append wrote anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AppendOutcome {
    /// The events were recorded by this call.
    Appended,
    /// They stood there already, with the same ids and content: this was a retry, and the receipt
    /// is the first one's.
    AlreadyAppended,
}

/// The acknowledgement of one [`AppendBatch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendReceipt {
    /// The stream appended to.
    pub stream: StreamId,
    /// Sequence of the first event.
    pub first_sequence: u64,
    /// Sequence of the last event.
    pub last_sequence: u64,
    /// Position of the first event; `None` from a backend without a global order.
    pub first_position: Option<u64>,
    /// Position of the last event.
    pub last_position: Option<u64>,
    /// When the store recorded them.
    pub recorded_time: Timestamp,
    /// Whether this call wrote them.
    pub outcome: AppendOutcome,
}
