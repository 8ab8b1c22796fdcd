//! A process that works on a store, and on the server directly, until it is told to stop or killed.
//!
//! It says what it does, a line each; the parent keeps what was acknowledged.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tidelog::{AppendBatch, Error, ErrorKind, ExpectedVersion, ScyllaStore, StreamId, Tidelog};
use tidelog_core::EventStore as _;
use tokio::task::JoinSet;

use crate::sweep::Random;
use crate::working::{self, Working, peak_kib, say};
use crate::{streams, till};

/// Set for a child: what [`Order::line`] made.
const ORDER: &str = "TIDELOG_TEST_SCYLLA_CHILD";
/// Streams of the store, few enough to be written again and again.
const STREAMS: u64 = 64;

/// What a child is told.
#[derive(Clone, Debug)]
pub struct Order {
    /// Which child it is, from 1: part of the names of what it appends directly.
    pub child: u64,
    pub seed: u64,
    /// Tasks that append to the store.
    pub writers: u64,
    /// Tasks that append to the server directly.
    pub direct: u64,
    /// Pause between the appends of a task, in microseconds.
    pub pause: u64,
    /// Bytes that events are padded to.
    pub size: usize,
    /// Tasks that append to the store wait while more events than this do.
    pub most_waiting: u64,
    pub address: String,
    pub keyspace: String,
    pub store: PathBuf,
}

impl Order {
    fn line(&self) -> String {
        format!(
            "{} {} {} {} {} {} {} {} {} {}",
            self.child,
            self.seed,
            self.writers,
            self.direct,
            self.pause,
            self.size,
            self.most_waiting,
            self.address,
            self.keyspace,
            self.store.display()
        )
    }

    fn parse(line: &str) -> Self {
        let mut words = line.splitn(10, ' ');
        let mut word = || words.next().unwrap().to_owned();
        Self {
            child: word().parse().unwrap(),
            seed: word().parse().unwrap(),
            writers: word().parse().unwrap(),
            direct: word().parse().unwrap(),
            pause: word().parse().unwrap(),
            size: word().parse().unwrap(),
            most_waiting: word().parse().unwrap(),
            address: word(),
            keyspace: word(),
            store: word().into(),
        }
    }

    /// Starts a child that does it. What it says is noted in `said`.
    pub fn start(&self, said: &Arc<Mutex<Said>>) -> Working {
        let said = Arc::clone(said);
        let order = (ORDER, self.line());
        Working::start("child_works_until_it_is_killed", order, move |line| {
            said.lock().hear(line);
        })
    }
}

/// What children have said.
#[derive(Debug, Default)]
pub struct Said {
    /// Highest position of the store that was acknowledged.
    pub acknowledged: u64,
    /// Highest position that was settled.
    pub settled: u64,
    /// Appends to the store that were acknowledged.
    pub appends: u64,
    /// What was to be appended directly: stream and text of the event.
    pub tried: Vec<(String, String)>,
    /// What of it was acknowledged.
    pub done: Vec<(String, String)>,
    /// Most memory that a child had, KiB.
    pub peak_kib: u64,
    /// Children that came to the end of their work.
    pub ended: u64,
    /// Whatever they complained of.
    pub failures: Vec<String>,
}

impl Said {
    fn hear(&mut self, line: &str) {
        let words: Vec<_> = line.splitn(3, ' ').collect();
        match words[..] {
            ["at", position] => {
                self.acknowledged = self.acknowledged.max(position.parse().unwrap());
                self.appends += 1;
            }
            ["settled", position] => self.settled = self.settled.max(position.parse().unwrap()),
            ["try", stream, text] => self.tried.push((stream.to_owned(), text.to_owned())),
            ["done", stream, text] => self.done.push((stream.to_owned(), text.to_owned())),
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
    let order = Order::parse(&order);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(work(order));
}

async fn work(order: Order) {
    let config = till::config(&order.address, &order.keyspace);
    let log = till::builder(&order.store, config.clone()).open().unwrap();
    let stop = working::told_to_stop();
    let mut tasks = JoinSet::new();
    for writer in 0..order.writers {
        let random = Random(order.seed ^ (writer << 32));
        tasks.spawn(append(
            log.clone(),
            random,
            order.clone(),
            Arc::clone(&stop),
        ));
    }
    for writer in 0..order.direct {
        let stream = format!("{}-{writer}", order.child);
        let stream = StreamId::new("Direct", &stream).unwrap();
        tasks.spawn(append_directly(
            config.clone(),
            stream,
            order.pause,
            Arc::clone(&stop),
        ));
    }
    let tells = tokio::spawn(tell(log.clone()));
    tasks.join_all().await;
    tells.abort();
    till::level(&log).await;
    log.close().await.unwrap();
    say(&format!("peak {}", peak_kib()));
    say("ended");
}

/// Says how far replication is.
async fn tell(log: Tidelog) {
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        say(&format!("settled {}", log.replication().status().settled));
    }
}

/// Appends to random streams of the store, sometimes to several in one batch.
async fn append(log: Tidelog, mut random: Random, order: Order, stop: Arc<AtomicBool>) {
    let size = order.size;
    while !stop.load(Ordering::Relaxed) {
        if log.replication().status().lag_events > order.most_waiting {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        }
        let mut part = |first: u64| {
            let stream = streams::named("Till", (first + random.next() % 8) % STREAMS);
            let events =
                (0..=random.below(4)).map(|_| till::event(format!("{:0size$x}", random.next())));
            AppendBatch::new(stream, ExpectedVersion::Any, events.collect())
        };
        let parts = match part(0) {
            first if first.events.len() > 3 => vec![first, part(16), part(32)],
            first => vec![first],
        };
        let receipts = log.append_streams(parts).await.unwrap();
        let last = receipts.iter().filter_map(|one| one.last_position).max();
        say(&format!("at {}", last.unwrap()));
        tokio::time::sleep(Duration::from_micros(order.pause)).await;
    }
}

/// Appends to one stream at the server, each event until it is known to be there.
async fn append_directly(
    config: tidelog::ScyllaConfig,
    stream: StreamId,
    pause: u64,
    stop: Arc<AtomicBool>,
) {
    let store = loop {
        match ScyllaStore::connect(config.clone()).await {
            Ok(store) => break store,
            Err(_) if stop.load(Ordering::Relaxed) => return,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let text = format!("event {number}");
        say(&format!("try {} {text}", stream.aggregate_id()));
        let events = vec![till::event(text.clone())];
        let batch = AppendBatch::new(stream.clone(), ExpectedVersion::Exact(number), events);
        while let Err(error) = store.append(batch.clone()).await {
            assert_eq!(error.kind(), ErrorKind::Retry, "{error}");
        }
        say(&format!("done {} {text}", stream.aggregate_id()));
        tokio::time::sleep(Duration::from_micros(pause)).await;
    }
    store.close().await.unwrap();
}

/// The store of the children, opened by the parent once they are gone.
pub fn opened(store: &Path) -> Result<Tidelog, Error> {
    Tidelog::open(store)
}
