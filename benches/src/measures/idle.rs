//! A store that nobody uses: what its process writes, and how often its threads wake.

use std::fs;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use tidelog::{AppendBatch, ContentType, ExpectedVersion, NewEvent, StreamId, Subscribe};

use super::{Figures, figures};
use crate::Outcome;
use crate::load::Payloads;
use crate::options::Options;

/// Until the threads have gone to sleep after their last work.
const SETTLES: Duration = Duration::from_secs(5);
/// Appends before, so that each kind of thread has had work.
const APPENDS: u64 = 100;
/// The thread that follows; not one of the store's.
const FOLLOWER: &str = "follower";

/// Watches it for as long as the options say, while a subscription waits.
pub fn run(options: &Options) -> Outcome<Figures> {
    let tuning = options.tuning().unwrap_or_default();
    let log = tuning.builder(&options.dir).open()?.blocking();
    let payloads = Payloads::new(options.seed, options.payload);
    let stream = StreamId::new("Idle", "before")?;
    for number in 0..APPENDS {
        let payload = Bytes::copy_from_slice(payloads.get(number));
        let event = NewEvent::new("Deposited", 1, ContentType::Bytes, payload);
        let batch = AppendBatch::new(stream.clone(), ExpectedVersion::Any, vec![event]);
        log.append(batch)?;
    }
    let after = log.last_position();
    let mut news = log.subscribe(Subscribe::All { after });
    let follower = thread::Builder::new()
        .name(FOLLOWER.into())
        .spawn(move || news.next().is_none_or(|item| item.is_err()))?;
    log.inner().store().drain()?;
    thread::sleep(SETTLES);
    let before = Seen::now()?;
    thread::sleep(Duration::from_secs(
        options.idle_seconds.unwrap_or_default(),
    ));
    let after = Seen::now()?;
    log.close()?;
    if !follower.join().map_err(|_| "the follower panicked")? {
        return Err("an idle store delivered something".into());
    }
    Ok(figures([
        ("written", after.written - before.written),
        ("own", after.own - before.own),
        ("sled", after.of_sled - before.of_sled),
    ]))
}

/// What has happened so far.
struct Seen {
    /// Bytes handed to write calls or sent to storage, of the whole process.
    written: f64,
    /// Times that the store's own threads gave the processor up, or had it taken away.
    own: f64,
    /// The same of sled's threads.
    of_sled: f64,
}

impl Seen {
    fn now() -> Outcome<Self> {
        let me = std::process::id().to_string();
        let (mut own, mut of_sled) = (0.0, 0.0);
        for thread in fs::read_dir("/proc/self/task")? {
            let path = thread?.path();
            // The thread that asks.
            if path.ends_with(&me) {
                continue;
            }
            // A thread may end meanwhile.
            let status = fs::read_to_string(path.join("status")).unwrap_or_default();
            let name = field(&status, "Name:").unwrap_or_default();
            let switches = ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"];
            let switched: f64 = switches
                .iter()
                .filter_map(|name| number(&status, name))
                .sum();
            if name.starts_with("tidelog-") {
                own += switched;
            } else if name != FOLLOWER {
                of_sled += switched;
            }
        }
        let io = fs::read_to_string("/proc/self/io")?;
        let counts = ["wchar:", "write_bytes:"];
        let written = counts.iter().filter_map(|name| number(&io, name)).sum();
        Ok(Self {
            written,
            own,
            of_sled,
        })
    }
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.map(str::trim)
}

fn number(text: &str, name: &str) -> Option<f64> {
    field(text, name)?.parse().ok()
}
