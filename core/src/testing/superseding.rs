//! Law 17: events of a stream give way to another origin's, in one step, and for good.

use std::sync::Barrier;

use uuid::Uuid;

use super::harness::{Harness, PersistentHarness};
use super::snapshots::snapshot_at;
use super::tools::*;
use crate::append::{AppendOutcome, AppendReceipt, ExpectedVersion};
use crate::clock::Timestamp;
use crate::envelope::{Birth, NewEvent, RecordKind};
use crate::error::Error;
use crate::limits::Limits;
use crate::read::{LogQuery, StreamQuery, Subscribe};
use crate::snapshot::{PersistOutcome, SnapshotStore};
use crate::store::{EventLog, EventStore, MultiStreamStore, StreamHead};
use crate::stream_id::StreamId;
use crate::superseded::{Supersede, Superseded, Supersession};

/// Events of another origin.
fn foreign(count: u64) -> Vec<NewEvent> {
    let birth = |position| Birth {
        origin: Uuid::from_u128(7),
        epoch: Uuid::from_u128(8),
        position,
        recorded_time: Timestamp::from_micros(9),
    };
    let events = (1..=count).map(|n| event(&format!("foreign {n}")).with_birth(birth(n)));
    events.collect()
}

fn head(store: &impl EventStore, stream: &StreamId) -> StreamHead {
    wait(store.head(stream)).unwrap().unwrap()
}

fn supersede(
    store: &impl Supersede,
    stream: &StreamId,
    from: u64,
    adopted: &[NewEvent],
    reissued: &[NewEvent],
) -> Result<AppendReceipt, Error> {
    let what = Supersession::new(stream.clone(), head(store, stream), from)
        .with_adopted(adopted.to_vec())
        .with_reissued(reissued.to_vec());
    wait(store.supersede(what))
}

/// The stream ends in the events given, those below stay, and the log has all of it.
pub fn the_newest_events_give_way(harness: &mut impl Harness<Store: Supersede>) {
    let store = harness.store();
    let (stream, other) = (stream("till"), stream("other"));
    let (own, adopted, reissued) = (events(5), foreign(3), events(1));
    append(&store, &stream, &own);
    append(&store, &other, &events(2));
    let receipt = supersede(&store, &stream, 4, &adopted, &reissued).unwrap();
    assert_eq!((receipt.first_sequence, receipt.last_sequence), (4, 7));
    assert_eq!(
        (receipt.first_position, receipt.last_position),
        (Some(9), Some(12))
    );
    assert_eq!(receipt.outcome, AppendOutcome::Appended);
    let now = [&own[..3], &adopted, &reissued].concat();
    assert_holds(&store, &stream, &now);
    let there = read(&store, &stream);
    let kinds: Vec<_> = there.iter().map(|event| event.kind).collect();
    let (own_kind, adopted_kind) = (RecordKind::Event, RecordKind::Adopted);
    let expected = [&[own_kind; 3][..], &[adopted_kind; 3], &[own_kind]].concat();
    assert_eq!(kinds, expected);
    assert_eq!(there[3].birth.as_deref(), adopted[0].birth.as_deref());
    assert_eq!(read(&store, &other).len(), 2, "another stream is as it was");
    let log = read_log(&store, LogQuery::all());
    assert_eq!(positions(&log), dense(1, 12));
    let said = Superseded::of(&log[7]).unwrap();
    assert_eq!(
        (&said.stream, said.from, said.at, said.replaced),
        (&stream, 4, 8, 5)
    );
    assert_eq!((said.adopted, said.reissued), (3, 1));
    for event in &log {
        let gave_way = event.position == Some(4) || event.position == Some(5);
        assert_eq!(store.is_superseded(event), gave_way, "{event:?}");
    }
    let next = events(1);
    assert_eq!(append(&store, &stream, &next).first_sequence, 8);
    assert_holds(&store, &stream, &[now, next].concat());
}

