use tidelog_backends::fake::{FakeWire, Fault, Table};
use tidelog_backends::wire::{Chunk, ForkRows, ParkedRow, Reply, Request};
use tidelog_core::BoxFuture;

use super::super::test_log::{
    CHUNK, Silenced, TestLog, accept, ask, id, log, now_or_never, parked, rows_of, server, stream,
};
use super::*;

/// Waiting is for the test to end.
struct Never;

impl Sleeper for Never {
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

fn follow(wire: impl Wire, vector: Vector) -> Follow {
    Follow::new(Arc::new(wire), Arc::new(Never), Some(id(1)), vector)
}

/// All that comes without waiting.
fn all(follow: &mut Follow) -> Vec<Followed> {
    let mut came = Vec::new();
    while let Some(item) = pollster::block_on(follow.next_ready()).unwrap() {
        came.push(item);
    }
    came
}

/// Positions of the events that come, by origin.
fn positions(follow: &mut Follow) -> Vec<(u8, u64)> {
    let events = all(follow).into_iter().filter_map(|item| match item {
        Followed::Event {
            origin, envelope, ..
        } => Some((origin.as_bytes()[0], envelope.position.unwrap())),
        _ => None,
    });
    events.collect()
}

fn of(origin: u8, positions: impl IntoIterator<Item = u64>) -> Vec<(u8, u64)> {
    positions.into_iter().map(|at| (origin, at)).collect()
}

fn advance(wire: &FakeWire, log: &TestLog, epoch: Uuid, to: u64) {
    let Reply::Origins(rows) = ask(wire, Request::Origins(log.origin)) else {
        panic!("not what was asked");
    };
    let seen = rows.iter().find(|row| row.epoch == epoch).unwrap();
    let request = Request::Advance {
        origin: log.origin,
        epoch,
        seen: seen.watermark,
        to: log.row(epoch, None, to).watermark,
        published: 0,
    };
    assert_eq!(ask(wire, request), Reply::Applied(true));
}

fn register(wire: &FakeWire, row: OriginRow) {
    let applied = ask(wire, Request::Register(Box::new(row)));
    assert_eq!(applied, Reply::Applied(true));
}

fn fork(wire: &FakeWire, row: OriginRow, retires: Option<Uuid>) {
    let Reply::Origins(rows) = ask(wire, Request::Origins(row.origin)) else {
        panic!("not what was asked");
    };
    let old = retires.and_then(|epoch| rows.iter().find(|row| row.epoch == epoch));
    let retires = old.map(|old| (old.epoch, old.watermark));
    let rows = ForkRows { row, retires };
    assert_eq!(
        ask(wire, Request::Fork(Box::new(rows))),
        Reply::Applied(true)
    );
}

#[test]
fn all_others_come_in_the_order_of_their_logs_and_the_own_does_not() {
    let wire = server();
    let logs = [log(1), log(2), log(3)];
    for log in &logs {
        log.send_all(&wire);
    }
    let mut follow = follow(wire, Vector::new());
    let came = all(&mut follow);
    for wanted in &logs[1..] {
        let events = came.iter().filter_map(|item| match item {
            Followed::Event {
                origin, envelope, ..
            } if *origin == wanted.origin => Some(envelope.clone()),
            _ => None,
        });
        assert_eq!(events.collect::<Vec<_>>(), wanted.envelopes());
    }
    assert_eq!(came.len(), 20);
    assert_eq!(follow.vector().position(id(2), id(2)), Some(10));
    assert_eq!(follow.vector().position(id(1), id(1)), None);
}

#[test]
fn a_vector_goes_on_behind_what_was_seen_also_within_a_commit() {
    for seen in 0..=10 {
        let wire = server();
        log(2).send_all(&wire);
        let mut vector = Vector::new();
        vector.set(id(2), id(2), seen);
        let mut follow = follow(wire, vector);
        assert_eq!(positions(&mut follow), of(2, seen + 1..=10), "from {seen}");
    }
}

#[test]
fn nothing_comes_that_is_not_settled() {
    let wire = server();
    let log = log(2);
    log.send(&wire, id(2), 1, 10);
    register(&wire, log.row(id(2), None, 4));
    let mut follow = follow(wire.clone(), Vector::new());
    assert_eq!(positions(&mut follow), of(2, 1..=4));
    assert_eq!(positions(&mut follow), []);
    advance(&wire, &log, id(2), 7);
    assert_eq!(positions(&mut follow), of(2, 5..=7));
    advance(&wire, &log, id(2), 10);
    assert_eq!(positions(&mut follow), of(2, 8..=10));
}

#[test]
fn a_hole_is_waited_for_and_counted_while_others_go_on() {
    let wire = server();
    let (two, three) = (log(2), log(3));
    two.send_all(&wire);
    three.send_all(&wire);
    let lost = rows_of(&two.commits[4]).remove(0);
    let chunk = Chunk {
        origin: id(2),
        epoch: id(2),
        number: lost.position / CHUNK,
    };
    wire.with_server(|server| server.lose_log_row(&chunk, lost.position, lost.event_id));
    let mut follow = follow(wire.clone(), Vector::new());
    let came = positions(&mut follow);
    assert_eq!(came.iter().filter(|(origin, _)| *origin == 3).count(), 10);
    let of_two: Vec<_> = came
        .into_iter()
        .filter(|(origin, _)| *origin == 2)
        .collect();
    assert_eq!(of_two, of(2, 1..=6));
    assert_eq!(follow.waiting(), 1);
    two.send(&wire, id(2), 7, 7);
    assert_eq!(positions(&mut follow), of(2, 7..=10));
    assert_eq!(follow.waiting(), 0);
}

#[test]
fn what_a_repair_lost_is_said_and_passed_over() {
    let wire = server();
    let mut log = log(2);
    log.append_times(20, "lost").lose(20).append_times(2, "d");
    log.send_all(&wire);
    let mut follow = follow(wire, Vector::new());
    let came = all(&mut follow);
    let lost = Followed::Lost {
        origin: id(2),
        epoch: id(2),
        positions: 11..=30,
    };
    assert_eq!(came.iter().position(|item| *item == lost), Some(10));
    assert_eq!(came.len(), 13);
    assert_eq!(follow.vector().position(id(2), id(2)), Some(33));
}

#[test]
fn an_epoch_that_took_anothers_place_goes_on_without_a_word() {
    let wire = server();
    let mut log = log(2);
    log.send_all(&wire);
    let mut follow = follow(wire.clone(), Vector::new());
    assert_eq!(positions(&mut follow).len(), 10);
    log.append_times(3, "new");
    log.send(&wire, id(5), 11, 13);
    fork(&wire, log.row(id(5), Some((id(2), 10)), 13), Some(id(2)));
    let came = all(&mut follow);
    assert!(
        came.iter()
            .all(|item| matches!(item, Followed::Event { .. }))
    );
    assert_eq!(came.len(), 3);
    assert_eq!(follow.vector().position(id(2), id(2)), None);
    assert_eq!(follow.vector().position(id(2), id(5)), Some(13));
}

#[test]
fn a_fork_below_what_was_seen_is_said_once_for_each_vector() {
    let wire = server();
    let mut log = log(2);
    log.send_all(&wire);
    let mut follow_it = follow(wire.clone(), Vector::new());
    assert_eq!(positions(&mut follow_it).len(), 10);
    let seen = follow_it.vector().clone();
    // Put back from a backup that ended at 7, it has others at 8 and on.
    log.commits.truncate(5);
    log.end = log.commits[4].end();
    log.writer = 1;
    log.append_times(4, "b");
    log.send(&wire, id(5), 8, 11);
    fork(&wire, log.row(id(5), Some((id(2), 7)), 11), Some(id(2)));
    let forked = Followed::Forked {
        origin: id(2),
        old: id(2),
        new: id(5),
        at: 7,
    };
    for follower in [&mut follow_it, &mut follow(wire.clone(), seen)] {
        let came = all(follower);
        assert_eq!(came[0], forked);
        let events = came[1..].iter().filter_map(|item| match item {
            Followed::Event { envelope, .. } => Some(envelope.clone()),
            _ => None,
        });
        let events: Vec<_> = events.into_iter().collect();
        assert_eq!(events, log.envelopes()[7..]);
        assert_eq!(follower.vector().position(id(2), id(5)), Some(11));
        let mut again = follow(wire.clone(), follower.vector().clone());
        assert_eq!(all(&mut again), []);
    }
}

#[test]
fn both_lives_of_a_clone_come_and_what_they_share_comes_once() {
    let wire = server();
    let mut log = log(2);
    let mut clone = log.clone();
    clone.writer = 1;
    log.append_times(3, "a");
    log.send_all(&wire);
    clone.append_times(5, "a");
    clone.send(&wire, id(5), 11, 15);
    fork(&wire, clone.row(id(5), Some((id(2), 10)), 15), None);
    let mut follow = follow(wire, Vector::new());
    let came = all(&mut follow);
    let events = came.iter().map(|item| match item {
        Followed::Event { envelope, .. } => envelope.event_id,
        other => panic!("{other:?}"),
    });
    let mut events: Vec<_> = events.collect();
    events.sort();
    let mut wanted: Vec<_> = log.envelopes().iter().map(|e| e.event_id).collect();
    wanted.extend(clone.envelopes()[10..].iter().map(|e| e.event_id));
    wanted.sort();
    assert_eq!(events, wanted);
}

#[test]
fn where_a_clone_sent_other_rows_the_watermarks_history_is_followed_from_anywhere() {
    for seen in [0, 10, 11, 12, 13] {
        let wire = server();
        let mut log = log(2);
        let mut clone = log.clone();
        clone.writer = 1;
        clone.append_times(9, "a");
        clone.send(&wire, id(2), 11, 20);
        log.append_times(5, "a");
        log.send_all(&wire);
        let mut vector = Vector::new();
        vector.set(id(2), id(2), seen);
        let mut follow = follow(wire, vector);
        let events: Vec<_> = all(&mut follow)
            .into_iter()
            .map(|item| match item {
                Followed::Event { envelope, .. } => envelope,
                other => panic!("{other:?}"),
            })
            .collect();
        let seen = usize::try_from(seen).unwrap();
        assert_eq!(events, log.envelopes()[seen..], "from {seen}");
    }
}

#[test]
fn what_is_parked_is_left_out_also_after_it_was_resolved() {
    let wire = server();
    let mut log = log(2);
    log.send(&wire, id(2), 1, 10);
    register(&wire, log.row(id(2), None, 7));
    let row = parked(&log, "b", 6, 3);
    ask(&wire, Request::Park(Box::new(row.clone())));
    let mut early = follow(wire.clone(), Vector::new());
    assert_eq!(positions(&mut early), of(2, 1..=5));
    assert_eq!(early.vector().position(id(2), id(2)), Some(7));
    // Resolved at 11; what comes behind is seen.
    log.control("Resolved", Vec::new()).append(&["b", "a"]);
    log.send(&wire, id(2), 11, 13);
    let (key, until_position) = (row.key, 11);
    ask(
        &wire,
        Request::Unpark {
            key,
            until_position,
        },
    );
    advance(&wire, &log, id(2), 13);
    assert_eq!(positions(&mut early), of(2, 12..=13));
    let mut late = follow(wire, Vector::new());
    assert_eq!(positions(&mut late), of(2, (1..=5).chain(12..=13)));
}

fn park(wire: &FakeWire, row: &ParkedRow) {
    assert_eq!(
        ask(wire, Request::Park(Box::new(row.clone()))),
        Reply::Applied(true)
    );
}

fn unpark(wire: &FakeWire, row: &ParkedRow, until_position: u64) {
    let key = row.key.clone();
    let request = Request::Unpark {
        key,
        until_position,
    };
    assert_eq!(ask(wire, request), Reply::Applied(true));
}

/// The vector as it comes back from where it was saved.
fn saved(follow: &Follow) -> Vector {
    let bytes = postcard::to_stdvec(follow.vector()).unwrap();
    postcard::from_bytes(&bytes).unwrap()
}

/// What comes of a follower that is begun anew, with the vector, after every `every` items.
fn in_pieces(wire: &FakeWire, vector: &mut Vector, every: usize) -> Vec<(u8, u64)> {
    let mut came = Vec::new();
    loop {
        let mut follow = follow(wire.clone(), vector.clone());
        let mut taken = 0;
        while taken < every
            && let Some(item) = pollster::block_on(follow.next_ready()).unwrap()
        {
            taken += 1;
            if let Followed::Event {
                origin, envelope, ..
            } = item
            {
                came.push((origin.as_bytes()[0], envelope.position.unwrap()));
            }
        }
        *vector = saved(&follow);
        if taken < every {
            return came;
        }
    }
}

/// Streams left out, as a vector has them.
fn left_out(vector: &Vector) -> Vec<(String, u64)> {
    let left_out = vector.left_out();
    left_out
        .map(|(_, _, stream, first)| (stream.to_string(), first))
        .collect()
}

#[test]
fn what_was_parked_and_is_accepted_as_it_is_comes_once_and_before_what_is_newer() {
    for every in 1..12 {
        let wire = server();
        let mut log = log(2);
        log.append(&["a", "b"]).append(&["b", "a", "b"]);
        log.send(&wire, id(2), 1, 15);
        register(&wire, log.row(id(2), None, 12));
        let row = parked(&log, "b", 6, 3);
        park(&wire, &row);
        let mut vector = Vector::new();
        let came = in_pieces(&wire, &mut vector, every);
        assert_eq!(came, of(2, (1..=5).chain([11])));
        assert_eq!(left_out(&vector), [("Till/b".to_owned(), 6)]);
        let text = vector.to_string();
        assert!(text.ends_with("up to 12 without Till/b from 6"), "{text}");
        assert_eq!(
            in_pieces(&wire, &mut vector, every),
            [],
            "it is parked still"
        );
        // Something newer is settled by the time that it is noticed.
        advance(&wire, &log, id(2), 15);
        unpark(&wire, &row, 6);
        let came = in_pieces(&wire, &mut vector, every);
        assert_eq!(
            came,
            of(2, (6..=10).chain([12, 13, 14, 15])),
            "every {every}"
        );
        assert_eq!(left_out(&vector), []);
        assert_eq!(in_pieces(&wire, &mut vector, every), []);
    }
}

#[test]
fn what_is_accepted_later_comes_though_nothing_newer_is_in_the_log() {
    let wire = server();
    let log = log(2);
    log.send_all(&wire);
    let row = parked(&log, "b", 6, 3);
    park(&wire, &row);
    let mut follow = follow(wire.clone(), Vector::new());
    assert_eq!(positions(&mut follow), of(2, 1..=5));
    unpark(&wire, &row, 6);
    assert_eq!(positions(&mut follow), of(2, 6..=10));
    assert_eq!(left_out(follow.vector()), []);
    assert_eq!(positions(&mut follow), []);
}

#[test]
fn where_a_part_is_accepted_and_the_rest_parked_again_each_comes_when_it_is() {
    for every in 1..8 {
        let wire = server();
        let log = log(2);
        log.send_all(&wire);
        let (first, second) = (parked(&log, "b", 5, 2), parked(&log, "b", 8, 5));
        park(&wire, &first);
        let mut vector = Vector::new();
        let before = in_pieces(&wire, &mut vector, every);
        assert_eq!(before, of(2, 1..=4));
        park(&wire, &second);
        unpark(&wire, &first, 5);
        assert_eq!(in_pieces(&wire, &mut vector, every), of(2, 5..=7));
        assert_eq!(left_out(&vector), [("Till/b".to_owned(), 8)]);
        unpark(&wire, &second, 8);
        assert_eq!(in_pieces(&wire, &mut vector, every), of(2, 8..=10));
        assert_eq!(left_out(&vector), []);
    }
}

#[test]
fn what_gave_way_never_comes_and_is_not_kept_in_mind() {
    for every in 1..8 {
        let wire = server();
        let mut log = log(2);
        log.send_all(&wire);
        let (b, a) = (parked(&log, "b", 6, 3), parked(&log, "a", 2, 2));
        park(&wire, &b);
        park(&wire, &a);
        let mut vector = Vector::new();
        let before = in_pieces(&wire, &mut vector, every);
        assert_eq!(before, of(2, [1, 3, 4, 5]));
        assert_eq!(left_out(&vector).len(), 2);
        log.control("Resolved", Vec::new()).append(&["b"]);
        log.send(&wire, id(2), 11, 12);
        unpark(&wire, &b, 11);
        assert_eq!(in_pieces(&wire, &mut vector, every), []);
        assert_eq!(left_out(&vector), [("Till/a".to_owned(), 2)]);
        advance(&wire, &log, id(2), 12);
        assert_eq!(in_pieces(&wire, &mut vector, every), of(2, [12]));
        unpark(&wire, &a, 2);
        assert_eq!(in_pieces(&wire, &mut vector, every), of(2, [2]));
        assert_eq!(left_out(&vector), []);
    }
}

#[test]
fn what_was_left_out_of_an_epoch_comes_with_the_one_that_took_its_place() {
    for every in 1..8 {
        let wire = server();
        let mut log = log(2);
        log.send_all(&wire);
        let row = parked(&log, "b", 6, 3);
        park(&wire, &row);
        let mut vector = Vector::new();
        assert_eq!(in_pieces(&wire, &mut vector, every), of(2, 1..=5));
        // Another one goes on from 8: what was parked there is parked under it.
        log.commits.truncate(6);
        log.end = log.commits[5].end();
        log.writer = 1;
        log.append(&["c", "b"]);
        log.send(&wire, id(5), 9, 10);
        let mut again = row.clone();
        again.key.epoch = id(5);
        park(&wire, &again);
        fork(&wire, log.row(id(5), Some((id(2), 8)), 10), Some(id(2)));
        assert_eq!(in_pieces(&wire, &mut vector, every), of(2, [9]));
        assert_eq!(left_out(&vector), [("Till/b".to_owned(), 6)]);
        unpark(&wire, &again, 6);
        assert_eq!(in_pieces(&wire, &mut vector, every), of(2, [6, 7, 8, 10]));
        assert_eq!(left_out(&vector), []);
        assert_eq!(vector.position(id(2), id(2)), None);
    }
}

#[test]
fn a_call_that_is_dropped_while_it_makes_up_loses_and_repeats_nothing() {
    for executed in [false, true] {
        for at in 0..40 {
            let wire = server();
            let log = log(2);
            log.send_all(&wire);
            let row = parked(&log, "b", 6, 3);
            park(&wire, &row);
            let mut vector = Vector::new();
            assert_eq!(in_pieces(&wire, &mut vector, 99), of(2, 1..=5));
            unpark(&wire, &row, 6);
            let mut follow = follow(Silenced::new(wire, at, executed), vector);
            let (mut came, mut level) = (Vec::new(), 0);
            while level < 3 {
                match now_or_never(follow.next_ready()) {
                    Some(Ok(Some(Followed::Event { envelope, .. }))) => {
                        came.push(envelope.position.unwrap());
                    }
                    Some(Ok(None)) => level += 1,
                    None => {}
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(came, [6, 7, 8, 9, 10], "dropped at request {at}");
        }
    }
}

/// A store that goes on in a new epoch lists again what it holds; what else is listed under the old one
/// is of a copy that lives on.
#[test]
fn what_an_old_epoch_has_parked_is_hidden_where_the_new_one_lists_it_too() {
    for is_listed in [false, true] {
        let wire = server();
        let mut log = log(2);
        log.send_all(&wire);
        let row = parked(&log, "b", 9, 6);
        ask(&wire, Request::Park(Box::new(row.clone())));
        if is_listed {
            let mut again = row;
            again.key.epoch = id(5);
            ask(&wire, Request::Park(Box::new(again)));
        }
        log.append_times(3, "b");
        log.send(&wire, id(5), 11, 13);
        fork(&wire, log.row(id(5), Some((id(2), 10)), 13), Some(id(2)));
        let mut follow = follow(wire, Vector::new());
        let last = if is_listed { 8 } else { 13 };
        assert_eq!(positions(&mut follow), of(2, 1..=last));
    }
}

/// What gave way behind the place where an epoch is left did not in the one that takes its place: nobody
/// has seen it, and it comes if it is accepted there.
#[test]
fn a_fork_below_where_events_gave_way_brings_them_if_they_are_accepted_after_all() {
    for (is_saved, is_accepted) in [(false, false), (false, true), (true, false), (true, true)] {
        let wire = server();
        let mut log = log(2);
        let row = parked(&log, "b", 6, 3);
        let mut fork_of_it = log.clone();
        park(&wire, &row);
        log.control("Resolved", Vec::new()).append(&["b"]);
        log.send_all(&wire);
        unpark(&wire, &row, 11);
        let mut follower = follow(wire.clone(), Vector::new());
        assert_eq!(positions(&mut follower), of(2, (1..=5).chain([12])));
        assert_eq!(left_out(follower.vector()), []);
        // Put back from a backup that ended at 9, where nothing is resolved.
        fork_of_it.commits.truncate(7);
        fork_of_it.end = fork_of_it.commits[6].end();
        fork_of_it.writer = 1;
        fork_of_it.append_times(3, "a");
        fork_of_it.send(&wire, id(5), 10, 12);
        let mut again = row.clone();
        again.key.epoch = id(5);
        park(&wire, &again);
        let new = fork_of_it.row(id(5), Some((id(2), 9)), 12);
        fork(&wire, new, Some(id(2)));
        if is_saved {
            follower = follow(wire.clone(), saved(&follower));
        }
        let came = all(&mut follower);
        let is_said = |item: &Followed| matches!(item, Followed::Forked { at: 9, .. });
        assert_eq!(came.iter().position(is_said), Some(0));
        assert_eq!(came.len(), 4);
        assert_eq!(left_out(follower.vector()), [("Till/b".to_owned(), 6)]);
        if is_saved {
            follower = follow(wire.clone(), saved(&follower));
        }
        unpark(&wire, &again, if is_accepted { 6 } else { 12 });
        let wanted = if is_accepted { 6..=9 } else { 0..=0 };
        let wanted = wanted.filter(|at| *at > 0);
        assert_eq!(positions(&mut follower), of(2, wanted));
        assert_eq!(left_out(follower.vector()), []);
    }
}

#[test]
fn superseded_events_are_announced() {
    let wire = server();
    let mut log = log(2);
    log.supersede("b", 2);
    log.append(&["b"]);
    log.send_all(&wire);
    let mut follow = follow(wire, Vector::new());
    let came = all(&mut follow);
    let announced = Followed::Superseded {
        origin: id(2),
        epoch: id(2),
        stream: stream("b"),
        from: 2,
    };
    assert_eq!(came.iter().position(|item| *item == announced), Some(10));
    assert_eq!(came.len(), 12);
}

#[test]
fn a_watermark_that_the_server_lost_repeats_nothing() {
    let wire = server();
    let mut log = log(2);
    log.send_all(&wire);
    let mut follow = follow(wire.clone(), Vector::new());
    assert_eq!(positions(&mut follow).len(), 10);
    wire.with_server(|server| server.truncate(Table::Origins));
    assert_eq!(positions(&mut follow), []);
    register(&wire, log.row(id(2), None, 0));
    assert_eq!(positions(&mut follow), []);
    log.append_times(2, "a");
    log.send(&wire, id(2), 11, 12);
    advance(&wire, &log, id(2), 12);
    assert_eq!(positions(&mut follow), of(2, 11..=12));
}

#[test]
fn a_log_that_is_not_the_watermarks_is_refused() {
    let wire = server();
    let mut log = log(2);
    let mut clone = log.clone();
    clone.writer = 1;
    log.append(&["a"]);
    clone.append(&["a"]);
    clone.send(&wire, id(2), 1, 11);
    register(&wire, log.row(id(2), None, 11));
    let mut follow = follow(wire, Vector::new());
    let mut came = 0;
    let error = loop {
        match pollster::block_on(follow.next_ready()) {
            Ok(Some(_)) => came += 1,
            Ok(None) => panic!("nothing is wrong"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    // The last commit ends at a known place, so it is not believed before it is compared.
    assert_eq!(came, 10);
}

#[test]
fn a_call_that_is_dropped_anywhere_loses_and_repeats_nothing() {
    for executed in [false, true] {
        for at in 0..40 {
            let wire = server();
            let logs = [log(2), log(3)];
            for log in &logs {
                log.send_all(&wire);
            }
            ask(&wire, Request::Park(Box::new(parked(&logs[0], "b", 6, 3))));
            let mut follow = follow(Silenced::new(wire, at, executed), Vector::new());
            let (mut came, mut level) = (Vec::new(), 0);
            while level < 3 {
                // `None` is the call that was dropped.
                match now_or_never(follow.next_ready()) {
                    Some(Ok(Some(item))) => came.push(item),
                    Some(Ok(None)) => level += 1,
                    Some(Err(error)) => panic!("{error}"),
                    None => {}
                }
            }
            assert_eq!(came.len(), 5 + 10, "dropped at request {at}");
        }
    }
}

#[test]
fn a_server_that_does_not_answer_is_asked_again_and_one_that_refuses_is_told() {
    let wire = server();
    log(2).send_all(&wire);
    let mut follow = follow(wire.clone(), Vector::new());
    wire.set_faults(|_| Fault::NotSent);
    assert!(now_or_never(follow.next()).is_none());
    let error = follow.last_error().unwrap();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    wire.set_faults(|_| Fault::Refused);
    let error = pollster::block_on(follow.next()).unwrap_err();
    assert!(matches!(error, Error::ServerRefused { .. }), "{error}");
    wire.set_faults(|_| Fault::None);
    assert_eq!(positions(&mut follow), of(2, 1..=10));
    assert!(follow.last_error().is_none());
}

#[test]
fn pages_of_small_events_are_bounded_and_what_is_too_much_is_asked_for_in_smaller_ones() {
    let rows = |request: &Request| match request {
        Request::Log {
            page,
            records: true,
            ..
        } => Some(page.rows),
        _ => None,
    };
    for fault in [Fault::None, Fault::Refused, Fault::LostReply] {
        let wire = server();
        let mut log = log(2);
        log.append_times(300, "a");
        log.send_all(&wire);
        wire.take_asked();
        let told = fault.clone();
        wire.set_faults(move |request| match rows(request) {
            Some(rows) if rows > 3 => told.clone(),
            _ => Fault::None,
        });
        let mut follow = follow(wire.clone(), Vector::new());
        assert_eq!(positions(&mut follow), of(2, 1..=310), "{fault:?}");
        let most = wire.take_asked().iter().filter_map(rows).max().unwrap();
        // Of 1 MiB each, and some metadata.
        assert!(most < 60, "{most}");
    }
}

#[test]
fn a_vector_is_written_and_read_back() {
    let mut vector = Vector::new();
    vector.set(id(2), id(3), 7);
    vector.set(id(2), id(4), 8);
    let bytes = postcard::to_stdvec(&vector).unwrap();
    assert_eq!(postcard::from_bytes::<Vector>(&bytes).unwrap(), vector);
    assert_eq!(vector.iter().count(), 2);
    assert!(vector.to_string().ends_with("up to 8"), "{vector}");
}

/// Two live epochs of one store: what both have comes first, with one of them.
#[test]
fn a_clone_that_is_level_waits_for_what_it_shares() {
    let wire = server();
    let mut log = log(2);
    log.send(&wire, id(2), 1, 10);
    register(&wire, log.row(id(2), None, 4));
    log.writer = 1;
    log.append_times(2, "new");
    log.send(&wire, id(5), 11, 12);
    fork(&wire, log.row(id(5), Some((id(2), 10)), 12), None);
    let mut follow = follow(wire.clone(), Vector::new());
    assert_eq!(positions(&mut follow), of(2, 1..=12));
    // The one that lives on has it, too.
    advance(&wire, &log, id(2), 10);
    assert_eq!(positions(&mut follow), []);
    assert_eq!(follow.vector().position(id(2), id(2)), Some(10));
    assert_eq!(follow.vector().position(id(2), id(5)), Some(12));
}

/// What is listed as parked may be lost, and resolved meanwhile: the stream itself says what became of it.
#[test]
fn what_was_left_out_comes_where_nothing_is_listed_any_more_and_it_stands() {
    let wire = server();
    let log = log(2);
    log.send_all(&wire);
    ask(&wire, Request::Park(Box::new(parked(&log, "b", 6, 3))));
    let mut follow = follow(wire.clone(), Vector::new());
    assert_eq!(positions(&mut follow), of(2, 1..=5));
    wire.with_server(|server| server.truncate(Table::Parked));
    assert_eq!(positions(&mut follow), [], "nothing of it was accepted");
    let events = log.envelopes();
    accept(&wire, None, &events[5..7]);
    assert_eq!(positions(&mut follow), of(2, 6..=7));
    let left_out: Vec<_> = follow.vector().left_out().collect();
    assert_eq!(
        left_out,
        [(id(2), id(2), &stream("b"), 6)],
        "the rest waits"
    );
}

#[test]
fn copies_that_went_apart_before_bring_the_same_event_each_when_it_is_accepted_there() {
    let wire = server();
    let log = log(2);
    log.send_all(&wire);
    log.send(&wire, id(5), 5, 10);
    fork(&wire, log.row(id(5), Some((id(2), 4)), 10), None);
    let row = parked(&log, "b", 6, 3);
    let mut other = row.clone();
    other.key.epoch = id(5);
    for row in [&row, &other] {
        park(&wire, row);
    }
    let mut follow = follow(wire.clone(), Vector::new());
    assert_eq!(positions(&mut follow), of(2, (1..=5).chain([5])));
    unpark(&wire, &row, 6);
    assert_eq!(positions(&mut follow), of(2, 6..=10));
    unpark(&wire, &other, 6);
    assert_eq!(positions(&mut follow), of(2, 6..=10));
    assert_eq!(left_out(follow.vector()), []);
}

#[test]
fn where_two_copies_took_in_the_same_events_at_the_same_place_each_history_is_whole() {
    let mut log = log(2);
    let mut other = log.clone();
    other.writer = 1;
    for log in [&mut log, &mut other] {
        log.supersede("a", 2);
        log.writer = 2;
        log.append(&["a", "a"]).append(&["a"]);
    }
    // Whichever row comes last.
    for keeper in [&log, &other] {
        let wire = server();
        for log in [&log, &other] {
            log.send(&wire, id(2), 1, 14);
        }
        register(&wire, keeper.row(id(2), None, 14));
        let mut follow = follow(wire, Vector::new());
        assert_eq!(positions(&mut follow), of(2, (1..=10).chain(12..=14)));
    }
}
