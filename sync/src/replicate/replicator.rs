//! Sends a log to one sink: a single future, driven by whoever polls it, with time from outside.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tidelog_core::{Error, Halt, IdSource, Sleeper, Ticks};
use tracing::Instrument;

use super::backoff::Backoff;
use super::keeper::Keeper;
use super::mailbox::{Mailbox, Message, Reply};
use super::outbox::Outbox;
use super::report::Report;
use super::session::Session;
use super::sink::{After, Asked, Begin, Sink, Stop};
use super::status::{Phase, SinkCell, SinkStatus};
use super::wake::Wake;

/// How often the state is saved and the server told, at most.
pub(super) const NOTE_EVERY: Duration = Duration::from_secs(1);

/// Time and chance.
#[derive(Clone)]
pub(crate) struct Env {
    pub ticks: Arc<dyn Ticks>,
    pub sleeper: Arc<dyn Sleeper>,
    pub ids: Arc<dyn IdSource>,
}

/// How much is done at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Most bytes read and not settled.
    pub window_bytes: usize,
    /// Most records read and not settled.
    pub window_records: usize,
    /// Most bytes read at once.
    pub read_bytes: usize,
    /// How long it waits for more when it is level, before it reads what came.
    pub linger: Duration,
    /// How often it is looked whether the server has what it had.
    pub probe_every: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            window_bytes: 8 << 20,
            window_records: 32_768,
            read_bytes: 1 << 20,
            linger: Duration::from_millis(2),
            probe_every: Duration::from_secs(300),
        }
    }
}

/// What sends a log to a sink.
pub(crate) struct Replicator<S: Sink> {
    pub sink: S,
    pub outbox: Arc<dyn Outbox>,
    pub env: Env,
    pub pace: Pace,
    pub mailbox: Arc<Mailbox<S::Ask>>,
    pub status: Arc<SinkCell<S::Status>>,
}

/// How a connection ended.
pub(super) enum Ended {
    /// It begins anew at once.
    Again,
    /// It begins anew, from the beginning of the log.
    Rewind,
    Trouble(Error),
    Halt(Halt),
    Closed,
}

impl From<Stop> for Ended {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Halt(halt) => Self::Halt(*halt),
            Stop::Trouble(error) => Self::Trouble(error),
            Stop::Closed => Self::Closed,
        }
    }
}

impl<S: Sink> Replicator<S> {
    /// Works until the store is closed, or it is told to.
    pub(crate) async fn run(self) {
        let identity = self.outbox.identity();
        self.work().instrument(S::span(&identity)).await;
    }

    async fn work(mut self) {
        if let Some(mut keeper) = self.load().await {
            self.replicate(&mut keeper).await;
            if keeper.is_dirty()
                && let Err(error) = keeper.save(&self.outbox).await
                && !matches!(error, Error::Closed)
            {
                tracing::warn!(%error, "how far {} is was not saved", S::Status::WHAT);
            }
        }
        self.mailbox.close();
        self.status.begun();
        self.status
            .change(true, |status| status.phase = Phase::Closed);
    }

    /// What was kept; `None` when the store is closed.
    async fn load(&mut self) -> Option<Keeper<S::Kept>> {
        let mut backoff = Backoff::new();
        loop {
            match Keeper::load(S::STATE, &self.outbox).await {
                Ok(keeper) => return Some(keeper),
                Err(Stop::Closed) => return None,
                Err(Stop::Trouble(error)) => {
                    let delay = backoff.failed(&*self.env.ids);
                    self.tell_waiting(&backoff, delay, error);
                    if self.closes_within(delay).await {
                        return None;
                    }
                }
                Err(Stop::Halt(halt)) => {
                    self.tell_halted(&halt);
                    if self.forgets_or_closes(&halt).await {
                        return None;
                    }
                }
            }
        }
    }

    /// Waits for a message about a state that cannot be read; whether it is to end.
    async fn forgets_or_closes(&mut self, halt: &Halt) -> bool {
        loop {
            match poll_fn(|cx| self.mailbox.poll(cx)).await {
                Message::Close => return true,
                Message::ForgetState(reply) => {
                    let forgotten = self.outbox.forget_state(S::STATE).await;
                    self.moves();
                    answer(reply, forgotten);
                    return false;
                }
                Message::Retry(reply) => {
                    self.moves();
                    answer(reply, Ok(()));
                    return false;
                }
                Message::Sink(_, reply) => {
                    answer(reply, Err(Error::Halted(Box::new(halt.clone()))));
                }
            }
        }
    }

