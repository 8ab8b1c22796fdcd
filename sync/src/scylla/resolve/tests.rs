//! Conflicts between two tills at the server in memory, resolved.

use tidelog_backends::SledStore;
use tidelog_backends::fake::{FakeServer, FakeWire, Fault};
use tidelog_backends::wire::Request;
use tidelog_core::{ContentType, EventLog, LogQuery, RecordKind};

use super::super::tests::{Till, meta};
use super::*;

fn server() -> FakeWire {
    FakeWire::new(FakeServer::new(meta()))
}

fn stream(name: &str) -> StreamId {
    name.parse().unwrap()
}

fn resolve(
    till: &Till,
    name: &str,
    first: u64,
    again: Option<Again<'_>>,
) -> Result<Resolved, Error> {
    let raw = till.store.without_codec();
    let resolver = Resolver {
        wire: &till.wire,
        store: &till.store,
        raw: &raw,
        codec: till.store.codec(),
    };
    pollster::block_on(resolver.resolve(&stream(name), first, again))
}

/// Issues the payloads of what is held again.
#[allow(
    clippy::unnecessary_wraps,
    reason = "it is what a caller of `reissue` gives"
)]
fn payloads_again(conflict: &Conflict) -> Result<Vec<NewEvent>, HandlerError> {
    let new =
        |event: &EventEnvelope| NewEvent::new("Again", 1, ContentType::Json, event.event.clone());
    Ok(conflict.held.iter().map(new).collect())
}

/// Two tills that wrote one stream apart: the first one's events stand, the other's are held.
fn apart(common: usize, first: usize, second: usize) -> (Till, Till) {
    let wire = server();
    let (mut one, mut two) = (Till::new(wire.clone()), Till::new(wire));
    if common > 0 {
        one.append("T/x", common);
        one.settle();
        // The other one has taken them over.
        let resolved = take_over(&two, "T/x");
        assert_eq!(resolved.adopted, common as u64);
        two.settle();
    }
    one.append("T/x", first);
    one.settle();
    two.append("T/x", second);
    two.settle();
    assert_eq!(two.parked().len(), 1, "{:?}", two.parked());
    (one, two)
}

/// Adopts what the server has of a stream that is new here: one event is recorded, and gives way.
pub(in crate::scylla) fn take_over(till: &Till, name: &str) -> Resolved {
    till.append(name, 1);
    resolve(till, name, 1, None).unwrap()
}

fn agree(one: &Till, two: &Till, name: &str) {
    let remote = one.remote(name);
    assert_eq!(two.local(name), remote);
    assert_eq!(two.remote(name), remote);
}

#[test]
fn the_remotes_events_take_the_place_of_those_held_and_all_agree() {
    let (one, mut two) = apart(0, 3, 2);
    let first = two.node.status.parked()[0].first_sequence;
    let resolved = resolve(&two, "T/x", first, None).unwrap();
    assert_eq!((resolved.superseded, resolved.adopted), (2, 3));
    assert_eq!((resolved.reissued, resolved.last_sequence), (0, 3));
    two.settle();
    assert_eq!(two.parked(), []);
    assert_eq!(one.local("T/x"), one.remote("T/x"));
    agree(&one, &two, "T/x");
    // What was held is in the log still.
    let log = two.store.blocking().read_all(LogQuery::all());
    let log: Vec<_> = log.map(Result::unwrap).collect();
    let own = log.iter().filter(|e| e.kind == RecordKind::Event).count();
    assert_eq!(own, 2);
    let adopted = log.iter().find(|e| e.kind == RecordKind::Adopted).unwrap();
    let birth = adopted.birth.as_ref().unwrap();
    assert_eq!(birth.origin, one.store.identity().origin);
    assert_eq!(birth.position, 1);
    // The stream goes on at the other till.
    two.append("T/x", 1);
    two.settle();
    assert_eq!(two.parked(), []);
    assert_eq!(two.remote("T/x").len(), 4);
}

#[test]
fn what_was_held_is_issued_again_behind_the_remotes() {
    let (one, mut two) = apart(0, 3, 2);
    let resolved = resolve(&two, "T/x", 1, Some(&payloads_again)).unwrap();
    assert_eq!((resolved.superseded, resolved.adopted), (2, 3));
    assert_eq!((resolved.reissued, resolved.last_sequence), (2, 5));
    two.settle();
    assert_eq!(two.parked(), []);
    assert_eq!(two.remote("T/x").len(), 5);
    agree(&one, &two, "T/x");
}

#[test]
fn a_conflict_says_what_both_sides_have_from_the_first_difference_on() {
    let (one, two) = apart(2, 2, 3);
    let seen = std::sync::Mutex::new(None);
    let look = |conflict: &Conflict| {
        *seen.lock().unwrap() = Some(conflict.clone());
        Ok(Vec::new())
    };
    // Asked from the beginning, it finds the first difference by itself.
    let resolved = resolve(&two, "T/x", 1, Some(&look)).unwrap();
    let conflict = seen.into_inner().unwrap().unwrap();
    assert_eq!(conflict.base, 2);
    let ids = |events: &[EventEnvelope]| events.iter().map(|e| e.event_id).collect::<Vec<_>>();
    assert_eq!(ids(&conflict.remote), one.local("T/x")[2..]);
    assert_eq!(conflict.held.len(), 3);
    assert_eq!((resolved.superseded, resolved.adopted), (3, 2));
}

