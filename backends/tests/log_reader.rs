//! A log read without the store's lock, beside whoever has it open.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use tidelog_backends::{IndexCopy, LogReader, SledStore, StoreKind, restore_backup};
use tidelog_core::{
    AppendBatch, ContentType, Durability, Error, EventEnvelope, ExpectedVersion, LogQuery,
    NewEvent, StreamId,
};

fn batch(stream: &str, events: u64) -> AppendBatch {
    let event = |n| NewEvent::new("Sold", 1, ContentType::Json, format!(r#"{{"n":{n}}}"#));
    let stream = StreamId::new("Till", stream).unwrap();
    AppendBatch::new(
        stream,
        ExpectedVersion::Any,
        (0..events).map(event).collect(),
    )
}

fn filled(path: &Path, appends: u64) -> SledStore {
    let store = SledStore::builder(path).segment_size(64 << 10);
    let store = store.open().unwrap();
    for n in 0..appends {
        let face = store.blocking();
        face.append(batch(&(n % 7).to_string(), 20)).unwrap();
    }
    store
}

/// Every file below `dir` with its content, its length and when it was written.
fn picture(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(picture(&path));
        } else {
            let written = path.metadata().unwrap().modified().unwrap();
            all.insert(path.clone(), (std::fs::read(&path).unwrap(), written));
        }
    }
    all
}

fn all(reader: &LogReader) -> Result<Vec<EventEnvelope>, Error> {
    reader.read(LogQuery::all()).collect()
}

fn of_store(store: &SledStore) -> Vec<EventEnvelope> {
    let events = store.blocking().read_all(LogQuery::all());
    events.collect::<Result<_, _>>().unwrap()
}

#[test]
fn it_reads_what_the_store_reads_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = filled(&path, 300);
    let wanted = of_store(&store);
    store.close_blocking().unwrap();
    let before = picture(&path);
    let reader = LogReader::open(&path).unwrap();
    assert!(reader.info().unwrap().segments > 3);
    assert_eq!(all(&reader).unwrap(), wanted);
    let some: Vec<_> = reader
        .read(LogQuery::from(4000).to(4010).limit(5))
        .collect::<Result<Vec<_>, _>>()
        .unwrap();
    assert_eq!(some, wanted[3999..4004]);
    let report = reader.verify(None).unwrap();
    assert_eq!((report.records, report.streams), (wanted.len() as u64, 7));
    let index = IndexCopy::open(&path, dir.path().join("scratch")).unwrap();
    assert!(index.damage().is_none());
    assert!(index.check(&reader, None).unwrap().indexed > 1000);
    drop(index);
    let info = reader.info().unwrap();
    assert_eq!((info.kind, info.in_use), (StoreKind::Store, Some(false)));
    assert!(info.closed && info.damage.is_none() && info.pending_commits == 0);
    assert_eq!(picture(&path), before);
}

#[test]
fn the_last_commit_of_a_process_that_was_killed_is_pending_until_something_vouches_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = SledStore::open(&path).unwrap();
    for _ in 0..3 {
        let unsynced = batch("a", 1).with_durability(Durability::Process);
        store.blocking().append(unsynced).unwrap();
    }
    let reader = LogReader::open(&path).unwrap();
    assert_eq!((reader.last_position(), reader.pending_commits()), (0, 3));
    assert_eq!(all(&reader).unwrap(), []);
    store.blocking().append(batch("a", 1)).unwrap();
    store.drain().unwrap();
    let mut reader = reader;
    reader.refresh().unwrap();
    assert_eq!((reader.last_position(), reader.pending_commits()), (4, 0));
    assert_eq!(all(&reader).unwrap(), of_store(&store));
}

#[test]
fn it_follows_a_writer_through_its_segments_and_never_sees_what_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = filled(&path, 1);
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 0..400 {
                let part = batch(&(n % 7).to_string(), 20);
                store.blocking().append(part).unwrap();
            }
            store.drain().unwrap();
            ended.store(true, Ordering::SeqCst);
        });
        let mut reader = LogReader::open(&path).unwrap();
        let mut seen: Vec<EventEnvelope> = Vec::new();
        let mut opened = 0;
        loop {
            let last = ended.load(Ordering::SeqCst);
            reader.refresh().unwrap();
            let next = LogQuery::from(seen.len() as u64 + 1);
            seen.extend(reader.read(next).map(Result::unwrap));
            assert_eq!(seen.len() as u64, reader.last_position());
            // And whoever begins to look now.
            let other = LogReader::open(&path).unwrap();
            assert!(other.last_position() >= reader.last_position());
            assert_eq!(other.info().unwrap().damage, None);
            opened += 1;
            if last {
                break;
            }
        }
        assert!(opened > 3);
        writer.join().unwrap();
        assert_eq!(seen, of_store(&store));
        assert!(reader.info().unwrap().segments > 3);
        assert_eq!(reader.info().unwrap().in_use, Some(true));
    });
}

