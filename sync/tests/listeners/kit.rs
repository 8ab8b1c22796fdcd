//! What the tests are written with: a store that is watched, a listener that does as it is told,
//! and a container that is polled by hand.

use std::collections::HashMap;
use std::future::{Future, pending};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidelog::*;

/// A memory store that says what was asked of its checkpoints, and fails when told to.
#[derive(Clone)]
pub struct Watched {
    pub inner: MemoryStore,
    pub seen: Arc<Mutex<Asked>>,
}

#[derive(Default)]
pub struct Asked {
    pub durable: u64,
    pub saves: Vec<u64>,
    pub save_fails: bool,
    /// Saving does not end while this is so.
    pub save_waits: bool,
    /// Subscriptions after a smaller position meet this gap.
    pub gap: Option<(u64, u64)>,
}

impl Watched {
    pub fn new() -> Self {
        Self {
            inner: MemoryStore::new(),
            seen: Arc::default(),
        }
    }

    /// Appends one event: its position.
    pub fn note(&self, stream: &str) -> u64 {
        note(&self.inner, stream)
    }

    /// Appends one event to each stream, in turn; they have names of one letter.
    pub fn notes(&self, streams: &str) {
        for stream in streams.chars() {
            self.note(&stream.to_string());
        }
    }

    pub fn saves(&self) -> Vec<u64> {
        self.seen.lock().saves.clone()
    }
}

pub fn note(store: &impl EventStore, stream: &str) -> u64 {
    let event = NewEvent::new("Noted", 1, ContentType::Bytes, stream.as_bytes().to_vec());
    let batch = AppendBatch::new(id(stream), ExpectedVersion::Any, vec![event]);
    let receipt = pollster::block_on(store.append(batch)).unwrap();
    receipt.last_position.unwrap()
}

pub fn id(stream: &str) -> StreamId {
    StreamId::new("T", stream).unwrap()
}

/// Another origin's events, so many, take the place of all of `stream` from `from` on.
pub fn supersede(store: &Watched, stream: &str, from: u64, adopted: usize) -> u64 {
    let birth = Birth {
        origin: store.identity().origin,
        epoch: store.identity().epoch,
        position: 3,
        recorded_time: Timestamp::from_micros(4),
    };
    let event = || {
        let event = NewEvent::new("Noted", 1, ContentType::Bytes, b"foreign".to_vec());
        event.with_birth(birth)
    };
    let head = pollster::block_on(store.head(&id(stream)))
        .unwrap()
        .unwrap();
    let adopted = std::iter::repeat_with(event).take(adopted).collect();
    let what = Supersession::new(id(stream), head, from).with_adopted(adopted);
    let done = pollster::block_on(store.inner.supersede(what)).unwrap();
    done.last_position.unwrap()
}

impl EventStore for Watched {
    async fn append(&self, batch: AppendBatch) -> Result<AppendReceipt, Error> {
        self.inner.append(batch).await
    }
    fn read_stream(&self, query: StreamQuery) -> EventStream {
        self.inner.read_stream(query)
    }
    async fn head(&self, stream: &StreamId) -> Result<Option<StreamHead>, Error> {
        self.inner.head(stream).await
    }
    async fn find_event(
        &self,
        stream: &StreamId,
        id: EventId,
    ) -> Result<Option<EventEnvelope>, Error> {
        self.inner.find_event(stream, id).await
    }
    fn limits(&self) -> Limits {
        self.inner.limits()
    }
}

impl EventLog for Watched {
    fn read_all(&self, query: LogQuery) -> EventStream {
        self.inner.read_all(query)
    }
    fn identity(&self) -> LogIdentity {
        self.inner.identity()
    }
    fn superseded_at(&self, event: &EventEnvelope) -> Option<u64> {
        self.inner.superseded_at(event)
    }
    fn first_position(&self) -> u64 {
        self.inner.first_position()
    }
    fn last_position(&self) -> u64 {
        self.inner.last_position()
    }
    fn subscribe(&self, what: Subscribe) -> EventStream {
        let gap = self.seen.lock().gap;
        match (&what, gap) {
            (Subscribe::All { after }, Some((first, last))) if *after < last => {
                EventStream::failed(Error::Gap {
                    stream: None,
                    first,
                    last,
                })
            }
            _ => self.inner.subscribe(what),
        }
    }
}

