//! No headers and value make the reader of messages panic, and what it takes for a tidelog's makes one
//! message, which says the same.
#![no_main]

use arbitrary::Arbitrary;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidelog_core::cloudevents::{Headers, MessageMode, from_message, to_message};
use tidelog_core::{Batch, EventEnvelope, EventId, LogIdentity, RecordKind, Timestamp};

/// Names that mean something, so that they need not be found.
const NAMES: [&str; 24] = [
    "ce_specversion",
    "ce_id",
    "ce_source",
    "ce_type",
    "ce_subject",
    "ce_time",
    "ce_eventmicros",
    "content-type",
    "ce_sequence",
    "ce_revision",
    "ce_position",
    "ce_epoch",
    "ce_recordedtime",
    "ce_recordedmicros",
    "ce_batchindex",
    "ce_batchcount",
    "ce_metadata",
    "ce_tags",
    "ce_traceparent",
    "ce_traceid",
    "ce_correlationid",
    "ce_causationid",
    "Content-Type",
    "CE_ID",
];

#[derive(Arbitrary, Debug)]
enum Name<'a> {
    Known(u8),
    Any(&'a str),
}

#[derive(Arbitrary, Debug)]
struct Message<'a> {
    headers: Vec<(Name<'a>, Option<&'a [u8]>)>,
    value: Option<&'a [u8]>,
    structured: bool,
}

fuzz_target!(|message: Message<'_>| {
    let value = message.value.map(Bytes::copy_from_slice);
    let headers = message.headers.iter().map(|(name, text)| match name {
        Name::Known(at) => (NAMES[usize::from(*at) % NAMES.len()], *text),
        Name::Any(name) => (*name, *text),
    });
    let Ok(read) = from_message(headers, value.as_ref()) else {
        return;
    };
    let Some(sequence) = read.sequence else {
        return;
    };
    let event = read.event.clone();
    let envelope = EventEnvelope {
        event_id: event.event_id,
        stream: read.stream.clone().expect("one of a tidelog has a stream"),
        sequence,
        position: Some(1),
        birth: event.birth,
        kind: RecordKind::Adopted,
        event_type: event.event_type,
        revision: event.revision,
        content_type: event.content_type,
        event_time: event.event_time.expect("one of a tidelog has a time"),
        recorded_time: Timestamp::from_micros(0),
        metadata: event.metadata,
        tags: event.tags,
        batch: Batch { first: 1, count: 1 },
        event: event.payload,
    };
    let elsewhere = LogIdentity {
        origin: *EventId::from_bytes([1; 16]).as_uuid(),
        epoch: *EventId::from_bytes([2; 16]).as_uuid(),
    };
    let mode = if message.structured {
        MessageMode::Structured
    } else {
        MessageMode::Binary
    };
    let (mut headers, mut line) = (Headers::default(), Vec::new());
    let value = to_message(
        &envelope,
        &elsewhere,
        read.batch,
        mode,
        &mut headers,
        &mut line,
    );
    let value = Bytes::copy_from_slice(value);
    let headers = headers.iter().map(|(name, text)| (name, Some(text)));
    let again = from_message(headers, Some(&value)).expect("what was written is read");
    assert_eq!(again, read);
});
