//! Where the status of a sink stands, and the news of it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidelog_core::{Error, Halt, StreamId};
use uuid::Uuid;

use crate::signal::{Listener, Signal};

/// What a sink is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Waiting { failures: u32, next_in: Duration },
    Connecting,
    Rewinding,
    CatchingUp,
    Live,
    Halted(Halt),
    Closed,
}

impl Phase {
    fn at_work(&self) -> Result<(), Error> {
        match self {
            Self::Halted(halt) => Err(Error::Halted(Box::new(halt.clone()))),
            Self::Closed => Err(Error::Closed),
            _ => Ok(()),
        }
    }
}

/// What is told of every sink.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    pub phase: Phase,
    /// The newest position of the log.
    pub committed: u64,
    /// The newest position that survives a power cut.
    pub durable: u64,
    /// The newest position that may be sent.
    pub available: u64,
    /// Everything up to here is settled.
    pub settled: u64,
    /// Records that are durable and not settled.
    pub lag_events: u64,
    /// How long the oldest of them has been seen to wait.
    pub lag: Duration,
    /// Connections that ended in trouble.
    pub retries: u64,
    /// Streams that are parked.
    pub parked: usize,
    /// Bytes that are read and not settled.
    pub in_flight_bytes: usize,
    /// The last trouble; it may be over.
    pub last_error: Option<Error>,
    pub session: Uuid,
    pub epoch: Uuid,
    /// The epoch of which `settled` speaks; nil before anything was loaded.
    pub settled_epoch: Uuid,
}

impl Common {
    pub(crate) fn new(epoch: Uuid) -> Self {
        Self {
            phase: Phase::Connecting,
            committed: 0,
            durable: 0,
            available: 0,
            settled: 0,
            lag_events: 0,
            lag: Duration::ZERO,
            retries: 0,
            parked: 0,
            in_flight_bytes: 0,
            last_error: None,
            session: Uuid::nil(),
            epoch,
            settled_epoch: Uuid::nil(),
        }
    }
}

/// What a sink has done since it was made.
pub(crate) trait Totals: Clone + Default + PartialEq + Send {
    /// Its metrics, by name; they only grow.
    fn totals(&self) -> Vec<(&'static str, u64)>;
}

/// A stream that a sink has set aside, as users are shown it.
pub(crate) trait Listed: Send + Sync {
    /// Whether events are held by it.
    fn holds(&self) -> bool;
    fn stream(&self) -> &StreamId;
    fn first_position(&self) -> u64;
    fn reason(&self) -> String;
}

/// What users are told of one kind of sink.
pub(crate) trait SinkStatus: Sized + Send + 'static {
    /// What it does, in errors and logs: `replication`.
    const WHAT: &'static str;

    type Counts: Totals;
    type Parked: Listed;

    fn of(common: &Common, counts: &Self::Counts) -> Self;
}

/// Where the status of a sink stands, and the news of it.
pub(crate) struct SinkCell<S: SinkStatus> {
    told: Mutex<Told<S>>,
    news: Signal,
}

struct Told<S: SinkStatus> {
    common: Common,
    counts: S::Counts,
    parked: Arc<[S::Parked]>,
    /// The lowest position that is held.
    first_held: Option<u64>,
    /// When the oldest record that is not settled was seen first.
    waits_since: Option<Duration>,
    /// The first try to connect has ended.
    has_begun: bool,
}

impl<S: SinkStatus> SinkCell<S> {
    pub(crate) fn new(epoch: Uuid) -> Self {
        Self {
            told: Mutex::new(Told {
                common: Common::new(epoch),
                counts: S::Counts::default(),
                parked: Arc::new([]),
                first_held: None,
                waits_since: None,
                has_begun: false,
            }),
            news: Signal::default(),
        }
    }

    /// Changes it; `is_news` when somebody may wait for that.
    pub(crate) fn change(&self, is_news: bool, change: impl FnOnce(&mut Common)) {
        change(&mut self.told.lock().common);
        if is_news {
            self.news.notify();
        }
    }

    /// What has been done so far.
    pub(crate) fn set_counts(&self, counts: S::Counts) {
        self.told.lock().counts = counts;
    }

    /// What is parked now.
    pub(crate) fn set_parked(&self, parked: Arc<[S::Parked]>) {
        let mut told = self.told.lock();
        let held = parked.iter().filter(|parked| parked.holds());
        told.first_held = held.map(Listed::first_position).min();
        told.common.parked = parked.len();
        told.parked = parked;
        drop(told);
        self.news.notify();
    }

