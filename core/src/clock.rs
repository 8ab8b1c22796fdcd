//! Time, injected: everything that needs "now" takes a [`Clock`].

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use chrono::{DateTime, TimeZone, Utc};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::dyn_store::BoxFuture;
use crate::error::Error;

/// A moment in UTC, in microseconds since 1970-01-01T00:00:00Z.
///
/// This is what envelopes carry and what stands on disk; [`chrono`] types convert into it and back.
///
/// ```
/// use tidelog_core::Timestamp;
/// let noon = Timestamp::from_micros(852_119_999_000_000);
/// assert_eq!(noon.to_string(), "1997-01-01T11:59:59Z");
/// assert_eq!(Timestamp::from(noon.to_datetime()), noon);
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment `micros` microseconds after (or, negative, before) the start of 1970 in UTC.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the start of 1970 in UTC.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// The same moment as a [`chrono::DateTime`]. A moment outside chrono's range (±262,000 years)
    /// becomes the start of 1970.
    pub fn to_datetime(self) -> DateTime<Utc> {
        Utc.timestamp_micros(self.0).single().unwrap_or_default()
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(time: DateTime<Utc>) -> Self {
        Self(time.timestamp_micros())
    }
}

/// Reads RFC 3339, which is how it is displayed.
///
/// ```
/// use tidelog_core::Timestamp;
/// let noon: Timestamp = "1997-01-01T11:59:59Z".parse()?;
/// assert_eq!(noon.as_micros(), 852_119_999_000_000);
/// assert!("noon".parse::<Timestamp>().is_err());
/// # Ok::<(), tidelog_core::Error>(())
/// ```
impl FromStr for Timestamp {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let time = DateTime::parse_from_rfc3339(text);
        let time = time.map_err(|error| Error::invalid("time", text, error.to_string()))?;
        Ok(Self(time.timestamp_micros()))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = chrono::SecondsFormat::AutoSi;
        f.write_str(&self.to_datetime().to_rfc3339_opts(format, true))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where "now" comes from.
///
/// Stores, repositories and contexts hold one, so that tests and simulations can set the time.
pub trait Clock: Send + Sync + 'static {
    /// The present moment. May jump either way: the store keeps recorded times from going back.
    fn now(&self) -> Timestamp;
}

/// Waiting, injected like the clock.
pub trait Sleeper: Send + Sync + 'static {
    /// Ends once `duration` has passed, by this sleeper's own account of time.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// Time that only goes forward, injected like the clock: for waits, and for how long something took;
/// never for what is recorded.
pub trait Ticks: Send + Sync + 'static {
    /// How long since some moment of this source's own. What the machine sleeps does not count.
    fn now(&self) -> Duration;

    /// How long the machine has slept in all, as far as that can be told; never less than before.
    fn slept(&self) -> Duration {
        Duration::ZERO
    }
}

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the one place that asks the machine"
    )]
    fn now(&self) -> Timestamp {
        Timestamp::from(Utc::now())
    }
}

/// A clock that stands still until it is told otherwise, for tests.
///
/// ```
/// use tidelog_core::{Clock, ManualClock, Timestamp};
/// let clock = ManualClock::new(Timestamp::from_micros(5));
/// clock.advance_micros(2);
/// assert_eq!(clock.now(), Timestamp::from_micros(7));
/// ```
#[derive(Debug, Default)]
pub struct ManualClock {
    now: AtomicI64,
    passed: Mutex<Passed>,
}

/// The time that has passed, which no setting of the clock changes, and who waits for it.
#[derive(Debug, Default)]
struct Passed {
    micros: u64,
    next_wait: u64,
    waits: BTreeMap<(u64, u64), Option<Waker>>,
}

impl ManualClock {
    /// A clock that shows `start`.
    pub fn new(start: Timestamp) -> Self {
        Self {
            now: AtomicI64::new(start.as_micros()),
            passed: Mutex::default(),
        }
    }

    /// Moves the clock to `time`, which may be earlier. No time passes by that: whoever waits by a
    /// [`ManualSleeper`] goes on waiting.
    pub fn set(&self, time: Timestamp) {
        self.now.store(time.as_micros(), Ordering::SeqCst);
    }

