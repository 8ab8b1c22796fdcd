//! The events of other origins, as the replica has them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tidelog_backends::wire::{OriginRow, Wire, WireError};
use tidelog_core::{Error, EventEnvelope, Sleeper, StreamId};
use uuid::Uuid;

use super::ask::{self, trouble};
use super::follow_plan::{self, Step, plan};
use super::lineage::Lineage;
use super::parked_of_log::Sizes;
use super::vector::{LeftOut, Vector};
use source::Source;

mod source;

/// How often it is looked how far the others are.
const EVERY: Duration = Duration::from_secs(1);

/// What another origin's log says next.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Followed {
    /// An event.
    Event {
        /// The store whose log it is in.
        origin: Uuid,
        /// The epoch of the store.
        epoch: Uuid,
        /// The event; its position is that in the origin's log. One that the origin adopted from
        /// somebody else has its birth in it, and may come from there, too.
        envelope: EventEnvelope,
    },
    /// Events of a stream gave way to what follows, in the origin's log: a conflict was resolved
    /// there.
    Superseded {
        /// The store.
        origin: Uuid,
        /// Its epoch.
        epoch: Uuid,
        /// The stream.
        stream: StreamId,
        /// The first sequence that means another event from now on.
        from: u64,
    },
    /// The origin lost these positions, and a repair of it has said so; what comes next stands
    /// behind them.
    Lost {
        /// The store.
        origin: Uuid,
        /// Its epoch.
        epoch: Uuid,
        /// What is gone.
        positions: RangeInclusive<u64>,
    },
    /// The origin gave up an epoch for another one, which has a part of its history less than was
    /// delivered: events of `old` above `at` are not in the store any more. What the new epoch has
    /// in their place follows.
    Forked {
        /// The store.
        origin: Uuid,
        /// The epoch that was followed.
        old: Uuid,
        /// The one that is followed now.
        new: Uuid,
        /// Up to here they are the same.
        at: u64,
    },
}

/// Follows all other origins of a keyspace; made by
/// [`Replication::follow`](crate::Replication::follow).
///
/// Each origin's events come in the order of its log, each once; origins come as they come. Only
/// what is settled comes: accepted by the server, and nothing that is parked. Where the server accepts
/// later what was parked ([`retry_stream`](crate::Replication::retry_stream)), those events come then:
/// in the order of their stream, with positions below those that came of other streams meanwhile.
/// Memory is one commit and a page of rows an origin.
///
/// *Limit:* a [`Vector`] has positions and no hashes. Where two histories of one epoch were replicated (a
/// copied disk, or an old image of it put back, before [`fork`](crate::Replication::fork)) and the server
/// lost the rows that tell them apart, whoever followed the one goes on at that position in the other: the
/// sequences of its streams jump. [`peers`](crate::Replication::peers) have each whole.
pub struct Follow {
    wire: Arc<dyn Wire>,
    sleeper: Arc<dyn Sleeper>,
    /// Left out.
    own: Option<Uuid>,
    sizes: Option<Sizes>,
    vector: Vector,
    sources: BTreeMap<(Uuid, Uuid), Source>,
    /// Whose turn it is.
    turn: Option<(Uuid, Uuid)>,
    ready: VecDeque<Ready>,
    last_error: Option<Error>,
}

/// What is delivered, and where somebody is who has it.
struct Ready {
    item: Option<Followed>,
    place: (Uuid, Uuid, u64),
    forgets: Option<Uuid>,
    left: Vec<Left>,
}

/// What of a parked range was passed over, or need not be any more.
enum Left {
    /// The event at this position was passed over.
    Out((StreamId, u64), u64),
    /// All up to this position was made up for.
    MadeUp((StreamId, u64), u64),
}

/// A parked range, and which part of it was passed over.
type Undone = ((StreamId, u64), RangeInclusive<u64>);

impl Follow {
    pub(super) fn new(
        wire: Arc<dyn Wire>,
        sleeper: Arc<dyn Sleeper>,
        own: Option<Uuid>,
        vector: Vector,
    ) -> Self {
        Self {
            wire,
            sleeper,
            own,
            sizes: None,
            vector,
            sources: BTreeMap::new(),
            turn: None,
            ready: VecDeque::new(),
            last_error: None,
        }
    }

