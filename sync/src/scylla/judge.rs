//! What a stream at the server, row by row, says about events that were to be written there.

use std::collections::BTreeMap;

use tidelog_backends::wire::IdRow;
use tidelog_core::EventId;
use uuid::Uuid;

/// A sequence and the event that stands there.
pub(crate) type Place = (u64, EventId);

/// Events that are to be written, as they stand in the log here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mine<'a> {
    /// Whose log it is.
    pub origin: Uuid,
    /// The event before them; `None` when they begin the stream.
    pub before: Option<Place>,
    /// The events, sequences rising; at least one.
    pub events: &'a [Place],
}

/// What was read of the stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    /// Its head, of the bucket that the events go into, or of the last one before it that has any.
    pub head: Option<Place>,
    /// Whose event the head is; `None` when a direct client's, or when its row is not there.
    pub head_origin: Option<Uuid>,
    /// The event here at the head's sequence, if there is one.
    pub mine_at_head: Option<EventId>,
    /// Rows from the sequence of the event before them to the last of them, at least.
    pub rows: Vec<IdRow>,
}

/// What follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Of the events, those up to this sequence stand there; what follows may be written behind it.
    AlreadyThere(u64),
    /// The stream ends before them, with what it had of this log. From behind this place on it is
    /// to be written again.
    RemoteLower(Option<Place>),
    /// The head stands, rows of these sequences are gone.
    RowsGone(Vec<u64>),
    /// At this sequence stands another event, the first in what was read: `None` when the row was
    /// not read, only the head. Lower ones may differ as well when it is below the events.
    Diverged { at: u64, remote: Option<EventId> },
    /// Nothing stands in the way: somebody's conditional write was under way.
    Contended,
}

/// Judges by ids alone: a conflict needs an event of somebody else, a crash or a lost table has none.
pub(crate) fn judge(mine: Mine<'_>, found: &Found) -> Verdict {
    let rows: BTreeMap<u64, &IdRow> = found.rows.iter().map(|row| (row.sequence, row)).collect();
    let before = mine.before.map_or(0, |(sequence, _)| sequence);
    let (Some(first), Some(last)) = (mine.events.first(), mine.events.last()) else {
        return Verdict::Contended;
    };
    if let Some(diverged) = first_foreign(mine, &rows) {
        return diverged;
    }
    // Below what was read.
    if let Some((at, id)) = found.head
        && at < before
        && found.mine_at_head.is_some_and(|mine| mine != id)
    {
        return Verdict::Diverged {
            at,
            remote: Some(id),
        };
    }
    let head = found.head.map_or(0, |(sequence, _)| sequence);
    if head < before {
        return Verdict::RemoteLower(found.head);
    }
    let standing = mine
        .events
        .iter()
        .take_while(|(sequence, _)| rows.contains_key(sequence));
    let there = standing.last().map(|(sequence, _)| *sequence);
    let gone: Vec<u64> = mine
        .events
        .iter()
        .map(|(sequence, _)| *sequence)
        .filter(|sequence| *sequence <= head && !rows.contains_key(sequence))
        .collect();
    match there {
        // Rows above a head that was lost.
        Some(there) if there > head => Verdict::RemoteLower(found.head),
        _ if !gone.is_empty() => Verdict::RowsGone(gone),
        Some(there) => Verdict::AlreadyThere(there),
        // Events that a repair lost here, and that are there.
        None if head > before && head < first.0 => {
            let is_mine = found.head_origin == Some(mine.origin);
            match found.head {
                Some(place) if is_mine => Verdict::RemoteLower(Some(place)),
                _ => Verdict::Diverged {
                    at: first.0.min(last.0),
                    remote: None,
                },
            }
        }
        None => Verdict::Contended,
    }
}

