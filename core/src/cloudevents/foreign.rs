//! Lines and messages of other systems: new events here.

use serde_json::value::RawValue;

use super::attributes::{self, Attributes, Data};
use super::{BatchPlace, LineEvent, refused};
use crate::content_type::ContentType;
use crate::envelope::NewEvent;
use crate::error::Error;
use crate::id::EventId;
use crate::metadata::{Metadata, TRACEPARENT};
use crate::stream_id::StreamId;

pub(super) fn read(source: &str, mut line: Attributes<'_>) -> Result<LineEvent, Error> {
    line.forget_unset();
    let stream = line.subject()?;
    Ok(LineEvent {
        stream,
        sequence: None,
        batch: BatchPlace::ALONE,
        event: event(source, line)?,
    })
}

/// An event, and its stream when its subject names one; another subject becomes metadata.
pub(super) fn read_any(
    source: &str,
    mut message: Attributes<'_>,
) -> Result<(Option<StreamId>, NewEvent), Error> {
    message.forget_unset();
    let subject = message.optional_text("subject")?;
    let stream = subject.as_deref().and_then(|subject| {
        let (aggregate_type, aggregate_id) = subject.split_once('/')?;
        StreamId::new(aggregate_type, aggregate_id).ok()
    });
    let mut event = event(source, message)?;
    if let (Some(subject), None) = (subject, &stream) {
        event.metadata.insert("cloudevents-subject", subject);
    }
    Ok((stream, event))
}

fn event(source: &str, mut line: Attributes<'_>) -> Result<NewEvent, Error> {
    let id = line.text("id")?;
    let event_type = line.text("type")?;
    let event_time = line.time("time", "time")?;
    let content_type = line.optional_text("datacontenttype")?;
    let content_type = content_type
        .map(|name| ContentType::parse(&name))
        .transpose()?;
    let mut metadata = Metadata::new().with("cloudevents-source", source);
    if let Some(traceparent) = line.optional_text(TRACEPARENT)? {
        metadata.insert(TRACEPARENT, traceparent);
    }
    let event_id = if let Some(uuid) = attributes::uuid(&id) {
        EventId::from_uuid(uuid)
    } else {
        metadata.insert("cloudevents-id", id.as_ref());
        derived(source, &id)
    };
    let (content_type, payload) = match line.data()? {
        None => (
            content_type.unwrap_or(ContentType::Bytes),
            Vec::new().into(),
        ),
        Some(Data::Bytes(bytes)) => (content_type.unwrap_or(ContentType::Bytes), bytes),
        Some(Data::Json(json)) => of_json(content_type, json)?,
    };
    for (name, value) in line.rest() {
        metadata.insert(format!("cloudevents-{name}"), value.as_text());
    }
    let mut event = NewEvent::new(event_type.as_ref(), 1, content_type, payload)
        .with_id(event_id)
        .with_metadata(metadata);
    event.event_time = event_time;
    Ok(event)
}

/// The payload of `data`: JSON as it stands, or of another content type the text in it.
fn of_json(
    content_type: Option<ContentType>,
    json: &RawValue,
) -> Result<(ContentType, bytes::Bytes), Error> {
    let as_it_stands = || json.get().as_bytes().to_vec().into();
    match content_type {
        None => Ok((ContentType::Json, as_it_stands())),
        Some(named) if is_json(named.as_str()) => Ok((named, as_it_stands())),
        Some(named) => match serde_json::from_str::<String>(json.get()) {
            Ok(text) => Ok((named, text.into_bytes().into())),
            Err(_) => {
                let reason = "of a content type that is not JSON it must be text";
                Err(refused("data", named.as_str(), reason))
            }
        },
    }
}

/// By its subtype, whatever parameters stand behind it.
fn is_json(media_type: &str) -> bool {
    let named = media_type.split(';').next().unwrap_or_default().trim();
    let named = named.to_ascii_lowercase();
    named.ends_with("/json") || named.ends_with("+json")
}

/// The same for the same event whenever it comes.
fn derived(source: &str, id: &str) -> EventId {
    let mut hasher = blake3::Hasher::new_derive_key("tidelog 2026-11 event id of source and id");
    hasher.update(&(source.len() as u64).to_le_bytes());
    hasher.update(source.as_bytes());
    hasher.update(id.as_bytes());
    let mut bytes = [0; 16];
    hasher.finalize_xof().fill(&mut bytes);
    EventId::from_uuid(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}