#[test]
fn a_commit_that_was_synced_and_is_gone_is_damage_behind_what_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = SledStore::open(&path).unwrap();
    for _ in 0..5 {
        store.blocking().append(batch("a", 1)).unwrap();
    }
    let wanted = of_store(&store);
    store.close_blocking().unwrap();
    let segment = path.join("log/00000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    // The last record's payload.
    let at = bytes.windows(7).rposition(|found| found == br#"{"n":0}"#);
    bytes[at.unwrap() + 5] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let reader = LogReader::open(&path).unwrap();
    let mut read = reader.read(LogQuery::all());
    for event in &wanted[..4] {
        assert_eq!(&read.next().unwrap().unwrap(), event);
    }
    let error = read.next().unwrap().unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    assert!(read.next().is_none());
    assert!(reader.verify(None).is_err());
    assert!(reader.info().unwrap().damage.is_some());
    let reader = LogReader::open(&path);
    let mut reader = reader.unwrap();
    let to = dir.path().join("backup");
    assert!(matches!(
        reader.backup(&to, None),
        Err(Error::Damaged { .. })
    ));
}

#[test]
fn a_backup_beside_a_writer_has_what_was_whole_and_is_restored() {
    let dir = tempfile::tempdir().unwrap();
    let (path, to) = (dir.path().join("store"), dir.path().join("backup"));
    let store = filled(&path, 100);
    let mut reader = LogReader::open(&path).unwrap();
    let first = reader.backup(&to, None).unwrap();
    assert_eq!(first.last_position, 2000);
    for n in 0..60 {
        let part = batch(&(n % 7).to_string(), 20);
        store.blocking().append(part).unwrap();
    }
    // The last one is there whatever vouches for it.
    let second = reader.backup(&to, None).unwrap();
    assert_eq!(second.last_position, 3200);
    assert!(second.kept_segments > 0 && second.copied_segments > 0);
    let wanted = of_store(&store);
    let backup = LogReader::open(&to).unwrap();
    assert_eq!(backup.info().unwrap().kind, StoreKind::Backup);
    assert_eq!(all(&backup).unwrap(), wanted);
    let restored = dir.path().join("restored");
    restore_backup(&to, &restored).unwrap();
    let restored = SledStore::open(&restored).unwrap();
    let found = of_store(&restored);
    assert_eq!(found[..wanted.len()], wanted[..]);
    restored.verify().unwrap();
}

#[test]
fn an_index_is_looked_into_only_while_nobody_has_the_store_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = filled(&path, 3);
    let error = IndexCopy::open(&path, dir.path().join("scratch")).unwrap_err();
    let pid = std::process::id().to_string();
    assert!(
        matches!(&error, Error::Locked { holder, .. } if holder.contains(&pid)),
        "{error}"
    );
    drop(store);
}

#[test]
fn what_is_no_store_is_said_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    for path in [dir.path(), &missing] {
        let error = LogReader::open(path).unwrap_err();
        assert!(matches!(error, Error::NotAStore { .. }), "{error}");
    }
    assert!(!missing.exists());
}

#[test]
fn what_gave_way_is_known_beside_the_store() {
    use tidelog_core::{Birth, EventLog, Supersession, Timestamp};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = filled(&path, 20);
    let mut reader = LogReader::open(&path).unwrap();
    for till in ["1", "2", "1"] {
        let stream = StreamId::new("Till", till).unwrap();
        let head = store.blocking().head(&stream).unwrap().unwrap();
        let birth = Birth {
            origin: uuid::Uuid::from_u128(1),
            epoch: uuid::Uuid::from_u128(2),
            position: 3,
            recorded_time: Timestamp::from_micros(4),
        };
        let event = NewEvent::new("Sold", 1, ContentType::Json, "{}").with_birth(birth);
        let what = Supersession::new(stream, head, 5).with_adopted(vec![event]);
        store.blocking().supersede(what).unwrap();
        store.blocking().append(batch(till, 3)).unwrap();
    }
    store.drain().unwrap();
    // By whoever followed it there, and by whoever looks now.
    reader.refresh().unwrap();
    let fresh = LogReader::open(&path).unwrap();
    let wanted = of_store(&store);
    let gone =
        |at: &dyn Fn(&EventEnvelope) -> Option<u64>| -> Vec<_> { wanted.iter().map(at).collect() };
    let by_store = gone(&|event| store.superseded_at(event));
    assert!(by_store.iter().flatten().count() > 50);
    for reader in [reader, fresh] {
        assert_eq!(all(&reader).unwrap(), wanted);
        assert_eq!(gone(&|event| reader.superseded_at(event)), by_store);
        reader.verify(None).unwrap();
    }
}

#[test]
fn another_log_in_the_same_place_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (path, away) = (dir.path().join("store"), dir.path().join("away"));
    let first = filled(&path, 3);
    let mut reader = LogReader::open(&path).unwrap();
    first.backup(dir.path().join("backup")).unwrap();
    first.close_blocking().unwrap();
    reader.refresh().unwrap();
    let refused = |reader: &mut LogReader, why: &str| match reader.refresh() {
        Err(Error::NotAStore { reason, .. }) => assert!(reason.contains(why), "{reason}"),
        other => panic!("{other:?}"),
    };
    std::fs::rename(&path, &away).unwrap();
    refused(&mut reader, "not there any more");
    // Even its own events, put back: who appends there does so to other files.
    restore_backup(dir.path().join("backup"), &path).unwrap();
    refused(&mut reader, "another log");
    std::fs::remove_dir_all(&path).unwrap();
    filled(&path, 2).close_blocking().unwrap();
    refused(&mut reader, "another log");
    std::fs::remove_dir_all(&path).unwrap();
    std::fs::rename(&away, &path).unwrap();
    reader.refresh().unwrap();
    let opened = SledStore::open(&path).unwrap();
    opened.blocking().append(batch("a", 1)).unwrap();
    opened.close_blocking().unwrap();
    reader.refresh().unwrap();
    assert_eq!(
        all(&reader).unwrap(),
        of_store(&SledStore::open(&path).unwrap())
    );
}
