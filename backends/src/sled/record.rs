//! One record: an event, or a record of the library itself, as bytes that stand alone.
//!
//! The layout is drawn in `ARCHITECTURE.md`. It is canonical: equal content has equal bytes, and
//! the decoder refuses any other form, so that a commit can be made again bit for bit.

use std::sync::Arc;

use bytes::Bytes;
use tidelog_core::{
    Batch, Birth, ContentType, EventEnvelope, EventId, Metadata, RecordKind, StreamId, Tags,
    Timestamp,
};

use uuid::Uuid;

use super::varint::{self, Reader, unzigzag, zigzag};

/// Length and CRC, before what they cover.
pub(crate) const PREFIX: usize = 8;
/// Bytes of a record's fields of fixed length.
const FIXED: usize = 28;
/// No record is shorter than its prefix and fixed fields.
const MIN_LEN: usize = FIXED + 10;

const HAS_METADATA: u8 = 1;
const HAS_TAGS: u8 = 2;
const HAS_KEY_ID: u8 = 4;
const HAS_ORIGIN: u8 = 8;
const HAS_CONTENT_NAME: u8 = 16;
const KNOWN_FIELDS: u8 = 31;

/// What is encoded, borrowed from wherever it stands.
pub(crate) struct Record<'a> {
    pub kind: RecordKind,
    pub event_id: EventId,
    pub recorded_time: Timestamp,
    pub event_time: Timestamp,
    pub position: u64,
    pub sequence: u64,
    pub revision: u32,
    pub batch: Batch,
    pub stream: &'a StreamId,
    pub event_type: &'a str,
    pub content_type: &'a ContentType,
    pub metadata: &'a Metadata,
    pub tags: &'a Tags,
    /// Of an adopted record, and of no other.
    pub birth: Option<&'a Birth>,
    pub payload: &'a [u8],
}

#[cfg(any(feature = "fuzzing", feature = "internals"))]
impl<'a> Record<'a> {
    /// The record that `envelope` was read from, if that has no key id.
    pub(crate) fn of(envelope: &'a EventEnvelope) -> Self {
        Self {
            kind: envelope.kind,
            event_id: envelope.event_id,
            recorded_time: envelope.recorded_time,
            event_time: envelope.event_time,
            position: envelope.position.unwrap_or_default(),
            sequence: envelope.sequence,
            revision: envelope.revision,
            batch: envelope.batch,
            stream: &envelope.stream,
            event_type: &envelope.event_type,
            content_type: &envelope.content_type,
            metadata: &envelope.metadata,
            tags: &envelope.tags,
            birth: envelope.birth.as_deref(),
            payload: &envelope.event,
        }
    }
}

impl Record<'_> {
    /// Appends the record to `out` and returns its length.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        out.extend_from_slice(&[0; PREFIX]);
        let (content_code, content_name) = content_code(self.content_type);
        let mut fields = 0;
        if !self.metadata.is_empty() {
            fields |= HAS_METADATA;
        }
        if !self.tags.as_slice().is_empty() {
            fields |= HAS_TAGS;
        }
        if content_name.is_some() {
            fields |= HAS_CONTENT_NAME;
        }
        if self.birth.is_some() {
            fields |= HAS_ORIGIN;
        }
        out.extend_from_slice(&[kind_code(self.kind), fields, 0, content_code]);
        out.extend_from_slice(self.event_id.as_bytes());
        let recorded = self.recorded_time.as_micros();
        out.extend_from_slice(&recorded.to_le_bytes());
        varint::put(
            out,
            zigzag(self.event_time.as_micros().wrapping_sub(recorded)),
        );
        varint::put(out, self.position);
        varint::put(out, self.sequence);
        varint::put(out, u64::from(self.revision));
        varint::put(out, self.position - self.batch.first);
        varint::put(out, u64::from(self.batch.count));
        varint::put_bytes(out, self.stream.aggregate_type().as_bytes());
        varint::put_bytes(out, self.stream.aggregate_id().as_bytes());
        varint::put_bytes(out, self.event_type.as_bytes());
        if let Some(name) = content_name {
            varint::put_bytes(out, name.as_bytes());
        }
        if fields & HAS_METADATA != 0 {
            varint::put(out, self.metadata.len() as u64);
            for (key, value) in self.metadata {
                varint::put_bytes(out, key.as_bytes());
                varint::put_bytes(out, value.as_bytes());
            }
        }
        if fields & HAS_TAGS != 0 {
            varint::put(out, self.tags.as_slice().len() as u64);
            for tag in self.tags.as_slice() {
                varint::put_bytes(out, tag.as_bytes());
            }
        }
        if let Some(birth) = self.birth {
            out.extend_from_slice(birth.origin.as_bytes());
            out.extend_from_slice(birth.epoch.as_bytes());
            out.extend_from_slice(&birth.recorded_time.as_micros().to_le_bytes());
            varint::put(out, birth.position);
        }
        out.extend_from_slice(self.payload);
        let total = out.len() - start;
        if let Some((prefix, body)) = out
            .get_mut(start..)
            .and_then(|record| record.split_first_chunk_mut::<PREFIX>())
        {
            // Limits keep a record far below 4 GiB.
            let len = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
            let crc = crc32c::crc32c(body).to_le_bytes();
            for (to, from) in prefix.iter_mut().zip(len.into_iter().chain(crc)) {
                *to = from;
            }
        }
        total
    }
}

