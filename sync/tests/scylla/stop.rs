//! Servers that do not answer, or slowly: the store goes on, memory stays bounded, all comes through.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tempfile::tempdir;

use crate::child::{self, Order, Said};
use crate::compare::{Agreement, Found, Log};
use crate::proxy::Proxy;
use crate::services::{self, Own};
use crate::{plain, say};

/// A store's own memory, a debug build's threads and driver, and twice the window: what is not
/// bounded is far above.
const MOST_KIB: u64 = 160 << 10;

fn order(address: String, store: &Path) -> Order {
    Order {
        child: 1,
        seed: 7,
        writers: 4,
        direct: 0,
        pause: 20_000,
        size: 16,
        most_waiting: u64::MAX,
        address,
        keyspace: plain::keyspace("stopped"),
        store: store.to_owned(),
    }
}

/// Compares the store that a child left with what stands at the server.
fn compared(order: &Order, server: &str) -> Agreement {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let log = child::opened(&order.store).unwrap();
        let logs = [Log::of(log.store())];
        log.close().await.unwrap();
        let session = plain::session(server).await;
        let found = Found::read(&session, &order.keyspace).await;
        let agreement = found.agrees(&logs, &BTreeMap::new(), |_, _| false);
        plain::drop_keyspace(&session, &order.keyspace).await;
        agreement
    })
}

/// Waits until the child has appended up to `position`.
fn appended(said: &Mutex<Said>, position: u64) {
    let begun = Instant::now();
    while said.lock().acknowledged < position {
        assert!(
            begun.elapsed() < Duration::from_secs(300),
            "{:?}",
            said.lock()
        );
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_server_stopped_for_two_minutes_costs_appends_nothing() {
    let Some(server) = Own::start() else { return };
    let dir = tempdir().unwrap();
    let order = order(server.address(), &dir.path().join("store"));
    let said = Arc::new(Mutex::new(Said::default()));
    let application = order.start(&said);
    appended(&said, 500);
    server.pause();
    let before = said.lock().acknowledged;
    thread::sleep(Duration::from_secs(120));
    let appended = said.lock().acknowledged - before;
    server.resume();
    let resumed = Instant::now();
    application.rest();
    let level = resumed.elapsed();
    let said = said.lock();
    assert!(said.failures.is_empty(), "{:?}", said.failures);
    assert!(appended > 5_000, "{appended}");
    let agreement = compared(&order, &server.address());
    say(&format!(
        "stopped for 120 s: {appended} events meanwhile, level after {level:?}, {} MiB at most: {agreement:?}",
        said.peak_kib >> 10
    ));
    assert!(said.peak_kib < MOST_KIB, "{} KiB", said.peak_kib);
}

#[test]
fn a_slow_server_costs_bounded_memory() {
    let Some(server) = services::scylla() else {
        return;
    };
    let proxy = Proxy::start(&server);
    let dir = tempdir().unwrap();
    let mut order = order(proxy.address(), &dir.path().join("store"));
    (order.size, order.pause) = (16 << 10, 1_000);
    let said = Arc::new(Mutex::new(Said::default()));
    let application = order.start(&said);
    appended(&said, 100);
    proxy.throttle(Some(20_000));
    let sent = proxy.requests();
    // 128 MiB, and some.
    appended(&said, 8_292);
    let sent = proxy.requests() - sent;
    proxy.throttle(None);
    application.rest();
    let said = said.lock();
    assert!(said.failures.is_empty(), "{:?}", said.failures);
    assert!(sent < 64 << 20, "{sent} bytes: it was not slow");
    let agreement = compared(&order, &server);
    say(&format!(
        "{} MiB at most while 128 MiB waited: {agreement:?}",
        said.peak_kib >> 10
    ));
    assert!(said.peak_kib < MOST_KIB, "{} KiB", said.peak_kib);
}
