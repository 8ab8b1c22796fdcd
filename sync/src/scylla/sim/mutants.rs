//! Faults of the replicator, made on purpose where its requests leave and its state is saved: for each
//! rule of the oracle one that breaks it.

use tidelog_backends::wire::{AppendRows, Expected, Reply, Request, Watermark};

use super::super::vector::Vector;
use super::follower::FIRST;
use super::net::Answer;
use super::puller::FIRST as PULLER;
use super::world::World;
use crate::replicate::ParkedReason;
use crate::scylla::state::SinkState;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutant {
    /// Rows of the log are not sent, and taken for sent.
    LogForgotten,
    /// A batch is conditioned on nothing.
    Unconditioned,
    /// The watermark is moved to the end of the log, whatever is settled.
    MarkAhead,
    /// What is unclear is taken for applied.
    UnclearGuessed,
    /// The other parts of a torn batch are not kept.
    TornForgotten,
    /// Rows of the log say something wrong of their commit.
    CommitMiscounted,
    /// Whose session it is does not matter.
    SessionIgnored,
    /// The watermark is never moved.
    Deaf,
    /// What is parked is not told to the server, and taken for told.
    ParkedForgotten,
    /// Who follows does not see what is parked.
    ParkedUnseen,
    /// Who follows goes on one event before where it was.
    VectorBehind,
    /// Who follows goes on one event behind where it was.
    VectorAhead,
    /// Nobody notices that the machine slept.
    SleepIgnored,
    /// Who keeps others' logs does not see how far they are.
    PullDeaf,
}

impl Mutant {
    /// Each with the rule that it breaks.
    pub(super) const ALL: [(Self, &str); 13] = [
        (Self::LogForgotten, "1 "),
        (Self::Unconditioned, "2 "),
        (Self::MarkAhead, ""),
        (Self::UnclearGuessed, ""),
        (Self::TornForgotten, "5 "),
        (Self::CommitMiscounted, "8 "),
        (Self::SessionIgnored, "9 "),
        (Self::Deaf, "10"),
        (Self::ParkedForgotten, "3 "),
        (Self::ParkedUnseen, "6 only"),
        (Self::VectorBehind, "6 nothing comes twice"),
        (Self::VectorAhead, "6 all"),
        (Self::SleepIgnored, "11"),
    ];

    /// Those that only who keeps others' logs meets.
    pub(super) const PULLED: [(Self, &str); 2] = [
        (Self::ParkedUnseen, "6 all that was accepted is kept"),
        (Self::PullDeaf, "6 all that was accepted is kept"),
    ];

    /// What it makes of a vector that somebody goes on from.
    pub(super) fn resumes(self, vector: &mut Vector) {
        let places: Vec<_> = vector.iter().collect();
        for (origin, epoch, at) in places {
            match self {
                Self::VectorBehind => vector.set(origin, epoch, at.saturating_sub(1)),
                Self::VectorAhead => vector.set(origin, epoch, at + 1),
                _ => {}
            }
        }
    }

    /// What it makes of a state that is saved.
    pub(super) fn save(self, state: &[u8]) -> Option<bytes::Bytes> {
        if self != Self::TornForgotten {
            return None;
        }
        let mut state = SinkState::decode(state).ok()?;
        let is_torn = |reason: &ParkedReason| matches!(reason, ParkedReason::TornBatch { .. });
        state.parked.retain(|_, entry| !is_torn(&entry.reason));
        state.encode().ok()
    }
}

impl World {
    /// What the mutant makes of a request: an answer without asking, or another request.
    pub(super) fn mutate(&self, node: usize, request: &mut Request) -> Option<Answer> {
        let mutant = self.mutant.filter(|_| node < self.nodes.len())?;
        match (mutant, request) {
            (Mutant::LogForgotten, Request::PutLog { .. }) => Some(Ok(Reply::Done)),
            (Mutant::ParkedForgotten, Request::Park(_))
            | (Mutant::Deaf, Request::Advance { .. }) => Some(Ok(Reply::Applied(true))),
            (Mutant::CommitMiscounted, Request::PutLog { rows, .. }) => {
                for row in rows {
                    row.commit_count += 1;
                }
                None
            }
            (Mutant::Unconditioned, Request::Append(append)) => {
                let head = self.server.tables().events.get(&append.bucket);
                let head = head.and_then(|partition| partition.head);
                let expected = head.map_or(Expected::Nothing, |head| {
                    Expected::Event(head.sequence, head.event_id)
                });
                **append = AppendRows {
                    expected,
                    ..(**append).clone()
                };
                None
            }
            (Mutant::MarkAhead, Request::Advance { to, .. }) => {
                let end = self.nodes.get(node)?.log.disk.lock().end();
                *to = Watermark {
                    position: end.position,
                    hash: end.hash,
                    commit_number: end.number,
                    ..*to
                };
                None
            }
            (
                Mutant::SessionIgnored,
                Request::Advance {
                    origin,
                    epoch,
                    seen,
                    ..
                },
            ) => {
                let epochs = self.server.tables().origins.get(origin)?;
                *seen = epochs.get(epoch)?.watermark;
                None
            }
            _ => None,
        }
    }

    /// What the mutant makes of an answer.
    pub(super) fn mutate_answer(&self, node: usize, request: &Request, answer: Answer) -> Answer {
        let guesses = self.mutant == Some(Mutant::UnclearGuessed) && node < self.nodes.len();
        match request {
            Request::Parked { .. }
                if node >= FIRST && self.mutant == Some(Mutant::ParkedUnseen) =>
            {
                Ok(Reply::Parked(Vec::new()))
            }
            Request::AllOrigins if node >= PULLER && self.mutant == Some(Mutant::PullDeaf) => {
                Ok(Reply::Origins(Vec::new()))
            }
            Request::Append(_) if guesses && answer.is_err() => Ok(Reply::Applied(true)),
            _ => answer,
        }
    }
}
