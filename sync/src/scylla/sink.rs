//! The sink that makes the replica: what the replicator asks of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::StreamExt;
use tidelog_backends::commits::{Commit, CommitEnd};
use tidelog_backends::wire::{Wire, WireError};
use tidelog_core::{Error, IdSource, StreamId, Ticks};

use super::ask::trouble;
use super::connect::Caller;
use super::doubting::Doubting;
use super::link::Link;
use super::watermark::stop;
use crate::replicate::outbox::Identity;
use crate::replicate::outbox::Outbox;
use crate::replicate::published::Published;
use crate::replicate::sink::{After, Asked, Begin, Load, Other, Sink, Step, Stop};
use crate::scylla::parked::ReplicationParked;
use crate::scylla::state::Keeper;
use crate::scylla::state::SinkState;
use crate::scylla::status::{Counts, ReplicationStatus};

/// Answers worked through before others are let in.
const TURNS: usize = 64;
/// Records before the watermark that a connection begins with, at least; as many after a start.
const OVERLAP: u64 = 1_000;
/// How long before its end what a connection got accepted is looked at again by the next.
const OVERLAP_TIME: Duration = Duration::from_secs(30);

/// What the sink is made with.
#[derive(Clone)]
pub(crate) struct ScyllaOptions {
    /// Whom it speaks to, for errors.
    pub server: Box<str>,
    /// What this store calls itself at the server.
    pub name: Box<str>,
    /// Streams written to at once.
    pub lanes: usize,
    /// Most streams that are parked at once.
    pub parked: usize,
    /// Records before the watermark that the first connection begins with.
    pub overlap: u64,
    pub ids: Arc<dyn IdSource>,
    pub ticks: Arc<dyn Ticks>,
}

/// What a user asks of the sink.
pub(crate) enum SinkMessage {
    /// Tries a parked stream as it is.
    Retry(StreamId),
    /// Goes on in an epoch of its own.
    Fork(Other),
    /// Sends everything again.
    Resync,
}

impl Asked for SinkMessage {
    fn needs_connection(&self) -> bool {
        matches!(self, Self::Retry(_))
    }

    fn changes_what_is_known(&self) -> bool {
        matches!(self, Self::Fork(_))
    }
}

pub(crate) struct ScyllaSink {
    pub(super) wire: Arc<dyn Wire>,
    pub(super) doubting: Arc<Doubting>,
    pub(super) options: ScyllaOptions,
    /// The connections there are, if any, are not to be trusted.
    pub(super) is_fresh_wanted: bool,
    pub(super) counts: Counts,
    pub(super) link: Option<Box<Link>>,
    /// What of the log is published.
    pub(super) published: Arc<Published>,
    /// When how much was settled, a second apart, newest last.
    pace: VecDeque<(Duration, u64)>,
}

impl ScyllaSink {
    pub(crate) fn new(wire: Arc<dyn Wire>, options: ScyllaOptions) -> Self {
        let doubting = Arc::new(Doubting::new(wire));
        Self {
            wire: Arc::<Doubting>::clone(&doubting),
            doubting,
            options,
            is_fresh_wanted: true,
            counts: Counts::default(),
            link: None,
            published: Arc::default(),
            pace: VecDeque::new(),
        }
    }

    /// The same, which tells the server what is published, too.
    #[cfg(feature = "kafka")]
    pub(crate) fn telling(mut self, published: Arc<Published>) -> Self {
        self.published = published;
        self
    }

    /// Whether there is news of what is published.
    fn poll_published(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(link) = &mut self.link else {
            return false;
        };
        let published = &self.published;
        let news = link.published_news.get_or_insert_with(|| {
            let (published, known) = (Arc::clone(published), published.get());
            Box::pin(async move { published.changed(known).await })
        });
        let is_news = news.as_mut().poll(cx).is_ready();
        if is_news {
            link.published_news = None;
        }
        is_news
    }

    pub(super) fn stop(&self, error: WireError, action: &str) -> Stop {
        stop(error, action, &self.options.server)
    }

    fn caller<'a>(&'a self, outbox: &'a Arc<dyn Outbox>) -> Caller<'a> {
        Caller {
            wire: &*self.wire,
            outbox,
            ids: &*self.options.ids,
            server: &self.options.server,
            name: &self.options.name,
        }
    }

    /// Connects anew, if what there is is not to be trusted.
    async fn renew(&mut self) -> Result<(), WireError> {
        if self.is_fresh_wanted || self.doubting.is_dead() {
            self.wire.renew().await?;
            self.is_fresh_wanted = false;
        }
        Ok(())
    }

    /// How many records before the watermark it begins with.
    fn overlap(&self) -> u64 {
        let (Some((since, _)), Some((_, newest))) = (self.pace.front(), self.pace.back()) else {
            return self.options.overlap;
        };
        let now = self.options.ticks.now();
        let lately = if now.saturating_sub(*since) > OVERLAP_TIME * 2 {
            0
        } else {
            let before = self.pace.front().map_or(0, |(_, settled)| *settled);
            newest.saturating_sub(before)
        };
        lately.max(self.options.overlap.min(OVERLAP))
    }

    pub(super) fn keep_pace(&mut self, settled: u64) {
        let now = self.options.ticks.now();
        self.pace.push_back((now, settled));
        while self.pace.len() > 2
            && let Some((second, _)) = self.pace.get(1)
            && now.saturating_sub(*second) > OVERLAP_TIME
        {
            self.pace.pop_front();
        }
    }
}

impl Sink for ScyllaSink {
    const NAME: &'static str = "scylla";
    const STATE: &'static str = crate::sinks::replication::NAME;

