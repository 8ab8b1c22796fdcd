//! A restore into an embedded store.

use std::path::{Path, PathBuf};

use tidelog_backends::SledStore;
use tidelog_backends::commits::{Commit, CommitEnd, DeclaredHole, LogCopy};
use tidelog_backends::wire::{ParkedKey, ParkedRow};
use tidelog_core::{CheckpointStore, Error};
use uuid::Uuid;

use super::super::copy_target::{Claim, CopyTarget, Restorable};
use super::super::parked_rows::{AcceptedParts, Recorded, entry};
use crate::scylla::parked::ParkedEntry;
use crate::scylla::state::{SinkState, Stretch};

/// The name that the sink's state is saved under.
const STATE: &str = crate::sinks::replication::NAME;
/// Bytes of the log read at once.
const READ_BYTES: usize = 1 << 20;

/// A copy on disk; its calls block for file I/O.
pub(in crate::scylla) struct SledCopy {
    copy: LogCopy,
    dir: PathBuf,
}

impl SledCopy {
    /// The copy in `dir`; `None` when there is none and none is to be made.
    pub(in crate::scylla) fn open(
        dir: &Path,
        origin: Uuid,
        first_epoch: Uuid,
        create: bool,
    ) -> Result<Option<Self>, Error> {
        if !create && !dir.join("format").exists() {
            return Ok(None);
        }
        let copy = LogCopy::open(dir, origin, first_epoch, &SledStore::builder(dir))?;
        let dir = dir.to_owned();
        Ok(Some(Self { copy, dir }))
    }

    /// What the rows hold of this log, in `state`, and what is accepted of the appends torn by it.
    fn take_parked(&self, claim: &Claim, state: &mut SinkState) -> Result<(), Error> {
        for row in &claim.parked {
            let first = row.key.first_position;
            let read = self.copy.store().commits(first - 1).next(1)?;
            let Some(commit) = read.first() else { continue };
            // Another copy of the store may have parked an event of its own.
            let Some(recorded) = Recorded::of(commit, first, row.local_event)? else {
                continue;
            };
            let entry = entry(row, recorded, claim.end.0);
            let key = (entry.stream.clone(), entry.first_position);
            state.parked.insert(key, entry);
        }
        let mut parts = AcceptedParts::of(state);
        let Some(begins) = parts.begins() else {
            return Ok(());
        };
        let mut commits = self.copy.store().commits(begins.saturating_sub(1));
        loop {
            let read = commits.next(READ_BYTES)?;
            let settled = |commit: &&_| Commit::last_position(commit) <= claim.settled.position;
            for commit in read.iter().filter(settled) {
                parts.take(commit)?;
            }
            let last = read.last().map(Commit::last_position);
            if last.is_none_or(|last| last >= claim.settled.position) {
                break;
            }
        }
        parts.note(state);
        Ok(())
    }
}

impl CopyTarget for SledCopy {
    fn end(&self) -> CommitEnd {
        self.copy.next()
    }

    fn push(&mut self, commit: &Commit) -> Result<(), Error> {
        self.copy.push(commit.number, &commit.body, commit.hash)
    }

    fn skip(&mut self, hole: &DeclaredHole) -> Result<(), Error> {
        self.copy.skip(hole)
    }

    fn sync(&mut self) -> Result<(), Error> {
        self.copy.sync()
    }
}

impl Restorable for SledCopy {
    fn has(&self, position: u64, hash: &[u8; 32]) -> Result<bool, Error> {
        let store = self.copy.store();
        if let Some(end) = store.commit_end(position)? {
            return Ok(end.hash == *hash);
        }
        let (end, lost) = (self.end(), store.losses()?.ranges);
        let mut lost = lost.iter().map(|lost| &lost.positions);
        let is_end = (end.position, &end.hash) == (position, hash);
        Ok(is_end || lost.any(|positions| positions.contains(&position)))
    }

