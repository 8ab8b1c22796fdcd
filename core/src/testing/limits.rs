//! Law 9: what is over a limit is refused and leaves nothing; what is just at it is taken.

use super::harness::Harness;
use super::tools::*;
use crate::append::ExpectedVersion;
use crate::content_type::ContentType;
use crate::envelope::NewEvent;
use crate::limits::Limits;
use crate::metadata::{Metadata, Tags};
use crate::store::EventStore;
use crate::stream_id::StreamId;

const TINY: Limits = Limits {
    payload_bytes: 100,
    metadata_bytes: 60,
    batch_events: 4,
    batch_bytes: 300,
};

fn sized(payload: usize) -> NewEvent {
    NewEvent::new("Sized", 1, ContentType::Bytes, vec![7; payload])
}

/// Appends what is just below and just at the limit, then refuses what is above it.
fn assert_limit(
    store: &impl EventStore,
    name: &str,
    limit: usize,
    make: impl Fn(usize) -> Vec<NewEvent>,
) {
    let stream = stream(name);
    let mut all = Vec::new();
    for size in [limit - 1, limit] {
        let taken = make(size);
        append(store, &stream, &taken);
        all.extend(taken);
    }
    let refused = try_append(store, &stream, ExpectedVersion::Any, &make(limit + 1));
    assert_too_large(refused, limit + 1, limit);
    assert_holds(store, &stream, &all);
}

/// One payload.
pub fn the_payload_limit_is_exact(harness: &mut impl Harness) {
    let store = harness.store_with_limits(TINY);
    assert_eq!(store.limits(), TINY);
    assert_limit(&store, "payload", 100, |size| vec![sized(size)]);
}

/// One event's metadata and tags together: keys, values and tags count.
pub fn the_metadata_limit_is_exact(harness: &mut impl Harness) {
    let store = harness.store_with_limits(TINY);
    assert_limit(&store, "metadata", 60, |size| {
        let metadata = Metadata::new().with("key", "v".repeat(size - 3));
        vec![sized(0).with_metadata(metadata)]
    });
    assert_limit(&store, "tags", 60, |size| {
        let tags = Tags::new([format!("k:{}", "v".repeat(size - 2))]).unwrap();
        vec![sized(0).with_tags(tags)]
    });
    assert_limit(&store, "both", 60, |size| {
        let metadata = Metadata::new().with("key", "v".repeat(size - 3 - 10));
        let tags = Tags::new(["abcd:efghi"]).unwrap();
        vec![sized(0).with_metadata(metadata).with_tags(tags)]
    });
}

/// The events of one batch.
pub fn the_batch_event_limit_is_exact(harness: &mut impl Harness) {
    let store = harness.store_with_limits(TINY);
    assert_limit(&store, "events", 4, |count| {
        (0..count).map(|_| sized(1)).collect()
    });
}

/// The bytes of one batch: payloads, metadata and tags count.
pub fn the_batch_byte_limit_is_exact(harness: &mut impl Harness) {
    let store = harness.store_with_limits(TINY);
    assert_limit(&store, "payloads", 300, |size| {
        vec![sized(100), sized(100), sized(50), sized(size - 250)]
    });
    assert_limit(&store, "all", 300, |size| {
        let metadata = Metadata::new().with("key", "v".repeat(47));
        let tags = Tags::new(["abcd:efghi"]).unwrap();
        vec![
            sized(100).with_metadata(metadata).with_tags(tags),
            sized(100),
            sized(size - 260),
        ]
    });
}

