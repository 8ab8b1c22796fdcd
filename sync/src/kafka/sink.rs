//! The sink that publishes: what the replicator asks of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tidelog_backends::commits::{Commit, CommitEnd};
use tidelog_core::{Error, StreamId};
use uuid::Uuid;

use super::broker::{Broker, OriginRecord, Report};
use super::config::KafkaConfig;
use super::denials::Denials;
use super::link::Link;
use super::message::Encoder;
use super::park::PublishingParked;
use super::republish::{Over, Waiting, republish};
use super::state::{self, KafkaState, Keeper};
use super::status::{Counts, PublishingStatus};
use super::topic_gates::Topics;
use super::window::Watchdog;
use crate::listeners::StartAt;
use crate::replicate::outbox::{Identity, Outbox};
use crate::replicate::published::Published;
use crate::replicate::replicator::Env;
use crate::replicate::sink::{After, Asked, Begin, Load, Other, Sink, Step, Stop};

/// What the sink is made with.
pub(crate) struct KafkaOptions {
    /// Whom it speaks to, for errors.
    pub server: Box<str>,
    /// What this store calls itself in handshake records.
    pub name: Box<str>,
    pub env: Env,
    /// Records before the place where it stood that are published again after a loss.
    pub overlap: u64,
    pub start: StartAt,
    /// There is no replica that knows this store: its handshake stands in Kafka.
    pub is_alone: bool,
    /// What the replica is told, if there is one.
    pub published: Arc<Published>,
}

/// What a user asks of the sink.
pub(crate) enum Ask {
    /// Tries a parked stream again.
    Retry(StreamId),
    /// Tries all of them again.
    RetryAll,
    /// Publishes these positions once more.
    Republish { from: u64, to: u64 },
    /// Tells when nothing is published once more.
    Await(Arc<Over>),
    /// Goes on in an epoch of its own.
    Fork(Other),
}

impl Asked for Ask {
    fn needs_connection(&self) -> bool {
        matches!(self, Self::Retry(_) | Self::RetryAll | Self::Await(_))
    }

    fn changes_what_is_known(&self) -> bool {
        matches!(self, Self::Fork(_))
    }
}

pub(crate) struct KafkaSink<B: Broker> {
    pub(super) broker: B,
    pub(super) options: KafkaOptions,
    pub(super) topics: Topics,
    pub(super) encoder: Encoder,
    pub(super) generation: u32,
    /// There is a producer, and it has not given up.
    pub(super) has_generation: bool,
    /// The record by which this log is claimed, as it stands; none when it has to be claimed.
    pub(super) greeted: Option<OriginRecord>,
    /// No copy had taken its place then, by the monotonic clock.
    pub(super) held_at: Duration,
    /// Something was sent since a record was begun.
    pub(super) has_sent: bool,
    /// Refusals in a row that are nobody's fault but the configuration's.
    pub(super) denials: Denials,
    pub(super) counts: Counts,
    pub(super) watchdog: Watchdog,
    pub(super) link: Option<Box<Link>>,
    /// Streams that were on their way back when the connection ended.
    pub(super) wishes: BTreeMap<StreamId, bool>,
    /// Who waits for what is published once more.
    pub(super) waiting: Waiting,
    reports: Vec<Report>,
    /// The version of what is parked by which the withheld were counted.
    pub(super) counted_parked: u64,
}

impl<B: Broker> KafkaSink<B> {
    /// For the log of `origin`.
    pub(crate) fn new(
        broker: B,
        config: &KafkaConfig,
        origin: Uuid,
        options: KafkaOptions,
    ) -> Self {
        Self {
            broker,
            topics: Topics::default(),
            encoder: Encoder::new(config, origin, &[]),
            options,
            generation: 0,
            has_generation: false,
            greeted: None,
            held_at: Duration::ZERO,
            has_sent: false,
            denials: Denials::default(),
            counts: Counts::default(),
            watchdog: Watchdog::new(),
            link: None,
            wishes: BTreeMap::new(),
            waiting: Waiting::default(),
            reports: Vec::new(),
            counted_parked: u64::MAX,
        }
    }

