//! Claiming a log that Kafka alone knows of: what is asked before what is saved, and what is written then.

use std::sync::Arc;

use tidelog_backends::commits::CommitEnd;
use uuid::Uuid;

use super::broker::{Broker, BrokerError, OriginRecord};
use super::connect::last_end;
use super::handshake::{Verdict, cloned, verdict};
use super::sink::KafkaSink;
use super::state::Keeper;
use crate::replicate::outbox::{Identity, Outbox};
use crate::replicate::sink::Stop;

/// Claims before it is somebody else's.
const CLAIMS: usize = 3;

impl<B: Broker> KafkaSink<B> {
    /// Claims this log, when Kafka alone knows of it; answers what its record says then.
    pub(super) async fn shake_hands(
        &mut self,
        identity: Identity,
        outbox: &Arc<dyn Outbox>,
        keeper: &mut Keeper,
    ) -> Result<CommitEnd, Stop> {
        if let Some(record) = &self.greeted {
            // What was forgotten since was claimed all the same.
            if !keeper.state().is_ours(record.session) {
                keeper.change().session = record.session;
                keeper.save(outbox).await.map_err(Stop::local)?;
            }
            return Ok(CommitEnd {
                number: record.commit,
                position: record.position,
                hash: record.hash,
            });
        }
        let action = "take this store's place";
        let mut seen = None;
        for _ in 0..CLAIMS {
            let first = self.record(identity.origin).await?;
            judge(first.as_ref(), identity, &**outbox, keeper)?;
            let fenced = self.broker.fence(identity.origin).await;
            fenced.map_err(|error| self.stop(error, action))?;
            let second = self.record(identity.origin).await?;
            if second != first {
                seen = second;
                continue;
            }
            let marked = second.map(|record| record.session);
            let session = self.next_session(marked, outbox, keeper).await?;
            let settled = keeper.state().settled;
            let told = to_tell(settled, &**outbox, keeper)?;
            let record = self.record_of(identity, session, told, first.as_ref());
            let begun = self.options.env.ticks.now();
            match self.broker.mark(record.clone()).await {
                Ok(()) => {
                    (self.greeted, self.held_at) = (Some(record), begun);
                    let state = keeper.change();
                    (state.session, state.next_session) = (session, Uuid::nil());
                    state.epoch = identity.epoch;
                    keeper.save(outbox).await.map_err(Stop::local)?;
                    return Ok(told);
                }
                Err(BrokerError::Fenced) => seen = self.record(identity.origin).await?,
                Err(error) => return Err(self.stop(error, action)),
            }
        }
        Err(match seen {
            Some(record) if !keeper.state().is_ours(record.session) => cloned(&record).into(),
            _ => self.stop(BrokerError::Fenced, action),
        })
    }

    pub(super) async fn record(&mut self, origin: Uuid) -> Result<Option<OriginRecord>, Stop> {
        let record = self.broker.record(origin).await;
        record.map_err(|error| self.stop(error, "read what it knows of this store"))
    }

    /// A session to be marked, saved before it is used anywhere. `marked` is the one that stands in the
    /// record, looked at behind the fence: no claim of before can come to stand there any more, so that
    /// none but these two is to be known. It is a new one each time: a copy of the disk that was made
    /// between a claim and its answer knows the one before, too.
    pub(super) async fn next_session(
        &mut self,
        marked: Option<Uuid>,
        outbox: &Arc<dyn Outbox>,
        keeper: &mut Keeper,
    ) -> Result<Uuid, Stop> {
        let session = self.options.env.ids.next_uuid();
        let state = keeper.change();
        state.session = marked.unwrap_or(state.session);
        state.next_session = session;
        keeper.save(outbox).await.map_err(Stop::local)?;
        Ok(session)
    }

    pub(super) fn record_of(
        &self,
        identity: Identity,
        session: Uuid,
        at: CommitEnd,
        before: Option<&OriginRecord>,
    ) -> OriginRecord {
        OriginRecord {
            origin: identity.origin,
            first_epoch: identity.first_epoch,
            epoch: identity.epoch,
            parent: before.and_then(|record| record.parent),
            session,
            position: at.position,
            commit: at.number,
            hash: at.hash,
            name: self.options.name.clone(),
            retired: before.map_or_else(Vec::new, |record| record.retired.clone()),
        }
    }
}

/// What a record says where everything up to `settled` is settled: whoever goes on there, on a machine
/// that was restored or has forgotten, does not know what is set aside here, and later events of those
/// streams would leave a gap.
pub(super) fn to_tell(
    settled: CommitEnd,
    outbox: &dyn Outbox,
    keeper: &Keeper,
) -> Result<CommitEnd, Stop> {
    let published = keeper.state().published();
    if published >= settled.position {
        return Ok(settled);
    }
    let genesis = outbox.identity().genesis();
    last_end(outbox, published, genesis).map_err(Stop::local)
}

/// Takes from a record what the state does not know, or stops.
fn judge(
    record: Option<&OriginRecord>,
    identity: Identity,
    outbox: &dyn Outbox,
    keeper: &mut Keeper,
) -> Result<(), Stop> {
    match verdict(record, keeper.state(), identity, &outbox).map_err(Stop::local)? {
        Verdict::Halt(halt) => Err(halt.into()),
        Verdict::Claim => Ok(()),
        Verdict::ClaimAt(end) => {
            keeper.change().settled = end;
            Ok(())
        }
        Verdict::ClaimLost => {
            tracing::warn!(
                "the cluster lost what it knew of this store; `republish` if topics are gone, too"
            );
            Ok(())
        }
    }
}
