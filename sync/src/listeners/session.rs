//! A listener at work: one future that takes, hands out, settles and saves.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tidelog_core::{
    BoxFuture, CheckpointStore, Error, EventEnvelope, EventId, EventLog, EventStream, HandlerError,
    ListenerState, Mark, RecordKind, Settled, StreamId, Subscribe, Superseded,
};

use super::control::{Reply, Request};
use super::lane::{Lanes, Next, Queued};
use super::parked::{Passed, passed_until};
use super::unit::{Unit, answer};

/// Most records taken above the settled mark: what bounds the memory of a listener one of whose
/// handlers does not return.
pub(super) const MAX_SPAN: usize = 10_000;
/// A payload up to this size is copied when it is queued.
const COPIED_BYTES: usize = 4 << 10;
/// What an envelope takes beside its payload, roughly.
const ENVELOPE_BYTES: usize = 512;
/// Turns after which others are let in.
const TURNS: u32 = 64;

/// Why a session ended.
pub(super) enum End {
    Stop,
    Replay { position: u64, reply: Reply },
    Closed,
    Failed(Error),
}

pub(super) struct Session<'a, S> {
    pub(super) unit: &'a Unit<S>,
    pub(super) settled: Settled,
    pub(super) lanes: Lanes<StreamId, EventEnvelope>,
    running: FuturesUnordered<BoxFuture<'static, Handled>>,
    retries: FuturesUnordered<BoxFuture<'static, StreamId>>,
    pub(super) reads: FuturesUnordered<BoxFuture<'static, HeldPage>>,
    /// Who waits for a parked stream to be taken in again.
    pub(super) resuming: HashMap<StreamId, Vec<Reply>>,
    /// The subscription, unless it is being read.
    events: Option<EventStream>,
    taking: Option<BoxFuture<'static, Taken>>,
    saving: Option<BoxFuture<'static, Result<(), Error>>>,
    /// While it waits, nothing is saved that can wait.
    pause: Option<BoxFuture<'static, ()>>,
    /// Whether something is not saved.
    pub(super) dirty: bool,
    /// Position of the last entry of `parked` that holds nothing, if there is one.
    pub(super) passed_until: Option<u64>,
    /// The newest handled event of each stream that was handled above the mark.
    pub(super) ahead: HashMap<StreamId, Ahead>,
    /// Answered when what is dirty now is saved.
    pub(super) after_saving: Vec<Reply>,
    being_saved: Vec<Reply>,
    pub(super) ending: Option<(End, BoxFuture<'static, ()>)>,
    /// Whether it was told to stop while it was ending for another reason.
    stops_then: bool,
    turns: u32,
    /// Whether a handler met a closed store.
    met_closed: bool,
}

pub(super) struct Ahead {
    pub(super) event_id: EventId,
    pub(super) position: u64,
    pub(super) sequence: u64,
}

struct Handled {
    event: Arc<EventEnvelope>,
    result: Result<(), HandlerError>,
}

pub(super) struct HeldPage {
    pub(super) stream: StreamId,
    pub(super) events: Result<Vec<EventEnvelope>, Error>,
}

struct Taken {
    events: EventStream,
    page: Option<Result<Vec<EventEnvelope>, Error>>,
}

/// What happened next.
enum Turn {
    Handled(Handled),
    Retry(StreamId),
    Read(HeldPage),
    Taken(Taken),
    Saved(Result<(), Error>),
    MaySave,
    Asked(Request),
    OutOfTime,
}

impl<'a, S: EventLog + CheckpointStore> Session<'a, S> {
    pub(super) fn new(unit: &'a Unit<S>, mark: Mark) -> Self {
        let after = mark.position;
        let passed_until = passed_until(&unit.shared.view().parked);
        Self {
            unit,
            settled: Settled::after(mark),
            lanes: Lanes::default(),
            running: FuturesUnordered::new(),
            retries: FuturesUnordered::new(),
            reads: FuturesUnordered::new(),
            resuming: HashMap::new(),
            events: Some(unit.store.subscribe(Subscribe::All { after })),
            taking: None,
            saving: None,
            pause: None,
            dirty: false,
            passed_until,
            ahead: HashMap::new(),
            after_saving: Vec::new(),
            being_saved: Vec::new(),
            ending: None,
            stops_then: false,
            turns: 0,
            met_closed: false,
        }
    }

