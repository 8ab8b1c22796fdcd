//! The process that is killed: it works on the store and says so, line by line, on its output.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use tidelog_backends::commits::LogCopy;
use tidelog_backends::{SledStore, SledStoreBuilder, repair, restore_backup};
use tidelog_core::*;
use uuid::Uuid;

use crate::history::{self, parts};
use crate::sweep::Random;
use crate::tools;

/// Set for the child: what [`Order::line`] made.
pub const ORDER: &str = "TIDELOG_TEST_KILL";
/// Stands before everything the child says: the harness writes to the same output.
pub const MARK: &str = "~ ";

/// What a child does until it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    AppendBlocking,
    AppendAsync,
    AppendThreads,
    /// Large unsynced commits: a segment is full every few of them.
    Seal,
    Open,
    /// New stores, one after the other.
    Create,
    RebuildIndex,
    Backup,
    Restore,
    Snapshots,
    /// A damaged copy of the store.
    Repair,
    /// Events that give way to others.
    Supersede,
    /// A copy of the log, commit by commit, which becomes a store in the end.
    Copy,
}

impl Work {
    pub const ALL: [Self; 13] = [
        Self::AppendBlocking,
        Self::AppendAsync,
        Self::AppendThreads,
        Self::Seal,
        Self::Open,
        Self::Create,
        Self::RebuildIndex,
        Self::Backup,
        Self::Restore,
        Self::Snapshots,
        Self::Repair,
        Self::Supersede,
        Self::Copy,
    ];

    /// The child says one of these words, and is killed at most so many microseconds after it said
    /// it at most so many times.
    pub const fn moments(self) -> &'static [(&'static str, usize, usize)] {
        match self {
            Self::AppendBlocking | Self::AppendAsync => &[("try", 60, 4_000)],
            Self::AppendThreads => &[("try", 200, 4_000)],
            Self::Seal => &[("sealing", 4, 4_000), ("sealed", 4, 8_000)],
            Self::Open => &[("opening", 3, 60_000), ("closing", 2, 15_000)],
            Self::Create => &[("creating", 3, 60_000)],
            Self::RebuildIndex => &[("rebuilding", 3, 80_000)],
            Self::Backup => &[("backing-up", 4, 30_000)],
            Self::Restore => &[("restoring", 2, 20_000), ("restored", 2, 60_000)],
            Self::Snapshots => &[("snapshot", 20, 4_000)],
            Self::Repair => &[("repairing", 3, 40_000), ("repaired", 2, 60_000)],
            Self::Supersede => &[("superseding", 12, 8_000)],
            Self::Copy => &[
                ("copying", 4, 20_000),
                ("copied", 12, 8_000),
                ("finishing", 2, 20_000),
            ],
        }
    }
}

/// What a child is told.
#[derive(Clone, Debug)]
pub struct Order {
    pub work: Work,
    /// Holds the store and what is made beside it.
    pub root: PathBuf,
    /// Numbers from here on are this child's own.
    pub first: u64,
    /// Appends of earlier children that were not acknowledged.
    pub retry: Vec<u64>,
}

impl Order {
    pub fn line(&self) -> String {
        let retry: Vec<String> = self.retry.iter().map(ToString::to_string).collect();
        let work = Work::ALL.iter().position(|work| *work == self.work);
        let root = self.root.display();
        format!(
            "{} {} {} {root}",
            work.unwrap(),
            self.first,
            retry.join(",")
        )
    }

    pub fn parse(line: &str) -> Self {
        let mut words = line.splitn(4, ' ');
        let mut next = || words.next().unwrap();
        let work = Work::ALL[next().parse::<usize>().unwrap()];
        let first = next().parse().unwrap();
        let retry = next().split(',').filter(|n| !n.is_empty());
        let retry = retry.map(|n| n.parse().unwrap()).collect();
        let root = PathBuf::from(next());
        Self {
            work,
            root,
            first,
            retry,
        }
    }
}

pub fn store_in(root: &Path) -> PathBuf {
    root.join("store")
}

pub fn backup_in(root: &Path) -> PathBuf {
    root.join("backup")
}

pub fn new_in(root: &Path) -> PathBuf {
    root.join("new")
}

pub fn restored_in(root: &Path) -> PathBuf {
    root.join("restored")
}

pub fn damaged_in(root: &Path) -> PathBuf {
    root.join("damaged")
}

pub fn repaired_in(root: &Path) -> PathBuf {
    root.join("repaired")
}

pub fn copy_in(root: &Path) -> PathBuf {
    root.join("copy")
}

/// Tiny segments and early merges, so that all of it happens often.
fn builder(dir: &Path) -> SledStoreBuilder {
    SledStore::builder(dir)
        .segment_size(64 << 10)
        .stress_index(64, 2)
}

