//! One connection at work: what is read, sent, saved and told, in which order.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tidelog_backends::commits::Commit;
use tidelog_core::{BoxFuture, Error};

use super::backoff::Backoff;
use super::keeper::{Keeper, KeptState};
use super::mailbox::Message;
use super::replicator::{Ended, NOTE_EVERY, Replicator, Told};
use super::report::Report;
use super::sink::{Begin, Sink, Step, Stop};
use super::wake::Wake;

/// How long the server is waited for when the store is closed, at most.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// A connection at work.
pub(super) struct Session<'a, S: Sink> {
    of: &'a mut Replicator<S>,
    keeper: &'a mut Keeper<S::Kept>,
    backoff: &'a mut Backoff,
    report: &'a mut Report<S>,
    wake: &'a mut Wake,
    /// Everything up to here was read.
    read: u64,
    /// Up to here nothing was found that may be sent: a repair left it out, or only a part of a commit
    /// may.
    barren: u64,
    /// How far the log reached when the read under way began.
    reached: u64,
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

enum Turn<A> {
    Asked(Message<A>),
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
    pub(super) fn new(
        of: &'a mut Replicator<S>,
        keeper: &'a mut Keeper<S::Kept>,
        backoff: &'a mut Backoff,
        report: &'a mut Report<S>,
        wake: &'a mut Wake,
        begin: Begin,
    ) -> Self {
        of.sink.probe(keeper);
        Self {
            wake,
            probe: of.env.sleeper.sleep(of.pace.probe_every),
            noted: of.env.ticks.now(),
            read: begin.after,
            barren: 0,
            reached: 0,
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

    pub(super) async fn run(&mut self) -> Ended {
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

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Turn<S::Ask>> {
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

    async fn turned(&mut self, turn: Turn<S::Ask>) -> Result<(), Ended> {
        match turn {
            Turn::Asked(message) => match self.of.told(message, self.keeper).await {
                Told::Close => {
                    self.say_last().await;
                    Err(Ended::Closed)
                }
                Told::Again | Told::Failed => Err(Ended::Again),
                Told::Nothing => Ok(()),
            },
            Turn::Saved(saved) => saved.map_err(|error| Stop::local(error).into()),
            Turn::Stepped(stepped) => self.stepped(stepped?),
            Turn::Read(read) => {
                let commits = read.map_err(Stop::local)?;
                if commits.is_empty() {
                    self.barren = self.reached.min(self.of.outbox.durable());
                }
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

    /// Tells the server how far this is before all of it ends: others would not see the newest events
    /// until the store is opened again. Whoever closes the store waits for this.
    async fn say_last(&mut self) {
        let mut over = self.of.env.sleeper.sleep(CLOSE_WITHIN);
        let (sink, outbox, keeper) = (&mut self.of.sink, &self.of.outbox, &mut *self.keeper);
        poll_fn(|cx| {
            while !sink.is_level() && over.as_mut().poll(cx).is_pending() {
                sink.note(keeper);
                let saved = keeper.poll(cx, outbox);
                match (sink.poll_step(cx, outbox, keeper), saved) {
                    (Poll::Ready(Ok(Step::Progress)), Poll::Ready(Ok(())) | Poll::Pending)
                    | (Poll::Pending, Poll::Ready(Ok(()))) => {}
                    (Poll::Pending, Poll::Pending) => return Poll::Pending,
                    (Poll::Ready(_), _) | (_, Poll::Ready(Err(_))) => break,
                }
            }
            Poll::Ready(())
        })
        .await;
    }

    fn stepped(&mut self, step: Step) -> Result<(), Ended> {
        let now = self.of.env.ticks.now();
        self.backoff.progress(now);
        match step {
            Step::Again => Err(Ended::Again),
            Step::Rewind => {
                // Kept like this until the watermark is back, too.
                let identity = self.of.outbox.identity();
                self.keeper.change().set_settled(identity.genesis());
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
        let durable = self.of.outbox.durable();
        // What may be sent can become less, and more again.
        self.barren = self.barren.min(durable);
        if durable > self.read.max(self.barren) {
            (self.news, self.reached) = (None, durable);
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
            (false, Some(_)) => {
                self.tick = None;
                // As it stands while nothing moves.
                self.report.gauges(&self.of.sink);
            }
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
