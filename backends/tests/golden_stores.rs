//! A store of format version 1, made once by `examples/golden_store.rs` and kept: every later build
//! opens it, reads exactly what was written, goes on with it, and writes the same bytes for the same
//! history. With a flag of a later version it is treated as the flag's class says.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test that fails shall stop, and its numbers are small"
)]

#[path = "golden/history.rs"]
mod history;
mod tools;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tidelog_backends::{SledStore, restore_backup};
use tidelog_core::*;
use tools::{differences, read_all, read_stream, segment, segments, tree};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

/// What stands in `records.txt`: epoch and chain hash, then a line for each record.
fn expected() -> (String, Vec<String>) {
    let text = fs::read_to_string(golden().join("records.txt")).unwrap();
    let mut lines = text.lines().map(String::from);
    (lines.next().unwrap(), lines.collect())
}

/// The golden store's log, `format` and `state`, with the zeros that were left out.
fn put_log(dir: &Path) {
    fs::create_dir_all(dir.join("log")).unwrap();
    for name in ["format", "state"] {
        fs::copy(golden().join(name), dir.join(name)).unwrap();
    }
    for number in segments(&golden()) {
        let mut bytes = fs::read(segment(&golden(), number)).unwrap();
        let capacity = u64::from_le_bytes(bytes[168..176].try_into().unwrap());
        let newest = number == segments(&golden()).len() as u64;
        // A sealed segment ends with its last frame, at a multiple of 8.
        let len = if newest {
            capacity as usize
        } else {
            bytes.len().next_multiple_of(8)
        };
        bytes.resize(len, 0);
        fs::write(segment(dir, number), bytes).unwrap();
    }
}

/// The same with its index, in a sled folder made now.
fn put_store(dir: &Path) {
    put_log(dir);
    fs::copy(golden().join("manifest"), dir.join("manifest")).unwrap();
    let pages = fs::read(golden().join("00000001.pages")).unwrap();
    let pages: BTreeMap<Vec<u8>, Vec<u8>> = postcard::from_bytes(&pages).unwrap();
    let index = dir.join("index/00000001");
    fs::create_dir_all(&index).unwrap();
    let db = sled::open(index).unwrap();
    let tree = db.open_tree("index").unwrap();
    for (key, page) in pages {
        tree.insert(key, page).unwrap();
    }
    db.flush().unwrap();
}

fn new_dir() -> (TempDir, PathBuf) {
    let root = TempDir::new().unwrap();
    let dir = root.path().join("store");
    (root, dir)
}

/// Every way to read gives exactly what was written.
fn check(store: &SledStore) {
    let (head, records) = expected();
    let all = read_all(store).unwrap();
    let found: Vec<String> = all.iter().map(history::describe).collect();
    for (found, expected) in found.iter().zip(&records) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), records.len());
    let info = store.info().unwrap();
    let hash = blake3::Hash::from_bytes(info.chain_hash);
    assert_eq!(format!("{} {hash}", info.epoch), head);
    let report = store.verify().unwrap();
    assert_eq!((report.records, report.indexed), (127, 126));
    assert_eq!((report.segments, report.streams), (4, 4));
    let face = store.blocking();
    for stream in all
        .iter()
        .map(|event| &event.stream)
        .filter(|stream| !stream.is_reserved())
    {
        let of: Vec<_> = all
            .iter()
            .filter(|event| event.stream == *stream)
            .cloned()
            .collect();
        assert!(read_stream(store, stream).unwrap() == of, "{stream}");
        let last = of.last().unwrap();
        assert_eq!(face.head(stream).unwrap().unwrap().event_id, last.event_id);
        assert!(face.find_event(stream, of[0].event_id).unwrap().as_ref() == Some(&of[0]));
    }
}