impl CheckpointStore for Watched {
    fn claim(&self, name: &str) -> Result<CheckpointClaim, Error> {
        self.inner.claim(name)
    }
    async fn load(&self, name: &str) -> Result<Option<Bytes>, Error> {
        self.inner.load(name).await
    }
    async fn save(&self, name: &str, position: u64, state: Bytes) -> Result<(), Error> {
        std::future::poll_fn(|_| {
            if self.seen.lock().save_waits {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
        {
            let mut seen = self.seen.lock();
            if seen.save_fails {
                return Err(Error::io(
                    "write",
                    "listeners",
                    std::io::ErrorKind::StorageFull.into(),
                ));
            }
            seen.saves.push(position);
        }
        self.inner.save(name, position, state).await
    }
    async fn make_durable(&self, position: u64) -> Result<(), Error> {
        let mut seen = self.seen.lock();
        seen.durable = seen.durable.max(position);
        Ok(())
    }
    async fn names(&self) -> Result<Vec<String>, Error> {
        self.inner.names().await
    }
    async fn remove(&self, name: &str) -> Result<(), Error> {
        self.inner.remove(name).await
    }
}

/// What a listener does with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    Fails,
    FailsForGood,
    Panics,
    /// Does not return.
    Hangs,
}

/// Notes what it handles; does with each event what it was told.
#[derive(Clone, Default)]
pub struct Told(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    does: HashMap<(String, u64), Does>,
    handled: Vec<(String, u64)>,
    tried: Vec<(String, u64)>,
    running: usize,
    pub most_running: usize,
    unwanted: Option<String>,
    durable: Option<Arc<Mutex<Asked>>>,
}

impl Told {
    pub fn to(&self, stream: &str, sequence: u64, does: Does) {
        self.0.lock().does.insert((stream.into(), sequence), does);
    }
    pub fn heal(&self, stream: &str, sequence: u64) {
        self.0.lock().does.remove(&(stream.into(), sequence));
    }
    pub fn heal_all(&self) {
        self.0.lock().does.clear();
    }
    pub fn not_wanting(self, stream: &str) -> Self {
        self.0.lock().unwanted = Some(stream.into());
        self
    }
    /// Checks that what it is given was made durable before.
    pub fn checking_durable(self, store: &Watched) -> Self {
        self.0.lock().durable = Some(Arc::clone(&store.seen));
        self
    }
    pub fn handled(&self) -> Vec<(String, u64)> {
        self.0.lock().handled.clone()
    }
    pub fn handled_of(&self, stream: &str) -> Vec<u64> {
        let handled = self.handled().into_iter();
        handled
            .filter(|(of, _)| of == stream)
            .map(|(_, sequence)| sequence)
            .collect()
    }
    pub fn tried_of(&self, stream: &str) -> usize {
        self.0
            .lock()
            .tried
            .iter()
            .filter(|(of, _)| of == stream)
            .count()
    }
    pub fn most_running(&self) -> usize {
        self.0.lock().most_running
    }
}

/// Counts itself out when the handler ends or is dropped.
struct Running(Told);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.lock().running -= 1;
    }
}

impl EventListener for Told {
    async fn on(&self, event: &EventEnvelope) -> Result<(), HandlerError> {
        if let (Some(asked), Some(position)) = (&self.0.lock().durable, event.position) {
            assert!(
                asked.lock().durable >= position,
                "{position} may still be lost"
            );
        }
        self.act((event.aggregate_id().to_owned(), event.sequence))
            .await
    }

    fn wants(&self, event: &EventEnvelope) -> bool {
        self.0.lock().unwanted.as_deref() != Some(event.aggregate_id())
    }

    /// As an event of sequence 0.
    async fn superseded(&self, what: &Superseded) -> Result<(), HandlerError> {
        self.act((what.stream.aggregate_id().to_owned(), 0)).await
    }
}

