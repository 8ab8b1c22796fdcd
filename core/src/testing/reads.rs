//! Laws 6 and 8: what a read selects, that it is pinned, and that nothing comes back changed.

use std::sync::Arc;

use uuid::Uuid;

use super::harness::Harness;
use super::tools::*;
use crate::append::ExpectedVersion;
use crate::clock::Timestamp;
use crate::content_type::ContentType;
use crate::envelope::{Birth, NewEvent, RecordKind};
use crate::id::EventId;
use crate::metadata::{Metadata, Tags};
use crate::read::StreamQuery;
use crate::store::EventStore;

/// Ranges, directions and limits select what they say.
pub fn queries_select_what_they_say(harness: &mut impl Harness) {
    let store = harness.store();
    let stream = stream("queried");
    for part in events(20).chunks(3) {
        append(&store, &stream, part);
        append(&store, &super::tools::stream("other"), &events(1));
    }
    let bounds = [0, 1, 2, 7, 19, 20, 21, 1_000, u64::MAX];
    for from in bounds {
        for to in bounds {
            for limit in [None, Some(0), Some(1), Some(3), Some(20), Some(u64::MAX)] {
                let mut query = StreamQuery::new(stream.clone()).from(from).to(to);
                query.limit = limit;
                let most = usize::try_from(limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
                let selected = dense(from.max(1), to.min(20));

                let forward: Vec<_> = selected.iter().copied().take(most).collect();
                let found = sequences(&read_query(&store, query.clone()));
                assert_eq!(found, forward, "{query:?}");

                let backward: Vec<_> = selected.iter().rev().copied().take(most).collect();
                let query = query.backward();
                let found = sequences(&read_query(&store, query.clone()));
                assert_eq!(found, backward, "{query:?}");
            }
        }
    }
}

/// A long stream comes back whole, either way, over however many pages.
pub fn long_streams_are_read_whole(harness: &mut impl Harness) {
    let store = harness.store();
    let stream = stream("long");
    let all = events(3_000);
    for part in all.chunks(170) {
        append(&store, &stream, part);
    }
    assert_holds(&store, &stream, &all);
    let mut backward = read_query(&store, StreamQuery::new(stream.clone()).backward());
    backward.reverse();
    assert_eq!(backward, read(&store, &stream));

    let newest = StreamQuery::new(stream).backward().limit(1_234);
    let expected: Vec<_> = dense(3_000 - 1_233, 3_000).into_iter().rev().collect();
    assert_eq!(sequences(&read_query(&store, newest)), expected);
}

/// Single envelopes, pages and the iterator deliver the same.
pub fn all_ways_of_reading_agree(harness: &mut impl Harness) {
    let store = harness.store();
    let stream = stream("ways");
    append(&store, &stream, &events(700));
    let query = StreamQuery::new(stream);
    let collected = read_query(&store, query.clone());
    assert_eq!(collected.len(), 700);

    let mut reader = store.read_stream(query.clone());
    let mut single = vec![wait(reader.next()).unwrap().unwrap()];
    while let Some(page) = wait(reader.next_page()) {
        let page = page.unwrap();
        assert!(!page.is_empty());
        single.extend(page);
        if let Some(one) = wait(reader.next()) {
            single.push(one.unwrap());
        }
    }
    assert_eq!(single, collected);
    assert!(wait(reader.next()).is_none(), "the end stays the end");

    let iterated: Result<Vec<_>, _> = store.read_stream(query).into_blocking().collect();
    assert_eq!(iterated.unwrap(), collected);
}

/// A read sees what was there when it was asked for, however late and slowly it is consumed.
pub fn a_read_is_pinned_when_it_is_asked_for(harness: &mut impl Harness) {
    let store = harness.store();
    let stream = stream("pinned");
    append(&store, &stream, &events(600));
    let query = StreamQuery::new(stream.clone());
    let unstarted = store.read_stream(query.clone());
    let backward = store.read_stream(query.clone().backward());
    let mut slow = store.read_stream(query.clone());
    let empty = store.read_stream(query.clone().from(601));
    let mut seen = vec![wait(slow.next()).unwrap().unwrap()];

    for _ in 0..20 {
        append(&store, &stream, &events(50));
        seen.push(wait(slow.next()).unwrap().unwrap());
    }
    seen.extend(wait(slow.collect()).unwrap());
    assert_eq!(sequences(&seen), dense(1, 600));
    assert_eq!(
        sequences(&wait(unstarted.collect()).unwrap()),
        dense(1, 600)
    );
    let backward = wait(backward.collect()).unwrap();
    assert_eq!(backward.first().unwrap().sequence, 600);
    assert_eq!(backward.len(), 600);
    assert_eq!(wait(empty.collect()).unwrap(), []);
    assert_eq!(read(&store, &stream).len(), 1_600);
}

/// A read may be dropped at any point, and moved to another thread.
pub fn reads_may_be_dropped_and_moved(harness: &mut impl Harness) {
    let store = harness.store();
    let stream = stream("moved");
    append(&store, &stream, &events(1_000));
    for taken in [0, 1, 300] {
        let mut reader = store.read_stream(StreamQuery::new(stream.clone()));
        for _ in 0..taken {
            wait(reader.next()).unwrap().unwrap();
        }
        drop(reader);
    }
    let mut reader = store.read_stream(StreamQuery::new(stream.clone()));
    // Polled here without waiting for the answer, finished there.
    let early = poll_once(&mut Box::pin(reader.next()));
    let early = usize::from(early.is_ready());
    let rest = std::thread::spawn(move || wait(reader.collect()).unwrap())
        .join()
        .unwrap();
    assert_eq!(rest.len() + early, 1_000);
}

/// An event with every field set to something of its own.
fn full_event(n: u8) -> NewEvent {
    let metadata = Metadata::new()
        .with("correlation-id", format!("order-{n}"))
        .with("", "an empty key")
        .with("empty value", "")
        .with("line\nbreak", "\u{0}\t\u{1f98a}\u{202e}")
        .with("caf\u{e9}", "cafe\u{301}");
    let tags = Tags::new(["student:s9", "course:\u{1f98a}", "colon::", "empty:"]).unwrap();
    NewEvent {
        event_id: EventId::from_bytes([n; 16]),
        event_type: "Grad\u{fc}iert \u{1f393}".into(),
        revision: u32::from(n) + 1,
        content_type: ContentType::Json,
        event_time: Some(Timestamp::from_micros(852_119_999_123_456)),
        metadata,
        tags,
        birth: None,
        payload: br#"{"a":1}"#.to_vec().into(),
    }
}

fn assert_comes_back(store: &impl EventStore, name: &str, written: &[NewEvent]) {
    let stream = stream(name);
    append(store, &stream, written);
    let forward = read(store, &stream);
    assert_eq!(forward.len(), written.len());
    for (read, written) in forward.iter().zip(written) {
        assert_eq!(read.event_id, written.event_id);
        assert_eq!(read.stream, stream);
        assert_eq!(read.kind, RecordKind::Event);
        assert_eq!(read.birth, None);
        assert_eq!(read.event_type, written.event_type);
        assert_eq!(read.revision, written.revision);
        assert_eq!(read.content_type, written.content_type);
        let event_time = written.event_time.unwrap_or(read.recorded_time);
        assert_eq!(read.event_time.as_micros(), event_time.as_micros());
        assert_eq!(read.metadata, written.metadata);
        assert_eq!(read.tags, written.tags);
        assert!(
            read.event == written.payload,
            "the payload came back changed"
        );
        let found = wait(store.find_event(&stream, written.event_id)).unwrap();
        assert_eq!(found.as_ref(), Some(read));
    }
    let mut backward = read_query(store, StreamQuery::new(stream).backward());
    backward.reverse();
    assert!(backward == forward, "backward differs from forward");
}

/// An event that was recorded elsewhere first keeps where, is told from others, and is recognized
/// when it comes again, by itself or as one that was recorded here.
pub fn an_adopted_event_keeps_its_birth(harness: &mut impl Harness) {
    let store = harness.store();
    let births = [0, 1, 300, u64::MAX].map(|position| Birth {
        origin: Uuid::from_u128(u128::MAX - u128::from(position)),
        epoch: Uuid::from_u128(u128::from(position)),
        position,
        recorded_time: Timestamp::from_micros(i64::MIN.wrapping_add_unsigned(position)),
    });
    let mut written = vec![full_event(1)];
    written.extend(
        (2..)
            .zip(births)
            .map(|(n, birth)| full_event(n).with_birth(birth)),
    );
    let stream = stream("a");
    let first = append(&store, &stream, &written);
    let there = read(&store, &stream);
    for (read, written) in there.iter().zip(&written) {
        assert_eq!(read.birth, written.birth);
        let kind = match written.birth {
            None => RecordKind::Event,
            Some(_) => RecordKind::Adopted,
        };
        assert_eq!(read.kind, kind);
        let born = written.birth.as_ref().map(|birth| birth.position);
        assert_eq!(read.origin_position(), born.or(read.position));
        let found = wait(store.find_event(&stream, written.event_id)).unwrap();
        assert_eq!(found.as_ref(), Some(read));
    }
    for event in &mut written {
        event.birth = None;
    }
    for expected in [ExpectedVersion::NoStream, ExpectedVersion::Any] {
        let again = try_append(&store, &stream, expected, &written).unwrap();
        assert_first_receipt(&again, &first);
    }
    assert!(read(&store, &stream) == there);
}

/// Every field of an envelope comes back as it was given.
pub fn every_field_comes_back_unchanged(harness: &mut impl Harness) {
    let store = harness.store();
    let written: Vec<_> = (0..5).map(full_event).collect();
    assert_comes_back(&store, "full", &written);

    let bare = NewEvent::new("B", 1, ContentType::Postcard, Vec::new());
    let mixed = [full_event(9), bare, full_event(10)];
    assert_comes_back(&store, "mixed", &mixed);
}

/// Payloads of any size and with any bytes come back, empty ones too.
pub fn payloads_of_every_size_come_back_unchanged(harness: &mut impl Harness) {
    let store = harness.store();
    let limit = store.limits().payload_bytes;
    let sizes = [0, 1, 7, 8, 9, 127, 128, 4_095, 4_096, 4_097, 65_536, limit];
    let mut state = 1_u32;
    let written: Vec<_> = sizes
        .iter()
        .map(|size| {
            let payload: Vec<u8> = (0..*size)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    state.to_be_bytes()[0]
                })
                .collect();
            NewEvent::new("Sized", 1, ContentType::Bytes, payload)
        })
        .collect();
    assert_comes_back(&store, "sizes", &written);
    let every_byte: Vec<u8> = (0..=255).collect();
    let look_alikes = [vec![0; 4_096], vec![255; 4_096], every_byte]
        .map(|payload| NewEvent::new("Bytes", 1, ContentType::Bytes, payload));
    assert_comes_back(&store, "bytes", &look_alikes);
}