/// Goes on with every stream of the store.
fn go_on(dir: &Path) {
    let store = SledStore::open(dir).unwrap();
    let all = read_all(&store).unwrap();
    let mut heads: BTreeMap<StreamId, u64> = BTreeMap::new();
    for event in all.iter().filter(|event| event.kind == RecordKind::Event) {
        heads.insert(event.stream.clone(), event.sequence);
    }
    for ((stream, head), n) in heads.into_iter().zip(1 << 40..) {
        let batch = AppendBatch::new(
            stream,
            ExpectedVersion::Exact(head),
            vec![tools::event(n, 50)],
        );
        assert_eq!(
            store.blocking().append(batch).unwrap().first_sequence,
            head + 1
        );
    }
    store.close_blocking().unwrap();
    let store = SledStore::open(dir).unwrap();
    assert_eq!(store.verify().unwrap().records, all.len() as u64 + 4);
    assert!(read_all(&store).unwrap()[..all.len()] == all);
}

#[test]
fn the_golden_store_is_opened_and_read_with_its_index() {
    let (_root, dir) = new_dir();
    put_store(&dir);
    let store = SledStore::open(&dir).unwrap();
    assert_eq!(store.info().unwrap().index_rebuilt, None);
    assert_eq!(store.info().unwrap().index_runs, 2);
    assert_eq!(store.info().unwrap().format_version, 1);
    check(&store);
    for (stream, state) in history::snapshots().unwrap() {
        let snapshot = store.blocking().read_snapshot(&stream).unwrap().unwrap();
        assert_eq!(
            (snapshot.revision, snapshot.content_type),
            (3, ContentType::Json)
        );
        assert!(snapshot.state == state);
    }
    drop(store);
    go_on(&dir);
}

#[test]
fn the_golden_log_is_enough() {
    let (_root, dir) = new_dir();
    put_log(&dir);
    let store = SledStore::open(&dir).unwrap();
    check(&store);
    drop(store);
    go_on(&dir);
}

#[test]
fn the_golden_backup_is_restored() {
    let (root, dir) = new_dir();
    // The log has only grown since the backup, so it still holds what was backed up.
    put_log(&dir);
    fs::remove_file(dir.join("state")).unwrap();
    fs::copy(golden().join("backup"), dir.join("backup")).unwrap();
    let restored = root.path().join("restored");
    restore_backup(&dir, &restored).unwrap();
    let store = SledStore::open(&restored).unwrap();
    let all = read_all(&store).unwrap();
    let (epoch, before) = all.split_last().unwrap();
    let found: Vec<String> = before.iter().map(history::describe).collect();
    assert_eq!(found, expected().1[..found.len()]);
    assert_eq!((before.len(), epoch.kind), (80, RecordKind::Control));
}

#[test]
fn the_same_history_makes_the_same_bytes() {
    let root = TempDir::new().unwrap();
    history::make(root.path()).unwrap();
    let made = root.path().join("store");
    let same = |name: &Path| {
        let (ours, golden) = (
            fs::read(made.join(name)).unwrap(),
            fs::read(golden().join(name)).unwrap(),
        );
        let (kept, rest) = ours.split_at(golden.len());
        assert!(kept == golden, "{} has changed", name.display());
        // The mark of the last commit at the end of the newest segment is not kept here.
        let mark = rest.len().saturating_sub(4096);
        let (room, mark) = rest.split_at(mark);
        let is_zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
        assert!(
            is_zero(room) && (is_zero(mark) || mark.starts_with(b"TLF1") && is_zero(&mark[88..])),
            "{} is longer",
            name.display()
        );
    };
    for number in segments(&golden()) {
        same(&segment(Path::new(""), number));
    }
    for name in ["format", "state"] {
        same(Path::new(name));
    }
    // Later builds write the newest id behind the rest of the manifest.
    let [ours, golden_manifest] =
        [made.clone(), golden()].map(|dir| fs::read(dir.join("manifest")).unwrap());
    assert_eq!(ours.len(), golden_manifest.len() + 16);
    assert!(
        ours[16..].starts_with(&golden_manifest[16..]),
        "the manifest has changed"
    );
    let pages = history::pages(&made.join("index/00000001")).unwrap();
    let golden = fs::read(golden().join("00000001.pages")).unwrap();
    assert!(
        postcard::to_stdvec(&pages).unwrap() == golden,
        "the index has changed"
    );
}

