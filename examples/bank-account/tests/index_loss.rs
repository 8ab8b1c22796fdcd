//! The sled folder lost, or rolled back to an older copy: it only finds what the log holds, so it
//! is made again; the sums are the same and no sequence is used twice.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use tidelog::{LogQuery, RecordKind, Tidelog};

mod common;
#[path = "../../../backends/tests/tools/folder.rs"]
mod folder;
use common::{EVENTS, assert_clean, assert_totals, data, import_all, ok, row};
use folder::copy_tree;

/// Every stream's sequences are 1, 2, 3 … and every event id stands once.
fn assert_no_sequence_twice(store: &Path) {
    let log = Tidelog::open(store).unwrap().blocking();
    let mut heads: HashMap<String, u64> = HashMap::new();
    let mut ids = std::collections::HashSet::new();
    let mut events = 0;
    for envelope in log.read_all(LogQuery::all()) {
        let envelope = envelope.unwrap();
        if envelope.kind == RecordKind::Control {
            continue;
        }
        let head = heads.entry(envelope.stream.to_string()).or_default();
        assert_eq!(envelope.sequence, *head + 1, "{}", envelope.stream);
        *head += 1;
        assert!(
            ids.insert(envelope.event_id),
            "{} stands twice",
            envelope.event_id
        );
        events += 1;
    }
    assert_eq!(events, EVENTS);
    log.close().unwrap();
}

/// Imports the first half of the real file's lines under its own name.
fn import_half(store: &Path, dir: &Path) {
    let text = fs::read_to_string(data()).unwrap();
    let half: String = text.split_inclusive('\n').take(35_000).collect();
    let file = dir.join("CDNOW_master.txt");
    fs::write(&file, half).unwrap();
    let report = ok(store, &["import", file.to_str().unwrap()]);
    assert_eq!(row(&report, "imported before"), "0");
}

#[test]
fn a_deleted_index_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("bank");
    import_half(&store, dir.path());
    fs::remove_dir_all(store.join("index")).unwrap();
    let report = import_all(&store);
    assert_totals(&report);
    fs::remove_dir_all(store.join("index")).unwrap();
    assert_clean(&store);
    assert_totals(&ok(&store, &["report"]));
    assert_no_sequence_twice(&store);
}

#[test]
fn an_older_copy_of_the_index_is_recognized() {
    let dir = tempfile::tempdir().unwrap();
    let (store, yesterday) = (dir.path().join("bank"), dir.path().join("yesterday"));
    import_half(&store, dir.path());
    copy_tree(&store.join("index"), &yesterday);
    import_all(&store);
    fs::remove_dir_all(store.join("index")).unwrap();
    copy_tree(&yesterday, &store.join("index"));
    assert_clean(&store);
    let report = import_all(&store);
    assert_totals(&report);
    assert_eq!(row(&report, "events recorded"), "0");
    assert_no_sequence_twice(&store);

    // The next event of a stream takes the next sequence.
    ok(&store, &["deposit", "00001", "1.00"]);
    let history = ok(&store, &["history", "00001"]);
    assert_eq!(history.lines().count(), 3);
    assert!(
        history.lines().last().unwrap().contains("     3  "),
        "{history}"
    );
}