    /// Waits; whether it is told to end meanwhile.
    async fn closes_within(&mut self, delay: Duration) -> bool {
        let mut sleep = self.env.sleeper.sleep(delay);
        poll_fn(|cx| {
            if self.mailbox.poll_close(cx).is_ready() {
                return Poll::Ready(true);
            }
            sleep.as_mut().poll(cx).map(|()| false)
        })
        .await
    }

    async fn replicate(&mut self, keeper: &mut Keeper<S::Kept>) {
        let mut backoff = Backoff::new();
        let mut report = Report::<S>::new(&self.status);
        let mut rewound = None;
        // One for all: a sleep between two connections, or while one is made, is noticed as well.
        let mut wake = Wake::new(&*self.env.ticks);
        loop {
            let ended = self
                .connection(keeper, &mut backoff, &mut report, &mut wake)
                .await;
            report.counts(self.sink.counts());
            match ended {
                Ended::Closed => return,
                Ended::Again => self.sink.disconnect(false),
                Ended::Rewind => {
                    self.sink.disconnect(false);
                    // A server that goes on losing what it has is not asked all the time.
                    let now = self.env.ticks.now();
                    let since = rewound
                        .replace(now)
                        .map(|before| now.saturating_sub(before));
                    if since.is_some_and(|since| since < NOTE_EVERY)
                        && self
                            .waits(NOTE_EVERY, keeper, &mut backoff, &mut report, &mut wake)
                            .await
                    {
                        return;
                    }
                }
                Ended::Trouble(error) => {
                    let fresh = backoff.failures() > 0;
                    self.sink.disconnect(fresh);
                    let delay = backoff.failed(&*self.env.ids);
                    tracing::info!(sink = S::NAME, %error, ?delay, "{} waits", S::Status::WHAT);
                    report.retried();
                    self.tell_waiting(&backoff, delay, error);
                    if self
                        .waits(delay, keeper, &mut backoff, &mut report, &mut wake)
                        .await
                    {
                        return;
                    }
                }
                Ended::Halt(halt) => {
                    // Whoever corrects what is wrong may have changed what was learned when connecting.
                    self.sink.disconnect(true);
                    Report::<S>::halted(&halt);
                    report.apart(&*self.outbox, keeper, self.env.ticks.now());
                    self.tell_halted(&halt);
                    if self.stands_still(keeper).await {
                        return;
                    }
                }
            }
        }
    }

    fn tell_waiting(&self, backoff: &Backoff, next_in: Duration, error: Error) {
        let failures = backoff.failures();
        self.status.begun();
        self.status.change(true, |status| {
            status.phase = Phase::Waiting { failures, next_in };
            status.last_error = Some(error);
        });
    }

    fn tell_halted(&self, halt: &Halt) {
        self.status.begun();
        self.status.change(true, |status| {
            status.phase = Phase::Halted(halt.clone());
        });
    }

    /// Waits before the next try; whether it is to end.
    async fn waits(
        &mut self,
        delay: Duration,
        keeper: &mut Keeper<S::Kept>,
        backoff: &mut Backoff,
        report: &mut Report<S>,
        wake: &mut Wake,
    ) -> bool {
        let until = self.env.ticks.now() + delay;
        loop {
            let left = until.saturating_sub(self.env.ticks.now());
            if left.is_zero() {
                return false;
            }
            report.apart(&*self.outbox, keeper, self.env.ticks.now());
            let mut sleep = self.env.sleeper.sleep(left.min(NOTE_EVERY));
            let message = poll_fn(|cx| {
                if let Poll::Ready(message) = self.mailbox.poll(cx) {
                    return Poll::Ready(Some(message));
                }
                sleep.as_mut().poll(cx).map(|()| None)
            })
            .await;
            match message {
                Some(message) => match self.told(message, keeper).await {
                    Told::Close => return true,
                    Told::Again => {
                        backoff.reset();
                        return false;
                    }
                    Told::Failed | Told::Nothing => {}
                },
                None if wake.has_slept(&*self.env.ticks) => {
                    self.sink.disconnect(true);
                    backoff.reset();
                    return false;
                }
                None => {}
            }
        }
    }

    /// Waits for a person; whether it is to end.
    async fn stands_still(&mut self, keeper: &mut Keeper<S::Kept>) -> bool {
        loop {
            let message = poll_fn(|cx| self.mailbox.poll(cx)).await;
            match self.told(message, keeper).await {
                Told::Close => return true,
                Told::Again => return false,
                Told::Failed | Told::Nothing => {}
            }
        }
    }