fn kind_code(kind: RecordKind) -> u8 {
    match kind {
        RecordKind::Adopted => 2,
        RecordKind::Control => 3,
        // `RecordKind` is non-exhaustive only towards users: these are all.
        _ => 1,
    }
}

fn content_code(content_type: &ContentType) -> (u8, Option<&str>) {
    match content_type {
        ContentType::Postcard => (1, None),
        ContentType::Json => (2, None),
        ContentType::Bytes => (3, None),
        ContentType::Other(name) => (0, Some(name)),
    }
}

/// The whole length of the record that begins with `prefix`, not yet believed.
pub(crate) fn total_len(prefix: &[u8]) -> Option<usize> {
    let len = u32::from_le_bytes(*prefix.first_chunk::<4>()?) as usize;
    PREFIX.checked_add(len).filter(|total| *total >= MIN_LEN)
}

/// A record whose CRC holds, with its fields read but not copied.
#[derive(Clone, Copy)]
pub(crate) struct Parsed<'a> {
    pub kind: RecordKind,
    pub event_id: EventId,
    pub recorded_time: Timestamp,
    pub event_time: Timestamp,
    pub position: u64,
    pub sequence: u64,
    pub revision: u32,
    pub batch: Batch,
    pub aggregate_type: &'a [u8],
    pub aggregate_id: &'a [u8],
    pub event_type: &'a [u8],
    pub payload: &'a [u8],
    /// Nothing unless it is adopted.
    birth: &'a [u8],
    #[cfg(feature = "fuzzing")]
    has_key_id: bool,
    content_code: u8,
    content_name: &'a str,
    metadata: &'a [u8],
    tags: &'a [u8],
}

/// Reads the record that is exactly `bytes`; says what is wrong with it otherwise.
#[inline]
pub(crate) fn parse(bytes: &[u8]) -> Result<Parsed<'_>, &'static str> {
    let parsed = parse_fields(bytes)?;
    let names = [
        parsed.aggregate_type,
        parsed.aggregate_id,
        parsed.event_type,
    ];
    if names.iter().all(|name| std::str::from_utf8(name).is_ok()) {
        Ok(parsed)
    } else {
        Err("the record's names are not text")
    }
}

/// The same for who compares the names with those wanted, or makes text of them: that they are text
/// is not checked.
#[inline(always)]
#[allow(clippy::inline_always, reason = "the fields stay in registers")]
pub(crate) fn parse_fields(bytes: &[u8]) -> Result<Parsed<'_>, &'static str> {
    check(bytes)?;
    parse_checked(bytes)
}

/// Whether `bytes` are as many as the record states, and its checksum is right.
#[inline(always)]
#[allow(clippy::inline_always, reason = "the fields stay in registers")]
pub(crate) fn check(bytes: &[u8]) -> Result<(), &'static str> {
    let Some((prefix, body)) = bytes.split_first_chunk::<PREFIX>() else {
        return Err("the record is shorter than its prefix");
    };
    let [l0, l1, l2, l3, c0, c1, c2, c3] = *prefix;
    if u32::from_le_bytes([l0, l1, l2, l3]) as usize != body.len() {
        return Err("the record's length is not the one it states");
    }
    if u32::from_le_bytes([c0, c1, c2, c3]) != crc32c::crc32c(body) {
        return Err("the record's checksum does not match");
    }
    Ok(())
}

