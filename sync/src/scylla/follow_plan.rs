//! Which epochs of an origin are followed, and from where.

use tidelog_backends::wire::OriginRow;
use uuid::Uuid;

use super::lineage::Lineage;

/// One epoch that is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub epoch: Uuid,
    /// Everything up to here was seen.
    pub after: u64,
    /// The epoch that was followed before, which gave way to this one.
    pub instead_of: Option<Uuid>,
    /// Events of that epoch above `after` were seen, which do not belong to this one.
    pub is_fork: bool,
    /// The epoch with which what is below `after` came, where it did not come with this one.
    pub beside: Option<Uuid>,
}

impl Step {
    fn new(epoch: Uuid, after: u64) -> Self {
        Self {
            epoch,
            after,
            instead_of: None,
            is_fork: false,
            beside: None,
        }
    }
}

/// What follows from the rows of an origin for somebody who has seen its epochs as far as `seen` says.
///
/// Each event of the origin is in one step only. What two epochs share comes with one of them, and the
/// other one goes on, or begins, when that has come so far: no log is read from its middle.
pub(super) fn plan(rows: &[OriginRow], seen: &[(Uuid, u64)]) -> Vec<Step> {
    let find = |epoch| rows.iter().find(|row| row.epoch == epoch);
    let lineage = |epoch| Lineage::of(rows, epoch).ok();
    let mut steps: Vec<Step> = Vec::new();
    let mut rest: Vec<(Uuid, u64)> = Vec::new();
    for &(epoch, after) in seen {
        match find(epoch) {
            Some(row) if row.successor.is_none() => {
                // What came with others is not to come again.
                let mine = lineage(epoch);
                let others = seen.iter().filter(|(other, _)| *other != epoch);
                let with_others = others.filter_map(|(other, at)| {
                    let common = mine.as_ref()?.common(&lineage(*other)?);
                    Some((common.min(*at), *other))
                });
                let furthest = with_others.filter(|(at, _)| *at > after).max();
                let step = Step::new(epoch, furthest.map_or(after, |(at, _)| at));
                steps.push(Step {
                    beside: furthest.map(|(_, other)| other),
                    ..step
                });
            }
            Some(_) => rest.push((epoch, after)),
            // The server has lost it: it will be made known again.
            None => {}
        }
    }
    for (old, after) in rest {
        let Some(new) = successor(rows, old) else {
            continue;
        };
        let (Some(of_old), Some(of_new)) = (lineage(old), lineage(new)) else {
            continue;
        };
        let common = of_old.common(&of_new);
        if !steps.iter().any(|step| step.epoch == new) {
            steps.push(Step {
                instead_of: Some(old),
                is_fork: after > common,
                ..Step::new(new, after.min(common))
            });
        }
    }
    let mut live: Vec<_> = rows.iter().filter(|row| row.successor.is_none()).collect();
    live.sort_by_key(|row| {
        let stretches = lineage(row.epoch).map_or(usize::MAX, |l| l.epochs().count());
        (stretches, row.epoch)
    });
    for row in live {
        if steps.iter().any(|step| step.epoch == row.epoch) {
            continue;
        }
        let Some(mine) = lineage(row.epoch) else {
            continue;
        };
        let common_with = |step: &Step| {
            let common = mine.common(&lineage(step.epoch)?);
            Some((common, step.after.min(common), step.epoch))
        };
        let nearest = steps.iter().filter_map(common_with).max();
        steps.push(match nearest {
            Some((_, after, beside)) => Step {
                beside: Some(beside),
                ..Step::new(row.epoch, after)
            },
            None => Step::new(row.epoch, 0),
        });
    }
    one_of_those_that_share(rows, steps)
}

/// Of steps that would bring the same next one is left: the first that has something.
fn one_of_those_that_share(rows: &[OriginRow], steps: Vec<Step>) -> Vec<Step> {
    let lineage = |epoch| Lineage::of(rows, epoch).ok();
    let has_more = |step: &Step| {
        let mut of_epoch = rows.iter().filter(|row| row.epoch == step.epoch);
        of_epoch.any(|row| row.watermark.position > step.after)
    };
    let share = |one: &Step, other: &Step| {
        let common = lineage(one.epoch).zip(lineage(other.epoch));
        let common = common.map_or(0, |(one, other)| one.common(&other));
        one.after < common && other.after < common
    };
    // Whoever takes the place of another says so at once.
    let replaces = |step: &Step| step.instead_of.is_some();
    let (mut left, others): (Vec<Step>, Vec<Step>) = steps.into_iter().partition(replaces);
    let (first, last): (Vec<Step>, Vec<Step>) = others.into_iter().partition(has_more);
    for step in first.into_iter().chain(last) {
        if !left.iter().any(|other| share(&step, other)) {
            left.push(step);
        }
    }
    left
}

