//! Connecting: what is asked before anything is sent, in order, and what is saved before what.

use std::sync::Arc;

use tidelog_backends::commits::{CommitEnd, EpochInfo};
use tidelog_backends::wire::{
    Chunk, ErrorClass, MetaRow, OriginRow, PageAt, ParkedRow, Request, Watermark, Wire, WireError,
};
use tidelog_core::{Error, Halt, IdSource};
use uuid::Uuid;

use super::ask::{self, meta, origins};
use super::handshake::{Log, Seen, Verdict, cloned, verdict};
use super::lineage::Lineage;
use super::park;
use super::watermark::{stop, watermark};
use crate::replicate::outbox::{Identity, Outbox};
use crate::replicate::sink::Stop;
use crate::scylla::state::Keeper;
use crate::scylla::state::{Replica, SinkState, Stretch};

/// The version of the schema that this program works with.
const SCHEMA: u32 = 1;
/// Claims before it is somebody else's.
const CLAIMS: usize = 3;
/// Most claims without an answer that are kept.
const MOST_SESSIONS: usize = 64;

/// What a connection knows of the other side.
pub(super) struct Greeting {
    pub replica: Replica,
    pub identity: Identity,
    /// What the server has confirmed.
    pub watermark: Watermark,
    /// What it was told to be published.
    pub published: u64,
    /// Everything up to here is settled.
    pub settled: CommitEnd,
    /// Everything up to here was settled once: it is looked for before it is written.
    pub verify_below: u64,
    /// The server lost what it had.
    pub was_lost: bool,
}

/// Who connects.
pub(super) struct Caller<'a> {
    pub wire: &'a dyn Wire,
    pub outbox: &'a Arc<dyn Outbox>,
    pub ids: &'a dyn IdSource,
    pub server: &'a str,
    pub name: &'a str,
}

struct LocalLog<'a>(&'a dyn Outbox);

impl Log for LocalLog<'_> {
    fn commit_end(&self, position: u64) -> Result<Option<CommitEnd>, Error> {
        self.0.commit_end(position)
    }

    fn epochs(&self) -> Result<Vec<EpochInfo>, Error> {
        self.0.epochs()
    }
}

