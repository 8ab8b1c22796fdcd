//! What runs on a machine.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};
use std::time::Duration;

use tidelog_core::{BoxFuture, ManualSleeper, Sleeper, Ticks};
use uuid::Uuid;

use super::super::sink::{ScyllaOptions, ScyllaSink, SinkMessage};
use super::copy::{self, Ended};
use super::net::{SharedNet, SimWire};
use super::world::Sizes;
use crate::replicate::mailbox::Mailbox;
use crate::replicate::outbox::Outbox;
use crate::replicate::replicator::{Env, Replicator};
use crate::scylla::status::StatusCell;
use crate::sim::log::SimLog;

/// A future, and what it is asked and told by.
pub(super) struct Running {
    pub future: BoxFuture<'static, ()>,
    pub mailbox: Arc<Mailbox<SinkMessage>>,
    pub status: Arc<StatusCell>,
    /// How it ended, if it is a restore.
    pub ended: Option<Ended>,
    /// It is closed in order, and may end.
    pub closes: bool,
    /// What somebody asked of it and waits for.
    pub asking: Option<BoxFuture<'static, ()>>,
}

impl Running {
    /// Whether somebody waits for an answer of it.
    pub(super) fn is_asking(&mut self) -> bool {
        let cx = &mut Context::from_waker(Waker::noop());
        let is_over = |asking: &mut BoxFuture<'static, ()>| asking.as_mut().poll(cx).is_ready();
        if self.asking.as_mut().is_some_and(is_over) {
            self.asking = None;
        }
        self.asking.is_some()
    }
}

/// Waits by a machine's clock; a future that waits for nothing again and again is found out.
struct SimSleeper(SimLog);

impl Sleeper for SimSleeper {
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.0.jobs.call();
        ManualSleeper::new(self.0.clock.clone()).sleep(duration)
    }
}

/// A machine's time, and how long it has slept.
struct SimTicks(SimLog);

impl Ticks for SimTicks {
    fn now(&self) -> Duration {
        Ticks::now(&*self.0.clock)
    }

    fn slept(&self) -> Duration {
        Duration::from_micros(self.0.slept.load(Ordering::Relaxed))
    }
}

/// The replicator of a store.
pub(super) fn start(log: &SimLog, net: &SharedNet, sizes: Sizes) -> Running {
    let status = Arc::new(StatusCell::new(log.identity().epoch));
    let mailbox = Arc::<Mailbox<SinkMessage>>::default();
    let env = Env {
        ticks: Arc::new(SimTicks(log.clone())),
        sleeper: Arc::new(SimSleeper(log.clone())),
        ids: Arc::new(log.ids.clone()),
    };
    let options = ScyllaOptions {
        server: "memory".into(),
        name: format!("machine {}", log.node).into(),
        lanes: sizes.lanes,
        parked: super::super::park::MAX_PARKED,
        overlap: sizes.overlap,
        ids: env.ids.clone(),
        ticks: env.ticks.clone(),
    };
    let wire = SimWire {
        net: net.clone(),
        node: log.node,
    };
    let replicator = Replicator {
        sink: ScyllaSink::new(Arc::new(wire), options),
        outbox: Arc::new(log.clone()),
        env,
        pace: sizes.pace,
        mailbox: mailbox.clone(),
        status: status.clone(),
    };
    Running {
        future: Box::pin(replicator.run()),
        mailbox,
        status,
        ended: None,
        closes: false,
        asking: None,
    }
}

/// A restore of the epoch of an origin.
pub(super) fn restore(log: &SimLog, net: &SharedNet, origin: Uuid, epoch: Uuid) -> Running {
    let (future, ended) = copy::restore(log, net, origin, epoch);
    Running {
        future,
        mailbox: Arc::default(),
        status: Arc::new(StatusCell::new(epoch)),
        ended: Some(ended),
        closes: false,
        asking: None,
    }
}
