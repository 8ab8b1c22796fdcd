//! Events that both forms are tried with.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use tidelog_core::cloudevents::BatchPlace;
use tidelog_core::*;
use uuid::Uuid;

pub fn log() -> LogIdentity {
    LogIdentity {
        origin: Uuid::from_u128(0xa),
        epoch: Uuid::from_u128(0xe),
    }
}

/// The event that golden bytes are of; each form has it with contents of its own.
pub fn deposited() -> EventEnvelope {
    EventEnvelope {
        event_id: EventId::from_uuid(Uuid::from_u128(1)),
        stream: StreamId::new("BankAccount", "acc-1").unwrap(),
        sequence: 3,
        position: Some(9_007_199_254_740_991),
        birth: None,
        kind: RecordKind::Event,
        event_type: "Deposited".into(),
        revision: 2,
        content_type: ContentType::Json,
        event_time: Timestamp::from_micros(852_119_999_000_000),
        recorded_time: Timestamp::from_micros(1_764_105_348_000_001),
        metadata: Metadata::new(),
        tags: Tags::new(["till:3"]).unwrap(),
        batch: Batch { first: 1, count: 1 },
        event: Bytes::new(),
    }
}

/// The event as another log has it once it has taken it over.
pub fn taken_over(stream: StreamId, sequence: u64, event: NewEvent) -> EventEnvelope {
    EventEnvelope {
        event_id: event.event_id,
        stream,
        sequence,
        position: Some(77),
        birth: event.birth,
        kind: RecordKind::Adopted,
        event_type: event.event_type,
        revision: event.revision,
        content_type: event.content_type,
        event_time: event.event_time.unwrap(),
        recorded_time: Timestamp::from_micros(5),
        metadata: event.metadata,
        tags: event.tags,
        batch: Batch {
            first: 70,
            count: 9,
        },
        event: event.payload,
    }
}

prop_compose! {
    /// Any event, half of them of a time of `near`, with the log that recorded it and its place there.
    pub fn anything(near: Range<i64>)(
        (id, origin, epoch) in any::<(u128, u128, u128)>(),
        (sequence, position) in (1_u64.., any::<u64>()),
        (event_micros, recorded_micros) in any::<(i64, i64)>(),
        near in near,
        aggregate_id in "[^\\p{Cc}]{1,20}",
        event_type in "\\PC{1,20}",
        revision in 1_u32..,
        metadata in proptest::collection::btree_map(
            "trace-id|traceparent|correlation-id|causation-id|.{0,9}", ".{0,9}", 0..6),
        tags in proptest::collection::vec("[a-z]{1,5}:\\PC{0,5}", 0..4),
        payload: Vec<u8>,
        (index, of, adopted) in (any::<u16>(), 1_u32..9, any::<bool>()),
    ) -> (EventEnvelope, LogIdentity, BatchPlace) {
        let event = EventEnvelope {
            event_id: EventId::from_uuid(Uuid::from_u128(id)),
            stream: StreamId::new("T", &aggregate_id).unwrap(),
            sequence,
            position: Some(position),
            birth: adopted.then(|| Arc::new(Birth {
                origin: Uuid::from_u128(epoch),
                epoch: Uuid::from_u128(origin),
                position: position.rotate_left(7),
                recorded_time: Timestamp::from_micros(near),
            })),
            event_type: event_type.as_str().into(),
            revision,
            event_time: Timestamp::from_micros(if id % 2 == 0 { near } else { event_micros }),
            recorded_time: Timestamp::from_micros(recorded_micros),
            metadata: Metadata::from(metadata),
            tags: Tags::new(tags).unwrap(),
            event: payload.into(),
            ..deposited()
        };
        let identity = LogIdentity { origin: Uuid::from_u128(origin), epoch: Uuid::from_u128(epoch) };
        let batch = BatchPlace { index: u32::from(index), count: u32::from(index) + of };
        (event, identity, batch)
    }
}