    pub(super) fn begin_generation(&mut self) -> Result<(), Stop> {
        self.generation = self.generation.wrapping_add(1);
        self.counts.generations += 1;
        self.reports.clear();
        self.broker.renew(self.generation).map_err(Stop::Trouble)?;
        self.has_generation = true;
        Ok(())
    }

    /// Works on what came, once; whether anything did.
    fn work(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &dyn Outbox,
        keeper: &mut Keeper,
    ) -> Result<bool, Stop> {
        let mut has_moved = false;
        let mut reports = std::mem::take(&mut self.reports);
        match self.broker.poll_reports(cx, &mut reports) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => has_moved = true,
            Poll::Ready(Err(fatal)) => {
                self.has_generation = false;
                self.over(fatal, keeper)?;
                has_moved = true;
            }
        }
        for report in reports.drain(..) {
            self.heard(report, keeper)?;
        }
        self.reports = reports;
        has_moved |= self.poll_looking(cx)?;
        has_moved |= self.poll_probing(cx, keeper)?;
        has_moved |= self.poll_marking(cx)?;
        has_moved |= self.settle_held(keeper);
        has_moved |= self.poll_gate(cx, outbox, keeper);
        has_moved |= self.poll_reopening(cx, outbox, keeper)?;
        has_moved |= self.watch(cx)?;
        if !self.is_again_wanted() {
            self.send(outbox, keeper)?;
            self.look_for_topics(cx);
        }
        Ok(has_moved)
    }

    fn poll_gate(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &dyn Outbox,
        keeper: &mut Keeper,
    ) -> bool {
        let Some(link) = &mut self.link else {
            return false;
        };
        let is_first = link.gate_news.is_none();
        let news = link.gate_news.get_or_insert_with(|| outbox.gate_news());
        let is_news = news.as_mut().poll(cx).is_ready();
        if is_news {
            link.gate_news = None;
            cx.waker().wake_by_ref();
        }
        if is_first || is_news {
            self.reopen_gate(outbox, keeper);
        }
        is_news
    }
}

impl<B: Broker> Sink for KafkaSink<B> {
    const NAME: &'static str = "kafka";
    const STATE: &'static str = state::NAME;

    type Kept = KafkaState;
    type Ask = Ask;
    type Status = PublishingStatus;

    fn span(identity: &Identity) -> tracing::Span {
        let (origin, epoch) = (identity.origin, identity.epoch);
        tracing::info_span!("publishing", sink = Self::NAME, %origin, %epoch)
    }

