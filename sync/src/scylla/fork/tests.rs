//! Forks of real stores, at the server in memory.

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use futures_util::future::join;
use tidelog_backends::commits::Commit;
use tidelog_backends::fake::{FakeServer, FakeWire, Fault};
use tidelog_backends::wire::{Chunk, Reply, Request, Wire};
use tidelog_backends::{SledStore, restore_backup};
use tidelog_core::{EventLog, Halt, ManualClock};

use super::super::restore::RestoreOptions;
use super::super::test_log::{Ids, MemoryCopy};
use super::super::tests::{append, meta, replicator};
use super::*;
use crate::folder::copy_tree;
use crate::replicate::mailbox::Message;
use crate::scylla::sink::SinkMessage;
use crate::scylla::status::{ReplicationState, ReplicationStatus};

/// Wakes the thread that polls.
struct Polling(Thread);

impl Wake for Polling {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls `work`, letting time pass, until `done`.
fn drive(work: impl Future<Output = ()>, clock: &ManualClock, done: impl Fn() -> bool) {
    let mut work = pin!(work);
    let waker = Waker::from(Arc::new(Polling(thread::current())));
    let cx = &mut Context::from_waker(&waker);
    for _ in 0..100_000 {
        if done() || work.as_mut().poll(cx).is_ready() {
            return;
        }
        // The store's own threads wake it; where they have nothing to do, it waits for time to pass.
        thread::park_timeout(Duration::from_millis(1));
        clock.advance_micros(5_000);
    }
    panic!("it does not come to an end");
}

fn open(path: &Path) -> SledStore {
    SledStore::builder(path).sparse_segments().open().unwrap()
}

/// Replicates until `done`.
fn replicate(
    store: &SledStore,
    wire: &FakeWire,
    done: impl Fn(&ReplicationStatus) -> bool,
) -> ReplicationStatus {
    let (node, replicator) = replicator(store, wire);
    drive(replicator.run(), &node.clock, || {
        done(&node.status.status())
    });
    node.status.status()
}

fn level(store: &SledStore, wire: &FakeWire) {
    let last = store.last_position();
    replicate(store, wire, |s| s.settled >= last && s.watermark >= last);
}

/// The halt that replication comes to.
fn halted(store: &SledStore, wire: &FakeWire) -> Halt {
    let is_halted = |s: &ReplicationStatus| matches!(s.state, ReplicationState::Halted(_));
    match replicate(store, wire, is_halted).state {
        ReplicationState::Halted(halt) => halt,
        other => panic!("{other:?}"),
    }
}

/// Replicates, forks where it stands still, and goes on until all is there.
fn forked(store: &SledStore, wire: &FakeWire, other: Other) -> Result<(), Error> {
    let (node, replicator) = replicator(store, wire);
    let answer = parking_lot::Mutex::new(None);
    let asked = AtomicBool::new(false);
    let ask = std::future::poll_fn(|_| {
        // Only once it stands still; it is polled as often as time passes.
        let is_halted = matches!(node.status.status().state, ReplicationState::Halted(_));
        if is_halted || asked.load(Ordering::Relaxed) {
            return std::task::Poll::Ready(());
        }
        std::task::Poll::Pending
    });
    let work = async {
        ask.await;
        asked.store(true, Ordering::Relaxed);
        let fork = |reply| Message::Sink(SinkMessage::Fork(other), reply);
        let done = node.mailbox.ask(fork).await;
        *answer.lock() = Some(done);
    };
    let both = async {
        join(replicator.run(), work).await;
    };
    drive(both, &node.clock, || {
        let status = node.status.status();
        let last = store.last_position();
        match &*answer.lock() {
            None => false,
            Some(Err(_)) => true,
            Some(Ok(())) => status.settled >= last && status.watermark >= last,
        }
    });
    answer.into_inner().unwrap()
}

fn rows(wire: &FakeWire, store: &SledStore) -> Vec<OriginRow> {
    let request = Request::Origins(store.identity().origin);
    match pollster::block_on(wire.ask(request)).unwrap() {
        Reply::Origins(rows) => rows,
        other => panic!("{other:?}"),
    }
}

fn row(wire: &FakeWire, store: &SledStore) -> OriginRow {
    let epoch = store.identity().epoch;
    let found = rows(wire, store).into_iter().find(|r| r.epoch == epoch);
    found.expect("the store's epoch is known")
}

/// What the replica gives back of the store's epoch, as commit ends.
fn restored(wire: &FakeWire, store: &SledStore) -> Vec<CommitEnd> {
    let identity = store.identity();
    let first = store.epochs().unwrap()[0].id;
    let target = MemoryCopy::new(identity.origin, first);
    let options = RestoreOptions::new().epoch(identity.epoch).keep_old_epoch();
    let open = |_, _, _| Ok(Some(target.clone()));
    let ids = Ids::default();
    let restore = super::super::restore::restore_to(wire, &options, &ids, open);
    pollster::block_on(restore).unwrap();
    let ends = target.0.lock();
    ends.commits.iter().map(Commit::end).collect()
}

fn local(store: &SledStore) -> Vec<CommitEnd> {
    let commits = store.commits(0).next(usize::MAX).unwrap();
    commits.iter().map(Commit::end).collect()
}

struct Machines {
    dir: tempfile::TempDir,
    wire: FakeWire,
}

impl Machines {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            wire: FakeWire::new(FakeServer::new(meta())),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A store that has replicated 20 events, closed.
    fn till(&self) -> PathBuf {
        let path = self.path("till");
        let store = open(&path);
        for at in 0..20 {
            append(&store, &format!("T/{}", at % 3), 1);
        }
        level(&store, &self.wire);
        store.close_blocking().unwrap();
        path
    }
}

#[test]
fn a_clone_is_told_so_and_lives_on_beside_the_other_after_a_fork() {
    let machines = Machines::new();
    let wire = &machines.wire;
    let till = machines.till();
    copy_tree(&till, &machines.path("clone"));
    let original = open(&till);
    append(&original, "T/mine", 3);
    level(&original, wire);
    let clone = open(&machines.path("clone"));
    append(&clone, "T/theirs", 5);
    assert!(matches!(halted(&clone, wire), Halt::Cloned { .. }));
    forked(&clone, wire, Other::Lives).unwrap();
    assert_ne!(clone.identity().epoch, original.identity().epoch);
    let all = rows(wire, &clone);
    assert_eq!(all.len(), 2);
    assert!(all.iter().all(|row| row.successor.is_none()));
    let new = row(wire, &clone);
    let parted = original.commit_end(20).unwrap().unwrap();
    let parent = (original.identity().epoch, parted.position, parted.hash);
    assert_eq!(new.parent, Some(parent));
    // Both logs can be had, each whole.
    assert_eq!(restored(wire, &clone), local(&clone));
    assert_eq!(restored(wire, &original), local(&original));
    // And both go on.
    append(&original, "T/mine", 1);
    level(&original, wire);
    append(&clone, "T/theirs", 1);
    level(&clone, wire);
}

#[test]
fn a_backup_put_back_goes_on_without_what_is_missing_and_the_old_epoch_is_given_up() {
    let machines = Machines::new();
    let wire = &machines.wire;
    let till = machines.till();
    let original = open(&till);
    original.backup(machines.path("backup")).unwrap();
    append(&original, "T/lost", 3);
    level(&original, wire);
    original.close_blocking().unwrap();
    restore_backup(machines.path("backup"), machines.path("again")).unwrap();
    let again = open(&machines.path("again"));
    append(&again, "T/new", 2);
    let halt = halted(&again, wire);
    assert!(
        matches!(halt, Halt::RestoredBackup { watermark, .. } if watermark == 23),
        "{halt:?}"
    );
    let before = again.identity().epoch;
    forked(&again, wire, Other::Gone).unwrap();
    // The backup's own new epoch serves.
    assert_eq!(again.identity().epoch, before);
    let original = open(&till);
    assert_eq!(row(wire, &original).successor, Some(before));
    assert!(matches!(
        halted(&original, wire),
        Halt::EpochRetired { successor, .. } if successor == before
    ));
    assert_eq!(restored(wire, &again), local(&again));
    // The one that was given up may live, too.
    append(&original, "T/0", 1);
    forked(&original, wire, Other::Lives).unwrap();
    assert_eq!(restored(wire, &original), local(&original));
    assert_ne!(original.identity().epoch, before);
}

#[test]
fn a_fork_leaves_the_old_epoch_at_the_newest_commit_that_both_have() {
    let machines = Machines::new();
    let wire = &machines.wire;
    let till = machines.till();
    let original = open(&till);
    // Rows beyond the watermark count as well.
    append(&original, "T/more", 1);
    let commits = original.commits(20).next(usize::MAX).unwrap();
    for row in commits.iter().flat_map(super::super::test_log::rows_of) {
        let chunk = Chunk {
            origin: original.identity().origin,
            epoch: original.identity().epoch,
            number: row.position / 8,
        };
        let rows = vec![row];
        pollster::block_on(wire.ask(Request::PutLog { chunk, rows })).unwrap();
    }
    append(&original, "T/more", 1);
    original.close_blocking().unwrap();
    // The session's state is gone.
    fs::remove_file(till.join("listeners/sink.scylla")).unwrap();
    let original = open(&till);
    assert!(matches!(halted(&original, wire), Halt::Cloned { .. }));
    forked(&original, wire, Other::Gone).unwrap();
    let (_, position, _) = row(wire, &original).parent.unwrap();
    assert_eq!(position, 21);
    assert_eq!(restored(wire, &original), local(&original));
}

#[test]
fn a_store_whose_epochs_are_all_unknown_sends_everything_again() {
    let machines = Machines::new();
    let wire = &machines.wire;
    let till = machines.till();
    let store = open(&till);
    // The server has this store under an epoch that it never had.
    let mut other = row(wire, &store);
    other.epoch = Uuid::from_u128(99);
    wire.with_server(|server| server.truncate(tidelog_backends::fake::Table::Origins));
    pollster::block_on(wire.ask(Request::Register(Box::new(other)))).unwrap();
    store.close_blocking().unwrap();
    fs::remove_file(till.join("listeners/sink.scylla")).unwrap();
    let store = open(&till);
    let before = store.identity().epoch;
    assert!(matches!(halted(&store, wire), Halt::UnknownEpoch { .. }));
    forked(&store, wire, Other::Gone).unwrap();
    assert_eq!(store.identity().epoch, before);
    assert_eq!(row(wire, &store).parent, None);
    assert_eq!(restored(wire, &store), local(&store));
}

#[test]
fn a_fork_whose_answer_is_lost_is_not_made_twice() {
    for fault in [
        Fault::LostReply,
        Fault::LostRequest,
        Fault::Late,
        Fault::Proposed,
    ] {
        let machines = Machines::new();
        let wire = &machines.wire;
        let till = machines.till();
        copy_tree(&till, &machines.path("clone"));
        let original = open(&till);
        append(&original, "T/mine", 3);
        level(&original, wire);
        let clone = open(&machines.path("clone"));
        append(&clone, "T/theirs", 1);
        let mut once = Some(fault.clone());
        wire.set_faults(move |request| match request {
            Request::Fork(_) => once.take().unwrap_or(Fault::None),
            _ => Fault::None,
        });
        forked(&clone, wire, Other::Lives).unwrap();
        assert_eq!(rows(wire, &clone).len(), 2, "{fault:?}");
        wire.deliver_late();
        append(&clone, "T/theirs", 1);
        level(&clone, wire);
        assert_eq!(restored(wire, &clone), local(&clone), "{fault:?}");
    }
}

#[test]
fn what_the_old_epoch_has_parked_is_parked_under_the_new_one() {
    let machines = Machines::new();
    let wire = &machines.wire;
    let till = machines.till();
    let original = open(&till);
    let (origin, epoch) = (original.identity().origin, original.identity().epoch);
    let all = original.blocking().read_all(tidelog_core::LogQuery::all());
    let mut all = all.map(Result::unwrap);
    let held = all.find(|event| event.position == Some(19)).unwrap();
    original.backup(machines.path("backup")).unwrap();
    original.close_blocking().unwrap();
    let parked = tidelog_backends::wire::ParkedRow {
        key: tidelog_backends::wire::ParkedKey {
            origin,
            epoch,
            stream: held.stream.clone(),
            first_position: 19,
        },
        first_sequence: held.sequence,
        until_position: None,
        reason: "diverged".into(),
        local_event: held.event_id,
        remote: None,
    };
    pollster::block_on(wire.ask(Request::Park(Box::new(parked.clone())))).unwrap();
    restore_backup(machines.path("backup"), machines.path("again")).unwrap();
    let again = open(&machines.path("again"));
    forked(&again, wire, Other::Gone).unwrap();
    let epoch = again.identity().epoch;
    let request = Request::Parked { origin, epoch };
    let Reply::Parked(rows) = pollster::block_on(wire.ask(request)).unwrap() else {
        panic!("not what was asked");
    };
    let keys: Vec<_> = rows.iter().map(|r| r.key.first_position).collect();
    assert_eq!(keys, [19]);
}
