//! tidelog's sled store, with default options.
//!
//! Fairness: every event carries a fresh UUID v7 and is checked for being a retry; the log is
//! hash-chained. No other contender does either.
//!
//! I1 does more for an event than W2 (it parses, loads, decides, serializes and checks a command
//! id), but has up to 512 commands under way where W2 has its clients, and smaller events.

use std::path::Path;

use bytes::Bytes;
use indicatif::ProgressBar;
use tidelog::{
    AppendBatch, Blocking, ContentType, EventStore, ExpectedVersion, LogQuery, NewEvent, SledStore,
    StreamId, StreamQuery, TidelogBuilder,
};
use tokio::runtime::Runtime;

use super::{AGGREGATE, Contender, EVENT, Names, stream_name};
use crate::Outcome;
use crate::accepting;
use crate::load::{Append, Client, Seen};

/// Options that are not the default ones; for measurements of tidelog alone.
#[derive(Clone, Debug, Default)]
pub struct Tuning {
    /// Bytes of memory for caches, filters and queues.
    pub memory_budget: Option<usize>,
    /// Segments are holes, not zeros written ahead.
    pub sparse: bool,
    /// Replicates to this node, or to one in the process that accepts all, `accept`.
    pub replicate: Option<String>,
}

impl Tuning {
    /// Builder of the store in `dir`.
    pub fn builder(&self, dir: &Path) -> TidelogBuilder {
        let mut builder = tidelog::Tidelog::builder(dir.join("store"));
        if let Some(bytes) = self.memory_budget {
            builder = builder.memory_budget(bytes);
        }
        if self.sparse {
            builder = builder.sparse_segments();
        }
        if let Some(to) = &self.replicate {
            builder = builder.distributed(accepting::distributed(to));
        }
        builder
    }
}

/// An open store, used by one of its faces.
pub struct Tidelog {
    handle: tidelog::Tidelog,
    store: SledStore,
    blocking: Blocking<SledStore>,
    runtime: Option<Runtime>,
    streams: Names<StreamId>,
}

impl Tidelog {
    /// Opens the store in `dir`; `on_tokio` chooses the async face for clients.
    pub fn open(dir: &Path, streams: usize, on_tokio: bool) -> Outcome<Self> {
        Self::open_tuned(dir, streams, on_tokio, &Tuning::default())
    }

    /// The same with options other than the default ones.
    pub fn open_tuned(
        dir: &Path,
        streams: usize,
        on_tokio: bool,
        tuning: &Tuning,
    ) -> Outcome<Self> {
        let handle = tuning.builder(dir).open()?;
        let store = handle.store().clone();
        Ok(Self {
            blocking: store.blocking(),
            store,
            handle,
            runtime: if on_tokio {
                Some(Runtime::new()?)
            } else {
                None
            },
            streams: Names::new(streams, stream_id)?,
        })
    }
}

fn stream_id(stream: usize) -> Outcome<StreamId> {
    Ok(StreamId::new(AGGREGATE, &stream_name(stream))?)
}

fn batch(streams: &Names<StreamId>, append: &Append<'_>) -> Outcome<AppendBatch> {
    let payload = Bytes::copy_from_slice(append.payload);
    let event = NewEvent::new(EVENT, 1, ContentType::Bytes, payload);
    let stream = streams.get(append.stream)?.into_owned();
    let expected = match append.expected {
        0 => ExpectedVersion::NoStream,
        sequence => ExpectedVersion::Exact(sequence),
    };
    Ok(AppendBatch::new(stream, expected, vec![event]))
}

impl Contender for Tidelog {
    fn clients(&mut self, clients: Vec<Client>) -> Outcome<()> {
        let streams = &self.streams;
        let Some(runtime) = &self.runtime else {
            let blocking = &self.blocking;
            let serve = |client: &Client| -> Outcome<()> {
                for append in client.appends() {
                    blocking.append(batch(streams, &append)?)?;
                }
                Ok(())
            };
            return super::on_threads(&clients, serve);
        };
        let tasks: Vec<_> = clients
            .into_iter()
            .map(|client| {
                let (store, streams) = (self.store.clone(), streams.clone());
                runtime.spawn(async move {
                    for append in client.appends() {
                        store.append(batch(&streams, &append)?).await?;
                    }
                    Outcome::Ok(())
                })
            })
            .collect();
        runtime.block_on(super::all(tasks))
    }

    fn append_batch(&mut self, appends: &[Append<'_>]) -> Outcome<()> {
        let parts = appends.iter().map(|append| batch(&self.streams, append));
        self.blocking
            .append_streams(parts.collect::<Outcome<_>>()?)?;
        Ok(())
    }

    fn import(&mut self, purchases: &Path) -> Outcome<u64> {
        let runtime = self.runtime.as_ref().ok_or("the import needs tokio")?;
        let progress = ProgressBar::hidden();
        let import = bank_account::import::import(&self.handle, purchases, true, &progress);
        let imported = runtime.block_on(import)?;
        if imported.already > 0 {
            return Err("the store was not fresh".into());
        }
        Ok(imported.opened + imported.deposited)
    }

    fn drain(&mut self) -> Outcome<()> {
        Ok(self.store.drain()?)
    }

    fn scan(&mut self) -> Outcome<Seen> {
        let mut seen = Seen::default();
        for envelope in self.blocking.read_all(LogQuery::all()) {
            let envelope = envelope?;
            // The log also holds the store's own records.
            if envelope.sequence > 0 {
                seen.note(&envelope.event);
            }
        }
        Ok(seen)
    }

    fn load(&mut self, stream: usize) -> Outcome<Seen> {
        let mut seen = Seen::default();
        let query = StreamQuery::new(self.streams.get(stream)?.into_owned());
        for envelope in self.blocking.read_stream(query) {
            seen.note(&envelope?.event);
        }
        Ok(seen)
    }

    fn close(self: Box<Self>) -> Outcome<()> {
        Ok(self.store.close_blocking()?)
    }
}
