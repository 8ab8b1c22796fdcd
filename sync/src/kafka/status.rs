//! What users are told about publishing.

use std::sync::Arc;
use std::time::Duration;

use tidelog_core::{Error, Halt, StreamId};

use super::park::PublishingParked;
use super::state::Pass;
use crate::replicate::status::{Common, Listed, Phase, SinkCell, SinkStatus, Totals};

/// Where the status of publishing stands.
pub(crate) type StatusCell = SinkCell<PublishingStatus>;

/// What publishing is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishingState {
    /// The store was opened without it.
    Off,
    /// It waits before it tries the cluster again.
    Waiting {
        /// How often it has failed in a row.
        failures: u32,
        /// How long it waits.
        next_in: Duration,
    },
    /// It connects, and finds out what the cluster knows of this store.
    Connecting,
    /// It publishes what waits.
    CatchingUp,
    /// Everything that may be published is, or is on its way.
    Live,
    /// A part of the log is published once more, asked for or because the cluster lost some of what it
    /// had; what is new waits for that.
    Republishing {
        /// Its first position.
        from: u64,
        /// Its last one.
        to: u64,
        /// Up to here it is done.
        at: u64,
    },
    /// It stands still until a person decides.
    Halted(Halt),
    /// The store is closed.
    Closed,
}

/// How far publishing is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PublishingStatus {
    /// What it is doing.
    pub state: PublishingState,
    /// What may be published: what survives a power cut, or, with a replica, what it has accepted.
    pub available: u64,
    /// Everything up to here is published, or set aside.
    pub settled: u64,
    /// Records that survive a power cut and are not settled.
    pub lag_events: u64,
    /// How long the oldest of them has been seen to wait, by the monotonic clock; also while there is no
    /// connection.
    pub lag: Duration,
    /// Events that were delivered since the store was opened.
    pub delivered: u64,
    /// Of those, events that had been published before: sent again because it was not clear whether
    /// they were there, or asked for.
    pub again: u64,
    /// Messages that were refused, also beside another that was meant.
    pub refused: u64,
    /// Producers that gave up.
    pub fatals: u64,
    /// Producers that were made.
    pub generations: u64,
    /// Connections that ended in trouble.
    pub retries: u64,
    /// Streams that are parked, without those that are withheld.
    pub parked: usize,
    /// Streams that wait for the replica to accept them.
    pub withheld: usize,
    /// Topics that are not there, and that something waits for.
    pub missing_topics: Vec<Box<str>>,
    /// The topic that keeps everything waiting, if one does.
    pub stalled_by: Option<Box<str>>,
    /// Topics that began again, so that what they had is gone, and that were not refilled since.
    pub restarted_topics: Vec<Box<str>>,
    /// Messages in flight.
    pub in_flight: usize,
    /// Bytes that are read and not settled.
    pub in_flight_bytes: usize,
    /// The last trouble; it may be over.
    pub last_error: Option<Error>,
}

impl PublishingStatus {
    /// Of a store that does not publish.
    pub(crate) fn off() -> Self {
        Self {
            state: PublishingState::Off,
            ..Self::of(&Common::new(uuid::Uuid::nil()), &Counts::default())
        }
    }
}

/// What the publisher has done since it was made, and what it waits for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Counts {
    pub delivered: u64,
    pub again: u64,
    pub refused: u64,
    pub fatals: u64,
    pub generations: u64,
    pub withheld: usize,
    pub in_flight: usize,
    pub republish: Option<Pass>,
    pub missing: Arc<[Box<str>]>,
    pub restarted: Arc<[Box<str>]>,
    pub stalled_by: Option<Box<str>>,
    pub trouble: Option<Trouble>,
}

/// The last trouble that did not end a connection.
#[derive(Clone, Debug)]
pub(crate) struct Trouble(pub Arc<Error>);

impl PartialEq for Trouble {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Totals for Counts {
    fn totals(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("tidelog_sink_delivered_events_total", self.delivered),
            ("tidelog_sink_again_events_total", self.again),
            ("tidelog_sink_refused_messages_total", self.refused),
            ("tidelog_sink_fatals_total", self.fatals),
            ("tidelog_sink_generations_total", self.generations),
        ]
    }
}

impl SinkStatus for PublishingStatus {
    const WHAT: &'static str = "publishing";

    type Counts = Counts;
    type Parked = PublishingParked;

    fn of(common: &Common, counts: &Counts) -> Self {
        let state = match (&common.phase, counts.republish) {
            (Phase::Waiting { failures, next_in }, _) => PublishingState::Waiting {
                failures: *failures,
                next_in: *next_in,
            },
            (Phase::Connecting, _) => PublishingState::Connecting,
            (Phase::Halted(halt), _) => PublishingState::Halted(halt.clone()),
            (Phase::Closed, _) => PublishingState::Closed,
            (_, Some(Pass { from, to, at })) => PublishingState::Republishing { from, to, at },
            (Phase::Rewinding | Phase::CatchingUp, _) => PublishingState::CatchingUp,
            (Phase::Live, _) => PublishingState::Live,
        };
        let trouble = counts.trouble.as_ref().map(|trouble| (*trouble.0).clone());
        Self {
            state,
            available: common.available,
            settled: common.settled,
            lag_events: common.lag_events,
            lag: common.lag,
            delivered: counts.delivered,
            again: counts.again,
            refused: counts.refused,
            fatals: counts.fatals,
            generations: counts.generations,
            retries: common.retries,
            parked: common.parked.saturating_sub(counts.withheld),
            withheld: counts.withheld,
            missing_topics: counts.missing.to_vec(),
            stalled_by: counts.stalled_by.clone(),
            restarted_topics: counts.restarted.to_vec(),
            in_flight: counts.in_flight,
            in_flight_bytes: common.in_flight_bytes,
            last_error: match common.phase {
                // Why it waits, whatever was before.
                Phase::Waiting { .. } => common.last_error.clone().or(trouble),
                _ => trouble.or_else(|| common.last_error.clone()),
            },
        }
    }
}

impl Listed for PublishingParked {
    fn holds(&self) -> bool {
        true
    }

    fn stream(&self) -> &StreamId {
        &self.stream
    }

    fn first_position(&self) -> u64 {
        self.first_position
    }

    fn reason(&self) -> String {
        self.reason.to_string()
    }
}