    /// The next event of any other origin; waits for it. Cancel safe: a dropped call loses nothing.
    ///
    /// A server that does not answer is asked again once a second, for ever; see
    /// [`last_error`](Self::last_error).
    ///
    /// # Errors
    /// [`Error::ServerRefused`], and [`Error::Damaged`] where the rows of a log are not those that its
    /// watermark proves. The next call goes on with the others.
    pub async fn next(&mut self) -> Result<Followed, Error> {
        loop {
            if let Some(item) = self.take() {
                return Ok(item);
            }
            match self.fill().await {
                Ok(true) => {}
                Ok(false) => self.sleeper.sleep(EVERY).await,
                Err(error @ Error::Unreachable { .. }) => {
                    self.last_error = Some(error);
                    self.sleeper.sleep(EVERY).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The next one that is there already; `None` when none is.
    ///
    /// # Errors
    /// As [`next`](Self::next), and [`Error::Unreachable`].
    pub async fn next_ready(&mut self) -> Result<Option<Followed>, Error> {
        loop {
            if let Some(item) = self.take() {
                return Ok(Some(item));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    /// [`next`](Self::next) for threads without a runtime.
    ///
    /// # Errors
    /// As there.
    pub fn next_blocking(&mut self) -> Result<Followed, Error> {
        pollster::block_on(self.next())
    }

    /// Where somebody is who has everything that was delivered: to begin there the next time.
    pub fn vector(&self) -> &Vector {
        &self.vector
    }

    /// Origins of which rows are missing at the server that it had once; they are waited for.
    pub fn waiting(&self) -> usize {
        let sources = self.sources.values();
        sources.filter(|source| source.is_waiting).count()
    }

    /// Why the server did not answer the last time that it did not.
    pub fn last_error(&self) -> Option<&Error> {
        self.last_error.as_ref()
    }

    fn take(&mut self) -> Option<Followed> {
        while let Some(ready) = self.ready.pop_front() {
            let (origin, epoch, position) = ready.place;
            self.vector.set(origin, epoch, position);
            if let Some(old) = ready.forgets {
                self.vector.replace(origin, old, epoch, position);
            }
            let is_event = matches!(ready.item, Some(Followed::Event { .. }));
            for left in ready.left {
                match left {
                    // Other epochs that have it, too, need not bring it again.
                    Left::MadeUp(key, to) if is_event => {
                        for (other, _) in self.vector.of(origin) {
                            if self.have_in_common(origin, (epoch, other), to) {
                                self.vector.made_up(origin, other, &key, to);
                            }
                        }
                    }
                    Left::Out(key, at) => self.vector.leave_out(origin, epoch, key, at..=at),
                    Left::MadeUp(key, to) => self.vector.made_up(origin, epoch, &key, to),
                }
            }
            if ready.item.is_some() {
                return ready.item;
            }
        }
        None
    }

    /// Whether two epochs of an origin are one up to `position`, as far as is known. Copies that went
    /// apart before may have the same event there, each parked under its own row.
    fn have_in_common(&self, origin: Uuid, (one, other): (Uuid, Uuid), position: u64) -> bool {
        let lineage = |epoch| self.sources.get(&(origin, epoch)).map(Source::lineage);
        let both = lineage(one).zip(lineage(other));
        one == other || both.is_none_or(|(one, other)| one.common(other) >= position)
    }

    /// Makes something ready; whether there was anything. Nothing is lost when it is dropped.
    async fn fill(&mut self) -> Result<bool, Error> {
        if self.step().await? {
            return Ok(true);
        }
        self.look().await?;
        self.step().await
    }

    /// Looks how far the others are.
    async fn look(&mut self) -> Result<(), Error> {
        let asked = |error: WireError| trouble("follow other stores", &error);
        if self.sizes.is_none() {
            let meta = ask::meta(&*self.wire).await.map_err(asked)?;
            let meta = meta.ok_or_else(|| Error::Unreachable {
                server: "the replica".into(),
                action: "follow other stores".into(),
                reason: "its keyspace has no tables of tidelog".into(),
            })?;
            self.sizes = Some(Sizes {
                chunk_records: meta.chunk_records,
                bucket_events: meta.bucket_events.max(1),
            });
        }
        let rows = ask::all_origins(&*self.wire).await.map_err(asked)?;
        let mut of: BTreeMap<Uuid, Vec<OriginRow>> = BTreeMap::new();
        for row in rows {
            if Some(row.origin) != self.own {
                of.entry(row.origin).or_default().push(row);
            }
        }
        for (origin, rows) in of {
            let steps = plan(&rows, &self.vector.of(origin));
            for step in &steps {
                let undone = self.undone(origin, &rows, step).await.map_err(asked)?;
                self.follow(origin, &rows, step, undone);
            }
            self.hand_over(origin, &rows, &steps);
            self.sources.retain(|(of, epoch), _| {
                *of != origin || steps.iter().any(|step| step.epoch == *epoch)
            });
        }
        self.last_error = None;
        Ok(())
    }

    /// What gave way in epochs that this one left below that: in this one it did not, and nobody has seen
    /// it.
    async fn undone(
        &self,
        origin: Uuid,
        rows: &[OriginRow],
        step: &Step,
    ) -> Result<Vec<Undone>, WireError> {
        let known = self.sources.get(&(origin, step.epoch));
        let is_known = known.is_some_and(|source| source.after() >= step.after);
        let seen = self.vector.position(origin, step.epoch).unwrap_or(0);
        let lineage = Lineage::of(rows, step.epoch).ok();
        let mut undone = Vec::new();
        for stretch in lineage.iter().flat_map(Lineage::epochs) {
            if is_known || seen >= step.after || stretch.epoch == step.epoch {
                continue;
            }
            for row in ask::parked(&*self.wire, origin, stretch.epoch).await? {
                let (first, last) = (row.key.first_position, stretch.to.min(step.after));
                let is_undone = row.until_position.is_some_and(|until| until > stretch.to);
                if is_undone && first <= last && seen < last {
                    undone.push(((row.key.stream, first), first.max(seen + 1)..=last));
                }
            }
        }
        Ok(undone)
    }

    fn follow(&mut self, origin: Uuid, rows: &[OriginRow], step: &Step, undone: Vec<Undone>) {
        let Some(row) = rows.iter().find(|row| row.epoch == step.epoch) else {
            return;
        };
        let Ok(lineage) = Lineage::of(rows, step.epoch) else {
            return;
        };
        let key = (origin, step.epoch);
        if let Some(source) = self.sources.get_mut(&key)
            && source.after() >= step.after
        {
            source.goes_on(lineage, row);
            return;
        }
        let place = (origin, step.epoch, step.after);
        match step.instead_of {
            Some(old) if step.is_fork => self.ready.push_back(Ready {
                item: Some(Followed::Forked {
                    origin,
                    old,
                    new: step.epoch,
                    at: step.after,
                }),
                place,
                forgets: Some(old),
                left: undone
                    .into_iter()
                    .flat_map(|(key, range)| {
                        let (from, to) = range.into_inner();
                        [Left::Out(key.clone(), from), Left::Out(key, to)]
                    })
                    .collect(),
            }),
            old => {
                self.vector.set(origin, step.epoch, step.after);
                if let Some(beside) = step.beside {
                    self.vector.share(origin, beside, step.epoch, step.after);
                }
                if let Some(old) = old {
                    self.vector.replace(origin, old, step.epoch, step.after);
                }
                for (key, range) in undone {
                    self.vector.leave_out(origin, step.epoch, key, range);
                }
            }
        }
        let source = Source::new(lineage, row.clone(), step.after);
        self.sources.insert(key, source);
    }

    /// What was left out of an epoch that was given up comes with the one that took its place.
    fn hand_over(&mut self, origin: Uuid, rows: &[OriginRow], steps: &[Step]) {
        for (old, _) in self.vector.of(origin) {
            let is_followed = |epoch| steps.iter().any(|step| step.epoch == epoch);
            let is_replaced = steps.iter().any(|step| step.instead_of == Some(old));
            if is_followed(old) || is_replaced || self.vector.left_out_of(origin, old).is_none() {
                continue;
            }
            let new = follow_plan::successor(rows, old).filter(|new| is_followed(*new));
            let lineage = |epoch| Lineage::of(rows, epoch).ok();
            if let Some(new) = new
                && let (Some(of_old), Some(of_new)) = (lineage(old), lineage(new))
            {
                let common = of_old.common(&of_new);
                self.vector.hand_over(origin, old, new, common);
            }
        }
    }

    /// Lets each source go on until one has something; whether one had.
    async fn step(&mut self) -> Result<bool, Error> {
        if !self.ready.is_empty() {
            return Ok(true);
        }
        let Some(sizes) = self.sizes else {
            return Ok(false);
        };
        let mut keys: Vec<_> = self.sources.keys().copied().collect();
        // The one behind the last one is first.
        let first = keys.partition_point(|key| Some(*key) <= self.turn);
        keys.rotate_left(first);
        for key in keys {
            let Some(source) = self.sources.get_mut(&key) else {
                continue;
            };
            self.turn = Some(key);
            let nothing = LeftOut::new();
            let left_out = self.vector.left_out_of(key.0, key.1).unwrap_or(&nothing);
            // What was read again and is still left out is nothing that came.
            while let Some(came) = source.step(&*self.wire, sizes, left_out).await? {
                self.ready.extend(source.ready(key, came, left_out)?);
                if !self.ready.is_empty() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

impl fmt::Debug for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follow")
            .field("vector", &format_args!("{}", self.vector))
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
