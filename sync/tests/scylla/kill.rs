//! A server that is killed again and again under load, and the applications with it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tempfile::tempdir;
use tidelog::{RestoreOptions, restore};

use crate::child::{self, Order, Said};
use crate::compare::{Found, Log};
use crate::services::Own;
use crate::sweep::{self, Random};
use crate::working::Working;
use crate::{plain, say, till};

/// What is replicated, and appended directly, between two kills at least.
const SETTLED: u64 = 50;
const DONE: usize = 5;

/// Waits until both the replica and the direct writers have got on a bit.
fn works(said: &Mutex<Said>) {
    let before = said.lock();
    let (settled, done) = (before.settled, before.done.len());
    drop(before);
    let begun = Instant::now();
    loop {
        let now = said.lock();
        assert!(now.failures.is_empty(), "{:?}", now.failures);
        if now.settled >= settled + SETTLED && now.done.len() >= done + DONE {
            return;
        }
        assert!(
            begun.elapsed() < till::PATIENCE,
            "nothing is replicated, or nothing is appended directly"
        );
        drop(now);
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_server_killed_under_load_has_all_once_in_the_end() {
    let Some(server) = Own::start() else { return };
    let (seed, kills) = (sweep::seed(), if sweep::is_full() { 60 } else { 22 });
    say(&format!("TIDELOG_SEED={seed}, {kills} kills of the server"));
    let mut random = Random(seed);
    let dir = tempdir().unwrap();
    let said = Arc::new(Mutex::new(Said::default()));
    let mut order = Order {
        child: 0,
        seed,
        writers: 8,
        direct: 2,
        pause: 40_000,
        size: 16,
        // What waited for longer would only make the end longer.
        most_waiting: 50_000,
        address: server.address(),
        keyspace: plain::keyspace("killed"),
        store: dir.path().join("store"),
    };
    let keyspace = order.keyspace.clone();
    let mut start = || {
        order.child += 1;
        order.seed = order.seed.wrapping_add(1);
        order.start(&said)
    };
    let mut application = start();
    let mut killed_applications = 0;
    for kill in 0..kills {
        // Faults fall anywhere into the work, but there has to be some.
        works(&said);
        thread::sleep(Duration::from_millis(200 + random.below(1_300) as u64));
        // The application goes before the server, while it is away, when it is there again, or stays.
        let when = random.below(8);
        let mut replace = |application: Working| {
            killed_applications += 1;
            application.kill();
            start()
        };
        if when < 2 || kill == 0 {
            application = replace(application);
        }
        server.kill();
        if (2..6).contains(&when) {
            thread::sleep(Duration::from_millis(random.below(500) as u64));
            application = replace(application);
        }
        server.start_again();
        if when > 5 || kill % 2 == 0 {
            application = replace(application);
        }
    }
    application.rest();

    let said = said.lock();
    assert!(said.failures.is_empty(), "{:?}", said.failures);
    assert_eq!(said.ended, 1);
    assert!(killed_applications >= 20, "{killed_applications}");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let log = child::opened(&dir.path().join("store")).unwrap();
        assert!(log.last_position() >= said.acknowledged, "acknowledged and gone");
        let logs = [Log::of(log.store())];
        log.close().await.unwrap();
        let session = plain::session(&server.address()).await;
        let found = Found::read(&session, &keyspace).await;
        let direct = found.direct();
        let there = found.direct_texts();
        for done in &said.done {
            assert!(there.contains(done), "acknowledged and gone: {done:?}");
        }
        let tried: BTreeSet<_> = said.tried.iter().cloned().collect();
        assert!(there.is_subset(&tried), "nobody tried that");
        let agreement = found.agrees(&logs, &direct, |_, _| false);
        let restored = dir.path().join("restored");
        let config = till::config(&server.address(), &keyspace);
        let done = restore(config, RestoreOptions::new(), &restored).await;
        done.unwrap();
        let restored = child::opened(&restored).unwrap();
        restored.verify().await.unwrap();
        Log::of(restored.store()).begins_with(&logs[0]);
        restored.close().await.unwrap();
        say(&format!(
            "{kills} kills of the server, {killed_applications} of the application: {agreement:?}, {} appends, {} direct",
            said.appends,
            said.done.len(),
        ));
        assert!(agreement.events > 1_000 && said.done.len() > 100, "{agreement:?}");
    });
}
