//! What closing, crashing and opening again leave of a store, and what is said of it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails shall stop"
)]

mod tools;

use std::fs::{self, File};
use std::future::Future;
use std::os::unix::fs::FileExt;
use std::panic::resume_unwind;
use std::path::Path;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

use tidelog_backends::{SledStore, restore_backup};
use tidelog_core::*;
use tools::{event, read_all, segment, segments, stream};

/// Longer than anything takes that does not hang.
const HANGS: Duration = Duration::from_secs(60);
const FRAME_HEADER: usize = 88;
/// Bytes at the end of a segment that frames leave free: for the mark, and a frame's header of zeros.
const MARK_ROOM: usize = 4096 + FRAME_HEADER;

fn open(dir: &Path) -> Result<SledStore, Error> {
    SledStore::builder(dir).segment_size(64 << 10).open()
}

fn batch(n: u64, to: &str, durability: Durability) -> AppendBatch {
    AppendBatch::new(stream(to), ExpectedVersion::Any, vec![event(n, 50)])
        .with_durability(durability)
}

fn append(store: &SledStore, n: u64, durability: Durability) -> AppendReceipt {
    store.blocking().append(batch(n, "a", durability)).unwrap()
}

/// Runs a test that may hang on a thread of its own, which is left behind then: what hangs may hang
/// when it is dropped, too.
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

/// Where the frame of `commit` begins in a segment.
fn frame_of(path: &Path, commit: u64) -> Option<usize> {
    let bytes = fs::read(path).unwrap();
    let frames = (4096..bytes.len()).step_by(8);
    let mut found = frames.filter(|at| {
        bytes[*at..].starts_with(b"TLF1") && bytes[at + 16..at + 24] == commit.to_le_bytes()
    });
    found.next()
}

#[test]
fn a_mark_of_an_earlier_close_does_not_vouch_for_a_log_that_went_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    append(&store, 1, Durability::Power);
    store.close_blocking().unwrap();
    let store = open(dir.path()).unwrap();
    for n in 2..=4 {
        append(&store, n, Durability::Power);
    }
    store.crash();
    drop(store);
    let image = tempfile::tempdir().unwrap();
    tools::copy_tree(dir.path(), image.path());
    let path = segment(dir.path(), 1);
    let at = frame_of(&path, 2).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[0; FRAME_HEADER], at as u64).unwrap();
    drop(file);
    for _ in 0..2 {
        match open(dir.path()) {
            Err(Error::Damaged { path: named, .. }) => assert_eq!(named, path),
            other => panic!("commits 2 to 4 were acknowledged, but opening answers {other:?}"),
        }
    }
    tools::put_back(image.path(), dir.path());
    assert_eq!(open(dir.path()).unwrap().last_position(), 4);
}

/// Waits until somebody has begun to close the store.
fn await_closing(store: &SledStore) {
    while store.info().is_ok() {
        thread::yield_now();
    }
}

#[test]
fn whoever_closes_a_store_that_is_being_closed_can_open_it_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..20 {
        let store = open(dir.path()).unwrap();
        append(&store, round, Durability::Process);
        let together = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                together.wait();
                if round % 2 == 0 {
                    store.close_blocking().unwrap();
                } else {
                    pollster::block_on(store.close()).unwrap();
                }
            });
            together.wait();
            await_closing(&store);
            if round % 4 < 2 {
                store.close_blocking().unwrap();
            } else {
                pollster::block_on(store.close()).unwrap();
            }
            let again = open(dir.path()).unwrap();
            assert_eq!(again.last_position(), round + 1);
        });
    }
}

#[test]
fn closing_from_many_threads_closes_once_and_for_all_of_them() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..20 {
        let store = open(dir.path()).unwrap();
        append(&store, round, Durability::Process);
        let together = Barrier::new(4);
        let still_locked = thread::scope(|scope| {
            let closers: Vec<_> = (0..4)
                .map(|_| {
                    let (store, together, dir) = (store.clone(), &together, &dir);
                    scope.spawn(move || {
                        together.wait();
                        store.close_blocking().unwrap();
                        drop(store);
                        // Nobody opens it here: the lock itself says whether it is free.
                        let lock = File::open(dir.path().join("LOCK")).unwrap();
                        lock.try_lock_shared().is_err()
                    })
                })
                .collect();
            let locked = closers.into_iter().map(|closer| closer.join().unwrap());
            locked.filter(|locked| *locked).count()
        });
        assert_eq!(still_locked, 0);
    }
    assert_eq!(open(dir.path()).unwrap().last_position(), 20);
}

