//! A store restored from a real server, stopped on its way and gone on with.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidelog::{
    AppendBatch, ContentType, DistributedConfig, Error, EventLog, ExpectedVersion, Halt, LogQuery,
    NewEvent, ReplicationState, RestoreOptions, SledStore, Stage, StreamId, Tidelog,
};

use crate::thin_path::config;
use crate::{plain, services};

fn open(dir: &Path, server: &str, keyspace: &str) -> Tidelog {
    Tidelog::builder(dir)
        .sparse_segments()
        .distributed(DistributedConfig::new().scylla(config(server, keyspace)))
        .open()
        .unwrap()
}

async fn fill(log: &Tidelog, rounds: usize, bytes: usize) {
    let event = |at: usize| {
        let payload = "x".repeat(bytes + at % 7);
        NewEvent::new("E", 1, ContentType::Bytes, payload)
    };
    let part = |stream: String, count: usize| {
        let stream: StreamId = stream.parse().unwrap();
        let events = (0..count).map(event).collect();
        AppendBatch::new(stream, ExpectedVersion::Any, events)
    };
    for at in 0..rounds {
        log.append(part(format!("T/{}", at % 11), 1 + at % 9))
            .await
            .unwrap();
        let both = vec![part(format!("A/{}", at % 5), 2), part("B/all".into(), 1)];
        log.append_streams(both).await.unwrap();
    }
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let wait = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), wait).await;
    waited.unwrap_or_else(|_| panic!("{what} does not come"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_comes_back_whole_and_goes_on_while_the_old_one_is_refused() {
    let Some(server) = services::scylla() else {
        return;
    };
    let keyspace = plain::keyspace("restore");
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    let original = open(&old, &server, &keyspace);
    // More than a chunk of positions.
    fill(&original, 250, 200).await;
    let last = original.last_position();
    original.wait_for(last, Stage::Replicated).await.unwrap();
    original.close().await.unwrap();
    let before = SledStore::open(&old).unwrap();
    let epoch = before.identity().epoch;
    let report = tidelog::restore(config(&server, &keyspace), RestoreOptions::new(), &new)
        .await
        .unwrap();
    assert_eq!((report.position, report.from_epoch), (last, epoch));
    assert_eq!(report.left_out, 0);
    let restored = open(&new, &server, &keyspace);
    restored.verify().await.unwrap();
    let all = |store: &SledStore| {
        let read = store.blocking().read_all(LogQuery::all().to(last));
        read.collect::<Result<Vec<_>, _>>().unwrap()
    };
    assert_eq!(all(restored.store()), all(&before));
    for position in 1..=last {
        let wanted = before.commit_end(position).unwrap();
        assert_eq!(restored.store().commit_end(position).unwrap(), wanted);
    }
    // It goes on by itself, in the epoch that the restore began.
    fill(&restored, 3, 10).await;
    let end = restored.last_position();
    restored.wait_for(end, Stage::Replicated).await.unwrap();
    assert_eq!(
        restored.replication().status().state,
        ReplicationState::Live
    );
    assert_eq!(restored.store().identity().epoch, report.epoch);
    before.close_blocking().unwrap();
    let original = open(&old, &server, &keyspace);
    let replication = original.replication();
    until("a halt", || replication.halt().is_some()).await;
    let successor = report.epoch;
    assert_eq!(
        replication.halt(),
        Some(Halt::EpochRetired { epoch, successor })
    );
    // What was restored can be restored again, over both epochs.
    let again = dir.path().join("again");
    let twice = tidelog::restore(config(&server, &keyspace), RestoreOptions::new(), &again).await;
    assert_eq!(twice.unwrap().position, end);
    original.close().await.unwrap();
    restored.close().await.unwrap();
    let session = plain::session(&server).await;
    plain::drop_keyspace(&session, &keyspace).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_stopped_five_times_goes_on_where_it_was() {
    let Some(server) = services::scylla() else {
        return;
    };
    let keyspace = plain::keyspace("stopped");
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    let original = open(&old, &server, &keyspace);
    // Some 50 MB: a few syncs of the copy.
    fill(&original, 60, 120_000).await;
    let last = original.last_position();
    original.wait_for(last, Stage::Replicated).await.unwrap();
    original.close().await.unwrap();
    let reached = Arc::new(AtomicU64::new(0));
    for stop in 1..=5 {
        let (seen, mut calls) = (Arc::clone(&reached), 0);
        let calls = parking_lot::Mutex::new(move || {
            calls += 1;
            calls
        });
        let options = RestoreOptions::new().progress(move |progress| {
            seen.fetch_max(progress.done, Ordering::Relaxed);
            let call: u32 = calls.lock()();
            if call > 1 && progress.done < progress.total && stop % 2 == 0 || call > 2 {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        match tidelog::restore(config(&server, &keyspace), options, &new).await {
            Err(Error::Cancelled { .. }) => {}
            other => {
                other.unwrap();
                break;
            }
        }
        let opened = SledStore::open(&new).map(drop);
        assert!(matches!(opened, Err(Error::NotAStore { .. })), "{opened:?}");
    }
    assert!(reached.load(Ordering::Relaxed) > 0);
    if SledStore::open(&new).is_err() {
        let rest = tidelog::restore(config(&server, &keyspace), RestoreOptions::new(), &new).await;
        let rest = rest.unwrap();
        assert_eq!(rest.position, last);
        assert!(rest.commits < 120, "it began anew: {}", rest.commits);
    }
    let (before, restored) = (
        SledStore::open(&old).unwrap(),
        SledStore::open(&new).unwrap(),
    );
    restored.verify().unwrap();
    assert_eq!(
        restored.commit_end(last).unwrap(),
        before.commit_end(last).unwrap()
    );
    let session = plain::session(&server).await;
    plain::drop_keyspace(&session, &keyspace).await;
}