/// Reads the fields of a record that [`check`] has found right.
#[inline(always)]
#[allow(clippy::inline_always, reason = "the fields stay in registers")]
pub(crate) fn parse_checked(bytes: &[u8]) -> Result<Parsed<'_>, &'static str> {
    let body = bytes.get(PREFIX..).and_then(parse_body);
    body.ok_or("the record's fields cannot be read")
}

#[inline(always)]
#[allow(clippy::inline_always, reason = "the fields stay in registers")]
fn parse_body(body: &[u8]) -> Option<Parsed<'_>> {
    let (fixed, rest) = body.split_first_chunk::<FIXED>()?;
    let [kind, fields, payload_flags, content_code, id_and_time @ ..] = *fixed;
    let kind = match kind {
        1 => RecordKind::Event,
        2 => RecordKind::Adopted,
        3 => RecordKind::Control,
        _ => return None,
    };
    let named = fields & HAS_CONTENT_NAME != 0;
    if fields & !KNOWN_FIELDS != 0 || payload_flags != 0 || content_code > 3 {
        return None;
    }
    if named != (content_code == 0) || (fields & HAS_ORIGIN != 0) != (kind == RecordKind::Adopted) {
        return None;
    }
    let event_id = EventId::from_bytes(*id_and_time.first_chunk()?);
    let recorded = i64::from_le_bytes(*id_and_time.last_chunk()?);
    let mut r = Reader(rest);
    let event_time = recorded.wrapping_add(unzigzag(r.varint()?));
    let position = r.number()?;
    let sequence = r.number()?;
    let revision = u32::try_from(r.varint()?).ok()?;
    let batch_offset = r.varint()?;
    let batch_count = u32::try_from(r.varint()?).ok()?;
    let aggregate_type = r.bytes()?;
    let aggregate_id = r.bytes()?;
    let event_type = r.bytes()?;
    let content_name = if named { r.text()? } else { "" };
    let metadata = if fields & HAS_METADATA != 0 {
        let list;
        (list, r) = skip_list(r, 2)?;
        list
    } else {
        &[]
    };
    let tags = if fields & HAS_TAGS != 0 {
        let list;
        (list, r) = skip_list(r, 1)?;
        list
    } else {
        &[]
    };
    if fields & HAS_KEY_ID != 0 {
        r.bytes()?;
    }
    let birth = if fields & HAS_ORIGIN != 0 {
        let bytes;
        (bytes, r) = skip_birth(r)?;
        bytes
    } else {
        &[]
    };
    Some(Parsed {
        kind,
        event_id,
        recorded_time: Timestamp::from_micros(recorded),
        event_time: Timestamp::from_micros(event_time),
        position,
        sequence,
        revision,
        batch: Batch {
            first: position.checked_sub(batch_offset)?,
            count: batch_count,
        },
        aggregate_type,
        aggregate_id,
        event_type,
        payload: r.0,
        birth,
        #[cfg(feature = "fuzzing")]
        has_key_id: fields & HAS_KEY_ID != 0,
        content_code,
        content_name,
        metadata,
        tags,
    })
}

/// The bytes of a counted list whose items are `width` texts; checked item by item, so the count is
/// never believed.
#[cold]
fn skip_list(mut r: Reader<'_>, width: u64) -> Option<(&[u8], Reader<'_>)> {
    let start = r.0;
    let count = r.varint()?;
    if count == 0 {
        return None;
    }
    let mut previous: Option<&str> = None;
    for _ in 0..count {
        let key = r.text()?;
        if previous.is_some_and(|previous| previous >= key) {
            return None;
        }
        previous = Some(key);
        for _ in 1..width {
            r.text()?;
        }
    }
    let list = start.get(..start.len() - r.0.len())?;
    Some((list, r))
}

/// The bytes of a birth.
#[cold]
fn skip_birth(mut r: Reader<'_>) -> Option<(&[u8], Reader<'_>)> {
    let start = r.0;
    r.take(16 + 16 + 8)?;
    r.varint()?;
    let bytes = start.get(..start.len() - r.0.len())?;
    Some((bytes, r))
}