    fn claimed(&self) -> Result<Option<Claim>, Error> {
        let saved = pollster::block_on(self.copy.store().load(STATE))?;
        let Some(saved) = saved else { return Ok(None) };
        let state = SinkState::decode(&saved).map_err(|reason| {
            let remedy = "remove the directory, and restore from the beginning";
            Error::damaged(&self.dir, reason, remedy)
        })?;
        let Some(replica) = state.replica else {
            return Ok(None);
        };
        let row = |entry: &ParkedEntry| ParkedRow {
            key: ParkedKey {
                origin: state.origin,
                epoch: state.epoch,
                stream: entry.stream.clone(),
                first_position: entry.first_position,
            },
            first_sequence: entry.first_sequence,
            until_position: None,
            reason: entry.reason.code().into(),
            local_event: entry.local_event,
            remote: entry.remote,
        };
        let lineage = state.lineage.iter();
        let own = state.lineage.last().map_or(1, |s| s.first_position);
        let end = self.copy.store().commit_end(own - 1)?;
        let end = end.unwrap_or(state.settled);
        Ok(Some(Claim {
            keyspace: replica,
            origin: state.origin,
            epoch: state.epoch,
            session: state.session,
            end: (end.position, end.hash),
            settled: state.settled,
            lineage: lineage.map(|s| (s.epoch, s.first_position)).collect(),
            parked: state
                .parked
                .values()
                .filter(|entry| entry.holds())
                .map(row)
                .collect(),
        }))
    }

    fn claim(&mut self, claim: &Claim) -> Result<(), Error> {
        let mut state = SinkState::new(claim.origin, claim.epoch, claim.settled);
        state.replica = Some(claim.keyspace.clone());
        state.session = claim.session;
        let stretch = |&(epoch, first_position)| Stretch {
            epoch,
            first_position,
        };
        state.lineage = claim.lineage.iter().map(stretch).collect();
        self.take_parked(claim, &mut state)?;
        let bytes = state.encode()?;
        let position = claim.settled.position.min(self.copy.next().position);
        pollster::block_on(self.copy.store().save(STATE, position, bytes))
    }

    #[cfg(feature = "kafka")]
    fn published(&mut self, claim: &Claim, mut position: u64) -> Result<(), Error> {
        let store = self.copy.store();
        while position > 0 {
            if let Some(end) = store.commit_end(position)? {
                let bytes = crate::kafka::state::restored(claim.origin, claim.epoch, end)?;
                let name = crate::kafka::state::NAME;
                return pollster::block_on(store.save(name, position, bytes));
            }
            position -= 1;
        }
        Ok(())
    }

    fn finish(self, epoch: Uuid) -> Result<(), Error> {
        self.copy.finish(epoch)?.close_blocking()
    }
}

#[cfg(test)]
mod tests {
    use tidelog_backends::wire::{Chunk, OriginRow, Reply, Request, Watermark};
    use tidelog_core::{
        AppendBatch, ContentType, EventLog, EventStore, ExpectedVersion, LogQuery, NewEvent,
    };

    use super::super::super::test_log::{
        CHUNK, Ids, Silenced, ask, id, now_or_never, rows_of, server, stream,
    };
    use super::super::{RestoreOptions, restore_to};
    use super::*;
    use crate::replicate::ParkedReason;

    fn part(name: &str, expected: ExpectedVersion) -> AppendBatch {
        let event = NewEvent::new("Sold", 1, ContentType::Json, "{}");
        AppendBatch::new(stream(name), expected, vec![event])
    }

    /// Sends all that `store` has as a replicator does.
    fn send(wire: &tidelog_backends::fake::FakeWire, store: &SledStore) -> CommitEnd {
        let identity = store.identity();
        let (origin, epoch) = (identity.origin, identity.epoch);
        let mut commits = store.commits(0);
        let mut end = CommitEnd::genesis(origin, epoch);
        loop {
            let read = commits.next(1 << 20).unwrap();
            let Some(last) = read.last() else { break };
            end = last.end();
            for row in read.iter().flat_map(rows_of) {
                let number = row.position / CHUNK;
                let chunk = Chunk {
                    origin,
                    epoch,
                    number,
                };
                let rows = vec![row];
                ask(wire, Request::PutLog { chunk, rows });
            }
        }
        let row = OriginRow {
            origin,
            epoch,
            first_epoch: epoch,
            parent: None,
            watermark: Watermark {
                session: id(200),
                position: end.position,
                hash: end.hash,
                commit_number: end.number,
            },
            published: end.position - 1,
            successor: None,
            name: "till".into(),
        };
        let registered = ask(wire, Request::Register(Box::new(row)));
        assert_eq!(registered, Reply::Applied(true));
        end
    }

