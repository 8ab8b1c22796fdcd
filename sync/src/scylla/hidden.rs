//! Which events of a log are held back by their origin, and not for others to see.

use std::collections::BTreeMap;

use tidelog_backends::wire::ParkedRow;
use tidelog_core::StreamId;

/// Ranges that were parked, resolved or not: what was held in one is never seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hidden(BTreeMap<StreamId, Vec<Range>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first_position: u64,
    /// The first position that is not in it.
    until: u64,
    first_sequence: u64,
}

impl Hidden {
    /// Adds what an epoch has parked, whose log is the one in question up to position `last`.
    pub(super) fn add(&mut self, row: &ParkedRow, last: u64) {
        let until = row.until_position.unwrap_or(u64::MAX);
        let range = Range {
            first_position: row.key.first_position,
            until: until.min(last.saturating_add(1)),
            first_sequence: row.first_sequence,
        };
        if range.first_position < range.until {
            let ranges = self.0.entry(row.key.stream.clone()).or_default();
            if !ranges.contains(&range) {
                ranges.push(range);
            }
        }
    }

    /// Whether this event is held back.
    pub(super) fn hides(&self, stream: &StreamId, sequence: u64, position: u64) -> bool {
        self.0.get(stream).is_some_and(|ranges| {
            ranges.iter().any(|range| {
                (range.first_position..range.until).contains(&position)
                    && sequence >= range.first_sequence
            })
        })
    }

    /// The first sequence of the stream that is held back at its end; `None` when none is.
    pub(super) fn first_of(&self, stream: &StreamId) -> Option<u64> {
        let ranges = self.0.get(stream)?.iter();
        let open = ranges.filter(|range| range.until == u64::MAX);
        open.map(|range| range.first_sequence).min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