/// The lowest place of what was read where another event stands than here, or one where there is none
/// here and never was.
fn first_foreign(mine: Mine<'_>, rows: &BTreeMap<u64, &IdRow>) -> Option<Verdict> {
    let here: BTreeMap<u64, EventId> = mine.before.iter().chain(mine.events).copied().collect();
    let (first, last) = (here.keys().next()?, here.keys().next_back()?);
    rows.range(first..=last)
        .find(|(sequence, row)| match here.get(sequence) {
            Some(id) => *id != row.event_id,
            // Lost here by a repair, unless it is somebody else's.
            None => row.origin != Some(mine.origin),
        })
        .map(|(sequence, row)| Verdict::Diverged {
            at: *sequence,
            remote: Some(row.event_id),
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidelog_core::Timestamp;

    use super::*;

    const MINE: Uuid = Uuid::from_u128(1);

    fn id(number: u64) -> EventId {
        EventId::from_uuid(Uuid::from_u128(u128::from(number)))
    }

    fn place(sequence: u64) -> Place {
        (sequence, id(sequence))
    }

    /// Somebody else's event at `sequence`.
    fn foreign(sequence: u64) -> IdRow {
        IdRow {
            event_id: id(1_000 + sequence),
            origin: None,
            ..row(sequence)
        }
    }

    fn row(sequence: u64) -> IdRow {
        IdRow {
            sequence,
            event_id: id(sequence),
            origin: Some(MINE),
            recorded: Timestamp::from_micros(0),
        }
    }

    /// Events 5 to 7 behind 4, where the head and these rows were found.
    fn judged(head: Option<Place>, rows: &[IdRow]) -> Verdict {
        let mine = Mine {
            origin: MINE,
            before: Some(place(4)),
            events: &[place(5), place(6), place(7)],
        };
        let found = Found {
            head,
            head_origin: Some(MINE),
            mine_at_head: head.map(|(sequence, _)| id(sequence)),
            rows: rows.to_vec(),
        };
        judge(mine, &found)
    }

    fn diverged(at: u64) -> Verdict {
        Verdict::Diverged {
            at,
            remote: Some(id(1_000 + at)),
        }
    }

    #[test]
    fn every_row_of_the_table_has_its_verdict() {
        use Verdict::{AlreadyThere, Contended, RemoteLower, RowsGone};
        let rows = |sequences: std::ops::RangeInclusive<u64>| -> Vec<IdRow> {
            sequences.map(row).collect()
        };
        let above = Some((9, id(1_009)));
        assert_eq!(judged(Some(place(5)), &rows(4..=5)), AlreadyThere(5));
        assert_eq!(judged(Some(place(7)), &rows(4..=7)), AlreadyThere(7));
        assert_eq!(judged(above, &rows(4..=7)), AlreadyThere(7));
        assert_eq!(judged(None, &[]), RemoteLower(None));
        assert_eq!(judged(Some(place(2)), &[]), RemoteLower(Some(place(2))));
        assert_eq!(
            judged(Some(place(7)), &[row(4), row(6)]),
            RowsGone(vec![5, 7])
        );
        assert_eq!(judged(Some(place(6)), &[row(4)]), RowsGone(vec![5, 6]));
        assert_eq!(judged(Some(place(4)), &[row(4)]), Contended);
        let conflict = [row(4), row(5), foreign(6)];
        assert_eq!(judged(Some((6, id(1_006))), &conflict), diverged(6));
        assert_eq!(judged(Some((4, id(1_004))), &[foreign(4)]), diverged(4));
        let lost_and_refilled = Some((3, id(1_003)));
        assert_eq!(judged(lost_and_refilled, &[]), diverged(3));
    }

    #[test]
    fn a_head_that_was_lost_alone_is_written_again() {
        assert_eq!(judged(None, &[row(4), row(5)]), Verdict::RemoteLower(None));
    }

    #[test]
    fn what_a_repair_lost_here_and_stands_there_is_gone_on_behind() {
        let events = [place(9)];
        let mine = Mine {
            origin: MINE,
            before: Some(place(4)),
            events: &events,
        };
        let mut found = Found {
            head: Some(place(7)),
            head_origin: Some(MINE),
            mine_at_head: None,
            rows: vec![row(4), row(5), row(6), row(7)],
        };
        assert_eq!(judge(mine, &found), Verdict::RemoteLower(Some(place(7))));
        found.rows[2] = foreign(6);
        assert_eq!(judge(mine, &found), diverged(6));
    }

    proptest! {
        /// A stream of which the server kept a part, and behind which others may have written.
        #[test]
        fn there_is_a_conflict_exactly_where_somebody_elses_event_stands(
            before in 0_u64..5, count in 1_u64..5, kept in 0_u64..12, others in 0_u64..4, gone: u16,
        ) {
            let events: Vec<Place> = (before + 1..=before + count).map(place).collect();
            let mine = Mine { origin: MINE, before: (before > 0).then(|| place(before)), events: &events };
            let last = before + count;
            let head = kept + others;
            let all = (1..=head).map(|at| if at <= kept { row(at) } else { foreign(at) });
            let is_gone = |at: u64| gone >> at & 1 == 1;
            let rows: Vec<IdRow> = all.clone()
                .filter(|row| (before.max(1)..=last).contains(&row.sequence) && !is_gone(row.sequence)).collect();
            let found = Found {
                head: all.clone().next_back().map(|row| (row.sequence, row.event_id)),
                head_origin: None,
                mine_at_head: (head <= last + 9).then(|| id(head)),
                rows: rows.clone(),
            };
            let verdict = judge(mine, &found);
            let conflict = rows.iter().find(|row| row.event_id != id(row.sequence)).map(|row| row.sequence);
            let is_below = others > 0 && head < before;
            match &verdict {
                Verdict::Diverged { at, .. } => prop_assert!(conflict == Some(*at) || conflict.is_none() && is_below && *at == head),
                _ => prop_assert!(conflict.is_none() && !is_below, "{verdict:?}"),
            }
            match verdict {
                Verdict::AlreadyThere(upto) => prop_assert!((before + 1..=upto).all(|at| rows.contains(&row(at))) && upto > before),
                Verdict::RowsGone(list) => prop_assert!(list.iter().all(|at| *at <= head && is_gone(*at))),
                Verdict::RemoteLower(place) => prop_assert!(place.map_or(0, |(at, _)| at) < before),
                Verdict::Contended => prop_assert_eq!(head, before),
                Verdict::Diverged { .. } => {}
            }
        }
    }
}