    pub(super) async fn run(mut self) -> Result<End, Error> {
        loop {
            if self.ending.is_none() {
                self.begin_handlers();
                self.begin_taking();
            } else if self.running.is_empty()
                && self.saving.is_none()
                && let Some((end, _)) = self.ending.take()
            {
                return self.finish(end).await;
            }
            self.begin_saving()?;
            if std::mem::take(&mut self.met_closed) && self.unit.is_closed().await {
                self.fail(Error::Closed);
                continue;
            }
            self.publish();
            let turn = poll_fn(|cx| self.poll_turn(cx)).await;
            match turn {
                Turn::Handled(handled) => self.handled(handled),
                Turn::Retry(stream) => self.lanes.again(stream),
                Turn::Read(page) => self.read(page),
                Turn::Taken(taken) => self.taken(taken),
                Turn::Saved(saved) => self.saved(saved),
                Turn::MaySave => self.pause = None,
                Turn::Asked(request) => self.asked(request),
                // Dropped where they stand; their events come again.
                Turn::OutOfTime => {
                    self.running.clear();
                    if let Some((_, deadline)) = &mut self.ending {
                        *deadline = Box::pin(std::future::pending());
                    }
                }
            }
        }
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        self.turns += 1;
        if self.turns == TURNS {
            self.turns = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // Handlers come late: those that never wait would let nothing after them have a turn.
        if let Poll::Ready(request) = self.unit.shared.requests().poll_next(cx) {
            return Poll::Ready(Turn::Asked(request));
        }
        if let Poll::Ready(saved) = poll_in(&mut self.saving, cx) {
            return Poll::Ready(Turn::Saved(saved));
        }
        if let Some((_, deadline)) = &mut self.ending {
            if deadline.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Turn::OutOfTime);
            }
            return match self.running.poll_next_unpin(cx) {
                Poll::Ready(Some(handled)) => Poll::Ready(Turn::Handled(handled)),
                _ => Poll::Pending,
            };
        }
        if let Poll::Ready(()) = poll_in(&mut self.pause, cx) {
            return Poll::Ready(Turn::MaySave);
        }
        if let Poll::Ready(Some(stream)) = self.retries.poll_next_unpin(cx) {
            return Poll::Ready(Turn::Retry(stream));
        }
        if let Poll::Ready(Some(page)) = self.reads.poll_next_unpin(cx) {
            return Poll::Ready(Turn::Read(page));
        }
        if let Poll::Ready(Some(handled)) = self.running.poll_next_unpin(cx) {
            return Poll::Ready(Turn::Handled(handled));
        }
        poll_in(&mut self.taking, cx).map(Turn::Taken)
    }

    /// Hands out events, as many at once as may be.
    fn begin_handlers(&mut self) {
        while self.running.len() < self.unit.options.concurrency.max(1) {
            let Some(event) = self.lanes.begin(self.unit.tools.clock.now()) else {
                return;
            };
            if self.unit.store.is_superseded(&event) {
                // It gave way while it waited.
                self.succeeded(&event);
                continue;
            }
            let attempt = Arc::clone(&self.unit.handler).handle(Arc::clone(&event));
            self.running.push(Box::pin(async move {
                let result = attempt.await;
                Handled { event, result }
            }));
        }
    }

    /// Reads on, while there is room. What a power cut could still take is not handed out.
    fn begin_taking(&mut self) {
        let has_room = self.lanes.bytes() < self.unit.options.in_flight_bytes.max(1)
            && self.settled.span() < MAX_SPAN;
        if !has_room {
            return;
        }
        if let Some(mut events) = self.events.take() {
            let store = self.unit.store.clone();
            self.taking = Some(Box::pin(async move {
                let mut page = events.next_page().await;
                if let Some(Ok(events)) = &page
                    && let Some(last) = events.last().and_then(|event| event.position)
                    && let Err(error) = store.make_durable(last).await
                {
                    page = Some(Err(error));
                }
                Taken { events, page }
            }));
        }
    }

    fn begin_saving(&mut self) -> Result<(), Error> {
        let is_due = self.pause.is_none() || !self.after_saving.is_empty();
        if !self.dirty || !is_due || self.saving.is_some() || self.ending.is_some() {
            return Ok(());
        }
        self.dirty = false;
        self.being_saved.append(&mut self.after_saving);
        let state = self.state().encode()?;
        let (store, shared) = (self.unit.store.clone(), Arc::clone(&self.unit.shared));
        let position = self.settled.mark().position;
        self.saving = Some(Box::pin(async move {
            store.save(shared.name(), position, state).await
        }));
        let every = self.unit.options.save_every;
        self.pause = Some(self.unit.tools.sleeper.sleep(every));
        Ok(())
    }

    fn saved(&mut self, saved: Result<(), Error>) {
        for reply in self.being_saved.drain(..) {
            answer(reply, saved.clone());
        }
        if let Err(error) = saved {
            // Tried once more at the end: nobody shall believe that it is saved.
            self.dirty = true;
            self.fail(error);
        }
    }

    fn state(&self) -> ListenerState {
        ListenerState {
            mark: self.settled.mark(),
            parked: self.unit.shared.view().parked.clone(),
        }
    }

    /// Saves what is not saved, and says how it ended.
    async fn finish(mut self, end: End) -> Result<End, Error> {
        if self.stops_then {
            self.unit.shared.requests().ask(Request::Stop);
        }
        let why = self.unit.shared.was_told_to_stop();
        for reply in self.resuming.drain().flat_map(|(_, replies)| replies) {
            answer(reply, Err(why.clone()));
        }
        let is_open = !matches!(end, End::Closed);
        self.note_ahead();
        if is_open && (self.dirty || !self.after_saving.is_empty()) {
            let saved = self.unit.save(&self.state()).await;
            for reply in self.after_saving.drain(..) {
                answer(reply, saved.clone());
            }
            match (&end, saved) {
                // The first failure is the one to tell.
                (End::Failed(_), _) => {}
                (End::Replay { .. } | End::Stop | End::Closed, saved) => saved?,
            }
        }
        self.publish();
        Ok(end)
    }

    pub(super) fn end(&mut self, end: End) {
        if self.ending.is_none() {
            let stop_within = self.unit.options.stop_within;
            let deadline = self.unit.tools.sleeper.sleep(stop_within);
            self.taking = None;
            self.pause = None;
            self.retries.clear();
            self.ending = Some((end, deadline));
        }
    }

    /// Ends because of an error that is not an event's.
    pub(super) fn fail(&mut self, error: Error) {
        match error {
            Error::Closed => {
                // Nothing can be saved, and nothing is waited for.
                self.running.clear();
                self.end(End::Closed);
            }
            error => self.end(End::Failed(error)),
        }
    }

    fn taken(&mut self, taken: Taken) {
        let page = match taken.page {
            Some(Ok(page)) => page,
            Some(Err(error)) => return self.fail(error),
            None => return self.fail(Error::Closed),
        };
        self.events = Some(taken.events);
        for event in page {
            // Every record of a log has one.
            if let Some(mark) = Mark::of(&event)
                && mark.position > self.settled.taken()
            {
                self.settled.take(mark);
                self.take(event, mark.position);
            }
        }
    }

    fn take(&mut self, event: EventEnvelope, position: u64) {
        if let Some(what) = Superseded::of(&event) {
            return self.take_superseded(event, &what);
        }
        if self.unit.store.is_superseded(&event) {
            return self.settle(position);
        }
        // Asked before the lock is taken: it is the user's code.
        let wanted = event.kind != RecordKind::Control && self.unit.handler.takes(&event);
        let is_free = {
            let mut view = self.unit.shared.view();
            match view.parked.get_mut(&event.stream) {
                None => true,
                // Handled before its stream was parked, or taken in since.
                Some(parked) if event.sequence < parked.sequence => false,
                Some(parked) if parked.held() == 0 => true,
                Some(parked) => {
                    if wanted {
                        parked.last_sequence = parked.last_sequence.max(event.sequence);
                    }
                    false
                }
            }
        };
        if wanted && is_free {
            self.lanes.push(event.stream.clone(), ready_to_wait(event));
        } else {
            self.settle(position);
        }
    }

    pub(super) fn settle(&mut self, position: u64) {
        if self.settled.settle(position) {
            self.dirty = true;
            self.forget_passed();
        }
    }

    fn handled(&mut self, handled: Handled) {
        let Handled { event, result } = handled;
        match result {
            Ok(()) => self.succeeded(&event),
            Err(error) if error.is_closed() => {
                // Whose store it is that was closed is looked at before anything follows from it.
                self.met_closed = true;
                let attempts = self.lanes.failed(&event.stream);
                if !self.try_again(&event.stream, attempts) {
                    self.give_up(&event, &error, attempts);
                }
            }
            // It gave way while it was handled: nothing more is to be done for it.
            Err(_) if self.unit.store.is_superseded(&event) => self.succeeded(&event),
            Err(error) => {
                if let Some(refused @ Error::Refused { .. }) = error.cause().downcast_ref() {
                    // The store's failure, not the event's: no stream is parked for it.
                    return self.fail(refused.clone());
                }
                let attempts = self.lanes.failed(&event.stream);
                if error.is_permanent() || !self.try_again(&event.stream, attempts) {
                    self.give_up(&event, &error, attempts);
                } else {
                    tracing::debug!(
                        listener = self.unit.shared.name(), stream = %event.stream, attempts, %error,
                        "an event was not handled; it is tried again"
                    );
                }
            }
        }
    }

    /// Lets the stream's event be tried again after a wait; false when it was tried often enough.
    fn try_again(&mut self, stream: &StreamId, attempts: u32) -> bool {
        // The two upper bits of this half of a UUID are always the same.
        let random = self.unit.tools.ids.next_uuid().as_u64_pair().1 << 2;
        let Some(wait) = self.unit.options.retry.delay(attempts, random) else {
            return false;
        };
        let (stream, wait) = (stream.clone(), self.unit.tools.sleeper.sleep(wait));
        self.retries.push(Box::pin(async move {
            wait.await;
            stream
        }));
        true
    }

    fn succeeded(&mut self, event: &EventEnvelope) {
        let is_held = self.lanes.is_held(&event.stream);
        let next = self.lanes.done(&event.stream);
        // A record has no place in its stream, and what gave way has none any more.
        if event.kind == RecordKind::Control || self.unit.store.is_superseded(event) {
            if !is_held || event.kind == RecordKind::Control {
                self.settle(event.position.unwrap_or(0));
            }
            if next == Next::Read {
                self.read_held(&event.stream);
            }
            return;
        }
        if !is_held {
            if let Some(position) = event.position {
                let ahead = Ahead {
                    event_id: event.event_id,
                    position,
                    sequence: event.sequence,
                };
                self.ahead.insert(event.stream.clone(), ahead);
                self.settle(position);
            }
            return;
        }
        self.pass_held(&event.stream, Passed::event(event));
        if next == Next::Read {
            self.read_held(&event.stream);
        }
    }

    fn asked(&mut self, request: Request) {
        match request {
            Request::Stop if self.ending.is_some() => self.stops_then = true,
            Request::Stop => self.end(End::Stop),
            Request::Retry { reply } => answer(reply, Ok(())),
            Request::Replay { position, reply } => {
                let check = self.unit.check_position(position.saturating_sub(1));
                match check {
                    Err(error) => answer(reply, Err(error)),
                    Ok(()) if self.ending.is_some() => {
                        answer(reply, Err(self.unit.shared.was_told_to_stop()));
                    }
                    Ok(()) => self.end(End::Replay { position, reply }),
                }
            }
            Request::Resume {
                stream,
                skip,
                reply,
            } => self.resume(&stream, skip, reply),
        }
    }

    /// Lets others see how far it is.
    fn publish(&self) {
        let mark = self.settled.mark();
        let mut view = self.unit.shared.view();
        let moved = view.mark != mark;
        view.mark = mark;
        view.last_position = self.unit.store.last_position();
        view.taken = self.settled.span();
        view.in_flight = self.running.len();
        view.in_flight_since = self.lanes.oldest();
        view.retrying = self.retries.len();
        drop(view);
        if moved {
            self.unit.shared.notify();
        }
    }
}

impl Queued for EventEnvelope {
    fn bytes(&self) -> usize {
        ENVELOPE_BYTES + self.event.len()
    }
}

/// An event that waits must not keep the whole read alive that it came with.
pub(crate) fn ready_to_wait(mut event: EventEnvelope) -> EventEnvelope {
    if event.event.len() <= COPIED_BYTES {
        event.event = Bytes::copy_from_slice(&event.event);
    }
    event
}

pub(crate) fn poll_in<T>(
    slot: &mut Option<BoxFuture<'static, T>>,
    cx: &mut Context<'_>,
) -> Poll<T> {
    let Some(future) = slot else {
        return Poll::Pending;
    };
    let output = std::task::ready!(Pin::new(future).poll(cx));
    *slot = None;
    Poll::Ready(output)
}
