//! T1: from an append to its delivery at a live subscriber, which is a task or a thread.
//!
//! Idle, an append, a pause, a bare sync and a pause follow one another. Under load, appends are made
//! by the clock, whether those before are acknowledged or not, at half the rate of W2; in turn with
//! it, a thread writes and syncs what the same clock has made due, all at once as a group commit
//! does. Of that only the write and sync count, not the waiting for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidelog::{
    AppendBatch, ContentType, EventEnvelope, ExpectedVersion, NewEvent, StreamId, Subscribe,
    Tidelog,
};
use tokio::runtime::Runtime;

use super::t1_bare::Bare;
use super::{Figures, figures};
use crate::Outcome;
use crate::load::Payloads;
use crate::options::Options;

/// After each idle append and each idle sync.
const PAUSE: Duration = Duration::from_millis(1);
/// How long the maker of load sleeps; what became due meanwhile is made at once.
const NAP: Duration = Duration::from_micros(100);
/// Store and bare sync take turns this many times under load.
const TURNS: u32 = 4;
/// A delivery that takes so long is lost.
const LOST: Duration = Duration::from_secs(30);
/// As many as W2 has.
const STREAMS: u64 = 1024;

/// How the subscriber waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// A task.
    Async,
    /// A thread.
    Blocking,
}

/// One append at a time.
pub fn idle(options: &Options, face: Face) -> Outcome<Figures> {
    let mut scene = Scene::open(options, face)?;
    let mut bare = Bare::create(&options.dir.join("bare"))?;
    let (mut delivered, mut synced) = (Vec::new(), Vec::new());
    for number in 0..options.t1_appends.unwrap_or_default() {
        let batch = scene.maker.batch(number)?;
        match face {
            Face::Async => scene.runtime.block_on(scene.log.append(batch))?,
            Face::Blocking => scene.log.blocking().append(batch)?,
        };
        delivered.push(scene.delivered.recv_timeout(LOST)?);
        thread::sleep(PAUSE);
        synced.push(bare.sync(1, options.payload)?);
        thread::sleep(PAUSE);
    }
    scene.close()?;
    Ok(summary(delivered, synced))
}

/// Appends by the clock.
pub fn load(options: &Options, face: Face) -> Outcome<Figures> {
    let mut scene = Scene::open(options, face)?;
    let mut bare = Bare::create(&options.dir.join("bare"))?;
    let turn = Duration::from_millis(options.t1_millis.unwrap_or_default()) / TURNS;
    let (mut delivered, mut synced) = (Vec::new(), Vec::new());
    let mut made = 0;
    for _ in 0..TURNS {
        let failed = Arc::new(AtomicU64::new(0));
        let before = made;
        by_the_clock(options.rate, turn, |due| {
            for _ in 0..due {
                let (log, batch) = (scene.log.clone(), scene.maker.batch(made)?);
                let failed = Arc::clone(&failed);
                scene.runtime.spawn(async move {
                    if log.append(batch).await.is_err() {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                });
                made += 1;
            }
            Ok(())
        })?;
        for _ in before..made {
            delivered.push(scene.delivered.recv_timeout(LOST)?);
        }
        if failed.load(Ordering::Relaxed) > 0 {
            return Err("an append failed".into());
        }
        by_the_clock(options.rate, turn, |due| {
            synced.push(bare.sync(usize::try_from(due)?, options.payload)?);
            Ok(())
        })?;
    }
    scene.close()?;
    Ok(summary(delivered, synced))
}

/// Calls `make` with how many have become due since the last call, at `rate` a second.
fn by_the_clock(
    rate: f64,
    until: Duration,
    mut make: impl FnMut(u64) -> Outcome<()>,
) -> Outcome<()> {
    let start = Instant::now();
    let mut made = 0;
    while start.elapsed() < until {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count"
        )]
        let due = (start.elapsed().as_secs_f64() * rate) as u64;
        if due > made {
            make(due - made)?;
            made = due;
        }
        thread::sleep(NAP);
    }
    Ok(())
}

/// Makes events that say in their first bytes when they were made.
struct Maker {
    start: Instant,
    payloads: Payloads,
    streams: Vec<StreamId>,
}

