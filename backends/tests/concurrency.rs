//! Readers, writers and long operations beside each other: nobody sees less than is there, and
//! nobody waits for ever.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails shall stop"
)]

mod tools;

use std::fs::{self, File};
use std::future::Future;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel, sync_channel};
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use tidelog_backends::{Phase, SledStore, SledStoreBuilder, restore_backup};
use tidelog_core::*;
use tools::{event, read_all, segment, stream};

/// Longer than anything takes that does not hang.
const HANGS: Duration = Duration::from_secs(60);
/// `Phase::Backup` is never cancelled while this stands in for the segment to stop at.
const NEVER: u64 = u64::MAX;

/// Segments and merges as small as they get, so that many are met in a short time.
fn small(dir: &Path) -> SledStoreBuilder {
    SledStore::builder(dir)
        .segment_size(64 << 10)
        .stress_index(64, 2)
        .durability(Durability::Process)
}

fn append_to(store: &SledStore, to: &str, expected: ExpectedVersion, n: u64) -> AppendReceipt {
    let batch = AppendBatch::new(stream(to), expected, vec![event(n, 1_000)]);
    store.blocking().append(batch).unwrap()
}

/// Runs a test that may hang on a thread of its own, which is left behind then.
fn within_reason(test: impl FnOnce() + Send + 'static) {
    let (done, is_done) = channel();
    let running = thread::spawn(move || {
        test();
        let _ = done.send(());
    });
    match is_done.recv_timeout(HANGS) {
        Ok(()) => {}
        Err(RecvTimeoutError::Timeout) => panic!("the store hangs"),
        Err(RecvTimeoutError::Disconnected) => resume_unwind(running.join().unwrap_err()),
    }
}

/// Says that `stop` holds however the thread that has it ends.
struct StopWhenDropped<'a>(&'a AtomicBool);

impl Drop for StopWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn rebuilding_over_a_hole_in_a_sealed_segment_is_damage_and_loses_no_stream() {
    let dir = tempfile::tempdir().unwrap();
    let (image, path) = (dir.path().join("image"), dir.path().join("store"));
    let store = small(&image).open().unwrap();
    for n in 0..150 {
        append_to(&store, &n.to_string(), ExpectedVersion::NoStream, n);
    }
    store.close_blocking().unwrap();
    drop(store);
    let bytes = fs::read(segment(&image, 1)).unwrap();
    let frames: Vec<usize> = (4096..bytes.len())
        .step_by(8)
        .filter(|at| bytes[*at..].starts_with(b"TLF1"))
        .collect();
    for at in [
        frames[0],
        frames[frames.len() / 2],
        frames[frames.len() - 1],
    ] {
        tools::put_back(&image, &path);
        let store = small(&path).open().unwrap();
        let damaged = segment(&path, 1);
        tools::make_writable(&damaged);
        let file = File::options().write(true).open(&damaged).unwrap();
        file.write_all_at(&[0; 88], at as u64).unwrap();
        match store.rebuild_index() {
            Err(Error::Damaged { path: named, .. }) => assert_eq!(named, damaged),
            other => panic!("the frame at {at} is gone, but rebuilding answers {other:?}"),
        }
        for n in 0..150 {
            let head = store.blocking().head(&stream(&n.to_string()));
            assert!(!matches!(head, Ok(None)), "stream {n} is forgotten");
            let retry = AppendBatch::new(
                stream(&n.to_string()),
                ExpectedVersion::NoStream,
                vec![event(1_000 + n, 50)],
            );
            assert!(
                store.blocking().append(retry).is_err(),
                "stream {n} is forked"
            );
        }
    }
}

#[test]
fn verifying_beside_appends_that_seal_fold_and_merge_finds_no_fault() {
    let dir = tempfile::tempdir().unwrap();
    let store = small(dir.path()).open().unwrap();
    let mut beside = 0;
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 0..2_000 {
                append_to(&store, &(n % 5).to_string(), ExpectedVersion::Any, n);
            }
        });
        let mut before = 0;
        while !writer.is_finished() {
            let report = store.verify().unwrap();
            assert!(report.records >= before);
            before = report.records;
            beside += 1;
        }
    });
    let (report, info) = (store.verify().unwrap(), store.info().unwrap());
    eprintln!(
        "{beside} times beside appends into {} segments",
        info.segments
    );
    assert!(info.segments > 20);
    assert_eq!(report.records, info.last_position);
}

