//! Goes on in an epoch of its own, after a person has decided so.

use tidelog_backends::commits::CommitEnd;
use tidelog_backends::wire::{ErrorClass, ForkRows, OriginRow};
use tidelog_core::Error;
use uuid::Uuid;

use super::ask::{self, trouble};
use super::connect::Caller;
use super::lineage::Lineage;
use super::log_rows_window::Window;
use super::park;
use super::parked_rows::entry;
use super::watermark::watermark;
use crate::replicate::outbox::{Identity, Outbox};
use crate::replicate::sink::{Other, Stop};
use crate::scylla::parked::ParkedEntry;
use crate::scylla::state::Keeper;
use crate::scylla::state::{Replica, SinkState, Stretch};

/// Tries before it is given up; each looks at what the one before has done.
const TRIES: usize = 3;

/// Where a new epoch leaves an old one.
struct Parting {
    old: OriginRow,
    lineage: Lineage,
    at: CommitEnd,
    /// What the old one had settled of it. Rows of the log are there before their events are.
    settled: CommitEnd,
}

impl Caller<'_> {
    /// Makes this store known in an epoch of its own, which leaves the one that the server knows at
    /// the newest commit that both have. May be dropped at every await, and asked for again.
    pub(super) async fn fork(&self, other: Other, keeper: &mut Keeper) -> Result<(), Error> {
        let replica = self.replica(keeper).await.map_err(told)?;
        for _ in 0..TRIES {
            let identity = self.outbox.identity();
            let rows = ask::origins(self.wire, identity.origin).await;
            let rows = rows.map_err(|error| trouble("fork this store", &error))?;
            let parting = self
                .parting(
                    identity,
                    &rows,
                    replica.chunk_records,
                    keeper.state().settled,
                    other,
                )
                .await?;
            let is_known = rows.iter().any(|row| row.epoch == identity.epoch);
            let epoch = if is_known {
                self.outbox.begin_epoch().await?
            } else {
                identity.epoch
            };
            let session = self
                .prepare(epoch, parting.as_ref(), &replica, keeper)
                .await?;
            if self
                .make_known(epoch, session, parting.as_ref(), other, keeper.state())
                .await?
            {
                return Ok(());
            }
            let rows = ask::origins(self.wire, identity.origin).await;
            let rows = rows.map_err(|error| trouble("fork this store", &error))?;
            let mine = |row: &OriginRow| row.epoch == epoch && row.watermark.session == session;
            if rows.iter().any(mine) {
                return Ok(());
            }
        }
        Err(Error::Unreachable {
            server: self.server.into(),
            action: "fork this store".into(),
            reason: "what it knows of this store changes meanwhile".into(),
        })
    }

    /// Where the newest epoch that both know is left; `None` when there is none.
    async fn parting(
        &self,
        identity: Identity,
        rows: &[OriginRow],
        chunk_records: u64,
        known: CommitEnd,
        other: Other,
    ) -> Result<Option<Parting>, Error> {
        let Some(old) = nearest(identity, rows, &**self.outbox)? else {
            return Ok(None);
        };
        let lineage = Lineage::of(rows, old.epoch).map_err(|missing| Error::Unreachable {
            server: self.server.into(),
            action: "fork this store".into(),
            reason: format!("it lost the row of epoch {missing}, which another one came out of")
                .into(),
        })?;
        let at = match self.marked(identity, &old, &lineage)? {
            // Whoever goes on with it may be at another one behind that already.
            (at, true) if other == Other::Lives => at,
            (at, _) => self.common(&old, &lineage, chunk_records, at).await?,
        };
        let settled = self.settled(identity, &old, at, known)?;
        Ok(Some(Parting {
            old,
            lineage,
            at,
            settled,
        }))
    }

    /// What is settled of this log, up to where the old epoch is left. Its watermark says so where it
    /// names a place of this log; another copy's says nothing of it, even below: then what this
    /// store knows by itself counts.
    fn settled(
        &self,
        identity: Identity,
        old: &OriginRow,
        at: CommitEnd,
        known: CommitEnd,
    ) -> Result<CommitEnd, Error> {
        let mark = (old.watermark.position, old.watermark.hash);
        let mut settled = identity.genesis();
        for (position, hash) in [mark, (known.position, known.hash)] {
            let here = self.end_at(position, self.outbox.last())?;
            if let Some(end) = here.filter(|end| end.hash == hash)
                && end.position > settled.position
            {
                settled = end;
            }
        }
        Ok(if settled.position > at.position {
            at
        } else {
            settled
        })
    }

    /// The newest end of this log that the server names as one of the old epoch's, and whether its
    /// watermark is such an end: so that not all of it is compared.
    fn marked(
        &self,
        identity: Identity,
        old: &OriginRow,
        lineage: &Lineage,
    ) -> Result<(CommitEnd, bool), Error> {
        let last = self.outbox.last();
        let mut newest = identity.genesis();
        let mark = (old.watermark.position, old.watermark.hash);
        let mut is_marked = mark.0 == 0;
        let parents = lineage.epochs().filter_map(|s| Some((s.to, s.hash?)));
        for (position, hash) in parents.chain([mark]) {
            let Some(end) = self.end_at(position, last)?.filter(|end| end.hash == hash) else {
                continue;
            };
            is_marked |= (position, hash) == mark;
            if end.position > newest.position {
                newest = end;
            }
        }
        Ok((newest, is_marked))
    }

    /// The newest commit end of this log, from `common` on, that the server has a row of, before any row
    /// of another copy's.
    async fn common(
        &self,
        old: &OriginRow,
        lineage: &Lineage,
        chunk_records: u64,
        mut common: CommitEnd,
    ) -> Result<CommitEnd, Error> {
        let (last, from) = (self.outbox.last(), common);
        let mut before = u64::MAX;
        let window = Window::new(lineage.clone(), chunk_records, common.position + 1);
        let mut window = window.without_records();
        while window.covered() <= last.min(before) {
            let at = window.covered();
            let came = window.read(self.wire, last).await;
            let came = came.map_err(|error| trouble("compare its log with this one", &error))?;
            for row in window.rows() {
                let end = row.commit_first + u64::from(row.commit_count) - 1;
                if row.position <= from.position || row.commit_first > last {
                    continue;
                }
                match self.end_at(end, last)? {
                    Some(here) if here.hash == row.commit_hash => {
                        if row.position == end && end > common.position && end < before {
                            common = here;
                        }
                    }
                    _ => before = before.min(row.commit_first),
                }
            }
            // Rows at the end of a page may be seen again.
            window.forget_below(window.covered());
            if came == 0 && at > old.watermark.position {
                break;
            }
        }
        if common.position >= before {
            let parted = self.end_at(before - 1, last)?;
            common = parted
                .filter(|end| end.position > from.position)
                .unwrap_or(from);
        }
        Ok(common)
    }

    fn end_at(&self, position: u64, last: u64) -> Result<Option<CommitEnd>, Error> {
        if position > last {
            return Ok(None);
        }
        self.outbox.commit_end(position)
    }

    /// Keeps what the server is told next; answers the session that the epoch is claimed for.
    async fn prepare(
        &self,
        epoch: Uuid,
        parting: Option<&Parting>,
        replica: &Replica,
        keeper: &mut Keeper,
    ) -> Result<Uuid, Error> {
        let identity = self.outbox.identity();
        let (at, lineage) = match parting {
            Some(parting) => (parting.at, parting.lineage.epochs().collect()),
            None => (identity.genesis(), Vec::new()),
        };
        let before = lineage.iter().filter(|s| s.from <= at.position);
        let before = before.map(|s| (s.epoch, s.from));
        let stretches = before.chain([(epoch, at.position + 1)]);
        let stretches = stretches.map(|(epoch, first_position)| Stretch {
            epoch,
            first_position,
        });
        let stretches: Vec<_> = stretches.collect();
        let (parked, settled) = match parting {
            Some(parting) => {
                self.parked_there(parting, replica.bucket_events, keeper.state())
                    .await?
            }
            None => (Vec::new(), at),
        };
        let session = self.ids.next_uuid();
        let state = keeper.change_parked();
        // Not this store's before the server says so: where it never learned of it, a person is asked
        // again.
        if state.epoch != epoch || !state.session.is_nil() {
            state.next_sessions.clear();
        }
        state.epoch = epoch;
        state.session = Uuid::nil();
        state.next_sessions.push(session);
        state.settled = settled;
        state.lineage = stretches;
        for entry in parked {
            let key = (entry.stream.clone(), entry.first_position);
            state.parked.entry(key).or_insert(entry);
        }
        self.list_accepted(0, settled, state).await?;
        keeper.save(self.outbox).await?;
        Ok(session)
    }

    /// What the old epoch has parked of the log up to the parting, and is not known here: this copy
    /// may be older than that. And what is settled of it, where another copy has parked in that epoch,
    /// too.
    async fn parked_there(
        &self,
        parting: &Parting,
        bucket_events: u64,
        state: &SinkState,
    ) -> Result<(Vec<ParkedEntry>, CommitEnd), Error> {
        let old = &parting.old;
        let rows = ask::parked(self.wire, old.origin, old.epoch).await;
        let rows = rows.map_err(|error| trouble("read what is parked", &error))?;
        let (mut entries, mut others) = (Vec::new(), Vec::new());
        for row in rows {
            let (stream, first) = (&row.key.stream, row.key.first_position);
            let known = state.parked.contains_key(&(stream.clone(), first));
            // What the old one resolved later is not resolved in this log.
            let at = parting.at.position;
            let resolved = row.until_position.is_some_and(|until| until <= at);
            if known || resolved || first > at {
                continue;
            }
            match self.recorded(&row).await? {
                Some(recorded) => entries.push(entry(&row, recorded, self.outbox.last())),
                None => others.push(row),
            }
        }
        let sure = self.sure(&others, bucket_events, parting.settled).await?;
        Ok((entries, sure.settled))
    }

    /// Tells the server; whether that is known to have come to pass.
    async fn make_known(
        &self,
        epoch: Uuid,
        session: Uuid,
        parting: Option<&Parting>,
        other: Other,
        state: &SinkState,
    ) -> Result<bool, Error> {
        let identity = self.outbox.identity();
        for entry in state.parked.values().filter(|entry| entry.holds()) {
            let parked = ask::park(self.wire, park::row(state, entry)).await;
            parked.map_err(|error| trouble("list what is parked", &error))?;
        }
        let row = OriginRow {
            origin: identity.origin,
            epoch,
            first_epoch: identity.first_epoch,
            parent: parting.map(|p| (p.old.epoch, p.at.position, p.at.hash)),
            watermark: watermark(session, state.settled),
            published: parting.map_or(0, |p| p.old.published.min(p.at.position)),
            successor: None,
            name: self.name.into(),
        };
        let retires = parting.filter(|p| other == Other::Gone && p.old.successor.is_none());
        let retires = retires.map(|p| (p.old.epoch, p.old.watermark));
        match ask::fork(self.wire, ForkRows { row, retires }).await {
            Ok(applied) => Ok(applied),
            Err(error) if error.class == ErrorClass::Unclear => Ok(false),
            Err(error) => Err(trouble("fork this store", &error)),
        }
    }
}

/// The newest epoch of this log that the server knows.
fn nearest(
    identity: Identity,
    rows: &[OriginRow],
    outbox: &dyn Outbox,
) -> Result<Option<OriginRow>, Error> {
    let known = |epoch| rows.iter().find(|row| row.epoch == epoch).cloned();
    if let Some(row) = known(identity.epoch) {
        return Ok(Some(row));
    }
    let epochs = outbox.epochs()?;
    let mut epoch = identity.epoch;
    // A log has each epoch once: more steps than that would go in a circle.
    for _ in 0..=epochs.len() {
        let Some(info) = epochs.iter().find(|info| info.id == epoch) else {
            break;
        };
        epoch = info.parent;
        if let Some(row) = known(epoch) {
            return Ok(Some(row));
        }
    }
    Ok(None)
}

/// What keeps a call from being done, to who asked for it.
fn told(stop: Stop) -> Error {
    match stop {
        Stop::Halt(halt) => Error::Halted(halt),
        Stop::Trouble(error) => error,
        Stop::Closed => Error::Closed,
    }
}

#[cfg(test)]
mod tests;