impl Told {
    async fn act(&self, key: (String, u64)) -> Result<(), HandlerError> {
        let does = {
            let mut inner = self.0.lock();
            inner.tried.push(key.clone());
            inner.running += 1;
            inner.most_running = inner.most_running.max(inner.running);
            inner.does.get(&key).copied()
        };
        let _running = Running(self.clone());
        match does {
            None => {
                // Lets others in between.
                yield_once().await;
                self.0.lock().handled.push(key);
                Ok(())
            }
            Some(Does::Fails) => Err(HandlerError::passing("no answer")),
            Some(Does::FailsForGood) => Err(HandlerError::permanent("no such address")),
            Some(Does::Panics) => panic!("out of paper"),
            Some(Does::Hangs) => {
                pending::<()>().await;
                Ok(())
            }
        }
    }
}

async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A container that is polled by hand, with a clock that is moved by hand.
pub struct Driven {
    run: Option<BoxFuture<'static, Result<(), Error>>>,
    pub done: Option<Result<(), Error>>,
    pub mail: ListenerControl,
    woken: Arc<Woken>,
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The clock of a test, kept over several containers.
#[derive(Clone, Default)]
pub struct Time(pub Arc<ManualClock>);

impl Time {
    pub fn sleeper(&self) -> ManualSleeper {
        ManualSleeper::new(Arc::clone(&self.0))
    }
}

impl Driven {
    /// One listener, `mail`.
    pub fn new<S: EventLog + CheckpointStore>(
        store: &S,
        time: &Time,
        told: &Told,
        options: ListenerOptions,
    ) -> Self {
        let container = EventListenerContainer::builder(store.clone())
            .listener_with("mail", told.clone(), options)
            .clock(Arc::clone(&time.0) as Arc<dyn Clock>)
            .sleeper(Arc::new(time.sleeper()))
            .build()
            .unwrap();
        let mail = container.control("mail").unwrap();
        Self {
            run: Some(Box::pin(container.run())),
            done: None,
            mail,
            woken: Arc::default(),
        }
    }

    /// Polls until it waits.
    pub fn settle(&mut self) -> &mut Self {
        let waker = Waker::from(Arc::clone(&self.woken));
        let mut cx = Context::from_waker(&waker);
        while let Some(run) = &mut self.run {
            self.woken.0.store(false, Ordering::SeqCst);
            match run.as_mut().poll(&mut cx) {
                Poll::Ready(done) => {
                    self.done = Some(done);
                    self.run = None;
                }
                Poll::Pending if !self.woken.0.load(Ordering::SeqCst) => break,
                Poll::Pending => {}
            }
        }
        self
    }

    /// Polls `asked` once, then the container.
    pub fn poll<T>(&mut self, asked: &mut BoxFuture<'_, T>) {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(asked.as_mut().poll(&mut cx).is_pending());
        self.settle();
    }

    /// Polls `asked` and the container in turn until `asked` has its answer.
    pub fn answer<T>(&mut self, asked: impl Future<Output = T>) -> T {
        let mut asked = pin!(asked);
        for _ in 0..100 {
            let mut cx = Context::from_waker(Waker::noop());
            if let Poll::Ready(answer) = asked.as_mut().poll(&mut cx) {
                return answer;
            }
            self.settle();
        }
        panic!("there is no answer");
    }

    /// Lets time pass, in steps, so that what waits for one wait after the other gets on.
    pub fn pass(&mut self, time: &Time, duration: Duration) -> &mut Self {
        self.settle();
        let mut left = duration;
        while let Some(next) = time.sleeper().next_wake().filter(|next| *next <= left) {
            time.0
                .advance_micros(i64::try_from(next.as_micros()).unwrap());
            left -= next;
            self.settle();
        }
        time.0
            .advance_micros(i64::try_from(left.as_micros()).unwrap());
        self.settle()
    }

    /// Ends it as a crash of the process does: nothing is saved any more.
    pub fn crash(self) {
        drop(self);
    }

    /// Stops it: what `run` answers.
    pub fn stop(mut self) -> Result<(), Error> {
        self.mail.stop();
        self.settle();
        self.done.take().expect("it stops")
    }

    pub fn parked(&self) -> Vec<(String, u64, u64)> {
        let parked = self.mail.parked().into_iter();
        let parked = parked.map(|p| {
            (
                p.stream.aggregate_id().to_owned(),
                p.sequence,
                p.last_sequence,
            )
        });
        parked.collect()
    }
}

pub fn names(pairs: &[(&str, u64)]) -> Vec<(String, u64)> {
    pairs
        .iter()
        .map(|(stream, sequence)| ((*stream).to_owned(), *sequence))
        .collect()
}
