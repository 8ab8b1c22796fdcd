//! Timers: what is pending, as a projection of the events that set and clear them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::envelope::EventEnvelope;
use crate::failure::HandlerError;
use crate::id::EventId;
use crate::metadata::CORRELATION_ID;
use crate::process::{ProcessManager, TimerChange};
use crate::projection::{Lookup, Projection, Rows};
use crate::stream_id::StreamId;

/// The pending timers of a manager: a row for each stream that has one. Its name is
/// `timers.<manager>`.
///
/// A timer is decided in an event and nowhere else, so the log is its home: nothing has to be kept
/// in step with it, and what is lost here is made again.
#[derive(Debug)]
pub struct Timers<M>(Arc<M>);

/// One pending timer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// When it is due.
    pub due: Timestamp,
    /// The event that set it.
    pub set_by: EventId,
    /// That event's `correlation-id`.
    pub correlation_id: Option<String>,
}

impl<M: ProcessManager> Timers<M> {
    /// Longest name of a manager: what is left of the 48 bytes of a listener's.
    const MAX_NAME_BYTES: usize = 45;
    const PREFIX: [u8; 7] = *b"timers.";

    /// The timers of `manager`.
    pub fn of(manager: Arc<M>) -> Self {
        Self(manager)
    }

    const NAME_BYTES: [u8; 52] = {
        let name = M::NAME.as_bytes();
        assert!(
            name.len() <= Self::MAX_NAME_BYTES,
            "the NAME of a process manager has at most 45 bytes"
        );
        let mut bytes = [0; 52];
        let mut at = 0;
        while at < Self::PREFIX.len() {
            bytes[at] = Self::PREFIX[at];
            at += 1;
        }
        while at < Self::PREFIX.len() + name.len() {
            bytes[at] = name[at - Self::PREFIX.len()];
            at += 1;
        }
        bytes
    };
}

impl<M: ProcessManager> Projection for Timers<M> {
    const NAME: &'static str = {
        let bytes: &'static [u8; 52] = &Self::NAME_BYTES;
        let (name, _) = bytes.split_at(Self::PREFIX.len() + M::NAME.len());
        match std::str::from_utf8(name) {
            Ok(name) => name,
            Err(_) => unreachable!(),
        }
    };
    const VERSION: u32 = M::TIMERS_VERSION;
    type Key = StreamId;
    type Row = Timer;

    fn apply(
        &self,
        event: &EventEnvelope,
        rows: &mut Rows<'_, StreamId, Timer>,
    ) -> Result<(), HandlerError> {
        match self.0.timer(event)? {
            TimerChange::Keep => {}
            TimerChange::Clear => rows.remove(&event.stream),
            TimerChange::Set(due) => {
                let correlation_id = event.metadata.get(CORRELATION_ID);
                rows.put(
                    event.stream.clone(),
                    Timer {
                        due,
                        set_by: event.event_id,
                        correlation_id: correlation_id.map(str::to_owned),
                    },
                );
            }
        }
        Ok(())
    }

    fn lookups() -> Vec<Lookup<StreamId, Timer>> {
        vec![Lookup::by("due", |_, timer: &Timer| Some(timer.due))]
    }
}
