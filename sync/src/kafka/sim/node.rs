//! What runs on a machine: a publisher, and before it a replica or none.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tidelog_core::{BoxFuture, Error, EventId, ManualSleeper, Sleeper, StreamId, Ticks};
use uuid::Uuid;

use super::mutants::{Mutant, MutantBroker};
use super::world::Sizes;
use crate::kafka::KafkaConfig;
use crate::kafka::fake::FakeBroker;
use crate::kafka::park::PublishingParked;
use crate::kafka::sink::{Ask, KafkaOptions, KafkaSink};
use crate::kafka::status::StatusCell;
use crate::listeners::StartAt;
use crate::replicate::ParkedReason;
use crate::replicate::gate::Gated;
use crate::replicate::mailbox::Mailbox;
use crate::replicate::outbox::Outbox;
use crate::replicate::published::Published;
use crate::replicate::replicator::{Env, Replicator};
use crate::sim::log::SimLog;

/// A future, and what it is asked and told by.
pub(super) struct Running {
    pub future: BoxFuture<'static, ()>,
    pub mailbox: Arc<Mailbox<Ask>>,
    pub status: Arc<StatusCell>,
    /// It is closed in order, and may end.
    pub closes: bool,
    pub asking: Option<BoxFuture<'static, ()>>,
    /// Who waits for a position to be published.
    pub waiting: Vec<(u64, BoxFuture<'static, Result<(), Error>>)>,
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

    /// Somebody waits for this position.
    pub(super) fn wait_for(&mut self, position: u64) {
        let status = Arc::clone(&self.status);
        let waiting = Box::pin(async move { status.wait_for(position).await });
        self.waiting.push((position, waiting));
    }

    /// Whose waiting has ended, and how.
    pub(super) fn ended(&mut self) -> Vec<(u64, Result<(), Error>)> {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut ended = Vec::new();
        self.waiting
            .retain_mut(|(position, waiting)| match waiting.as_mut().poll(cx) {
                Poll::Ready(done) => {
                    ended.push((*position, done));
                    false
                }
                Poll::Pending => true,
            });
        ended
    }
}

/// What a replica says of a log: how far it has accepted it, and which streams it holds.
pub(super) struct Replica {
    pub cell: Arc<StatusCell>,
    pub settled: u64,
    pub held: Vec<(StreamId, u64)>,
    pub is_used: bool,
    /// The most that was ever accepted.
    pub most: u64,
}

impl Replica {
    pub(super) fn new(epoch: Uuid) -> Self {
        Self {
            cell: Arc::new(StatusCell::new(epoch)),
            settled: 0,
            held: Vec::new(),
            is_used: false,
            most: 0,
        }
    }

    /// Its state was saved before what it says.
    pub(super) fn restarted(&mut self, log: &SimLog) {
        self.cell = Arc::new(StatusCell::new(log.identity().epoch));
        self.tell(log, None);
    }

    /// Tells what there is now; what is held before what is settled, unless something is wrong.
    pub(super) fn tell(&self, log: &SimLog, mutant: Option<Mutant>) {
        let epoch = log.identity().epoch;
        let settle = || {
            self.cell.change(true, |status| {
                status.settled = self.settled;
                status.settled_epoch = epoch;
            });
        };
        if mutant != Some(Mutant::ListAfterSettled) {
            self.list(log);
        }
        settle();
    }

    pub(super) fn list(&self, log: &SimLog) {
        let disk = log.disk.lock();
        let listed = self.held.iter().map(|(stream, position)| {
            let record = disk.record(*position);
            PublishingParked {
                stream: stream.clone(),
                reason: ParkedReason::NotReplicated,
                first_sequence: record.sequence,
                first_position: *position,
                event_id: EventId::from_uuid(*record.event_id.as_uuid()),
            }
        });
        self.cell.set_parked(listed.collect());
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

/// A machine's clock, and how long it has slept.
struct SimTicks(SimLog);

impl Ticks for SimTicks {
    fn now(&self) -> Duration {
        Ticks::now(&*self.0.clock)
    }

    fn slept(&self) -> Duration {
        Duration::from_micros(self.0.slept.load(Ordering::Relaxed))
    }
}

/// The publisher of a store.
pub(super) fn start(
    log: &SimLog,
    broker: FakeBroker,
    config: &KafkaConfig,
    sizes: Sizes,
    replica: &Replica,
    mutant: Option<Mutant>,
) -> Running {
    let identity = log.identity();
    let status = Arc::new(StatusCell::new(identity.epoch));
    let mailbox = Arc::<Mailbox<Ask>>::default();
    let env = Env {
        ticks: Arc::new(SimTicks(log.clone())),
        sleeper: Arc::new(SimSleeper(log.clone())),
        ids: Arc::new(log.ids.clone()),
    };
    let options = KafkaOptions {
        server: "memory".into(),
        name: format!("machine {}", log.node).into(),
        env: env.clone(),
        overlap: sizes.overlap,
        start: StartAt::Beginning,
        is_alone: !sizes.is_gated,
        published: Arc::<Published>::default(),
    };
    let of: Arc<dyn Outbox> = Arc::new(log.clone());
    let outbox: Arc<dyn Outbox> = if sizes.is_gated {
        Arc::new(Gated::new(of, Arc::clone(&replica.cell)))
    } else {
        of
    };
    let broker = MutantBroker::new(broker, mutant, Arc::clone(&status));
    let replicator = Replicator {
        sink: KafkaSink::new(broker, config, identity.origin, options),
        outbox,
        env,
        pace: sizes.pace,
        mailbox: mailbox.clone(),
        status: status.clone(),
    };
    Running {
        future: Box::pin(replicator.run()),
        mailbox,
        status,
        closes: false,
        asking: None,
        waiting: Vec::new(),
    }
}
