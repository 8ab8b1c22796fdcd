//! Shows and steers a listener over Kafka.

use std::fmt;
use std::sync::Arc;

use tidelog_core::{Error, Timestamp};

use super::replay::Replay;
use super::shared::{Request, Shared};
use super::status::{KafkaListenerStatus, KafkaParkedKey};
use crate::listeners::ListenerPhase;

/// Shows and steers a listener over Kafka; made by
/// [`KafkaContainer::control`](crate::KafkaContainer::control). Cheap to clone; it does not keep the
/// listener going.
#[derive(Clone)]
pub struct KafkaControl {
    shared: Arc<Shared>,
    replay: Arc<Replay>,
}

impl KafkaControl {
    pub(super) fn new(shared: Arc<Shared>, replay: Arc<Replay>) -> Self {
        Self { shared, replay }
    }

    /// The group.
    pub fn group(&self) -> &str {
        self.shared.group()
    }

    /// The same calls for threads without a runtime.
    pub fn blocking(&self) -> BlockingKafkaControl {
        BlockingKafkaControl(self.clone())
    }

    /// What it does and how far it is.
    pub fn status(&self) -> KafkaListenerStatus {
        self.shared.status()
    }

    /// The keys of the whole group that are parked, each with its reason, as far as this member knows.
    pub fn parked(&self) -> Vec<KafkaParkedKey> {
        let view = self.shared.view();
        view.parked.values().map(KafkaParkedKey::of).collect()
    }

    /// Handles what is held of a key, then takes it in as before; `which` is the
    /// [`stream`](KafkaParkedKey::stream) of a parked key. It is done by the member that has its
    /// partition, whichever that is. Answers when nothing of it is held any more.
    ///
    /// Cancel safe: dropping the call does not end what it began; neither does this member's end, since
    /// what is asked for is kept in Kafka.
    ///
    /// # Errors
    /// [`Error::Parked`] when an event still fails: the key is parked there again. [`Error::Gap`] when
    /// the dead-letter topic no longer has what is held. [`Error::InvalidInput`] when nothing of it is
    /// parked, [`Error::NoTopic`], [`Error::Unreachable`]; [`Error::Stopped`] when the listener stands
    /// still or is stopped meanwhile.
    pub async fn resume(&self, which: &str) -> Result<(), Error> {
        self.ask_for(which, false).await
    }

    /// Passes over the record that could not be handled, and over no other; then as
    /// [`resume`](Self::resume). It stays in the dead-letter topic. Where letters are gone there, it
    /// passes over those.
    ///
    /// # Errors
    /// As there.
    pub async fn skip(&self, which: &str) -> Result<(), Error> {
        self.ask_for(which, true).await
    }

    /// Goes on after [`Stopped`](ListenerPhase::Stopped): joins the group again, and tries again the
    /// event that failed. Does nothing while it runs.
    ///
    /// # Errors
    /// [`Error::Stopped`] when it has ended.
    pub async fn retry(&self) -> Result<(), Error> {
        let (reply, answer) = oneshot::async_channel();
        self.shared.requests().ask(Request::Retry { reply });
        let answer = answer.await;
        answer.unwrap_or_else(|_| Err(self.shared.was_told_to_stop()))
    }

    /// Lets the group begin again with the first record that its topics still have: everything is
    /// delivered anew. What is parked stays so. All members of the group must have been stopped.
    ///
    /// # Errors
    /// [`Error::ServerRefused`] while the group has members, [`Error::Unreachable`],
    /// [`Error::NoTopic`]; some places may have been moved then: call it again.
    pub async fn replay_from_beginning(&self) -> Result<(), Error> {
        self.replay.from_beginning().await
    }

    /// As [`replay_from_beginning`](Self::replay_from_beginning), with the first records that Kafka took
    /// at `time` or later.
    ///
    /// # Errors
    /// As there.
    pub async fn replay_from(&self, time: Timestamp) -> Result<(), Error> {
        self.replay.from_time(time).await
    }

    /// Returns once `condition` holds for its status, or it has ended. Cancel safe.
    pub async fn wait_until(&self, condition: impl Fn(&KafkaListenerStatus) -> bool) {
        loop {
            let changed = self.shared.changed();
            let status = self.status();
            if condition(&status) || matches!(status.phase, ListenerPhase::Ended) {
                return;
            }
            changed.await;
        }
    }

    /// Takes no more records, lets running handlers end, commits, leaves the group, and ends.
    pub fn stop(&self) {
        self.shared.requests().ask(Request::Stop);
    }

    async fn ask_for(&self, which: &str, skip: bool) -> Result<(), Error> {
        let stopped = || self.shared.was_told_to_stop();
        let (reply, answers) = oneshot::async_channel();
        let which = which.into();
        self.shared
            .requests()
            .ask(Request::Resume { which, skip, reply });
        let answers = answers.await.unwrap_or_else(|_| Err(stopped()))?;
        for answer in answers {
            answer.await.unwrap_or_else(|_| Err(stopped()))?;
        }
        Ok(())
    }
}

impl fmt::Debug for KafkaControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KafkaControl").field(&self.status()).finish()
    }
}

/// A [`KafkaControl`] whose calls block the calling thread; made by [`KafkaControl::blocking`]. Do not
/// use it inside async code, nor in a handler: it would wait for itself.
#[derive(Clone, Debug)]
pub struct BlockingKafkaControl(KafkaControl);

impl BlockingKafkaControl {
    /// The async control.
    pub fn inner(&self) -> &KafkaControl {
        &self.0
    }

    /// See [`KafkaControl::status`].
    pub fn status(&self) -> KafkaListenerStatus {
        self.0.status()
    }

    /// See [`KafkaControl::parked`].
    pub fn parked(&self) -> Vec<KafkaParkedKey> {
        self.0.parked()
    }

    /// See [`KafkaControl::stop`]: it says so, and does not wait.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// See [`KafkaControl::resume`].
    ///
    /// # Errors
    /// As there.
    pub fn resume(&self, which: &str) -> Result<(), Error> {
        pollster::block_on(self.0.resume(which))
    }

    /// See [`KafkaControl::skip`].
    ///
    /// # Errors
    /// As there.
    pub fn skip(&self, which: &str) -> Result<(), Error> {
        pollster::block_on(self.0.skip(which))
    }

    /// See [`KafkaControl::retry`].
    ///
    /// # Errors
    /// As there.
    pub fn retry(&self) -> Result<(), Error> {
        pollster::block_on(self.0.retry())
    }

    /// See [`KafkaControl::replay_from_beginning`].
    ///
    /// # Errors
    /// As there.
    pub fn replay_from_beginning(&self) -> Result<(), Error> {
        pollster::block_on(self.0.replay_from_beginning())
    }

    /// See [`KafkaControl::replay_from`].
    ///
    /// # Errors
    /// As there.
    pub fn replay_from(&self, time: Timestamp) -> Result<(), Error> {
        pollster::block_on(self.0.replay_from(time))
    }

    /// See [`KafkaControl::wait_until`].
    pub fn wait_until(&self, condition: impl Fn(&KafkaListenerStatus) -> bool) {
        pollster::block_on(self.0.wait_until(condition));
    }
}
