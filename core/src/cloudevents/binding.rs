//! One recorded event as a message of Kafka, by the CloudEvents binding, in both of its modes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

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
    headers.write("ce_id", envelope.event_id);
    headers.write("ce_source", format_args!("urn:uuid:{}", birth.origin));
    headers.put("ce_type", envelope.event_type.as_bytes());
    headers.put("ce_subject", envelope.stream.as_str().as_bytes());
    time(headers, "ce_time", "ce_eventmicros", envelope.event_time);
    headers.put("content-type", envelope.content_type.as_str().as_bytes());
    headers.write("ce_sequence", envelope.sequence);
    headers.write("ce_revision", envelope.revision);
    headers.write("ce_position", birth.position);
    headers.write("ce_epoch", birth.epoch);
    let recorded = birth.recorded_time;
    time(headers, "ce_recordedtime", "ce_recordedmicros", recorded);
    headers.write("ce_batchindex", batch.index);
    headers.write("ce_batchcount", batch.count);
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
        headers.write(name, Rfc3339(time));
    } else {
        headers.write(micros, time.as_micros());
    }
}

/// With microseconds, of the years 1 to 9999; without the text between that `chrono` makes.
struct Rfc3339(Timestamp);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = self.0.to_datetime();
        let (year, month, day) = (time.year(), time.month(), time.day());
        let (hour, minute, second) = (time.hour(), time.minute(), time.second());
        let micros = self.0.as_micros().rem_euclid(1_000_000);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z"
        )
    }
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