/// The live epoch that took the place of `old`, by way of others maybe.
pub(super) fn successor(rows: &[OriginRow], old: Uuid) -> Option<Uuid> {
    let mut epoch = old;
    // Each epoch is given up once: more steps than that would go in a circle.
    for _ in 0..=rows.len() {
        let row = rows.iter().find(|row| row.epoch == epoch)?;
        match row.successor {
            None => return Some(epoch),
            Some(next) => epoch = next,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::test_log::{TestLog, id};
    use super::*;

    fn row(epoch: u8, parent: Option<(u8, u64)>, successor: Option<u8>) -> OriginRow {
        let log = TestLog::new(9, 1);
        let mut row = log.row(id(epoch), None, 0);
        row.parent = parent.map(|(epoch, at)| (id(epoch), at, [epoch; 32]));
        row.successor = successor.map(id);
        row
    }

    fn step(epoch: u8, after: u64) -> Step {
        Step::new(id(epoch), after)
    }

    /// The same row with its watermark there.
    fn at(position: u64, mut row: OriginRow) -> OriginRow {
        row.watermark.position = position;
        row
    }

    fn instead(epoch: u8, after: u64, old: u8, is_fork: bool) -> Step {
        Step {
            instead_of: Some(id(old)),
            is_fork,
            ..step(epoch, after)
        }
    }

    #[test]
    fn a_live_epoch_is_followed_from_where_it_was_seen() {
        assert_eq!(plan(&[row(1, None, None)], &[]), [step(1, 0)]);
        assert_eq!(plan(&[row(1, None, None)], &[(id(1), 7)]), [step(1, 7)]);
    }

    #[test]
    fn an_epoch_given_up_goes_on_in_its_successor() {
        let rows = [row(1, None, Some(2)), row(2, Some((1, 10)), None)];
        assert_eq!(plan(&rows, &[]), [step(2, 0)]);
        assert_eq!(plan(&rows, &[(id(1), 10)]), [instead(2, 10, 1, false)]);
        assert_eq!(plan(&rows, &[(id(1), 11)]), [instead(2, 10, 1, true)]);
        assert_eq!(plan(&rows, &[(id(2), 12)]), [step(2, 12)]);
    }

    #[test]
    fn two_epochs_given_up_one_after_another_are_passed_at_once() {
        let rows = [
            row(1, None, Some(2)),
            row(2, Some((1, 10)), Some(3)),
            row(3, Some((2, 20)), None),
        ];
        assert_eq!(plan(&rows, &[(id(1), 8)]), [instead(3, 8, 1, false)]);
        assert_eq!(plan(&rows, &[(id(1), 15)]), [instead(3, 10, 1, true)]);
        assert_eq!(plan(&rows, &[(id(2), 20)]), [instead(3, 20, 2, false)]);
    }

    #[test]
    fn a_clones_epoch_begins_where_it_left_the_one_that_lives_on() {
        let rows = [
            at(30, row(2, Some((1, 10)), None)),
            at(20, row(1, None, None)),
        ];
        let beside = |epoch, after, other| Step {
            beside: Some(id(other)),
            ..step(epoch, after)
        };
        for after in [10, 12] {
            let both = [step(1, after), beside(2, 10, 1)];
            assert_eq!(plan(&rows, &[(id(1), after)]), both);
        }
        let followed = [(id(1), 12), (id(2), 11)];
        assert_eq!(plan(&rows, &followed), [step(1, 12), step(2, 11)]);
        // Not before what both have came: its events would come before older ones of its log.
        assert_eq!(plan(&rows, &[]), [step(1, 0)]);
        assert_eq!(plan(&rows, &[(id(1), 9)]), [step(1, 9)]);
        // Nobody goes on with the older one: what both have comes with the other.
        let rows = [rows[0].clone(), at(4, row(1, None, None))];
        assert_eq!(plan(&rows, &[(id(1), 4)]), [beside(2, 4, 1)]);
        assert_eq!(plan(&rows, &[(id(1), 4), (id(2), 7)]), [step(2, 7)]);
        let over = [beside(1, 10, 2), step(2, 12)];
        let mut planned = plan(&rows, &[(id(1), 4), (id(2), 12)]);
        planned.sort_by_key(|step| step.epoch);
        assert_eq!(planned, over);
    }

    #[test]
    fn what_the_server_has_lost_is_waited_for() {
        let rows = [row(2, Some((1, 10)), None)];
        assert_eq!(plan(&rows, &[(id(2), 12)]), [step(2, 12)]);
        assert_eq!(plan(&[], &[(id(1), 12)]), []);
    }
}
