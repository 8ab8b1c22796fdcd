//! What users are told about replication.

use std::time::Duration;

use tidelog_core::{Error, Halt};
use uuid::Uuid;

use super::parked::ReplicationParked;
use crate::replicate::status::{Common, Phase, SinkCell, SinkStatus, Totals};

/// Where the status of replication stands.
pub(crate) type StatusCell = SinkCell<ReplicationStatus>;

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
    /// Of a store that is not distributed.
    pub(crate) fn off() -> Self {
        Self {
            state: ReplicationState::Off,
            ..Self::of(&Common::new(Uuid::nil()), &Counts::default())
        }
    }
}

impl From<&Phase> for ReplicationState {
    fn from(phase: &Phase) -> Self {
        match phase {
            Phase::Waiting { failures, next_in } => Self::Waiting {
                failures: *failures,
                next_in: *next_in,
            },
            Phase::Connecting => Self::Connecting,
            Phase::Rewinding => Self::Rewinding,
            Phase::CatchingUp => Self::CatchingUp,
            Phase::Live => Self::Live,
            Phase::Halted(halt) => Self::Halted(halt.clone()),
            Phase::Closed => Self::Closed,
        }
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

impl Totals for Counts {
    fn totals(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("tidelog_sink_accepted_events_total", self.accepted),
            ("tidelog_sink_already_events_total", self.already),
            ("tidelog_sink_remote_lost_events_total", self.remote_lost),
            ("tidelog_sink_refilled_events_total", self.refilled),
        ]
    }
}

impl SinkStatus for ReplicationStatus {
    const WHAT: &'static str = "replication";

    type Counts = Counts;
    type Parked = ReplicationParked;

    fn of(common: &Common, counts: &Counts) -> Self {
        Self {
            state: ReplicationState::from(&common.phase),
            committed: common.committed,
            durable: common.durable,
            settled: common.settled,
            watermark: counts.watermark,
            lag_events: common.lag_events,
            lag: common.lag,
            accepted: counts.accepted,
            already: counts.already,
            remote_lost: counts.remote_lost,
            refilled: counts.refilled,
            retries: common.retries,
            parked: common.parked,
            in_flight_bytes: common.in_flight_bytes,
            last_error: common.last_error.clone(),
            session: common.session,
            epoch: common.epoch,
        }
    }
}
