//! Damaged segments made again from a real server, of an open store and of one that does not open.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use tidelog::{
    AppendBatch, ContentType, DistributedConfig, ExpectedVersion, NewEvent, Stage, StreamId,
    Tidelog,
};

use crate::thin_path::config;
use crate::{plain, services};

/// Writes over the second segment's file at `offset`.
fn damage(store: &Path, offset: u64, len: usize) {
    let file = store.join("log/00000002.seg");
    let mut permissions = fs::metadata(&file).unwrap().permissions();
    #[allow(clippy::permissions_set_readonly_false, reason = "a test's own file")]
    permissions.set_readonly(false);
    fs::set_permissions(&file, permissions).unwrap();
    let file = OpenOptions::new().write(true).open(&file).unwrap();
    file.write_all_at(&vec![0x5a; len], offset).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_segment_comes_back_from_the_server_open_or_closed() {
    let Some(server) = services::scylla() else {
        return;
    };
    let keyspace = plain::keyspace("mend");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events");
    let open = || {
        Tidelog::builder(&path)
            .sparse_segments()
            .distributed(DistributedConfig::new().scylla(config(&server, &keyspace)))
            .open()
    };
    let log = open().unwrap();
    for at in 0..60 {
        let stream: StreamId = format!("T/{}", at % 7).parse().unwrap();
        let event = NewEvent::new("E", 1, ContentType::Bytes, vec![7; 60_000 + at]);
        let batch = AppendBatch::new(stream, ExpectedVersion::Any, vec![event]);
        log.append(batch).await.unwrap();
    }
    let last = log.last_position();
    log.wait_for(last, Stage::Replicated).await.unwrap();
    let whole = log.verify().await.unwrap();
    damage(&path, 100_000, 6);
    let found = log.verify().await.unwrap_err();
    assert!(found.to_string().contains("00000002.seg"), "{found}");
    let report = log.replication().mend(2).await.unwrap();
    assert_eq!(report.segment, 2);
    assert_eq!(log.verify().await.unwrap(), whole);
    log.close().await.unwrap();
    // Its header and all of its front are gone: the store does not open.
    damage(&path, 0, 50_000);
    fs::remove_dir_all(path.join("index")).unwrap();
    let refused = open().map(drop).unwrap_err();
    assert!(refused.to_string().contains("00000002.seg"), "{refused}");
    let again = tidelog::mend(config(&server, &keyspace), &path, 2).await;
    assert_eq!(again.unwrap(), report);
    let log = open().unwrap();
    log.verify().await.unwrap();
    assert_eq!(log.last_position(), last);
    log.close().await.unwrap();
    let session = plain::session(&server).await;
    plain::drop_keyspace(&session, &keyspace).await;
}
