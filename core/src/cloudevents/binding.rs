//! One recorded event as a message of Kafka, by the CloudEvents binding, in both of its modes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::{Datelike, Timelike};

use super::attributes::{self, Attributes};
use super::headers::Headers;
use super::write::{YEARS, birth, json};
use super::{BatchPlace, foreign, own, write_line};
use crate::clock::Timestamp;
use crate::envelope::{EventEnvelope, NewEvent};
use crate::error::Error;
use crate::store::LogIdentity;
use crate::stream_id::StreamId;

const STRUCTURED: &[u8] = b"application/cloudevents+json; charset=UTF-8";
/// Of one message. Others than ours may have any; who sends thousands is not to be searched by each.
const MOST_HEADERS: usize = 256;
/// Of one header: the largest metadata that a store takes by default is below it, as JSON.
const MOST_BYTES: usize = 512 << 10;

/// What a message says.
#[derive(Clone, Debug, PartialEq)]
pub struct MessageEvent {
    /// The stream it belongs to; `None` when its subject names none, which only others' does not: that
    /// subject, if there is one, stands in the metadata as `cloudevents-subject`.
    pub stream: Option<StreamId>,
    /// Its place there; `None` when the message is of another system.
    pub sequence: Option<u64>,
    /// Its place in its append.
    pub batch: BatchPlace,
    /// The event, with its birth when the message is of a tidelog.
    pub event: NewEvent,
}

/// Where the attributes of an event stand in its message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MessageMode {
    /// In headers, with the payload as it is as the value.
    #[default]
    Binary,
    /// In the value, which is the event's line without its line break.
    Structured,
}

/// Makes the message of `envelope`, which was read from the log `log`: puts its headers into `headers`
/// instead of what was there, and answers its value, made in `line` where it has to be made. Its key is
/// to be the aggregate id. A value of zero length is one: it must not become null, which is a tombstone.
///
/// | header in binary mode | value |
/// |---|---|
/// | `ce_specversion`, `ce_id`, `ce_source`, `ce_type`, `ce_subject` | as in a line |
/// | `ce_time`, or `ce_eventmicros` | as in a line |
/// | `content-type` | the payload's |
/// | `ce_sequence`, `ce_revision`, `ce_position`, `ce_epoch` | as in a line |
/// | `ce_recordedtime`, or `ce_recordedmicros` | as in a line |
/// | `ce_batchindex`, `ce_batchcount` | decimal text |
/// | `ce_metadata`, `ce_tags` | as in a line, left out when empty |
/// | `ce_traceparent`, `ce_traceid`, `ce_correlationid`, `ce_causationid` | those of the metadata, again, for others |
///
/// In structured mode there is `content-type` alone. So goes, whatever the mode, an event whose payload is
/// one of `CloudEvents` by its own content type, since that is what tells the modes apart.
pub fn to_message<'a>(
    envelope: &'a EventEnvelope,
    log: &LogIdentity,
    batch: BatchPlace,
    mode: MessageMode,
    headers: &mut Headers,
    line: &'a mut Vec<u8>,
) -> &'a [u8] {
    headers.clear();
    if mode == MessageMode::Structured || is_structured(envelope.content_type.as_str()) {
        headers.put("content-type", STRUCTURED);
        line.clear();
        write_line(envelope, log, batch, line);
        line.pop();
        line
    } else {
        binary(envelope, log, batch, headers);
        &envelope.event
    }
}

