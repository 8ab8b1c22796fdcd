//! Backups are whole whatever goes on meanwhile, copy only what is new, and are never mistaken for
//! the store they were taken from.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test that fails shall stop, and its numbers are small"
)]

mod tools;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tidelog_backends::{SledStore, restore_backup};
use tidelog_core::*;
use tools::{event, read_all, stream};

fn open(dir: &Path) -> SledStore {
    SledStore::builder(dir)
        .segment_size(64 << 10)
        .durability(Durability::Process)
        .open()
        .unwrap()
}

/// Appends the events numbered `from..to`, one a batch, to one of three streams.
fn fill(store: &SledStore, from: u64, to: u64, payload_bytes: usize) {
    let face = store.blocking();
    for n in from..to {
        let events = vec![event(n, payload_bytes)];
        let to = stream(&(n % 3).to_string());
        face.append(AppendBatch::new(to, ExpectedVersion::Any, events))
            .unwrap();
    }
}

/// What a restored store adds to what was backed up: one record that begins a new epoch.
fn assert_continues(store: &SledStore, before: &[EventEnvelope], old_epoch: uuid::Uuid) {
    let all = read_all(store).unwrap();
    assert_eq!(all[..before.len()], *before);
    let [epoch] = &all[before.len()..] else {
        panic!("{} records after the backup's", all.len() - before.len());
    };
    assert_eq!(
        (epoch.kind, &*epoch.event_type),
        (RecordKind::Control, "Epoch")
    );
    let info = store.info().unwrap();
    assert_ne!(info.epoch, old_epoch);
    assert_eq!(store.identity().origin, info.origin);
    assert_eq!(store.identity().epoch, info.epoch);
    assert_eq!(*epoch.event_id.as_uuid(), info.epoch);
    assert_eq!(store.verify().unwrap().records, all.len() as u64);
    fill(store, 1_000_000, 1_000_010, 50);
    assert_eq!(read_all(store).unwrap().len(), all.len() + 10);
}

/// Lets the writers end, also when the test fails.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_backup_taken_while_threads_append_restores_to_a_prefix() {
    const WRITERS: u64 = 3;
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("store"));
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut backups = 0;
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (store, stop, acknowledged) = (&store, &stop, &acknowledged);
            scope.spawn(move || {
                let face = store.blocking();
                for n in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let events = vec![event(writer << 32 | n, 900)];
                    let batch = AppendBatch::new(
                        stream(&writer.to_string()),
                        ExpectedVersion::Exact(n),
                        events,
                    );
                    let receipt = face.append(batch).unwrap();
                    acknowledged.fetch_max(receipt.last_position.unwrap(), Ordering::SeqCst);
                    // A segment a few milliseconds: fast enough to be met half sealed.
                    thread::sleep(Duration::from_millis(1));
                }
            });
        }
        let _stops = Stops(&stop);
        while backups < 6 {
            let before = acknowledged.load(Ordering::SeqCst);
            let to = dir.path().join(format!("backup-{}", backups % 2));
            let report = store.backup(&to).unwrap();
            assert!(report.last_position >= before);
            let restored = dir.path().join(format!("restored-{backups}"));
            restore_backup(&to, &restored).unwrap();
            let copy = SledStore::open(&restored).unwrap();
            let there = read_all(&copy).unwrap();
            assert_eq!(there.len() as u64, report.last_position + 1);
            let ours = store
                .blocking()
                .read_all(LogQuery::all().to(report.last_position));
            let ours: Vec<_> = ours.collect::<Result<_, _>>().unwrap();
            assert!(there[..ours.len()] == ours);
            copy.verify().unwrap();
            copy.close_blocking().unwrap();
            fs::remove_dir_all(restored).unwrap();
            backups += 1;
        }
    });
    let report = store.verify().unwrap();
    eprintln!(
        "{backups} backups while {} events were appended",
        report.records
    );
}

#[test]
fn verifying_while_threads_append_finds_no_fault() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("store"));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 0..2_u64 {
            let (store, stop) = (&store, &stop);
            scope.spawn(move || {
                let mut n = writer << 32;
                while !stop.load(Ordering::Relaxed) {
                    fill(store, n, n + 10, 900);
                    n += 10;
                    thread::sleep(Duration::from_millis(1));
                }
            });
        }
        let _stops = Stops(&stop);
        let verified: Result<Vec<_>, _> = (0..30).map(|_| store.verify()).collect();
        let records: Vec<_> = verified
            .unwrap()
            .iter()
            .map(|report| report.records)
            .collect();
        assert!(records.is_sorted());
    });
}

#[test]
fn a_second_backup_copies_only_what_is_new() {
    let dir = tempfile::tempdir().unwrap();
    let (path, to) = (dir.path().join("store"), dir.path().join("backup"));
    let store = open(&path);
    fill(&store, 0, 400, 900);
    store.drain().unwrap();
    let first = store.backup(&to).unwrap();
    assert_eq!(first.kept_segments, 0);
    let sealed = first.copied_segments - 1;
    assert!(sealed >= 4, "{first:?}");
    fill(&store, 400, 500, 900);
    store.drain().unwrap();
    let second = store.backup(&to).unwrap();
    assert_eq!(second.kept_segments, sealed, "{second:?}");
    let in_all = store.info().unwrap().segments;
    assert_eq!(second.copied_segments, in_all - sealed);
    let (epoch, before) = (store.info().unwrap().epoch, read_all(&store).unwrap());
    let restored = dir.path().join("restored");
    restore_backup(&to, &restored).unwrap();
    assert_continues(&open(&restored), &before, epoch);
    // The store it was taken from goes on as before.
    assert_eq!(store.info().unwrap().epoch, epoch);
    assert!(read_all(&store).unwrap() == before);
}

