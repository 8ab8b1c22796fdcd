//! What networks do, at random, for a while; then all stands there once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tempfile::tempdir;
use tokio::task::JoinSet;

use crate::compare::{Found, Log};
use crate::proxy::Proxy;
use crate::sweep::{self, Random, Tally};
use crate::{plain, say, services, streams, till};

/// One fault, and its end.
async fn hurt(proxy: &Proxy, random: &mut Random, tally: &mut Tally) {
    let mut millis = |most: usize| Duration::from_millis(random.below(most) as u64);
    let (pause, first, second) = (millis(600), millis(60), millis(60));
    let what = match random.below(7) {
        0 => {
            proxy.latency(first, second);
            "latency"
        }
        1 => {
            proxy.reset_all();
            "reset"
        }
        2 => {
            proxy.cut_after(random.below(64 << 10) as u64);
            "cut"
        }
        3 => {
            proxy.drop_replies(true);
            "replies lost"
        }
        4 => {
            proxy.refuse(true);
            "refused"
        }
        5 => {
            proxy.throttle(Some(50_000));
            "slow"
        }
        _ => {
            proxy.blackhole(true);
            "silence"
        }
    };
    tally.count(what, "done");
    tokio::time::sleep(pause).await;
    proxy.latency(Duration::ZERO, Duration::ZERO);
    proxy.drop_replies(false);
    proxy.refuse(false);
    proxy.throttle(None);
    proxy.blackhole(false);
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_network_cost_nothing_but_time() {
    let Some(server) = services::scylla() else {
        return;
    };
    let (seed, length) = (sweep::seed(), if sweep::is_full() { 600 } else { 40 });
    say(&format!("TIDELOG_SEED={seed}, {length} s of faults"));
    let mut random = Random(seed);
    let proxy = Proxy::start(&server);
    let keyspace = plain::keyspace("faults");
    let dir = tempdir().unwrap();
    let config = till::config(&proxy.address(), &keyspace);
    let log = till::builder(dir.path(), config).open().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 0..4 {
        let (log, stop, mut random) = (log.clone(), Arc::clone(&stop), Random(seed ^ writer));
        writers.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let stream = streams::named("Till", random.next() % 20);
                till::say(&log, &stream, &["a", "b", "c"][..=random.below(3)]).await;
                tokio::time::sleep(Duration::from_millis(random.below(10) as u64)).await;
            }
        });
    }
    let begun = Instant::now();
    let mut tally = Tally::default();
    while begun.elapsed() < Duration::from_secs(length) {
        hurt(&proxy, &mut random, &mut tally).await;
        tokio::time::sleep(Duration::from_millis(random.below(400) as u64)).await;
    }
    stop.store(true, Ordering::Relaxed);
    writers.join_all().await;
    till::level(&log).await;
    let status = log.replication().status();
    assert_eq!(status.parked, 0, "{status:?}");
    let logs = [Log::of(log.store())];
    log.close().await.unwrap();
    let session = plain::session(&server).await;
    let found = Found::read(&session, &keyspace).await;
    let agreement = found.agrees(&logs, &BTreeMap::new(), |_, _| false);
    say(&format!(
        "{}{} reconnections: {agreement:?}",
        tally.table(),
        status.retries
    ));
    assert!(agreement.events > 500 && status.retries > 0, "{status:?}");
    plain::drop_keyspace(&session, &keyspace).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_connections_are_noticed_and_made_anew() {
    let Some(server) = services::scylla() else {
        return;
    };
    let proxy = Proxy::start(&server);
    let keyspace = plain::keyspace("half_open");
    let dir = tempdir().unwrap();
    let config = till::config(&proxy.address(), &keyspace);
    let log = till::builder(dir.path(), config).open().unwrap();
    till::say(&log, &streams::named("Till", 1), &["before"]).await;
    till::level(&log).await;
    let connections = proxy.accepted();
    proxy.forget();
    // So it is after a machine has slept, but for the time: more of it is told by the simulation.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let begun = Instant::now();
    till::say(&log, &streams::named("Till", 1), &["after"]).await;
    till::level(&log).await;
    let after = begun.elapsed();
    assert!(proxy.accepted() > connections, "by new connections");
    say(&format!(
        "half-open connections: the next event is there after {after:?}"
    ));
    log.close().await.unwrap();
    let session = plain::session(&server).await;
    plain::drop_keyspace(&session, &keyspace).await;
}
