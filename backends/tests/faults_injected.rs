//! Failures of the disk and of sled, by fault points: a failed write or sync makes the store refuse
//! writes until it is reopened; sled may panic, hang or abort in its open and nothing is lost.
//!
//! `cargo test -p tidelog-backends --features failpoints --test faults_injected`

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test that fails shall stop, and its numbers are small"
)]

mod tools;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use fail::FailScenario;
use tidelog_backends::SledStore;
use tidelog_backends::commits::{Commit, LogCopy};
use tidelog_core::*;
use tools::{event, read_all, segment, segments, stream};

fn open(dir: &Path) -> SledStore {
    SledStore::builder(dir)
        .segment_size(64 << 10)
        .index_open_timeout(Duration::from_secs(5))
        .open()
        .unwrap()
}

fn batch(n: u64) -> AppendBatch {
    AppendBatch::new(stream("s"), ExpectedVersion::Any, vec![event(n, 700)])
}

fn fill(store: &SledStore, from: u64, to: u64) {
    for n in from..to {
        store.blocking().append(batch(n)).unwrap();
    }
}

/// After `point` failed once: no more writes, all reads, and everything acknowledged after reopen.
fn refuses_after(point: &str, may_survive: bool) {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store, 0, 200);
    let before = read_all(&store).unwrap();
    fail::cfg(point, "1*return").unwrap();
    match store.blocking().append(batch(200)) {
        Err(Error::Io { action, .. }) => assert!(point.ends_with(action), "{action}"),
        other => panic!("{other:?}"),
    }
    fail::remove(point);
    // The disk would take it again; a failed sync must not be tried twice all the same.
    for durability in [Durability::Power, Durability::Process] {
        match store
            .blocking()
            .append(batch(201).with_durability(durability))
        {
            Err(Error::Refused { cause }) => assert_eq!(cause.code(), "io"),
            other => panic!("{other:?}"),
        }
    }
    // A retry of what stands there is no reason to answer either: it may not be on the disk.
    let retry = store.blocking().append(batch(199));
    assert!(matches!(retry, Err(Error::Refused { .. })), "{retry:?}");
    assert!(read_all(&store).unwrap() == before);
    assert_eq!(store.blocking().last_position(), 200);
    assert!(store.info().unwrap().refused.is_some());
    store.close_blocking().unwrap();
    let store = open(dir.path());
    let after = read_all(&store).unwrap();
    assert!(after[..200] == before[..]);
    assert!(
        after.len() == 200 || (may_survive && after.len() == 201),
        "{}",
        after.len()
    );
    // The failed append may have come through: its retry says so or does it, once.
    let receipt = store.blocking().append(batch(200)).unwrap();
    assert_eq!(receipt.last_sequence, 201);
    fill(&store, 202, 300);
    assert_eq!(store.verify().unwrap().records, 201 + 98);
    scenario.teardown();
}

#[test]
fn a_failed_write_refuses_writes_until_reopened() {
    refuses_after("log_write", false);
}

#[test]
fn a_failed_sync_refuses_writes_until_reopened() {
    refuses_after("log_sync", true);
}

/// A panic on the thread that `point` stands on: appends are refused instead of waiting for it, and
/// closing does not wait either.
fn refuses_after_a_panic_on_a_background_thread(point: &str) {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store, 0, 10);
    fail::cfg(point, "1*panic(in a test)").unwrap();
    let mut acknowledged = 10;
    let refusal = loop {
        match store.blocking().append(batch(acknowledged)) {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 10_000, "nothing was ever refused");
    };
    let told = refusal.to_string();
    assert!(told.contains("panicked: in a test"), "{told}");
    let next = store.blocking().append(batch(acknowledged));
    assert!(matches!(next, Err(Error::Refused { .. })), "{next:?}");
    assert_eq!(read_all(&store).unwrap().len() as u64, acknowledged);
    store.close_blocking().unwrap();
    let store = open(dir.path());
    assert_eq!(store.verify().unwrap().records, acknowledged);
    fill(&store, acknowledged, acknowledged + 200);
    scenario.teardown();
}

#[test]
fn a_panic_on_the_indexers_thread_refuses_writes() {
    refuses_after_a_panic_on_a_background_thread("indexer");
}

#[test]
fn a_panic_on_the_preparers_thread_refuses_writes() {
    refuses_after_a_panic_on_a_background_thread("preparer");
}