impl Maker {
    fn batch(&self, number: u64) -> Outcome<AppendBatch> {
        let at = usize::try_from(number % STREAMS)?;
        let mut payload = self.payloads.get(number).to_vec();
        let nanos = u64::try_from(self.start.elapsed().as_nanos())?;
        payload[..8].copy_from_slice(&nanos.to_le_bytes());
        let event = NewEvent::new("Deposited", 1, ContentType::Bytes, Bytes::from(payload));
        let stream = self.streams[at].clone();
        Ok(AppendBatch::new(stream, ExpectedVersion::Any, vec![event]))
    }
}

/// Microseconds since `envelope` was made; `None` for the store's own records.
fn age(start: Instant, envelope: &EventEnvelope) -> Option<f64> {
    let now = start.elapsed();
    let made = envelope.event.first_chunk()?;
    (envelope.sequence > 0).then(|| {
        now.saturating_sub(Duration::from_nanos(u64::from_le_bytes(*made)))
            .as_secs_f64()
            * 1e6
    })
}

/// A fresh store with a subscriber.
struct Scene {
    log: Tidelog,
    runtime: Runtime,
    maker: Maker,
    /// Microseconds from making to delivery, of each event.
    delivered: mpsc::Receiver<f64>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Scene {
    fn open(options: &Options, face: Face) -> Outcome<Self> {
        let tuning = options.tuning().unwrap_or_default();
        let log = tuning.builder(&options.dir).open()?;
        let runtime = Runtime::new()?;
        let streams = (0..STREAMS).map(|at| StreamId::new("BankAccount", &format!("acc-{at:06}")));
        let maker = Maker {
            start: Instant::now(),
            payloads: Payloads::new(options.seed, options.payload),
            streams: streams.collect::<Result<_, _>>()?,
        };
        let start = maker.start;
        let (sender, delivered) = mpsc::channel();
        let after = log.last_position();
        let what = Subscribe::All { after };
        let mut thread = None;
        match face {
            Face::Async => {
                let mut news = log.subscribe(what);
                runtime.spawn(async move {
                    while let Some(Ok(envelope)) = news.next().await {
                        age(start, &envelope).map(|age| sender.send(age));
                    }
                });
            }
            Face::Blocking => {
                let news = log.blocking().subscribe(what);
                thread = Some(thread::spawn(move || {
                    for envelope in news.map_while(Result::ok) {
                        age(start, &envelope).map(|age| sender.send(age));
                    }
                }));
            }
        }
        Ok(Self {
            log,
            runtime,
            maker,
            delivered,
            thread,
        })
    }

    fn close(&mut self) -> Outcome<()> {
        self.runtime.block_on(self.log.close())?;
        if let Some(thread) = self.thread.take() {
            thread
                .join()
                .map_err(|_| "the subscriber's thread panicked")?;
        }
        Ok(())
    }
}

/// The parts in a thousand that the percentiles stand for.
const PARTS: [(&str, usize); 3] = [("p50", 500), ("p99", 990), ("p99.9", 999)];

fn summary(mut delivered: Vec<f64>, mut synced: Vec<f64>) -> Figures {
    let mut found = figures([("samples", delivered.len() as f64)]);
    for (name, values) in [("delivered", &mut delivered), ("synced", &mut synced)] {
        values.sort_by(f64::total_cmp);
        for (part, of_thousand) in PARTS {
            found.insert(format!("{name} {part}"), percentile(values, of_thousand));
        }
    }
    found
}

/// The smallest of `sorted` that at least so many in a thousand do not exceed.
fn percentile(sorted: &[f64], of_thousand: usize) -> f64 {
    let rank = (sorted.len() * of_thousand).div_ceil(1000);
    let at = rank.saturating_sub(1);
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "nothing is computed with them")]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_smallest_that_so_many_do_not_exceed() {
        let sorted: Vec<_> = (1..=1000).map(f64::from).collect();
        assert_eq!(
            PARTS.map(|(_, part)| percentile(&sorted, part)),
            [500.0, 990.0, 999.0]
        );
        assert_eq!(percentile(&sorted[..3], 500), 2.0);
        assert_eq!(percentile(&sorted[..3], 999), 3.0);
        assert!(percentile(&[], 500).is_nan());
    }
}
