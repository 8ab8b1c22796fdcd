//! Resolves conflicts: the remote's events take the place of those held.

use std::sync::Arc;

use tidelog_backends::wire::{EventRow, MetaRow, Wire};
use tidelog_core::{
    AppendBatch, Birth, Error, EventEnvelope, EventId, ExpectedVersion, HandlerError, Limits,
    NewEvent, PayloadCodec, StreamId, StreamQuery, Supersede, Supersession,
};

use super::ask::{self, trouble};
use super::remote_stream::RemoteStream;

/// Tries while somebody appends to the stream here.
const TRIES: u32 = 5;
/// Most events of each side that are given to a caller at once, and their bytes.
const MOST_EVENTS: usize = 10_000;
const MOST_BYTES: usize = 64 << 20;

/// Two origins wrote one stream while they were apart: what both have from the first difference on.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Conflict {
    /// The stream.
    pub stream: StreamId,
    /// The last sequence that both have alike; 0 when there is none.
    pub base: u64,
    /// What was recorded here and is held: from sequence `base + 1` on.
    pub held: Vec<EventEnvelope>,
    /// What the server has in its place, from sequence `base + 1` on, too.
    pub remote: Vec<EventEnvelope>,
}

/// What a resolution has recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resolved {
    /// The stream.
    pub stream: StreamId,
    /// How many events gave way.
    pub superseded: u64,
    /// How many of the server's took their place.
    pub adopted: u64,
    /// How many were recorded anew behind those.
    pub reissued: u64,
    /// The stream's last sequence now.
    pub last_sequence: u64,
    /// Position of the last record; wait for it to be replicated. `None` when nothing was to be done:
    /// what stands here is what the server has.
    pub position: Option<u64>,
}

/// What becomes of the events that are held.
pub(super) type Again<'a> =
    &'a (dyn Fn(&Conflict) -> Result<Vec<NewEvent>, HandlerError> + Send + Sync);

/// A store in which conflicts are resolved.
pub(super) struct Resolver<'a, S> {
    pub wire: &'a dyn Wire,
    /// Payloads as users see them.
    pub store: &'a S,
    /// Payloads as they are recorded.
    pub raw: &'a S,
    pub codec: Option<&'a Arc<dyn PayloadCodec>>,
}

impl<S: Supersede> Resolver<'_, S> {
    /// Lets what is held of `stream` give way, from its first difference to the server's events on:
    /// `first` is one that is known.
    pub(super) async fn resolve(
        &self,
        stream: &StreamId,
        first: u64,
        again: Option<Again<'_>>,
    ) -> Result<Resolved, Error> {
        let mut tries = 1;
        loop {
            match self.once(stream, first, again).await {
                // Somebody appended here meanwhile: what is held is more now.
                Err(Error::WrongVersion { .. }) if tries < TRIES => tries += 1,
                done => return done,
            }
        }
    }

    async fn once(
        &self,
        stream: &StreamId,
        first: u64,
        again: Option<Again<'_>>,
    ) -> Result<Resolved, Error> {
        let meta = ask::meta(self.wire).await;
        let meta = meta.map_err(|error| trouble("resolve a conflict", &error))?;
        let meta = meta.ok_or_else(|| Error::Unreachable {
            server: "the replica".into(),
            action: "resolve a conflict".into(),
            reason: "its keyspace has no tables of tidelog".into(),
        })?;
        let remote = RemoteStream::look(self.wire, stream, &meta).await?;
        let head = self.store.head(stream).await?;
        let head = head.ok_or_else(|| {
            let reason = "the stream has no events here";
            Error::invalid("stream", stream, reason)
        })?;
        let from = self.first_difference(&remote, stream, first).await?;
        if from > head.sequence && from > remote.last() {
            return Ok(Resolved {
                stream: stream.clone(),
                superseded: 0,
                adopted: 0,
                reissued: 0,
                last_sequence: head.sequence,
                position: None,
            });
        }
        let reissued = match again {
            None => Vec::new(),
            Some(again) => {
                let conflict = self.conflict(&remote, stream, from, head.sequence).await?;
                reissued(&conflict, again)?
            }
        };
        let limits = self.store.limits();
        let mut window = self.adopted(&remote, from, &meta, &limits).await?;
        let adopted = (remote.last() + 1).saturating_sub(from);
        let is_whole = window.len() as u64 == adopted && fits(&window, &reissued, &limits);
        let superseded = (head.sequence + 1).saturating_sub(from);
        let what = Supersession::new(stream.clone(), head, from);
        let mut next = from + window.len() as u64;
        let what = what.with_adopted(std::mem::take(&mut window));
        let (what, left) = if is_whole {
            (what.with_reissued(reissued.clone()), Vec::new())
        } else {
            (what, reissued.clone())
        };
        let receipt = self.store.supersede(what).await?;
        let mut position = receipt.last_position.or(receipt.first_position);
        let mut last_sequence = receipt.last_sequence;
        // What did not fit goes behind: each part of it leaves a true beginning of the remote's stream.
        while next <= remote.last() {
            let events = self.adopted(&remote, next, &meta, &limits).await?;
            next += events.len() as u64;
            let expected = ExpectedVersion::Exact(last_sequence);
            let batch = AppendBatch::new(stream.clone(), expected, events);
            let receipt = self.raw.append(batch).await?;
            (position, last_sequence) = (receipt.last_position, receipt.last_sequence);
        }
        if !left.is_empty() {
            let expected = ExpectedVersion::Exact(last_sequence);
            let batch = AppendBatch::new(stream.clone(), expected, left);
            let receipt = self.store.append(batch).await?;
            (position, last_sequence) = (receipt.last_position, receipt.last_sequence);
        }
        Ok(Resolved {
            stream: stream.clone(),
            superseded,
            adopted,
            reissued: reissued.len() as u64,
            last_sequence,
            position,
        })
    }

    /// The first sequence at or behind `first` at which not both have the same event.
    async fn first_difference(
        &self,
        remote: &RemoteStream<'_>,
        stream: &StreamId,
        first: u64,
    ) -> Result<u64, Error> {
        let query = StreamQuery::new(stream.clone()).from(first);
        let mut local = self.raw.read_stream(query);
        let mut from = first;
        loop {
            let page = remote.events(from, 256, 1 << 20).await?;
            if page.is_empty() {
                return Ok(from);
            }
            for row in page {
                match local.next().await.transpose()? {
                    Some(event) if event.event_id == row.event.event_id => from += 1,
                    _ => return Ok(from),
                }
            }
        }
    }

    async fn conflict(
        &self,
        remote: &RemoteStream<'_>,
        stream: &StreamId,
        from: u64,
        last: u64,
    ) -> Result<Conflict, Error> {
        let query = StreamQuery::new(stream.clone()).from(from).to(last);
        let mut reading = self.store.read_stream(query);
        let (mut held, mut bytes) = (Vec::new(), 0);
        while let Some(event) = reading.next().await.transpose()? {
            bytes += event.event.len();
            held.push(event);
            bounded(held.len(), bytes)?;
        }
        let rows = remote.events(from, MOST_EVENTS + 1, MOST_BYTES + 1).await?;
        bounded(
            rows.len(),
            rows.iter().map(|row| row.event.event.len()).sum(),
        )?;
        let decoded = rows.into_iter().map(|row| match self.codec {
            Some(codec) => codec.decode_event(row.event),
            None => Ok(row.event),
        });
        Ok(Conflict {
            stream: stream.clone(),
            base: from - 1,
            held,
            remote: decoded.collect::<Result<_, _>>()?,
        })
    }

    /// The remote's events from `from` on, as many as one append takes.
    async fn adopted(
        &self,
        remote: &RemoteStream<'_>,
        from: u64,
        meta: &MetaRow,
        limits: &Limits,
    ) -> Result<Vec<NewEvent>, Error> {
        // One event may go over what is asked for.
        let bytes = limits.batch_bytes.saturating_sub(limits.payload_bytes) / 2;
        let rows = remote
            .events(from, limits.batch_events, bytes.max(1))
            .await?;
        Ok(rows.into_iter().map(|row| adopted(row, meta)).collect())
    }
}

