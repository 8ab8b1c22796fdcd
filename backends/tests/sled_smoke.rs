//! The shortest path through the embedded store.

use tidelog_backends::{SledStore, restore_backup};
use tidelog_core::*;

fn event(n: u64) -> NewEvent {
    NewEvent::new("Counted", 1, ContentType::Json, n.to_string())
}

#[test]
fn appended_events_are_there_after_reopening_many_small_segments() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let open = || {
        SledStore::builder(&path)
            .segment_size(64 << 10)
            .stress_index(64, 2)
            .open()
            .unwrap()
    };
    let store = open();
    let face = store.blocking();
    for n in 0..3_000_u64 {
        let stream = StreamId::new("Counter", &(n % 7).to_string()).unwrap();
        let batch = AppendBatch::new(stream, ExpectedVersion::Exact(n / 7), vec![event(n)])
            .with_durability(Durability::Process);
        let receipt = face.append(batch).unwrap();
        assert_eq!(receipt.first_position, Some(n + 1));
    }
    let check = |store: &SledStore| {
        let face = store.blocking();
        let all: Vec<_> = face
            .read_all(LogQuery::all())
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(all.len(), 3_000);
        assert!(all.iter().zip(0..).all(|(e, n)| e.event == n.to_string()));
        let three = StreamId::new("Counter", "3").unwrap();
        let events: Vec<_> = face
            .read_stream(StreamQuery::new(three))
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(events.len(), 429);
        assert!(
            events
                .iter()
                .zip(0..)
                .all(|(e, n)| e.event == (n * 7 + 3).to_string())
        );
        store.verify().unwrap()
    };
    let report = check(&store);
    assert_eq!(
        (report.records, report.streams, report.indexed),
        (3_000, 7, 3_000)
    );
    let backup = dir.path().join("backup");
    store.backup(&backup).unwrap();
    store.close_blocking().unwrap();
    let store = open();
    check(&store);
    assert_eq!(store.info().unwrap().index_rebuilt, None);
    store.crash();
    let store = open();
    check(&store);
    drop(store);
    std::fs::remove_dir_all(path.join("index")).unwrap();
    let store = open();
    check(&store);
    drop(store);
    let restored = dir.path().join("restored");
    restore_backup(&backup, &restored).unwrap();
    let store = SledStore::open(&restored).unwrap();
    let last = store
        .blocking()
        .read_all(LogQuery::from(3_001))
        .next()
        .unwrap()
        .unwrap();
    assert_eq!(
        (last.kind, &*last.event_type),
        (RecordKind::Control, "Epoch")
    );
}
