use tidelog_backends::wire::{ParkedKey, ParkedRow, Reply, Request};
use tidelog_core::{ErrorKind, EventId};

use super::super::copy_target::CopyTarget;
use super::super::test_log::{
    CHUNK, Ids, MemoryCopy, Silenced, TestLog, ask, id, now_or_never, rows_of, server, stream,
};
use super::*;
use tidelog_backends::fake::{FakeWire, Fault};
use tidelog_backends::wire::Chunk;

fn restore(
    wire: &impl Wire,
    options: &RestoreOptions,
    copy: &MemoryCopy,
) -> Result<RestoreReport, Error> {
    let open = |_, _, _| Ok(Some(copy.clone()));
    pollster::block_on(restore_to(wire, options, &Ids::default(), open))
}

fn origins(wire: &FakeWire, origin: Uuid) -> Vec<OriginRow> {
    match ask(wire, Request::Origins(origin)) {
        Reply::Origins(rows) => rows,
        other => panic!("{other:?}"),
    }
}

fn register(wire: &FakeWire, row: OriginRow) {
    let applied = ask(wire, Request::Register(Box::new(row)));
    assert_eq!(applied, Reply::Applied(true));
}

/// Twenty-one records, commits of one and of several, over chunk borders.
fn some_log() -> TestLog {
    let mut log = TestLog::new(9, 1);
    log.append(&["a"]).append(&["a", "b", "c"]);
    log.append_times(2, "b");
    log.append(&["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"]);
    log.append_times(4, "c");
    assert_eq!(log.end.position, 21);
    log
}

#[test]
fn what_was_sent_comes_back_bit_for_bit_and_lives_in_an_epoch_of_its_own() {
    let (wire, log) = (server(), some_log());
    log.send_all(&wire);
    let copy = MemoryCopy::new(log.origin, log.first_epoch);
    let report = restore(&wire, &RestoreOptions::new(), &copy).unwrap();
    let state = copy.0.lock();
    assert_eq!(state.commits, log.commits);
    assert_eq!((report.position, report.beyond_watermark), (21, 0));
    assert_eq!(report.from_epoch, id(1));
    assert_eq!(state.epoch, Some(report.epoch));
    let claim = state.claim.clone().unwrap();
    assert_eq!(claim.lineage, [(id(1), 1), (report.epoch, 22)]);
    let rows = origins(&wire, log.origin);
    let new = rows.iter().find(|row| row.epoch == report.epoch).unwrap();
    assert_eq!(new.parent, Some((id(1), 21, log.end.hash)));
    assert_eq!(new.watermark.session, claim.session);
    assert_eq!(end_of(&new.watermark), log.end);
    let old = rows.iter().find(|row| row.epoch == id(1)).unwrap();
    assert_eq!(old.successor, Some(report.epoch));
}

#[test]
fn the_old_epoch_lives_on_where_that_is_wanted() {
    let (wire, log) = (server(), some_log());
    log.send_all(&wire);
    let copy = MemoryCopy::new(log.origin, log.first_epoch);
    restore(&wire, &RestoreOptions::new().keep_old_epoch(), &copy).unwrap();
    let rows = origins(&wire, log.origin);
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row.successor.is_none()));
    // Now there are two to choose from.
    let other = MemoryCopy::new(log.origin, log.first_epoch);
    let open = |_, _, create: bool| Ok(create.then(|| other.clone()));
    let options = RestoreOptions::new();
    let undecided = pollster::block_on(restore_to(&wire, &options, &Ids::default(), open));
    let text = undecided.unwrap_err().to_string();
    assert!(text.contains("more than one is live"), "{text}");
    restore(&wire, &RestoreOptions::new().epoch(id(1)), &other).unwrap();
}

#[test]
fn whole_commits_beyond_the_watermark_are_taken_and_what_is_not_whole_is_not() {
    let (wire, log) = (server(), some_log());
    // Of the commit of positions 7 to 17 one row is missing.
    log.send(&wire, id(1), 1, 11);
    log.send(&wire, id(1), 13, 21);
    register(&wire, log.row(id(1), None, 4));
    let copy = MemoryCopy::new(log.origin, log.first_epoch);
    let report = restore(&wire, &RestoreOptions::new(), &copy).unwrap();
    assert_eq!((report.position, report.beyond_watermark), (6, 2));
    assert_eq!(copy.0.lock().commits, log.commits[..4]);
}

