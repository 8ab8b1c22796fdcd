//! Connecting: what is asked before anything is sent, in order, and what is saved before what.

use std::sync::Arc;
use std::task::{Context, Poll};

use tidelog_backends::commits::CommitEnd;
use tidelog_core::{Error, Halt};
use uuid::Uuid;

use super::broker::{Broker, BrokerError, OriginRecord, Place};
use super::handshake::{Verdict, cloned, end_at, is_ancestor, verdict};
use super::link::Link;
use super::sink::KafkaSink;
use super::state::Keeper;
use crate::listeners::StartAt;
use crate::replicate::outbox::{Identity, Outbox};
use crate::replicate::sink::{Begin, Other, Stop};

/// Claims before it is somebody else's.
const CLAIMS: usize = 3;

impl<B: Broker> KafkaSink<B> {
    pub(super) async fn connect_to(
        &mut self,
        outbox: &Arc<dyn Outbox>,
        keeper: &mut Keeper,
    ) -> Result<Begin, Stop> {
        if !self.has_generation {
            self.begin_generation()?;
        }
        let identity = outbox.identity();
        let cluster = self.broker.cluster(Vec::new()).await;
        let cluster = cluster.map_err(|error| self.stop(error, "connect"))?;
        let known = &keeper.state().cluster;
        if known.is_empty() {
            let settled = keeper.state().settled;
            // A store that was restored goes on where it is told to.
            let start = if settled.position > 0 {
                settled
            } else {
                self.start(&**outbox, settled)?
            };
            let state = keeper.change();
            (state.cluster, state.settled) = (cluster.id, start);
        } else if *known != cluster.id {
            return Err(Halt::OtherCluster {
                expected: known.clone(),
                found: cluster.id,
            }
            .into());
        }
        let marked = if self.options.is_alone {
            self.shake_hands(identity, outbox, keeper).await?
        } else {
            follow_log(identity, &**outbox, keeper)?;
            keeper.state().settled
        };
        self.look_back(keeper).await?;
        if !keeper.state().parked.is_empty() && keeper.is_dirty() {
            // What is set aside settles what is read now, and may not be durable yet.
            keeper.save(outbox).await.map_err(Stop::local)?;
        }
        let (floor, pass) = (keeper.state().settled, keeper.state().republish);
        self.waiting.begins(pass);
        let epochs = outbox.epochs().map_err(Stop::local)?;
        self.encoder.set_epochs(&epochs);
        let mut link = Link::new(identity, floor, pass, marked);
        let after = match pass {
            // What was lost stays wanted until the pass is over.
            Some(pass) => pass.at,
            None if std::mem::take(&mut self.is_overlap_wanted) => {
                link.overlaps = true;
                link.read = floor.position.saturating_sub(self.options.overlap);
                link.read
            }
            None => floor.position,
        };
        link.is_note_wanted = true;
        self.link = Some(Box::new(link));
        self.count(keeper);
        for (stream, goes_alone) in std::mem::take(&mut self.wishes) {
            self.reopen(&stream, goes_alone, keeper);
        }
        Ok(Begin {
            after,
            settled: floor,
            rewinds_to: 0,
        })
    }

    /// Where a log begins that was never published.
    fn start(&self, outbox: &dyn Outbox, genesis: CommitEnd) -> Result<CommitEnd, Stop> {
        // Also of what may not be published yet.
        let (last, _) = outbox.reaches();
        let position = match self.options.start {
            StartAt::Beginning => return Ok(genesis),
            StartAt::End => last,
            StartAt::After(position) if position > last => {
                return Err(Halt::Refused {
                    action: format!("begin after position {position}").into(),
                    reason: format!("the log ends at {last}").into(),
                }
                .into());
            }
            StartAt::After(position) => position,
        };
        last_end(outbox, position, genesis).map_err(Stop::local)
    }

    /// Looks whether topics have what they had when this log was published last.
    async fn look_back(&mut self, keeper: &mut Keeper) -> Result<(), Stop> {
        let kept = keeper.state().places.iter();
        let places: Vec<(Place, i64)> = kept.map(|(place, at)| (place.clone(), *at)).collect();
        if places.is_empty() {
            return Ok(());
        }
        for (place, offset) in &places {
            self.topics.remember(&place.topic, place.partition, *offset);
        }
        let asked = places.iter().map(|(place, _)| place.clone()).collect();
        let offsets = self.broker.offsets(asked).await;
        let offsets = offsets.map_err(|error| self.stop(error, "look at topics"))?;
        self.compare(&places, &offsets, keeper);
        Ok(())
    }

