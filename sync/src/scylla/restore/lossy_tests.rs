//! A store that a repair has lost something of, restored: it refuses and takes what the original does.

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use tidelog_backends::commits::Commit;
use tidelog_backends::fake::FakeWire;
use tidelog_backends::{SledStore, SledStoreBuilder, repair};
use tidelog_core::{
    AppendBatch, ContentType, EventLog, EventStore, ExpectedVersion, NewEvent, StreamId,
};

use super::super::test_log::{Ids, TestLog, server, stream};
use super::sled_copy::SledCopy;
use super::*;

const STREAMS: u64 = 5;

fn builder(dir: &Path) -> SledStoreBuilder {
    SledStore::builder(dir).segment_size(64 << 10)
}

fn batch(to: &StreamId) -> AppendBatch {
    let event = NewEvent::new("E", 1, ContentType::Bytes, vec![7; 700]);
    AppendBatch::new(to.clone(), ExpectedVersion::Any, vec![event])
}

fn append(store: &SledStore, count: u64) {
    for n in 0..count {
        let to = stream(&(n % STREAMS).to_string());
        store.blocking().append(batch(&to)).unwrap();
    }
}

/// What is damaged.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// A segment in the middle.
    Middle,
    /// The same, and nobody knows what stood there.
    MiddleAndIndex,
    /// The newest segment.
    Newest,
}

/// A store of which a repair has lost something, and its commits before that.
fn repaired(root: &Path, damage: Damage) -> (SledStore, Vec<Commit>) {
    let (dir, to) = (root.join("before"), root.join("repaired"));
    let store = builder(&dir).open().unwrap();
    append(&store, 300);
    let before = commits(&store);
    store.close_blocking().unwrap();
    let mut segments: Vec<_> = fs::read_dir(dir.join("log")).unwrap().collect();
    segments.sort_by_key(|entry| entry.as_ref().unwrap().file_name());
    let at = match damage {
        Damage::Newest => segments.len() - 1,
        _ => 1,
    };
    assert!(segments.len() > 3, "{}", segments.len());
    let path = segments[at].as_ref().unwrap().path();
    let mut bytes = fs::read(&path).unwrap();
    bytes[10_000] ^= 1;
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    if matches!(damage, Damage::MiddleAndIndex) {
        fs::remove_dir_all(dir.join("index")).unwrap();
    }
    repair(&dir, &to).unwrap();
    let store = builder(&to).open().unwrap();
    assert_ne!(store.losses().unwrap().ranges, []);
    (store, before)
}

fn commits(store: &SledStore) -> Vec<Commit> {
    store.commits(0).next(usize::MAX).unwrap()
}

/// The server, with all of the store's log, and `more` of what it had.
fn replicated(store: &SledStore, more: Vec<Commit>) -> FakeWire {
    let mut log = TestLog::new(1, 1);
    log.origin = store.identity().origin;
    log.first_epoch = store.epochs().unwrap()[0].id;
    let wire = server();
    log.commits = more;
    log.send(&wire, log.first_epoch, 1, u64::MAX);
    log.commits = commits(store);
    log.end = log.commits.last().unwrap().end();
    log.send_all(&wire);
    wire
}

fn restored(wire: &FakeWire, dir: &Path) -> (RestoreReport, SledStore) {
    let open = |origin, first, create| SledCopy::open(dir, origin, first, create);
    let options = RestoreOptions::new();
    let report = pollster::block_on(restore_to(wire, &options, &Ids::default(), open)).unwrap();
    (report, SledStore::open(dir).unwrap())
}

/// What becomes of an append to each stream, and to a new one.
fn appended(store: &SledStore) -> Vec<Result<(u64, u64), String>> {
    let streams = (0..STREAMS).map(|n| stream(&n.to_string()));
    let streams = streams.chain([stream("new")]);
    let each = streams.map(|to| {
        let receipt = store.blocking().append(batch(&to));
        let receipt = receipt.map_err(|error| error.to_string())?;
        Ok((receipt.first_sequence, receipt.last_sequence))
    });
    each.collect()
}