#[test]
fn dropping_the_last_handle_beside_a_close_nobody_waits_for_frees_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..20 {
        let store = open(dir.path()).unwrap();
        append(&store, round, Durability::Process);
        {
            let mut closing = std::pin::pin!(store.close());
            let mut cx = Context::from_waker(Waker::noop());
            let _ = closing.as_mut().poll(&mut cx);
        }
        drop(store);
        let again = open(dir.path()).unwrap();
        assert_eq!(again.last_position(), round + 1);
    }
}

/// A task of an executor that drops it as soon as it is woken, and with it all that it owns.
struct DroppedWhenWoken<T> {
    owned: Mutex<Option<T>>,
    dropped: Mutex<Sender<()>>,
}

impl<T: Send + 'static> DroppedWhenWoken<T> {
    fn new() -> (Arc<Self>, Receiver<()>) {
        let (dropped, is_dropped) = channel();
        let task = Self {
            owned: Mutex::new(None),
            dropped: Mutex::new(dropped),
        };
        (Arc::new(task), is_dropped)
    }
}

impl<T: Send + 'static> Wake for DroppedWhenWoken<T> {
    fn wake(self: Arc<Self>) {
        let owned = self.owned.lock().unwrap().take();
        if owned.is_some() {
            drop(owned);
            self.dropped.lock().unwrap().send(()).unwrap();
        }
    }
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Polls `future` once with a waker that drops it. Says whether a wake was what dropped it.
fn drop_when_woken(future: impl Future<Output = ()> + Send + 'static) -> bool {
    let (task, is_dropped) = DroppedWhenWoken::<Task>::new();
    let mut future: Task = Box::pin(future);
    let waker = Waker::from(Arc::clone(&task));
    let polled = {
        // Held meanwhile, so that a wake finds the task whole.
        let mut owned = task.owned.lock().unwrap();
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        *owned = Some(future);
        polled
    };
    if polled.is_ready() {
        drop(task.owned.lock().unwrap().take());
        return false;
    }
    is_dropped.recv().unwrap();
    true
}

#[test]
fn a_waker_may_drop_the_last_handle_when_its_append_is_answered() {
    within_reason(|| {
        let dir = tempfile::tempdir().unwrap();
        let mut by_wake = 0;
        for round in 0..10 {
            let store = open(dir.path()).unwrap();
            by_wake += u32::from(drop_when_woken(async move {
                let _ = store.append(batch(round, "a", Durability::Power)).await;
            }));
            let store = open(dir.path()).unwrap();
            assert_eq!(store.last_position(), round + 1, "it was answered");
            assert_eq!(store.verify().unwrap().records, round + 1);
        }
        assert!(by_wake > 0);
    });
}

#[test]
fn a_waker_may_drop_the_last_handle_when_a_read_is_answered() {
    within_reason(|| {
        let dir = tempfile::tempdir().unwrap();
        append(&open(dir.path()).unwrap(), 1, Durability::Power);
        let mut by_wake = 0;
        for _ in 0..20 {
            let store = open(dir.path()).unwrap();
            by_wake += u32::from(drop_when_woken(async move {
                let _ = store.head(&stream("a")).await;
            }));
        }
        assert!(by_wake > 0);
        assert_eq!(open(dir.path()).unwrap().last_position(), 1);
    });
}

#[test]
fn a_waker_may_drop_an_append_that_waits_for_room() {
    within_reason(|| {
        let dir = tempfile::tempdir().unwrap();
        let store = SledStore::builder(dir.path()).memory_budget(8 << 20);
        let store = store.open().unwrap();
        let wide =
            |n: u64| AppendBatch::new(stream("w"), ExpectedVersion::Any, vec![event(n, 1 << 20)]);
        let mut by_wake = 0;
        for n in 0..5 {
            let mut first = Box::pin(store.append(wide(n * 2)));
            let mut cx = Context::from_waker(Waker::noop());
            let first_done = first.as_mut().poll(&mut cx).is_ready();
            let second = store.clone();
            let dropped = drop_when_woken(async move {
                let _ = second.append(wide(n * 2 + 1)).await;
            });
            by_wake += u32::from(dropped && !first_done);
            pollster::block_on(async {
                store.append(batch(100 + n, "a", Durability::Process)).await
            })
            .unwrap();
        }
        assert!(by_wake > 0);
        store.close_blocking().unwrap();
    });
}

#[test]
fn a_waker_may_drop_the_last_handle_when_a_subscription_has_news() {
    within_reason(|| {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..10 {
            let store = open(dir.path()).unwrap();
            let (waits, is_dropped) = DroppedWhenWoken::<SledStore>::new();
            let waker = Waker::from(Arc::clone(&waits));
            let mut news = store.subscribe(Subscribe::All { after: round });
            let first = {
                let mut next = std::pin::pin!(news.next());
                next.as_mut().poll(&mut Context::from_waker(&waker))
            };
            assert!(first.is_pending());
            {
                // Held meanwhile, so that the wake finds the handle, and it is the last one.
                let mut owned = waits.owned.lock().unwrap();
                let mut append = Box::pin(store.append(batch(round, "a", Durability::Power)));
                let mut cx = Context::from_waker(Waker::noop());
                // Nobody waits for it; it goes on all the same.
                assert!(append.as_mut().poll(&mut cx).is_pending());
                drop(append);
                *owned = Some(store);
            }
            is_dropped.recv().unwrap();
            let store = open(dir.path()).unwrap();
            assert_eq!(store.last_position(), round + 1, "it was visible");
        }
    });
}

