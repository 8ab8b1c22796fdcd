//! The log as a sink sees it that sends only what another sink has settled.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tidelog_backends::commits::{Commit, CommitEnd, EpochInfo};
use tidelog_core::{BoxFuture, Error, EventEnvelope, StreamId};
use uuid::Uuid;

use super::outbox::{Identity, LocalEvent, Outbox, Pass};
use super::status::{Listed, SinkCell, SinkStatus};

/// About the bytes of a record.
const RECORD_BYTES: usize = 512;

/// What the replica has accepted of the log that `of` is.
pub(crate) struct Gated<S: SinkStatus> {
    of: Arc<dyn Outbox>,
    replica: Arc<SinkCell<S>>,
    held: Mutex<Held<S>>,
}

/// From which position on streams are held, by the list that this was made of.
struct Held<S: SinkStatus> {
    list: Arc<[S::Parked]>,
    from: BTreeMap<StreamId, u64>,
}

impl<S: SinkStatus> Gated<S> {
    pub(crate) fn new(of: Arc<dyn Outbox>, replica: Arc<SinkCell<S>>) -> Self {
        let held = Held {
            list: Arc::new([]),
            from: BTreeMap::new(),
        };
        Self {
            of,
            replica,
            held: Mutex::new(held),
        }
    }

    fn gate(&self) -> Option<(u64, Arc<[S::Parked]>)> {
        self.replica.gate(self.of.identity().epoch)
    }
}

impl<S: SinkStatus> Outbox for Gated<S> {
    fn identity(&self) -> Identity {
        self.of.identity()
    }

    fn durable(&self) -> u64 {
        let accepted = self.gate().map_or(0, |(settled, _)| settled);
        self.of.durable().min(accepted)
    }

    /// What the replica has not accepted is as if it were not there.
    fn last(&self) -> u64 {
        self.durable()
    }

    fn reaches(&self) -> (u64, u64) {
        self.of.reaches()
    }

    /// Whole commits again; the replica settles no other.
    fn read(
        &self,
        after: u64,
        max_bytes: usize,
    ) -> BoxFuture<'static, Result<Vec<Arc<Commit>>, Error>> {
        let accepted = self.durable();
        // No more than is accepted, about: what is read above is read again.
        let records = usize::try_from(accepted.saturating_sub(after)).unwrap_or(usize::MAX);
        let most = max_bytes.min(records.saturating_mul(RECORD_BYTES)).max(1);
        let read = self.of.read(after, most);
        Box::pin(async move {
            let mut commits = read.await?;
            commits.retain(|commit| commit.last_position() <= accepted);
            Ok(commits)
        })
    }

    fn news(&self, after: u64) -> BoxFuture<'static, Result<(), Error>> {
        let (of, replica) = (Arc::clone(&self.of), Arc::clone(&self.replica));
        Box::pin(async move {
            loop {
                let news = replica.listen();
                let gate = replica.gate(of.identity().epoch);
                let settled = gate.map_or(0, |(settled, _)| settled);
                if of.durable().min(settled) > after {
                    return Ok(());
                }
                news.await;
            }
        })
    }

    fn make_durable(&self) -> BoxFuture<'static, Result<(), Error>> {
        self.of.make_durable()
    }

    fn commit_end(&self, position: u64) -> Result<Option<CommitEnd>, Error> {
        self.of.commit_end(position)
    }

    fn event_at(&self, stream: &StreamId, sequence: u64) -> Result<Option<LocalEvent>, Error> {
        self.of.event_at(stream, sequence)
    }

    fn event_before(&self, stream: &StreamId, sequence: u64) -> Result<Option<LocalEvent>, Error> {
        self.of.event_before(stream, sequence)
    }

    fn event_from(&self, stream: &StreamId, sequence: u64) -> Result<Option<LocalEvent>, Error> {
        self.of.event_from(stream, sequence)
    }

    fn events(
        &self,
        stream: &StreamId,
        from: u64,
        to: u64,
        max_bytes: usize,
    ) -> BoxFuture<'static, Result<Vec<EventEnvelope>, Error>> {
        self.of.events(stream, from, to, max_bytes)
    }

    fn is_superseded(&self, stream: &StreamId, sequence: u64, position: u64) -> bool {
        self.of.is_superseded(stream, sequence, position)
    }

    /// What the replica has settled, or listed, is known by one look at both: the list is of no earlier
    /// moment than what [`durable`](Outbox::durable) has said.
    fn passes(&self, stream: &StreamId, event: &LocalEvent) -> Pass {
        if self
            .of
            .is_superseded(stream, event.sequence, event.position)
        {
            return Pass::Superseded;
        }
        // Before the replica's own state is loaded nothing is known of what it holds.
        let Some((_, list)) = self.gate() else {
            return Pass::Held;
        };
        let mut held = self.held.lock();
        if !Arc::ptr_eq(&held.list, &list) {
            held.from.clear();
            for parked in &*list {
                let first = parked.first_position();
                let from = held.from.entry(parked.stream().clone()).or_insert(first);
                *from = first.min(*from);
            }
            held.list = list;
        }
        let is_held = held
            .from
            .get(stream)
            .is_some_and(|from| event.position >= *from);
        if is_held { Pass::Held } else { Pass::Yes }
    }

    fn gate_news(&self) -> BoxFuture<'static, ()> {
        let (replica, epoch) = (Arc::clone(&self.replica), self.of.identity().epoch);
        let before = replica.gate(epoch).map(|(_, list)| list);
        Box::pin(async move {
            loop {
                let news = replica.listen();
                let now = replica.gate(epoch).map(|(_, list)| list);
                let is_same = match (&before, &now) {
                    (Some(before), Some(now)) => Arc::ptr_eq(before, now),
                    (before, now) => before.is_some() == now.is_some(),
                };
                if !is_same {
                    return;
                }
                news.await;
            }
        })
    }

    fn epochs(&self) -> Result<Vec<EpochInfo>, Error> {
        self.of.epochs()
    }

    fn begin_epoch(&self) -> BoxFuture<'static, Result<Uuid, Error>> {
        self.of.begin_epoch()
    }

    fn load_state(&self, name: &'static str) -> BoxFuture<'static, Result<Option<Bytes>, Error>> {
        self.of.load_state(name)
    }

    fn save_state(
        &self,
        name: &'static str,
        position: u64,
        state: Bytes,
    ) -> BoxFuture<'static, Result<(), Error>> {
        self.of.save_state(name, position, state)
    }

    fn forget_state(&self, name: &'static str) -> BoxFuture<'static, Result<(), Error>> {
        self.of.forget_state(name)
    }
}
