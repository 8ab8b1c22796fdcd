//! A server within the process that accepts everything at once: what replication costs by itself.
//!
//! It keeps nothing but the one row that says how far the store is, so whoever asks for events finds
//! none; W2 never does.

use std::future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidelog::{BoxFuture, DistributedConfig, ScyllaConfig};
use tidelog_backends::SCHEMA_VERSION;
use tidelog_backends::wire::{MetaRow, OriginRow, Reply, Request, Rows, Wire, WireError};
use uuid::Uuid;

/// Replication to `to`, or for `accept` to a server of this kind.
pub fn distributed(to: &str) -> DistributedConfig {
    if to == "accept" {
        // Nobody is asked at that address.
        return DistributedConfig::new()
            .scylla(ScyllaConfig::new(["127.0.0.1"]))
            .wire(Arc::new(Accepting::default()));
    }
    DistributedConfig::new().scylla(ScyllaConfig::new([to]))
}

#[derive(Debug, Default)]
struct Accepting {
    origin: Mutex<Option<OriginRow>>,
}

impl Accepting {
    fn origin(&self) -> MutexGuard<'_, Option<OriginRow>> {
        self.origin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, request: Request) -> Reply {
        match request {
            Request::Meta => Reply::Meta(Some(MetaRow {
                keyspace_id: Uuid::from_u128(1),
                schema_version: SCHEMA_VERSION,
                bucket_events: 1_000,
                chunk_records: 1_000,
                arbitration_dc: None,
            })),
            Request::Ping
            | Request::PutLog { .. }
            | Request::PutPart { .. }
            | Request::DropParts { .. } => Reply::Done,
            Request::Head(_) => Reply::Head(None),
            Request::Ids { .. } => Reply::Ids(Vec::new()),
            Request::Events { .. } => Reply::Events(Rows {
                rows: Vec::new(),
                next: None,
            }),
            Request::Log { .. } => Reply::Log(Rows {
                rows: Vec::new(),
                next: None,
            }),
            Request::Origins(_) | Request::AllOrigins => {
                Reply::Origins(self.origin().iter().cloned().collect())
            }
            Request::Register(row) => {
                *self.origin() = Some(*row);
                Reply::Applied(true)
            }
            Request::Claim { session, .. } => {
                if let Some(row) = &mut *self.origin() {
                    row.watermark.session = session;
                }
                Reply::Applied(true)
            }
            Request::Advance { to, .. } => {
                if let Some(row) = &mut *self.origin() {
                    row.watermark = to;
                }
                Reply::Applied(true)
            }
            Request::Parked { .. } => Reply::Parked(Vec::new()),
            Request::Snapshot(_) => Reply::Snapshot(None),
            Request::Part { .. } => Reply::Part(None),
            _ => Reply::Applied(true),
        }
    }
}

impl Wire for Accepting {
    fn ask(&self, request: Request) -> BoxFuture<'_, Result<Reply, WireError>> {
        Box::pin(future::ready(Ok(self.answer(request))))
    }

    fn renew(&self) -> BoxFuture<'_, Result<(), WireError>> {
        Box::pin(future::ready(Ok(())))
    }
}