    #[test]
    fn a_store_comes_back_event_for_event_however_often_its_restore_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let original = SledStore::open(dir.path().join("original")).unwrap();
        let appends = original.blocking();
        for n in 0..10 {
            let any = ExpectedVersion::Any;
            appends.append(part(&format!("s{}", n % 3), any)).unwrap();
            let parts = vec![part("a", any), part("b", any)];
            appends.append_streams(parts).unwrap();
        }
        let wire = server();
        let end = send(&wire, &original);
        let held = LogQuery::from(30).to(30);
        let held = original.blocking().read_all(held).next().unwrap().unwrap();
        let local_event = held.event_id;
        let parked = ParkedRow {
            key: ParkedKey {
                origin: original.identity().origin,
                epoch: original.identity().epoch,
                stream: stream("b"),
                first_position: 30,
            },
            first_sequence: 10,
            until_position: None,
            reason: "torn_batch".into(),
            local_event,
            remote: None,
        };
        ask(&wire, Request::Park(Box::new(parked)));
        let to = dir.path().join("restored");
        let open = |origin, first, create| SledCopy::open(&to, origin, first, create);
        let (options, ids) = (RestoreOptions::new(), Ids::default());
        let (mut killed, mut epoch) = (0, None);
        for (at, executed) in (0..50).flat_map(|at| [(at, false), (at, true)]) {
            let silenced = Silenced::new(wire.clone(), at, executed);
            let done = now_or_never(restore_to(&silenced, &options, &ids, open));
            if let Some(report) = done {
                epoch = Some(report.unwrap().epoch);
                break;
            }
            if to.exists() {
                killed += 1;
                let opened = SledStore::open(&to).map(drop);
                let refused = matches!(opened, Err(Error::NotAStore { .. }));
                assert!(refused, "it is no store before it is done: {opened:?}");
            }
        }
        assert!(killed > 4, "{killed} times killed");
        let epoch = epoch.unwrap();
        let restored = SledStore::open(&to).unwrap();
        assert_eq!(restored.identity().origin, original.identity().origin);
        assert_eq!(restored.identity().epoch, epoch);
        restored.verify().unwrap();
        for position in 1..=end.position {
            let wanted = original.commit_end(position).unwrap();
            assert_eq!(restored.commit_end(position).unwrap(), wanted);
        }
        let all = |store: &SledStore| {
            let query = LogQuery::all().to(end.position);
            let read = store.blocking().read_all(query);
            read.collect::<Result<Vec<_>, _>>().unwrap()
        };
        assert_eq!(all(&restored), all(&original));
        let head = |store: &SledStore| pollster::block_on(store.head(&stream("a"))).unwrap();
        assert_eq!(head(&restored), head(&original));
        let saved = pollster::block_on(restored.load(STATE)).unwrap().unwrap();
        let state = SinkState::decode(&saved).unwrap();
        assert_eq!((state.epoch, state.settled), (epoch, end));
        assert_eq!(state.epoch_of(end.position), original.identity().epoch);
        assert_eq!(state.epoch_of(end.position + 1), epoch);
        let entry = state.held(&stream("b")).unwrap();
        let sibling = stream("a");
        assert_eq!(entry.reason, ParkedReason::TornBatch { sibling });
        assert_eq!((entry.batch.first, entry.batch.count), (29, 2));
        // What was settled of the appends that are torn is listed, too.
        let accepted = state.parked.values().find(|entry| entry.accepted).unwrap();
        assert_eq!(accepted.stream, stream("a"));
        assert_eq!((accepted.first_position, accepted.batch.first), (29, 29));
        assert_eq!(state.of(&stream("s0")).count(), 0);
        // What was published is not published again: up to the last whole commit of it.
        #[cfg(feature = "kafka")]
        {
            let saved = restored.load(crate::kafka::state::NAME);
            let saved = pollster::block_on(saved).unwrap().unwrap();
            let state = crate::kafka::state::KafkaState::decode(&saved).unwrap();
            assert_eq!((state.epoch, state.settled.position), (epoch, 28));
        }
        // It takes appends, as a store of its own.
        restored
            .blocking()
            .append(part("a", ExpectedVersion::Any))
            .unwrap();
        assert_eq!(
            restored.blocking().inner().last_position(),
            end.position + 2
        );
    }
}
