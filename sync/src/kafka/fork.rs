//! Going on in an epoch of its own, of a log that Kafka alone knows of.

use std::sync::Arc;

use tidelog_core::Error;
use uuid::Uuid;

use super::broker::Broker;
use super::claim::to_tell;
use super::handshake::{end_at, is_ancestor};
use super::sink::KafkaSink;
use super::state::Keeper;
use crate::replicate::outbox::Outbox;
use crate::replicate::sink::{Other, Stop};

impl<B: Broker> KafkaSink<B> {
    /// Goes on in an epoch of its own.
    pub(super) async fn fork(
        &mut self,
        other: Other,
        outbox: &Arc<dyn Outbox>,
        keeper: &mut Keeper,
    ) -> Result<(), Error> {
        if !self.options.is_alone {
            let reason = "with a replica, it is `Replication::fork` that is to be called";
            return Err(Error::invalid("call", "fork", reason));
        }
        let done = self.forked(other, outbox, keeper).await;
        done.map_err(|stop| match stop {
            Stop::Trouble(error) => error,
            Stop::Halt(halt) => Error::Halted(halt),
            Stop::Closed => Error::Closed,
        })
    }

    async fn forked(
        &mut self,
        other: Other,
        outbox: &Arc<dyn Outbox>,
        keeper: &mut Keeper,
    ) -> Result<(), Stop> {
        if !self.has_generation {
            self.begin_generation()?;
        }
        let mut identity = outbox.identity();
        let Some(old) = self.record(identity.origin).await? else {
            let reason = "the cluster knows nothing of this store: `retry` is enough";
            return Err(Stop::Trouble(Error::invalid("call", "fork", reason)));
        };
        let local: &dyn Outbox = &**outbox;
        let epochs = local.epochs().map_err(Stop::local)?;
        let was_known = old.epoch == identity.epoch || old.retired.contains(&identity.epoch);
        if was_known {
            identity.epoch = outbox.begin_epoch().await.map_err(Stop::local)?;
        }
        let is_of_this_log = old.epoch == outbox.identity().epoch
            || was_known
            || is_ancestor(old.epoch, identity.epoch, &epochs);
        let common = end_at(&old, &local).map_err(Stop::local)?;
        let common = common.filter(|end| end.hash == old.hash);
        let known = keeper.state().settled;
        let known_here = local.commit_end(known.position).map_err(Stop::local)?;
        let mut at = identity.genesis();
        let known_here = known_here.filter(|end| end.hash == known.hash);
        for end in common.into_iter().chain(known_here) {
            if end.position > at.position && is_of_this_log {
                at = end;
            }
        }
        if old.position > at.position {
            tracing::warn!(
                published = old.position,
                goes_on_after = at.position,
                "consumers have seen events that this store does not have"
            );
        }
        keeper.change().settled = at;
        let fenced = self.broker.fence(identity.origin).await;
        fenced.map_err(|error| self.stop(error, "fork this store"))?;
        // What stands there is of another epoch, where nobody asks for the session.
        let session = self.next_session(None, outbox, keeper).await?;
        let told = to_tell(at, &**outbox, keeper)?;
        let mut record = self.record_of(identity, session, told, Some(&old));
        record.parent = Some(old.epoch);
        if other == Other::Gone && old.epoch != identity.epoch {
            record.retired.push(old.epoch);
        }
        let marked = self.broker.mark(record).await;
        marked.map_err(|error| self.stop(error, "fork this store"))?;
        let state = keeper.change();
        (state.epoch, state.session) = (identity.epoch, session);
        state.next_session = Uuid::nil();
        keeper.save(outbox).await.map_err(Stop::local)?;
        self.greeted = None;
        Ok(())
    }
}
