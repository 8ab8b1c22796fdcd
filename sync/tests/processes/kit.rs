//! A bus that fails when told to, and containers that are polled until they rest.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context as TaskContext, Poll, Wake, Waker};

use parking_lot::Mutex;
use tidelog::*;

use crate::domain::{Kind, Orders};

/// Executes on a store; the answers it is told to lose are lost after or before the command is
/// executed.
#[derive(Clone)]
pub struct Bus {
    inner: StoreBus<MemoryStore>,
    pub executed: Arc<AtomicU32>,
    /// The commands, by number, whose answer is lost.
    pub loses: Arc<Mutex<Vec<(u32, bool)>>>,
}

impl Bus {
    pub fn new(store: &MemoryStore) -> Self {
        Self {
            inner: StoreBus::new(store.clone()),
            executed: Arc::default(),
            loses: Arc::default(),
        }
    }
}

impl CommandBus for Bus {
    async fn execute_with<C>(
        &self,
        command: C,
        context: Context,
    ) -> Result<CommandResponse, CommandError<C>>
    where
        C: Command + Debug + 'static,
        C::Aggregate: Decide<C>,
    {
        let number = self.executed.fetch_add(1, Ordering::SeqCst);
        let lost = self
            .loses
            .lock()
            .iter()
            .find(|(of, _)| *of == number)
            .copied();
        let failure = || ExecuteError::Store(Error::Cancelled { what: "the wire" });
        if let Some((_, false)) = lost {
            return Err(failure());
        }
        let answer = self.inner.execute_with(command, context).await;
        if lost.is_some() {
            Err(failure())
        } else {
            answer
        }
    }

    async fn find_event(&self, stream: &StreamId, event_id: EventId) -> Result<bool, Error> {
        self.inner.find_event(stream, event_id).await
    }
}

pub struct World {
    pub store: MemoryStore,
    pub clock: Arc<ManualClock>,
    pub bus: Bus,
}

impl World {
    pub fn new() -> Self {
        let clock = Arc::new(ManualClock::default());
        let store = MemoryStore::new().with_clock(Arc::clone(&clock) as Arc<dyn Clock>);
        let bus = Bus::new(&store);
        Self { store, clock, bus }
    }

    pub fn execute<C>(&self, command: C) -> CommandResponse
    where
        C: Command + Debug + 'static,
        C::Aggregate: Decide<C>,
    {
        let context = Context::at(&*self.clock, &SystemIds);
        self.execute_with(command, context)
    }

    pub fn execute_with<C>(&self, command: C, context: Context) -> CommandResponse
    where
        C: Command + Debug + 'static,
        C::Aggregate: Decide<C>,
    {
        let bus = StoreBus::new(self.store.clone());
        pollster::block_on(bus.execute_with(command, context)).unwrap()
    }

    pub fn log(&self) -> Vec<EventEnvelope> {
        pollster::block_on(self.store.read_all(LogQuery::all()).collect()).unwrap()
    }

    /// Types of the events of an aggregate, in order.
    pub fn types(&self, stream: &str) -> Vec<String> {
        let of = |event: &EventEnvelope| event.stream.as_str() == stream;
        let log = self.log().into_iter().filter(of);
        log.map(|event| event.event_type.to_string()).collect()
    }

    pub fn listener(&self, kind: Kind) -> ProcessListener<Orders, Bus> {
        ProcessListener::new(Orders(kind), self.bus.clone())
            .with_clock(Arc::clone(&self.clock) as Arc<dyn Clock>)
    }

    /// Runs the manager until it rests; its control, for a look.
    pub fn run(&self, kind: Kind) -> ListenerControl {
        self.run_from(kind, None)
    }

    pub fn run_from(&self, kind: Kind, replay_from: Option<u64>) -> ListenerControl {
        let name = ProcessListener::<Orders, Bus>::listener_name();
        let sleeper = ManualSleeper::new(Arc::clone(&self.clock));
        let container = EventListenerContainer::builder(self.store.clone())
            .listener(&name, self.listener(kind))
            .clock(Arc::clone(&self.clock) as Arc<dyn Clock>)
            .sleeper(Arc::new(sleeper.clone()))
            .build()
            .unwrap();
        let control = container.control(&name).unwrap();
        if let Some(position) = replay_from {
            let asked = control.clone();
            // Asked before it runs.
            let mut asked = Box::pin(async move { asked.replay_from(position).await });
            assert!(poll(asked.as_mut(), Waker::noop()).is_pending());
        }
        let mut run = Box::pin(container.run());
        while rest(run.as_mut()).is_pending() {
            match sleeper.next_wake() {
                Some(next) => {
                    let micros = i64::try_from(next.as_micros()).unwrap();
                    self.clock.advance_micros(micros);
                }
                None => control.stop(),
            }
        }
        control
    }
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn poll<F: Future + ?Sized>(future: std::pin::Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
    future.poll(&mut TaskContext::from_waker(waker))
}

/// Polls until it waits for something from outside.
pub fn rest<F: Future + ?Sized>(mut future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    loop {
        woken.0.store(false, Ordering::SeqCst);
        match poll(future.as_mut(), &waker) {
            Poll::Pending if woken.0.load(Ordering::SeqCst) => {}
            answer => return answer,
        }
    }
}
