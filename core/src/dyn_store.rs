//! Event stores behind a pointer.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::append::{AppendBatch, AppendReceipt};
use crate::envelope::EventEnvelope;
use crate::error::Error;
use crate::id::EventId;
use crate::limits::Limits;
use crate::read::{EventStream, StreamQuery};
use crate::store::{EventStore, StreamHead};
use crate::stream_id::StreamId;

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// [`EventStore`] for use as `dyn`; every store has it, and `Arc<dyn DynEventStore>` is a store
/// again. Costs one allocation a call.
pub trait DynEventStore: Send + Sync + 'static {
    /// See [`EventStore::append`].
    fn dyn_append(&self, batch: AppendBatch) -> BoxFuture<'_, Result<AppendReceipt, Error>>;
    /// See [`EventStore::read_stream`].
    fn dyn_read_stream(&self, query: StreamQuery) -> EventStream;
    /// See [`EventStore::head`].
    fn dyn_head<'a>(
        &'a self,
        stream: &'a StreamId,
    ) -> BoxFuture<'a, Result<Option<StreamHead>, Error>>;
    /// See [`EventStore::find_event`].
    fn dyn_find_event<'a>(
        &'a self,
        stream: &'a StreamId,
        event_id: EventId,
    ) -> BoxFuture<'a, Result<Option<EventEnvelope>, Error>>;
    /// See [`EventStore::limits`].
    fn dyn_limits(&self) -> Limits;
}

impl<S: EventStore> DynEventStore for S {
    fn dyn_append(&self, batch: AppendBatch) -> BoxFuture<'_, Result<AppendReceipt, Error>> {
        Box::pin(self.append(batch))
    }

    fn dyn_read_stream(&self, query: StreamQuery) -> EventStream {
        self.read_stream(query)
    }

    fn dyn_head<'a>(
        &'a self,
        stream: &'a StreamId,
    ) -> BoxFuture<'a, Result<Option<StreamHead>, Error>> {
        Box::pin(self.head(stream))
    }

    fn dyn_find_event<'a>(
        &'a self,
        stream: &'a StreamId,
        event_id: EventId,
    ) -> BoxFuture<'a, Result<Option<EventEnvelope>, Error>> {
        Box::pin(self.find_event(stream, event_id))
    }

    fn dyn_limits(&self) -> Limits {
        self.limits()
    }
}

impl EventStore for Arc<dyn DynEventStore> {
    async fn append(&self, batch: AppendBatch) -> Result<AppendReceipt, Error> {
        (**self).dyn_append(batch).await
    }

    fn read_stream(&self, query: StreamQuery) -> EventStream {
        (**self).dyn_read_stream(query)
    }

    async fn head(&self, stream: &StreamId) -> Result<Option<StreamHead>, Error> {
        (**self).dyn_head(stream).await
    }

    async fn find_event(
        &self,
        stream: &StreamId,
        event_id: EventId,
    ) -> Result<Option<EventEnvelope>, Error> {
        (**self).dyn_find_event(stream, event_id).await
    }

    fn limits(&self) -> Limits {
        (**self).dyn_limits()
    }
}
