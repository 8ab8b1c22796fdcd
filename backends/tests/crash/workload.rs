//! What the recorded child does with the store: many small segments that are sealed, indexed and
//! merged; several streams and threads; both durabilities; events that give way; snapshots;
//! checkpoints and rows of consumers; closing and opening again.
//!
//! It writes down what the store promised, a line each, into the file `notes` beside the store. The
//! shim records these writes among the store's own, so each promise has its place in time.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use tidelog_backends::{SledStore, SledStoreBuilder};
use tidelog_core::*;
use uuid::Uuid;

use crate::consumers::Consumers;
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
        .index_open_timeout(Duration::from_secs(30))
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

    /// The store is being opened.
    pub fn opening(&self) {
        self.say("opening");
    }

    /// The store was opened and shows everything up to `position`.
    pub fn opened(&self, store: &SledStore) {
        let info = store.info().unwrap();
        let index = match info.index_rebuilt {
            None => "stands",
            Some(_) => "anew",
        };
        self.say(&format!(
            "opened {} {} {index}",
            info.last_position, info.origin
        ));
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

/// One life of the store: opens it, works, and closes it or not. It may be killed before that, and
/// its disk may fail: then it ends there, and the next one goes on.
pub fn life(dir: &Path, seed: u64, steps: u64, first: u64) {
    let notes = Notes::beside(dir);
    let mut work = Work {
        random: Random(seed),
        next: first,
        unsynced: None,
        consumers: Consumers::new(first),
    };
    notes.opening();
    let store = match builder(dir).open() {
        Ok(store) => store,
        Err(error) => return only_the_disk(&error),
    };
    notes.opened(&store);
    let worked = work.live(&store, &notes, steps);
    if let Err(error) = &worked {
        only_the_disk(error);
    }
    if work.random.one_in(2) {
        // The process ends without a word: the page cache keeps what it wrote.
        store.crash();
        return;
    }
    let last = store.blocking().last_position();
    match store.close_blocking() {
        Ok(()) if worked.is_ok() => notes.durable(last),
        Ok(()) => {}
        Err(error) => only_the_disk(&error),
    }
}

/// A life in which only checkpoints are saved; it ends without a word.
pub fn saving(dir: &Path, seed: u64, first: u64) {
    let (notes, mut random) = (Notes::beside(dir), Random(seed));
    notes.opening();
    let store = builder(dir).open().unwrap();
    notes.opened(&store);
    let mut consumers = Consumers::new(first);
    for _ in 0..10 {
        let saved = consumers.save(&store, &mut random, &mut |line| notes.say(line));
        saved.unwrap();
    }
    store.crash();
}

/// Nothing is damaged here: there may be errors of the disk, and no others.
pub fn only_the_disk(error: &Error) {
    let known = matches!(
        error,
        Error::Io { .. } | Error::Refused { .. } | Error::Engine { .. } | Error::Closed
    );
    assert!(known, "{} ({error})", error.code());
}

/// A state that shows which event it belongs to.
pub fn snapshot_state(of: EventId, len: usize) -> Bytes {
    of.as_bytes().iter().copied().cycle().take(len).collect()
}

struct Work {
    random: Random,
    /// Number of the next event; each is used once.
    next: u64,
    /// An append that may not be on the disk yet.
    unsynced: Option<Vec<AppendBatch>>,
    consumers: Consumers,
}

impl Work {
    fn live(&mut self, store: &SledStore, notes: &Notes, steps: u64) -> Result<(), Error> {
        self.steps(store, notes, steps / 2)?;
        match self.random.below(4) {
            0 => self.beside_each_other(store, notes, steps / 2)?,
            1 => {
                notes.say("anew");
                store.rebuild_index()?;
            }
            _ => {}
        }
        self.steps(store, notes, steps / 2)
    }

    /// Two writers, and one who follows what they write.
    fn beside_each_other(
        &mut self,
        store: &SledStore,
        notes: &Notes,
        steps: u64,
    ) -> Result<(), Error> {
        let other = Self {
            random: Random(self.random.next()),
            next: self.next + (1 << 20),
            unsynced: None,
            consumers: Consumers::new(0),
        };
        thread::scope(|scope| {
            scope.spawn(|| follow(store, notes));
            let other = scope.spawn(|| other.alone(store, notes, steps));
            let mut done = self.steps(store, notes, steps);
            done = other.join().unwrap().and(done);
            let last = NewEvent::new(LAST, 1, ContentType::Bytes, vec![]);
            let batch = AppendBatch::new(stream(SHARED), ExpectedVersion::Any, vec![last]);
            let last = store.blocking().append(batch);
            if last.is_err() {
                // It would be waited for.
                store.crash();
            }
            notes.acknowledged(&[last?], Durability::Power);
            done
        })
    }

    fn steps(&mut self, store: &SledStore, notes: &Notes, steps: u64) -> Result<(), Error> {
        for _ in 0..steps {
            match self.random.below(48) {
                0..20 => self.append(store, notes, 1, 4)?,
                20..27 => self.append(store, notes, 3, 3)?,
                // Larger than a segment: gets one of its own.
                27 if self.random.one_in(4) => self.append(store, notes, 1, 160)?,
                27..31 => self.append(store, notes, 2, 12)?,
                31..34 => self.retry(store, notes)?,
                34..37 => self.snapshot(store, notes)?,
                37..39 => self.read(store, notes)?,
                39..43 => self.consumers.save(store, &mut self.random, &mut |line| {
                    notes.say(line);
                })?,
                43..46 => self
                    .consumers
                    .commit(store, &mut self.random, &mut |line| {
                        notes.say(line);
                    })?,
                46 => self.supersede(store, notes)?,
                _ => store.drain()?,
            }
        }
        Ok(())
    }

    /// Appends to the shared stream and one of its own until done.
    fn alone(mut self, store: &SledStore, notes: &Notes, steps: u64) -> Result<(), Error> {
        for step in 0..steps {
            let to = if step % 3 == 0 { SHARED } else { "alone" };
            let durability = self.durability();
            let part = self.part(to, 2, durability);
            let receipt = store.blocking().append(part)?;
            notes.acknowledged(&[receipt], durability);
        }
        Ok(())
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

    fn append(
        &mut self,
        store: &SledStore,
        notes: &Notes,
        streams: u64,
        most: usize,
    ) -> Result<(), Error> {
        let durability = self.durability();
        let first = self.random.next() % STREAMS;
        let parts: Vec<_> = (first..first + streams)
            .map(|of| {
                let events = 1 + self.random.below(most);
                self.part(&(of % STREAMS).to_string(), events, durability)
            })
            .collect();
        let receipts = store.blocking().append_streams(parts.clone())?;
        notes.acknowledged(&receipts, durability);
        if durability == Durability::Process {
            self.unsynced = Some(parts);
        }
        Ok(())
    }

    /// The newest events of a stream give way to another origin's and to some of its own.
    fn supersede(&mut self, store: &SledStore, notes: &Notes) -> Result<(), Error> {
        let name = (self.random.next() % STREAMS).to_string();
        let Some(head) = store.blocking().head(&stream(&name))? else {
            return Ok(());
        };
        let gone = (self.random.below(5) as u64).min(head.sequence);
        let birth = Birth {
            origin: Uuid::from_u128(1),
            epoch: Uuid::from_u128(2),
            position: head.sequence,
            recorded_time: Timestamp::from_micros(3),
        };
        let (adopted, reissued) = (self.random.below(3), self.random.below(3));
        let adopted = self.part(&name, adopted, Durability::Power).events;
        let adopted = adopted.into_iter().map(|event| event.with_birth(birth));
        let own = self.part(&name, reissued, Durability::Power).events;
        let what = Supersession::new(stream(&name), head, head.sequence + 1 - gone)
            .with_adopted(adopted.collect())
            .with_reissued(own);
        let receipt = store.blocking().supersede(what)?;
        notes.acknowledged(&[receipt], Durability::Power);
        // Of what gave way nothing is appended again.
        self.unsynced = None;
        Ok(())
    }

    /// The same again, but this time it must survive a power cut.
    fn retry(&mut self, store: &SledStore, notes: &Notes) -> Result<(), Error> {
        let Some(mut parts) = self.unsynced.take() else {
            return Ok(());
        };
        for part in &mut parts {
            part.durability = Some(Durability::Power);
        }
        let receipts = store.blocking().append_streams(parts)?;
        assert_eq!(receipts[0].outcome, AppendOutcome::AlreadyAppended);
        notes.acknowledged(&receipts, Durability::Power);
        Ok(())
    }

    fn snapshot(&mut self, store: &SledStore, notes: &Notes) -> Result<(), Error> {
        let stream = stream(&(self.random.next() % STREAMS).to_string());
        let newest = StreamQuery::new(stream.clone()).backward().limit(1);
        let Some(event) = store.blocking().read_stream(newest).next() else {
            return Ok(());
        };
        let event = event?;
        let taken = SnapshotEnvelope {
            stream,
            sequence: event.sequence,
            event_id: event.event_id,
            revision: 1,
            content_type: ContentType::Bytes,
            taken_time: event.recorded_time,
            state: snapshot_state(event.event_id, self.random.below(9_000)),
        };
        store.blocking().persist_snapshot(taken)?;
        // It rests on its event, which therefore is there for good.
        notes.durable(event.position.unwrap());
        Ok(())
    }

    fn read(&mut self, store: &SledStore, notes: &Notes) -> Result<(), Error> {
        let stream = stream(&(self.random.next() % STREAMS).to_string());
        let newest = StreamQuery::new(stream).backward().limit(5);
        for shown in store.blocking().read_stream(newest) {
            shown_to_somebody(&shown?, notes);
        }
        Ok(())
    }
}

fn follow(store: &SledStore, notes: &Notes) {
    for shown in store.blocking().subscribe(Subscribe::All { after: 0 }) {
        let Ok(shown) = shown else { return };
        shown_to_somebody(&shown, notes);
        if &*shown.event_type == LAST && shown.position == Some(store.blocking().last_position()) {
            return;
        }
    }
}

/// What is shown is as durable as was asked.
fn shown_to_somebody(event: &EventEnvelope, notes: &Notes) {
    if &*event.event_type != PROCESS {
        notes.durable(event.position.unwrap());
    }
}