    /// Since when something waits, by the monotonic clock.
    pub(crate) fn waits_since(&self, since: Option<Duration>) {
        self.told.lock().waits_since = since;
    }

    /// The first try to connect has ended, however it did.
    pub(crate) fn begun(&self) {
        let before = std::mem::replace(&mut self.told.lock().has_begun, true);
        if !before {
            self.news.notify();
        }
    }

    /// Returns once the first try to connect has ended.
    pub(crate) async fn has_begun(&self) {
        loop {
            let news = self.listen();
            if self.told.lock().has_begun {
                return;
            }
            news.await;
        }
    }

    /// What is measured of it: how many records wait, how many streams are parked, and where the log
    /// ends.
    pub(crate) fn figures(&self) -> (u64, usize, u64) {
        let told = self.told.lock();
        let common = &told.common;
        (common.lag_events, common.parked, common.committed)
    }

    pub(crate) fn status(&self) -> S {
        let told = self.told.lock();
        S::of(&told.common, &told.counts)
    }

    /// The same as of now, of a log that reaches so far: while it waits or stands still nobody else
    /// says so.
    pub(crate) fn status_at(&self, now: Duration, (committed, durable): (u64, u64)) -> S {
        let mut told = self.told.lock();
        let lag_events = durable.saturating_sub(told.common.settled);
        let lag = if lag_events == 0 {
            Duration::ZERO
        } else {
            now.saturating_sub(*told.waits_since.get_or_insert(now))
        };
        let common = Common {
            committed,
            durable,
            lag_events,
            lag,
            ..told.common.clone()
        };
        S::of(&common, &told.counts)
    }

    pub(crate) fn parked(&self) -> Arc<[S::Parked]> {
        Arc::clone(&self.told.lock().parked)
    }

    /// What of `epoch` may be taken for settled: both of one moment. `None` before that is known.
    #[cfg(feature = "kafka")]
    pub(crate) fn gate(&self, epoch: Uuid) -> Option<(u64, Arc<[S::Parked]>)> {
        let told = self.told.lock();
        let common = &told.common;
        let is_known = common.settled_epoch == epoch;
        is_known.then(|| (common.settled, Arc::clone(&told.parked)))
    }

    pub(crate) fn listen(&self) -> Listener<'_> {
        self.news.listen()
    }

    /// Returns once everything up to `position` is settled, and nothing of it set aside.
    pub(crate) async fn wait_for(&self, position: u64) -> Result<(), Error> {
        loop {
            let news = self.listen();
            if let Some(answer) = self.answer(position) {
                return answer;
            }
            news.await;
        }
    }

    /// Returns once the sink stands still, and not everything up to `position` is settled.
    #[cfg(all(feature = "scylla", feature = "kafka"))]
    pub(crate) async fn halted_below(&self, position: u64) -> Halt {
        loop {
            let news = self.listen();
            {
                let told = self.told.lock();
                if let (Phase::Halted(halt), true) =
                    (&told.common.phase, told.common.settled < position)
                {
                    return halt.clone();
                }
            }
            news.await;
        }
    }

    /// Whether the event at `position` of `stream` is settled, and not set aside.
    pub(crate) fn has(&self, stream: &StreamId, position: u64) -> Result<bool, Error> {
        let told = self.told.lock();
        let mut held = told.parked.iter().filter(|parked| parked.holds());
        let by = held.find(|held| held.stream() == stream && held.first_position() <= position);
        match by {
            Some(parked) => Err(Told::<S>::is_parked(parked)),
            None => Ok(told.common.settled >= position),
        }
    }

    fn answer(&self, position: u64) -> Option<Result<(), Error>> {
        let told = self.told.lock();
        if told.common.settled >= position {
            if told.first_held.is_none_or(|held| held > position) {
                return Some(Ok(()));
            }
            let held = told.parked.iter().filter(|parked| parked.holds());
            let first = held.min_by_key(|parked| parked.first_position())?;
            return Some(Err(Told::<S>::is_parked(first)));
        }
        told.common.phase.at_work().err().map(Err)
    }

    /// An error where nothing comes any more, or not before a person decides.
    #[cfg(feature = "kafka")]
    pub(crate) fn at_work(&self) -> Result<(), Error> {
        self.told.lock().common.phase.at_work()
    }
}

impl<S: SinkStatus> Told<S> {
    fn is_parked(parked: &S::Parked) -> Error {
        Error::Parked {
            what: S::WHAT.into(),
            stream: parked.stream().clone(),
            position: parked.first_position(),
            reason: parked.reason().into(),
        }
    }
}