#[test]
fn a_restored_store_has_a_new_epoch_once_and_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    let (to, restored) = (dir.path().join("backup"), dir.path().join("restored"));
    let store = open(&dir.path().join("store"));
    fill(&store, 0, 50, 100);
    let old = store.info().unwrap();
    store.backup(&to).unwrap();
    restore_backup(&to, &restored).unwrap();
    let first = open(&restored).info().unwrap();
    assert_ne!(first.epoch, old.epoch);
    assert_eq!(first.origin, old.origin);
    let second = open(&restored).info().unwrap();
    assert_eq!(second.epoch, first.epoch);
    assert_eq!(second.last_position, 51);
    let other = dir.path().join("another");
    restore_backup(&to, &other).unwrap();
    assert_ne!(open(&other).info().unwrap().epoch, first.epoch);
}

#[test]
fn the_epoch_record_finds_room_in_a_backup_whose_newest_segment_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("store"));
    // One commit of more than a segment gets a segment that just holds it.
    let wide = event(1, 100 << 10);
    let batch = AppendBatch::new(stream("wide"), ExpectedVersion::Any, vec![wide]);
    store.blocking().append(batch).unwrap();
    let (epoch, before) = (store.info().unwrap().epoch, read_all(&store).unwrap());
    let (to, restored) = (dir.path().join("backup"), dir.path().join("restored"));
    store.backup(&to).unwrap();
    restore_backup(&to, &restored).unwrap();
    assert_continues(&open(&restored), &before, epoch);
}

#[test]
fn a_backup_opened_directly_begins_a_new_epoch_and_is_no_backup_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("backup");
    let store = open(&dir.path().join("store"));
    fill(&store, 0, 100, 900);
    store.backup(&to).unwrap();
    let (epoch, before) = (store.info().unwrap().epoch, read_all(&store).unwrap());
    let opened = open(&to);
    assert_continues(&opened, &before, epoch);
    drop(opened);
    refused(store.backup(&to).map(drop), &to, "something else");
    refused(
        restore_backup(&to, dir.path().join("restored")),
        &to,
        "not a complete backup",
    );
}

#[test]
fn a_damaged_backup_is_not_restored() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("backup");
    let store = open(&dir.path().join("store"));
    fill(&store, 0, 200, 900);
    store.drain().unwrap();
    store.backup(&to).unwrap();
    let image = dir.path().join("image");
    tools::copy_tree(&to, &image);
    let mut cases = 0;
    for file in ["log/00000001.seg", "log/00000002.seg", "backup", "format"] {
        let len = fs::metadata(to.join(file)).unwrap().len() as usize;
        for at in [0, 9, len / 2, len - 1] {
            tools::put_back(&image, &to);
            tools::make_writable(&to.join(file));
            let mut bytes = fs::read(to.join(file)).unwrap();
            bytes[at] ^= 0x10;
            fs::write(to.join(file), bytes).unwrap();
            let restored = dir.path().join(format!("restored-{cases}"));
            match restore_backup(&to, &restored) {
                Err(Error::Damaged { path, .. }) => assert_eq!(path, to.join(file)),
                other => panic!("{file} changed at {at}: {other:?}"),
            }
            assert!(!restored.exists() || SledStore::open(&restored).is_err());
            cases += 1;
        }
    }
    for missing in ["log/00000002.seg", "backup", "format"] {
        tools::put_back(&image, &to);
        fs::remove_file(to.join(missing)).unwrap();
        let restored = dir.path().join(format!("without-{cases}"));
        assert!(restore_backup(&to, &restored).is_err(), "without {missing}");
        cases += 1;
    }
    eprintln!("{cases} damaged backups refused");
}

#[test]
fn backups_do_not_mix_and_restores_do_not_overwrite() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (open(&dir.path().join("a")), open(&dir.path().join("b")));
    fill(&a, 0, 5, 100);
    let to = dir.path().join("backup");
    a.backup(&to).unwrap();
    let before = tools::tree(&to);
    refused(b.backup(&to).map(drop), &to, "another store");
    let b_dir = dir.path().join("b");
    refused(a.backup(&b_dir).map(drop), &b_dir, "something else");
    refused(restore_backup(&to, &b_dir), &b_dir, "something already");
    refused(
        restore_backup(&b_dir, dir.path().join("c")),
        &b_dir,
        "not a complete backup",
    );
    let foreign = dir.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("letter.txt"), "dear").unwrap();
    refused(a.backup(&foreign).map(drop), &foreign, "something else");
    assert_eq!(
        tools::differences(&before, &tools::tree(&to)),
        Vec::<std::path::PathBuf>::new()
    );
}

#[track_caller]
fn refused(done: Result<(), Error>, at: &Path, why: &str) {
    match done {
        Err(Error::NotAStore { path, reason }) => {
            assert_eq!(path, at);
            assert!(reason.contains(why), "{reason}");
        }
        other => panic!("expected a refusal because of {why}, got {other:?}"),
    }
}
