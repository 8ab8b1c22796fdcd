use tidelog_backends::fake::{FakeWire, Fault, Table};
use tidelog_backends::wire::{Chunk, ForkRows, ParkedKey, ParkedRow, Reply, Request};
use tidelog_core::{BoxFuture, EventId, StreamHead, Superseded, Supersession};

use super::super::test_log::{
    CHUNK, Silenced, TestLog, ask, id, now_or_never, rows_of, server, stream,
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

fn log(origin: u8) -> TestLog {
    let mut log = TestLog::new(origin, origin);
    log.append(&["a"]).append(&["a", "b", "c"]);
    log.append_times(6, "b");
    log
}

fn parked(log: &TestLog, name: &str, position: u64, sequence: u64) -> ParkedRow {
    ParkedRow {
        key: ParkedKey {
            origin: log.origin,
            epoch: log.first_epoch,
            stream: stream(name),
            first_position: position,
        },
        first_sequence: sequence,
        until_position: None,
        reason: "diverged".into(),
        local_event: EventId::from_bytes([1; 16]),
        remote: None,
    }
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

#[test]
fn what_an_old_epoch_has_parked_hides_nothing_of_a_new_one() {
    let wire = server();
    let mut log = log(2);
    log.send_all(&wire);
    ask(&wire, Request::Park(Box::new(parked(&log, "b", 9, 6))));
    log.append_times(3, "b");
    log.send(&wire, id(5), 11, 13);
    fork(&wire, log.row(id(5), Some((id(2), 10)), 13), Some(id(2)));
    let mut follow = follow(wire, Vector::new());
    assert_eq!(positions(&mut follow), of(2, (1..=8).chain(11..=13)));
}

#[test]
fn superseded_events_are_announced() {
    let wire = server();
    let mut log = log(2);
    let head = StreamHead {
        sequence: 7,
        event_id: EventId::from_bytes([1; 16]),
    };
    let what = Supersession::new(stream("b"), head, 2);
    let what = Superseded::new(&what, 11);
    log.control("Supersede", what.encode().unwrap());
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
fn a_vector_is_written_and_read_back() {
    let mut vector = Vector::new();
    vector.set(id(2), id(3), 7);
    vector.set(id(2), id(4), 8);
    let bytes = postcard::to_stdvec(&vector).unwrap();
    assert_eq!(postcard::from_bytes::<Vector>(&bytes).unwrap(), vector);
    assert_eq!(vector.iter().count(), 2);
    assert!(vector.to_string().ends_with("up to 8"), "{vector}");
}