/// Nothing need take the place of what gives way, and nothing need give way.
pub fn a_stream_may_only_end_earlier_or_only_go_on(harness: &mut impl Harness<Store: Supersede>) {
    let store = harness.store();
    let stream = stream("till");
    let own = events(4);
    append(&store, &stream, &own);
    let receipt = supersede(&store, &stream, 3, &[], &[]).unwrap();
    assert_eq!((receipt.first_sequence, receipt.last_sequence), (3, 2));
    assert_holds(&store, &stream, &own[..2]);
    let adopted = foreign(2);
    let receipt = supersede(&store, &stream, 3, &adopted, &[]).unwrap();
    assert_eq!((receipt.first_sequence, receipt.last_sequence), (3, 4));
    assert_holds(&store, &stream, &[&own[..2], &adopted].concat());
    supersede(&store, &stream, 1, &[], &[]).unwrap();
    assert_holds(&store, &stream, &[]);
    let anew = events(2);
    let created = try_append(&store, &stream, ExpectedVersion::NoStream, &anew).unwrap();
    assert_eq!(created.first_sequence, 1);
    assert_holds(&store, &stream, &anew);
}

/// Whoever decided on an older end of the stream is told, and nothing is written.
pub fn a_stream_that_has_moved_on_is_left_alone(harness: &mut impl Harness<Store: Supersede>) {
    let store = harness.store();
    let stream = stream("till");
    let own = events(3);
    append(&store, &stream, &own);
    let seen = head(&store, &stream);
    append(&store, &stream, &events(1));
    let last = store.last_position();
    let what = Supersession::new(stream.clone(), seen, 2).with_adopted(foreign(1));
    let moved_on = wait(store.supersede(what));
    assert_wrong_version(moved_on, &stream, ExpectedVersion::Exact(3), 4);
    let other_id = StreamHead {
        sequence: 4,
        event_id: own[0].event_id,
    };
    let another = wait(store.supersede(Supersession::new(stream.clone(), other_id, 2)));
    assert_wrong_version(another, &stream, ExpectedVersion::Exact(4), 4);
    let empty = super::tools::stream("empty");
    let never = wait(store.supersede(Supersession::new(empty.clone(), other_id, 2)));
    assert_wrong_version(never, &empty, ExpectedVersion::Exact(4), 0);
    assert_eq!(store.last_position(), last);
}

/// What can never be right is refused, and nothing is written.
pub fn impossible_supersessions_are_refused(harness: &mut impl Harness<Store: Supersede>) {
    let store = harness.store_with_limits(Limits {
        batch_events: 5,
        ..Limits::default()
    });
    let stream = stream("till");
    append(&store, &stream, &events(2));
    let last = store.last_position();
    for from in [0, 4, u64::MAX] {
        assert_invalid(supersede(&store, &stream, from, &foreign(1), &[]));
    }
    assert_invalid(supersede(&store, &stream, 2, &events(1), &[]));
    assert_invalid(supersede(&store, &stream, 2, &[], &foreign(1)));
    let twice = foreign(1);
    let mut again = twice[0].clone();
    again.birth = None;
    assert_invalid(supersede(&store, &stream, 2, &twice, &[again]));
    assert_too_large(supersede(&store, &stream, 2, &foreign(3), &events(3)), 6, 5);
    let reserved = StreamId::new_reserved("$tidelog", "control").unwrap();
    let at = head(&store, &stream);
    assert_invalid(wait(store.supersede(Supersession::new(reserved, at, 1))));
    assert_eq!(store.last_position(), last);
    harness.close(store.clone());
    let closed = wait(store.supersede(Supersession::new(stream, at, 1)));
    assert_closed(closed);
}