#[test]
fn a_panic_inside_sleds_open_costs_a_rebuild_and_no_event() {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store, 0, 330);
    let before = read_all(&store).unwrap();
    store.close_blocking().unwrap();
    fail::cfg("sled_open_hang", "1*panic(in a test)").unwrap();
    let store = open(dir.path());
    let rebuilt = store.info().unwrap().index_rebuilt.unwrap();
    assert!(rebuilt.contains("panicked"), "{rebuilt}");
    assert!(read_all(&store).unwrap() == before);
    assert_eq!(store.verify().unwrap().indexed, 330);
    scenario.teardown();
}

#[test]
fn a_hang_inside_sleds_open_costs_a_rebuild_and_no_event() {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store, 0, 330);
    let before = read_all(&store).unwrap();
    store.close_blocking().unwrap();
    fail::cfg("sled_open_hang", "1*sleep(300000)").unwrap();
    let started = Instant::now();
    let store = open(dir.path());
    assert!(started.elapsed() < Duration::from_secs(200), "it waited");
    assert!(
        store
            .info()
            .unwrap()
            .index_rebuilt
            .unwrap()
            .contains("within")
    );
    assert!(read_all(&store).unwrap() == before);
    assert_eq!(store.verify().unwrap().indexed, 330);
    scenario.teardown();
}

#[test]
fn unused_segments_whose_removal_was_interrupted_leave_no_hole() {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store, 0, 10);
    store.close_blocking().unwrap();
    drop(store);
    let used = segments(dir.path());
    for number in [2, 3, 4] {
        fs::write(segment(dir.path(), number), vec![0; 64 << 10]).unwrap();
    }
    fail::cfg("log_remove", "1*off->1*return").unwrap();
    let interrupted = SledStore::builder(dir.path()).segment_size(64 << 10).open();
    assert!(interrupted.is_err());
    fail::remove("log_remove");
    assert_eq!(segments(dir.path()), [1, 2, 3]);
    let store = open(dir.path());
    assert_eq!((used, segments(dir.path())), (vec![1], vec![1]));
    assert_eq!(read_all(&store).unwrap().len(), 10);
    scenario.teardown();
}

/// What `work` answers; left behind when it hangs.
fn within_reason<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, is_done) = channel();
    thread::spawn(move || done.send(work()));
    // Nothing comes when it hangs or panicked.
    is_done.recv_timeout(Duration::from_secs(60)).unwrap()
}

#[test]
fn verifying_a_store_that_refuses_writes_does_not_wait_for_what_it_cannot_index() {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store, 0, 20);
    // It does not fit, so a segment is begun for it; the one before is full then, and stays in memory.
    fail::cfg("log_write", "1*return").unwrap();
    let large = AppendBatch::new(stream("s"), ExpectedVersion::Any, vec![event(20, 55_000)]);
    assert!(store.blocking().append(large).is_err());
    let info = store.info().unwrap();
    assert!(info.refused.is_some());
    assert_eq!(info.segments, 2);
    let verified = within_reason(move || store.verify().map(|report| (report.records, store)));
    let (records, store) = verified.unwrap();
    assert_eq!(records, 20);
    store.close_blocking().unwrap();
    scenario.teardown();
}

/// Calls of a fault point: each waits there until it is let go.
fn stop_at(point: &str) -> (Receiver<()>, Sender<()>) {
    let (reached, is_reached) = channel();
    let (go_on, goes_on) = channel();
    let goes_on = Mutex::new(goes_on);
    let reached = Mutex::new(reached);
    fail::cfg_callback(point, move || {
        let _ = reached.lock().unwrap().send(());
        // Once nobody stops it any more it does not wait.
        let _ = goes_on.lock().unwrap().recv();
    })
    .unwrap();
    (is_reached, go_on)
}

#[test]
fn an_index_made_anew_amid_a_fold_has_the_segment_that_was_folded() {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (is_folding, go_on) = stop_at("fold_forget");
    fill(&store, 0, 120);
    is_folding.recv().unwrap();
    let rebuilding = {
        let store = store.clone();
        thread::spawn(move || store.rebuild_index())
    };
    // Were it not held off, it would be done long before.
    let held_off = Instant::now();
    while !rebuilding.is_finished() && held_off.elapsed() < Duration::from_secs(2) {
        thread::yield_now();
    }
    drop(go_on);
    rebuilding.join().unwrap().unwrap();
    store.drain().unwrap();
    assert_eq!(store.verify().unwrap().indexed, 120);
    let there = tools::read_stream(&store, &stream("s")).unwrap();
    assert_eq!(there.len(), 120);
    scenario.teardown();
}

