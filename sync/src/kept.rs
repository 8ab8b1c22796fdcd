//! Rows that are written by hand and kept in the log.

use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeBounds;
use std::sync::{Arc, Weak};

use pollster::block_on;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tidelog_core::{
    Context, EditableRepository, Error, Event, EventEnvelope, ExpectedVersion, HandlerError,
    Projection, Repository, RowKey, Rows, StreamId, TypedEventStore,
};

use crate::inner::Inner;
use crate::projections::ReadModel;

/// The aggregate type of the streams that hold them.
const TYPE: &str = "Rows";
/// Longest name, in bytes: a read model's name is made of it.
const MAX_NAME: usize = 100;

/// Rows that no projection feeds, for settings and the like: the log is their home, so they survive
/// all that it survives, and have a history. A cheap handle, which does not keep the store open;
/// [`TidelogBuilder::kept`](crate::TidelogBuilder::kept) and
/// [`Tidelog::kept`](crate::Tidelog::kept) give one.
///
/// Each [`put`](EditableRepository::put) is a durable append to the stream `Rows/<name>`, kept for
/// ever: rows that change every second are better the rows of a projection. What was put is there to
/// be read when the call returns.
///
/// ```
/// use tidelog::{Error, Tidelog};
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("events");
/// let log = Tidelog::builder(&path).kept::<String, u32>("settings").open()?;
/// let settings = log.kept::<String, u32>("settings")?.blocking();
/// settings.put("font".into(), 12)?;
/// assert_eq!(settings.get(&"font".into())?, Some(12));
/// # Ok::<(), Error>(())
/// ```
pub struct KeptRepository<K: RowKey, V: KeptRow> {
    inner: Weak<Inner>,
    rows: ReadModel<KeptRows<K, V>>,
    stream: StreamId,
}

/// What a kept row can be: any type that is kept as postcard; see [`Event`].
pub trait KeptRow: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {}

impl<V: Serialize + DeserializeOwned + Clone + Send + Sync + 'static> KeptRow for V {}

/// What is recorded of them.
#[derive(Clone, Serialize, Deserialize)]
enum Kept<V> {
    RowPut { key: Vec<u8>, row: V },
    RowRemoved { key: Vec<u8> },
}

impl<V: KeptRow> Event for Kept<V> {
    fn event_type(&self) -> &'static str {
        match self {
            Self::RowPut { .. } => "RowPut",
            Self::RowRemoved { .. } => "RowRemoved",
        }
    }
}

/// The projection that makes rows of what is recorded.
pub(crate) struct KeptRows<K, V> {
    stream: StreamId,
    of: PhantomData<fn() -> (K, V)>,
}

impl<K: RowKey, V: KeptRow> KeptRows<K, V> {
    pub(crate) fn new(name: &str) -> Result<Self, Error> {
        if name.len() > MAX_NAME {
            return Err(Error::too_large("name of kept rows", name.len(), MAX_NAME));
        }
        Ok(Self {
            stream: StreamId::new(TYPE, name)?,
            of: PhantomData,
        })
    }
}

/// The name of the projection behind the rows called `name`.
pub(crate) fn projection_name(name: &str) -> String {
    format!("kept.{name}")
}

impl<K: RowKey, V: KeptRow> Projection for KeptRows<K, V> {
    const NAME: &'static str = "kept";
    type Key = K;
    type Row = V;

    fn apply(&self, event: &EventEnvelope, rows: &mut Rows<'_, K, V>) -> Result<(), HandlerError> {
        if event.stream != self.stream {
            return Ok(());
        }
        let key = |bytes: Vec<u8>| {
            let mut rest = bytes.as_slice();
            let key = K::decode(&mut rest).filter(|_| rest.is_empty());
            key.ok_or_else(|| HandlerError::permanent("the key is of another type"))
        };
        match event.decode_event()? {
            Kept::RowPut { key: bytes, row } => rows.put(key(bytes)?, row),
            Kept::<V>::RowRemoved { key: bytes } => rows.remove(&key(bytes)?),
        }
        Ok(())
    }
}

