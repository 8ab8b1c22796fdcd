//! Where steps come from, and what ids and metadata their commands get by that.

use std::fmt::Write;

use crate::clock::{Clock, Timestamp};
use crate::command::Context;
use crate::envelope::EventEnvelope;
use crate::error::Error;
use crate::id::{CommandId, EventId, IdSource};
use crate::metadata::{CAUSATION_ID, CORRELATION_ID, Metadata, TRACE_ID, TRACEPARENT};
use crate::stream_id::StreamId;

/// What a process manager's steps follow from: an event, or a timer that is due.
///
/// | step | command id |
/// |---|---|
/// | `i` of an event | `pm/<manager>/<event id>/<i>` |
/// | `i` of a timer | `pm/<manager>/timer/<32 hex digits of the stream's name>/<due, in µs>/<i>` |
/// | what records its outcome | the same with `/outcome` |
///
/// All events of these commands carry the causing event's id as `causation-id`, its
/// `correlation-id` (its own id when it has none), and its `trace-id` and `traceparent`.
#[derive(Clone, Debug)]
pub struct StepOrigin {
    manager: Box<str>,
    prefix: String,
    stream: StreamId,
    metadata: Metadata,
    is_timer: bool,
}

impl StepOrigin {
    /// Steps that `manager` answers `event` with.
    pub fn event(manager: &str, event: &EventEnvelope) -> Self {
        let id = event.event_id.to_string();
        let correlation = event.metadata.get(CORRELATION_ID).unwrap_or(&id);
        let mut metadata = Metadata::new()
            .with(CORRELATION_ID, correlation)
            .with(CAUSATION_ID, &id);
        for key in [TRACE_ID, TRACEPARENT] {
            if let Some(value) = event.metadata.get(key) {
                metadata.insert(key, value);
            }
        }
        Self {
            manager: manager.into(),
            prefix: format!("pm/{manager}/{id}"),
            stream: event.stream.clone(),
            metadata,
            is_timer: false,
        }
    }

    /// Steps that `manager` answers with to the timer of `stream` that is due at `due`, and was set
    /// by the event `set_by`, of this correlation.
    pub fn timer(
        manager: &str,
        stream: &StreamId,
        due: Timestamp,
        set_by: EventId,
        correlation_id: Option<&str>,
    ) -> Self {
        let set_by = set_by.to_string();
        let mut name = String::with_capacity(32);
        let hash = blake3::hash(stream.as_str().as_bytes());
        for byte in hash.as_bytes().iter().take(16) {
            // Writing to a text cannot fail.
            let _ = write!(name, "{byte:02x}");
        }
        Self {
            manager: manager.into(),
            prefix: format!("pm/{manager}/timer/{name}/{}", due.as_micros()),
            stream: stream.clone(),
            metadata: Metadata::new()
                .with(CORRELATION_ID, correlation_id.unwrap_or(&set_by))
                .with(CAUSATION_ID, &set_by),
            is_timer: true,
        }
    }

    /// Which manager.
    pub fn manager(&self) -> &str {
        &self.manager
    }

    /// The process's stream: that of the event, or the one whose timer is due.
    pub fn stream(&self) -> &StreamId {
        &self.stream
    }

    pub(super) fn is_timer(&self) -> bool {
        self.is_timer
    }

    pub(super) fn command_id(&self, index: usize) -> Result<CommandId, Error> {
        CommandId::new(format!("{}/{index}", self.prefix))
    }

    pub(super) fn outcome_id(&self, index: usize) -> Result<CommandId, Error> {
        CommandId::new(format!("{}/{index}/outcome", self.prefix))
    }

    pub(super) fn context(
        &self,
        command_id: CommandId,
        clock: &dyn Clock,
        ids: &dyn IdSource,
    ) -> Context {
        let context = Context::at(clock, ids).with_command_id(command_id);
        self.metadata.iter().fold(context, |context, (key, value)| {
            context.with_metadata(key, value)
        })
    }
}
