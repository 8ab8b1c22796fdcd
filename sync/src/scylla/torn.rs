//! Appends to several streams: when one of their parts is parked, so are those not accepted yet.

use std::collections::BTreeMap;

use tidelog_core::{EventId, StreamId};

/// Appends to several streams that are on their way, by their first position.
#[derive(Default)]
pub(super) struct Several(BTreeMap<u64, Parts>);

#[derive(Default)]
struct Parts {
    parts: BTreeMap<StreamId, Part>,
    torn_by: Option<StreamId>,
}

/// What one append wrote to one stream.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub first_sequence: u64,
    pub first_position: u64,
    pub first_event: EventId,
    /// How many of its events are not settled.
    left: usize,
    standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Waiting,
    Accepted,
    Parked,
}

/// The parts of a torn append.
#[derive(Debug, Default)]
pub(super) struct TornParts {
    pub accepted: Vec<(StreamId, Part)>,
    pub waiting: Vec<(StreamId, Part)>,
}

impl Several {
    /// An event of such an append is taken.
    pub(super) fn take(&mut self, batch: u64, stream: &StreamId, event: (u64, u64, EventId)) {
        let (first_sequence, first_position, first_event) = event;
        let parts = &mut self.0.entry(batch).or_default().parts;
        let part = parts.entry(stream.clone()).or_insert(Part {
            first_sequence,
            first_position,
            first_event,
            left: 0,
            standing: Standing::Waiting,
        });
        part.left += 1;
    }

    /// The stream whose parking has torn this append, if one has.
    pub(super) fn torn_by(&self, batch: u64) -> Option<&StreamId> {
        self.0.get(&batch)?.torn_by.as_ref()
    }

    /// An event of `stream` stands there; its part, when that is to be noted since the append is torn.
    pub(super) fn accepted(&mut self, batch: u64, stream: &StreamId) -> Option<Part> {
        let parts = self.0.get_mut(&batch)?;
        let part = parts.parts.get_mut(stream)?;
        let is_news = part.standing == Standing::Waiting;
        if is_news {
            part.standing = Standing::Accepted;
        }
        let note = (is_news && parts.torn_by.is_some()).then(|| part.clone());
        self.left(batch, stream);
        note
    }

    /// An event of `stream` is superseded: that tears nothing.
    pub(super) fn superseded(&mut self, batch: u64, stream: &StreamId) {
        if let Some(part) = self.part(batch, stream) {
            part.standing = Standing::Parked;
        }
        self.left(batch, stream);
    }

    /// `stream` is parked at or before this append's part in it; the parts that stand there already, and
    /// those that are on their way.
    pub(super) fn tear(&mut self, batch: u64, stream: &StreamId) -> TornParts {
        let mut torn = TornParts::default();
        let Some(parts) = self.0.get_mut(&batch) else {
            return torn;
        };
        if let Some(part) = parts.parts.get_mut(stream)
            && part.standing == Standing::Waiting
        {
            part.standing = Standing::Parked;
        }
        if parts.torn_by.is_some() {
            return torn;
        }
        parts.torn_by = Some(stream.clone());
        for (sibling, part) in &parts.parts {
            let of = match part.standing {
                Standing::Parked => continue,
                Standing::Accepted => &mut torn.accepted,
                Standing::Waiting => &mut torn.waiting,
            };
            of.push((sibling.clone(), part.clone()));
        }
        torn
    }

    /// A held event of `stream` is settled.
    pub(super) fn held(&mut self, batch: u64, stream: &StreamId) {
        self.left(batch, stream);
    }

    fn part(&mut self, batch: u64, stream: &StreamId) -> Option<&mut Part> {
        self.0.get_mut(&batch)?.parts.get_mut(stream)
    }

    fn left(&mut self, batch: u64, stream: &StreamId) {
        if let Some(part) = self.part(batch, stream) {
            part.left = part.left.saturating_sub(1);
        }
        let is_over = self
            .0
            .get(&batch)
            .is_some_and(|parts| parts.parts.values().all(|part| part.left == 0));
        if is_over {
            self.0.remove(&batch);
        }
    }
}