/// The classes of flags: where they stand in `format`, and what they are called.
const COMPATIBLE: usize = 4;
const READ_ONLY: (usize, &str) = (8, "read-only compatible");
const INCOMPATIBLE: (usize, &str) = (12, "incompatible");

/// Sets a flag of a later version, and that version.
fn set_flag(dir: &Path, class: usize, flag: u32) {
    let path = dir.join("format");
    let mut bytes = fs::read(&path).unwrap();
    bytes[16..20].copy_from_slice(&2_u32.to_le_bytes());
    bytes[16 + class..20 + class].copy_from_slice(&flag.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[16..]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, bytes).unwrap();
}

#[test]
fn an_unknown_compatible_flag_is_kept_and_ignored() {
    let (_root, dir) = new_dir();
    for flag in [1, 1 << 31] {
        let _ = fs::remove_dir_all(&dir);
        put_log(&dir);
        set_flag(&dir, COMPATIBLE, flag);
        let format = fs::read(dir.join("format")).unwrap();
        go_on(&dir);
        assert_eq!(
            SledStore::open(&dir)
                .unwrap()
                .info()
                .unwrap()
                .compatible_flags,
            flag
        );
        assert!(fs::read(dir.join("format")).unwrap() == format);
    }
}

fn is_unsupported(error: &Error, dir: &Path, named: &str, flag: u32) {
    match error {
        Error::UnsupportedFormat {
            path,
            version,
            class,
            flags,
            ..
        } => {
            assert_eq!((*version, *class, *flags), (2, named, flag));
            assert_eq!(*path, dir.join("format"));
        }
        other => panic!("{other:?}"),
    }
}

/// Everything that would write to the store says that it may not.
fn refuses_writes(store: &SledStore, dir: &Path, flag: u32) {
    let face = store.blocking();
    let all = read_all(store).unwrap();
    let last = all
        .iter()
        .rev()
        .find(|event| event.kind == RecordKind::Event)
        .unwrap();
    let batch = |stream: &StreamId| {
        AppendBatch::new(
            stream.clone(),
            ExpectedVersion::Any,
            vec![tools::event(1 << 40, 50)],
        )
    };
    let snapshot = SnapshotEnvelope {
        stream: last.stream.clone(),
        sequence: last.sequence,
        event_id: last.event_id,
        revision: 9,
        content_type: ContentType::Bytes,
        taken_time: last.recorded_time,
        state: b"state".to_vec().into(),
    };
    let other = tools::stream("other");
    let refused = [
        face.append(batch(&last.stream)).unwrap_err(),
        face.append_streams(vec![batch(&last.stream), batch(&other)])
            .unwrap_err(),
        face.persist_snapshot(snapshot).unwrap_err(),
        store.rebuild_index().unwrap_err(),
        store.backup(dir.with_extension("backup")).unwrap_err(),
    ];
    let checkpoints = face.inner();
    let refused = refused.into_iter().chain([
        checkpoints.claim("mail").map(drop).unwrap_err(),
        pollster::block_on(checkpoints.save("mail", 0, b"state".to_vec().into())).unwrap_err(),
        pollster::block_on(checkpoints.remove("mail")).unwrap_err(),
    ]);
    for error in refused {
        is_unsupported(&error, dir, READ_ONLY.1, flag);
        assert_eq!(error.kind(), ErrorKind::Repair);
        assert!(error.to_string().contains("to write, use"), "{error}");
    }
    assert!(!dir.with_extension("backup").exists());
    assert!(face.read_snapshot(&last.stream).unwrap().is_none());
    assert!(store.info().unwrap().refused.is_some());
    assert!(read_all(store).unwrap() == all);
}

