//! The embedded store as what is sent.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tidelog_backends::SledStore;
use tidelog_backends::commits::{Commit, CommitEnd, Commits, EpochInfo};
use tidelog_core::{
    BoxFuture, CheckpointStore, Direction, Error, EventEnvelope, EventLog, EventStore, StreamId,
    StreamQuery,
};
use uuid::Uuid;

use super::outbox::{Identity, LocalEvent, Outbox};

/// A store whose log is sent; payloads as they stand in the log.
pub(crate) struct Embedded {
    store: SledStore,
    first_epoch: Uuid,
    /// Goes on where the last read ended.
    commits: Arc<Mutex<Option<Commits>>>,
}

impl Embedded {
    pub(crate) fn new(store: &SledStore) -> Result<Self, Error> {
        let first = store.epochs()?.into_iter().next();
        Ok(Self {
            first_epoch: first.map_or_else(|| store.identity().epoch, |epoch| epoch.id),
            store: store.without_codec(),
            commits: Arc::default(),
        })
    }

    /// The first event that `query` finds, whatever was lost before it.
    fn first(&self, mut query: StreamQuery) -> Result<Option<LocalEvent>, Error> {
        let blocking = self.store.blocking();
        loop {
            match blocking.read_stream(query.clone().limit(1)).next() {
                None => return Ok(None),
                Some(Ok(event)) => {
                    return Ok(event.position.map(|position| LocalEvent {
                        sequence: event.sequence,
                        event_id: event.event_id,
                        position,
                        batch: event.batch,
                    }));
                }
                Some(Err(Error::Gap { first, last, .. })) => match query.direction {
                    Direction::Forward => query.from = last + 1,
                    Direction::Backward if first > 1 => query.to = first - 1,
                    Direction::Backward => return Ok(None),
                },
                Some(Err(error)) => return Err(error),
            }
        }
    }
}

impl Outbox for Embedded {
    fn identity(&self) -> Identity {
        let identity = self.store.identity();
        Identity {
            origin: identity.origin,
            first_epoch: self.first_epoch,
            epoch: identity.epoch,
        }
    }

    fn durable(&self) -> u64 {
        self.store.durable_position()
    }

    fn last(&self) -> u64 {
        self.store.last_position()
    }

    fn read(
        &self,
        after: u64,
        max_bytes: usize,
    ) -> BoxFuture<'static, Result<Vec<Arc<Commit>>, Error>> {
        let (store, commits) = (self.store.clone(), Arc::clone(&self.commits));
        Box::pin(async move {
            let reading = store.clone();
            let read = move || {
                let mut kept = commits.lock();
                let mut commits = match kept.take() {
                    Some(commits) if commits.after() == after => commits,
                    _ => reading.commits(after),
                };
                let read = commits.next(max_bytes)?;
                *kept = Some(commits);
                Ok(read.into_iter().map(Arc::new).collect())
            };
            store.on_reader(read).await
        })
    }

    fn news(&self, after: u64) -> BoxFuture<'static, Result<(), Error>> {
        let store = self.store.clone();
        Box::pin(async move {
            loop {
                let news = store.news();
                if store.is_closed() {
                    return Err(Error::Closed);
                }
                if store.last_position() > after {
                    return Ok(());
                }
                news.await;
            }
        })
    }

    fn make_durable(&self) -> BoxFuture<'static, Result<(), Error>> {
        let store = self.store.clone();
        Box::pin(async move { store.make_durable(store.last_position()).await })
    }

    fn commit_end(&self, position: u64) -> Result<Option<CommitEnd>, Error> {
        self.store.commit_end(position)
    }

    fn event_at(&self, stream: &StreamId, sequence: u64) -> Result<Option<LocalEvent>, Error> {
        let query = StreamQuery::new(stream.clone()).from(sequence).to(sequence);
        self.first(query)
    }

    fn event_before(&self, stream: &StreamId, sequence: u64) -> Result<Option<LocalEvent>, Error> {
        if sequence < 2 {
            return Ok(None);
        }
        let query = StreamQuery::new(stream.clone()).to(sequence - 1).backward();
        self.first(query)
    }

    fn event_from(&self, stream: &StreamId, sequence: u64) -> Result<Option<LocalEvent>, Error> {
        self.first(StreamQuery::new(stream.clone()).from(sequence))
    }

    fn events(
        &self,
        stream: &StreamId,
        from: u64,
        to: u64,
        max_bytes: usize,
    ) -> BoxFuture<'static, Result<Vec<EventEnvelope>, Error>> {
        let store = self.store.clone();
        let mut query = StreamQuery::new(stream.clone()).from(from).to(to);
        Box::pin(async move {
            let durable = store.durable_position();
            let (mut found, mut bytes) = (Vec::new(), 0);
            'again: loop {
                let mut events = store.read_stream(query.clone());
                while let Some(event) = events.next().await {
                    match event {
                        Ok(event) => {
                            let is_durable = event.position.is_some_and(|at| at <= durable);
                            if !is_durable || bytes >= max_bytes {
                                return Ok(found);
                            }
                            bytes += event.event.len() + event.metadata.size();
                            found.push(event);
                        }
                        Err(Error::Gap { last, .. }) if last < to => {
                            query.from = last + 1;
                            continue 'again;
                        }
                        Err(Error::Gap { .. }) => return Ok(found),
                        Err(error) => return Err(error),
                    }
                }
                return Ok(found);
            }
        })
    }

    fn is_superseded(&self, stream: &StreamId, sequence: u64, position: u64) -> bool {
        self.store.has_given_way(stream, sequence, position)
    }

    fn epochs(&self) -> Result<Vec<EpochInfo>, Error> {
        self.store.epochs()
    }

    fn begin_epoch(&self) -> BoxFuture<'static, Result<Uuid, Error>> {
        let store = self.store.clone();
        Box::pin(async move {
            let beginning = store.clone();
            store.on_reader(move || beginning.begin_epoch()).await
        })
    }

    fn load_state(&self, name: &'static str) -> BoxFuture<'static, Result<Option<Bytes>, Error>> {
        let store = self.store.clone();
        Box::pin(async move { store.load(name).await })
    }

    fn save_state(
        &self,
        name: &'static str,
        position: u64,
        state: Bytes,
    ) -> BoxFuture<'static, Result<(), Error>> {
        let store = self.store.clone();
        Box::pin(async move { store.save(name, position, state).await })
    }

    fn forget_state(&self, name: &'static str) -> BoxFuture<'static, Result<(), Error>> {
        let store = self.store.clone();
        Box::pin(async move { store.remove(name).await })
    }
}