#[test]
fn durable_position_follows_what_survives_a_power_cut() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("store")).unwrap();
    let durable = || {
        let info = store.info().unwrap();
        (info.durable_position, info.last_position)
    };
    append(&store, 1, Durability::Process);
    append(&store, 2, Durability::Process);
    assert_eq!(durable(), (0, 2));
    append(&store, 3, Durability::Power);
    assert_eq!(durable(), (3, 3), "a stronger append of something else");
    append(&store, 4, Durability::Process);
    assert_eq!(durable(), (3, 4));
    let again = append(&store, 4, Durability::Power);
    assert_eq!(again.outcome, AppendOutcome::AlreadyAppended);
    assert_eq!(durable(), (4, 4), "a stronger retry of the same");
    append(&store, 5, Durability::Process);
    assert_eq!(durable(), (4, 5));
    store.backup(dir.path().join("backup")).unwrap();
    assert_eq!(durable(), (5, 5), "a backup");
    append(&store, 6, Durability::Process);
    store.close_blocking().unwrap();
    drop(store);
    let store = open(&dir.path().join("store")).unwrap();
    let info = store.info().unwrap();
    assert_eq!((info.durable_position, info.last_position), (6, 6));
}

#[test]
fn a_segment_filled_up_to_its_mark_is_read_before_it_is_cut() {
    let sized = |n: u64, payload: usize| {
        let events = vec![event(n, payload)];
        AppendBatch::new(stream("w"), ExpectedVersion::Any, events)
    };
    for slack in (0..200).step_by(8) {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("store"), dir.path().join("other"));
        let store = open(&path).unwrap();
        store.blocking().append(sized(0, 1000)).unwrap();
        let first = segment(&path, 1);
        let bytes = fs::read(&first).unwrap();
        let before = frame_of(&first, 1).unwrap();
        let body = u32::from_le_bytes(bytes[before + 4..before + 8].try_into().unwrap()) as usize;
        let start = (before + FRAME_HEADER + body).next_multiple_of(8);
        let room = bytes.len() - 4096 - slack - start;
        store
            .blocking()
            .append(sized(1, room - FRAME_HEADER - (body - 1000)))
            .unwrap();
        // As the segment is between the first commit of the next one and its sealing.
        fs::copy(&first, &other).unwrap();
        store.blocking().append(sized(2, 1000)).unwrap();
        store.crash();
        fs::remove_file(&first).unwrap();
        fs::copy(&other, &first).unwrap();
        let store = open(&path).unwrap_or_else(|error| panic!("{slack} bytes left: {error}"));
        assert_eq!(read_all(&store).unwrap().len(), 3, "{slack} bytes left");
        store.verify().unwrap();
    }
}

#[test]
fn a_store_whose_newest_segment_is_exactly_full_goes_on() {
    within_reason(full_segments);
}

fn full_segments() {
    let wide =
        |n: u64| AppendBatch::new(stream("w"), ExpectedVersion::Any, vec![event(n, 100 << 10)]);
    // How many small appends come before, and whether the store is closed or crashes.
    for (before, crash) in [(0, false), (0, true), (3, false), (3, true)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let mut store = open(&path).unwrap();
        for n in 0..before {
            append(&store, n, Durability::Power);
        }
        let mut written = before;
        for round in 0..3 {
            store.blocking().append(wide(100 + round)).unwrap();
            written += 1;
            // The next segment may be there already, empty.
            let mut newest = segments(&path).into_iter().rev();
            let (file, end) = newest
                .find_map(|number| {
                    let file = segment(&path, number);
                    frame_of(&file, written).map(|at| (file, at))
                })
                .unwrap();
            let bytes = fs::read(file).unwrap();
            let body = u32::from_le_bytes(bytes[end + 4..end + 8].try_into().unwrap()) as usize;
            let used = (end + FRAME_HEADER + body).next_multiple_of(8);
            let left = bytes.len() - used - MARK_ROOM;
            assert!(left < 512, "this test wants a full segment, not {left}");

            let (backup, restored) = (format!("backup-{round}"), format!("restored-{round}"));
            let (backup, restored) = (dir.path().join(backup), dir.path().join(restored));
            store.backup(&backup).unwrap();
            restore_backup(&backup, &restored).unwrap();
            let copy = open(&restored).unwrap();
            append(&copy, 1_000, Durability::Power);
            // What was backed up, the record of the new epoch, and this one.
            assert_eq!(copy.verify().unwrap().records, written + 2);
            drop(copy);

            if crash {
                store.crash();
            } else {
                store.close_blocking().unwrap();
            }
            drop(store);
            store = open(&path).unwrap();
            assert_eq!(store.last_position(), written);
            if round == 1 {
                append(&store, 2_000, Durability::Power);
                written += 1;
            }
        }
        let all = read_all(&store).unwrap();
        assert_eq!(all.len() as u64, written);
        assert_eq!(store.verify().unwrap().records, written);
    }
}

