//! Which events of a log are held back by their origin, and not for others to see.

use std::collections::BTreeMap;

use tidelog_backends::wire::ParkedRow;
use tidelog_core::StreamId;

/// Ranges that were parked, resolved or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hidden(BTreeMap<StreamId, Vec<Range>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first_position: u64,
    /// The first position that is not in it.
    until: u64,
    first_sequence: u64,
    is_open: bool,
}

/// How an event of a log is for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    Seen,
    /// It gave way to others before anybody saw it.
    Never,
    /// What becomes of it is not decided: the parked range that begins at this position is open.
    Later(u64),
}

impl Hidden {
    /// What these rows say, each with the last position of its epoch.
    pub(super) fn of(rows: &[(ParkedRow, u64)]) -> Self {
        let mut hidden = Self::default();
        for (row, last) in rows {
            hidden.add(row, *last);
        }
        hidden
    }

    /// Adds what an epoch has parked, whose log is the one in question up to position `last`.
    ///
    /// Older epochs come first: each one takes over what its parent has parked and holds still, and what
    /// becomes of it is said under the newest. What an older one holds otherwise is of a copy that
    /// lives on, or lived on for a while.
    pub(super) fn add(&mut self, row: &ParkedRow, last: u64) {
        let is_of_this_log = row.until_position.is_some_and(|until| until <= last);
        if last < u64::MAX && !is_of_this_log {
            return;
        }
        let until = row.until_position.unwrap_or(u64::MAX);
        let range = Range {
            first_position: row.key.first_position,
            until: until.min(last.saturating_add(1)),
            first_sequence: row.first_sequence,
            is_open: row.until_position.is_none(),
        };
        let ranges = self.0.entry(row.key.stream.clone()).or_default();
        let known = ranges
            .iter_mut()
            .find(|known| known.first_position == range.first_position);
        match known {
            Some(known) => *known = range,
            None => ranges.push(range),
        }
    }

    /// Whether this event is seen.
    pub(super) fn sight(&self, stream: &StreamId, sequence: u64, position: u64) -> Sight {
        let ranges = self.0.get(stream).into_iter().flatten();
        let mut sight = Sight::Seen;
        for range in ranges {
            let first = range.first_position;
            if sequence < range.first_sequence || !(first..range.until).contains(&position) {
                continue;
            }
            match sight {
                _ if !range.is_open => return Sight::Never,
                Sight::Later(known) if known <= first => {}
                _ => sight = Sight::Later(first),
            }
        }
        sight
    }

    /// Whether this event is held back.
    pub(super) fn hides(&self, stream: &StreamId, sequence: u64, position: u64) -> bool {
        self.sight(stream, sequence, position) != Sight::Seen
    }

    /// The first position that the parked range beginning at `first_position` does not hold back, and
    /// its first sequence; `None` when it is open, or not known.
    pub(super) fn resolved(&self, stream: &StreamId, first_position: u64) -> Option<(u64, u64)> {
        let mut ranges = self.0.get(stream)?.iter();
        let range = ranges.find(|range| range.first_position == first_position)?;
        (!range.is_open).then_some((range.until, range.first_sequence))
    }

    /// Whether anything is known of the parked range that begins at `first_position`.
    pub(super) fn knows(&self, stream: &StreamId, first_position: u64) -> bool {
        let mut ranges = self.0.get(stream).into_iter().flatten();
        ranges.any(|range| range.first_position == first_position)
    }

    /// The first sequence of the stream that is held back at its end; `None` when none is.
    pub(super) fn first_of(&self, stream: &StreamId) -> Option<u64> {
        let ranges = self.0.get(stream)?.iter();
        let open = ranges.filter(|range| range.until == u64::MAX);
        open.map(|range| range.first_sequence).min()
    }

    /// Whether something is held back of which it is not decided what becomes of it.
    pub(super) fn has_open(&self) -> bool {
        self.0.values().flatten().any(|range| range.is_open)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use tidelog_backends::wire::ParkedKey;
    use tidelog_core::EventId;

    use super::super::test_log::{id, stream};
    use super::*;

    fn row(epoch: u8, first_position: u64, until_position: Option<u64>) -> ParkedRow {
        ParkedRow {
            key: ParkedKey {
                origin: id(1),
                epoch: id(epoch),
                stream: stream("a"),
                first_position,
            },
            first_sequence: 3,
            until_position,
            reason: "diverged".into(),
            local_event: EventId::from_bytes([1; 16]),
            remote: None,
        }
    }

    #[test]
    fn what_is_open_may_come_what_gave_way_never_and_what_was_accepted_is_seen() {
        let a = stream("a");
        let sights = |until| {
            let hidden = Hidden::of(&[(row(1, 10, until), u64::MAX)]);
            [9, 10, 19, 20].map(|position| hidden.sight(&a, 5, position))
        };
        let (seen, later, never) = (Sight::Seen, Sight::Later(10), Sight::Never);
        assert_eq!(sights(None), [seen, later, later, later]);
        assert_eq!(sights(Some(20)), [seen, never, never, seen]);
        assert_eq!(sights(Some(10)), [seen; 4]);
        let open = Hidden::of(&[(row(1, 10, None), u64::MAX)]);
        assert_eq!(open.sight(&a, 2, 15), seen, "before what is parked");
        assert_eq!(open.sight(&stream("b"), 5, 15), seen, "another stream");
    }

    #[test]
    fn the_newest_epoch_says_what_became_of_what_an_older_one_has_parked() {
        let rows = |newer| [(row(1, 10, None), 14), (row(2, 10, newer), u64::MAX)];
        let a = stream("a");
        assert_eq!(Hidden::of(&rows(None)).sight(&a, 5, 12), Sight::Later(10));
        assert_eq!(Hidden::of(&rows(Some(20))).sight(&a, 5, 12), Sight::Never);
        let unknown = Hidden::of(&rows(None)[..1]);
        assert_eq!(unknown.sight(&a, 5, 12), Sight::Seen, "of another copy");
        assert!(!unknown.knows(&a, 10));
        let later = Hidden::of(&[(row(1, 10, Some(16)), 14)]);
        assert_eq!(later.sight(&a, 5, 12), Sight::Seen, "resolved by another");
        let accepted = Hidden::of(&rows(Some(10)));
        assert_eq!(accepted.sight(&a, 5, 12), Sight::Seen);
        assert!(!accepted.has_open());
        assert_eq!(accepted.resolved(&a, 10), Some((10, 3)));
    }
}