#[test]
fn a_merge_that_fails_because_the_index_is_made_anew_refuses_no_write() {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::builder(dir.path())
        .segment_size(64 << 10)
        .stress_index(64, 2)
        .open()
        .unwrap();
    let generation = store.info().unwrap().index_generation;
    let (is_merging, go_on) = stop_at("merge_begun");
    fail::cfg("merge", "1*return").unwrap();
    fill(&store, 0, 250);
    is_merging.recv().unwrap();
    let rebuilding = {
        let store = store.clone();
        thread::spawn(move || store.rebuild_index())
    };
    while store.info().unwrap().index_generation == generation {
        thread::yield_now();
    }
    drop(go_on);
    rebuilding.join().unwrap().unwrap();
    store.drain().unwrap();
    fill(&store, 250, 500);
    store.drain().unwrap();
    assert_eq!(store.info().unwrap().refused, None);
    assert_eq!(store.verify().unwrap().indexed, 500);
    scenario.teardown();
}

/// Builds `crash_child` in the profile `abort`, beside the tests' own build.
fn build_child() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace.join("target"), PathBuf::from)
        .join("abort-child");
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "-p",
            "tidelog-backends",
            "--profile",
            "abort",
        ])
        .args(["--features", "failpoints", "--example", "crash_child"])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(workspace)
        .status()
        .unwrap();
    assert!(built.success());
    target.join("abort/examples/crash_child")
}

fn run(child: &Path, dir: &Path, fault: &[&str]) -> Output {
    Command::new(child).arg(dir).args(fault).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn where_panics_abort_a_hang_or_abort_inside_sleds_open_costs_a_rebuild_and_no_event() {
    let child = build_child();
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store, 0, 330);
    let before = read_all(&store).unwrap();
    store.close_blocking().unwrap();

    let healthy = run(&child, dir.path(), &[]);
    assert_eq!(
        said(&healthy),
        "records 330 rebuilt []\nclosed\n",
        "{healthy:?}"
    );

    let hung = run(&child, dir.path(), &["sled_open_hang", "1*sleep(300000)"]);
    assert!(hung.status.success(), "{hung:?}");
    let text = said(&hung);
    assert!(
        text.starts_with("records 330 rebuilt [") && text.contains("within 5 s"),
        "{text}"
    );

    for (point, action) in [("sled_open_abort", "return"), ("sled_open_hang", "panic")] {
        let aborted = run(&child, dir.path(), &[point, action]);
        assert!(
            !aborted.status.success() && said(&aborted).is_empty(),
            "{aborted:?}"
        );
        let next = run(&child, dir.path(), &[]);
        assert!(next.status.success(), "{next:?}");
        let text = said(&next);
        assert!(
            text.contains("[the stream index") || text.contains("never ended"),
            "{text}"
        );
        assert!(text.starts_with("records 330 "), "{text}");
        let again = run(&child, dir.path(), &[]);
        assert_eq!(
            said(&again),
            "records 330 rebuilt []\nclosed\n",
            "{again:?}"
        );
    }
    assert!(read_all(&open(dir.path())).unwrap() == before);
    scenario.teardown();
}

/// Wherever a commit, an activation or a save ends, what is found afterwards is before or after it.
#[test]
fn rows_and_checkpoints_are_before_or_after_whatever_fails() {
    let scenario = FailScenario::setup();
    let continues = &mut |_| std::ops::ControlFlow::Continue(());
    let at = |position| Checkpoint {
        position,
        ..Checkpoint::beginning(1, 0)
    };
    let row = |value: &str| Change {
        space: Space::Rows,
        key: b"ada".to_vec(),
        value: Some(value.as_bytes().to_vec()),
    };
    for point in [
        "rows_before_apply",
        "rows_after_apply",
        "activate",
        "checkpoint_before_save",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        fill(&store, 0, 4);
        let former = store.create_slot("accounts", &at(0)).unwrap();
        store.commit(&former, &[row("first")], &at(1)).unwrap();
        store.activate("accounts", &former).unwrap();
        let latter = store.create_slot("accounts", &at(0)).unwrap();
        let save = |store: &SledStore, position, state: &'static [u8]| {
            let store = store.blocking();
            let store = store.inner();
            pollster::block_on(store.save("mail", position, bytes::Bytes::from_static(state)))
        };
        save(&store, 1, b"first").unwrap();
        fail::cfg(point, "1*return").unwrap();
        let mut failed = 0;
        failed += u32::from(store.commit(&latter, &[row("second")], &at(2)).is_err());
        failed += u32::from(store.activate("accounts", &latter).is_err());
        failed += u32::from(save(&store, 2, b"second").is_err());
        assert_eq!(failed, 1, "{point} was met");
        fail::remove(point);
        store.flush().unwrap();
        store.crash();

        let store = open(dir.path());
        let found = store.slots("accounts", continues).unwrap();
        let rebuilt = store.info().unwrap().index_rebuilt;
        if rebuilt.is_some_and(|why| why.contains("cannot write sled's files through")) {
            // On such a filesystem a crash costs all rows.
            assert!(found.active.is_none() && found.building.is_none());
            continue;
        }
        let (active, checkpoint) = found.active.unwrap();
        let value = store.get(&active, Space::Rows, b"ada").unwrap();
        let expected: Option<&[u8]> = match point {
            // The slot was activated without the rows that failed to come.
            "rows_before_apply" => None,
            "activate" => Some(b"first"),
            _ => Some(b"second"),
        };
        assert_eq!(value.as_deref(), expected, "after {point}");
        assert_eq!(checkpoint.rows, u64::from(expected.is_some()));
        assert_eq!(found.building.is_some(), point == "activate");
        let blocking = store.blocking();
        let saved = pollster::block_on(blocking.inner().load("mail"))
            .unwrap()
            .unwrap();
        let before = point == "checkpoint_before_save";
        assert_eq!(saved, if before { &b"first"[..] } else { b"second" });
    }
    scenario.teardown();
}

