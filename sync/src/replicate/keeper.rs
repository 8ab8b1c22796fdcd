//! Keeps a sink's state: what must be durable before something else is done, and what may wait.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tidelog_backends::commits::CommitEnd;
use tidelog_core::{BoxFuture, Error, Halt};
use uuid::Uuid;

use super::outbox::{Identity, Outbox};
use super::sink::Stop;

/// What a sink keeps between two runs: saved as one, so that its parts cannot disagree.
pub(crate) trait KeptState: Sized + Send {
    /// What is known of a log before anything is.
    fn unknown(identity: &Identity) -> Self;

    /// The origin of the log that it speaks of.
    fn origin(&self) -> Uuid;

    /// The epoch that it speaks of.
    fn epoch(&self) -> Uuid;

    /// The session that was claimed last; nil before the first claim.
    fn session(&self) -> Uuid;

    /// Everything up to here is settled.
    fn settled(&self) -> CommitEnd;

    fn set_settled(&mut self, settled: CommitEnd);

    /// What is kept even where a person asks for all to be forgotten; nothing, as a rule.
    fn left_when_forgotten(&self, identity: &Identity) -> Option<Self> {
        let _ = identity;
        None
    }

    /// The state as bytes.
    fn encode(&self) -> Result<Bytes, Error>;

    /// The state from its bytes; what is wrong with them otherwise.
    fn decode(bytes: &[u8]) -> Result<Self, String>;
}

/// A sink's state in memory, and how much of it is saved.
pub(crate) struct Keeper<K> {
    name: &'static str,
    state: K,
    /// How often it was changed; what is saved is a revision of it.
    revision: u64,
    saved: u64,
    /// How often what is parked was changed.
    parked: u64,
    /// The revision that somebody waits for.
    wanted: u64,
    saving: Option<(u64, BoxFuture<'static, Result<(), Error>>)>,
}

impl<K: KeptState> Keeper<K> {
    /// Loads what was saved under `name`. A state of another origin does not count.
    pub(crate) async fn load(name: &'static str, outbox: &Arc<dyn Outbox>) -> Result<Self, Stop> {
        let identity = outbox.identity();
        let loaded = outbox.load_state(name).await;
        let damaged = |reason: String| {
            Stop::from(Halt::StateDamaged {
                reason: reason.into(),
            })
        };
        let bytes = loaded.map_err(|error| match error {
            error @ Error::Damaged { .. } => damaged(error.to_string()),
            error => Stop::local(error),
        })?;
        let state = match bytes {
            None => None,
            Some(bytes) => Some(K::decode(&bytes).map_err(damaged)?),
        };
        let of_this_log = state.filter(|state| state.origin() == identity.origin);
        Ok(Self {
            name,
            state: of_this_log.unwrap_or_else(|| K::unknown(&identity)),
            revision: 0,
            saved: 0,
            parked: 0,
            wanted: 0,
            saving: None,
        })
    }

    pub(crate) fn state(&self) -> &K {
        &self.state
    }

    /// Changes it, to be saved some time.
    pub(crate) fn change(&mut self) -> &mut K {
        self.revision += 1;
        &mut self.state
    }

    /// Changes what is parked, to be saved some time.
    pub(crate) fn change_parked(&mut self) -> &mut K {
        self.parked += 1;
        self.change()
    }

    /// How often what is parked was changed.
    pub(crate) fn parked_version(&self) -> u64 {
        self.parked
    }

    /// Changes what is parked, to be saved at once; [`is_saved`](Self::is_saved) tells when the revision that this
    /// answers is.
    pub(crate) fn change_now(&mut self, change: impl FnOnce(&mut K)) -> u64 {
        change(self.change_parked());
        self.wanted = self.revision;
        self.revision
    }

    pub(crate) fn is_saved(&self, revision: u64) -> bool {
        self.saved >= revision
    }

    /// Whether something is not saved.
    pub(crate) fn is_dirty(&self) -> bool {
        self.saved < self.revision
    }

    /// Asks for what is not saved to be saved.
    pub(crate) fn want(&mut self) {
        self.wanted = self.revision;
    }

    /// Saves what is wanted; ready when something was saved since, or failed to be.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &Arc<dyn Outbox>,
    ) -> Poll<Result<(), Error>> {
        if self.saving.is_none() {
            if self.wanted <= self.saved {
                return Poll::Pending;
            }
            match self.begin(outbox) {
                Ok(saving) => self.saving = Some(saving),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        let Some((revision, saving)) = &mut self.saving else {
            return Poll::Pending;
        };
        let revision = *revision;
        match saving.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(done) => {
                self.saving = None;
                if done.is_ok() {
                    self.saved = revision;
                }
                Poll::Ready(done)
            }
        }
    }

    fn begin(
        &self,
        outbox: &Arc<dyn Outbox>,
    ) -> Result<(u64, BoxFuture<'static, Result<(), Error>>), Error> {
        let bytes = self.state.encode()?;
        let position = self.state.settled().position.min(outbox.durable());
        Ok((self.revision, outbox.save_state(self.name, position, bytes)))
    }

    /// Saves all of it. Dropping this gives up the waiting only: an older state that is still being
    /// saved could be written over a newer one else.
    pub(crate) async fn save(&mut self, outbox: &Arc<dyn Outbox>) -> Result<(), Error> {
        let revision = self.revision;
        self.want();
        while !self.is_saved(revision) {
            poll_fn(|cx| self.poll(cx, outbox)).await?;
        }
        Ok(())
    }

    /// Forgets all of it.
    pub(crate) async fn forget(&mut self, outbox: &Arc<dyn Outbox>) -> Result<(), Error> {
        while let Some((_, saving)) = &mut self.saving {
            let done = saving.as_mut().await;
            self.saving = None;
            done?;
        }
        let identity = outbox.identity();
        self.state = match self.state.left_when_forgotten(&identity) {
            None => {
                outbox.forget_state(self.name).await?;
                K::unknown(&identity)
            }
            Some(left) => {
                let position = left.settled().position;
                outbox
                    .save_state(self.name, position, left.encode()?)
                    .await?;
                left
            }
        };
        self.parked += 1;
        Ok(())
    }
}