pub fn open(dir: &Path) -> Result<SledStore, Error> {
    builder(dir).open()
}

/// The copy in `dir` of the log of `store`, as far as it is.
pub fn open_copy(dir: &Path, store: &SledStore) -> Result<LogCopy, Error> {
    let first = store.epochs()?[0].id;
    LogCopy::open(dir, store.identity().origin, first, &builder(dir))
}

/// Works until it is killed. Where one of its threads fails, the others shall not go on.
pub fn run(order: &Order) {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        if info
            .location()
            .is_some_and(|at| at.file().contains("tests/kill"))
        {
            std::process::exit(101);
        }
    }));
    let child = Child {
        next: AtomicU64::new(order.first),
        dir: store_in(&order.root),
    };
    if order.work == Work::Open {
        return child.open_again_and_again();
    }
    let store = child.open();
    for number in &order.retry {
        append(&store, *number, None, true);
    }
    match order.work {
        Work::AppendBlocking | Work::AppendAsync | Work::Open => {
            child.append_alone(&store, order.work);
        }
        Work::Create => create_stores(&order.root),
        Work::AppendThreads => child.append_in_threads(&store),
        Work::Seal => child.fill_segments(&store),
        Work::RebuildIndex => child.rebuild(&store),
        Work::Backup => child.back_up(&store, &backup_in(&order.root)),
        Work::Restore => child.restore(&store, &order.root),
        Work::Snapshots => child.take_snapshots(&store),
        Work::Repair => child.repair(store, &order.root),
        Work::Supersede => child.supersede(&store),
        Work::Copy => child.copy(&store, &order.root),
    }
}

/// The append that each new store gets.
pub const NEW: u64 = 1;

/// At once, so that the parent never takes what is half removed for half made.
fn remove(root: &Path, dir: &Path) {
    let gone = root.join("gone");
    std::fs::rename(dir, &gone).unwrap();
    std::fs::remove_dir_all(&gone).unwrap();
}

fn create_stores(root: &Path) {
    loop {
        say("creating");
        let store = open(&new_in(root)).unwrap();
        store.blocking().append_streams(parts(NEW)).unwrap();
        say("created");
        store.close_blocking().unwrap();
        drop(store);
        remove(root, &new_in(root));
    }
}

/// Says one line, with one call.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{MARK}{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// Says what it tries, appends it by one face or the other, and says where it was acknowledged.
fn append(store: &SledStore, number: u64, durability: Option<Durability>, blocking: bool) {
    let mut parts = parts(number);
    for part in &mut parts {
        part.durability = durability;
    }
    say(&format!("try {number}"));
    let receipts = if blocking {
        store.blocking().append_streams(parts)
    } else {
        pollster::block_on(store.append_streams(parts))
    };
    say_acknowledged(number, &receipts.unwrap());
}

fn say_acknowledged(number: u64, receipts: &[AppendReceipt]) {
    let sequences = receipts
        .iter()
        .map(|receipt| receipt.first_sequence.to_string());
    let sequences: Vec<String> = sequences.collect();
    let position = receipts[0].first_position.unwrap();
    say(&format!("ack {number} {position} {}", sequences.join(",")));
}

struct Child {
    next: AtomicU64,
    dir: PathBuf,
}