fn binary(envelope: &EventEnvelope, log: &LogIdentity, batch: BatchPlace, headers: &mut Headers) {
    let birth = birth(envelope, log);
    headers.put("ce_specversion", b"1.0");
    headers.uuid("ce_id", "", envelope.event_id.as_uuid());
    headers.uuid("ce_source", "urn:uuid:", &birth.origin);
    headers.put("ce_type", envelope.event_type.as_bytes());
    headers.put("ce_subject", envelope.stream.as_str().as_bytes());
    time(headers, "ce_time", "ce_eventmicros", envelope.event_time);
    headers.put("content-type", envelope.content_type.as_str().as_bytes());
    headers.number("ce_sequence", envelope.sequence);
    headers.number("ce_revision", envelope.revision);
    headers.number("ce_position", birth.position);
    headers.uuid("ce_epoch", "", &birth.epoch);
    let recorded = birth.recorded_time;
    time(headers, "ce_recordedtime", "ce_recordedmicros", recorded);
    headers.number("ce_batchindex", batch.index);
    headers.number("ce_batchcount", batch.count);
    let metadata = &envelope.metadata;
    if !metadata.is_empty() {
        let map: BTreeMap<&str, &str> = metadata.iter().collect();
        headers.put("ce_metadata", json(&map).as_bytes());
    }
    if !envelope.tags.as_slice().is_empty() {
        headers.put("ce_tags", json(envelope.tags.as_slice()).as_bytes());
    }
    if metadata.is_empty() {
        return;
    }
    for (name, (_, key)) in [
        "ce_traceparent",
        "ce_traceid",
        "ce_correlationid",
        "ce_causationid",
    ]
    .into_iter()
    .zip(own::FOR_OTHERS)
    {
        if let Some(value) = metadata.get(key) {
            headers.put(name, value.as_bytes());
        }
    }
}

fn time(headers: &mut Headers, name: &'static str, micros: &'static str, time: Timestamp) {
    if YEARS.contains(&time.as_micros()) {
        headers.put(name, &rfc3339(time));
    } else {
        headers.number(micros, time.as_micros());
    }
}

/// With microseconds, of the years 1 to 9999. Digit by digit: texts made by `fmt` took 8 % of the
/// publisher's thread.
fn rfc3339(time: Timestamp) -> [u8; 27] {
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    let micros = time.as_micros().rem_euclid(1_000_000);
    let time = time.to_datetime();
    let parts = [
        (0..4, time.year().unsigned_abs()),
        (5..7, time.month()),
        (8..10, time.day()),
        (11..13, time.hour()),
        (14..16, time.minute()),
        (17..19, time.second()),
        (20..26, u32::try_from(micros).unwrap_or_default()),
    ];
    for (place, mut number) in parts {
        for digit in text.get_mut(place).into_iter().flatten().rev() {
            // Below 10.
            *digit += u8::try_from(number % 10).unwrap_or_default();
            number /= 10;
        }
    }
    text
}

/// Reads a message by its headers and its value, in either mode. Names of headers may be in capital
/// letters; headers that are none of CloudEvents' are passed over.
///
/// It is one of a tidelog when its source is a `urn:uuid:` and it has `epoch` and `position`; then every
/// attribute must be what [`to_message`] makes. Of others `id`, `source`, `type` and
/// `specversion` suffice; a value that is null is an empty payload then.
///
/// # Errors
/// [`Error::InvalidInput`], naming what is missing or wrong.
///
/// ```
/// use bytes::Bytes;
/// use tidelog_core::cloudevents::from_message;
///
/// let headers: [(&str, Option<&[u8]>); 5] = [
///     ("ce_specversion", Some(b"1.0")),
///     ("ce_id", Some(b"A-17")),
///     ("ce_source", Some(b"/tills/3")),
///     ("ce_type", Some(b"Sold")),
///     ("content-type", Some(b"application/json")),
/// ];
/// let value = Bytes::from_static(br#"{"article":"tea"}"#);
/// let sold = from_message(headers, Some(&value))?;
/// assert_eq!((sold.stream, sold.sequence), (None, None));
/// assert_eq!(sold.event.payload, value);
/// # Ok::<(), tidelog_core::Error>(())
/// ```
pub fn from_message<'a>(
    headers: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>,
    value: Option<&'a Bytes>,
) -> Result<MessageEvent, Error> {
    let mut attributes = Vec::with_capacity(20);
    let mut content_type = None;
    for (count, (name, text)) in headers.into_iter().enumerate() {
        if count >= MOST_HEADERS {
            return Err(no_event("headers", "there are more than 256"));
        }
        let Some(text) = text else { continue };
        if text.len() > MOST_BYTES {
            return Err(no_event(name, "the header has more than 512 KiB"));
        }
        let lower = lower(name);
        if lower == "content-type" {
            let again = content_type.replace(utf8(name, text)?);
            if again.is_some() {
                return Err(no_event(name, "the header stands twice"));
            }
        } else if let Some(attribute) = without_prefix(lower) {
            if attributes.iter().any(|(known, _)| *known == attribute) {
                return Err(no_event(name, "the header stands twice"));
            }
            attributes.push((attribute, utf8(name, text)?));
        }
    }
    if let Some(media_type) = content_type.filter(|media_type| is_structured(media_type)) {
        return structured(media_type, value);
    }
    for name in ["specversion", "id", "source", "type"] {
        if !attributes.iter().any(|(known, _)| known == name) {
            let reason = format!("no CloudEvent: header ce_{name} is missing");
            return Err(Error::invalid("message", "", reason));
        }
    }
    if let Some(content_type) = content_type {
        attributes.push((Cow::Borrowed("datacontenttype"), content_type));
    }
    read(Attributes::of_headers(attributes, value.cloned()))
}