#[test]
fn a_store_with_an_unknown_read_only_flag_is_read_and_not_written() {
    let (_root, dir) = new_dir();
    for (flag, put) in [(1, put_log as fn(&Path)), (1 << 31, put_store)] {
        let _ = fs::remove_dir_all(&dir);
        put(&dir);
        set_flag(&dir, READ_ONLY.0, flag);
        let before = tree(&dir);
        for _ in 0..2 {
            let store = SledStore::open(&dir).unwrap();
            check(&store);
            assert_eq!(store.info().unwrap().read_only_flags, flag);
            refuses_writes(&store, &dir, flag);
            store.drain().unwrap();
            store.close_blocking().unwrap();
        }
        assert_eq!(differences(&before, &tree(&dir)), Vec::<PathBuf>::new());
    }
}

/// Opening such a store neither cuts away what is torn nor writes again what nothing vouches for.
#[test]
fn a_store_to_be_read_alone_keeps_what_a_crash_left() {
    let (_root, dir) = new_dir();
    put_log(&dir);
    fs::remove_file(dir.join("state")).unwrap();
    let newest = segment(&dir, *segments(&dir).last().unwrap());
    let mut bytes = fs::read(&newest).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let torn = end.next_multiple_of(8) + 8;
    bytes[torn..torn + 40].fill(0xA5);
    fs::write(&newest, bytes).unwrap();
    set_flag(&dir, READ_ONLY.0, 2);
    let before = tree(&dir);
    let store = SledStore::open(&dir).unwrap();
    check(&store);
    refuses_writes(&store, &dir, 2);
    drop(store);
    assert_eq!(differences(&before, &tree(&dir)), Vec::<PathBuf>::new());
}

#[test]
fn a_damaged_store_to_be_read_alone_is_refused_all_the_same() {
    let (_root, dir) = new_dir();
    put_log(&dir);
    set_flag(&dir, READ_ONLY.0, 2);
    let path = segment(&dir, 2);
    let mut bytes = fs::read(&path).unwrap();
    bytes[5_000] ^= 1;
    fs::write(&path, bytes).unwrap();
    let before = tree(&dir);
    assert_eq!(
        SledStore::open(&dir).map(drop).unwrap_err().code(),
        "damaged"
    );
    assert_eq!(differences(&before, &tree(&dir)), Vec::<PathBuf>::new());
}

/// What began a new epoch would write to it.
#[test]
fn a_backup_with_an_unknown_read_only_flag_is_not_restored() {
    let (root, dir) = new_dir();
    put_log(&dir);
    fs::remove_file(dir.join("state")).unwrap();
    fs::copy(golden().join("backup"), dir.join("backup")).unwrap();
    set_flag(&dir, READ_ONLY.0, 4);
    let before = tree(&dir);
    let restored = root.path().join("restored");
    let error = restore_backup(&dir, &restored).unwrap_err();
    is_unsupported(&error, &dir, READ_ONLY.1, 4);
    assert!(!restored.exists());
    let store = SledStore::open(&dir).unwrap();
    check(&store);
    drop(store);
    assert_eq!(differences(&before, &tree(&dir)), Vec::<PathBuf>::new());
}

#[test]
fn an_unknown_incompatible_flag_is_refused_and_nothing_changed() {
    let (_root, dir) = new_dir();
    for flag in [8, 1 << 31] {
        let _ = fs::remove_dir_all(&dir);
        put_log(&dir);
        set_flag(&dir, INCOMPATIBLE.0, flag);
        let before = tree(&dir);
        let error = SledStore::open(&dir).map(drop).unwrap_err();
        is_unsupported(&error, &dir, INCOMPATIBLE.1, flag);
        assert!(error.to_string().contains("or newer"), "{error}");
        assert_eq!(differences(&before, &tree(&dir)), Vec::<PathBuf>::new());
    }
}
