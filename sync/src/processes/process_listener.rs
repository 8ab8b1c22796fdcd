//! A process manager as a listener.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidelog_core::{
    Clock, CommandBus, EventEnvelope, EventListener, HandlerError, IdSource, ProcessManager,
    StepOrigin, Steps, SystemClock, SystemIds, TimerChange,
};

use crate::signal::{Listener, Signal};

/// Executes what a [`ProcessManager`] wants done; run by an
/// [`EventListenerContainer`](crate::EventListenerContainer), or fed from elsewhere.
///
/// [`TidelogBuilder::process_manager`](crate::TidelogBuilder::process_manager) does this for a
/// [`Tidelog`](crate::Tidelog), timers included; this is for other stores, and for a runtime of
/// one's own.
pub struct ProcessListener<M, B> {
    manager: Arc<M>,
    bus: B,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    timers_changed: Arc<TimersChanged>,
}

impl<M: ProcessManager, B: CommandBus> ProcessListener<M, B> {
    /// Executes the commands of `manager` on `bus`.
    pub fn new(manager: M, bus: B) -> Self {
        Self::of(Arc::new(manager), bus)
    }

    pub(super) fn of(manager: Arc<M>, bus: B) -> Self {
        Self {
            manager,
            bus,
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            timers_changed: Arc::default(),
        }
    }

    /// The name under which the manager's checkpoint is kept: `pm.` and its own.
    pub fn listener_name() -> String {
        format!("pm.{}", M::NAME)
    }

    /// The same with another source of the present moment.
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The same with another source of ids.
    pub fn with_ids(mut self, ids: Arc<dyn IdSource>) -> Self {
        self.ids = ids;
        self
    }

    pub(super) fn parts(&self) -> (Arc<M>, B, Arc<dyn Clock>, Arc<dyn IdSource>) {
        (
            Arc::clone(&self.manager),
            self.bus.clone(),
            Arc::clone(&self.clock),
            Arc::clone(&self.ids),
        )
    }

    /// Told when an event sets or clears a timer.
    pub(super) fn timers_changed(&self) -> Arc<TimersChanged> {
        Arc::clone(&self.timers_changed)
    }
}

impl<M: ProcessManager, B: CommandBus> EventListener for ProcessListener<M, B> {
    async fn on(&self, event: &EventEnvelope) -> Result<(), HandlerError> {
        if self.manager.timer(event)? != TimerChange::Keep {
            self.timers_changed.at(event.position.unwrap_or(0));
        }
        let mut steps = Steps::new();
        self.manager.on(event, &mut steps)?;
        let origin = StepOrigin::event(M::NAME, event);
        steps
            .run(&self.bus, &origin, &*self.clock, &*self.ids)
            .await
    }

    fn wants(&self, event: &EventEnvelope) -> bool {
        // What it fails at is wanted, so that it fails where that is seen.
        let mut steps: Steps<B> = Steps::new();
        let acts = self.manager.on(event, &mut steps).is_err() || !steps.is_empty();
        acts || self.manager.timer(event).ok() != Some(TimerChange::Keep)
    }
}

impl<M: ProcessManager, B> fmt::Debug for ProcessListener<M, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessListener")
            .field("manager", &M::NAME)
            .finish_non_exhaustive()
    }
}

/// Up to where timers have changed.
#[derive(Default)]
pub(super) struct TimersChanged {
    position: AtomicU64,
    news: Signal,
}

impl TimersChanged {
    fn at(&self, position: u64) {
        self.position.fetch_max(position, Ordering::SeqCst);
        self.news.notify();
    }

    pub(super) fn position(&self) -> u64 {
        self.position.load(Ordering::SeqCst)
    }

    pub(super) fn listen(&self) -> Listener<'_> {
        self.news.listen()
    }
}
