//! The child whose disk fails: it appends, seals, merges, keeps snapshots, closes and opens again
//! until all its events are in the log, and sees to it that each failure is one it may meet.

use std::collections::BTreeSet;
use std::path::Path;

use tidelog_backends::SledStore;
use tidelog_core::*;

use crate::shim::say;
use crate::tools::{id, read_all, read_stream, stream};
use crate::workload::{builder, snapshot_state};

/// Appends that make the whole.
const APPENDS: u64 = 130;
const STREAMS: u64 = 5;
/// A store that is refused its writes again and again never gets through.
const MOST_LIVES: u64 = 12;

/// The `n`th append, from 0: all of it follows from its number.
pub fn batch(n: u64) -> AppendBatch {
    let events = (0..events_in(n)).map(|index| {
        let number = first_of(n) + index;
        let mut payload = number.to_le_bytes().to_vec();
        payload.resize(8 + (number * 37 % 1_800) as usize, 7);
        NewEvent::new("Noted", 1, ContentType::Bytes, payload).with_id(id(number))
    });
    let events = events.collect();
    let durability = if n.is_multiple_of(3) {
        Durability::Process
    } else {
        Durability::Power
    };
    AppendBatch::new(
        stream(&(n % STREAMS).to_string()),
        ExpectedVersion::Any,
        events,
    )
    .with_durability(durability)
}

fn events_in(n: u64) -> u64 {
    1 + n * 7 % 5
}

/// Number of the first event of the `n`th append; the number is its position.
pub fn first_of(n: u64) -> u64 {
    // Five appends hold fifteen events.
    1 + n / 5 * 15 + (n - n % 5..n).map(events_in).sum::<u64>()
}

/// What the first `appends` appends put into the log.
fn expected(appends: u64) -> Vec<(EventId, StreamId)> {
    let events = (0..appends).flat_map(|n| {
        let batch = batch(n);
        let stream = batch.stream;
        let ids = batch.events.into_iter().map(|event| event.event_id);
        ids.map(move |id| (id, stream.clone())).collect::<Vec<_>>()
    });
    events.collect()
}

/// Everything must be there, whole, once.
pub fn check(dir: &Path) -> Result<(), String> {
    let store = builder(dir)
        .open()
        .map_err(|error| format!("opening: {error}"))?;
    let checked = is_prefix(&store, APPENDS);
    let verified = store
        .verify()
        .map_err(|error| format!("verifying: {error}"));
    store
        .close_blocking()
        .map_err(|error| format!("closing: {error}"))?;
    checked?;
    verified.map(drop)
}

/// There is room again: what was acknowledged is there, and all the rest can be appended.
pub fn go_on(dir: &Path, done: u64) -> Result<(), String> {
    let store = builder(dir)
        .open()
        .map_err(|error| format!("opening: {error}"))?;
    // The append that failed may have come through.
    is_prefix(&store, done).or_else(|wrong| is_prefix(&store, done + 1).map_err(|_| wrong))?;
    for n in done..APPENDS {
        let appended = store.blocking().append(batch(n));
        appended.map_err(|error| format!("appending: {error}"))?;
    }
    store
        .close_blocking()
        .map_err(|error| format!("closing: {error}"))?;
    check(dir)
}

/// Whether the log holds exactly the first `appends` appends.
pub fn is_prefix(store: &SledStore, appends: u64) -> Result<(), String> {
    let found = read_all(store).map_err(|error| format!("reading: {error}"))?;
    let seen: Vec<_> = found
        .iter()
        .map(|event| (event.event_id, event.stream.clone()))
        .collect();
    if seen == expected(appends) {
        return Ok(());
    }
    Err(format!(
        "{} events are there, not the {} of {appends} appends",
        seen.len(),
        first_of(appends) - 1
    ))
}

/// One run of the child; says what failed, and at the end that it is done.
pub struct Faulty<'a> {
    dir: &'a Path,
    /// Acknowledged so far.
    done: u64,
    /// Codes of the errors met.
    met: BTreeSet<String>,
    /// The disk stays full: opening may fail for good.
    full: bool,
}

pub fn run(dir: &Path, full: bool) {
    let mut faulty = Faulty {
        dir,
        done: 0,
        met: BTreeSet::new(),
        full,
    };
    let mut lives = 0;
    while faulty.done < APPENDS || lives < 3 {
        lives += 1;
        if lives > MOST_LIVES {
            assert!(full, "it never gets through: {:?}", faulty.met);
            break;
        }
        if !faulty.live(APPENDS * lives / 3) {
            break;
        }
    }
    let met: Vec<_> = faulty.met.into_iter().collect();
    say(&format!("done {} {}", faulty.done, met.join(",")));
}

