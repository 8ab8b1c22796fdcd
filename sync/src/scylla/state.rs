//! What is kept of a replica between two runs, and what of it is asked.

use bytes::Bytes;
use tidelog_backends::commits::CommitEnd;
use tidelog_core::{Error, StreamId};
use uuid::Uuid;

use super::parked::ParkedEntry;
use crate::replicate::keeper::KeptState;
use crate::replicate::outbox::Identity;
pub(crate) use crate::sinks::replication::{Replica, SinkState, Stretch};

pub(crate) type Keeper = crate::replicate::keeper::Keeper<SinkState>;

impl SinkState {
    /// Whether this session was claimed by us.
    pub(crate) fn is_ours(&self, session: Uuid) -> bool {
        !session.is_nil() && (self.session == session || self.next_sessions.contains(&session))
    }

    /// The epoch in whose partitions the row of `position` stands.
    pub(crate) fn epoch_of(&self, position: u64) -> Uuid {
        let at = self
            .lineage
            .partition_point(|stretch| stretch.first_position <= position);
        let stretch = at.checked_sub(1).and_then(|at| self.lineage.get(at));
        stretch.map_or(self.epoch, |stretch| stretch.epoch)
    }

    /// The entry that holds events of `stream` now, if one does.
    pub(crate) fn held(&self, stream: &StreamId) -> Option<&ParkedEntry> {
        self.of(stream).find(|entry| entry.holds())
    }

    /// All entries of `stream`.
    pub(crate) fn of(&self, stream: &StreamId) -> impl Iterator<Item = &ParkedEntry> {
        let range = (stream.clone(), 0)..=(stream.clone(), u64::MAX);
        self.parked.range(range).map(|(_, entry)| entry)
    }
}

impl KeptState for SinkState {
    fn unknown(identity: &Identity) -> Self {
        Self::new(identity.origin, identity.epoch, identity.genesis())
    }

    fn origin(&self) -> Uuid {
        self.origin
    }

    fn epoch(&self) -> Uuid {
        self.epoch
    }

    fn session(&self) -> Uuid {
        self.session
    }

    fn settled(&self) -> CommitEnd {
        self.settled
    }

    fn set_settled(&mut self, settled: CommitEnd) {
        self.settled = settled;
    }

    fn encode(&self) -> Result<Bytes, Error> {
        Self::encode(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        Self::decode(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_stands_in_the_partition_of_the_epoch_that_its_position_is_of() {
        let first = Uuid::from_bytes([2; 16]);
        let genesis = CommitEnd::genesis(first, first);
        let mut state = SinkState::new(first, first, genesis);
        let fork = Uuid::from_bytes([6; 16]);
        state.lineage.push(Stretch {
            epoch: fork,
            first_position: 10,
        });
        let of = |position| state.epoch_of(position).as_bytes()[0];
        assert_eq!([of(1), of(9), of(10), of(u64::MAX)], [2, 2, 6, 6]);
    }
}
