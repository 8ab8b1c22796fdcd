//! Which rows make up the log of an epoch: its own, and those of the epochs that it came out of.

use tidelog_backends::wire::{Chunk, OriginRow};
use uuid::Uuid;

/// The positions that stand under one epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub epoch: Uuid,
    /// First position.
    pub from: u64,
    /// Last position; `u64::MAX` of the newest epoch.
    pub to: u64,
    /// The chain hash after `to`; `None` of the newest epoch.
    pub hash: Option<[u8; 32]>,
}

/// The stretches of one epoch's log, oldest first, without holes between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lineage {
    pub origin: Uuid,
    pub first_epoch: Uuid,
    stretches: Vec<Stretch>,
}

/// A chunk of the table, and the last position of a log in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub chunk: Chunk,
    pub last: u64,
}

impl Lineage {
    /// The log of `epoch`, by the rows of its origin; the epoch whose row is missing otherwise.
    pub(crate) fn of(rows: &[OriginRow], epoch: Uuid) -> Result<Self, Uuid> {
        let find = |epoch| rows.iter().find(|row| row.epoch == epoch).ok_or(epoch);
        let newest = find(epoch)?;
        let (mut row, mut to, mut hash) = (newest, u64::MAX, None);
        let mut stretches = Vec::new();
        // An epoch is at most once in its own lineage.
        for _ in 0..=rows.len() {
            let from = row.parent.map_or(1, |(_, position, _)| position + 1);
            if from <= to {
                let epoch = row.epoch;
                stretches.push(Stretch {
                    epoch,
                    from,
                    to,
                    hash,
                });
            }
            let Some((parent, position, parent_hash)) = row.parent.filter(|parent| parent.1 > 0)
            else {
                stretches.reverse();
                return Ok(Self {
                    origin: newest.origin,
                    first_epoch: newest.first_epoch,
                    stretches,
                });
            };
            // A fork may leave its parent before that had anything of its own.
            if position < to {
                (to, hash) = (position, Some(parent_hash));
            }
            row = find(parent)?;
        }
        Err(row.epoch)
    }

    /// The stretch that `position` is in.
    pub(crate) fn stretch(&self, position: u64) -> Option<&Stretch> {
        self.stretches
            .iter()
            .find(|stretch| (stretch.from..=stretch.to).contains(&position))
    }

    /// Where the row of `position` stands, and the last position that stands there as well.
    pub(crate) fn part(&self, position: u64, chunk_records: u64) -> Option<Part> {
        let stretch = self.stretch(position)?;
        let number = position / chunk_records.max(1);
        let end = (number + 1).saturating_mul(chunk_records.max(1));
        Some(Part {
            chunk: Chunk {
                origin: self.origin,
                epoch: stretch.epoch,
                number,
            },
            last: stretch.to.min(end - 1),
        })
    }

    /// All epochs of it, the newest last.
    pub(crate) fn epochs(&self) -> impl Iterator<Item = &Stretch> {
        self.stretches.iter()
    }

    /// Up to which position two logs of one origin are one; 0 when they have nothing in common.
    pub(crate) fn common(&self, other: &Self) -> u64 {
        let pairs = self.stretches.iter().zip(&other.stretches);
        let mut common = 0;
        for (mine, theirs) in pairs {
            if mine.epoch != theirs.epoch {
                break;
            }
            common = mine.to.min(theirs.to);
            if mine.to != theirs.to {
                break;
            }
        }
        common
    }
}

#[cfg(test)]
mod tests {
    use tidelog_backends::wire::Watermark;

    use super::*;

    fn id(number: u8) -> Uuid {
        Uuid::from_bytes([number; 16])
    }

    fn row(epoch: u8, parent: Option<(u8, u64)>) -> OriginRow {
        OriginRow {
            origin: id(99),
            epoch: id(epoch),
            first_epoch: id(1),
            parent: parent.map(|(epoch, position)| (id(epoch), position, [epoch; 32])),
            watermark: Watermark {
                session: id(0),
                position: 0,
                hash: [0; 32],
                commit_number: 0,
            },
            published: 0,
            successor: None,
            name: "".into(),
        }
    }

    fn ranges(lineage: &Lineage) -> Vec<(u8, u64, u64)> {
        let stretches = lineage.epochs();
        stretches
            .map(|s| (s.epoch.as_bytes()[0], s.from, s.to))
            .collect()
    }

    #[test]
    fn a_log_over_two_forks_is_cut_where_each_began() {
        let rows = [row(3, Some((2, 20))), row(1, None), row(2, Some((1, 10)))];
        let lineage = Lineage::of(&rows, id(3)).unwrap();
        let wanted = [(1, 1, 10), (2, 11, 20), (3, 21, u64::MAX)];
        assert_eq!(ranges(&lineage), wanted);
        let hashes: Vec<_> = lineage.epochs().map(|s| s.hash).collect();
        assert_eq!(hashes, [Some([1; 32]), Some([2; 32]), None]);
    }

    #[test]
    fn a_fork_from_below_its_parents_beginning_has_nothing_of_the_parent() {
        let rows = [row(1, None), row(2, Some((1, 10))), row(3, Some((2, 4)))];
        let lineage = Lineage::of(&rows, id(3)).unwrap();
        assert_eq!(ranges(&lineage), [(1, 1, 4), (3, 5, u64::MAX)]);
        // The hash after position 4 is what the fork itself says.
        assert_eq!(lineage.stretch(4).unwrap().hash, Some([2; 32]));
    }

    #[test]
    fn a_fork_from_the_very_beginning_needs_no_parents_row() {
        let rows = [row(5, Some((4, 0)))];
        let lineage = Lineage::of(&rows, id(5)).unwrap();
        assert_eq!(ranges(&lineage), [(5, 1, u64::MAX)]);
    }

    #[test]
    fn a_parent_without_a_row_is_named_and_a_circle_ends() {
        let rows = [row(2, Some((1, 10)))];
        assert_eq!(Lineage::of(&rows, id(2)), Err(id(1)));
        let circle = [row(1, Some((2, 10))), row(2, Some((1, 10)))];
        assert!(Lineage::of(&circle, id(1)).is_err());
    }

    #[test]
    fn a_part_ends_with_its_chunk_or_its_stretch() {
        let rows = [row(1, None), row(2, Some((1, 10)))];
        let lineage = Lineage::of(&rows, id(2)).unwrap();
        let part = |position| {
            let part = lineage.part(position, 8).unwrap();
            let epoch = part.chunk.epoch.as_bytes()[0];
            (epoch, part.chunk.number, part.last)
        };
        assert_eq!(part(1), (1, 0, 7));
        assert_eq!(part(8), (1, 1, 10));
        assert_eq!(part(11), (2, 1, 15));
        assert_eq!(part(16), (2, 2, 23));
    }

    #[test]
    fn what_two_logs_have_in_common_ends_where_they_part() {
        let rows = [row(1, None), row(2, Some((1, 10))), row(3, Some((1, 6)))];
        let of = |epoch| Lineage::of(&rows, id(epoch)).unwrap();
        assert_eq!(of(1).common(&of(2)), 10);
        assert_eq!(of(2).common(&of(3)), 6);
        assert_eq!(of(3).common(&of(3)), u64::MAX);
    }
}