/// The default limits, all filled at once, are taken and read back.
pub fn the_largest_default_batch_is_taken(harness: &mut impl Harness) {
    let store = harness.store();
    let limits = store.limits();
    let stream = stream("full");
    let count = limits.batch_bytes / limits.payload_bytes;
    let full: Vec<_> = (0..count)
        .map(|n| {
            #[allow(clippy::cast_possible_truncation, reason = "any byte will do")]
            let payload = vec![n as u8; limits.payload_bytes];
            NewEvent::new("Sized", 1, ContentType::Bytes, payload)
        })
        .collect();
    append(&store, &stream, &full);
    let over = [full.as_slice(), &[sized(1)]].concat();
    let refused = try_append(&store, &stream, ExpectedVersion::Any, &over);
    assert_too_large(refused, limits.batch_bytes + 1, limits.batch_bytes);
    let over = sized(limits.payload_bytes + 1);
    let refused = try_append(&store, &stream, ExpectedVersion::Any, &[over]);
    assert_too_large(refused, limits.payload_bytes + 1, limits.payload_bytes);
    assert_holds(&store, &stream, &full);
}

/// As many events as one batch may hold are taken and read back.
pub fn the_longest_default_batch_is_taken(harness: &mut impl Harness) {
    let store = harness.store();
    let stream = stream("long");
    let limit = store.limits().batch_events;
    let long = events(limit);
    append(&store, &stream, &long);
    let refused = try_append(&store, &stream, ExpectedVersion::Any, &events(limit + 1));
    assert_too_large(refused, limit + 1, limit);
    assert_holds(&store, &stream, &long);
}

/// The longest names are taken and come back; longer ones are refused.
pub fn the_name_limits_are_exact(harness: &mut impl Harness) {
    let store = harness.store();
    let (longest_type, longest_id) = ("t".repeat(64), "\u{1f98a}".repeat(64));
    assert_too_large(StreamId::new(&"t".repeat(65), "id"), 65, 64);
    assert_too_large(StreamId::new("Type", &"i".repeat(257)), 257, 256);
    let stream = StreamId::new(&longest_type, &longest_id).unwrap();
    let named = |name: String| NewEvent::new(name, 1, ContentType::Bytes, Vec::new());
    let taken = [
        named("e".repeat(127)),
        named("e".repeat(128)),
        named("\u{e9}".repeat(64)),
        named("e".into()),
    ];
    append(&store, &stream, &taken);
    let refused = try_append(
        &store,
        &stream,
        ExpectedVersion::Any,
        &[named("e".repeat(129))],
    );
    assert_too_large(refused, 129, 128);
    assert_holds(&store, &stream, &taken);
}

/// An append without events, without a type, with a control character in it, of a content type
/// that is none or has a name of its own, of revision 0, with an id twice, or to a reserved stream
/// can never be right.
pub fn impossible_appends_are_invalid_input(harness: &mut impl Harness) {
    let store = harness.store();
    let stream = stream("impossible");
    let named = |name: &str| NewEvent::new(name, 1, ContentType::Bytes, Vec::new());
    let encoded =
        |name: &str| NewEvent::new("Typed", 1, ContentType::Other(name.into()), Vec::new());
    let twice = sized(1);
    let mut revision_0 = sized(1);
    revision_0.revision = 0;
    let impossible = [
        vec![],
        vec![named("")],
        vec![named("a\nb")],
        vec![named("\0")],
        vec![named("\u{85}")],
        vec![encoded("")],
        vec![encoded("text/\nplain")],
        vec![encoded("application/json")],
        vec![revision_0],
        vec![twice.clone(), sized(2), twice],
    ];
    for events in &impossible {
        for expected in [ExpectedVersion::Any, ExpectedVersion::Exact(3)] {
            assert_invalid(try_append(&store, &stream, expected, events));
        }
    }
    assert_holds(&store, &stream, &[]);

    let long = [encoded(&"x".repeat(129))];
    let refused = try_append(&store, &stream, ExpectedVersion::Any, &long);
    assert_too_large(refused, 129, 128);
    let reserved = StreamId::new_reserved("$control", "1").unwrap();
    let refused = try_append(&store, &reserved, ExpectedVersion::Any, &events(1));
    assert_invalid(refused);
}
