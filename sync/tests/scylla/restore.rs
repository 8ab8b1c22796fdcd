//! A store restored from a real server, stopped on its way and gone on with.

use std::io::{BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidelog::{
    AppendBatch, ContentType, DistributedConfig, Error, EventLog, ExpectedVersion, Halt, LogQuery,
    NewEvent, ReplicationState, RestoreOptions, SledStore, Stage, StreamId, Tidelog,
};

use crate::thin_path::config;
use crate::{plain, services, till};

/// Set for a child: address, keyspace and directory of what it restores.
const ORDER: &str = "TIDELOG_TEST_SCYLLA_RESTORE";
/// Stands before what a child says.
const MARK: &str = "~ ";

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
    let waited = tokio::time::timeout(till::PATIENCE, wait).await;
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

/// Not a test by itself: restores what it is told, and says how far it is.
#[test]
fn child_restores_until_it_is_killed() {
    let Ok(order) = std::env::var(ORDER) else {
        return;
    };
    let mut words = order.splitn(3, ' ');
    let mut word = || words.next().unwrap();
    let (server, keyspace, to) = (word(), word(), word());
    let say = |line: String| {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(format!("{MARK}{line}\n").as_bytes());
        let _ = out.flush();
    };
    let options = RestoreOptions::new().progress(move |progress| {
        say(format!("at {}", progress.done));
        ControlFlow::Continue(())
    });
    let report = tidelog::restore_blocking(config(server, keyspace), options, to).unwrap();
    say(format!("done {}", report.commits));
}

/// A child that restores, killed when the value is dropped.
struct Restoring {
    process: Child,
    lines: Box<dyn Iterator<Item = String>>,
}

impl Restoring {
    fn start(server: &str, keyspace: &str, to: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "restore::child_restores_until_it_is_killed"])
            .arg("--nocapture")
            .env(ORDER, format!("{server} {keyspace} {}", to.display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let lines = lines.map_while(Result::ok).filter_map(|line| {
            let (_, line) = line.split_once(MARK)?;
            Some(line.to_owned())
        });
        let lines = Box::new(lines);
        Self { process, lines }
    }

    /// Position that it has got to next; `None` when it has ended.
    fn next_position(&mut self) -> Option<u64> {
        let line = self.lines.next()?;
        line.strip_prefix("at ").map(|at| at.parse().unwrap())
    }
}

impl Drop for Restoring {
    fn drop(&mut self) {
        // SIGKILL.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_killed_five_times_goes_on_where_it_was() {
    let Some(server) = services::scylla() else {
        return;
    };
    let keyspace = plain::keyspace("restore_killed");
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    let original = open(&old, &server, &keyspace);
    // Some 130 MB: it tells of itself every 16 MiB.
    fill(&original, 160, 120_000).await;
    let last = original.last_position();
    original.wait_for(last, Stage::Replicated).await.unwrap();
    original.close().await.unwrap();
    let mut reached = Vec::new();
    for kill in 1..=5 {
        let mut restoring = Restoring::start(&server, &keyspace, &new);
        let first = restoring.next_position().unwrap();
        // What was synced before an earlier kill is there.
        assert!(
            reached.last().is_none_or(|reached| first >= *reached),
            "{first} of {reached:?}"
        );
        // Behind one sync more, and then somewhere.
        let further = restoring.next_position().unwrap();
        assert!(
            further > first && further < last,
            "{kill}: {first}, {further}"
        );
        reached.push(further);
        drop(restoring);
        let opened = SledStore::open(&new).map(drop);
        assert!(matches!(opened, Err(Error::NotAStore { .. })), "{opened:?}");
    }
    let rest = tidelog::restore(config(&server, &keyspace), RestoreOptions::new(), &new).await;
    let rest = rest.unwrap();
    assert_eq!(rest.position, last);
    crate::say(&format!(
        "killed at {reached:?} of {last}, {} commits left then",
        rest.commits
    ));
    let (before, restored) = (
        SledStore::open(&old).unwrap(),
        SledStore::open(&new).unwrap(),
    );
    restored.verify().unwrap();
    let all = |store: &SledStore| {
        let read = store.blocking().read_all(LogQuery::all().to(last));
        let events =
            read.map(|event| event.map(|event| (event.event_id, event.stream, event.sequence)));
        events.collect::<Result<Vec<_>, _>>().unwrap()
    };
    assert_eq!(all(&restored), all(&before));
    assert_eq!(
        restored.commit_end(last).unwrap(),
        before.commit_end(last).unwrap()
    );
    let session = plain::session(&server).await;
    plain::drop_keyspace(&session, &keyspace).await;
}