#[test]
fn rebuilding_beside_appends_never_makes_a_head_read_low() {
    const OLD: u64 = 200;
    let dir = tempfile::tempdir().unwrap();
    let store = small(dir.path()).open().unwrap();
    for n in 0..OLD {
        append_to(&store, &format!("old-{n}"), ExpectedVersion::NoStream, n);
    }
    store.close_blocking().unwrap();
    // Opened anew, so that no head is remembered: each stream is looked up in the runs.
    let store = small(dir.path()).open().unwrap();
    // Appends wait for a rebuild: back to back they would leave no room for anything beside.
    let (more, appended) = sync_channel(0);
    let rebuilt = thread::scope(|scope| {
        let store = &store;
        let rebuilding = scope.spawn(move || {
            let rebuilt = appended.iter().map(|()| store.rebuild_index().unwrap());
            rebuilt.count()
        });
        let face = store.blocking();
        for n in 0..OLD {
            let old = format!("old-{n}");
            let receipt = append_to(store, &old, ExpectedVersion::Exact(1), OLD + 4 * n);
            assert_eq!(receipt.last_sequence, 2);
            if n % 8 == 0 {
                let _ = more.try_send(());
            }
            let busy = format!("busy-{}", n % 3);
            for more in 0..3 {
                let expected = ExpectedVersion::Exact(n / 3 * 3 + more);
                append_to(store, &busy, expected, OLD + 4 * n + 1 + more);
            }
            for (name, head) in [(old, 2), (busy, n / 3 * 3 + 3)] {
                let found = face.head(&stream(&name)).unwrap().unwrap();
                assert_eq!(found.sequence, head, "{name}");
            }
            let early = format!("old-{}", n / 2);
            let found = face.head(&stream(&early)).unwrap().unwrap();
            assert_eq!(found.sequence, 2, "{early}");
        }
        drop(more);
        rebuilding.join().unwrap()
    });
    let report = store.verify().unwrap();
    eprintln!(
        "{rebuilt} rebuilds beside appends into {} segments",
        report.segments
    );
    assert!(rebuilt > 0);
    assert_eq!((report.records, report.indexed), (5 * OLD, 5 * OLD));
}

fn large_append_among_small_ones(blocking: bool) {
    const WRITERS: u64 = 50;
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::builder(dir.path()).memory_budget(8 << 20);
    let store = store.durability(Durability::Process).open().unwrap();
    let append = move |store: &SledStore, batch| {
        if blocking {
            store.blocking().append(batch)
        } else {
            pollster::block_on(store.append(batch))
        }
    };
    let stop = Arc::new(AtomicBool::new(false));
    let (running, is_running) = channel();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (store, stop, running) = (store.clone(), Arc::clone(&stop), running.clone());
            thread::spawn(move || {
                let to = stream(&writer.to_string());
                let mut n = 0;
                while !stop.load(Ordering::SeqCst) {
                    let events = vec![event(writer << 32 | n, 40 << 10)];
                    let batch = AppendBatch::new(to.clone(), ExpectedVersion::Exact(n), events);
                    append(&store, batch).unwrap();
                    n += 1;
                    if n == 1 {
                        running.send(()).unwrap();
                    }
                }
                n
            })
        })
        .collect();
    (0..WRITERS).for_each(|_| is_running.recv().unwrap());
    // More than all that may wait at once: it needs the queue for itself.
    let events = (0..4).map(|n| event(n, 768 << 10)).collect();
    let large = AppendBatch::new(stream("large"), ExpectedVersion::NoStream, events);
    let receipt = append(&store, large).unwrap();
    stop.store(true, Ordering::SeqCst);
    assert_eq!(receipt.last_sequence, 4);
    let small: u64 = writers
        .into_iter()
        .map(|writer| writer.join().unwrap())
        .sum();
    assert_eq!(store.last_position(), small + 4);
}

#[test]
fn a_large_append_does_not_starve_among_small_ones() {
    within_reason(|| large_append_among_small_ones(false));
}

#[test]
fn a_large_append_does_not_starve_among_small_ones_of_blocking_callers() {
    within_reason(|| large_append_among_small_ones(true));
}

#[test]
fn a_large_append_that_waits_for_room_is_not_passed_by_a_later_one_that_fits() {
    within_reason(|| {
        let dir = tempfile::tempdir().unwrap();
        let store = SledStore::builder(dir.path()).memory_budget(8 << 20);
        let store = store.open().unwrap();
        for round in 0..5 {
            let batch = |to: &str, events: u64, bytes| {
                let ids = round * 100..round * 100 + events;
                let events = ids.map(|n| event(n, bytes)).collect();
                AppendBatch::new(stream(to), ExpectedVersion::Any, events)
            };
            let mut first = Box::pin(store.append(batch("first", 1, 1 << 20)));
            let mut large = Box::pin(store.append(batch("large", 4, 768 << 10)));
            let mut later = Box::pin(store.append(batch("later", 1, 100)));
            let mut cx = Context::from_waker(Waker::noop());
            // Each takes its place in the line when it is polled.
            assert!(first.as_mut().poll(&mut cx).is_pending());
            assert!(large.as_mut().poll(&mut cx).is_pending());
            assert!(later.as_mut().poll(&mut cx).is_pending());
            let later = thread::scope(|scope| {
                let later = scope.spawn(|| pollster::block_on(later));
                pollster::block_on(first).unwrap();
                let large = pollster::block_on(large).unwrap();
                let later = later.join().unwrap().unwrap();
                assert!(large.last_position < later.first_position);
                later
            });
            assert_eq!(later.last_sequence, round + 1);
        }
    });
}