/// A read that was asked for before sees what was there then, also what it has not reached yet.
pub fn a_read_from_before_sees_what_was_there(harness: &mut impl Harness<Store: Supersede>) {
    let store = harness.store();
    let stream = stream("till");
    let own = events(2_000);
    for part in own.chunks(500) {
        append(&store, &stream, part);
    }
    let query = || StreamQuery::new(stream.clone());
    let mut forward = store.read_stream(query()).into_blocking();
    let mut backward = store.read_stream(query().backward()).into_blocking();
    let first = forward.next().unwrap().unwrap();
    let last = backward.next().unwrap().unwrap();
    assert_eq!((first.sequence, last.sequence), (1, 2_000));
    supersede(&store, &stream, 3, &foreign(4), &[]).unwrap();
    append(&store, &stream, &events(3));
    let rest: Vec<_> = forward.map(|read| read.unwrap().event_id).collect();
    let ids: Vec<_> = own.iter().map(|event| event.event_id).collect();
    assert_eq!(rest, ids[1..]);
    let rest: Vec<_> = backward.map(|read| read.unwrap().event_id).collect();
    let turned: Vec<_> = ids.iter().rev().skip(1).copied().collect();
    assert_eq!(rest, turned);
    assert_eq!(read(&store, &stream).len(), 9);
}

