//! Names of streams and event types, shared by the envelopes of a page.

use std::sync::Arc;

use bytes::Bytes;
use tidelog_core::{EventEnvelope, StreamId};

use super::{Parsed, stream_of};

/// Finds again the names met in this page, so that decoding one allocates only for new ones. Not to
/// be kept for the next page: that one is decoded while another thread drops this one, and the two
/// must not count in the same place.
pub(crate) struct Names {
    /// Names that a `StreamId` does not hold itself: one a slot, by hash; doubled while most names
    /// miss, so that a short read stays small.
    streams: Vec<Option<StreamId>>,
    misses: usize,
    /// A stream of the aggregate type met last.
    sibling: Option<StreamId>,
    /// The event types met, the last one at the end.
    types: Vec<Arc<str>>,
}

const LEAST_SLOTS: usize = 64;
const MOST_SLOTS: usize = 8_192;
const TYPE_SLOTS: usize = 32;

impl Names {
    pub(crate) fn new() -> Self {
        Self {
            streams: Vec::new(),
            misses: 0,
            sibling: None,
            types: Vec::new(),
        }
    }

    /// The record as an envelope, with its names shared where they were met before.
    pub(crate) fn envelope(&mut self, parsed: Parsed<'_>, page: &Bytes) -> Option<EventEnvelope> {
        let mut one = Vec::with_capacity(1);
        self.push(parsed, page, &mut one)?;
        one.pop()
    }

    /// The same, added to `envelopes`, which is left as it was when the record cannot be read.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "the fields stay in registers")]
    pub(crate) fn push(
        &mut self,
        parsed: Parsed<'_>,
        page: &Bytes,
        envelopes: &mut Vec<EventEnvelope>,
    ) -> Option<()> {
        if self.types.last().map(|known| known.as_bytes()) != Some(parsed.event_type) {
            self.meet_type(parsed.event_type)?;
        }
        let event_type = self.types.last()?;
        let (aggregate_type, aggregate_id) = (parsed.aggregate_type, parsed.aggregate_id);
        if aggregate_type.len() + 1 + aggregate_id.len() > StreamId::MAX_INLINE_BYTES {
            let streams = &mut self.streams;
            let stream = shared_stream(streams, &mut self.misses, aggregate_type, aggregate_id)?;
            return parsed.push_to(envelopes, page, &stream, event_type);
        }
        let sibling = match &self.sibling {
            Some(sibling) if sibling.aggregate_type().as_bytes() == aggregate_type => sibling,
            _ => {
                self.sibling = stream_of(aggregate_type, aggregate_id);
                self.sibling.as_ref()?
            }
        };
        let aggregate_id = std::str::from_utf8(aggregate_id).ok()?;
        parsed.push_to(envelopes, page, sibling, event_type)?;
        let renamed = envelopes.last_mut()?.stream.set_aggregate_id(aggregate_id);
        if renamed.is_err() {
            envelopes.pop();
            return None;
        }
        Some(())
    }

    /// Puts the event type at the end; `None` when it is not text.
    #[cold]
    fn meet_type(&mut self, event_type: &[u8]) -> Option<()> {
        let mut known = self.types.iter();
        if let Some(at) = known.position(|known| known.as_bytes() == event_type) {
            let last = self.types.len() - 1;
            self.types.swap(at, last);
            return Some(());
        }
        let fresh: Arc<str> = std::str::from_utf8(event_type).ok()?.into();
        if self.types.len() == TYPE_SLOTS {
            self.types.clear();
        }
        self.types.push(fresh);
        Some(())
    }

    /// The event type, shared with earlier records of the same type; `None` when it is not text.
    #[inline]
    pub(crate) fn event_type(&mut self, event_type: &[u8]) -> Option<&Arc<str>> {
        if self.types.last().map(|known| known.as_bytes()) != Some(event_type) {
            self.meet_type(event_type)?;
        }
        self.types.last()
    }
}

#[cold]
fn shared_stream(
    streams: &mut Vec<Option<StreamId>>,
    misses: &mut usize,
    aggregate_type: &[u8],
    aggregate_id: &[u8],
) -> Option<StreamId> {
    if *misses >= streams.len() && streams.len() < MOST_SLOTS {
        let slots = (streams.len() * 2).max(LEAST_SLOTS);
        *streams = vec![None; slots];
        *misses = 0;
    }
    let hash = crc32c::crc32c(aggregate_id) as usize;
    let slot = hash % streams.len().max(1);
    let slot = streams.get_mut(slot)?;
    let is_known = |known: &&StreamId| {
        aggregate_type == known.aggregate_type().as_bytes()
            && aggregate_id == known.aggregate_id().as_bytes()
    };
    if let Some(known) = slot.as_ref().filter(is_known) {
        return Some(known.clone());
    }
    *misses += 1;
    *slot = stream_of(aggregate_type, aggregate_id);
    slot.clone()
}
