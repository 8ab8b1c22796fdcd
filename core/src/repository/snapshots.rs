//! Snapshots as a repository uses them: a help that may fail.

use crate::aggregate::Aggregate;
use crate::clock::Timestamp;
use crate::codec;
use crate::content_type::ContentType;
use crate::dyn_store::BoxFuture;
use crate::error::Error;
use crate::repository::Current;
use crate::snapshot::{PersistOutcome, SnapshotEnvelope, SnapshotStore, SnapshotStrategy};
use crate::stream_id::StreamId;

/// A snapshot store behind a pointer, so that a repository needs no type parameter for it.
trait DynSnapshotStore: Send + Sync {
    fn dyn_read<'a>(
        &'a self,
        stream: &'a StreamId,
    ) -> BoxFuture<'a, Result<Option<SnapshotEnvelope>, Error>>;

    fn dyn_persist(
        &self,
        snapshot: SnapshotEnvelope,
    ) -> BoxFuture<'_, Result<PersistOutcome, Error>>;
}

impl<S: SnapshotStore> DynSnapshotStore for S {
    fn dyn_read<'a>(
        &'a self,
        stream: &'a StreamId,
    ) -> BoxFuture<'a, Result<Option<SnapshotEnvelope>, Error>> {
        Box::pin(self.read(stream))
    }

    fn dyn_persist(
        &self,
        snapshot: SnapshotEnvelope,
    ) -> BoxFuture<'_, Result<PersistOutcome, Error>> {
        Box::pin(self.persist(snapshot))
    }
}

/// Where snapshots stand and when they are taken.
pub(super) struct Snapshots {
    store: Box<dyn DynSnapshotStore>,
    strategy: SnapshotStrategy,
}

impl Snapshots {
    pub(super) fn new(store: impl SnapshotStore, strategy: SnapshotStrategy) -> Self {
        Self {
            store: Box::new(store),
            strategy,
        }
    }

    pub(super) fn is_due<A>(&self, current: &Current<A>) -> bool {
        self.strategy.is_due(&current.progress())
    }

    /// The snapshot of `stream`, if there is one that this program can use.
    pub(super) async fn read<A: Aggregate>(
        &self,
        stream: &StreamId,
    ) -> Option<SnapshotEnvelope<A>> {
        let snapshot = match self.store.dyn_read(stream).await {
            Ok(found) => found?,
            Err(error) => {
                tracing::warn!(%stream, %error, "no snapshot could be read; replaying all events");
                return None;
            }
        };
        if snapshot.revision != A::SNAPSHOT_REVISION {
            // What every program meets after its state has changed: nothing to worry about.
            tracing::debug!(%stream, revision = snapshot.revision,
                "the snapshot is of another revision; replaying all events");
            return None;
        }
        let sequence = snapshot.sequence;
        match snapshot.decode() {
            Ok(snapshot) => Some(snapshot),
            Err(error) => {
                tracing::warn!(%stream, sequence, %error,
                    "the snapshot is damaged; replaying all events");
                None
            }
        }
    }

    /// Takes a snapshot of `current`. The command is done already, so failing only logs.
    pub(super) async fn take<A: Aggregate>(&self, current: &Current<A>, now: Timestamp) {
        let stream = &current.stream;
        let state = match codec::encode_state(&*current.state) {
            Ok(state) => state,
            Err(error) => {
                tracing::warn!(%stream, %error, "no snapshot was taken");
                return;
            }
        };
        let snapshot = SnapshotEnvelope {
            stream: stream.clone(),
            sequence: current.sequence,
            event_id: current.event_id,
            revision: A::SNAPSHOT_REVISION,
            content_type: ContentType::Postcard,
            taken_time: now,
            state,
        };
        match self.store.dyn_persist(snapshot).await {
            Ok(PersistOutcome::Persisted | PersistOutcome::Superseded) => {}
            Err(error) => tracing::warn!(%stream, %error, "the snapshot was not kept"),
        }
    }
}