#[test]
fn the_newest_event_read_is_never_below_a_head_seen_before() {
    let dir = tempfile::tempdir().unwrap();
    let store = small(dir.path()).open().unwrap();
    let window = store.limits().retry_window() as u64;
    let (watched, stop) = (stream("watched"), AtomicBool::new(false));
    append_to(&store, "watched", ExpectedVersion::NoStream, 0);
    let look = |newest: &dyn Fn() -> EventEnvelope| {
        let face = store.blocking();
        let mut before = 0;
        for _ in 0..1_500 {
            let head = face.head(&watched).unwrap().unwrap();
            assert!(head.sequence >= before);
            assert_eq!(head.event_id, tools::id(head.sequence - 1));
            let read = newest();
            assert!(
                read.sequence >= head.sequence,
                "{} < {}",
                read.sequence,
                head.sequence
            );
            assert!(store.last_position() >= read.position.unwrap());
            match face.find_event(&watched, read.event_id).unwrap() {
                Some(found) => assert!(found == read),
                None => {
                    let head = face.head(&watched).unwrap().unwrap();
                    assert!(
                        head.sequence >= read.sequence + window,
                        "it is in the window"
                    );
                }
            }
            before = read.sequence;
        }
    };
    let query = || StreamQuery::new(watched.clone()).backward().limit(1);
    let blocking = || store.blocking().read_stream(query()).next();
    let waiting = || pollster::block_on(store.read_stream(query()).next());
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 1;
            while !stop.load(Ordering::SeqCst) {
                append_to(&store, "watched", ExpectedVersion::Exact(n), n);
                n += 1;
            }
        });
        let _stop = StopWhenDropped(&stop);
        let readers = [
            scope.spawn(|| look(&|| blocking().unwrap().unwrap())),
            scope.spawn(|| look(&|| waiting().unwrap().unwrap())),
        ];
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

/// Checks that a backup restores to exactly the first `records` records of `store`.
fn assert_restores(store: &SledStore, backup: &Path, records: u64, scratch: &Path) {
    restore_backup(backup, scratch).unwrap();
    let copy = small(scratch).open().unwrap();
    copy.verify().unwrap();
    let there = read_all(&copy).unwrap();
    assert_eq!(
        there.len() as u64,
        records + 1,
        "and the record of the epoch"
    );
    let ours = store.blocking().read_all(LogQuery::all().to(records));
    let ours: Vec<_> = ours.collect::<Result<_, _>>().unwrap();
    assert!(there[..ours.len()] == ours);
    copy.crash();
    fs::remove_dir_all(scratch).unwrap();
}

#[test]
fn backups_beside_appends_hold_all_that_was_acknowledged_and_survive_being_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let stop_at = Arc::new(AtomicU64::new(NEVER));
    let asked = Arc::clone(&stop_at);
    let store = small(&dir.path().join("store")).progress(move |progress| {
        let stops =
            progress.phase == Phase::Backup && progress.done >= asked.load(Ordering::SeqCst);
        if stops {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    let store = store.open().unwrap();
    let (to, scratch) = (dir.path().join("backup"), dir.path().join("restored"));
    let (acknowledged, allowed) = (AtomicU64::new(0), AtomicU64::new(0));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0;
            while !stop.load(Ordering::SeqCst) {
                if n == allowed.load(Ordering::SeqCst) {
                    thread::yield_now();
                    continue;
                }
                let receipt = append_to(&store, &(n % 5).to_string(), ExpectedVersion::Any, n);
                acknowledged.store(receipt.last_position.unwrap(), Ordering::SeqCst);
                n += 1;
            }
        });
        let _stop = StopWhenDropped(&stop);
        let mut segments = 0;
        for round in 0..4 {
            // A few segments' worth, of which some come while the backup is made.
            let more = allowed.fetch_add(300, Ordering::SeqCst) + 100;
            while acknowledged.load(Ordering::SeqCst) < more {
                thread::yield_now();
            }
            let before = acknowledged.load(Ordering::SeqCst);
            let report = store.backup(&to).unwrap();
            assert!(report.last_position >= before);
            assert_restores(&store, &to, report.last_position, &scratch);
            // Cancelled before anything, amid what is there, and amid what is new.
            let was =
                std::mem::replace(&mut segments, report.copied_segments + report.kept_segments);
            stop_at.store([0, was, segments, segments - 1][round], Ordering::SeqCst);
            let cancelled = store.backup(&to);
            stop_at.store(NEVER, Ordering::SeqCst);
            let holds = match cancelled {
                Err(Error::Cancelled { .. }) => report.last_position,
                // No segment was begun since the last one.
                Ok(again) => again.last_position,
                Err(other) => panic!("{other:?}"),
            };
            assert_restores(&store, &to, holds, &scratch);
        }
    });
    let report = store.backup(&to).unwrap();
    let info = store.info().unwrap();
    assert_eq!(report.last_position, info.last_position);
    assert_eq!(info.durable_position, info.last_position);
    assert!(report.kept_segments > 0);
    assert_restores(&store, &to, report.last_position, &scratch);
    eprintln!("{} segments", info.segments);
}
