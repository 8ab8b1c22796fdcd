//! Loading: cache, snapshot, events.

use std::sync::Arc;

use crate::aggregate::Aggregate;
use crate::envelope::EventEnvelope;
use crate::error::Error;
use crate::id::EventId;
use crate::read::{EventStream, StreamQuery};
use crate::repository::{AggregateRepository, Current, Loaded, SinceSnapshot};
use crate::store::EventStore;
use crate::stream_id::StreamId;

impl<A: Aggregate, S: EventStore> AggregateRepository<A, S> {
    /// The aggregate as it stands now; `None` when it has no events, or none that is still read.
    ///
    /// # Errors
    /// [`Error::Codec`] or [`Error::Apply`] when its history cannot be read by this program,
    /// [`Error::InvalidInput`] for an impossible id, or what reading met.
    pub async fn load(&self, aggregate_id: &str) -> Result<Option<Loaded<A>>, Error> {
        let found = match self.cached(aggregate_id) {
            Some(cached) => self.refresh(cached).await?,
            None => self.load_current(&self.stream_id(aggregate_id)?).await?,
        };
        Ok(found.current.map(|current| Loaded {
            stream: current.stream,
            state: current.state,
            sequence: current.sequence,
            event_id: current.event_id,
        }))
    }

    pub(super) fn cached(&self, aggregate_id: &str) -> Option<Current<A>> {
        self.cache.as_ref()?.get(aggregate_id)
    }

    pub(super) fn keep(&self, current: &Current<A>) {
        if let Some(cache) = &self.cache {
            cache.keep(current);
        }
    }

    /// The newest state, when all that is known is `old`.
    pub(super) async fn refresh(&self, old: Current<A>) -> Result<Found<A>, Error> {
        let head = self.store.head(&old.stream).await?;
        let at = head.map_or(0, |head| head.sequence);
        if head.is_some_and(|head| (head.sequence, head.event_id) == (old.sequence, old.event_id)) {
            return Ok(Found::at(old));
        }
        self.catch_up(old, at).await
    }

    /// The newest state of a stream that is at `head` and not where `old` is.
    pub(super) async fn catch_up(&self, old: Current<A>, head: u64) -> Result<Found<A>, Error> {
        let stream = old.stream.clone();
        if head >= old.sequence
            && let Some(found) = self.go_on(&stream, Replay::from_current(old)).await?
        {
            return Ok(found);
        }
        // Not a stream that only grew: its events gave way to others, or whatever else has happened,
        // the cache knows nothing of it.
        if let Some(cache) = &self.cache {
            cache.forget(stream.aggregate_id());
        }
        self.load_current(&stream).await
    }

    /// The newest state from snapshot and events.
    pub(super) async fn load_current(&self, stream: &StreamId) -> Result<Found<A>, Error> {
        if let Some(snapshots) = &self.snapshots
            && let Some(snapshot) = snapshots.read::<A>(stream).await
        {
            let start = Replay {
                state: Some(snapshot.state),
                sequence: snapshot.sequence,
                event_id: Some(snapshot.event_id),
                since_snapshot: SinceSnapshot::default(),
            };
            // The snapshots may stand in another store, which cannot know.
            if let Some(found) = self.go_on(stream, start).await? {
                return Ok(found);
            }
            tracing::warn!(%stream, sequence = snapshot.sequence,
                "a snapshot is not of this stream's history; replaying all events");
        }
        let query = StreamQuery::new(stream.clone());
        self.replay(self.store.read_stream(query), stream, Replay::empty())
            .await
    }

    /// Applies all events after `start`; `None` when the stream does not have the event that it ends
    /// with. One read sees both, so nothing comes in between.
    async fn go_on(&self, stream: &StreamId, start: Replay<A>) -> Result<Option<Found<A>>, Error> {
        let query = StreamQuery::new(stream.clone()).from(start.sequence);
        let mut events = self.store.read_stream(query);
        let newest = events.next().await.transpose()?;
        let newest = newest.map(|event| (event.sequence, Some(event.event_id)));
        if newest != Some((start.sequence, start.event_id)) {
            return Ok(None);
        }
        self.replay(events, stream, start).await.map(Some)
    }

    /// Applies all of `events`, page by page.
    async fn replay(
        &self,
        mut events: EventStream,
        stream: &StreamId,
        mut replay: Replay<A>,
    ) -> Result<Found<A>, Error> {
        while let Some(page) = events.next_page().await {
            for envelope in page? {
                replay.apply(&envelope)?;
            }
        }
        let found = replay.finish(stream);
        if let Some(current) = &found.current {
            self.keep(current);
        }
        Ok(found)
    }
}

/// What a stream was found to hold.
pub(super) struct Found<A> {
    /// The state; none when there are no events, or none of them is read as one any more.
    pub(super) current: Option<Current<A>>,
    /// Sequence of its newest record: what the next append comes after.
    pub(super) sequence: u64,
    /// Id of that record.
    pub(super) event_id: Option<EventId>,
}

impl<A> Found<A> {
    pub(super) fn at(current: Current<A>) -> Self {
        Self {
            sequence: current.sequence,
            event_id: Some(current.event_id),
            current: Some(current),
        }
    }
}

/// A state on its way through the events.
struct Replay<A> {
    state: Option<A>,
    sequence: u64,
    event_id: Option<EventId>,
    since_snapshot: SinceSnapshot,
}

impl<A: Aggregate> Replay<A> {
    fn empty() -> Self {
        Self {
            state: None,
            sequence: 0,
            event_id: None,
            since_snapshot: SinceSnapshot::default(),
        }
    }

    fn from_current(current: Current<A>) -> Self {
        Self {
            state: Some(Arc::unwrap_or_clone(current.state)),
            sequence: current.sequence,
            event_id: Some(current.event_id),
            since_snapshot: current.since_snapshot,
        }
    }

    fn apply(&mut self, envelope: &EventEnvelope) -> Result<(), Error> {
        for event in envelope.decode_all::<A::Event>()? {
            let next = A::apply(self.state.take(), &event)
                .map_err(|error| apply_error(&envelope.stream, envelope.sequence, error))?;
            self.state = Some(next);
        }
        self.sequence = envelope.sequence;
        self.event_id = Some(envelope.event_id);
        self.since_snapshot.events += 1;
        self.since_snapshot.bytes += envelope.event.len() as u64;
        Ok(())
    }

    fn finish(self, stream: &StreamId) -> Found<A> {
        let (sequence, event_id) = (self.sequence, self.event_id);
        let current = self
            .state
            .zip(self.event_id)
            .map(|(state, event_id)| Current {
                stream: stream.clone(),
                size: state.size_hint(),
                state: Arc::new(state),
                sequence,
                event_id,
                since_snapshot: self.since_snapshot,
            });
        Found {
            current,
            sequence,
            event_id,
        }
    }
}

pub(super) fn apply_error(
    stream: &StreamId,
    sequence: u64,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    Error::Apply {
        stream: stream.clone(),
        sequence,
        source: Arc::new(error),
    }
}
