//! What is told of a replicator at work: to users, and to whoever collects metrics.

use std::sync::Arc;
use std::time::Duration;

use tidelog_core::Halt;

use super::keeper::{Keeper, KeptState};
use super::outbox::Outbox;
use super::sink::{Begin, Load, Sink};
use super::status::{Phase, SinkCell, SinkStatus, Totals};

/// So few records behind, it counts as live.
const LIVE: u64 = 1_000;

pub(crate) struct Report<S: Sink> {
    status: Arc<SinkCell<S::Status>>,
    settled: u64,
    /// What is durable, and what of it may be sent.
    reaches: (u64, u64),
    /// When the oldest record that is not settled was seen first, and the position up to which that
    /// holds.
    waits_since: Option<(Duration, u64)>,
    lag: Duration,
    rewinds_to: u64,
    parked: u64,
    counted: Counts<S>,
    told: Counts<S>,
    retries: u64,
}

type Counts<S> = <<S as Sink>::Status as SinkStatus>::Counts;

impl<S: Sink> Report<S> {
    pub(crate) fn new(status: &Arc<SinkCell<S::Status>>) -> Self {
        Self {
            status: Arc::clone(status),
            settled: 0,
            reaches: (0, 0),
            waits_since: None,
            lag: Duration::ZERO,
            rewinds_to: 0,
            parked: u64::MAX,
            counted: Counts::<S>::default(),
            told: Counts::<S>::default(),
            retries: 0,
        }
    }

    pub(crate) fn connecting(&mut self, keeper: &Keeper<S::Kept>) {
        // Before what is settled: of that, what is held is no part.
        self.parked(keeper);
        let state = keeper.state();
        let (settled, epoch) = (state.settled().position, state.epoch());
        self.status.change(true, |status| {
            status.phase = Phase::Connecting;
            (status.settled, status.settled_epoch) = (settled, epoch);
            status.in_flight_bytes = 0;
        });
    }

    pub(crate) fn connected(&mut self, begin: &Begin, keeper: &Keeper<S::Kept>) {
        self.rewinds_to = begin.rewinds_to;
        self.settled = u64::MAX;
        let state = keeper.state();
        tracing::info!(
            sink = S::NAME, settled = begin.settled.position, epoch = %state.epoch(),
            "{} is connected", S::Status::WHAT
        );
        metrics::counter!("tidelog_sink_connects_total", "sink" => S::NAME).increment(1);
        self.status.begun();
        self.parked(keeper);
        // Together: what was settled of another epoch says nothing of this one's events.
        self.status.change(false, |status| {
            status.session = state.session();
            status.epoch = state.epoch();
            if status.settled_epoch != state.epoch() {
                status.settled = begin.settled.position;
                status.settled_epoch = state.epoch();
            }
        });
    }

    fn parked(&mut self, keeper: &Keeper<S::Kept>) {
        if self.parked == keeper.parked_version() {
            return;
        }
        self.parked = keeper.parked_version();
        self.status.set_parked(S::listed(keeper.state()));
    }

    /// Tells how far it is now.
    pub(crate) fn now(
        &mut self,
        outbox: &dyn Outbox,
        sink: &S,
        keeper: &Keeper<S::Kept>,
        now: Duration,
    ) {
        self.parked(keeper);
        let (committed, durable) = outbox.reaches();
        let available = outbox.durable();
        let settled = sink.settled().position;
        self.look(settled, durable, now);
        let is_news = settled != self.settled;
        let counts = sink.counts();
        let reaches = (durable, available);
        if !is_news && reaches == self.reaches && counts == self.told {
            return;
        }
        (self.settled, self.reaches) = (settled, reaches);
        self.status.set_counts(counts.clone());
        self.told = counts;
        let lag_events = durable.saturating_sub(settled);
        let phase = if settled < self.rewinds_to {
            Phase::Rewinding
        } else if available.saturating_sub(settled) > LIVE {
            Phase::CatchingUp
        } else {
            Phase::Live
        };
        let load = sink.load();
        let retries = self.retries;
        self.status.change(is_news, |status| {
            status.phase = phase;
            (status.committed, status.durable) = (committed, durable);
            status.available = available;
            status.settled = settled;
            status.lag_events = lag_events;
            status.in_flight_bytes = load.bytes;
            status.retries = retries;
        });
    }

    /// Finds out since when something waits.
    fn look(&mut self, settled: u64, durable: u64, now: Duration) {
        let before = self.waits_since.map(|(since, _)| since);
        if settled >= durable {
            self.waits_since = None;
        } else if self.waits_since.is_none_or(|(_, upto)| settled >= upto) {
            self.waits_since = Some((now, durable));
        }
        let since = self.waits_since.map(|(since, _)| since);
        if since != before {
            self.status.waits_since(since);
        }
        self.lag = since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
    }

    /// Tells how far it is while there is no connection.
    pub(crate) fn apart(&mut self, outbox: &dyn Outbox, keeper: &Keeper<S::Kept>, now: Duration) {
        let settled = keeper.state().settled().position;
        let (committed, durable) = outbox.reaches();
        let available = outbox.durable();
        self.look(settled, durable, now);
        self.status.change(false, |status| {
            (status.committed, status.durable) = (committed, durable);
            status.available = available;
            status.lag_events = durable.saturating_sub(settled);
            status.in_flight_bytes = 0;
        });
        self.set_gauges(settled, 0);
    }

    pub(crate) fn retried(&mut self) {
        self.retries += 1;
        let retries = self.retries;
        self.status.change(false, |status| status.retries = retries);
        metrics::counter!("tidelog_sink_retries_total", "sink" => S::NAME).increment(1);
    }

    pub(crate) fn halted(halt: &Halt) {
        tracing::error!(sink = S::NAME, %halt, "{} stands still", S::Status::WHAT);
        let code = halt.code();
        metrics::counter!("tidelog_sink_halts_total", "sink" => S::NAME, "code" => code)
            .increment(1);
    }

    /// Counts what came since.
    pub(crate) fn counts(&mut self, counts: Counts<S>) {
        let before = self.counted.totals();
        for ((name, now), (_, then)) in counts.totals().into_iter().zip(before) {
            if now > then {
                metrics::counter!(name, "sink" => S::NAME).increment(now - then);
            }
        }
        self.status.set_counts(counts.clone());
        self.counted = counts;
    }

    /// Sets what is measured once a second.
    pub(crate) fn gauges(&mut self, sink: &S) {
        self.counts(sink.counts());
        let Load { bytes, .. } = sink.load();
        self.set_gauges(sink.settled().position, bytes);
    }

    #[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
    fn set_gauges(&self, settled: u64, bytes: usize) {
        let (lag_events, parked, committed) = self.status.figures();
        for (name, value) in [
            ("tidelog_sink_settled_position", settled as f64),
            ("tidelog_sink_lag_events", lag_events as f64),
            ("tidelog_sink_lag_seconds", self.lag.as_secs_f64()),
            ("tidelog_sink_parked_streams", parked as f64),
            ("tidelog_sink_window_bytes", bytes as f64),
        ] {
            metrics::gauge!(name, "sink" => S::NAME).set(value);
        }
        metrics::gauge!("tidelog_appended_position").set(committed as f64);
    }
}