impl Child {
    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::SeqCst)
    }

    fn open(&self) -> SledStore {
        say("opening");
        let store = open(&self.dir).unwrap();
        say("opened");
        store
    }

    fn append_next(&self, store: &SledStore, durability: Option<Durability>) {
        let number = self.number();
        append(store, number, durability, number.is_multiple_of(2));
    }

    fn append_alone(&self, store: &SledStore, work: Work) {
        let blocking = work == Work::AppendBlocking;
        loop {
            let number = self.number();
            // Every fourth is only with the operating system, which a kill does not take.
            let durability = (number.is_multiple_of(4)).then_some(Durability::Process);
            append(store, number, durability, blocking);
        }
    }

    fn append_in_threads(&self, store: &SledStore) {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    loop {
                        self.append_next(store, None);
                    }
                });
            }
        });
    }

    fn fill_segments(&self, store: &SledStore) {
        let mut unindexed = 0;
        loop {
            self.append_next(store, Some(Durability::Process));
            let now = store.info().unwrap().unindexed_segments;
            if now > unindexed {
                say("sealing");
            } else if now < unindexed {
                say("sealed");
            }
            unindexed = now;
        }
    }

    fn open_again_and_again(&self) {
        loop {
            let store = self.open();
            let numbers: Vec<u64> = (0..5).map(|_| self.number()).collect();
            for number in &numbers {
                append(&store, *number, Some(Durability::Process), true);
            }
            if numbers[0].is_multiple_of(3) {
                store.crash();
            } else {
                say("closing");
                store.close_blocking().unwrap();
            }
        }
    }

    fn rebuild(&self, store: &SledStore) {
        loop {
            for _ in 0..3 {
                self.append_next(store, Some(Durability::Process));
            }
            say("rebuilding");
            store.rebuild_index().unwrap();
            say("rebuilt");
        }
    }

    fn back_up(&self, store: &SledStore, to: &Path) {
        thread::scope(|scope| {
            scope.spawn(|| {
                loop {
                    self.append_next(store, None);
                }
            });
            loop {
                say("backing-up");
                let report = store.backup(to).unwrap();
                say(&format!("backed-up {}", report.last_position));
            }
        });
    }

    fn restore(&self, store: &SledStore, root: &Path) {
        self.append_next(store, None);
        say("backing-up");
        let report = store.backup(backup_in(root)).unwrap();
        say(&format!("backed-up {}", report.last_position));
        loop {
            let to = restored_in(root);
            say("restoring");
            restore_backup(backup_in(root), &to).unwrap();
            say("restored");
            open(&to).unwrap().close_blocking().unwrap();
            remove(root, &to);
        }
    }

    fn repair(&self, store: SledStore, root: &Path) {
        for _ in 0..3 {
            self.append_next(&store, None);
        }
        store.close_blocking().unwrap();
        drop(store);
        let (half, damaged, to) = (root.join("half"), damaged_in(root), repaired_in(root));
        tools::copy_tree(&self.dir, &half);
        // A byte of the first commit of each second segment.
        for number in tools::segments(&half).into_iter().step_by(2) {
            let path = tools::segment(&half, number);
            tools::make_writable(&path);
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[4096 + 100] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
        std::fs::rename(&half, &damaged).unwrap();
        loop {
            say("repairing");
            let report = repair(&damaged, &to).unwrap();
            assert!(!report.lost.is_empty());
            say("repaired");
            open(&to).unwrap().close_blocking().unwrap();
            remove(root, &to);
        }
    }

    fn supersede(&self, store: &SledStore) {
        loop {
            self.append_next(store, None);
            let number = self.number() | history::SUPERSEDES;
            let branch = history::branch(number);
            let Some(head) = store.blocking().head(&branch.stream).unwrap() else {
                continue;
            };
            let from = head.sequence + 1 - branch.gone.min(head.sequence);
            let what = Supersession::new(branch.stream, head, from)
                .with_adopted(branch.adopted)
                .with_reissued(branch.reissued);
            say(&format!("try {number}"));
            say("superseding");
            let receipt = store.blocking().supersede(what).unwrap();
            say_acknowledged(number, &[receipt]);
            say("superseded");
        }
    }

    fn copy(&self, store: &SledStore, root: &Path) {
        let to = copy_in(root);
        for round in 1.. {
            for _ in 0..3 {
                self.append_next(store, None);
            }
            say("copying");
            let mut copy = match open_copy(&to, store) {
                Ok(copy) => copy,
                // It had become a store, which goes on elsewhere.
                Err(Error::NotAStore { .. }) => {
                    say("removing");
                    remove(root, &to);
                    continue;
                }
                Err(error) => panic!("{error:?}"),
            };
            let mut commits = store.commits(copy.next().position);
            loop {
                let page = commits.next(8 << 10).unwrap();
                let Some(last) = page.last() else {
                    break;
                };
                for commit in &page {
                    copy.push(commit.number, &commit.body, commit.hash).unwrap();
                }
                copy.sync().unwrap();
                say(&format!("copied {}", last.last_position()));
            }
            if round % 4 == 0 {
                say("finishing");
                let made = copy.finish(Uuid::from_u128(77)).unwrap();
                made.close_blocking().unwrap();
            }
        }
    }

    fn take_snapshots(&self, store: &SledStore) {
        let face = store.blocking();
        let mut random = Random(self.number());
        let streams = history::streams();
        loop {
            self.append_next(store, None);
            let stream = random.pick(&streams);
            let Some(head) = face.head(stream).unwrap() else {
                continue;
            };
            say("snapshot");
            let snapshot = SnapshotEnvelope {
                stream: stream.clone(),
                sequence: head.sequence,
                event_id: head.event_id,
                revision: 1,
                content_type: ContentType::Bytes,
                taken_time: Timestamp::from_micros(0),
                state: history::state_at(stream, head.sequence).into(),
            };
            face.persist_snapshot(snapshot).unwrap();
            say("kept");
        }
    }
}
