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
    /// The head stands, rows of these sequences are gone, and they were these events.
    RowsGone(Vec<u64>),
    /// The same, but whose events they were is not known: what stands above them may tell.
    Unknown(Vec<u64>),
    /// From this sequence on the stream is another: what tells so stands there or above. It may be
    /// another at lower ones as well when it is below the events.
    Diverged { at: u64, remote: Place },
    /// Nothing stands in the way: somebody's conditional write was under way.
    Contended,
}

/// Judges by ids alone: a conflict needs an event of somebody else, a crash or a lost table has none.
pub(crate) fn judge(mine: Mine<'_>, found: &Found) -> Verdict {
    let rows: BTreeMap<u64, &IdRow> = found.rows.iter().map(|row| (row.sequence, row)).collect();
    let before = mine.before.map_or(0, |(sequence, _)| sequence);
    let Some((first, _)) = mine.events.first() else {
        return Verdict::Contended;
    };
    if let Some(foreign) = first_foreign(mine, found, &rows) {
        return Verdict::Diverged {
            at: from_where(mine, &rows, foreign.0),
            remote: foreign,
        };
    }
    let head = found.head.map_or(0, |(sequence, _)| sequence);
    if head < before {
        return Verdict::RemoteLower(found.head);
    }
    let sequences = || mine.events.iter().map(|(sequence, _)| *sequence);
    let standing = sequences().take_while(|sequence| rows.contains_key(sequence));
    let there = standing.last();
    let gone: Vec<u64> = sequences()
        .filter(|sequence| *sequence <= head && !rows.contains_key(sequence))
        .collect();
    if !gone.is_empty() {
        // What stands behind one that is mine was mine, and so is what a head of mine stands behind.
        let last_standing = sequences().rfind(|sequence| rows.contains_key(sequence));
        let is_known = |sequence: &u64| last_standing.is_some_and(|last| *sequence < last);
        let is_mine = found.head.map(|(_, id)| id) == found.mine_at_head;
        let known: Vec<u64> = gone.iter().copied().filter(is_known).collect();
        return match (is_mine, known.is_empty()) {
            (true, _) => Verdict::RowsGone(gone),
            (false, false) => Verdict::RowsGone(known),
            (false, true) => Verdict::Unknown(gone),
        };
    }
    match there {
        // Rows above a head that was lost.
        Some(there) if there > head => Verdict::RemoteLower(found.head),
        Some(there) => Verdict::AlreadyThere(there),
        // Events that a repair lost here, and that are there.
        None if head > before && head < *first => Verdict::RemoteLower(found.head),
        None => Verdict::Contended,
    }
}

/// The lowest place of what was read that is another's: another event than here, or one where there is
/// none here and never was.
fn first_foreign(mine: Mine<'_>, found: &Found, rows: &BTreeMap<u64, &IdRow>) -> Option<Place> {
    let here: BTreeMap<u64, EventId> = mine.before.iter().chain(mine.events).copied().collect();
    let (first, last) = (*here.keys().next()?, *here.keys().next_back()?);
    let is_foreign = |sequence: u64, id: EventId, origin: Option<Uuid>| match here.get(&sequence) {
        Some(mine) => *mine != id,
        // Lost here by a repair, unless it is somebody else's.
        None => origin != Some(mine.origin),
    };
    let row = rows
        .range(first..=last)
        .find(|(sequence, row)| is_foreign(**sequence, row.event_id, row.origin))
        .map(|(sequence, row)| (*sequence, row.event_id));
    // The head names its event, though that may be gone.
    let head = found.head.filter(|(sequence, id)| {
        if *sequence < first {
            found.mine_at_head.is_some_and(|mine| mine != *id)
        } else {
            *sequence <= last && is_foreign(*sequence, *id, found.head_origin)
        }
    });
    [row, head].into_iter().flatten().min()
}

/// Events missing right below another's are not known to be mine, so the stream is another from there.
fn from_where(mine: Mine<'_>, rows: &BTreeMap<u64, &IdRow>, foreign: u64) -> u64 {
    let below = mine.events.iter().rev().map(|(sequence, _)| *sequence);
    let missing = below
        .filter(|sequence| *sequence < foreign)
        .take_while(|sequence| !rows.contains_key(sequence));
    missing.last().unwrap_or(foreign)
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
            remote: (at, id(1_000 + at)),
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
    fn rows_that_are_gone_are_put_back_only_where_they_were_this_logs() {
        use Verdict::{RowsGone, Unknown};
        // The head names somebody else's event, whose row is gone.
        assert_eq!(judged(Some((6, id(1_006))), &[row(4), row(5)]), diverged(6));
        let upto_it = Verdict::Diverged {
            at: 5,
            remote: (6, id(1_006)),
        };
        assert_eq!(judged(Some((6, id(1_006))), &[row(4)]), upto_it);
        assert_eq!(judged(Some((9, id(1_009))), &[foreign(6)]), upto_it);
        // Somebody else's head, above: what was gone may have been theirs.
        let above = |rows: &[IdRow]| {
            let mine = Mine {
                origin: MINE,
                before: Some(place(4)),
                events: &[place(5), place(6), place(7)],
            };
            let found = Found {
                head: Some((9, id(1_009))),
                head_origin: None,
                mine_at_head: None,
                rows: rows.to_vec(),
            };
            judge(mine, &found)
        };
        assert_eq!(above(&[row(4), row(5)]), Unknown(vec![6, 7]));
        assert_eq!(above(&[row(4), row(7)]), RowsGone(vec![5, 6]));
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
                mine_at_head: Some(id(head)),
                rows: rows.clone(),
            };
            let verdict = judge(mine, &found);
            let other = rows.iter().find(|row| row.event_id != id(row.sequence)).map(|row| row.sequence);
            let conflict = other.or((others > 0 && head <= last).then_some(head));
            match &verdict {
                Verdict::Diverged { at, remote } => {
                    prop_assert_eq!(conflict, Some(remote.0));
                    prop_assert!(*at <= remote.0 && (*at..remote.0).all(is_gone) && *at + 1 > kept.min(before));
                }
                _ => prop_assert!(conflict.is_none(), "{verdict:?}"),
            }
            match verdict {
                Verdict::AlreadyThere(upto) => prop_assert!((before + 1..=upto).all(|at| rows.contains(&row(at))) && upto > before),
                // Of what is put back everything was mine.
                Verdict::RowsGone(list) => prop_assert!(list.iter().all(|at| *at <= kept && is_gone(*at))),
                Verdict::Unknown(list) => prop_assert!(list.iter().all(|at| is_gone(*at)) && head > last),
                Verdict::RemoteLower(place) => prop_assert!(place.map_or(0, |(at, _)| at) < before),
                Verdict::Contended => prop_assert_eq!(head, before),
                Verdict::Diverged { .. } => {}
            }
        }
    }
}
