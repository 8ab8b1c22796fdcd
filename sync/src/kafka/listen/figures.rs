//! What the `metrics` facade gets to hear of a listener.

use metrics::{Counter, Gauge};

/// Its counters and gauges, each with the group as its label. Without a recorder they cost nothing.
pub(super) struct Figures {
    /// Records that were handled.
    pub(super) handled: Counter,
    /// Attempts that failed and are made again.
    pub(super) retried: Counter,
    /// Keys that were parked, and such as were parked again when they were to be taken in.
    pub(super) parked: Counter,
    /// Keys that were taken in again.
    pub(super) resumed: Counter,
    /// Records that were no event.
    pub(super) garbage: Counter,
    /// Times that events began to wait for what is missing before them.
    pub(super) gaps: Counter,
    /// Times that places came or went.
    pub(super) rebalances: Counter,
    /// Offsets that could not be put down, alone or with letters.
    pub(super) commit_failures: Counter,
    /// Records that stand in this member's places and are not settled, as far as that is known.
    pub(super) lag: Gauge,
    pub(super) in_flight: Gauge,
    /// Events that wait for what is missing before them.
    pub(super) held: Gauge,
    /// Keys of the whole group that are parked.
    pub(super) parked_keys: Gauge,
}

impl Figures {
    pub(super) fn of(group: &str) -> Self {
        let count = |name: &'static str| metrics::counter!(name, "group" => group.to_owned());
        let gauge = |name: &'static str| metrics::gauge!(name, "group" => group.to_owned());
        Self {
            handled: count("tidelog_listener_handled_total"),
            retried: count("tidelog_listener_retried_total"),
            parked: count("tidelog_listener_parked_total"),
            resumed: count("tidelog_listener_resumed_total"),
            garbage: count("tidelog_listener_garbage_total"),
            gaps: count("tidelog_listener_gaps_total"),
            rebalances: count("tidelog_listener_rebalances_total"),
            commit_failures: count("tidelog_listener_commit_failures_total"),
            lag: gauge("tidelog_listener_lag_events"),
            in_flight: gauge("tidelog_listener_in_flight"),
            held: gauge("tidelog_listener_held_events"),
            parked_keys: gauge("tidelog_listener_parked_keys"),
        }
    }
}