#[test]
fn many_commits_that_nothing_vouches_for_are_all_there_after_a_crash() {
    const COMMITS: u64 = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path()).unwrap();
    let face = store.blocking();
    for n in 0..COMMITS {
        let receipt = face
            .append(batch(n, &(n % 50).to_string(), Durability::Process))
            .unwrap();
        assert_eq!(receipt.last_position, Some(n + 1));
    }
    drop(face);
    store.crash();
    drop(store);
    for _ in 0..2 {
        let store = SledStore::open(dir.path()).unwrap();
        let info = store.info().unwrap();
        assert_eq!((info.last_position, info.commits), (COMMITS, COMMITS));
        assert_eq!(info.durable_position, COMMITS, "they are whole now");
        let all = read_all(&store).unwrap();
        assert!(
            all.iter()
                .zip(0..)
                .all(|(event, n)| event.event_id == tools::id(n))
        );
        store.crash();
    }
}

#[test]
fn what_a_snapshot_holds_is_durable_before_the_snapshot_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    append(&store, 1, Durability::Process);
    assert_eq!(store.info().unwrap().durable_position, 0);
    let head = store.blocking().head(&stream("a")).unwrap().unwrap();
    let snapshot = SnapshotEnvelope {
        stream: stream("a"),
        sequence: head.sequence,
        event_id: head.event_id,
        revision: 1,
        content_type: ContentType::Bytes,
        taken_time: Timestamp::from_micros(0),
        state: vec![7].into(),
    };
    store.blocking().persist_snapshot(snapshot).unwrap();
    assert_eq!(store.info().unwrap().durable_position, 1);
}

#[test]
fn an_event_that_answers_a_repeated_command_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    append(&store, 1, Durability::Process);
    assert_eq!(store.info().unwrap().durable_position, 0);
    let id = event(1, 50).event_id;
    assert!(
        store
            .blocking()
            .find_event(&stream("a"), id)
            .unwrap()
            .is_some()
    );
    assert_eq!(store.info().unwrap().durable_position, 1);
}

#[test]
fn a_clock_that_panics_on_the_writer_leaves_no_append_waiting() {
    struct Panics(std::sync::atomic::AtomicBool);
    impl Clock for Panics {
        fn now(&self) -> Timestamp {
            assert!(
                !self.0.load(std::sync::atomic::Ordering::SeqCst),
                "as a test wants it"
            );
            Timestamp::from_micros(1)
        }
    }
    within_reason(|| {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(Panics(false.into()));
        let store = SledStore::builder(dir.path())
            .clock(clock.clone())
            .open()
            .unwrap();
        pollster::block_on(store.append(batch(1, "a", Durability::Power))).unwrap();
        clock.0.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(pollster::block_on(store.append(batch(2, "a", Durability::Power))).is_err());
        clock.0.store(false, std::sync::atomic::Ordering::SeqCst);
        let refused = pollster::block_on(store.append(batch(3, "a", Durability::Power)));
        assert_eq!(refused.unwrap_err().code(), "refused");
        drop(store);
        let store = open(dir.path()).unwrap();
        assert_eq!(read_all(&store).unwrap().len(), 1);
    });
}

#[test]
fn a_backup_that_rotted_is_copied_again() {
    let dir = tempfile::tempdir().unwrap();
    let (path, to) = (dir.path().join("store"), dir.path().join("backup"));
    let store = open(&path).unwrap();
    for n in 0..40 {
        store
            .blocking()
            .append(AppendBatch::new(
                stream("a"),
                ExpectedVersion::Any,
                vec![event(n, 5_000)],
            ))
            .unwrap();
    }
    store.drain().unwrap();
    store.backup(&to).unwrap();
    assert_eq!(store.backup(&to).unwrap().copied_segments, 0);
    let rotten = segment(&to, 1);
    tools::make_writable(&rotten);
    File::options()
        .write(true)
        .open(&rotten)
        .unwrap()
        .write_all_at(b"rot", 5_000)
        .unwrap();
    assert_eq!(store.backup(&to).unwrap().copied_segments, 1);
    restore_backup(&to, dir.path().join("restored")).unwrap();
}
