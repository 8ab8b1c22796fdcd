//! Loading: cache, snapshot, events.

use std::sync::Arc;

use crate::aggregate::Aggregate;
use crate::envelope::EventEnvelope;
use crate::error::Error;
use crate::id::EventId;
use crate::read::StreamQuery;
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
        if at == old.sequence {
            return Ok(Found::at(old));
        }
        self.catch_up(old, at).await
    }

    /// The newest state of a stream that is at `head` and not where `old` is.
    pub(super) async fn catch_up(&self, old: Current<A>, head: u64) -> Result<Found<A>, Error> {
        if head < old.sequence {
            // Not a stream that only grew: whatever has happened, the cache knows nothing of it.
            if let Some(cache) = &self.cache {
                cache.forget(old.stream.aggregate_id());
            }
            return self.load_current(&old.stream).await;
        }
        let stream = old.stream.clone();
        self.replay(&stream, Replay::from_current(old)).await
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
            if self.snapshot_counts(stream, &start).await? {
                return self.replay(stream, start).await;
            }
            tracing::warn!(%stream, sequence = snapshot.sequence,
                "a snapshot is not of this stream's history; replaying all events");
        }
        self.replay(stream, Replay::empty()).await
    }

    /// Whether the stream has the event that the snapshot ends with. The snapshots may stand in
    /// another store, which cannot know.
    async fn snapshot_counts(&self, stream: &StreamId, start: &Replay<A>) -> Result<bool, Error> {
        let query = StreamQuery::new(stream.clone())
            .from(start.sequence)
            .to(start.sequence);
        let found = self.store.read_stream(query).next().await.transpose()?;
        Ok(found.map(|envelope| envelope.event_id) == start.event_id)
    }

    /// Applies all events after `replay`, page by page.
    async fn replay(&self, stream: &StreamId, mut replay: Replay<A>) -> Result<Found<A>, Error> {
        let query = StreamQuery::new(stream.clone()).from(replay.sequence + 1);
        let mut pages = self.store.read_stream(query);
        while let Some(page) = pages.next_page().await {
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
}

impl<A> Found<A> {
    pub(super) fn at(current: Current<A>) -> Self {
        Self {
            sequence: current.sequence,
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
        let sequence = self.sequence;
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
        Found { current, sequence }
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
