//! What the recorded child does with the store: many small segments that are sealed, indexed and
//! merged; several streams and threads; both durabilities; snapshots; closing and opening again.
//!
//! It writes down what the store promised, a line each, into the file `notes` beside the store. The
//! shim records these writes among the store's own, so each promise has its place in time.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use tidelog_backends::{SledStore, SledStoreBuilder};
use tidelog_core::*;

use crate::sweep::Random;
use crate::tools::{id, stream};

pub const STORE: &str = "store";
pub const NOTES: &str = "notes";
/// Streams that one thread writes to alone, and one that all write to.
const STREAMS: u64 = 6;
const SHARED: &str = "shared";
/// Event types: what durability was asked for, and the one that ends a subscription.
const POWER: &str = "Power";
const PROCESS: &str = "Process";
const LAST: &str = "Last";

/// How the stores of all sweeps are opened: segments and merges as small as they get.
pub fn builder(dir: &Path) -> SledStoreBuilder {
    SledStore::builder(dir)
        .segment_size(64 << 10)
        .stress_index(64, 3)
        .memory_budget(8 << 20)
        .index_open_timeout(Duration::from_secs(5))
}

/// What is promised from some moment on.
pub struct Notes(File);

impl Notes {
    pub fn beside(store: &Path) -> Self {
        let path = store.with_file_name(NOTES);
        let file = OpenOptions::new().create(true).append(true).open(path);
        Self(file.unwrap())
    }

    fn say(&self, line: &str) {
        // One call, so one record in the trace.
        (&self.0).write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Everything up to `position` survives a power cut.
    pub fn durable(&self, position: u64) {
        self.say(&format!("durable {position}"));
    }

    /// The store was opened and shows everything up to `position`.
    pub fn opened(&self, store: &SledStore) {
        let info = store.info().unwrap();
        self.say(&format!("opened {} {}", info.last_position, info.origin));
    }

    /// An append was acknowledged, with what durability.
    pub fn acknowledged(&self, receipts: &[AppendReceipt], durability: Durability) {
        let last = receipts.iter().filter_map(|receipt| receipt.last_position);
        let last = last.max().unwrap_or(0);
        match durability {
            Durability::Power => self.durable(last),
            Durability::Process => self.say(&format!("acknowledged {last}")),
        }
    }
}

/// The whole: three lives of one store.
pub fn long(dir: &Path, seed: u64, steps: u64) {
    let notes = Notes::beside(dir);
    let mut work = Work::new(seed, 0);
    for life in 0..3 {
        let store = builder(dir).open().unwrap();
        notes.opened(&store);
        if life == 1 {
            beside_each_other(&store, &notes, &mut work, steps);
            work.steps(&store, &notes, steps / 4);
            // The process ends without a word: the page cache keeps what it wrote.
            store.crash();
            continue;
        }
        work.steps(&store, &notes, steps);
        if life == 2 {
            store.rebuild_index().unwrap();
            work.steps(&store, &notes, steps / 2);
        }
        let last = store.blocking().last_position();
        store.close_blocking().unwrap();
        notes.durable(last);
    }
}

/// A state that shows which event it belongs to.
pub fn snapshot_state(of: EventId, len: usize) -> Bytes {
    of.as_bytes().iter().copied().cycle().take(len).collect()
}

/// A short life after a crash: opens, goes on, and ends one way or the other.
pub fn short(dir: &Path, seed: u64) {
    let notes = Notes::beside(dir);
    let mut work = Work::new(seed, 1 << 40);
    let store = builder(dir).open().unwrap();
    notes.opened(&store);
    work.steps(&store, &notes, 25);
    let last = store.blocking().last_position();
    if seed.is_multiple_of(2) {
        store.close_blocking().unwrap();
        notes.durable(last);
    } else {
        store.crash();
    }
}

/// Two writers, and one who follows what they write.
fn beside_each_other(store: &SledStore, notes: &Notes, work: &mut Work, steps: u64) {
    let seen = AtomicU64::new(0);
    thread::scope(|scope| {
        let mut subscription = store.blocking().subscribe(Subscribe::All { after: 0 });
        let seen = &seen;
        scope.spawn(move || {
            while let Some(Ok(shown)) = subscription.next() {
                let position = shown.position.unwrap();
                // It was shown, so it is as durable as was asked.
                if &*shown.event_type == POWER {
                    notes.durable(position);
                }
                seen.store(position, Ordering::SeqCst);
                if &*shown.event_type == LAST {
                    return;
                }
            }
            panic!("the subscription ended");
        });
        let other = Work::new(work.random.next(), 1 << 32);
        let other = scope.spawn(move || other.alone(store, notes, steps));
        work.steps(store, notes, steps);
        other.join().unwrap();
        let last = NewEvent::new(LAST, 1, ContentType::Bytes, vec![]);
        let batch = AppendBatch::new(stream(SHARED), ExpectedVersion::Any, vec![last]);
        let receipt = store.blocking().append(batch).unwrap();
        notes.acknowledged(&[receipt], Durability::Power);
    });
}

struct Work {
    random: Random,
    /// Number of the next event; each is used once.
    next: u64,
    /// An append that may not be on the disk yet.
    unsynced: Option<Vec<AppendBatch>>,
}

impl Work {
    fn new(seed: u64, first: u64) -> Self {
        Self {
            random: Random(seed),
            next: first,
            unsynced: None,
        }
    }