impl Parsed<'_> {
    /// Adds the record to `envelopes` as one of `stream`; `page` is what it was parsed from, so the
    /// payload is not copied.
    //
    // Whatever is written and moved at once is waited for by the processor, so an envelope is built
    // where it stays.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "the fields stay in registers")]
    pub(crate) fn push_to(
        self,
        envelopes: &mut Vec<EventEnvelope>,
        page: &Bytes,
        stream: &StreamId,
        event_type: &Arc<str>,
    ) -> Option<()> {
        let content_type = match self.content_code {
            1 => ContentType::Postcard,
            2 => ContentType::Json,
            3 => ContentType::Bytes,
            _ => ContentType::Other(self.content_name.into()),
        };
        let metadata = match self.metadata {
            [] => Metadata::new(),
            bytes => metadata(bytes)?,
        };
        let tags = match self.tags {
            [] => Tags::none(),
            bytes => tags(bytes)?,
        };
        let birth = match self.birth {
            [] => None,
            bytes => Some(birth(bytes)?),
        };
        envelopes.push(EventEnvelope {
            event_id: self.event_id,
            stream: stream.clone(),
            sequence: self.sequence,
            position: Some(self.position),
            birth,
            kind: self.kind,
            event_type: Arc::clone(event_type),
            revision: self.revision,
            content_type,
            event_time: self.event_time,
            recorded_time: self.recorded_time,
            metadata,
            tags,
            batch: self.batch,
            event: page.slice_ref(self.payload),
        });
        Some(())
    }

    /// Whether a key id is in it, which the encoder cannot write yet.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn has_key_id(&self) -> bool {
        self.has_key_id
    }

    /// Whether the record belongs to `stream`.
    pub(crate) fn is_of(&self, stream: &StreamId) -> bool {
        self.aggregate_type == stream.aggregate_type().as_bytes()
            && self.aggregate_id == stream.aggregate_id().as_bytes()
    }

    /// The record's stream; `None` when it cannot be one.
    pub(crate) fn stream(&self) -> Option<StreamId> {
        stream_of(self.aggregate_type, self.aggregate_id)
    }
}

// These take fields and not the record, which need not stand in memory then.

#[cold]
fn stream_of(aggregate_type: &[u8], aggregate_id: &[u8]) -> Option<StreamId> {
    let aggregate_type = std::str::from_utf8(aggregate_type).ok()?;
    let aggregate_id = std::str::from_utf8(aggregate_id).ok()?;
    StreamId::new_reserved(aggregate_type, aggregate_id).ok()
}

#[cold]
fn metadata(bytes: &[u8]) -> Option<Metadata> {
    let mut r = Reader(bytes);
    (0..r.varint()?)
        .map(|_| Some((r.text()?, r.text()?)))
        .collect()
}

#[cold]
fn tags(bytes: &[u8]) -> Option<Tags> {
    let mut r = Reader(bytes);
    let tags: Option<Vec<&str>> = (0..r.varint()?).map(|_| r.text()).collect();
    Tags::new(tags?).ok()
}

#[cold]
fn birth(bytes: &[u8]) -> Option<Arc<Birth>> {
    let mut r = Reader(bytes);
    Some(Arc::new(Birth {
        origin: Uuid::from_bytes(r.array()?),
        epoch: Uuid::from_bytes(r.array()?),
        recorded_time: Timestamp::from_micros(i64::from_le_bytes(r.array()?)),
        position: r.varint()?,
    }))
}

/// Finds again the names met in this page, so that decoding one allocates only for new ones. Not to
/// be kept for the next page: that one is decoded while another thread drops this one, and the two
/// must not count in the same place.
pub(crate) struct Names {
    /// Names that a `StreamId` does not hold itself: one a slot, by hash; doubled while most names
    /// miss, so that a short read stays small.
    streams: Vec<Option<StreamId>>,
    misses: usize,
    /// A stream of the aggregate type met last.
    sibling: Option<StreamId>,
    /// The event types met, the last one at the end.
    types: Vec<Arc<str>>,
}

const LEAST_SLOTS: usize = 64;
const MOST_SLOTS: usize = 8_192;
const TYPE_SLOTS: usize = 32;

impl Names {
    pub(crate) fn new() -> Self {
        Self {
            streams: Vec::new(),
            misses: 0,
            sibling: None,
            types: Vec::new(),
        }
    }

    /// The record as an envelope, with its names shared where they were met before.
    pub(crate) fn envelope(&mut self, parsed: Parsed<'_>, page: &Bytes) -> Option<EventEnvelope> {
        let mut one = Vec::with_capacity(1);
        self.push(parsed, page, &mut one)?;
        one.pop()
    }

