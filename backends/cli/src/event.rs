//! One event, for programs and for people.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;
use tidelog::{ContentType, EventEnvelope, RecordKind};

use crate::args::Show;
use crate::error::CliError;
use crate::layout::{Cells, Layout};
use crate::output::Output;
use crate::select::Selected;
use crate::table::facts;
use crate::text::{hex, one_line, shown};

/// An event as JSON. The names of its fields are stable.
#[derive(Serialize)]
struct Line<'a> {
    position: u64,
    stream: &'a str,
    aggregate_type: &'a str,
    aggregate_id: &'a str,
    sequence: u64,
    id: String,
    #[serde(rename = "type")]
    event_type: &'a str,
    revision: u32,
    kind: &'static str,
    event_time: String,
    recorded_time: String,
    content_type: &'a str,
    metadata: BTreeMap<&'a str, &'a str>,
    tags: &'a [Box<str>],
    batch_first: u64,
    batch_count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    birth: Option<Birth>,
    #[serde(skip_serializing_if = "Option::is_none")]
    superseded_at: Option<u64>,
    /// One of the two.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_hex: Option<String>,
}

/// Where it was recorded first.
#[derive(Serialize)]
struct Birth {
    origin: String,
    epoch: String,
    position: u64,
    recorded_time: String,
}

/// Writes `event` as one line of JSON, or as `show` says.
pub fn write(
    out: &mut Output,
    (event, superseded_at): &Selected,
    show: &Show,
) -> Result<(), CliError> {
    if out.json {
        return out.object(&object(event, *superseded_at));
    }
    if show.long {
        return long(out, event, *superseded_at);
    }
    let layout = Layout::of(out, show.full);
    let payload = if event.kind == RecordKind::Control {
        "(the store's own)".to_owned()
    } else {
        payload_text(event, layout.payload())
    };
    let gone = superseded_at.map_or("", |_| "(gave way) ");
    let cells = Cells {
        position: event.position.unwrap_or_default(),
        time: event.event_time.to_string(),
        stream: shown(event.stream.as_str()),
        sequence: event.sequence,
        event_type: shown(&event.event_type),
        payload: format!("{gone}{}", shown(&payload)).into(),
    };
    let mut lines = layout.lines(&cells).into_iter();
    lines.try_for_each(|line| out.line(&line))
}

/// The heads of the columns, for people.
pub fn head(out: &mut Output, show: &Show) -> Result<(), CliError> {
    if out.json || show.long {
        return Ok(());
    }
    out.line(&Layout::of(out, show.full).head())
}

fn long(
    out: &mut Output,
    event: &EventEnvelope,
    superseded_at: Option<u64>,
) -> Result<(), CliError> {
    let mut all = vec![
        ("position", event.position.unwrap_or_default().to_string()),
        ("stream", event.stream.to_string()),
        ("sequence", event.sequence.to_string()),
        ("id", event.event_id.to_string()),
        ("type", event.event_type.to_string()),
        ("revision", event.revision.to_string()),
        ("kind", kind(event.kind).to_owned()),
        ("event time", event.event_time.to_string()),
        ("recorded time", event.recorded_time.to_string()),
        ("content type", event.content_type.to_string()),
    ];
    let batch = event.batch;
    if batch.count > 1 {
        all.push((
            "append",
            format!("{} events from {}", batch.count, batch.first),
        ));
    }
    for (key, value) in &event.metadata {
        all.push(("metadata", format!("{key}={value}")));
    }
    for tag in event.tags.as_slice() {
        all.push(("tag", tag.to_string()));
    }
    if let Some(birth) = &event.birth {
        let (origin, position) = (birth.origin, birth.position);
        all.push(("born", format!("at position {position} of {origin}")));
    }
    if let Some(at) = superseded_at {
        all.push(("gave way", format!("at position {at}")));
    }
    all.push(("payload", payload_text(event, None)));
    facts(out, &all)?;
    out.line("")
}

fn object(event: &EventEnvelope, superseded_at: Option<u64>) -> Line<'_> {
    let json = json_of(event).and_then(|line| RawValue::from_string(line).ok());
    Line {
        position: event.position.unwrap_or_default(),
        stream: event.stream.as_str(),
        aggregate_type: event.aggregate_type(),
        aggregate_id: event.aggregate_id(),
        sequence: event.sequence,
        id: event.event_id.to_string(),
        event_type: &event.event_type,
        revision: event.revision,
        kind: kind(event.kind),
        event_time: event.event_time.to_string(),
        recorded_time: event.recorded_time.to_string(),
        content_type: event.content_type.as_str(),
        metadata: event.metadata.iter().collect(),
        tags: event.tags.as_slice(),
        batch_first: event.batch.first,
        batch_count: event.batch.count,
        birth: event.birth.as_ref().map(|birth| Birth {
            origin: birth.origin.to_string(),
            epoch: birth.epoch.to_string(),
            position: birth.position,
            recorded_time: birth.recorded_time.to_string(),
        }),
        superseded_at,
        payload_hex: json.is_none().then(|| hex(&event.event)),
        payload: json,
    }
}

fn kind(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::Adopted => "adopted",
        RecordKind::Control => "control",
        // `RecordKind` is non-exhaustive: this is what all others are to whoever reads.
        _ => "event",
    }
}

/// The payload in one line, when it is JSON and says so.
fn json_of(event: &EventEnvelope) -> Option<String> {
    let is_json = match &event.content_type {
        ContentType::Json => true,
        ContentType::Other(name) => name.split(';').next().is_some_and(|name| {
            let name = name.trim();
            name.ends_with("+json") || name == "application/json"
        }),
        _ => false,
    };
    is_json.then(|| one_line(&event.event)).flatten()
}

/// The payload for people: of bytes at least so many digits, where not all are seen.
fn payload_text(event: &EventEnvelope, seen: Option<usize>) -> String {
    json_of(event).unwrap_or_else(|| {
        let bytes = event.event.get(..seen.unwrap_or(usize::MAX));
        format!("0x{}", hex(bytes.unwrap_or(&event.event)))
    })
}
