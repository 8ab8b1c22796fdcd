//! A process that appends to a store that publishes, until it is told to stop or killed.
//!
//! It says what was acknowledged, a line each.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use tidelog::BlockingTidelog;

use crate::stores::{self, Shop};
use crate::sweep::Random;
use crate::working::{self, Working, peak_kib, say};

/// Set for a child: what [`Order::line`] made.
const ORDER: &str = "TIDELOG_TEST_KAFKA_CHILD";
const STREAMS: u64 = 64;

/// What a child is told.
#[derive(Clone, Debug)]
pub struct Order {
    pub shop: Shop,
    pub store: PathBuf,
    pub seed: u64,
    /// Threads that append.
    pub writers: u64,
    /// Pause between the appends of a thread.
    pub pause: Duration,
}

/// What children have said.
#[derive(Debug, Default)]
pub struct Said {
    /// Highest position that was acknowledged.
    pub acknowledged: u64,
    /// Highest position that was settled.
    pub settled: u64,
    /// Most memory that a child had, KiB.
    pub peak_kib: u64,
    /// Children that came to the end of their work.
    pub ended: u64,
    pub failures: Vec<String>,
}

impl Order {
    fn line(&self) -> String {
        format!(
            "{} {} {} {} {} {}",
            self.shop.address,
            self.shop.prefix,
            self.seed,
            self.writers,
            self.pause.as_micros(),
            self.store.display()
        )
    }

    fn parse(line: &str) -> Self {
        let mut words = line.splitn(6, ' ');
        let mut word = || words.next().unwrap().to_owned();
        let (address, prefix) = (word(), word());
        Self {
            shop: Shop { address, prefix },
            seed: word().parse().unwrap(),
            writers: word().parse().unwrap(),
            pause: Duration::from_micros(word().parse().unwrap()),
            store: word().into(),
        }
    }

    /// Starts a child that does it. What it says is noted in `said`.
    pub fn start(&self, said: &Arc<Mutex<Said>>) -> Working {
        let said = Arc::clone(said);
        let order = (ORDER, self.line());
        Working::start("child_appends_until_it_is_killed", order, move |line| {
            said.lock().hear(line);
        })
    }
}

impl Said {
    fn hear(&mut self, line: &str) {
        let words: Vec<_> = line.splitn(2, ' ').collect();
        match words[..] {
            ["at", position] => {
                self.acknowledged = self.acknowledged.max(position.parse().unwrap());
            }
            ["settled", position] => self.settled = self.settled.max(position.parse().unwrap()),
            ["peak", kib] => self.peak_kib = self.peak_kib.max(kib.parse().unwrap()),
            ["ended"] => self.ended += 1,
            _ => self.failures.push(line.to_owned()),
        }
    }
}

/// Not a test by itself: what others start.
pub fn run_if_told() {
    let Some(order) = working::order(ORDER) else {
        return;
    };
    work(&Order::parse(&order));
}

fn work(order: &Order) {
    let log = order.shop.open(&order.store);
    let stop = working::told_to_stop();
    let writers = (0..order.writers).map(|writer| {
        let (log, stop, pause) = (log.clone(), Arc::clone(&stop), order.pause);
        let random = Random(order.seed ^ (writer << 32));
        thread::spawn(move || append(&log, random, pause, &stop))
    });
    let writers: Vec<_> = writers.collect();
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(50));
        say(&format!("settled {}", log.publishing().status().settled));
    }
    for writer in writers {
        writer.join().unwrap();
    }
    stores::level(&log);
    assert_eq!(log.publishing().parked(), []);
    log.close().unwrap();
    say(&format!("peak {}", peak_kib()));
    say("ended");
}

fn append(log: &BlockingTidelog, mut random: Random, pause: Duration, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let bytes = random.below(400);
        let payload = stores::noise(&mut random, bytes);
        let stream = stores::stream(random.next() % STREAMS);
        say(&format!("at {}", stores::append(log, &stream, payload)));
        thread::sleep(pause);
    }
}
