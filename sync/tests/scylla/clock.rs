//! Clocks that are years off, and jump: nothing is decided by them.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tempfile::tempdir;
use tidelog::{Clock, Timestamp};

use crate::compare::{Found, Log};
use crate::sweep::{self, Random};
use crate::{plain, say, services, streams, till};

const DECADE: i64 = 10 * 365 * 24 * 3_600 * 1_000_000;
/// 2026-11-26.
const TODAY: i64 = 1_795_651_200_000_000;

/// Somewhere within ten years of today, elsewhere each time it is asked.
#[derive(Debug)]
struct Jumping(Mutex<Random>);

impl Clock for Jumping {
    fn now(&self) -> Timestamp {
        let drawn = self.0.lock().next() % (2 * DECADE).cast_unsigned();
        Timestamp::from_micros(TODAY - DECADE + drawn.cast_signed())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_by_decades_changes_nothing() {
    let Some(server) = services::scylla() else {
        return;
    };
    let seed = sweep::seed();
    say(&format!("TIDELOG_SEED={seed}"));
    let keyspace = plain::keyspace("clock");
    let dir = tempdir().unwrap();
    let open = |seed: u64| {
        let clock = Arc::new(Jumping(Mutex::new(Random(seed))));
        let config = till::config(&server, &keyspace).clock(clock.clone());
        till::builder(dir.path(), config)
            .clock(clock)
            .open()
            .unwrap()
    };
    for run in 0..3 {
        let log = open(seed ^ run);
        for number in 0..100 {
            till::say(&log, &streams::named("Till", number % 7), &["tick", "tock"]).await;
        }
        till::level(&log).await;
        assert_eq!(log.replication().status().parked, 0);
        log.close().await.unwrap();
    }
    let log = open(seed);
    let logs = [Log::of(log.store())];
    log.close().await.unwrap();
    let session = plain::session(&server).await;
    let found = Found::read(&session, &keyspace).await;
    let agreement = found.agrees(&logs, &BTreeMap::new(), |_, _| false);
    assert_eq!(agreement.events, 600);
    plain::drop_keyspace(&session, &keyspace).await;
}
