//! The parked keys of a group, for who is no member of it.

use std::fmt;
use std::time::Duration;

use futures_util::future::join_all;
use tidelog_core::{Error, IdSource as _, SystemIds};

use super::config::KafkaListenerConfig;
use super::dead::{DeadLetters, plain};
use super::feed::{Asked, ParkedKey};
use super::status::{KafkaParkedKey, is_meant};

/// The parked keys of a group, seen and asked for from outside of it: by a command line, or a page for
/// whoever operates it. Made by [`KafkaListenerConfig::parked_keys`]; a member has the same in
/// [`KafkaControl`](crate::KafkaControl).
///
/// ```no_run
/// use std::time::Duration;
/// use tidelog::{Error, KafkaListenerConfig};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// let parked = KafkaListenerConfig::new(["kafka1:9092"], "mail").parked_keys()?;
/// for key in parked.list().await? {
///     println!("{} since {}: {}", key.stream, key.since, key.reason);
/// }
/// // Once the cause is gone: whichever member has the key's partition handles what was set aside.
/// parked.resume("Till/7", Duration::from_secs(60)).await?;
/// # Ok(())
/// # }
/// ```
///
/// It joins nothing, commits nothing, and has two threads, which end when it is dropped.
pub struct KafkaParkedKeys {
    group: Box<str>,
    dead: DeadLetters,
}

impl KafkaListenerConfig {
    /// The parked keys of its group, without joining it; what it reads need not be said. Nothing is asked
    /// of the cluster yet.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a configuration that cannot be, [`Error::Io`] when there are no
    /// threads.
    pub fn parked_keys(&self) -> Result<KafkaParkedKeys, Error> {
        self.check_group()?;
        let dead = DeadLetters::new(
            self.connection.clone(),
            &self.group,
            self.dead_topics(),
            SystemIds.next_uuid(),
            |_| {},
        )?;
        Ok(KafkaParkedKeys {
            group: self.group.clone(),
            dead,
        })
    }
}

impl KafkaParkedKeys {
    /// The same calls for threads without a runtime.
    pub fn blocking(self) -> BlockingKafkaParkedKeys {
        BlockingKafkaParkedKeys(self)
    }

    /// All that are parked at this moment, each with its reason. Waits for transactions that are open
    /// there, at most some 10 s. Cancel safe.
    ///
    /// # Errors
    /// [`Error::NoTopic`] where the group has no topics for what is parked; [`Error::Unreachable`],
    /// [`Error::ServerRefused`].
    pub async fn list(&self) -> Result<Vec<KafkaParkedKey>, Error> {
        let set = self.read().await?;
        Ok(set.iter().map(KafkaParkedKey::of).collect())
    }

    /// Asks for a parked key to be handled again, and waits until that is done, at most `within`;
    /// `which` is the [`stream`](KafkaParkedKey::stream) of a parked key, or its text. What was asked
    /// for is kept in Kafka: dropping the call, or its time running out, does not take it back.
    ///
    /// # Errors
    /// [`Error::Parked`] when an event still fails, or no member has answered in time: its reason says
    /// which. [`Error::InvalidInput`] when nothing of it is parked; otherwise as [`list`](Self::list).
    pub async fn resume(&self, which: &str, within: Duration) -> Result<(), Error> {
        self.ask(which, Asked::Resume, within).await
    }

    /// Passes over the record that could not be handled, and over no other; then as
    /// [`resume`](Self::resume). It stays in the dead-letter topic. Where letters are gone there, it
    /// passes over those.
    ///
    /// # Errors
    /// As there.
    pub async fn skip(&self, which: &str, within: Duration) -> Result<(), Error> {
        self.ask(which, Asked::Skip, within).await
    }

    async fn ask(&self, which: &str, asked: Asked, within: Duration) -> Result<(), Error> {
        let set = self.read().await?;
        let meant = set.into_iter().filter(|parked| is_meant(which, parked));
        let resumed = meant.map(|parked| self.dead.resume(parked.key, asked, within));
        let resumed: Vec<_> = resumed.collect();
        if resumed.is_empty() {
            let reason = format!("nothing of it is parked in group {}", self.group);
            return Err(Error::invalid("parked key", which, reason));
        }
        join_all(resumed).await.into_iter().collect()
    }

    async fn read(&self) -> Result<Vec<ParkedKey>, Error> {
        self.dead.parked_set().await.map_err(plain)
    }
}

impl fmt::Debug for KafkaParkedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaParkedKeys")
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

/// [`KafkaParkedKeys`] whose calls block the calling thread; made by [`KafkaParkedKeys::blocking`]. Do
/// not use it inside async code.
#[derive(Debug)]
pub struct BlockingKafkaParkedKeys(KafkaParkedKeys);

impl BlockingKafkaParkedKeys {
    /// See [`KafkaParkedKeys::list`].
    ///
    /// # Errors
    /// As there.
    pub fn list(&self) -> Result<Vec<KafkaParkedKey>, Error> {
        pollster::block_on(self.0.list())
    }

    /// See [`KafkaParkedKeys::resume`].
    ///
    /// # Errors
    /// As there.
    pub fn resume(&self, which: &str, within: Duration) -> Result<(), Error> {
        pollster::block_on(self.0.resume(which, within))
    }

    /// See [`KafkaParkedKeys::skip`].
    ///
    /// # Errors
    /// As there.
    pub fn skip(&self, which: &str, within: Duration) -> Result<(), Error> {
        pollster::block_on(self.0.skip(which, within))
    }
}
