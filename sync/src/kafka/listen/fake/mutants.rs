//! Faults made on purpose where the world keeps its word to a listener: for each rule of the oracle one that
//! breaks it.

use super::super::feed::{Parking, Record};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutant {
    /// A reader of the parked set takes what is committed so far for its end.
    EndIsLastStable,
    /// Who writes goes by what the group says at that moment, whatever the session has heard.
    FenceOfNow,
    /// A place begins that was told so before it went and came back.
    StaleBegin,
    /// Nobody looks whose a place is.
    NoFence,
    /// Offsets are put down, and letters that follow the first are not written.
    TornLetters,
    /// Neither is any letter of a key that is parked.
    NoLetters,
    /// Nor entries.
    TornEntries,
    /// A commit is answered, and not done.
    CommitForgotten,
    /// A transaction is done twice.
    DoneTwice,
    /// Letters are passed over when they are read.
    LetterSkipped,
    /// Records are passed over when they are fetched.
    RecordSkipped,
    /// Records come in another order.
    RecordsSwapped,
    /// Who asks for a key is answered, and nobody hears it.
    AskForgotten,
    /// A handler that is dropped goes on.
    HandlersLiveOn,
    /// The topic for letters goes.
    TopicGone,
}

impl Mutant {
    /// Each with what the oracle says of it.
    pub(super) const ALL: [(Self, &str); 15] = [
        (Self::EndIsLastStable, "is handled while parked"),
        (Self::FenceOfNow, "is handled while parked"),
        (Self::StaleBegin, "is settled unhandled"),
        (Self::NoFence, "goes back"),
        (Self::TornLetters, "is settled unhandled"),
        (Self::NoLetters, "is parked without a letter"),
        (Self::TornEntries, "misses"),
        (Self::CommitForgotten, "is at"),
        (Self::DoneTwice, "a letter twice"),
        (Self::LetterSkipped, "misses"),
        (Self::RecordSkipped, "is settled unhandled"),
        (Self::RecordsSwapped, "was handled in the order"),
        (Self::AskForgotten, "does not come to rest"),
        (Self::HandlersLiveOn, "is handled twice at once"),
        (Self::TopicGone, "failed"),
    ];

    /// What becomes of a transaction.
    pub(super) fn change(self, change: &mut Parking) {
        match self {
            Self::TornLetters => change.letters.retain(|letter| letter.attempts > 0),
            Self::NoLetters => change.letters.clear(),
            Self::TornEntries => change.parked.clear(),
            Self::DoneTwice => change.letters.extend(change.letters.clone()),
            _ => {}
        }
    }

    /// What becomes of records that were fetched.
    pub(super) fn fetched(self, records: &mut Vec<Record>) {
        match self {
            Self::RecordSkipped if records.len() > 2 => drop(records.remove(1)),
            Self::RecordsSwapped => records.reverse(),
            _ => {}
        }
    }
}