#[test]
fn a_missing_row_below_the_watermark_is_asked_for_more_widely_then_named() {
    let (wire, log) = (server(), some_log());
    log.send_all(&wire);
    let lost = rows_of(&log.commits[3]).remove(0);
    let chunk = Chunk {
        origin: log.origin,
        epoch: id(1),
        number: lost.position / CHUNK,
    };
    wire.with_server(|server| server.lose_log_row(&chunk, lost.position, lost.event_id));
    wire.take_asked();
    let copy = MemoryCopy::new(log.origin, log.first_epoch);
    let error = restore(&wire, &RestoreOptions::new(), &copy).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Repair);
    assert!(error.to_string().contains("from position 6 on"), "{error}");
    let wide = |request: &Request| matches!(request, Request::Log { wide: true, .. });
    assert!(wire.take_asked().iter().any(wide));
    // The store sends it again, and the same call goes on.
    log.send(&wire, id(1), 6, 6);
    let report = restore(&wire, &RestoreOptions::new(), &copy).unwrap();
    assert_eq!(copy.0.lock().commits, log.commits);
    assert_eq!(report.commits, log.commits.len() as u64 - 3);
}

#[test]
fn a_hole_that_a_repair_declared_is_passed_over() {
    let wire = server();
    let mut log = some_log();
    log.append_times(20, "lost").lose(20).append_times(3, "d");
    log.send_all(&wire);
    let copy = MemoryCopy::new(log.origin, log.first_epoch);
    let report = restore(&wire, &RestoreOptions::new(), &copy).unwrap();
    assert_eq!(report.lost, [22..=41]);
    let state = copy.0.lock();
    assert_eq!(state.commits, log.commits);
    assert_eq!(state.end, log.end);
    assert_eq!(state.holes.len(), 1);
}

#[test]
fn another_copys_rows_below_the_watermark_are_left_out() {
    let wire = server();
    let mut log = some_log();
    let mut clone = log.clone();
    clone.writer = 1;
    log.append_times(9, "a");
    // Longer than the one that has the epoch, and whole.
    clone.append(&["a", "b"]).append_times(9, "a");
    clone.send(&wire, id(1), 22, 40);
    log.append(&["z", "z"]).append_times(2, "y");
    log.send_all(&wire);
    let copy = MemoryCopy::new(log.origin, log.first_epoch);
    let report = restore(&wire, &RestoreOptions::new(), &copy).unwrap();
    assert_eq!(copy.0.lock().commits, log.commits);
    assert_eq!(report.undecided, None);
    assert_eq!(report.left_out, 11);
}

#[test]
fn two_histories_beyond_the_watermark_are_both_left_out() {
    let wire = server();
    let mut log = some_log();
    let mut clone = log.clone();
    clone.writer = 1;
    log.append_times(2, "a");
    clone.append_times(2, "a");
    clone.send(&wire, id(1), 22, 40);
    log.send(&wire, id(1), 1, 40);
    register(&wire, log.row(id(1), None, 21));
    let copy = MemoryCopy::new(log.origin, log.first_epoch);
    let report = restore(&wire, &RestoreOptions::new(), &copy).unwrap();
    assert_eq!((report.position, report.undecided), (21, Some(22)));
}

#[test]
fn a_history_that_is_not_the_watermarks_is_refused() {
    let wire = server();
    let mut log = some_log();
    let mut clone = log.clone();
    clone.writer = 1;
    log.append(&["a"]);
    clone.append(&["a"]);
    // Only the rows of the one are there, the watermark is the other's.
    clone.send(&wire, id(1), 1, 22);
    register(&wire, log.row(id(1), None, 22));
    let copy = MemoryCopy::new(log.origin, log.first_epoch);
    let error = restore(&wire, &RestoreOptions::new(), &copy).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    assert_eq!(copy.0.lock().epoch, None);
    assert_eq!(origins(&wire, log.origin).len(), 1);
}

/// A call that did not end has copied more than was settled then; meanwhile the store's disk was put back as
/// it once was, and something else was settled, or an epoch left, at a place that the copy has.
#[test]
fn what_was_restored_of_a_history_that_is_none_any_more_is_refused() {
    for has_left in [false, true] {
        let wire = server();
        let mut log = some_log();
        let mut before = log.clone();
        before.writer = 1;
        log.append(&["a"]);
        before.append(&["a"]).append_times(4, "b");
        before.send(&wire, id(1), 1, 26);
        log.send(&wire, id(1), 22, 22);
        let copy = MemoryCopy::new(log.origin, log.first_epoch);
        for commit in &before.commits {
            copy.clone().push(commit).unwrap();
        }
        copy.clone().sync().unwrap();
        if has_left {
            register(&wire, log.row(id(1), None, 5));
            register(&wire, log.row(id(2), Some((id(1), 22)), 5));
        } else {
            register(&wire, log.row(id(1), None, 22));
        }
        let options = RestoreOptions::new().epoch(id(if has_left { 2 } else { 1 }));
        let error = restore(&wire, &options, &copy).unwrap_err();
        assert!(error.to_string().contains("at position 22"), "{error}");
        assert_eq!(copy.0.lock().claim, None);
        // Begun anew it succeeds.
        let copy = MemoryCopy::new(log.origin, log.first_epoch);
        restore(&wire, &options, &copy).unwrap();
        assert_eq!(copy.0.lock().commits, log.commits);
    }
}

