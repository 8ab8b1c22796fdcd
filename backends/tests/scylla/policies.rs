//! Policies of the driver that an application gives.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidelog_backends::scylla_driver::policies::retry::{
    FallthroughRetryPolicy, RetryPolicy, RetrySession,
};
use tidelog_backends::scylla_driver::policies::speculative_execution::{
    Context, SpeculativeExecutionPolicy,
};

use crate::keyspaces::Keyspace;
use crate::kit::{append, assert_holds, connect, events, stream};

/// How often it was asked.
#[derive(Debug, Default)]
struct Counting(AtomicU64);

impl Counting {
    fn count(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn so_far(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl RetryPolicy for Counting {
    fn new_session(&self) -> Box<dyn RetrySession> {
        self.count();
        FallthroughRetryPolicy::new().new_session()
    }
}

impl SpeculativeExecutionPolicy for Counting {
    fn max_retry_count(&self, _: &Context) -> usize {
        self.count();
        1
    }

    fn retry_interval(&self, _: &Context) -> Duration {
        // At once: where it is asked twice, that shall be so.
        Duration::ZERO
    }
}

#[test]
fn policies_of_the_application_are_asked_and_change_no_answer() {
    let Some(keyspace) = Keyspace::named("policies") else {
        return;
    };
    let (retries, speculative) = (Arc::<Counting>::default(), Arc::<Counting>::default());
    let config = keyspace.config();
    let config = config.retry_policy(Arc::clone(&retries) as Arc<dyn RetryPolicy>);
    let config = config.speculative(Arc::clone(&speculative) as Arc<_>);
    let store = connect(config);
    let (stream, all) = (stream("a"), events(5));
    append(&store, &stream, &all);
    assert_holds(&store, &stream, &all);
    // Not of what conditions are decided by, nor of reads that see it: those are tried again here.
    assert!(retries.so_far() > 0, "{retries:?}");
    assert!(speculative.so_far() > 0, "{speculative:?}");
    append(&store, &stream, &events(3));
}