    /// Claims this log, when Kafka alone knows of it; answers what its record says then.
    async fn shake_hands(
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
            match self.broker.mark(record.clone()).await {
                Ok(()) => {
                    self.greeted = Some(record);
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

    async fn record(&mut self, origin: Uuid) -> Result<Option<OriginRecord>, Stop> {
        let record = self.broker.record(origin).await;
        record.map_err(|error| self.stop(error, "read what it knows of this store"))
    }

    /// A session to be marked, saved before it is used anywhere. `marked` is the one that stands in the
    /// record, looked at behind the fence: no claim of before can come to stand there any more, so that
    /// none but these two is to be known. It is a new one each time: a copy of the disk that was made
    /// between a claim and its answer knows the one before, too.
    async fn next_session(
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

    fn record_of(
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

    /// Writes a record of how far this is, if there is news; whether there is.
    pub(super) fn begin_marking(
        &mut self,
        outbox: &dyn Outbox,
        keeper: &Keeper,
    ) -> Result<bool, Stop> {
        let Some(link) = &mut self.link else {
            return Ok(false);
        };
        link.is_note_wanted = false;
        if !self.options.is_alone || link.marking.is_some() {
            return Ok(false);
        }
        let settled = link.settled();
        let told = to_tell(settled, outbox, keeper)?;
        link.noted = Some(settled.position);
        if told == link.marked {
            return Ok(false);
        }
        let (identity, session) = (link.identity, keeper.state().session);
        let record = self.record_of(identity, session, told, self.greeted.as_ref());
        let marking = self.broker.mark(record);
        if let Some(link) = &mut self.link {
            link.marking = Some((told, marking));
        }
        Ok(true)
    }

    pub(super) fn poll_marking(
        &mut self,
        cx: &mut Context<'_>,
        _keeper: &mut Keeper,
    ) -> Result<bool, Stop> {
        let Some(link) = &mut self.link else {
            return Ok(false);
        };
        let Some((at, marking)) = &mut link.marking else {
            return Ok(false);
        };
        let Poll::Ready(done) = marking.as_mut().poll(cx) else {
            return Ok(false);
        };
        let at = *at;
        link.marking = None;
        match done {
            Ok(()) => {
                link.marked = at;
                if let Some(record) = &mut self.greeted {
                    (record.position, record.commit, record.hash) =
                        (at.position, at.number, at.hash);
                }
            }
            // Who it was, the record tells.
            Err(BrokerError::Fenced) => {
                self.greeted = None;
                link.is_again_wanted = true;
            }
            Err(error) => return Err(self.stop(error, "note how far this store is")),
        }
        Ok(true)
    }
}

/// What a record says where everything up to `settled` is settled: whoever goes on there, on a machine
/// that was restored or has forgotten, does not know what is set aside here, and later events of those
/// streams would leave a gap.
fn to_tell(settled: CommitEnd, outbox: &dyn Outbox, keeper: &Keeper) -> Result<CommitEnd, Stop> {
    let published = keeper.state().published();
    if published >= settled.position {
        return Ok(settled);
    }
    let genesis = outbox.identity().genesis();
    last_end(outbox, published, genesis).map_err(Stop::local)
}

/// The last end of a commit up to `position`.
fn last_end(outbox: &dyn Outbox, position: u64, genesis: CommitEnd) -> Result<CommitEnd, Error> {
    let mut position = position.min(outbox.reaches().0);
    while position > 0 {
        if let Some(end) = outbox.commit_end(position)? {
            return Ok(end);
        }
        position -= 1;
    }
    Ok(genesis)
}

/// With a replica: its handshake has decided; the state follows the log.
fn follow_log(identity: Identity, outbox: &dyn Outbox, keeper: &mut Keeper) -> Result<(), Stop> {
    let state = keeper.state();
    if state.epoch != identity.epoch {
        let settled = state.settled;
        let is_here = outbox.commit_end(settled.position).map_err(Stop::local)?;
        let at = match is_here.filter(|end| end.hash == settled.hash) {
            Some(end) => end,
            // A repair lost its end.
            None => last_end(outbox, settled.position, identity.genesis()).map_err(Stop::local)?,
        };
        let state = keeper.change();
        (state.epoch, state.settled) = (identity.epoch, at);
    }
    Ok(())
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