fn reissued(conflict: &Conflict, again: Again<'_>) -> Result<Vec<NewEvent>, Error> {
    let events = again(conflict).map_err(|error| Error::Stopped {
        what: "issuing held events again".into(),
        position: conflict.held.first().and_then(|e| e.position).unwrap_or(0),
        source: Arc::clone(error.cause()),
    })?;
    let held: Vec<EventId> = conflict.held.iter().map(|event| event.event_id).collect();
    if let Some(event) = events.iter().find(|event| held.contains(&event.event_id)) {
        let reason = "it was superseded: what is issued again is a new event with an id of its \
                      own";
        return Err(Error::invalid("event", event.event_id, reason));
    }
    Ok(events)
}

/// The event as it is recorded here: as it was, with where it was recorded first.
fn adopted(row: EventRow, meta: &MetaRow) -> NewEvent {
    let event = row.event;
    let (origin, epoch, position) = match row.place {
        Some(place) => (place.origin, place.epoch, place.position),
        // Appended to the server directly, which has no order over its streams.
        None => (meta.keyspace_id, meta.keyspace_id, event.sequence),
    };
    let first = Birth {
        origin,
        epoch,
        position,
        recorded_time: event.recorded_time,
    };
    let birth = event.birth.as_deref().copied().unwrap_or(first);
    let mut new = NewEvent::new(
        event.event_type,
        event.revision,
        event.content_type,
        event.event,
    )
    .with_id(event.event_id)
    .with_event_time(event.event_time)
    .with_metadata(event.metadata)
    .with_birth(birth);
    new.tags = event.tags;
    new
}

fn fits(adopted: &[NewEvent], reissued: &[NewEvent], limits: &Limits) -> bool {
    let all = || adopted.iter().chain(reissued);
    let bytes: usize = all().map(|event| event.payload.len()).sum();
    all().count() <= limits.batch_events && bytes <= limits.batch_bytes / 2
}

fn bounded(events: usize, bytes: usize) -> Result<(), Error> {
    if events > MOST_EVENTS {
        return Err(Error::too_large(
            "events of a conflict",
            events,
            MOST_EVENTS,
        ));
    }
    if bytes > MOST_BYTES {
        return Err(Error::too_large("conflict", bytes, MOST_BYTES));
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests;