fn both(damage: Damage, before: impl Fn(&SledStore)) -> (TempDir, SledStore, SledStore) {
    let dir = tempfile::tempdir().unwrap();
    let (original, _) = repaired(dir.path(), damage);
    before(&original);
    let wire = replicated(&original, Vec::new());
    let (report, restored) = restored(&wire, &dir.path().join("restored"));
    let losses = original.losses().unwrap();
    let lost: Vec<_> = losses.ranges.iter().map(|r| r.positions.clone()).collect();
    assert_eq!(report.lost, lost, "{damage:?}");
    assert_eq!(restored.losses().unwrap(), losses, "{damage:?}");
    restored.verify().unwrap();
    (dir, original, restored)
}

#[test]
fn a_restored_store_refuses_what_the_repaired_one_refuses_and_goes_on_where_that_does() {
    for damage in [Damage::Middle, Damage::MiddleAndIndex, Damage::Newest] {
        let (_dir, original, restored) = both(damage, |_| {});
        let there = appended(&original);
        assert!(there.iter().any(Result::is_err), "{damage:?}");
        assert_eq!(appended(&restored), there, "{damage:?}");
        // One is accepted; where it cannot be named, neither takes that.
        let lossy = original.losses().unwrap().streams;
        for stream in lossy.iter().map(|lost| &lost.stream).take(1) {
            let accepted = |store: &SledStore| {
                let accepted = store.accept_loss(stream);
                accepted.map_err(|error| error.to_string())
            };
            assert_eq!(accepted(&restored), accepted(&original), "{damage:?}");
        }
        assert_eq!(appended(&restored), appended(&original), "{damage:?}");
        original.accept_all_losses().unwrap();
        restored.accept_all_losses().unwrap();
        let there = appended(&original);
        assert!(there.iter().all(Result::is_ok), "{damage:?}: {there:?}");
        assert_eq!(appended(&restored), there, "{damage:?}");
        restored.verify().unwrap();
    }
}

#[test]
fn what_was_accepted_before_is_accepted_in_the_restored_store() {
    for damage in [Damage::Middle, Damage::MiddleAndIndex, Damage::Newest] {
        let (_dir, original, restored) = both(damage, |store| {
            if let [first, ..] = &store.losses().unwrap().streams[..] {
                let _ = store.accept_loss(&first.stream);
            }
        });
        assert_eq!(appended(&restored), appended(&original), "{damage:?}");
        let (_dir, original, restored) = both(damage, |store| {
            store.accept_all_losses().unwrap();
            append(store, 7);
        });
        let there = appended(&original);
        assert!(there.iter().all(Result::is_ok), "{damage:?}: {there:?}");
        assert_eq!(appended(&restored), there, "{damage:?}");
        let heads = |store: &SledStore| {
            let streams = (0..STREAMS).map(|n| stream(&n.to_string()));
            let heads = streams.map(|s| pollster::block_on(store.head(&s)).unwrap());
            heads
                .map(|head| head.map(|h| h.sequence))
                .collect::<Vec<_>>()
        };
        assert_eq!(heads(&restored), heads(&original), "{damage:?}");
        // In the restored one they are read over, too.
        let read = |store: &SledStore| {
            let all = store.blocking().read_all(tidelog_core::LogQuery::all());
            let events = all.collect::<Result<Vec<_>, _>>().unwrap();
            let events = events.into_iter().filter(|event| event.sequence > 0);
            let ids = events.map(|event| (event.stream, event.sequence));
            ids.collect::<Vec<_>>()
        };
        assert_eq!(read(&restored), read(&original), "{damage:?}");
    }
}

#[test]
fn where_the_server_has_what_was_lost_the_restored_store_has_it_and_refuses_the_same() {
    for damage in [Damage::Middle, Damage::MiddleAndIndex, Damage::Newest] {
        let dir = tempfile::tempdir().unwrap();
        let (original, before) = repaired(dir.path(), damage);
        let wire = replicated(&original, before.clone());
        let (_, restored) = restored(&wire, &dir.path().join("restored"));
        assert_eq!(commits(&restored)[..before.len()], before, "{damage:?}");
        assert_eq!(restored.losses().unwrap(), original.losses().unwrap());
        restored.verify().unwrap();
        let there = appended(&original);
        assert!(there.iter().any(Result::is_err), "{damage:?}");
        assert_eq!(appended(&restored), there, "{damage:?}");
        original.accept_all_losses().unwrap();
        restored.accept_all_losses().unwrap();
        assert_eq!(appended(&restored), appended(&original), "{damage:?}");
        restored.verify().unwrap();
    }
}
