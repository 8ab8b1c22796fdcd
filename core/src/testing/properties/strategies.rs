//! What properties are tried on: events, envelopes, histories, interleavings.

use std::collections::BTreeMap;
use std::fmt::Debug;

use ::proptest::collection::{btree_map, vec};
use ::proptest::option;
use ::proptest::prelude::{Just, Strategy, any, prop_oneof};

use crate::clock::Timestamp;
use crate::content_type::ContentType;
use crate::envelope::{Batch, EventEnvelope, NewEvent, RecordKind};
use crate::event::Event;
use crate::id::EventId;
use crate::metadata::{Metadata, Tags};
use crate::stream_id::StreamId;

/// Up to three keys with short texts.
pub fn metadata() -> impl Strategy<Value = Metadata> {
    btree_map("[a-z][a-z-]{0,15}", ".{0,20}", 0..4).prop_map(Metadata::from)
}

/// Up to three tags.
pub fn tags() -> impl Strategy<Value = Tags> {
    vec("[a-z]{1,8}:[a-z0-9]{0,8}", 0..4).prop_map(|tags| Tags::new(tags).unwrap())
}

/// A stream of some aggregate.
pub fn stream_id() -> impl Strategy<Value = StreamId> {
    ("[A-Z][A-Za-z]{0,11}", "[a-z0-9][a-z0-9-]{0,11}")
        .prop_map(|(aggregate, id)| StreamId::new(&aggregate, &id).unwrap())
}

/// Any event id.
pub fn event_id() -> impl Strategy<Value = EventId> {
    any::<[u8; 16]>().prop_map(EventId::from_bytes)
}

/// A moment of the years 1 to 9999; it shrinks towards 1970.
pub fn timestamp() -> impl Strategy<Value = Timestamp> {
    (-62_135_596_800_000_000..253_402_300_800_000_000_i64).prop_map(Timestamp::from_micros)
}

/// An event as bytes, of any content type.
pub fn new_event() -> impl Strategy<Value = NewEvent> {
    let content_type = prop_oneof![
        Just(ContentType::Bytes),
        Just(ContentType::Postcard),
        Just(ContentType::Json),
        Just(ContentType::parse("application/cbor").unwrap()),
    ];
    let what = (
        event_id(),
        "[A-Z][A-Za-z]{0,15}",
        1..5_u32,
        content_type,
        vec(any::<u8>(), 0..64),
    );
    let beside = (metadata(), tags(), option::of(timestamp()));
    (what, beside).prop_map(
        |((id, name, revision, content, payload), (metadata, tags, time))| NewEvent {
            event_time: time,
            ..NewEvent::new(name, revision, content, payload)
                .with_id(id)
                .with_metadata(metadata)
                .with_tags(tags)
        },
    )
}

/// One of `events` as it would be recorded, first in some stream.
pub fn envelope<E: Event + Debug>(
    events: impl Strategy<Value = E>,
) -> impl Strategy<Value = EventEnvelope> {
    let beside = (event_id(), stream_id(), timestamp(), metadata());
    (events, beside).prop_map(|(event, (id, stream, time, metadata))| {
        let new = NewEvent::encode(&event, id).unwrap();
        recorded(new.with_metadata(metadata), stream, 1, 1, time)
    })
}

/// A log of `len` of `events`, spread over `streams` streams of the aggregate type `aggregate`:
/// positions and sequences are dense from 1, and no time goes back.
pub fn history<E: Event + Debug>(
    events: impl Strategy<Value = E>,
    aggregate: &'static str,
    streams: usize,
    len: impl Into<::proptest::collection::SizeRange>,
) -> impl Strategy<Value = Vec<EventEnvelope>> {
    let one = (events, 0..streams.max(1), event_id(), 0..1_000_000_i64);
    vec(one, len).prop_map(move |events| {
        let mut sequences = BTreeMap::<usize, u64>::new();
        let mut time = 0;
        let numbered = (1..).zip(events);
        let envelopes = numbered.map(|(position, (event, stream, id, passed))| {
            time += passed;
            let sequence = sequences.entry(stream).or_default();
            *sequence += 1;
            let stream = StreamId::new(aggregate, &format!("{stream}")).unwrap();
            let new = NewEvent::encode(&event, id).unwrap();
            recorded(
                new,
                stream,
                *sequence,
                position,
                Timestamp::from_micros(time),
            )
        });
        envelopes.collect()
    })
}

/// Whose turn it is, `steps` times, among `actors`; it shrinks towards the first alone.
pub fn interleaving(
    actors: usize,
    steps: impl Into<::proptest::collection::SizeRange>,
) -> impl Strategy<Value = Vec<usize>> {
    vec(0..actors.max(1), steps)
}

fn recorded(
    new: NewEvent,
    stream: StreamId,
    sequence: u64,
    position: u64,
    time: Timestamp,
) -> EventEnvelope {
    EventEnvelope {
        event_id: new.event_id,
        stream,
        sequence,
        position: Some(position),
        birth: None,
        kind: RecordKind::Event,
        event_type: new.event_type,
        revision: new.revision,
        content_type: new.content_type,
        event_time: new.event_time.unwrap_or(time),
        recorded_time: time,
        metadata: new.metadata,
        tags: new.tags,
        batch: Batch {
            first: position,
            count: 1,
        },
        event: new.payload,
    }
}