    /// Does what a message asks for.
    pub(super) async fn told(
        &mut self,
        message: Message<S::Ask>,
        keeper: &mut Keeper<S::Kept>,
    ) -> Told {
        match message {
            Message::Close => Told::Close,
            Message::Retry(reply) => {
                self.moves();
                answer(reply, Ok(()));
                Told::Again
            }
            Message::ForgetState(reply) => {
                let forgotten = keeper.forget(&self.outbox).await;
                self.moves();
                answer(reply, forgotten);
                Told::Again
            }
            Message::Sink(message, reply) => self.told_sink(message, reply, keeper).await,
        }
    }

    /// Whoever asked for it, and then waits, shall not meet the halt that is over.
    fn moves(&self) {
        self.status.change(false, |status| {
            if matches!(status.phase, Phase::Halted(_)) {
                status.phase = Phase::Connecting;
            }
        });
    }

    async fn told_sink(
        &mut self,
        message: S::Ask,
        reply: Reply,
        keeper: &mut Keeper<S::Kept>,
    ) -> Told {
        let changes_what_is_known = message.changes_what_is_known();
        let done = {
            let mut working = pin!(self.sink.message(message, &self.outbox, keeper));
            let mailbox = &self.mailbox;
            poll_fn(|cx| {
                if mailbox.poll_close(cx).is_ready() {
                    return Poll::Ready(Err(Error::Closed));
                }
                working.as_mut().poll(cx)
            })
            .await
        };
        match done {
            Ok(After::GoOn) => {
                answer(reply, Ok(()));
                Told::Nothing
            }
            Ok(After::Again) => {
                self.moves();
                answer(reply, Ok(()));
                Told::Again
            }
            Err(error) => {
                answer(reply, Err(error));
                if changes_what_is_known {
                    Told::Failed
                } else {
                    Told::Nothing
                }
            }
        }
    }

    /// One connection, from the first greeting to whatever ends it.
    async fn connection(
        &mut self,
        keeper: &mut Keeper<S::Kept>,
        backoff: &mut Backoff,
        report: &mut Report<S>,
        wake: &mut Wake,
    ) -> Ended {
        report.connecting(keeper);
        let mut is_asked_again = false;
        let begin = {
            let env = self.env.clone();
            let mut tick = env.sleeper.sleep(NOTE_EVERY);
            let connecting = self.sink.connect(&self.outbox, keeper);
            let mut connecting = pin!(connecting.instrument(tracing::info_span!("connect")));
            let mailbox = &self.mailbox;
            poll_fn(|cx| {
                while let Poll::Ready(message) = mailbox.poll_urgent(cx) {
                    match message {
                        // What is under way is a try already: whoever asks often would let none end.
                        Message::Retry(reply) => {
                            is_asked_again = true;
                            answer(reply, Ok(()));
                        }
                        other => return Poll::Ready(Connecting::Asked(other)),
                    }
                }
                if let Poll::Ready(begin) = connecting.as_mut().poll(cx) {
                    while let Some(reply) = mailbox.take_retry() {
                        is_asked_again = true;
                        answer(reply, Ok(()));
                    }
                    return Poll::Ready(Connecting::Done(begin));
                }
                while tick.as_mut().poll(cx).is_ready() {
                    tick = env.sleeper.sleep(NOTE_EVERY);
                    if wake.has_slept(&*env.ticks) {
                        return Poll::Ready(Connecting::Woke);
                    }
                }
                Poll::Pending
            })
            .await
        };
        match begin {
            Connecting::Done(Ok(begin)) => {
                report.connected(&begin, keeper);
                let mut session = Session::new(self, keeper, backoff, report, wake, begin);
                session.run().await
            }
            Connecting::Done(Err(stop)) => match stop.into() {
                // It may have begun before what was corrected.
                Ended::Trouble(_) | Ended::Halt(_) if is_asked_again => {
                    self.sink.disconnect(true);
                    backoff.reset();
                    Ended::Again
                }
                ended => ended,
            },
            Connecting::Asked(message) => match self.told(message, keeper).await {
                Told::Close => Ended::Closed,
                Told::Again | Told::Failed | Told::Nothing => Ended::Again,
            },
            Connecting::Woke => {
                self.sink.disconnect(true);
                backoff.reset();
                Ended::Again
            }
        }
    }
}

enum Connecting<A> {
    Done(Result<Begin, Stop>),
    Asked(Message<A>),
    Woke,
}

/// What a message came to.
pub(super) enum Told {
    Nothing,
    Again,
    /// It failed half way: what a connection knows may not hold any more.
    Failed,
    Close,
}

fn answer(reply: Reply, answer: Result<(), Error>) {
    // Nobody waits any more when this fails.
    let _ = reply.send(answer);
}