fn read(mut attributes: Attributes<'_>) -> Result<MessageEvent, Error> {
    let version = attributes.text("specversion")?;
    if version != "1.0" {
        return Err(super::refused("specversion", &version, "only 1.0 is known"));
    }
    for name in ["id", "source"] {
        if attributes.is_empty_text(name) {
            return Err(super::refused(name, "", "it must not be empty"));
        }
    }
    let source = attributes.text("source")?;
    let origin = source.strip_prefix("urn:uuid:");
    let read = match origin.and_then(attributes::uuid) {
        Some(origin) if attributes.has("epoch") && attributes.has("position") => {
            let read = own::read(origin, attributes)?;
            MessageEvent {
                stream: Some(read.stream),
                sequence: read.sequence,
                batch: read.batch,
                event: read.event,
            }
        }
        _ => {
            let (stream, event) = foreign::read_any(&source, attributes)?;
            MessageEvent {
                stream,
                sequence: None,
                batch: BatchPlace::ALONE,
                event,
            }
        }
    };
    let event_type = &read.event.event_type;
    if !(1..=NewEvent::MAX_TYPE_BYTES).contains(&event_type.len())
        || event_type.chars().any(char::is_control)
    {
        let reason = "it must have 1 to 128 bytes, and no control characters";
        return Err(super::refused(
            "type",
            &event_type.escape_debug().to_string(),
            reason,
        ));
    }
    Ok(read)
}

fn structured(media_type: &str, value: Option<&Bytes>) -> Result<MessageEvent, Error> {
    let format = media_type.split(';').next().unwrap_or_default().trim();
    let format = format.to_ascii_lowercase();
    if !matches!(
        &*format,
        "application/cloudevents" | "application/cloudevents+json"
    ) {
        let reason = "an event of this format is not read; only JSON is";
        return Err(no_event(media_type, reason));
    }
    let Some(value) = value else {
        return Err(no_event(media_type, "there is no value"));
    };
    read(Attributes::read(value)?)
}

fn is_structured(media_type: &str) -> bool {
    let begin = media_type.get(..23);
    begin.is_some_and(|begin| begin.eq_ignore_ascii_case("application/cloudevents"))
}

fn lower(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

fn without_prefix(name: Cow<'_, str>) -> Option<Cow<'_, str>> {
    match name {
        Cow::Borrowed(name) => name.strip_prefix("ce_").map(Cow::Borrowed),
        Cow::Owned(name) => {
            let name = name.strip_prefix("ce_")?;
            Some(Cow::Owned(name.to_owned()))
        }
    }
}

fn utf8<'a>(name: &str, text: &'a [u8]) -> Result<&'a str, Error> {
    std::str::from_utf8(text).map_err(|_| no_event(name, "the header is not UTF-8"))
}

fn no_event(what: &str, reason: &str) -> Error {
    Error::invalid("message", what.escape_debug(), reason)
}
