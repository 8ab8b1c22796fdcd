//! No bytes make the reader of exported lines panic, and what it takes for a tidelog's makes one line, which
//! says the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidelog_core::cloudevents::{read_line, write_line};
use tidelog_core::{Batch, EventEnvelope, EventId, LogIdentity, RecordKind, Timestamp};

fuzz_target!(|bytes: &[u8]| {
    let Ok(read) = read_line(bytes) else { return };
    let Some(sequence) = read.sequence else {
        return;
    };
    let event = read.event.clone();
    let envelope = EventEnvelope {
        event_id: event.event_id,
        stream: read.stream.clone(),
        sequence,
        position: Some(1),
        birth: event.birth,
        kind: RecordKind::Adopted,
        event_type: event.event_type,
        revision: event.revision,
        content_type: event.content_type,
        event_time: event.event_time.expect("a line of a tidelog has a time"),
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
    let mut line = Vec::new();
    write_line(&envelope, &elsewhere, read.batch, &mut line);
    assert_eq!(
        line.iter().position(|byte| *byte == b'\n'),
        Some(line.len() - 1)
    );
    assert_eq!(read_line(&line).expect("what was written is read"), read);
});
