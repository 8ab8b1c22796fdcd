//! A small store for the models to work on: the product's own, with segments of two commits or
//! three, room for one append in the queue, and pages of the index in memory.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;
use tidelog_core::{
    AppendBatch, AppendReceipt, ContentType, Durability, Error, EventEnvelope, EventId,
    ExpectedVersion, IdSource, ManualClock, NewEvent, StreamId, Timestamp,
};
use uuid::Uuid;

use crate::sled::SledStore;
use crate::sled::index::Engine;
use crate::sled::lock::Lock;
use crate::sled::log_pages::LogPages;
use crate::sled::open::Opening;
use crate::sled::read_ahead::ReadAhead;
use crate::sled::shared::Shared;

/// The first half is a segment's header.
const SEGMENT: u64 = 8 << 10;

/// A store of one execution, and what is left of it afterwards.
pub struct Scene {
    dir: TempDir,
    store: Option<SledStore>,
    pub shared: Arc<Shared>,
}

impl Scene {
    /// `queue_bytes` may wait for the writer at once.
    pub fn new(queue_bytes: usize) -> Self {
        // In memory where there is such a place: thousands of stores are made.
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() {
            tempfile::tempdir_in(memory).unwrap()
        } else {
            tempfile::tempdir().unwrap()
        };
        let mut options = SledStore::builder(dir.path())
            .durability(Durability::Process)
            .clock(Arc::new(ManualClock::default()))
            .ids(Arc::new(Counting::default()));
        options.engine = Engine::Memory;
        options.segment_size = SEGMENT;
        options.first_segment = SEGMENT;
        // The queue gets a sixth.
        options.memory_budget = 8 * queue_bytes;
        let store = SledStore::open_with(&options, Opening::Store).unwrap();
        let shared = Arc::clone(store.shared());
        Self {
            dir,
            store: Some(store),
            shared,
        }
    }

    /// One more handle.
    pub fn handle(&self) -> SledStore {
        self.store.clone().unwrap()
    }

    /// Gives up the handle that the scene has kept.
    pub fn drop_handle(&mut self) {
        self.store = None;
    }

    /// Waits until whoever closes the store is done, on whatever thread.
    pub fn wait_until_closed(&self) {
        while Lock::take(self.dir.path(), Timestamp::default()).is_err() {
            shuttle::thread::yield_now();
        }
    }

    /// All that stands in the log, whether the store is closed or not.
    pub fn log(&self) -> Vec<EventEnvelope> {
        let last = self.shared.live.last();
        let pages = LogPages::new(Arc::clone(&self.shared.log), 1, last);
        let mut pages = ReadAhead::new(pages, self.shared.workers.clone());
        let mut found = Vec::new();
        while let Some(page) = pages.next_page().unwrap() {
            found.extend(page);
        }
        let positions = found.iter().filter_map(|envelope| envelope.position);
        assert!(positions.eq(1..=last), "positions are dense");
        found
    }
}

/// Ids that are the same in each execution, so that a schedule can be repeated.
#[derive(Default)]
struct Counting(AtomicU64);

impl IdSource for Counting {
    fn next_uuid(&self) -> Uuid {
        let number = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        Uuid::from_u64_pair(number, 0x8080 << 48)
    }
}

pub fn id(n: u64) -> EventId {
    EventId::from_bytes((u128::from(n) << 64 | 0x0705_8080).to_be_bytes())
}

pub fn stream(name: &str) -> StreamId {
    StreamId::new("T", name).unwrap()
}

/// One event, told by `n`, whatever stands in the stream.
pub fn batch(to: &str, n: u64, payload: usize) -> AppendBatch {
    let payload = vec![7; payload];
    let event = NewEvent::new("E", 1, ContentType::Bytes, payload).with_id(id(n));
    AppendBatch::new(stream(to), ExpectedVersion::Any, vec![event])
}

/// What an append was answered.
pub type Answer = Result<AppendReceipt, Error>;

/// Checks what was answered, by the events' numbers, against the log: each acknowledged event stands
/// where its receipt says and nowhere else; of the others none does, since all that can stop an
/// append here is the closing.
pub fn check_answers(log: &[EventEnvelope], answers: &[(u64, Answer)]) {
    for (n, answer) in answers {
        let found: Vec<_> = log
            .iter()
            .filter(|envelope| envelope.event_id == id(*n))
            .collect();
        match answer {
            Ok(receipt) => {
                assert_eq!(found.len(), 1, "event {n} was acknowledged");
                assert_eq!(found[0].position, receipt.first_position, "event {n}");
                assert_eq!(found[0].sequence, receipt.first_sequence, "event {n}");
            }
            Err(Error::Closed) => assert!(found.is_empty(), "event {n} was refused"),
            Err(error) => panic!("event {n}: {error}"),
        }
    }
}
