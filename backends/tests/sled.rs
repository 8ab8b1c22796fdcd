//! The embedded store keeps every law, by both faces, with ordinary segments, with tiny ones
//! whose streams collide, and with a codec between.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempDir;
use tidelog_backends::{SledStore, SledStoreBuilder};
use tidelog_core::testing::{Harness, PersistentHarness, Settings};
use tidelog_core::{PayloadCodec, PayloadCodecError, PayloadContext};

struct SledHarness {
    dir: TempDir,
    face: fn(&SledStore) -> SledStore,
    shape: fn(SledStoreBuilder) -> SledStoreBuilder,
}

impl SledHarness {
    fn new(
        face: fn(&SledStore) -> SledStore,
        shape: fn(SledStoreBuilder) -> SledStoreBuilder,
    ) -> Self {
        Self {
            dir: TempDir::new().unwrap(),
            face,
            shape,
        }
    }
}

impl Harness for SledHarness {
    type Store = SledStore;

    fn open(&mut self, settings: Settings) -> SledStore {
        let builder = SledStore::builder(self.dir.path().join("store"))
            .limits(settings.limits)
            .clock(settings.clock);
        (self.face)(&(self.shape)(builder).open().unwrap())
    }

    fn close(&mut self, store: SledStore) {
        store.close_blocking().unwrap();
    }
}

impl PersistentHarness for SledHarness {
    fn crash(&mut self, store: SledStore) {
        store.crash();
    }
}

fn is_async(store: &SledStore) -> SledStore {
    store.clone()
}

fn is_blocking(store: &SledStore) -> SledStore {
    store.blocking().inner().clone()
}

fn ordinary(builder: SledStoreBuilder) -> SledStoreBuilder {
    builder
}

/// As long as the payload, so that limits count the same; the same for a retry.
struct Inverted;

impl PayloadCodec for Inverted {
    fn encode(&self, payload: Bytes, _: &PayloadContext<'_>) -> Result<Bytes, PayloadCodecError> {
        Ok(payload.iter().map(|byte| !byte).collect())
    }

    fn decode(
        &self,
        stored: Bytes,
        about: &PayloadContext<'_>,
    ) -> Result<Bytes, PayloadCodecError> {
        self.encode(stored, about)
    }
}

fn with_codec(builder: SledStoreBuilder) -> SledStoreBuilder {
    builder.codec(Arc::new(Inverted))
}

/// 64 KiB segments, two runs a merge, eight different stream hashes.
fn tiny(builder: SledStoreBuilder) -> SledStoreBuilder {
    builder.segment_size(64 << 10).stress_index(3, 2)
}

tidelog_core::conformance_tests!(
    async_face, SledHarness::new(is_async, ordinary);
    store, multi_stream, log, snapshots, rows, checkpoints, persistence, log_persistence, multi_stream_persistence,
    snapshot_persistence, row_persistence, checkpoint_persistence, superseding, superseding_persistence
);

tidelog_core::conformance_tests!(
    blocking_face, SledHarness::new(is_blocking, ordinary);
    store, multi_stream, log, snapshots, rows, checkpoints, persistence, log_persistence, multi_stream_persistence,
    snapshot_persistence, row_persistence, checkpoint_persistence, superseding, superseding_persistence
);

tidelog_core::conformance_tests!(
    tiny_segments, SledHarness::new(is_async, tiny);
    store, multi_stream, log, snapshots, rows, checkpoints, persistence, log_persistence, multi_stream_persistence,
    snapshot_persistence, row_persistence, checkpoint_persistence, superseding, superseding_persistence
);

tidelog_core::conformance_tests!(
    coded_payloads, SledHarness::new(is_async, with_codec);
    store, multi_stream, log, snapshots, rows, checkpoints, persistence, log_persistence, multi_stream_persistence,
    snapshot_persistence, row_persistence, checkpoint_persistence
);