    /// Lets `micros` microseconds pass. Negative, it moves the clock back, and no time passes.
    pub fn advance_micros(&self, micros: i64) {
        self.now.fetch_add(micros, Ordering::SeqCst);
        let due: Vec<Waker> = {
            let mut passed = self.passed.lock();
            passed.micros += u64::try_from(micros).unwrap_or(0);
            let now = passed.micros;
            let due = passed.waits.range_mut(..=(now, u64::MAX));
            due.filter_map(|(_, waker)| waker.take()).collect()
        };
        due.into_iter().for_each(Waker::wake);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.now.load(Ordering::SeqCst))
    }
}

impl Ticks for ManualClock {
    fn now(&self) -> Duration {
        Duration::from_micros(self.passed.lock().micros)
    }
}

/// Waits as its [`ManualClock`] is advanced, for tests.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use tidelog_core::{ManualClock, ManualSleeper, Sleeper};
///
/// let clock = Arc::new(ManualClock::default());
/// let sleeper = ManualSleeper::new(Arc::clone(&clock));
/// let nap = sleeper.sleep(Duration::from_secs(5));
/// assert_eq!(sleeper.next_wake(), Some(Duration::from_secs(5)));
/// clock.advance_micros(5_000_000);
/// pollster::block_on(nap); // ends at once
/// assert_eq!(sleeper.next_wake(), None);
/// ```
#[derive(Clone, Debug)]
pub struct ManualSleeper(Arc<ManualClock>);

impl ManualSleeper {
    /// Waits by `clock`.
    pub fn new(clock: Arc<ManualClock>) -> Self {
        Self(clock)
    }

    /// How far the clock has to be advanced for the next one that sleeps to wake; `None` when nobody
    /// sleeps.
    pub fn next_wake(&self) -> Option<Duration> {
        let passed = self.0.passed.lock();
        let (until, _) = passed.waits.keys().next()?;
        Some(Duration::from_micros(until.saturating_sub(passed.micros)))
    }
}

impl Sleeper for ManualSleeper {
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        // Never shorter than what is asked for: whoever waits until a moment would wait again and again.
        let micros = u64::try_from(duration.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX);
        let mut passed = self.0.passed.lock();
        let key = (passed.micros.saturating_add(micros), passed.next_wait);
        passed.next_wait += 1;
        passed.waits.insert(key, None);
        Box::pin(Wait {
            clock: Arc::clone(&self.0),
            key,
        })
    }
}

struct Wait {
    clock: Arc<ManualClock>,
    key: (u64, u64),
}

impl Future for Wait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut passed = self.clock.passed.lock();
        if passed.micros >= self.key.0 {
            return Poll::Ready(());
        }
        passed.waits.insert(self.key, Some(cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.clock.passed.lock().waits.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_over(wait: &mut BoxFuture<'static, ()>) -> bool {
        let cx = &mut Context::from_waker(Waker::noop());
        wait.as_mut().poll(cx).is_ready()
    }

    #[test]
    fn a_wait_ends_when_its_time_has_passed_and_not_when_the_clock_is_set() {
        let clock = Arc::new(ManualClock::default());
        let sleeper = ManualSleeper::new(Arc::clone(&clock));
        let mut wait = sleeper.sleep(Duration::from_millis(5));
        assert!(!is_over(&mut wait));
        clock.set(Timestamp::from_micros(1 << 50));
        clock.advance_micros(-7);
        assert!(!is_over(&mut wait));
        clock.advance_micros(4_999);
        assert!(!is_over(&mut wait));
        assert_eq!(sleeper.next_wake(), Some(Duration::from_micros(1)));
        clock.advance_micros(1);
        assert!(is_over(&mut wait));
    }

    #[test]
    fn a_wait_that_is_dropped_is_forgotten() {
        let sleeper = ManualSleeper::new(Arc::default());
        let (long, short) = (
            sleeper.sleep(Duration::from_secs(9)),
            sleeper.sleep(Duration::from_secs(1)),
        );
        assert_eq!(sleeper.next_wake(), Some(Duration::from_secs(1)));
        drop(short);
        assert_eq!(sleeper.next_wake(), Some(Duration::from_secs(9)));
        drop(long);
        assert_eq!(sleeper.next_wake(), None);
    }
}