#[test]
fn a_log_over_two_forks_is_read_from_three_epochs() {
    let wire = server();
    let mut log = some_log();
    // What the first epoch got beyond the fork is of another history.
    let mut other = log.clone();
    other.writer = 1;
    other.append_times(7, "a");
    other.send(&wire, id(1), 1, 40);
    register(&wire, other.row(id(1), None, 28));
    log.append_times(6, "b");
    log.send(&wire, id(2), 22, 27);
    register(&wire, log.row(id(2), Some((id(1), 21)), 24));
    log.append_times(6, "c");
    log.send(&wire, id(3), 25, 40);
    register(&wire, log.row(id(3), Some((id(2), 24)), 33));
    let copy = MemoryCopy::new(log.origin, log.first_epoch);
    let options = RestoreOptions::new().epoch(id(3));
    let report = restore(&wire, &options, &copy).unwrap();
    assert_eq!(copy.0.lock().commits, log.commits);
    let lineage = copy.0.lock().claim.clone().unwrap().lineage;
    let wanted = [(id(1), 1), (id(2), 22), (id(3), 25), (report.epoch, 34)];
    assert_eq!(lineage, wanted);
}

#[test]
fn what_is_parked_is_parked_under_the_new_epoch_and_what_was_resolved_is_not() {
    let (wire, log) = (server(), some_log());
    log.send_all(&wire);
    let parked = |name: &str, first_position| ParkedRow {
        key: ParkedKey {
            origin: log.origin,
            epoch: id(1),
            stream: stream(name),
            first_position,
        },
        first_sequence: 2,
        until_position: None,
        reason: "diverged".into(),
        local_event: EventId::from_bytes([1; 16]),
        remote: None,
    };
    for (name, first) in [("a", 2), ("b", 3)] {
        ask(&wire, Request::Park(Box::new(parked(name, first))));
    }
    let key = parked("b", 3).key;
    let until_position = 20;
    ask(
        &wire,
        Request::Unpark {
            key,
            until_position,
        },
    );
    let copy = MemoryCopy::new(log.origin, log.first_epoch);
    let report = restore(&wire, &RestoreOptions::new(), &copy).unwrap();
    assert_eq!(report.parked, 1);
    let (origin, epoch) = (log.origin, report.epoch);
    let Reply::Parked(rows) = ask(&wire, Request::Parked { origin, epoch }) else {
        panic!("not what was asked");
    };
    assert_eq!(rows, copy.0.lock().claim.clone().unwrap().parked);
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].key.stream, stream("a"));
}

#[test]
fn a_restore_that_is_killed_anywhere_goes_on_to_the_same_end() {
    let mut log = some_log();
    log.append_times(20, "lost").lose(20).append_times(3, "d");
    for executed in [false, true] {
        let mut killed = 0;
        for at in 0.. {
            let wire = server();
            log.send_all(&wire);
            let copy = MemoryCopy::new(log.origin, log.first_epoch);
            let open = |_, _, _| Ok(Some(copy.clone()));
            let (options, ids) = (RestoreOptions::new(), Ids::default());
            let silenced = Silenced::new(wire.clone(), at, executed);
            if now_or_never(restore_to(&silenced, &options, &ids, open)).is_some() {
                break;
            }
            killed += 1;
            let epoch_before = copy.0.lock().claim.as_ref().map(|claim| claim.epoch);
            let report = pollster::block_on(restore_to(&wire, &options, &ids, open)).unwrap();
            let state = copy.0.lock();
            assert_eq!(state.commits, log.commits, "killed at request {at}");
            assert_eq!(state.epoch, Some(report.epoch));
            let rows = origins(&wire, log.origin);
            assert_eq!(rows.len(), 2, "killed at request {at}: one epoch more");
            assert!(epoch_before.is_none_or(|before| before == report.epoch));
            assert_eq!(report.from_epoch, id(1));
            assert_eq!(report.position, log.end.position);
        }
        assert!(killed > 10, "{killed} places to be killed at");
    }
}