    /// The same, added to `envelopes`, which is left as it was when the record cannot be read.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "the fields stay in registers")]
    pub(crate) fn push(
        &mut self,
        parsed: Parsed<'_>,
        page: &Bytes,
        envelopes: &mut Vec<EventEnvelope>,
    ) -> Option<()> {
        if self.types.last().map(|known| known.as_bytes()) != Some(parsed.event_type) {
            self.meet_type(parsed.event_type)?;
        }
        let event_type = self.types.last()?;
        let (aggregate_type, aggregate_id) = (parsed.aggregate_type, parsed.aggregate_id);
        if aggregate_type.len() + 1 + aggregate_id.len() > StreamId::MAX_INLINE_BYTES {
            let streams = &mut self.streams;
            let stream = shared_stream(streams, &mut self.misses, aggregate_type, aggregate_id)?;
            return parsed.push_to(envelopes, page, &stream, event_type);
        }
        let sibling = match &self.sibling {
            Some(sibling) if sibling.aggregate_type().as_bytes() == aggregate_type => sibling,
            _ => {
                self.sibling = stream_of(aggregate_type, aggregate_id);
                self.sibling.as_ref()?
            }
        };
        let aggregate_id = std::str::from_utf8(aggregate_id).ok()?;
        parsed.push_to(envelopes, page, sibling, event_type)?;
        let renamed = envelopes.last_mut()?.stream.set_aggregate_id(aggregate_id);
        if renamed.is_err() {
            envelopes.pop();
            return None;
        }
        Some(())
    }

    /// Puts the event type at the end; `None` when it is not text.
    #[cold]
    fn meet_type(&mut self, event_type: &[u8]) -> Option<()> {
        let mut known = self.types.iter();
        if let Some(at) = known.position(|known| known.as_bytes() == event_type) {
            let last = self.types.len() - 1;
            self.types.swap(at, last);
            return Some(());
        }
        let fresh: Arc<str> = std::str::from_utf8(event_type).ok()?.into();
        if self.types.len() == TYPE_SLOTS {
            self.types.clear();
        }
        self.types.push(fresh);
        Some(())
    }

    /// The event type, shared with earlier records of the same type; `None` when it is not text.
    #[inline]
    pub(crate) fn event_type(&mut self, event_type: &[u8]) -> Option<&Arc<str>> {
        if self.types.last().map(|known| known.as_bytes()) != Some(event_type) {
            self.meet_type(event_type)?;
        }
        self.types.last()
    }
}

