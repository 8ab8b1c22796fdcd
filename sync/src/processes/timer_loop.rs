//! Firing timers when they are due.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::select;
use tidelog_core::{
    Clock, CommandBus, Error, EventLog, HandlerError, IdSource, ProcessManager, RetryPolicy,
    RowStore, Sleeper, StepOrigin, Steps, StreamId, Timer, Timers, Timestamp,
};

use crate::projections::ReadModel;

use super::process_listener::{ProcessListener, TimersChanged};

/// The longest wait. Clocks that measure waiting stand still while a machine sleeps, so what is due
/// after it woke is found within this.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Timers looked at beyond those that fired already, at least.
const PAGE: usize = 64;

/// Finds pending timers: the read model of [`Timers`](tidelog_core::Timers).
pub trait DueTimers: Send + Sync + 'static {
    /// Returns once everything up to `position` is in it.
    ///
    /// # Errors
    /// As [`ReadModel::wait_for`]; [`Error::Closed`] ends the loop.
    fn level(&self, position: u64) -> impl Future<Output = Result<(), Error>> + Send;

    /// The timers that are due first, at most `limit`, in the order of their moments.
    ///
    /// # Errors
    /// As [`ReadModel::find_range`]; [`Error::Closed`] ends the loop.
    fn earliest(&self, limit: usize) -> impl Future<Output = Result<Vec<DueTimer>, Error>> + Send;
}

impl<M, S> DueTimers for ReadModel<Timers<M>, S>
where
    M: ProcessManager,
    S: EventLog + RowStore,
{
    async fn level(&self, position: u64) -> Result<(), Error> {
        match self.wait_for(position).await {
            // Others' timers do not wait for the one that cannot be told.
            Err(Error::Parked { .. }) => Ok(()),
            level => level,
        }
    }

    async fn earliest(&self, limit: usize) -> Result<Vec<DueTimer>, Error> {
        let found = self.find_range::<Timestamp>("due", .., limit).await?;
        let timers = found.into_iter().map(|(_, stream, timer)| (stream, timer));
        Ok(timers.collect())
    }
}

/// A timer of a stream.
pub type DueTimer = (StreamId, Timer);

/// Fires the timers of one manager, one after the other, each once.
pub struct TimerLoop<M, B, T> {
    manager: Arc<M>,
    bus: B,
    timers: T,
    changed: Arc<TimersChanged>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    sleeper: Arc<dyn Sleeper>,
    /// Those that fired and still stand: as many as the manager leaves standing.
    fired: BTreeMap<(Timestamp, StreamId), Fired>,
}

/// What became of a timer that was due and still stands.
enum Fired {
    Done,
    /// It is tried again at this moment; or when the clock was set back before it failed.
    Again {
        attempts: u32,
        failed: Timestamp,
        not_before: Timestamp,
    },
}

impl<M: ProcessManager, B: CommandBus, T: DueTimers> TimerLoop<M, B, T> {
    /// Fires the timers of `listener`'s manager.
    pub fn new(listener: &ProcessListener<M, B>, timers: T, sleeper: Arc<dyn Sleeper>) -> Self {
        let (manager, bus, clock, ids) = listener.parts();
        Self {
            manager,
            bus,
            timers,
            changed: listener.timers_changed(),
            clock,
            ids,
            sleeper,
            fired: BTreeMap::new(),
        }
    }

    /// Fires what is due, first everything up to `position`, until the store is closed. Dropping it
    /// stops it; what was under way is found again.
    pub async fn run(mut self, mut position: u64) {
        let timers = Arc::clone(&self.changed);
        loop {
            let changed = timers.listen();
            position = position.max(timers.position());
            let wait = match self.fire_due(position).await {
                Ok(wait) => wait,
                Err(Error::Closed) => return,
                Err(error) => {
                    tracing::error!(
                        manager = M::NAME,
                        %error,
                        "timers cannot be read; what is due is looked for again"
                    );
                    LONGEST_WAIT
                }
            };
            let sleep = self.sleeper.sleep(wait);
            select(sleep, changed).await;
        }
    }

    /// Fires all that is due: how long to wait for the next.
    async fn fire_due(&mut self, position: u64) -> Result<Duration, Error> {
        self.timers.level(position).await?;
        // As many again as are remembered: those that still stand are read over a few times at most.
        let limit = self.fired.len() + PAGE.max(self.fired.len());
        let timers = self.timers.earliest(limit).await?;
        let now = self.clock.now();
        let standing: BTreeSet<_> = timers.iter().map(|(of, timer)| (timer.due, of)).collect();
        self.fired
            .retain(|(due, stream), _| standing.contains(&(*due, stream)));
        let mut wait = LONGEST_WAIT;
        let mut fired_all = true;
        for (stream, timer) in &timers {
            if timer.due > now {
                fired_all = false;
                wait = wait.min(between(now, timer.due));
                break;
            }
            let key = (timer.due, stream.clone());
            let attempts = match self.fired.get(&key) {
                Some(Fired::Done) => continue,
                Some(Fired::Again {
                    failed, not_before, ..
                }) if (*failed..*not_before).contains(&now) => {
                    wait = wait.min(between(now, *not_before));
                    continue;
                }
                Some(Fired::Again { attempts, .. }) => *attempts,
                None => 0,
            };
            let fired = match self.fire(stream, timer).await {
                Ok(()) => Fired::Done,
                Err(error) if error.is_closed() => return Err(Error::Closed),
                Err(error) => {
                    tracing::warn!(
                        manager = M::NAME, %stream, due = %timer.due, attempts, %error,
                        "a timer was not fired; it is tried again"
                    );
                    let random = self.ids.next_uuid().as_u64_pair().1 << 2;
                    let delay = RetryPolicy::for_ever().delay(attempts + 1, random);
                    let delay = delay.unwrap_or(LONGEST_WAIT);
                    wait = wait.min(delay);
                    Fired::Again {
                        attempts: attempts + 1,
                        failed: now,
                        not_before: after(now, delay),
                    }
                }
            };
            self.fired.insert(key, fired);
        }
        if fired_all && timers.len() == limit {
            // There may be more that is due.
            return Ok(Duration::ZERO);
        }
        Ok(wait)
    }

    async fn fire(&self, stream: &StreamId, timer: &Timer) -> Result<(), HandlerError> {
        let attempt = async {
            let mut steps = Steps::new();
            self.manager.on_timer(stream, timer.due, &mut steps)?;
            let correlation_id = timer.correlation_id.as_deref();
            let origin =
                StepOrigin::timer(M::NAME, stream, timer.due, timer.set_by, correlation_id);
            steps
                .run(&self.bus, &origin, &*self.clock, &*self.ids)
                .await
        };
        let attempt = pin!(AssertUnwindSafe(attempt).catch_unwind());
        let panicked = |_| Err(HandlerError::permanent("the manager panicked"));
        attempt.await.unwrap_or_else(panicked)
    }
}

impl<M: ProcessManager, B, T> fmt::Debug for TimerLoop<M, B, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimerLoop")
            .field("manager", &M::NAME)
            .field("fired", &self.fired.len())
            .finish_non_exhaustive()
    }
}

fn between(now: Timestamp, then: Timestamp) -> Duration {
    let micros = then.as_micros().saturating_sub(now.as_micros());
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

fn after(now: Timestamp, delay: Duration) -> Timestamp {
    let micros = i64::try_from(delay.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(now.as_micros().saturating_add(micros))
}