    fn steps(&mut self, store: &SledStore, notes: &Notes, steps: u64) {
        for _ in 0..steps {
            match self.random.below(40) {
                0..20 => self.append(store, notes, 1, 4),
                20..27 => self.append(store, notes, 3, 3),
                // Larger than a segment: gets one of its own.
                27 if self.random.one_in(4) => self.append(store, notes, 1, 160),
                27..31 => self.append(store, notes, 2, 12),
                31..34 => self.retry(store, notes),
                34..37 => self.snapshot(store, notes),
                37..39 => self.read(store, notes),
                _ => store.drain().unwrap(),
            }
        }
    }

    /// Appends to the shared stream and one of its own until done.
    fn alone(mut self, store: &SledStore, notes: &Notes, steps: u64) {
        for step in 0..steps {
            let to = if step % 3 == 0 { SHARED } else { "alone" };
            let durability = self.durability();
            let part = self.part(to, 2, durability);
            let receipt = store.blocking().append(part).unwrap();
            notes.acknowledged(&[receipt], durability);
        }
    }

    fn durability(&mut self) -> Durability {
        if self.random.one_in(2) {
            Durability::Power
        } else {
            Durability::Process
        }
    }

    fn part(&mut self, to: &str, events: usize, durability: Durability) -> AppendBatch {
        let kind = match durability {
            Durability::Power => POWER,
            Durability::Process => PROCESS,
        };
        let events = (0..events).map(|_| {
            self.next += 1;
            let mut payload = self.next.to_le_bytes().to_vec();
            payload.resize(8 + self.random.below(900), payload[0]);
            NewEvent::new(kind, 1, ContentType::Bytes, payload).with_id(id(self.next))
        });
        let events = events.collect();
        AppendBatch::new(stream(to), ExpectedVersion::Any, events).with_durability(durability)
    }

    fn append(&mut self, store: &SledStore, notes: &Notes, streams: u64, most: usize) {
        let durability = self.durability();
        let first = self.random.next() % STREAMS;
        let parts: Vec<_> = (first..first + streams)
            .map(|of| {
                let events = 1 + self.random.below(most);
                self.part(&(of % STREAMS).to_string(), events, durability)
            })
            .collect();
        let receipts = store.blocking().append_streams(parts.clone()).unwrap();
        notes.acknowledged(&receipts, durability);
        if durability == Durability::Process {
            self.unsynced = Some(parts);
        }
    }

    /// The same again, but this time it must survive a power cut.
    fn retry(&mut self, store: &SledStore, notes: &Notes) {
        let Some(mut parts) = self.unsynced.take() else {
            return;
        };
        for part in &mut parts {
            part.durability = Some(Durability::Power);
        }
        let receipts = store.blocking().append_streams(parts).unwrap();
        assert_eq!(receipts[0].outcome, AppendOutcome::AlreadyAppended);
        notes.acknowledged(&receipts, Durability::Power);
    }

    fn snapshot(&mut self, store: &SledStore, notes: &Notes) {
        let stream = stream(&(self.random.next() % STREAMS).to_string());
        let newest = StreamQuery::new(stream.clone()).backward().limit(1);
        let Some(event) = store.blocking().read_stream(newest).next() else {
            return;
        };
        let event = event.unwrap();
        let taken = SnapshotEnvelope {
            stream,
            sequence: event.sequence,
            event_id: event.event_id,
            revision: 1,
            content_type: ContentType::Bytes,
            taken_time: event.recorded_time,
            state: snapshot_state(event.event_id, self.random.below(9_000)),
        };
        store.blocking().persist_snapshot(taken).unwrap();
        // It rests on its event, which therefore is there for good.
        notes.durable(event.position.unwrap());
    }

    fn read(&mut self, store: &SledStore, notes: &Notes) {
        let stream = stream(&(self.random.next() % STREAMS).to_string());
        let newest = StreamQuery::new(stream).backward().limit(5);
        for shown in store.blocking().read_stream(newest) {
            let shown = shown.unwrap();
            if &*shown.event_type == POWER {
                notes.durable(shown.position.unwrap());
            }
        }
    }
}
