//! One record: an event, or a record of the library itself, as bytes that stand alone.
//!
//! The layout is drawn in `ARCHITECTURE.md`. It is canonical: equal content has equal bytes, and
//! the decoder refuses any other form, so that a commit can be made again bit for bit.

mod names;

use std::sync::Arc;

use bytes::Bytes;
use tidelog_core::{
    Batch, Birth, ContentType, EventEnvelope, EventId, Metadata, RecordKind, StreamId, Tags,
    Timestamp,
};

use uuid::Uuid;

use super::varint::{self, Reader, unzigzag, zigzag};

pub(crate) use names::Names;

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

#[cfg(test)]
mod tests;
