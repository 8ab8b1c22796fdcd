//! Sends a log to one sink: a single future, driven by whoever polls it, with time from outside.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tidelog_backends::commits::Commit;
use tidelog_core::{BoxFuture, Error, Halt, IdSource, Sleeper, Ticks};
use tracing::Instrument;

use super::backoff::Backoff;
use super::keeper::Keeper;
use super::mailbox::{Mailbox, Message, Reply};
use super::outbox::Outbox;
use super::report::Report;
use super::sink::{After, Begin, Sink, SinkMessage, Step, Stop};
use super::status::{ReplicationState, StatusCell};
use super::wake::Wake;

/// How often the state is saved and the server told, at most.
const NOTE_EVERY: Duration = Duration::from_secs(1);

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
pub(crate) struct Replicator<S> {
    pub sink: S,
    pub outbox: Arc<dyn Outbox>,
    pub env: Env,
    pub pace: Pace,
    pub mailbox: Arc<Mailbox>,
    pub status: Arc<StatusCell>,
}

/// How a connection ended.
enum Ended {
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
        let (origin, epoch) = (identity.origin, identity.epoch);
        let span = tracing::info_span!("replication", sink = S::NAME, %origin, %epoch);
        self.work().instrument(span).await;
    }

    async fn work(mut self) {
        if let Some(mut keeper) = self.load().await {
            self.replicate(&mut keeper).await;
            if keeper.is_dirty()
                && let Err(error) = keeper.save(&self.outbox).await
                && !matches!(error, Error::Closed)
            {
                tracing::warn!(%error, "how far replication is was not saved");
            }
        }
        self.mailbox.close();
        self.status.begun();
        self.status
            .change(true, |status| status.state = ReplicationState::Closed);
    }

    /// What was kept; `None` when the store is closed.
    async fn load(&mut self) -> Option<Keeper> {
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

    async fn replicate(&mut self, keeper: &mut Keeper) {
        let mut backoff = Backoff::new();
        let mut report = Report::new(S::NAME, &self.status);
        let mut rewound = None;
        loop {
            let ended = self.connection(keeper, &mut backoff, &mut report).await;
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
                            .waits(NOTE_EVERY, keeper, &mut backoff, &mut report)
                            .await
                    {
                        return;
                    }
                }
                Ended::Trouble(error) => {
                    let fresh = backoff.failures() > 0;
                    self.sink.disconnect(fresh);
                    let delay = backoff.failed(&*self.env.ids);
                    tracing::info!(sink = S::NAME, %error, ?delay, "replication waits");
                    report.retried();
                    self.tell_waiting(&backoff, delay, error);
                    if self.waits(delay, keeper, &mut backoff, &mut report).await {
                        return;
                    }
                }
                Ended::Halt(halt) => {
                    // Whoever corrects what is wrong may have changed what was learned when connecting.
                    self.sink.disconnect(true);
                    report.halted(&halt);
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
            status.state = ReplicationState::Waiting { failures, next_in };
            status.last_error = Some(error);
        });
    }

    fn tell_halted(&self, halt: &Halt) {
        self.status.begun();
        self.status.change(true, |status| {
            status.state = ReplicationState::Halted(halt.clone());
        });
    }

    /// Waits before the next try; whether it is to end.
    async fn waits(
        &mut self,
        delay: Duration,
        keeper: &mut Keeper,
        backoff: &mut Backoff,
        report: &mut Report,
    ) -> bool {
        let mut wake = Wake::new(&*self.env.ticks);
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
    async fn stands_still(&mut self, keeper: &mut Keeper) -> bool {
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
    async fn told(&mut self, message: Message, keeper: &mut Keeper) -> Told {
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
            if matches!(status.state, ReplicationState::Halted(_)) {
                status.state = ReplicationState::Connecting;
            }
        });
    }

    async fn told_sink(&mut self, message: SinkMessage, reply: Reply, keeper: &mut Keeper) -> Told {
        let changes_what_is_known = matches!(message, SinkMessage::Fork(_));
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
        keeper: &mut Keeper,
        backoff: &mut Backoff,
        report: &mut Report,
    ) -> Ended {
        report.connecting(keeper);
        let begin = {
            let env = self.env.clone();
            let mut wake = Wake::new(&*env.ticks);
            let mut tick = env.sleeper.sleep(NOTE_EVERY);
            let connecting = self.sink.connect(&self.outbox, keeper);
            let mut connecting = pin!(connecting.instrument(tracing::info_span!("connect")));
            let mailbox = &self.mailbox;
            poll_fn(|cx| {
                if let Poll::Ready(message) = mailbox.poll_urgent(cx) {
                    return Poll::Ready(Connecting::Asked(message));
                }
                if let Poll::Ready(begin) = connecting.as_mut().poll(cx) {
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
                let mut session = Session::new(self, keeper, backoff, report, begin);
                session.run().await
            }
            Connecting::Done(Err(stop)) => stop.into(),
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

enum Connecting {
    Done(Result<Begin, Stop>),
    Asked(Message),
    Woke,
}

/// What a message came to.
enum Told {
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

/// A connection at work.
struct Session<'a, S> {
    of: &'a mut Replicator<S>,
    keeper: &'a mut Keeper,
    backoff: &'a mut Backoff,
    report: &'a mut Report,
    wake: Wake,
    /// Everything up to here was read.
    read: u64,
    reading: Option<BoxFuture<'static, Result<Vec<Arc<Commit>>, Error>>>,
    news: Option<BoxFuture<'static, Result<(), Error>>>,
    linger: Option<BoxFuture<'static, ()>>,
    syncing: Option<BoxFuture<'static, Result<(), Error>>>,
    tick: Option<BoxFuture<'static, ()>>,
    probe: BoxFuture<'static, ()>,
    /// When the server was told last.
    noted: Duration,
    /// What was there and not durable at the last tick.
    undurable: u64,
}

enum Turn {
    Asked(Message),
    Saved(Result<(), Error>),
    Stepped(Result<Step, Stop>),
    Read(Result<Vec<Arc<Commit>>, Error>),
    News(Result<(), Error>),
    Lingered,
    Synced(Result<(), Error>),
    Tick,
    Probe,
}

impl<'a, S: Sink> Session<'a, S> {
    fn new(
        of: &'a mut Replicator<S>,
        keeper: &'a mut Keeper,
        backoff: &'a mut Backoff,
        report: &'a mut Report,
        begin: Begin,
    ) -> Self {
        of.sink.probe(keeper);
        Self {
            wake: Wake::new(&*of.env.ticks),
            probe: of.env.sleeper.sleep(of.pace.probe_every),
            noted: of.env.ticks.now(),
            read: begin.after,
            reading: None,
            news: None,
            linger: None,
            syncing: None,
            tick: None,
            undurable: 0,
            of,
            keeper,
            backoff,
            report,
        }
    }

    async fn run(&mut self) -> Ended {
        loop {
            self.read_on();
            self.set_tick();
            self.report.now(
                &*self.of.outbox,
                &self.of.sink,
                self.keeper,
                self.of.env.ticks.now(),
            );
            let turn = poll_fn(|cx| self.poll_turn(cx)).await;
            if let Err(ended) = self.turned(turn).await {
                return ended;
            }
        }
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        if let Poll::Ready(message) = self.of.mailbox.poll(cx) {
            return Poll::Ready(Turn::Asked(message));
        }
        if let Poll::Ready(saved) = self.keeper.poll(cx, &self.of.outbox) {
            return Poll::Ready(Turn::Saved(saved));
        }
        let sink = &mut self.of.sink;
        if let Poll::Ready(stepped) = sink.poll_step(cx, &self.of.outbox, self.keeper) {
            return Poll::Ready(Turn::Stepped(stepped));
        }
        // What the sink wants to have saved since.
        if let Poll::Ready(saved) = self.keeper.poll(cx, &self.of.outbox) {
            return Poll::Ready(Turn::Saved(saved));
        }
        if let Poll::Ready(read) = poll_in(&mut self.reading, cx) {
            return Poll::Ready(Turn::Read(read));
        }
        if let Poll::Ready(()) = poll_in(&mut self.linger, cx) {
            return Poll::Ready(Turn::Lingered);
        }
        if let Poll::Ready(news) = poll_in(&mut self.news, cx) {
            return Poll::Ready(Turn::News(news));
        }
        if let Poll::Ready(synced) = poll_in(&mut self.syncing, cx) {
            return Poll::Ready(Turn::Synced(synced));
        }
        if let Poll::Ready(()) = poll_in(&mut self.tick, cx) {
            return Poll::Ready(Turn::Tick);
        }
        self.probe.as_mut().poll(cx).map(|()| Turn::Probe)
    }

    async fn turned(&mut self, turn: Turn) -> Result<(), Ended> {
        match turn {
            Turn::Asked(message) => match self.of.told(message, self.keeper).await {
                Told::Close => Err(Ended::Closed),
                Told::Again | Told::Failed => Err(Ended::Again),
                Told::Nothing => Ok(()),
            },
            Turn::Saved(saved) => saved.map_err(|error| Stop::local(error).into()),
            Turn::Stepped(stepped) => self.stepped(stepped?),
            Turn::Read(read) => {
                let commits = read.map_err(Stop::local)?;
                for commit in commits {
                    self.read = commit.last_position();
                    let sink = &mut self.of.sink;
                    sink.take(&commit, &*self.of.outbox, self.keeper)?;
                }
                Ok(())
            }
            Turn::News(news) => {
                news.map_err(Stop::local)?;
                // It may have slept long with nothing under way.
                self.has_slept()?;
                self.linger = Some(self.of.env.sleeper.sleep(self.of.pace.linger));
                Ok(())
            }
            Turn::Lingered => Ok(()),
            Turn::Synced(synced) => synced.map_err(|error| Stop::local(error).into()),
            Turn::Tick => self.ticked(),
            Turn::Probe => {
                self.of.sink.probe(self.keeper);
                self.probe = self.of.env.sleeper.sleep(self.of.pace.probe_every);
                Ok(())
            }
        }
    }

    fn stepped(&mut self, step: Step) -> Result<(), Ended> {
        let now = self.of.env.ticks.now();
        self.backoff.progress(now);
        match step {
            Step::Again => Err(Ended::Again),
            Step::Rewind => {
                // Kept like this until the watermark is back, too.
                let identity = self.of.outbox.identity();
                self.keeper.change().settled = identity.genesis();
                Err(Ended::Rewind)
            }
            Step::Progress => {
                let sink = &mut self.of.sink;
                let is_due = now.saturating_sub(self.noted) >= NOTE_EVERY;
                if is_due && sink.is_idle() && !sink.is_level() {
                    self.noted = now;
                    sink.note(self.keeper);
                }
                Ok(())
            }
        }
    }

    fn ticked(&mut self) -> Result<(), Ended> {
        self.has_slept()?;
        self.keeper.want();
        self.noted = self.of.env.ticks.now();
        self.of.sink.note(self.keeper);
        self.report.gauges(&self.of.sink);
        // What nobody asked to be durable is made so after a second.
        let (last, durable) = (self.of.outbox.last(), self.of.outbox.durable());
        if last <= durable {
            self.undurable = 0;
        } else if self.undurable > durable && self.syncing.is_none() {
            self.syncing = Some(self.of.outbox.make_durable());
        } else {
            self.undurable = last;
        }
        Ok(())
    }

    fn has_slept(&mut self) -> Result<(), Ended> {
        if self.wake.has_slept(&*self.of.env.ticks) {
            self.of.sink.disconnect(true);
            self.backoff.reset();
            return Err(Ended::Again);
        }
        Ok(())
    }

    /// Reads on while there is room, or waits for what comes.
    fn read_on(&mut self) {
        if self.reading.is_some() || self.linger.is_some() {
            return;
        }
        let (load, pace) = (self.of.sink.load(), &self.of.pace);
        // Not a little at a time while the window is nearly full.
        let bytes = pace.read_bytes.min(pace.window_bytes / 4).max(1);
        let is_full = load.bytes + bytes > pace.window_bytes
            || load.records + pace.window_records / 4 > pace.window_records;
        if is_full && load.records > 0 {
            return;
        }
        // Asked before what is durable: what comes between is news.
        let last = self.of.outbox.last();
        if self.of.outbox.durable() > self.read {
            self.news = None;
            self.reading = Some(self.of.outbox.read(self.read, bytes));
        } else if self.news.is_none() {
            self.news = Some(self.of.outbox.news(last.max(self.read)));
        }
    }

    /// A timer is set only while something moves.
    fn set_tick(&mut self) {
        let (sink, outbox) = (&self.of.sink, &self.of.outbox);
        let is_busy = self.keeper.is_dirty()
            || !sink.is_level()
            || !sink.is_idle()
            || outbox.last() > self.read;
        match (is_busy, &self.tick) {
            (true, None) => self.tick = Some(self.of.env.sleeper.sleep(NOTE_EVERY)),
            (false, Some(_)) => self.tick = None,
            _ => {}
        }
    }
}

fn poll_in<T>(waited: &mut Option<BoxFuture<'static, T>>, cx: &mut Context<'_>) -> Poll<T> {
    let Some(future) = waited else {
        return Poll::Pending;
    };
    let ready = future.as_mut().poll(cx);
    if ready.is_ready() {
        *waited = None;
    }
    ready
}