#[test]
fn a_copy_that_is_interrupted_while_it_is_finished_is_finished_by_the_same_call() {
    let scenario = FailScenario::setup();
    let root = tempfile::tempdir().unwrap();
    let store = open(&root.path().join("store"));
    fill(&store, 0, 10);
    let (origin, first) = (store.identity().origin, store.identity().epoch);
    let to = root.path().join("copy");
    let copy = || LogCopy::open(&to, origin, first, &SledStore::builder(&to)).unwrap();
    let mut unfinished = copy();
    for commit in store.commits(0).next(usize::MAX).unwrap() {
        let (number, hash) = (commit.number, commit.hash);
        unfinished.push(number, &commit.body, hash).unwrap();
    }
    fail::cfg("copy_finish", "1*return").unwrap();
    let epoch = uuid::Uuid::from_u128(9);
    let failed = unfinished.finish(epoch).err();
    assert!(matches!(failed, Some(Error::Closed)), "{failed:?}");
    assert!(matches!(SledStore::open(&to), Err(Error::NotAStore { .. })));
    let again = copy();
    assert_eq!((again.epoch(), again.next().number), (epoch, 11));
    let made = again.finish(epoch).unwrap();
    assert_eq!(made.epochs().unwrap().len(), 2);
    assert_eq!(read_all(&made).unwrap()[..10], read_all(&store).unwrap());
    scenario.teardown();
}

#[test]
fn a_segment_that_is_made_again_but_not_put_in_its_place_stands_as_before_and_is_made_anew() {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store, 0, 330);
    store.drain().unwrap();
    let (commits, before) = (
        store.commits(0).next(usize::MAX).unwrap(),
        read_all(&store).unwrap(),
    );
    let path = segment(dir.path(), 2);
    tools::make_writable(&path);
    let mut damaged = fs::read(&path).unwrap();
    damaged[5_000] ^= 1;
    fs::write(&path, &damaged).unwrap();
    assert!(matches!(store.verify(), Err(Error::Damaged { .. })));
    let mend = |store: &SledStore| {
        let mut mend = store.mend(2).unwrap();
        let (from, to) = (mend.next().number, mend.last().number);
        let within = |commit: &&Commit| from < commit.number && commit.number <= to;
        for commit in commits.iter().filter(within) {
            mend.push(commit.number, &commit.body, commit.hash).unwrap();
        }
        mend.finish()
    };
    fail::cfg("mend_rename", "1*return").unwrap();
    let failed = mend(&store).err();
    assert!(matches!(failed, Some(Error::Closed)), "{failed:?}");
    assert_eq!(fs::read(&path).unwrap(), damaged, "as before");
    assert!(matches!(store.verify(), Err(Error::Damaged { .. })));
    // Also with what is left of the first try, in another process.
    store.crash();
    let store = open(dir.path());
    mend(&store).unwrap();
    store.verify().unwrap();
    assert!(read_all(&store).unwrap() == before);
    let log = fs::read_dir(dir.path().join("log")).unwrap();
    let left = log.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().ends_with(".new")
    });
    assert_eq!(left.count(), 0, "nothing is left beside it");
    scenario.teardown();
}
