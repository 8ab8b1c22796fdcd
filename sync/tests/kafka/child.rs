//! A process that appends to a store that publishes, until it is told to stop or killed.
//!
//! It says what was acknowledged, a line each.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use tidelog::BlockingTidelog;

use crate::stores::{self, Shop};
use crate::sweep::Random;

/// Set for a child: what [`Order::line`] made.
const ORDER: &str = "TIDELOG_TEST_KAFKA_CHILD";
/// Stands before everything that a child says: the harness writes to the same output.
const MARK: &str = "~ ";
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

/// A child at work.
#[derive(Debug)]
pub struct Working {
    process: Child,
    input: Option<ChildStdin>,
    reader: Option<JoinHandle<()>>,
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
}

impl Working {
    /// Starts it. What it says is noted in `said`.
    pub fn start(order: &Order, said: &Arc<Mutex<Said>>) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_appends_until_it_is_killed", "--nocapture"])
            .env(ORDER, order.line())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take();
        let out = process.stdout.take().unwrap();
        let said = Arc::clone(said);
        let reader = thread::spawn(move || {
            for line in BufReader::new(out).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                if let Some((_, line)) = line.split_once(MARK) {
                    said.lock().hear(line);
                }
            }
        });
        Self {
            process,
            input,
            reader: Some(reader),
        }
    }

    /// Kills it by SIGKILL.
    pub fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
    }

    /// Lets it come to rest: all writers end, all is published, the store is closed.
    pub fn rest(mut self) {
        drop(self.input.take());
        let status = self.process.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        assert!(status.success(), "the child failed: {status}");
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        // When a test fails its child shall not go on.
        let _ = self.process.kill();
        let _ = self.process.wait();
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
    let Ok(order) = std::env::var(ORDER) else {
        return;
    };
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        say(&format!("failed: {}", info.to_string().replace('\n', " ")));
        report(info);
        std::process::exit(101);
    }));
    work(&Order::parse(&order));
}

fn work(order: &Order) {
    let log = order.shop.open(&order.store);
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    thread::spawn(move || {
        // Ends with the parent's end of it, too.
        let _ = std::io::stdin().lines().count();
        told.store(true, Ordering::Relaxed);
    });
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

/// Most memory that this process ever had.
pub fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Says one line, with one call.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(format!("{MARK}{line}\n").as_bytes());
    let _ = out.flush();
}