#[cold]
fn shared_stream(
    streams: &mut Vec<Option<StreamId>>,
    misses: &mut usize,
    aggregate_type: &[u8],
    aggregate_id: &[u8],
) -> Option<StreamId> {
    if *misses >= streams.len() && streams.len() < MOST_SLOTS {
        let slots = (streams.len() * 2).max(LEAST_SLOTS);
        *streams = vec![None; slots];
        *misses = 0;
    }
    let hash = crc32c::crc32c(aggregate_id) as usize;
    let slot = hash % streams.len().max(1);
    let slot = streams.get_mut(slot)?;
    let is_known = |known: &&StreamId| {
        aggregate_type == known.aggregate_type().as_bytes()
            && aggregate_id == known.aggregate_id().as_bytes()
    };
    if let Some(known) = slot.as_ref().filter(is_known) {
        return Some(known.clone());
    }
    *misses += 1;
    *slot = stream_of(aggregate_type, aggregate_id);
    slot.clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample<'a>(
        stream: &'a StreamId,
        content_type: &'a ContentType,
        metadata: &'a Metadata,
        tags: &'a Tags,
        payload: &'a [u8],
    ) -> Record<'a> {
        Record {
            kind: RecordKind::Event,
            event_id: EventId::from_bytes([7; 16]),
            recorded_time: Timestamp::from_micros(1_000_000),
            event_time: Timestamp::from_micros(999_999),
            position: 300,
            sequence: 2,
            revision: 1,
            batch: Batch {
                first: 299,
                count: 2,
            },
            stream,
            event_type: "Deposited",
            content_type,
            metadata,
            tags,
            birth: None,
            payload,
        }
    }

    #[test]
    fn golden_bytes_of_a_record() {
        let stream = StreamId::new("Account", "a1").unwrap();
        let metadata = Metadata::new().with("k", "v");
        let tags = Tags::new(["t:1"]).unwrap();
        let mut out = Vec::new();
        sample(&stream, &ContentType::Json, &metadata, &tags, b"{}").encode(&mut out);
        let hex: String = out.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            concat!(
                "44000000",
                "634ced81",
                "01030002",
                "07070707070707070707070707070707",
                "40420f0000000000",
                "01",
                "ac02",
                "02",
                "01",
                "01",
                "02",
                "074163636f756e74",
                "026131",
                "094465706f7369746564",
                "01016b0176",
                "0103743a31",
                "7b7d"
            )
        );
    }

    #[test]
    fn golden_bytes_of_an_adopted_record() {
        let stream = StreamId::new("Account", "a1").unwrap();
        let birth = Birth {
            origin: Uuid::from_bytes([0xaa; 16]),
            epoch: Uuid::from_bytes([0xbb; 16]),
            position: 200,
            recorded_time: Timestamp::from_micros(-2),
        };
        let (metadata, tags) = (Metadata::new(), Tags::none());
        let mut record = sample(&stream, &ContentType::Json, &metadata, &tags, b"{}");
        record.kind = RecordKind::Adopted;
        record.birth = Some(&birth);
        let mut out = Vec::new();
        record.encode(&mut out);
        let hex: String = out.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            concat!(
                "64000000",
                "76778c28",
                "02080002",
                "07070707070707070707070707070707",
                "40420f0000000000",
                "01",
                "ac02",
                "02",
                "01",
                "01",
                "02",
                "074163636f756e74",
                "026131",
                "094465706f7369746564",
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
                "feffffffffffffff",
                "c801",
                "7b7d"
            )
        );
        let page = Bytes::from(out);
        let read = Names::new().envelope(parse(&page).unwrap(), &page).unwrap();
        assert_eq!(
            (read.kind, read.birth.as_deref()),
            (RecordKind::Adopted, Some(&birth))
        );
        assert_eq!(&read.event[..], b"{}");
        // Each goes with the other, and with nothing else.
        for (kind, birth) in [
            (RecordKind::Adopted, None),
            (RecordKind::Event, Some(&birth)),
        ] {
            let mut record = sample(&stream, &ContentType::Json, &metadata, &tags, b"{}");
            (record.kind, record.birth) = (kind, birth);
            let mut out = Vec::new();
            record.encode(&mut out);
            assert!(parse(&out).is_err(), "{kind:?} with {birth:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            aggregate_id in "[^\\p{Cc}]{1,40}",
            name in proptest::option::of("[a-z]{1,9}/[a-z]{1,9}"),
            metadata in proptest::collection::btree_map(".{0,9}", ".{0,9}", 0..4),
            tags in proptest::collection::vec("[a-z]{1,5}:[a-z]{0,5}", 0..4),
            payload: Vec<u8>,
            event_micros: i64,
            birth: Option<(u128, u128, u64, i64)>,
        ) {
            let birth = birth.map(|(origin, epoch, position, micros)| Birth {
                origin: Uuid::from_u128(origin),
                epoch: Uuid::from_u128(epoch),
                position,
                recorded_time: Timestamp::from_micros(micros),
            });
            let stream = StreamId::new("T", &aggregate_id).unwrap();
            let content_type =
                name.map_or(ContentType::Postcard, |n| ContentType::parse(&n).unwrap());
            let (metadata, tags) = (Metadata::from(metadata), Tags::new(tags).unwrap());
            let mut record = sample(&stream, &content_type, &metadata, &tags, &payload);
            record.event_time = Timestamp::from_micros(event_micros);
            if birth.is_some() {
                (record.kind, record.birth) = (RecordKind::Adopted, birth.as_ref());
            }
            let mut out = Vec::new();
            let len = record.encode(&mut out);
            prop_assert_eq!(len, out.len());
            prop_assert_eq!(total_len(&out), Some(len));
            let page = Bytes::from(out);
            let envelope = Names::new().envelope(parse(&page).unwrap(), &page).unwrap();
            prop_assert_eq!(&envelope.stream, &stream);
            prop_assert_eq!(&envelope.content_type, &content_type);
            prop_assert_eq!(&envelope.metadata, &metadata);
            prop_assert_eq!(&envelope.tags, &tags);
            prop_assert_eq!(envelope.birth.as_deref(), birth.as_ref());
            prop_assert_eq!(&envelope.event[..], &payload[..]);
            prop_assert_eq!(envelope.event_time.as_micros(), event_micros);
            prop_assert_eq!(envelope.batch, Batch { first: 299, count: 2 });
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(mut bytes: Vec<u8>, fix_crc: bool) {
            if fix_crc && bytes.len() > PREFIX {
                let (prefix, body) = bytes.split_at_mut(PREFIX);
                prefix[..4].copy_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
                prefix[4..].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
            }
            let page = Bytes::from(bytes);
            if let Ok(parsed) = parse(&page) {
                let _ = Names::new().envelope(parsed, &page);
            }
        }
    }
}
