//! The store keeps every law that its types claim, by both faces: on a thread of its own and by
//! blocking calls; and on a runtime that it was given.

use std::sync::OnceLock;

use tidelog_backends::{ScyllaConfig, ScyllaStore};
use tidelog_core::Limits;
use tidelog_core::testing::{Harness, PersistentHarness, Settings};
use tokio::runtime::{Handle, Runtime};

use crate::keyspaces;

/// One law's stores: a namespace of the keyspace that all of them share.
struct ScyllaHarness {
    namespace: String,
    face: Face,
}

#[derive(Clone, Copy)]
enum Face {
    Blocking,
    OnARuntime,
}

/// Batches of 1,500 events are in the kit.
const BUCKET: u64 = 2_000;

impl ScyllaHarness {
    fn new(face: Face) -> Self {
        Self {
            namespace: keyspaces::namespace(),
            face,
        }
    }

    fn config(&self, settings: Settings) -> ScyllaConfig {
        keyspaces::shared("laws", |config| config.bucket_events(BUCKET))
            .limits(settings.limits)
            .clock(settings.clock)
            .namespace(self.namespace.as_str())
    }
}

impl Harness for ScyllaHarness {
    type Store = ScyllaStore;

    fn open(&mut self, settings: Settings) -> ScyllaStore {
        let config = self.config(settings);
        match self.face {
            Face::Blocking => {
                let store = ScyllaStore::connect_blocking(config).unwrap();
                store.inner().clone()
            }
            Face::OnARuntime => {
                let connect = ScyllaStore::connect(config.runtime(runtime()));
                pollster::block_on(connect).unwrap()
            }
        }
    }

    fn close(&mut self, store: ScyllaStore) {
        pollster::block_on(store.close()).unwrap();
    }

    fn limits(&self) -> Limits {
        Limits {
            batch_events: BUCKET as usize,
            batch_bytes: 4 << 20,
            ..Limits::default()
        }
    }
}

impl PersistentHarness for ScyllaHarness {
    fn crash(&mut self, store: ScyllaStore) {
        pollster::block_on(store.abandon());
    }
}

fn runtime() -> Handle {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
    });
    runtime.handle().clone()
}

macro_rules! laws {
    ($name:ident, $face:expr) => {
        tidelog_core::conformance_tests!(
            $name,
            match keyspaces::server() {
                Some(_) => ScyllaHarness::new($face),
                None => return,
            };
            store, snapshots, persistence, snapshot_persistence
        );
    };
}

laws!(blocking, Face::Blocking);
laws!(on_a_runtime, Face::OnARuntime);