impl<K: RowKey, V: KeptRow> KeptRepository<K, V> {
    pub(crate) fn new(inner: &Arc<Inner>, name: &str) -> Result<Self, Error> {
        Ok(Self {
            rows: inner.projections().named(&projection_name(name))?,
            stream: StreamId::new(TYPE, name)?,
            inner: Arc::downgrade(inner),
        })
    }

    /// The same calls for threads without a runtime.
    pub fn blocking(&self) -> BlockingKept<K, V> {
        BlockingKept(self.clone())
    }

    async fn record(&self, event: Kept<V>) -> Result<(), Error> {
        let inner = self.inner.upgrade().ok_or(Error::Closed)?;
        let context = Context::new();
        let recorded =
            inner
                .store()
                .persist_events(&self.stream, ExpectedVersion::Any, vec![event], &context);
        let receipt = recorded.await?;
        inner.applied(receipt.last_position).await;
        Ok(())
    }
}

impl<K: RowKey, V: KeptRow> Repository<K, V> for KeptRepository<K, V> {
    async fn get(&self, key: &K) -> Result<Option<V>, Error> {
        self.rows.get(key).await
    }

    async fn scan(
        &self,
        range: impl RangeBounds<K> + Send,
        limit: usize,
    ) -> Result<Vec<(K, V)>, Error> {
        self.rows.scan(range, limit).await
    }

    async fn scan_back(
        &self,
        range: impl RangeBounds<K> + Send,
        limit: usize,
    ) -> Result<Vec<(K, V)>, Error> {
        self.rows.scan_back(range, limit).await
    }
}

impl<K: RowKey, V: KeptRow> EditableRepository<K, V> for KeptRepository<K, V> {
    async fn put(&self, key: K, row: V) -> Result<(), Error> {
        // Recorded, it would stop all rows for ever.
        self.rows.check_row(&key, &row)?;
        let key = encoded(&key);
        self.record(Kept::RowPut { key, row }).await
    }

    async fn remove(&self, key: &K) -> Result<Option<V>, Error> {
        let before = self.rows.get(key).await?;
        if before.is_some() {
            let key = encoded(key);
            self.record(Kept::RowRemoved { key }).await?;
        }
        Ok(before)
    }
}

fn encoded(key: &impl RowKey) -> Vec<u8> {
    let mut bytes = Vec::new();
    key.encode(&mut bytes);
    bytes
}

impl<K: RowKey, V: KeptRow> Clone for KeptRepository<K, V> {
    fn clone(&self) -> Self {
        Self {
            inner: Weak::clone(&self.inner),
            rows: self.rows.clone(),
            stream: self.stream.clone(),
        }
    }
}

impl<K: RowKey, V: KeptRow> fmt::Debug for KeptRepository<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptRepository")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

/// A [`KeptRepository`] whose calls block the calling thread. Do not use it inside async code.
pub struct BlockingKept<K: RowKey, V: KeptRow>(KeptRepository<K, V>);

impl<K: RowKey, V: KeptRow> BlockingKept<K, V> {
    /// The row under `key`.
    ///
    /// # Errors
    /// As [`ReadModel::get`].
    pub fn get(&self, key: &K) -> Result<Option<V>, Error> {
        block_on(self.0.get(key))
    }

    /// At most `limit` rows with keys in `range`, in key order.
    ///
    /// # Errors
    /// As [`ReadModel::scan`].
    pub fn scan(
        &self,
        range: impl RangeBounds<K> + Send,
        limit: usize,
    ) -> Result<Vec<(K, V)>, Error> {
        block_on(self.0.scan(range, limit))
    }

    /// Puts `row` under `key`, durably.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for a key above 1 KiB or a row above 1 MiB, else as
    /// [`EventStore::append`](crate::EventStore::append).
    pub fn put(&self, key: K, row: V) -> Result<(), Error> {
        block_on(self.0.put(key, row))
    }

    /// Takes the row under `key` away, durably, and returns it.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn remove(&self, key: &K) -> Result<Option<V>, Error> {
        block_on(self.0.remove(key))
    }
}

impl<K: RowKey, V: KeptRow> fmt::Debug for BlockingKept<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