/// The known content types and any other come back as they are.
pub fn content_types_come_back_unchanged(harness: &mut impl Harness) {
    let store = harness.store();
    let longest = format!("application/{}", "x".repeat(116));
    let types = [
        ContentType::Postcard,
        ContentType::Json,
        ContentType::Bytes,
        ContentType::parse("text/plain; charset=utf-8").unwrap(),
        ContentType::parse("x").unwrap(),
        ContentType::parse(&longest).unwrap(),
        ContentType::parse("caf\u{e9}/\u{1f98a}").unwrap(),
    ];
    let written = types.map(|content_type| NewEvent::new("Typed", 1, content_type, vec![1]));
    assert_comes_back(&store, "types", &written);
}

/// Event times are the caller's, from the earliest that can be said to the latest.
pub fn event_times_come_back_unchanged(harness: &mut impl Harness) {
    let store = harness.store();
    let written: Vec<_> = [i64::MIN, -1, 0, 1, 852_119_999_000_000, i64::MAX]
        .into_iter()
        .map(|micros| event("timed").with_event_time(Timestamp::from_micros(micros)))
        .collect();
    assert_comes_back(&store, "times", &written);
}

/// Revisions and ids come back from their lowest to their highest value.
pub fn revisions_and_ids_come_back_unchanged(harness: &mut impl Harness) {
    let store = harness.store();
    let written: Vec<_> = [1, 127, 128, 65_536, u32::MAX]
        .into_iter()
        .map(|revision| {
            let mut event = event("revised");
            event.revision = revision;
            event
        })
        .chain([0, 255].map(|byte| event("named").with_id(EventId::from_bytes([byte; 16]))))
        .collect();
    assert_comes_back(&store, "extremes", &written);
}

/// Many keys and many tags come back, up to the limit.
pub fn much_metadata_comes_back_unchanged(harness: &mut impl Harness) {
    let store = harness.store();
    let pairs = (0..2_000).map(|n| (format!("key {n}"), format!("value {n}")));
    let many_keys = event("keys").with_metadata(pairs.collect());
    let tags = Tags::new((0..2_000).map(|n| format!("key{n}:value {n}"))).unwrap();
    let many_tags = event("tags").with_tags(tags);
    let one = Metadata::new().with("k", "v".repeat(store.limits().metadata_bytes - 1));
    let one_large = event("large").with_metadata(one);
    assert_comes_back(&store, "much", &[many_keys, many_tags, one_large]);
}

/// Event types are not mixed up, however many there are.
pub fn many_event_types_are_told_apart(harness: &mut impl Harness) {
    let store = harness.store();
    let written: Vec<_> = (0..500)
        .map(|n| {
            let name: Arc<str> = format!("Type {n}").into();
            NewEvent::new(name, 1, ContentType::Bytes, Vec::new())
        })
        .collect();
    assert_comes_back(&store, "types", &written);
}