impl Caller<'_> {
    pub(super) async fn connect(&self, keeper: &mut Keeper) -> Result<Greeting, Stop> {
        let replica = self.replica(keeper).await?;
        let identity = self.outbox.identity();
        let known = keeper.state();
        let was_settled = if known.epoch == identity.epoch {
            known.settled.position
        } else {
            0
        };
        let mut greeting = self.claim(identity, replica, keeper).await?;
        greeting.verify_below = was_settled.max(greeting.watermark.position);
        let rows = ask::parked(self.wire, identity.origin, identity.epoch).await;
        let rows = rows.map_err(|error| self.stop(error, "read what is parked"))?;
        let settled = greeting.settled;
        let taken = self.take_back(&rows, settled, was_settled, keeper).await;
        let others = taken.map_err(Stop::local)?;
        self.let_go(&others, &mut greeting, keeper).await?;
        let put = park::put_again(self.wire, &rows, keeper).await;
        put.map_err(|error| self.stop(error, "list what is parked"))?;
        keeper.save(self.outbox).await.map_err(Stop::local)?;
        Ok(greeting)
    }

    /// Rows of another copy of this store, which had the epoch before, hold nothing any more; where one
    /// stands in the place of an own one, what it is about is sent again.
    async fn let_go(
        &self,
        others: &[ParkedRow],
        greeting: &mut Greeting,
        keeper: &mut Keeper,
    ) -> Result<(), Stop> {
        let bucket_events = greeting.replica.bucket_events;
        let sure = self.sure(others, bucket_events, greeting.settled).await;
        let sure = sure.map_err(Stop::local)?;
        let told = self.resolve_strange(sure.strange).await;
        told.map_err(Stop::local)?;
        if sure.settled != greeting.settled {
            greeting.settled = sure.settled;
            keeper.change().settled = sure.settled;
        }
        Ok(())
    }

    fn stop(&self, error: WireError, action: &str) -> Stop {
        stop(error, action, self.server)
    }

    /// What the keyspace says of itself.
    pub(super) async fn replica(&self, keeper: &mut Keeper) -> Result<Replica, Stop> {
        let row = match meta(self.wire).await {
            Ok(row) => row,
            Err(error) if error.class == ErrorClass::Refused => {
                return Err(self.schema(&error.text));
            }
            Err(error) => return Err(self.stop(error, "read its schema")),
        };
        let row = match (row, keeper.state().replica.as_ref()) {
            (Some(row), _) => row,
            (None, None) => return Err(self.schema("it has no tables of tidelog")),
            // Its table was truncated.
            (None, Some(known)) => {
                let row = MetaRow {
                    keyspace_id: known.keyspace_id,
                    schema_version: SCHEMA,
                    bucket_events: known.bucket_events,
                    chunk_records: known.chunk_records,
                    arbitration_dc: known.arbitration_dc.clone(),
                };
                tracing::warn!("the server lost the row of its keyspace; it is put again");
                let put = ask::applied(self.wire, Request::PutMeta(row)).await;
                put.map_err(|error| self.stop(error, "put the row of its keyspace"))?;
                // By that row a connection knows where conditional writes are decided.
                let renewed = self.wire.renew().await;
                renewed.map_err(|error| self.stop(error, "connect"))?;
                let again = meta(self.wire).await;
                let again = again.map_err(|error| self.stop(error, "read its schema"))?;
                again.ok_or_else(|| self.schema("it has no tables of tidelog"))?
            }
        };
        if row.schema_version != SCHEMA {
            let found = row.schema_version;
            return Err(self.schema(&format!(
                "its schema has version {found}, this program needs {SCHEMA}"
            )));
        }
        let replica = replica_of(&row);
        let known = keeper.state().replica.clone();
        if known
            .as_ref()
            .is_some_and(|known| known.keyspace_id != replica.keyspace_id)
        {
            // Another keyspace: what was settled and parked there does not count here.
            let identity = self.outbox.identity();
            *keeper.change_parked() =
                SinkState::new(identity.origin, identity.epoch, identity.genesis());
        }
        if known.as_ref() != Some(&replica) {
            keeper.change().replica = Some(replica.clone());
        }
        Ok(replica)
    }

    fn schema(&self, reason: &str) -> Stop {
        Halt::Schema {
            keyspace: self.server.into(),
            reason: reason.into(),
        }
        .into()
    }

    async fn claim(
        &self,
        identity: Identity,
        replica: Replica,
        keeper: &mut Keeper,
    ) -> Result<Greeting, Stop> {
        let mut last_seen = None;
        for _ in 0..CLAIMS {
            let rows = origins(self.wire, identity.origin).await;
            let rows =
                rows.map_err(|error| self.stop(error, "read what it knows of this store"))?;
            let greeting = match self.judge(identity, &rows, keeper.state()).await? {
                Verdict::Halt(halt) => return Err(halt.into()),
                Verdict::AskMyEnd => continue,
                Verdict::Claim { seen, at } => self
                    .take_over(identity, seen, keeper)
                    .await?
                    .map(|watermark| (watermark, at, false)),
                Verdict::Register {
                    parent,
                    at,
                    was_lost,
                } => self
                    .register(identity, parent, at, keeper)
                    .await?
                    .map(|watermark| (watermark, at, was_lost)),
            };
            let known = rows.iter().find(|row| row.epoch == identity.epoch);
            if let Some((watermark, settled, was_lost)) = greeting {
                let state = keeper.change();
                if let Ok(lineage) = Lineage::of(&rows, identity.epoch) {
                    // As whoever reads the log finds it: a crash may have come between what was saved
                    // here and what was made known there.
                    state.lineage = stretches(&lineage);
                }
                // A rewind is kept as a state that has settled nothing.
                let rewinds =
                    was_lost || state.epoch == identity.epoch && state.settled.position == 0;
                let settled = if rewinds { identity.genesis() } else { settled };
                state.session = watermark.session;
                state.next_sessions.clear();
                state.settled = settled;
                return Ok(Greeting {
                    replica,
                    identity,
                    watermark,
                    published: known.map_or(0, |row| row.published),
                    settled,
                    verify_below: 0,
                    was_lost,
                });
            }
            last_seen = rows.into_iter().find(|row| row.epoch == identity.epoch);
        }
        Err(last_seen.map_or_else(
            || {
                let text = "what it knows of this store changes all the time";
                let error = WireError {
                    class: ErrorClass::Unclear,
                    text: text.into(),
                };
                self.stop(error, "take this store's place")
            },
            |row| cloned(&row).into(),
        ))
    }

    async fn judge(
        &self,
        identity: Identity,
        rows: &[OriginRow],
        state: &SinkState,
    ) -> Result<Verdict, Stop> {
        let log = LocalLog(&**self.outbox);
        let mut seen = Seen {
            identity,
            state,
            last: self.outbox.last(),
            rows,
            has_my_end: None,
        };
        let first = verdict(&seen, &log).map_err(Stop::local)?;
        if first != Verdict::AskMyEnd {
            return Ok(first);
        }
        seen.has_my_end = Some(self.has_my_end(identity, state).await?);
        verdict(&seen, &log).map_err(Stop::local)
    }

    /// Whether the server has the last commit of this log.
    async fn has_my_end(&self, identity: Identity, state: &SinkState) -> Result<bool, Stop> {
        let position = self.outbox.last();
        let end = self.outbox.commit_end(position).map_err(Stop::local)?;
        let (Some(end), Some(replica)) = (end, state.replica.as_ref()) else {
            return Ok(false);
        };
        let chunk = Chunk {
            origin: identity.origin,
            epoch: state.epoch_of(position),
            number: position / replica.chunk_records,
        };
        let found = has_row(self.wire, chunk, end).await;
        found.map_err(|error| self.stop(error, "compare its log with this one"))
    }

    /// Claims the epoch for a session of its own; `None` when somebody was faster, or it is unclear.
    async fn take_over(
        &self,
        identity: Identity,
        seen: Watermark,
        keeper: &mut Keeper,
    ) -> Result<Option<Watermark>, Stop> {
        let session = self.next_session(keeper).await?;
        let claim = Request::Claim {
            origin: identity.origin,
            epoch: identity.epoch,
            seen,
            session,
        };
        let claimed = Watermark { session, ..seen };
        self.applied(claim, "take this store's place", claimed)
            .await
    }

    async fn register(
        &self,
        identity: Identity,
        parent: Option<(Uuid, u64, [u8; 32])>,
        at: CommitEnd,
        keeper: &mut Keeper,
    ) -> Result<Option<Watermark>, Stop> {
        let session = self.next_session(keeper).await?;
        if parent.is_none() {
            let state = keeper.change();
            state.lineage = vec![Stretch {
                epoch: identity.epoch,
                first_position: 1,
            }];
        }
        if keeper.state().epoch != identity.epoch {
            keeper.change().epoch = identity.epoch;
        }
        let watermark = watermark(session, at);
        let row = OriginRow {
            origin: identity.origin,
            epoch: identity.epoch,
            first_epoch: identity.first_epoch,
            parent,
            watermark,
            published: 0,
            successor: None,
            name: self.name.into(),
        };
        self.applied(
            Request::Register(Box::new(row)),
            "make this store known",
            watermark,
        )
        .await
    }

    async fn applied(
        &self,
        request: Request,
        action: &str,
        then: Watermark,
    ) -> Result<Option<Watermark>, Stop> {
        match ask::applied(self.wire, request).await {
            Ok(applied) => Ok(applied.then_some(then)),
            // The session was saved before: it is found there if it was taken.
            Err(error) if error.class == ErrorClass::Unclear => Ok(None),
            Err(error) => Err(self.stop(error, action)),
        }
    }

    /// A session of this connection, saved before it is used anywhere.
    async fn next_session(&self, keeper: &mut Keeper) -> Result<Uuid, Stop> {
        let session = self.ids.next_uuid();
        let sessions = &mut keeper.change().next_sessions;
        if sessions.len() >= MOST_SESSIONS {
            sessions.remove(0);
        }
        sessions.push(session);
        keeper.save(self.outbox).await.map_err(Stop::local)?;
        Ok(session)
    }
}

/// Which epoch each row of a log stands under, as it is kept.
fn stretches(lineage: &Lineage) -> Vec<Stretch> {
    let stretches = lineage.epochs().map(|stretch| Stretch {
        epoch: stretch.epoch,
        first_position: stretch.from,
    });
    stretches.collect()
}

/// What is kept of what a keyspace says of itself.
pub(super) fn replica_of(row: &MetaRow) -> Replica {
    Replica {
        keyspace_id: row.keyspace_id,
        bucket_events: row.bucket_events.max(1),
        chunk_records: row.chunk_records.max(1),
        arbitration_dc: row.arbitration_dc.clone(),
    }
}

/// Whether a chunk of a log has the row in which this commit ends.
pub(super) async fn has_row(
    wire: &dyn Wire,
    chunk: Chunk,
    end: CommitEnd,
) -> Result<bool, WireError> {
    let page = PageAt {
        after: None,
        rows: 16,
    };
    let found = ask::log(wire, chunk, end.position, (true, false), page).await?;
    Ok(found
        .rows
        .iter()
        .any(|row| row.position == end.position && row.commit_hash == end.hash))
}
