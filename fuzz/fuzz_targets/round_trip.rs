//! Every envelope that the library can make comes back from its record as it was.
#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use tidelog_core::{
    Batch, Birth, ContentType, EventEnvelope, EventId, Metadata, RecordKind, StreamId, Tags,
    Timestamp,
};

/// No position or sequence is higher.
const MAX_NUMBER: u64 = (1 << 53) - 1;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    control: bool,
    names: (&'a str, &'a str, &'a str),
    content: (u8, &'a str),
    event_id: [u8; 16],
    times: (i64, i64),
    position: u64,
    before_it: u64,
    sequence: u64,
    revision: u32,
    count: u32,
    metadata: BTreeMap<&'a str, &'a str>,
    tags: Vec<&'a str>,
    birth: Option<([u8; 16], [u8; 16], u64, i64)>,
    payload: &'a [u8],
}

fn envelope(input: Input<'_>) -> Option<EventEnvelope> {
    let position = input.position % (MAX_NUMBER + 1);
    let mut metadata = Metadata::new();
    for (key, value) in input.metadata {
        metadata.insert(key, value);
    }
    Some(EventEnvelope {
        event_id: EventId::from_bytes(input.event_id),
        stream: StreamId::new_reserved(input.names.0, input.names.1).ok()?,
        sequence: input.sequence % (MAX_NUMBER + 1),
        position: Some(position),
        kind: match (input.control, &input.birth) {
            (true, _) => RecordKind::Control,
            (false, Some(_)) => RecordKind::Adopted,
            (false, None) => RecordKind::Event,
        },
        birth: input.birth.filter(|_| !input.control).map(|birth| {
            let (origin, epoch, position, micros) = birth;
            let recorded_time = Timestamp::from_micros(micros);
            Arc::new(Birth {
                origin: *EventId::from_bytes(origin).as_uuid(),
                epoch: *EventId::from_bytes(epoch).as_uuid(),
                position,
                recorded_time,
            })
        }),
        event_type: input.names.2.into(),
        revision: input.revision,
        content_type: match input.content.0 % 4 {
            0 => ContentType::Postcard,
            1 => ContentType::Json,
            2 => ContentType::Bytes,
            _ => ContentType::parse(input.content.1).ok()?,
        },
        event_time: Timestamp::from_micros(input.times.0),
        recorded_time: Timestamp::from_micros(input.times.1),
        metadata,
        tags: Tags::new(input.tags).ok()?,
        batch: Batch {
            first: position - input.before_it % (position + 1),
            count: input.count,
        },
        event: input.payload.to_vec().into(),
    })
}

fuzz_target!(|input: Input| {
    if let Some(envelope) = envelope(input) {
        tidelog_backends::fuzzing::record_round_trip(&envelope);
    }
});
