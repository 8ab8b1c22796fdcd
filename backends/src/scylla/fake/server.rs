//! One server: requests in, answers out.

use std::collections::{BTreeMap, VecDeque};

use super::super::request::{ErrorClass, EventRow, MetaRow, OriginRow, Reply, Request, WireError};
use super::tables::{Tables, Unseen, UuidOrder};
use super::writes::{Before, Partition, is_conditional, is_serial, partition_of};

/// What only luck decides, asked of whoever drives the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chance {
    /// A Paxos round that was accepted and never committed is finished now, or else dropped.
    Finish,
    /// A read below SERIAL meets a replica that has not got the partition's last write.
    Behind,
}

/// What the server takes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most bytes written at once.
    pub batch_bytes: usize,
}

/// A server in memory, with what CQL means for the requests of this crate.
///
/// A request takes effect when [`execute`](Self::execute) is called and not else: losing requests
/// or answers, repeating and reordering them is up to whoever carries them.
#[derive(Clone, Debug)]
pub struct FakeServer {
    pub(super) tables: Tables,
    /// There are no tables yet.
    pub(super) is_empty: bool,
    /// Rounds that were accepted and never committed, by partition.
    proposed: BTreeMap<Partition, Request>,
    /// What a replica that is behind does not show.
    unseen: BTreeMap<Partition, Unseen>,
    /// What partitions were before the last writes, newest last.
    pub(super) journal: VecDeque<(Partition, Before)>,
    limits: Limits,
    /// What was committed since somebody looked, once somebody watches.
    committed: Option<Vec<Request>>,
}

/// How many writes can be taken back.
const JOURNAL: usize = 64;

impl FakeServer {
    /// A server with tables, migrated as `meta` says.
    pub fn new(meta: MetaRow) -> Self {
        let mut server = Self::without_tables();
        server.migrate(meta);
        server
    }

    /// A server that refuses everything, since it has no tables.
    pub fn without_tables() -> Self {
        Self {
            tables: Tables::default(),
            is_empty: true,
            proposed: BTreeMap::new(),
            unseen: BTreeMap::new(),
            journal: VecDeque::new(),
            limits: Limits {
                batch_bytes: 16 << 20,
            },
            committed: None,
        }
    }

    /// Makes the tables, and the row about them if it is not there.
    pub fn migrate(&mut self, meta: MetaRow) {
        self.is_empty = false;
        self.tables.meta.get_or_insert(meta);
    }

    /// Sets what it takes.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// What it holds.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Keeps what is committed from now on for [`take_committed`](Self::take_committed).
    pub fn watch(&mut self) {
        self.committed.get_or_insert_default();
    }

    /// Every write that was committed since, in order: those of rounds that were finished later, too.
    pub fn take_committed(&mut self) -> Vec<Request> {
        self.committed
            .as_mut()
            .map_or_else(Vec::new, std::mem::take)
    }

    /// How many rounds stand accepted and not committed.
    pub fn proposed(&self) -> usize {
        self.proposed.len()
    }

    /// Does what `request` asks.
    pub fn execute(
        &mut self,
        request: &Request,
        luck: &mut dyn FnMut(Chance) -> bool,
    ) -> Result<Reply, WireError> {
        self.check(request)?;
        let partition = partition_of(request);
        self.finish_round(request, partition.as_ref(), luck);
        if let Some(partition) = partition.filter(|_| writes(request)) {
            if !self.tables.holds(request) {
                return Ok(Reply::Applied(false));
            }
            self.commit(partition, request);
            return Ok(if is_conditional(request) {
                Reply::Applied(true)
            } else {
                Reply::Done
            });
        }
        Ok(self.read(request, luck))
    }

    /// Begins a conditional write as [`execute`](Self::execute) does, but its round is accepted and
    /// not committed: the next operation at SERIAL on its partition finishes or drops it. What is
    /// no conditional write, or whose condition does not hold, changes nothing.
    pub fn propose(&mut self, request: &Request, luck: &mut dyn FnMut(Chance) -> bool) {
        if self.check(request).is_err() || !is_conditional(request) {
            return;
        }
        let Some(partition) = partition_of(request) else {
            return;
        };
        self.finish_round(request, Some(&partition), luck);
        if self.tables.holds(request) {
            self.proposed.insert(partition, request.clone());
        }
    }

    /// Every replica has every write that was committed.
    pub fn catch_up(&mut self) {
        self.unseen.clear();
    }

    fn finish_round(
        &mut self,
        request: &Request,
        partition: Option<&Partition>,
        luck: &mut dyn FnMut(Chance) -> bool,
    ) {
        let Some(partition) = partition.filter(|_| is_serial(request)) else {
            return;
        };
        if let Some(round) = self.proposed.remove(partition)
            && luck(Chance::Finish)
        {
            self.commit(partition.clone(), &round);
        }
    }

