//! A place that is this member's.

use super::feed::{Letter, RecordKey};
use super::offsets::Offsets;

/// What a session knows of one place.
pub(super) struct OwnPlace {
    /// Tells two assignments of one place apart.
    pub(super) assigned: u64,
    pub(super) phase: PlacePhase,
    pub(super) offsets: Offsets,
    /// What was put down last, of this assignment.
    pub(super) committed: Option<i64>,
    /// What is to be set aside with the next transaction, in order.
    pub(super) letters: Vec<PendingLetter>,
    /// Keys of it that are parked. While there is one, letters and offsets go together.
    pub(super) parked: usize,
    /// Whether it is not fetched, since too much is taken above what is settled.
    pub(super) is_held: bool,
    /// The offset that is written next, as far as that is known.
    pub(super) end: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PlacePhase {
    /// What is parked of it is not known yet.
    Reading,
    Open,
    /// It is given up: nothing is begun any more.
    Closing,
}

pub(super) struct PendingLetter {
    pub(super) key: RecordKey,
    pub(super) life: u32,
    pub(super) letter: Letter,
}

impl OwnPlace {
    pub(super) fn new(assigned: u64) -> Self {
        Self {
            assigned,
            phase: PlacePhase::Reading,
            offsets: Offsets::default(),
            committed: None,
            letters: Vec::new(),
            parked: 0,
            is_held: false,
            end: None,
        }
    }

    /// Whether its offsets go by transactions, with letters.
    pub(super) fn goes_by_transactions(&self) -> bool {
        self.parked > 0 || !self.letters.is_empty()
    }

    /// Where the letter is that may be written next. One that stands behind what is not settled would
    /// be written again by whoever has the place after a crash: it waits. One of a life before stands in
    /// no order with anything.
    fn next_letter(&self) -> Option<usize> {
        let (life, first) = (self.offsets.life(), self.offsets.first_open());
        self.letters
            .iter()
            .position(|pending| pending.life != life || Some(pending.letter.record.offset) == first)
    }

    /// Whether some letter may be written.
    pub(super) fn has_letter(&self) -> bool {
        self.next_letter().is_some()
    }

    /// Takes the letters that may be written, in order, and settles them.
    pub(super) fn take_letters(&mut self, into: &mut Vec<Letter>) -> usize {
        let mut bytes = 0;
        while let Some(at) = self.next_letter() {
            let pending = self.letters.remove(at);
            let record = &pending.letter.record;
            self.offsets.settle(pending.life, record.offset);
            bytes += record.bytes();
            into.push(pending.letter);
        }
        bytes
    }

    /// What whoever writes of this place puts down with it, so that the group refuses it when the place
    /// is another's; `None` when nothing was taken of it.
    pub(super) fn present(&self) -> Option<i64> {
        let next = self.offsets.next().or(self.committed);
        next.or(self.offsets.first_open())
    }

    /// What is to be put down, if that is something new.
    pub(super) fn news(&self) -> Option<i64> {
        self.offsets
            .next()
            .filter(|next| self.committed != Some(*next))
    }
}