/// Ranges, limits and directions select of the stream as it is now.
pub fn queries_select_of_what_the_stream_is_now(harness: &mut impl Harness<Store: Supersede>) {
    let store = harness.store();
    let stream = stream("till");
    let own = events(6);
    append(&store, &stream, &own);
    let adopted = foreign(4);
    supersede(&store, &stream, 4, &adopted, &[]).unwrap();
    let more = events(2);
    supersede(&store, &stream, 6, &[], &more).unwrap();
    let now = [&own[..3], &adopted[..2], &more].concat();
    assert_holds(&store, &stream, &now);
    let now: Vec<_> = now.iter().map(|event| event.event_id).collect();
    for from in [0, 1, 3, 4, 5, 6, 7, 8] {
        for to in [0, 3, 4, 5, 6, 7, u64::MAX] {
            for limit in [None, Some(1), Some(2), Some(9)] {
                let mut query = StreamQuery::new(stream.clone()).from(from).to(to);
                query.limit = limit;
                let most = usize::try_from(limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
                let selected = |wanted: &u64| (from..=to).contains(wanted);
                let mut selected: Vec<_> = (1..=7).filter(selected).collect();
                let check = |query: StreamQuery, selected: &[u64]| {
                    let found = read_query(&store, query);
                    assert_eq!(sequences(&found), selected);
                    for event in found {
                        let at = usize::try_from(event.sequence - 1).unwrap();
                        assert_eq!(event.event_id, now[at]);
                    }
                };
                let first = selected.len().min(most);
                check(query.clone(), &selected[..first]);
                selected.reverse();
                check(query.backward(), &selected[..first]);
            }
        }
    }
}

/// An id that gave way is refused, whatever its append expects: in the newest ones of each time, and
/// where the expectation implies for ever.
pub fn ids_that_gave_way_are_refused(harness: &mut impl Harness<Store: Supersede>) {
    let store = harness.store_with_limits(Limits {
        batch_events: 10,
        ..Limits::default()
    });
    let window = store.limits().retry_window();
    let stream = stream("till");
    let first = events(1);
    append(&store, &stream, &first);
    let own = events(window + 5);
    for part in own.chunks(10) {
        append(&store, &stream, part);
    }
    supersede(&store, &stream, 2, &foreign(1), &[]).unwrap();
    append(&store, &stream, &events(1));
    let last = store.last_position();
    let any = ExpectedVersion::Any;
    for part in [&own[5..6], &own[window + 4..], &own[window + 1..window + 3]] {
        assert_id_conflict(try_append(&store, &stream, any, part), &stream, part);
        let found = wait(store.find_event(&stream, part[0].event_id)).unwrap();
        assert_eq!(found, None, "it is not in the stream");
    }
    let implied = ExpectedVersion::Exact(1);
    let part = &own[..2];
    assert_id_conflict(try_append(&store, &stream, implied, part), &stream, part);
    let beside_new = [events(1), own[window + 4..].to_vec()].concat();
    let refused = try_append(&store, &stream, any, &beside_new);
    assert_id_conflict(refused, &stream, &own[window + 4..]);
    assert_eq!(store.last_position(), last);
    // What is below is known as ever, and what is beyond every window is forgotten as ever.
    let retry = try_append(&store, &stream, ExpectedVersion::NoStream, &first).unwrap();
    assert_eq!(retry.outcome, AppendOutcome::AlreadyAppended);
    let forgotten = try_append(&store, &stream, any, &own[..2]).unwrap();
    assert_eq!(forgotten.outcome, AppendOutcome::Appended);
}

/// What took its place is recognized like any other event; known ids are not issued again.
pub fn ids_that_took_their_place_are_recognized(harness: &mut impl Harness<Store: Supersede>) {
    let store = harness.store();
    let stream = stream("till");
    let own = events(4);
    append(&store, &stream, &own);
    let (adopted, reissued) = (foreign(2), events(2));
    let receipt = supersede(&store, &stream, 3, &adopted, &reissued).unwrap();
    let all = [adopted.clone(), reissued.clone()].concat();
    let any = ExpectedVersion::Any;
    let retry = try_append(&store, &stream, any, &all).unwrap();
    assert_first_receipt(&retry, &receipt);
    let found = wait(store.find_event(&stream, adopted[1].event_id))
        .unwrap()
        .unwrap();
    assert_eq!((found.sequence, found.kind), (4, RecordKind::Adopted));
    let last = store.last_position();
    for known in [&own[..1], &own[3..], &reissued[..1]] {
        let again = supersede(&store, &stream, 5, &[], known);
        assert_id_conflict(again, &stream, known);
    }
    assert_eq!(store.last_position(), last);
    // An adopted event may give way and be adopted again.
    supersede(&store, &stream, 3, &adopted, &[]).unwrap();
    assert_holds(&store, &stream, &[&own[..2], &adopted].concat());
    let retry = try_append(&store, &stream, any, &adopted).unwrap();
    assert_eq!(
        (retry.outcome, retry.first_sequence),
        (AppendOutcome::AlreadyAppended, 3)
    );
}

/// Where events have given way, an append that names the event it follows is refused behind another
/// one of the same sequence; elsewhere the sequence alone counts.
pub fn an_append_may_name_the_event_it_follows(
    harness: &mut impl Harness<Store: Supersede + MultiStreamStore>,
) {
    let store = harness.store();
    let (stream, untouched) = (stream("till"), stream("untouched"));
    let own = events(2);
    append(&store, &stream, &own);
    append(&store, &untouched, &events(2));
    let elsewhere = batch(&untouched, ExpectedVersion::Exact(2), &events(1));
    wait(store.append(elsewhere.with_after(own[0].event_id))).unwrap();
    let adopted = foreign(1);
    supersede(&store, &stream, 2, &adopted, &[]).unwrap();
    let at_two = ExpectedVersion::Exact(2);
    let decided = batch(&stream, at_two, &events(1)).with_after(own[1].event_id);
    assert_wrong_version(wait(store.append(decided.clone())), &stream, at_two, 2);
    let both = vec![batch(&untouched, ExpectedVersion::Any, &events(1)), decided];
    let refused = wait(store.append_streams(both)).map(|mut receipts| receipts.remove(0));
    assert_wrong_version(refused, &stream, at_two, 2);
    let first = events(1);
    let anew = batch(&stream, at_two, &first).with_after(adopted[0].event_id);
    assert_eq!(wait(store.append(anew)).unwrap().first_sequence, 3);
    let next = batch(&stream, ExpectedVersion::Any, &events(1)).with_after(first[0].event_id);
    assert_eq!(wait(store.append(next)).unwrap().first_sequence, 4);
    supersede(&store, &stream, 1, &[], &[]).unwrap();
    let none = batch(&stream, ExpectedVersion::NoStream, &events(1));
    let behind_nothing = none.clone().with_after(first[0].event_id);
    let refused = wait(store.append(behind_nothing));
    assert_wrong_version(refused, &stream, ExpectedVersion::NoStream, 0);
    assert_eq!(wait(store.append(none)).unwrap().first_sequence, 1);
}

/// A subscription that has delivered what gives way ends with an error that says so; one that has
/// not goes on with what took its place.
pub fn a_subscription_to_what_gave_way_ends(harness: &mut impl Harness<Store: Supersede>) {
    let store = harness.store();
    let stream = stream("till");
    let own = events(4);
    append(&store, &stream, &own);
    let subscribe = |after| {
        let stream = stream.clone();
        let all = store.subscribe(Subscribe::Stream { stream, after });
        all.into_blocking()
    };
    let mut level = subscribe(0);
    assert_eq!(take(&mut level, 4).len(), 4);
    let mut behind = subscribe(2);
    let mut another = subscribe(0);
    assert_eq!(take(&mut another, 2).len(), 2);
    let adopted = foreign(3);
    supersede(&store, &stream, 3, &adopted, &[]).unwrap();
    let ended = level.next().unwrap().unwrap_err();
    let expected = (&stream, 3);
    match &ended {
        Error::Superseded { stream, from } => assert_eq!((stream, *from), expected),
        other => panic!("{other}"),
    }
    assert!(level.next().is_none());
    assert_eq!(
        sequences(&take(&mut behind, 3)),
        [3, 4, 5],
        "it had nothing of it"
    );
    let next = events(1);
    append(&store, &stream, &next);
    let seen = take(&mut behind, 1);
    assert_eq!((seen[0].sequence, seen[0].event_id), (6, next[0].event_id));
    let mut fresh = subscribe(5);
    assert_eq!(sequences(&take(&mut fresh, 1)), [6]);
    // It may have read ahead, and then delivers the events of then before it ends.
    let mut delivered = Vec::new();
    for event in another.by_ref().take(4) {
        match event {
            Ok(event) => delivered.push((event.sequence, event.event_id)),
            Err(Error::Superseded { .. }) => break,
            Err(error) => panic!("{error}"),
        }
    }
    let then = [(3, own[2].event_id), (4, own[3].event_id)];
    let now = [(3, adopted[0].event_id), (4, adopted[1].event_id)];
    assert!(
        delivered == then[..delivered.len().min(2)] || delivered.starts_with(&now),
        "{delivered:?}"
    );
}

/// Whoever follows the whole log gets all of it: what gave way, the record, what took its place.
pub fn the_log_goes_on_over_it(harness: &mut impl Harness<Store: Supersede>) {
    let store = harness.store();
    let stream = stream("till");
    append(&store, &stream, &events(2));
    let mut all = store.subscribe(Subscribe::All { after: 0 }).into_blocking();
    take(&mut all, 2);
    supersede(&store, &stream, 1, &foreign(1), &events(1)).unwrap();
    let seen = take(&mut all, 3);
    assert_eq!(positions(&seen), [3, 4, 5]);
    let said = Superseded::of(&seen[0]).unwrap();
    assert!(said.concerns(&stream, 2, 2) && !said.concerns(&stream, 2, 5));
    assert_eq!(seen[0].sequence, 0);
    assert!(seen[0].stream.is_reserved());
    assert_eq!(sequences(&seen[1..]), [1, 2]);
    let read = read_log(&store, LogQuery::all());
    assert_eq!(read[2..], seen);
}

/// A snapshot of what gave way counts for nothing, and a lower one may take its place.
pub fn a_snapshot_of_what_gave_way_is_gone(
    harness: &mut impl Harness<Store: Supersede + SnapshotStore>,
) {
    let store = harness.store();
    let stream = stream("till");
    append(&store, &stream, &events(5));
    let there = read(&store, &stream);
    let (below, above) = (
        snapshot_at(&there[1], 1, b"below"),
        snapshot_at(&there[4], 1, b"above"),
    );
    let persist = |snapshot: &_| wait(store.persist(Clone::clone(snapshot)));
    assert_eq!(persist(&above).unwrap(), PersistOutcome::Persisted);
    supersede(&store, &stream, 3, &foreign(4), &[]).unwrap();
    assert_eq!(wait(SnapshotStore::read(&store, &stream)).unwrap(), None);
    assert_invalid(persist(&above));
    assert_eq!(persist(&below).unwrap(), PersistOutcome::Persisted);
    let kept = wait(SnapshotStore::read(&store, &stream)).unwrap();
    assert_eq!(kept, Some(below));
}

/// Threads that append, and threads that let the newest event give way, win each head once.
pub fn racing_supersessions_win_each_head_once(harness: &mut impl Harness<Store: Supersede>) {
    const THREADS: usize = 4;
    const WINS: usize = 12;
    let store = harness.store();
    let stream = stream("raced");
    append(&store, &stream, &events(1));
    let start = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for n in 0..THREADS {
            let (store, stream, start) = (&store, &stream, &start);
            scope.spawn(move || {
                start.wait();
                let mut won = 0;
                while won < WINS {
                    let seen = head(store, stream);
                    let done = if n % 2 == 0 {
                        let expected = ExpectedVersion::Exact(seen.sequence);
                        let one = batch(stream, expected, &events(1));
                        wait(store.append(one.with_after(seen.event_id)))
                    } else {
                        let what = Supersession::new(stream.clone(), seen, seen.sequence);
                        wait(store.supersede(what.with_adopted(foreign(1))))
                    };
                    match done {
                        Ok(_) => won += 1,
                        Err(Error::WrongVersion { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    // Told again from the log: each record replaced the head that it says.
    let mut now = Vec::new();
    let mut supersessions = 0;
    for event in read_log(&store, LogQuery::all()) {
        if let Some(said) = Superseded::of(&event) {
            assert_eq!(said.replaced, now.len() as u64);
            now.truncate(usize::try_from(said.from - 1).unwrap());
            supersessions += 1;
        } else {
            assert_eq!(event.sequence, now.len() as u64 + 1);
            now.push(event);
        }
    }
    assert_eq!(supersessions, WINS * THREADS / 2);
    assert!(read(&store, &stream) == now);
}

/// After a reopen streams are what they were, and go on.
pub fn what_gave_way_stays_so_after_a_reopen(
    harness: &mut impl PersistentHarness<Store: Supersede>,
) {
    let mut store = harness.store();
    let names = ["a", "b", "c"].map(stream);
    let mut expected = [const { Vec::new() }; 3];
    for round in 0..8_u64 {
        for (stream, now) in names.iter().zip(&mut expected) {
            let own = events(40);
            append(&store, stream, &own);
            now.extend(own);
            let from = now.len() - usize::try_from(round * 3).unwrap();
            let (adopted, reissued) = (foreign(round % 3), events(usize::from(round % 2 == 0)));
            let at = from as u64 + 1;
            supersede(&store, stream, at, &adopted, &reissued).unwrap();
            now.truncate(from);
            now.extend(adopted);
            now.extend(reissued);
        }
        let log = read_log(&store, LogQuery::all());
        let gone: Vec<_> = log.iter().map(|event| store.is_superseded(event)).collect();
        if round % 2 == 0 {
            harness.close(store);
        } else {
            harness.crash(store);
        }
        store = harness.store();
        for (stream, now) in names.iter().zip(&expected) {
            assert_holds(&store, stream, now);
        }
        assert!(read_log(&store, LogQuery::all()) == log);
        let again: Vec<_> = log.iter().map(|event| store.is_superseded(event)).collect();
        assert_eq!(again, gone);
    }
}