#[test]
fn a_part_of_a_torn_append_is_dropped_or_issued_again() {
    for again in [false, true] {
        let wire = server();
        let (mut one, mut two) = (Till::new(wire.clone()), Till::new(wire));
        one.append("T/x", 1);
        one.settle();
        two.append("T/x", 1);
        two.settle();
        two.append_both("T/x", "T/y");
        two.settle();
        assert_eq!(two.parked().len(), 2);
        let issue: Option<Again<'_>> = again.then_some(&payloads_again);
        let resolved = resolve(&two, "T/y", 1, issue).unwrap();
        assert_eq!((resolved.superseded, resolved.adopted), (1, 0));
        resolve(&two, "T/x", 1, None).unwrap();
        two.settle();
        assert_eq!(two.parked(), [], "again: {again}");
        assert_eq!(two.remote("T/y").len(), usize::from(again));
        agree(&one, &two, "T/x");
        agree(&two, &two, "T/y");
    }
}

#[test]
fn more_than_one_append_takes_is_adopted_in_steps() {
    let wire = server();
    let mut one = Till::new(wire.clone());
    for _ in 0..5 {
        one.append("T/x", 7);
    }
    one.settle();
    let limits = Limits {
        batch_events: 4,
        ..Limits::default()
    };
    let dir = tempfile::tempdir().unwrap();
    let builder = SledStore::builder(dir.path()).sparse_segments();
    let store = builder.limits(limits).open().unwrap();
    super::super::tests::append(&store, "T/x", 2);
    let raw = store.without_codec();
    let resolver = Resolver {
        wire: &wire,
        store: &store,
        raw: &raw,
        codec: None,
    };
    let x = stream("T/x");
    let resolved = resolver.resolve(&x, 1, Some(&payloads_again));
    let resolved = pollster::block_on(resolved).unwrap();
    assert_eq!((resolved.adopted, resolved.last_sequence), (35, 37));
    let events = store.blocking().read_stream(StreamQuery::new(x));
    let ids: Vec<_> = events.map(|event| event.unwrap().event_id).collect();
    assert_eq!(ids[..35], one.local("T/x"));
    assert_eq!(ids.len(), 37);
}

#[test]
fn what_is_appended_meanwhile_gives_way_too() {
    let (one, mut two) = apart(0, 1, 1);
    let asked = std::sync::atomic::AtomicU32::new(0);
    let store = two.store.clone();
    let busy = |conflict: &Conflict| {
        if asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 {
            super::super::tests::append(&store, "T/x", 1);
        }
        payloads_again(conflict)
    };
    let resolved = resolve(&two, "T/x", 1, Some(&busy)).unwrap();
    assert_eq!((resolved.superseded, resolved.reissued), (2, 2));
    two.settle();
    assert_eq!(two.parked(), []);
    agree(&one, &two, "T/x");
}

#[test]
fn what_is_resolved_already_is_left_as_it_is() {
    let (_one, mut two) = apart(0, 3, 2);
    resolve(&two, "T/x", 1, None).unwrap();
    let last = two.store.last_position();
    let resolved = resolve(&two, "T/x", 1, None).unwrap();
    assert_eq!((resolved.superseded, resolved.position), (0, None));
    assert_eq!(two.store.last_position(), last);
    two.settle();
}

#[test]
fn a_refusing_caller_and_an_unreachable_server_change_nothing() {
    let (_one, two) = apart(0, 1, 1);
    let last = two.store.last_position();
    let refuse = |_: &Conflict| Err(HandlerError::permanent("not today"));
    let error = resolve(&two, "T/x", 1, Some(&refuse)).unwrap_err();
    assert!(error.to_string().contains("not today"), "{error}");
    let same = |conflict: &Conflict| {
        let held = conflict.held.iter();
        let again =
            held.map(|event| NewEvent::new("E", 1, ContentType::Json, "1").with_id(event.event_id));
        Ok(again.collect())
    };
    let error = resolve(&two, "T/x", 1, Some(&same)).unwrap_err();
    assert!(matches!(error, Error::InvalidInput { .. }), "{error}");
    two.wire.set_faults(|request| match request {
        Request::Events { .. } => Fault::LostReply,
        _ => Fault::None,
    });
    let error = resolve(&two, "T/x", 1, None).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert_eq!(two.store.last_position(), last);
}

#[test]
fn a_conflict_over_many_buckets_is_read_whole() {
    let (one, mut two) = apart(7, 40, 30);
    let resolved = resolve(&two, "T/x", 8, Some(&payloads_again)).unwrap();
    assert_eq!((resolved.superseded, resolved.adopted), (30, 40));
    two.settle();
    assert_eq!(two.parked(), []);
    assert_eq!(two.remote("T/x").len(), 77);
    agree(&one, &two, "T/x");
}