    async fn connect<'a>(
        &'a mut self,
        outbox: &'a Arc<dyn Outbox>,
        keeper: &'a mut Keeper,
    ) -> Result<Begin, Stop> {
        self.connect_to(outbox, keeper).await
    }

    fn take(
        &mut self,
        commit: &Arc<Commit>,
        outbox: &dyn Outbox,
        keeper: &mut Keeper,
    ) -> Result<(), Stop> {
        self.take_commit(commit, outbox, keeper)
    }

    fn poll_step(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &Arc<dyn Outbox>,
        keeper: &mut Keeper,
    ) -> Poll<Result<Step, Stop>> {
        let Some(link) = &self.link else {
            return Poll::Pending;
        };
        // Messages say in which epoch an event was recorded, and what may pass is told of one.
        if outbox.identity().epoch != link.identity.epoch {
            return Poll::Ready(Ok(Step::Again));
        }
        let settled = link.settled();
        let (is_noting, was_marking) = (link.is_note_wanted, link.marking.is_some());
        let has_moved = self.work(cx, &**outbox, keeper)?;
        let is_due = self.link.as_ref().is_some_and(|link| link.is_proof_wanted);
        // Where one has just come, the next begins with the next step: who closes is level in between, and
        // would write records until its time is over while a message is in flight.
        if (is_noting || is_due) && !was_marking && self.begin_marking(&**outbox, keeper)? {
            // So that it is polled.
            cx.waker().wake_by_ref();
        }
        let Some(link) = &self.link else {
            return Poll::Pending;
        };
        let is_new = link.settled() != settled;
        if has_moved || is_new {
            self.keep_settled(keeper);
            self.count(keeper);
        }
        if self.is_again_wanted() {
            self.keep_what_is_lost(keeper);
            return Poll::Ready(Ok(Step::Again));
        }
        if self.ends_pass(&**outbox, keeper) {
            return Poll::Ready(Ok(Step::Again));
        }
        if has_moved || is_new {
            return Poll::Ready(Ok(Step::Progress));
        }
        Poll::Pending
    }

    fn settled(&self) -> CommitEnd {
        let nothing = CommitEnd {
            number: 0,
            position: 0,
            hash: [0; 32],
        };
        self.link.as_ref().map_or(nothing, |link| link.settled())
    }

    fn load(&self) -> Load {
        self.link.as_ref().map_or_else(Load::default, |link| Load {
            bytes: link.progress.bytes(),
            records: link.progress.records(),
        })
    }

    fn is_idle(&self) -> bool {
        self.link.as_ref().is_none_or(|link| link.is_idle())
    }

    fn is_level(&self) -> bool {
        let Some(link) = &self.link else {
            return true;
        };
        !self.options.is_alone
            || link.marking.is_none()
                && !self.has_sent
                && link.noted == Some(link.settled().position)
    }

    fn note(&mut self, _keeper: &Keeper) {
        if let Some(link) = &mut self.link {
            link.is_note_wanted = true;
        }
    }

    fn probe(&mut self, _keeper: &Keeper) {
        self.begin_probing();
    }

    fn disconnect(&mut self, fresh: bool) {
        if let Some(link) = self.link.take() {
            // Whether a record was written, nobody knows.
            self.has_sent |= link.marking.is_some();
            self.wishes.extend(link.reopening.into_wishes());
            // Lanes begin anew, and reports of theirs must not be taken for those of others.
            if link.flying.count() > 0 {
                self.has_generation = false;
            }
        }
        self.topics.reset();
        (self.counts.in_flight, self.counts.republish) = (0, None);
        self.waiting.tell_if_over();
        if fresh {
            self.greeted = None;
            self.has_generation = false;
        }
        if !self.has_generation {
            self.broker.end();
        }
    }

    async fn message<'a>(
        &'a mut self,
        message: Ask,
        outbox: &'a Arc<dyn Outbox>,
        keeper: &'a mut Keeper,
    ) -> Result<After, Error> {
        match message {
            Ask::Retry(stream) => {
                if !keeper.state().parked.contains_key(&stream) {
                    return Err(Error::invalid("stream", &stream, "it is not parked"));
                }
                self.retry([stream], keeper)
            }
            Ask::RetryAll => {
                let all: Vec<StreamId> = keeper.state().parked.keys().cloned().collect();
                self.retry(all, keeper)
            }
            Ask::Republish { from, to } => republish(from, to, &**outbox, keeper),
            Ask::Await(over) => {
                self.waiting.add(over, keeper);
                Ok(After::GoOn)
            }
            Ask::Fork(other) => {
                self.fork(other, outbox, keeper).await?;
                Ok(After::Again)
            }
        }
    }

    fn counts(&self) -> Counts {
        self.counts.clone()
    }

    fn listed(state: &KafkaState) -> Arc<[PublishingParked]> {
        state.parked.values().map(PublishingParked::from).collect()
    }
}

impl<B: Broker> KafkaSink<B> {
    fn retry(
        &mut self,
        streams: impl IntoIterator<Item = StreamId>,
        keeper: &Keeper,
    ) -> Result<After, Error> {
        if self.link.is_none() {
            return Err(Error::Unreachable {
                server: self.options.server.clone(),
                action: "try a parked stream".into(),
                reason: "there is no connection".into(),
            });
        }
        self.topics.look_now();
        for stream in streams {
            self.reopen(&stream, true, keeper);
        }
        Ok(After::GoOn)
    }

    fn is_again_wanted(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.is_again_wanted)
    }
}

impl<B: Broker> Drop for KafkaSink<B> {
    fn drop(&mut self) {
        self.broker.end();
    }
}
