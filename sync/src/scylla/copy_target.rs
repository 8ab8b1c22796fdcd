//! Where the commits of another log go.

use tidelog_backends::commits::{Commit, CommitEnd, DeclaredHole};
use tidelog_backends::wire::ParkedRow;
use tidelog_core::Error;
use uuid::Uuid;

use crate::scylla::state::Replica;

/// A log that is made from another one's commits, as they stand. Its own end is all that it needs to
/// be gone on with.
pub(crate) trait CopyTarget: Send {
    /// What the next commit must follow.
    fn end(&self) -> CommitEnd;

    /// Appends a commit that follows the end.
    fn push(&mut self, commit: &Commit) -> Result<(), Error>;

    /// Passes over commits that the log declares lost.
    fn skip(&mut self, hole: &DeclaredHole) -> Result<(), Error>;

    /// What was pushed survives a power cut.
    fn sync(&mut self) -> Result<(), Error>;
}

/// A copy that becomes a store of its own in the end.
pub(crate) trait Restorable: CopyTarget {
    /// Whether its log has this chain hash behind `position`, at which a commit ends; also where that log
    /// declares lost what stood there.
    fn has(&self, position: u64, hash: &[u8; 32]) -> Result<bool, Error>;

    /// What was saved by [`claim`](Self::claim).
    fn claimed(&self) -> Result<Option<Claim>, Error>;

    /// Keeps what the server is told next, durable when this returns: whoever opens the store goes on
    /// by it.
    fn claim(&mut self, claim: &Claim) -> Result<(), Error>;

    /// Keeps that everything up to `position` is published already; durable when this returns.
    fn published(&mut self, claim: &Claim, position: u64) -> Result<(), Error> {
        let (_, _) = (claim, position);
        Ok(())
    }

    /// It is a store of its own from now on, in the epoch `epoch`.
    fn finish(self, epoch: Uuid) -> Result<(), Error>;
}

/// What a restored store is to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Which keyspace.
    pub keyspace: Replica,
    pub origin: Uuid,
    /// Its own epoch from now on.
    pub epoch: Uuid,
    /// The session that has it.
    pub session: Uuid,
    /// Up to this position, with the chain hash there, it is the log that it was restored from.
    pub end: (u64, [u8; 32]),
    /// Up to here that log was settled: its rows may be there without their events.
    pub settled: CommitEnd,
    /// First position of each of its epochs, oldest first.
    pub lineage: Vec<(Uuid, u64)>,
    /// What its log has parked.
    pub parked: Vec<ParkedRow>,
}