impl Faulty<'_> {
    /// Opens the store, appends up to `until`, closes it. `false`: nothing more can be done.
    fn live(&mut self, until: u64) -> bool {
        let store = match builder(self.dir).open() {
            Ok(store) => store,
            Err(error) => {
                self.meet("open", &error);
                return !self.full;
            }
        };
        let mut refused = false;
        while self.done < until.min(APPENDS) && !refused {
            say(&format!("acknowledged {}", self.done));
            match store.blocking().append(batch(self.done)) {
                Ok(_) => self.done += 1,
                Err(error) => {
                    self.meet("append", &error);
                    refused = self.after_failure(&store);
                }
            }
            if self.done.is_multiple_of(20) {
                self.snapshot(&store);
            }
            // It takes as much room as all the rest.
            if self.done == APPENDS / 2
                && !self.full
                && let Err(error) = store.rebuild_index()
            {
                // Half an index answers nothing until the store is opened again.
                self.meet("rebuild", &error);
                self.meets("close", store.close_blocking());
                return true;
            }
        }
        self.reads(&store);
        self.meets("drain", store.drain());
        self.meets("verify", store.verify().map(drop));
        self.meets("close", store.close_blocking());
        if refused && self.full {
            self.reopen_while_full();
        }
        !(refused && self.full)
    }

    /// Opening takes room, so it may be refused; if not, everything can be read.
    fn reopen_while_full(&mut self) {
        match builder(self.dir).open() {
            Ok(store) => {
                let shown = is_prefix(&store, self.done);
                shown.or_else(|_| is_prefix(&store, self.done + 1)).unwrap();
                self.meets("close", store.close_blocking());
                self.met.insert("reopened while full".into());
            }
            Err(error) => self.meet("reopen", &error),
        }
    }

    fn meets(&mut self, doing: &str, result: Result<(), Error>) {
        if let Err(error) = result {
            self.meet(doing, &error);
        }
    }

    /// Nothing on the disk is damaged: only what the disk itself answers may be met.
    fn meet(&mut self, doing: &str, error: &Error) {
        let known = matches!(
            error,
            Error::Io { .. } | Error::Refused { .. } | Error::Engine { .. }
        );
        assert!(known, "{doing}: {} ({error})", error.code());
        self.met.insert(format!("{doing}:{}", error.code()));
    }

    /// Either nothing was written and appends go on, or all are refused until the store is reopened.
    fn after_failure(&mut self, store: &SledStore) -> bool {
        let refuses = store.info().is_ok_and(|info| info.refused.is_some());
        for durability in [Durability::Power, Durability::Process] {
            let again = batch(self.done).with_durability(durability);
            match store.blocking().append(again) {
                Ok(_) if !refuses => {
                    self.done += 1;
                    return false;
                }
                Err(Error::Refused { .. }) if refuses => {}
                other => panic!("refuses: {refuses}, but the next append is {other:?}"),
            }
        }
        // Even of what was acknowledged no retry is answered: it rests on what may be gone.
        if self.done > 0 {
            let retry = store.blocking().append(batch(self.done - 1));
            assert!(matches!(retry, Err(Error::Refused { .. })), "{retry:?}");
        }
        true
    }

    /// Reads go on, and show what was acknowledged and no more. The fault may hit one of them.
    fn reads(&mut self, store: &SledStore) {
        let tried = is_prefix(store, self.done);
        if tried.is_err() {
            is_prefix(store, self.done).unwrap();
            self.met.insert("read:once".into());
        }
        let events = expected(self.done);
        for n in 0..STREAMS {
            let stream = stream(&n.to_string());
            let of_stream = events.iter().filter(|(_, of)| *of == stream).count();
            let found = read_stream(store, &stream).or_else(|_| read_stream(store, &stream));
            assert_eq!(found.unwrap().len(), of_stream, "{stream}");
        }
    }

    fn snapshot(&mut self, store: &SledStore) {
        let stream = stream("1");
        let Ok(Some(head)) = store.blocking().head(&stream) else {
            return;
        };
        let taken = SnapshotEnvelope {
            stream,
            sequence: head.sequence,
            event_id: head.event_id,
            revision: 1,
            content_type: ContentType::Bytes,
            taken_time: Timestamp::default(),
            state: snapshot_state(head.event_id, 6_000),
        };
        let persisted = store.blocking().persist_snapshot(taken);
        self.meets("snapshot", persisted.map(drop));
    }
}