#[test]
fn an_unclear_fork_is_read_back_and_not_made_twice() {
    for fault in [
        Fault::LostReply,
        Fault::LostRequest,
        Fault::Proposed,
        Fault::Late,
        Fault::Twice,
    ] {
        let (wire, log) = (server(), some_log());
        log.send_all(&wire);
        let mut once = Some(fault.clone());
        wire.set_faults(move |request| match request {
            Request::Fork(_) => once.take().unwrap_or(Fault::None),
            _ => Fault::None,
        });
        let copy = MemoryCopy::new(log.origin, log.first_epoch);
        let report = restore(&wire, &RestoreOptions::new(), &copy).unwrap();
        wire.deliver_late();
        let rows = origins(&wire, log.origin);
        assert_eq!(rows.len(), 2, "{fault:?}");
        assert!(rows.iter().any(|row| row.epoch == report.epoch));
    }
}

#[test]
fn events_that_come_meanwhile_are_fetched_before_the_old_epoch_is_given_up() {
    let wire = server();
    let (mut log, first) = (some_log(), some_log());
    first.send_all(&wire);
    log.append_times(5, "late");
    let (busy, more) = (wire.another(), log.clone());
    let mut once = true;
    wire.set_faults(move |request| {
        if matches!(request, Request::Fork(_)) && std::mem::take(&mut once) {
            more.send(&busy, id(1), 22, 26);
            let advance = Request::Advance {
                origin: more.origin,
                epoch: id(1),
                seen: more.row(id(1), None, 21).watermark,
                to: more.row(id(1), None, 26).watermark,
                published: 0,
            };
            assert_eq!(ask(&busy, advance), Reply::Applied(true));
        }
        Fault::None
    });
    let copy = MemoryCopy::new(log.origin, log.first_epoch);
    let report = restore(&wire, &RestoreOptions::new(), &copy).unwrap();
    assert_eq!(report.position, 26);
    assert_eq!(copy.0.lock().commits, log.commits);
}

#[test]
fn a_store_that_nobody_knows_is_named() {
    let wire = server();
    let copy = MemoryCopy::new(id(9), id(1));
    let error = restore(&wire, &RestoreOptions::new(), &copy).unwrap_err();
    assert!(error.to_string().contains("no store replicates"), "{error}");
    let options = RestoreOptions::new().origin(id(8));
    let error = restore(&wire, &options, &copy).unwrap_err();
    assert!(error.to_string().contains("knows no such store"), "{error}");
    for origin in [9, 10] {
        let mut log = TestLog::new(origin, 1);
        log.append(&["a"]).send_all(&wire);
    }
    let error = restore(&wire, &RestoreOptions::new(), &copy).unwrap_err();
    assert!(error.to_string().contains("one of several"), "{error}");
}

#[test]
fn a_progress_callback_sees_the_end_and_may_stop_it() {
    let (wire, log) = (server(), some_log());
    log.send_all(&wire);
    let copy = MemoryCopy::new(log.origin, log.first_epoch);
    let stop = RestoreOptions::new().progress(|_| ControlFlow::Break(()));
    let error = restore(&wire, &stop, &copy).unwrap_err();
    assert!(matches!(error, Error::Cancelled { .. }), "{error}");
    let seen = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
    let told = seen.clone();
    let watch = RestoreOptions::new().progress(move |progress| {
        told.lock().push((progress.done, progress.total));
        ControlFlow::Continue(())
    });
    restore(&wire, &watch, &copy).unwrap();
    assert_eq!(seen.lock().last(), Some(&(21, 21)));
    assert_eq!(seen.lock().first(), Some(&(0, 21)));
}

/// Waits for nothing.
struct Hasty;

impl tidelog_core::Sleeper for Hasty {
    fn sleep(&self, _: std::time::Duration) -> tidelog_core::BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

#[test]
fn a_page_that_is_never_answered_is_asked_for_in_smaller_ones_before_patience_ends() {
    let rows = |request: &Request| match request {
        Request::Log {
            page,
            records: true,
            ..
        } => Some(page.rows),
        _ => None,
    };
    let (wire, mut log) = (server(), some_log());
    log.append_times(200, "a");
    log.send_all(&wire);
    wire.set_faults(move |request| match rows(request) {
        Some(rows) if rows > 3 => Fault::LostRequest,
        _ => Fault::None,
    });
    let retry = tidelog_core::RetryPolicy::default();
    let patient = crate::scylla::patient::Patient::new(
        wire.clone(),
        retry,
        std::sync::Arc::new(Hasty),
        std::sync::Arc::new(Ids::default()),
    );
    let copy = MemoryCopy::new(log.origin, log.first_epoch);
    let report = restore(&patient, &RestoreOptions::new(), &copy).unwrap();
    assert_eq!(report.position, 221);
    assert_eq!(copy.0.lock().commits, log.commits);
}
