//! Time, injected: everything that needs "now" takes a [`Clock`].

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeZone, Utc};
use serde::{Deserialize, Serialize};

use crate::dyn_store::BoxFuture;

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
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows `start`.
    pub fn new(start: Timestamp) -> Self {
        Self(AtomicI64::new(start.as_micros()))
    }

    /// Moves the clock to `time`, which may be earlier.
    pub fn set(&self, time: Timestamp) {
        self.0.store(time.as_micros(), Ordering::SeqCst);
    }

    /// Moves the clock by `micros` microseconds, backwards when negative.
    pub fn advance_micros(&self, micros: i64) {
        self.0.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}
