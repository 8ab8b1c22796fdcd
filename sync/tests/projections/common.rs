//! A small domain: amounts added to sums, and a projection of them that fails on demand.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tidelog::{
    AppendBatch, AppendReceipt, ContentType, EventEnvelope, EventStore, ExpectedVersion,
    HandlerError, Lookup, NewEvent, Projection, Rows, StreamId,
};

pub fn stream(id: &str) -> StreamId {
    StreamId::new("Sum", id).unwrap()
}

pub fn added(amount: u64) -> NewEvent {
    NewEvent::new("Added", 1, ContentType::Json, amount.to_string())
}

/// Appends one event to `Sum/<id>`; its position.
pub fn add(store: &impl EventStore, id: &str, amount: u64) -> u64 {
    append(store, id, vec![added(amount)])
        .last_position
        .unwrap()
}

pub fn append(store: &impl EventStore, id: &str, events: Vec<NewEvent>) -> AppendReceipt {
    let batch = AppendBatch::new(stream(id), ExpectedVersion::Any, events);
    pollster::block_on(store.append(batch)).unwrap()
}

pub fn amount(event: &EventEnvelope) -> Result<u64, HandlerError> {
    Ok(std::str::from_utf8(&event.event)?.parse()?)
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    pub total: u64,
    pub events: u64,
}

/// What a test does to the projections that it has handed this to.
#[derive(Clone, Default)]
pub struct Lever(Arc<Held>);

#[derive(Default)]
struct Held {
    /// How often an amount fails from now on, and whether for good.
    failing: Mutex<HashMap<u64, (u32, bool)>>,
    calls: AtomicU64,
}

impl Lever {
    /// Events of this amount fail so often.
    pub fn fail(&self, amount: u64, times: u32) {
        self.0.failing.lock().insert(amount, (times, false));
    }

    /// Events of this amount fail until they are mended.
    pub fn fail_permanently(&self, amount: u64) {
        self.0.failing.lock().insert(amount, (u32::MAX, true));
    }

    pub fn mend(&self, amount: u64) {
        self.0.failing.lock().remove(&amount);
    }

    /// How often a projection was called.
    pub fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::SeqCst)
    }

    fn pull(&self, amount: u64) -> Result<(), HandlerError> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        let mut failing = self.0.failing.lock();
        match failing.get_mut(&amount) {
            Some((times, permanent)) if *times > 0 => {
                *times -= 1;
                let reason = format!("no {amount}s today");
                Err(if *permanent {
                    HandlerError::permanent(reason)
                } else {
                    HandlerError::passing(reason)
                })
            }
            _ => Ok(()),
        }
    }
}

/// Sums by id, found by their total.
#[derive(Clone, Default)]
pub struct Sums(pub Lever);

impl Projection for Sums {
    const NAME: &'static str = "sums";
    type Key = String;
    type Row = Sum;

    fn apply(
        &self,
        event: &EventEnvelope,
        rows: &mut Rows<'_, String, Sum>,
    ) -> Result<(), HandlerError> {
        take_in(&self.0, event, rows)
    }

    fn lookups() -> Vec<Lookup<String, Sum>> {
        vec![Lookup::by("total", |_, sum: &Sum| Some(sum.total))]
    }
}

pub fn take_in(
    lever: &Lever,
    event: &EventEnvelope,
    rows: &mut Rows<'_, String, Sum>,
) -> Result<(), HandlerError> {
    let amount = amount(event)?;
    rows.update(event.aggregate_id().to_owned(), |sum| {
        sum.total += amount;
        sum.events += 1;
    })?;
    lever.pull(amount)
}

/// How many events each aggregate type has.
pub struct Counts;

impl Projection for Counts {
    const NAME: &'static str = "counts";
    type Key = String;
    type Row = u64;

    fn apply(
        &self,
        event: &EventEnvelope,
        rows: &mut Rows<'_, String, u64>,
    ) -> Result<(), HandlerError> {
        rows.update(event.aggregate_type().to_owned(), |count| *count += 1)
    }
}