    type Kept = SinkState;
    type Ask = SinkMessage;
    type Status = ReplicationStatus;

    fn span(identity: &Identity) -> tracing::Span {
        let (origin, epoch) = (identity.origin, identity.epoch);
        tracing::info_span!("replication", sink = Self::NAME, %origin, %epoch)
    }

    async fn connect<'a>(
        &'a mut self,
        outbox: &'a Arc<dyn Outbox>,
        keeper: &'a mut Keeper,
    ) -> Result<Begin, Stop> {
        let renewed = self.renew().await;
        renewed.map_err(|error| self.stop(error, "connect"))?;
        let greeting = self.caller(outbox).connect(keeper).await?;
        let settled = greeting.settled;
        let after = settled.position.saturating_sub(self.overlap());
        if greeting.was_lost {
            tracing::warn!(
                verify_below = greeting.verify_below,
                "the server lost what it had of this store; everything is sent again"
            );
        }
        self.counts.watermark = greeting.watermark.position;
        let rewinds_to = if settled.position == 0 {
            greeting.verify_below
        } else {
            0
        };
        let link = Link::new(
            greeting,
            outbox.last(),
            after,
            self.options.overlap,
            self.options.ticks.now(),
        );
        self.link = Some(Box::new(link));
        Ok(Begin {
            after,
            settled,
            rewinds_to,
        })
    }

    fn take(
        &mut self,
        commit: &Arc<Commit>,
        _outbox: &dyn Outbox,
        keeper: &mut Keeper,
    ) -> Result<(), Stop> {
        match &mut self.link {
            Some(link) => link.take(commit, keeper).map_err(Stop::local),
            None => Ok(()),
        }
    }

    fn poll_step(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &Arc<dyn Outbox>,
        keeper: &mut Keeper,
    ) -> Poll<Result<Step, Stop>> {
        let mut has_moved = self.poll_published(cx);
        let settled = self.settled();
        let now = self.options.ticks.now();
        for _ in 0..TURNS {
            self.send(now, outbox, keeper)?;
            if let Poll::Ready(noted) = self.poll_noting(cx) {
                self.noted(noted, keeper)?;
                has_moved = true;
            }
            let Some(link) = &mut self.link else {
                return Poll::Pending;
            };
            match link.running.poll_next_unpin(cx) {
                Poll::Ready(Some(answer)) => {
                    link.heard = now;
                    self.answered(answer, outbox, keeper)?;
                    has_moved = true;
                }
                Poll::Ready(None) | Poll::Pending => {
                    break;
                }
            }
        }
        self.judge_suspects()?;
        let Some(link) = &self.link else {
            return Poll::Pending;
        };
        if link.is_again_wanted {
            return Poll::Ready(Ok(Step::Again));
        }
        if link.is_rewind_wanted {
            return Poll::Ready(Ok(Step::Rewind));
        }
        // Something may settle by what is sent next, too: nobody else says so.
        if has_moved || self.settled() != settled {
            self.keep_settled(keeper);
            if let Some(link) = &mut self.link {
                link.note_first_end();
            }
            return Poll::Ready(Ok(Step::Progress));
        }
        Poll::Pending
    }

    fn settled(&self) -> CommitEnd {
        match &self.link {
            Some(link) => link.settled(),
            None => CommitEnd {
                number: 0,
                position: 0,
                hash: [0; 32],
            },
        }
    }

    fn load(&self) -> Load {
        self.link.as_ref().map_or_else(Load::default, |link| Load {
            bytes: link.progress.bytes(),
            records: link.progress.records(),
        })
    }

    fn is_idle(&self) -> bool {
        self.link.as_ref().is_none_or(|link| {
            link.commits.is_empty()
                && link.lanes.is_empty()
                && link.log.is_idle()
                && link.pending.is_empty()
                && link.noted.is_empty()
                && link.running.is_empty()
                && link.noting.is_none()
        })
    }

    fn is_level(&self) -> bool {
        self.link.as_ref().is_none_or(|link| {
            let told = link.greeting.published;
            link.settled().position == link.greeting.watermark.position
                && self.published.get().is_none_or(|at| at == told)
                && link.noting.is_none()
        })
    }

    fn note(&mut self, _keeper: &Keeper) {
        if let Some(link) = &mut self.link {
            link.is_note_wanted = true;
            let settled = link.settled().position;
            self.keep_pace(settled);
        }
    }

    fn probe(&mut self, keeper: &Keeper) {
        if let Some(link) = &mut self.link {
            link.probe(&self.wire, keeper);
        }
    }

    fn disconnect(&mut self, fresh: bool) {
        self.is_fresh_wanted |= fresh;
        self.link = None;
    }

    async fn message<'a>(
        &'a mut self,
        message: SinkMessage,
        outbox: &'a Arc<dyn Outbox>,
        keeper: &'a mut Keeper,
    ) -> Result<After, Error> {
        match message {
            SinkMessage::Resync => {
                let identity = outbox.identity();
                keeper.change().settled = identity.genesis();
                Ok(After::Again)
            }
            SinkMessage::Retry(stream) => {
                self.retry(&stream, outbox, keeper)?;
                Ok(After::GoOn)
            }
            SinkMessage::Fork(other) => {
                let renewed = self.renew().await;
                renewed.map_err(|error| trouble("fork this store", &error))?;
                self.caller(outbox).fork(other, keeper).await?;
                Ok(After::Again)
            }
        }
    }

    fn counts(&self) -> Counts {
        self.counts
    }

    fn listed(state: &SinkState) -> Arc<[ReplicationParked]> {
        let entries = state.parked.values();
        let listed = entries.filter(|entry| entry.resolved_at == 0);
        listed.map(ReplicationParked::from).collect()
    }
}
