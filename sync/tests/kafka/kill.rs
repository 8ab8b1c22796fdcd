//! A broker that is killed again and again under load, and the application with it; one that stands
//! still.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tempfile::tempdir;
use tidelog::Tidelog;

use crate::child::{Order, Said};
use crate::consumer::Watch;
use crate::say;
use crate::services::Own;
use crate::stores::{self, Shop};
use crate::sweep::{self, Random};
use crate::working::Working;

/// Waits until more is published than now.
fn works(said: &Mutex<Said>) {
    let (before, begun) = (said.lock().settled, Instant::now());
    loop {
        let now = said.lock();
        assert!(now.failures.is_empty(), "{:?}", now.failures);
        if now.settled > before {
            return;
        }
        assert!(
            begun.elapsed() < stores::PATIENCE,
            "nothing is published: {now:?}"
        );
        drop(now);
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_broker_killed_under_load_has_all_in_order_in_the_end() {
    let Some(broker) = Own::kafka() else { return };
    let (seed, kills) = (sweep::seed(), if sweep::is_full() { 60 } else { 22 });
    say(&format!("TIDELOG_SEED={seed}, {kills} kills of the broker"));
    let mut random = Random(seed);
    let shop = Shop::new("killed", broker.address(), 4);
    let watch = Watch::begin(&shop.address, &[shop.topic()]);
    let dir = tempdir().unwrap();
    let said = Arc::new(Mutex::new(Said::default()));
    let mut order = Order {
        shop: shop.clone(),
        store: dir.path().join("store"),
        seed,
        writers: 4,
        pause: Duration::from_millis(10),
    };
    let mut start = || {
        order.seed = order.seed.wrapping_add(1);
        order.start(&said)
    };
    let (mut application, mut killed) = (start(), 0);
    for kill in 0..kills {
        // Faults fall anywhere into the work, but there has to be some.
        works(&said);
        thread::sleep(Duration::from_millis(random.below(800) as u64));
        let mut replace = |application: Working| {
            killed += 1;
            application.kill();
            start()
        };
        // The application goes before the broker, while it is away, or when it is there again.
        let when = random.below(6);
        if when < 2 {
            application = replace(application);
        }
        broker.kill();
        if (2..4).contains(&when) {
            thread::sleep(Duration::from_millis(random.below(300) as u64));
            application = replace(application);
        }
        broker.start_again();
        if when > 3 || kill % 4 == 0 {
            application = replace(application);
        }
    }
    application.rest();
    let said = said.lock();
    assert!(said.failures.is_empty(), "{:?}", said.failures);
    assert_eq!(said.ended, 1);
    assert!(killed >= 20, "{killed}");
    let log = Tidelog::open(&order.store).unwrap().blocking();
    assert!(
        log.last_position() >= said.acknowledged,
        "acknowledged and gone"
    );
    let seen = shop.has_all_of(&log);
    assert!(seen.wrong.is_empty(), "{:?}", seen.wrong);
    say(&format!(
        "{kills} kills of the broker, {killed} of the application: {} events, {} doubles",
        seen.events(),
        seen.doubles
    ));
    assert!(seen.events() > 1_000, "{}", seen.events());
    watch.until("all of it", |now| now.events() == seen.events());
    let watched = watch.end();
    assert!(watched.wrong.is_empty(), "{:?}", watched.wrong);
}

/// A store's own memory, a debug build's threads and librdkafka, and the window: what is not bounded is
/// far above.
const MOST_KIB: u64 = 160 << 10;

#[test]
fn a_broker_stopped_for_a_minute_costs_appends_nothing() {
    let Some(broker) = Own::kafka() else { return };
    let shop = Shop::new("stopped", broker.address(), 4);
    let dir = tempdir().unwrap();
    let said = Arc::new(Mutex::new(Said::default()));
    let order = Order {
        shop: shop.clone(),
        store: dir.path().join("store"),
        seed: 7,
        writers: 4,
        pause: Duration::from_millis(2),
    };
    let application = order.start(&said);
    works(&said);
    broker.pause();
    let before = said.lock().acknowledged;
    let seconds = if sweep::is_full() { 180 } else { 60 };
    thread::sleep(Duration::from_secs(seconds));
    let appended = said.lock().acknowledged - before;
    broker.resume();
    let resumed = Instant::now();
    application.rest();
    let level = resumed.elapsed();
    let said = said.lock();
    assert!(said.failures.is_empty(), "{:?}", said.failures);
    assert!(appended > 2_000, "{appended}");
    let log = Tidelog::open(&order.store).unwrap().blocking();
    let seen = shop.has_all_of(&log);
    assert!(seen.wrong.is_empty(), "{:?}", seen.wrong);
    say(&format!(
        "stopped for {seconds} s: {appended} events meanwhile, level after {level:?}, {} MiB at most, {} doubles",
        said.peak_kib >> 10,
        seen.doubles
    ));
    assert!(said.peak_kib < MOST_KIB, "{} KiB", said.peak_kib);
}
