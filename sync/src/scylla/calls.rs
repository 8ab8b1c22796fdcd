//! What users ask of the replica by the handle on replication.

use std::sync::Arc;

use tidelog_backends::SledStore;
use tidelog_core::{Error, EventLog, HandlerError, NewEvent, StreamId};

use super::follow::Follow;
use super::resolve::{Again, Conflict, Resolved, Resolver};
use super::vector::Vector;
use crate::listeners::ThreadSleeper;
use crate::replication::{BlockingReplication, Replication};

impl Replication {
    /// Resolves a conflict: the server's events take the place of those that are held. What was held
    /// stays in the log, superseded: reads of the stream pass over it, reads of the log still have it.
    ///
    /// Right after opening it waits for the first try to connect. One local commit says so; it is durable when this answers, and replicated as any other. Inline
    /// projections have taken it in, too.
    ///
    /// ```no_run
    /// # async fn example(log: tidelog::Tidelog) -> Result<(), tidelog::Error> {
    /// let replication = log.replication();
    /// for parked in replication.parked() {
    ///     println!("{} from sequence {}: {}", parked.stream, parked.first_sequence, parked.reason);
    ///     replication.take_remote(&parked.stream).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the stream is not parked, or replication is off;
    /// [`Error::WrongVersion`] when it was appended to all the time; [`Error::Gap`] when the server
    /// lost some of the stream; [`Error::Unreachable`], [`Error::ServerRefused`], [`Error::Closed`],
    /// and those of an append. Nothing was recorded then, or a beginning of the server's events:
    /// the same call goes on.
    pub async fn take_remote(&self, stream: &StreamId) -> Result<Resolved, Error> {
        self.resolve(stream, None).await
    }

    /// Resolves a conflict as [`take_remote`](Self::take_remote) does, and records what `again` makes
    /// of it behind the server's events: new events with ids of their own, such as what was held, as
    /// far as it still holds.
    ///
    /// `again` is asked again when the stream was appended to meanwhile, up to five times.
    ///
    /// ```no_run
    /// # use tidelog::{NewEvent, StreamId};
    /// # async fn example(log: tidelog::Tidelog, account: StreamId) -> Result<(), tidelog::Error> {
    /// let resolved = log.replication().reissue(&account, |conflict| {
    ///     let held = conflict.held.iter();
    ///     let again = held.map(|event| {
    ///         let (kind, payload) = (event.event_type.clone(), event.event.clone());
    ///         NewEvent::new(kind, event.revision, event.content_type.clone(), payload)
    ///     });
    ///     Ok(again.collect())
    /// });
    /// println!("{} events were recorded anew", resolved.await?.reissued);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`take_remote`](Self::take_remote); [`Error::TooLarge`] when one side has more than 10,000
    /// events or 64 MiB; [`Error::Stopped`] with what `again` failed of.
    pub async fn reissue(
        &self,
        stream: &StreamId,
        again: impl Fn(&Conflict) -> Result<Vec<NewEvent>, HandlerError> + Send + Sync,
    ) -> Result<Resolved, Error> {
        self.resolve(stream, Some(&again)).await
    }

    async fn resolve(
        &self,
        stream: &StreamId,
        again: Option<Again<'_>>,
    ) -> Result<Resolved, Error> {
        let wire = self.wire()?;
        self.begun().await?;
        let parked = self.parked();
        let mut of_stream = parked.iter().filter(|entry| entry.stream == *stream);
        let Some(held) = of_stream.clone().find(|entry| !entry.accepted) else {
            let reason = match of_stream.next() {
                Some(_) => "nothing of it is held: it stands at the server, resolve its siblings",
                None => "it is not parked",
            };
            return Err(Error::invalid("stream", stream, reason));
        };
        let inner = self.inner()?;
        let store: &SledStore = inner.store();
        let raw = store.without_codec();
        let resolver = Resolver {
            wire: &*wire,
            store,
            raw: &raw,
            codec: store.codec(),
        };
        let resolved = resolver.resolve(stream, held.first_sequence, again).await?;
        inner.applied(resolved.position).await;
        Ok(resolved)
    }

    /// Follows the events of all other stores that replicate to the keyspace, from `vector` on.
    ///
    /// ```no_run
    /// # async fn example(log: tidelog::Tidelog) -> Result<(), tidelog::Error> {
    /// use tidelog::{Followed, Vector};
    ///
    /// let mut others = log.replication().follow(Vector::new())?;
    /// loop {
    ///     match others.next().await? {
    ///         Followed::Event { origin, envelope, .. } => {
    ///             println!("{origin}: {} {}", envelope.stream, envelope.event_type);
    ///         }
    ///         other => println!("{other:?}"),
    ///     }
    ///     // Save `others.vector()` with what came of it.
    /// }
    /// # }
    /// ```
    ///
    /// It does not keep the store open, and ends with the program; payloads come as the other store
    /// recorded them, encoded by its codec if it has one.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when replication is off, [`Error::Closed`].
    pub fn follow(&self, vector: Vector) -> Result<Follow, Error> {
        let wire = self.wire()?;
        let own = self.inner()?.store().identity().origin;
        let sleeper = Arc::new(ThreadSleeper::new());
        Ok(Follow::new(wire, sleeper, Some(own), vector))
    }
}

impl BlockingReplication {
    /// See [`Replication::take_remote`].
    ///
    /// # Errors
    /// As there.
    pub fn take_remote(&self, stream: &StreamId) -> Result<Resolved, Error> {
        pollster::block_on(self.0.take_remote(stream))
    }

    /// See [`Replication::reissue`].
    ///
    /// # Errors
    /// As there.
    pub fn reissue(
        &self,
        stream: &StreamId,
        again: impl Fn(&Conflict) -> Result<Vec<NewEvent>, HandlerError> + Send + Sync,
    ) -> Result<Resolved, Error> {
        pollster::block_on(self.0.reissue(stream, again))
    }

    /// See [`Replication::follow`]; read it by [`Follow::next_blocking`].
    ///
    /// # Errors
    /// As there.
    pub fn follow(&self, vector: Vector) -> Result<Follow, Error> {
        self.0.follow(vector)
    }
}