    fn commit(&mut self, partition: Partition, request: &Request) {
        if let Some(committed) = &mut self.committed {
            committed.push(request.clone());
        }
        let before = self.tables.take_before(&partition);
        let unseen = self.tables.write(request);
        if let Some(unseen) = unseen {
            self.unseen.insert(partition.clone(), unseen);
        }
        self.journal.push_back((partition, before));
        if self.journal.len() > JOURNAL {
            self.journal.pop_front();
        }
    }

    fn check(&self, request: &Request) -> Result<(), WireError> {
        if matches!(request, Request::Ping) {
            return Ok(());
        }
        if self.is_empty {
            return Err(refused("unconfigured table tidelog_meta"));
        }
        let bytes: usize = match request {
            Request::Append(append) => {
                let foreign = |row: &EventRow| row.event.stream != append.bucket.stream;
                if append.rows.iter().any(foreign) {
                    return Err(refused("a row of another partition is in the batch"));
                }
                append.rows.iter().map(weight).sum()
            }
            Request::PutLog { rows, .. } => rows.iter().map(|row| 128 + row.record.len()).sum(),
            _ => return Ok(()),
        };
        if bytes > self.limits.batch_bytes {
            return Err(refused(&format!(
                "Rejected an oversized mutation ({bytes}/{})",
                self.limits.batch_bytes
            )));
        }
        Ok(())
    }

    fn read(&self, request: &Request, luck: &mut dyn FnMut(Chance) -> bool) -> Reply {
        let tables = &self.tables;
        match request {
            Request::Meta => Reply::Meta(tables.meta.clone()),
            Request::Head(bucket) => Reply::Head(tables.head(bucket)),
            Request::Ids {
                bucket, from, to, ..
            } => {
                let unseen = self.unseen(request, luck);
                Reply::Ids(tables.ids(bucket, *from, *to, unseen))
            }
            Request::Events {
                bucket,
                from,
                to,
                direction,
                page,
                ..
            } => {
                let unseen = self.unseen(request, luck);
                Reply::Events(tables.event_page(bucket, (*from, *to), *direction, page, unseen))
            }
            Request::Log {
                chunk,
                from,
                records,
                page,
                ..
            } => {
                let unseen = self.unseen(request, luck);
                Reply::Log(tables.log_page(chunk, *from, *records, page, unseen))
            }
            Request::Origins(origin) => {
                let rows = tables.origins.get(origin);
                Reply::Origins(rows.map_or_else(Vec::new, by_epoch))
            }
            Request::AllOrigins => {
                Reply::Origins(tables.origins.values().flat_map(by_epoch).collect())
            }
            Request::Parked { origin, epoch } => {
                let rows = tables.parked.get(&(*origin, *epoch));
                let rows = rows.map_or_else(Vec::new, |rows| rows.values().cloned().collect());
                Reply::Parked(rows)
            }
            Request::Snapshot(stream) => {
                Reply::Snapshot(tables.snapshots.get(stream).cloned().map(Box::new))
            }
            Request::Part {
                stream,
                version,
                part,
            } => {
                let parts = tables.parts.get(stream);
                let state = parts.and_then(|parts| parts.get(&(UuidOrder::of(*version), *part)));
                Reply::Part(state.cloned())
            }
            _ => Reply::Done,
        }
    }

    /// What this read does not see.
    fn unseen(&self, request: &Request, luck: &mut dyn FnMut(Chance) -> bool) -> Option<&Unseen> {
        let unseen = self.unseen.get(&partition_of(request)?)?;
        (!is_serial(request) && luck(Chance::Behind)).then_some(unseen)
    }
}

/// In the order of the servers.
fn by_epoch(rows: &BTreeMap<uuid::Uuid, OriginRow>) -> Vec<OriginRow> {
    let mut rows: Vec<OriginRow> = rows.values().cloned().collect();
    rows.sort_by_key(|row| UuidOrder::of(row.epoch));
    rows
}

fn writes(request: &Request) -> bool {
    is_conditional(request)
        || matches!(
            request,
            Request::PutLog { .. } | Request::PutPart { .. } | Request::DropParts { .. }
        )
}

fn refused(text: &str) -> WireError {
    WireError {
        class: ErrorClass::Refused,
        text: text.into(),
    }
}

/// About what a row weighs on the wire.
fn weight(row: &EventRow) -> usize {
    let event = &row.event;
    128 + event.event.len()
        + event.metadata.size()
        + event.tags.size()
        + event.event_type.len()
        + event.stream.as_str().len()
}
