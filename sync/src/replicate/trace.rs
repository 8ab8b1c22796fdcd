//! Which trace an event is of, for the spans in which it is sent to servers.

use tidelog_core::{EventEnvelope, TRACE_ID, TRACEPARENT, TraceParent};

/// The trace id that the event's metadata name, alone or within the whole of its `traceparent`.
pub(crate) fn trace_of(event: &EventEnvelope) -> Option<String> {
    let named = event.metadata.get(TRACE_ID).map(str::to_owned);
    named.or_else(|| {
        let parent: TraceParent = event.metadata.get(TRACEPARENT)?.parse().ok()?;
        Some(parent.trace_id().to_owned())
    })
}
