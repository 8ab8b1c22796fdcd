//! What users are told about replication.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidelog_core::{Error, Halt};
use uuid::Uuid;

use super::parked::ReplicationParked;
use crate::signal::{Listener, Signal};

/// What replication is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplicationState {
    /// The store was opened without it.
    Off,
    /// It waits before it tries the server again.
    Waiting {
        /// How often it has failed in a row.
        failures: u32,
        /// How long it waits.
        next_in: Duration,
    },
    /// It connects, and finds out what the server knows of this store.
    Connecting,
    /// The server lost what it had: everything is sent again.
    Rewinding,
    /// It sends what waits.
    CatchingUp,
    /// Everything that is durable is settled, or on its way.
    Live,
    /// It stands still until a person decides.
    Halted(Halt),
    /// The store is closed.
    Closed,
}

/// How far replication is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReplicationStatus {
    /// What it is doing.
    pub state: ReplicationState,
    /// The newest position of the log.
    pub committed: u64,
    /// The newest position that survives a power cut; what is above is not sent.
    pub durable: u64,
    /// Everything up to here is at the server, or parked.
    pub settled: u64,
    /// How far the server knows that.
    pub watermark: u64,
    /// Records that are durable and not settled.
    pub lag_events: u64,
    /// How long the oldest of them has been seen to wait, by the monotonic clock; also while there is no
    /// connection.
    pub lag: Duration,
    /// Events that the server accepted since the store was opened.
    pub accepted: u64,
    /// Events that stood there already.
    pub already: u64,
    /// Events that the server had lost and has again.
    pub remote_lost: u64,
    /// Of those, events that were missing in the middle of a stream.
    pub refilled: u64,
    /// Connections that ended in trouble.
    pub retries: u64,
    /// Streams that are parked.
    pub parked: usize,
    /// Bytes that are read and not settled.
    pub in_flight_bytes: usize,
    /// The last trouble; it may be over.
    pub last_error: Option<Error>,
    /// The id under which this run of the store writes at the server; nil before it has one.
    pub session: Uuid,
    /// The epoch that the log is in.
    pub epoch: Uuid,
}

impl ReplicationStatus {
    fn new(state: ReplicationState, epoch: Uuid) -> Self {
        Self {
            state,
            committed: 0,
            durable: 0,
            settled: 0,
            watermark: 0,
            lag_events: 0,
            lag: Duration::ZERO,
            accepted: 0,
            already: 0,
            remote_lost: 0,
            refilled: 0,
            retries: 0,
            parked: 0,
            in_flight_bytes: 0,
            last_error: None,
            session: Uuid::nil(),
            epoch,
        }
    }

    /// Of a store that is not distributed.
    pub(crate) fn off() -> Self {
        Self::new(ReplicationState::Off, Uuid::nil())
    }
}

/// What a sink has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub accepted: u64,
    pub already: u64,
    pub remote_lost: u64,
    pub refilled: u64,
    /// How far the server knows it.
    pub watermark: u64,
}

impl Counts {
    pub(crate) fn write(self, status: &mut ReplicationStatus) {
        status.accepted = self.accepted;
        status.already = self.already;
        status.remote_lost = self.remote_lost;
        status.refilled = self.refilled;
        status.watermark = self.watermark;
    }
}

/// Where the status stands, and the news of it.
pub(crate) struct StatusCell {
    told: Mutex<Told>,
    news: Signal,
}

struct Told {
    status: ReplicationStatus,
    parked: Arc<[ReplicationParked]>,
    /// The lowest position that is held.
    first_held: Option<u64>,
    /// When the oldest record that is not settled was seen first.
    waits_since: Option<Duration>,
    /// The first try to connect has ended.
    has_begun: bool,
}

impl StatusCell {
    pub(crate) fn new(epoch: Uuid) -> Self {
        let status = ReplicationStatus::new(ReplicationState::Connecting, epoch);
        Self {
            told: Mutex::new(Told {
                status,
                parked: Arc::default(),
                first_held: None,
                waits_since: None,
                has_begun: false,
            }),
            news: Signal::default(),
        }
    }

    /// Changes it; `is_news` when somebody may wait for that.
    pub(crate) fn change(&self, is_news: bool, change: impl FnOnce(&mut ReplicationStatus)) {
        change(&mut self.told.lock().status);
        if is_news {
            self.news.notify();
        }
    }

    /// What is parked now.
    pub(crate) fn set_parked(&self, parked: Arc<[ReplicationParked]>) {
        let mut told = self.told.lock();
        let held = parked.iter().filter(|parked| !parked.accepted);
        told.first_held = held.map(|parked| parked.first_position).min();
        told.status.parked = parked.len();
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

    pub(crate) fn status(&self) -> ReplicationStatus {
        self.told.lock().status.clone()
    }

    /// The same as of now, of a log that reaches so far: while it waits or stands still nobody else
    /// says so.
    pub(crate) fn status_at(
        &self,
        now: Duration,
        (committed, durable): (u64, u64),
    ) -> ReplicationStatus {
        let mut told = self.told.lock();
        let lag_events = durable.saturating_sub(told.status.settled);
        let lag = if lag_events == 0 {
            Duration::ZERO
        } else {
            now.saturating_sub(*told.waits_since.get_or_insert(now))
        };
        ReplicationStatus {
            committed,
            durable,
            lag_events,
            lag,
            ..told.status.clone()
        }
    }

    pub(crate) fn parked(&self) -> Arc<[ReplicationParked]> {
        Arc::clone(&self.told.lock().parked)
    }

    pub(crate) fn listen(&self) -> Listener<'_> {
        self.news.listen()
    }

    /// Returns once everything up to `position` is at the server.
    pub(crate) async fn wait_for(&self, position: u64) -> Result<(), Error> {
        loop {
            let news = self.listen();
            if let Some(answer) = self.answer(position) {
                return answer;
            }
            news.await;
        }
    }

    fn answer(&self, position: u64) -> Option<Result<(), Error>> {
        let told = self.told.lock();
        if told.status.settled >= position {
            if told.first_held.is_none_or(|held| held > position) {
                return Some(Ok(()));
            }
            let held = told.parked.iter().filter(|parked| !parked.accepted);
            let first = held.min_by_key(|parked| parked.first_position)?;
            return Some(Err(Error::Parked {
                what: "replication".into(),
                stream: first.stream.clone(),
                position: first.first_position,
                reason: first.reason.to_string().into(),
            }));
        }
        match &told.status.state {
            ReplicationState::Halted(halt) => Some(Err(Error::Halted(Box::new(halt.clone())))),
            ReplicationState::Closed => Some(Err(Error::Closed)),
            _ => None,
        }
    }
}
