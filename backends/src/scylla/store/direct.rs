//! The store's work over any wire: what it asks, and what it makes of the answers. It needs no driver
//! and no runtime, so that the simulation runs it as it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tidelog_core::{
    Clock, Error, EventEnvelope, EventId, IdSource, Limits, Sleeper, StreamHead, StreamId,
    StreamQuery, Timestamp,
};

use super::super::bucket::{Buckets, Search};
use super::super::request::{Bucket, ErrorClass, HeadRow, IdRow, Reply, Request, Wire, WireError};
use super::known::{Known, Streams, oldest_in};
use super::pages::Pages;
use super::turns::{Pin, Turns};

/// What a store works by.
pub struct DirectSettings {
    /// What the server is called in errors.
    pub server: Box<str>,
    /// What is taken at most.
    pub limits: Limits,
    /// The keyspace's bucket rule.
    pub buckets: Buckets,
    /// How long an append whose outcome is not known is looked after.
    pub give_up: Duration,
    /// What the knowledge of streams may take, in bytes.
    pub cache_bytes: u64,
    /// Where recorded times come from.
    pub clock: Arc<dyn Clock>,
    /// Where versions of snapshots come from, and the jitter of pauses.
    pub ids: Arc<dyn IdSource>,
    /// How it pauses.
    pub sleeper: Arc<dyn Sleeper>,
}

/// The store's work over the wire `W`.
pub struct Direct<W> {
    wire: W,
    settings: DirectSettings,
    pub(super) streams: Streams,
    pub(super) turns: Turns,
    /// The newest recorded time that was given: they never go back, whatever the clock does.
    recorded: AtomicI64,
}

/// How often a read that is not answered is tried.
const READ_TRIES: u32 = 5;
/// The first pause before a try; each further one may be twice as long.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(50);

impl<W: Wire> Direct<W> {
    /// A store that asks `wire`, which is connected.
    pub fn new(wire: W, settings: DirectSettings) -> Self {
        Self {
            wire,
            streams: Streams::new(settings.cache_bytes, settings.limits.retry_window() as u64),
            turns: Turns::default(),
            recorded: AtomicI64::new(i64::MIN),
            settings,
        }
    }

    /// What is taken at most.
    pub fn limits(&self) -> Limits {
        self.settings.limits
    }

    pub(super) fn settings(&self) -> &DirectSettings {
        &self.settings
    }

    pub(super) fn buckets(&self) -> Buckets {
        self.settings.buckets
    }

    pub(super) fn window(&self) -> u64 {
        self.settings.limits.retry_window() as u64
    }

    /// Now, or the newest recorded time given if that is later.
    pub(super) fn record_time(&self, not_before: Timestamp) -> Timestamp {
        let now = self.settings.clock.now().max(not_before).as_micros();
        let before = self.recorded.fetch_max(now, Ordering::Relaxed);
        Timestamp::from_micros(before.max(now))
    }

    /// Notes a read before its head is seen; see [`Turns::pin`].
    pub(crate) fn pin(&self, stream: &StreamId) -> Pin {
        self.turns.pin(stream)
    }

    /// A read of what stands there now.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::ServerRefused`].
    pub async fn read(&self, query: StreamQuery) -> Result<Pages<'_, W>, Error> {
        let pin = self.pin(&query.stream);
        self.read_pinned(query, pin).await
    }

    pub(crate) async fn read_pinned(
        &self,
        query: StreamQuery,
        pin: Pin,
    ) -> Result<Pages<'_, W>, Error> {
        let hint = self
            .streams
            .get(&query.stream)
            .map_or(0, |known| known.bucket);
        let newest = self.newest(&query.stream, hint).await?;
        drop(pin);
        let head = newest.map_or(0, |(_, head)| head.sequence);
        Ok(Pages::new(self, query, head))
    }

    /// See [`EventStore::head`](tidelog_core::EventStore::head).
    ///
    /// # Errors
    /// As there.
    pub async fn head(&self, stream: &StreamId) -> Result<Option<StreamHead>, Error> {
        let hint = self.streams.get(stream).map_or(0, |known| known.bucket);
        let newest = self.newest(stream, hint).await?;
        Ok(newest.map(|(_, head)| StreamHead {
            sequence: head.sequence,
            event_id: head.event_id,
        }))
    }

    /// See [`EventStore::find_event`](tidelog_core::EventStore::find_event).
    ///
    /// # Errors
    /// As there.
    pub async fn find_event(
        &self,
        stream: &StreamId,
        event_id: EventId,
    ) -> Result<Option<EventEnvelope>, Error> {
        let place = {
            let _turn = self.turn(stream, "look into").await?;
            let known = self.streams.take(stream);
            let Some(known) = self.refresh(stream, known).await? else {
                return Ok(None);
            };
            let place = known.place_of(event_id);
            self.streams.keep(stream, known);
            place
        };
        let Some(sequence) = place else {
            return Ok(None);
        };
        let rows = self.rows(stream, sequence, sequence).await?;
        Ok(rows.into_iter().find(|row| row.event_id == event_id))
    }

    /// The events at these sequences, which stand at or below a head that was seen.
    pub(super) async fn rows(
        &self,
        stream: &StreamId,
        from: u64,
        to: u64,
    ) -> Result<Vec<EventEnvelope>, Error> {
        let query = StreamQuery::new(stream.clone()).from(from).to(to);
        let mut pages = Pages::new(self, query, to);
        let mut rows = Vec::new();
        while let Some(page) = pages.next().await? {
            rows.extend(page);
        }
        Ok(rows)
    }

    /// The newest bucket and its head, as decided now; `None` of an empty stream.
    pub(super) async fn newest(
        &self,
        stream: &StreamId,
        hint: u64,
    ) -> Result<Option<(u64, HeadRow)>, Error> {
        let mut search = Search::new(self.buckets(), hint);
        while let Some(number) = search.next() {
            let head = self.head_of(stream, number).await?;
            search.saw(number, head.map(|head| (head.sequence, head)));
        }
        Ok(search.found())
    }

    pub(super) async fn head_of(
        &self,
        stream: &StreamId,
        number: u64,
    ) -> Result<Option<HeadRow>, Error> {
        let bucket = Bucket {
            stream: stream.clone(),
            number,
        };
        match self.look(Request::Head(bucket), stream).await? {
            Reply::Head(head) => Ok(head),
            other => Err(self.strange(stream, &other)),
        }
    }

    /// What is known of `stream`, as of its head now.
    pub(super) async fn refresh(
        &self,
        stream: &StreamId,
        known: Option<Known>,
    ) -> Result<Option<Known>, Error> {
        let hint = known.as_ref().map_or(0, |known| known.bucket);
        let Some((bucket, head)) = self.newest(stream, hint).await? else {
            return Ok(None);
        };
        let oldest = oldest_in(self.window(), head.sequence);
        match known {
            Some(known) if known.head == head => Ok(Some(known)),
            Some(mut known) if known.head.sequence < head.sequence => {
                let from = oldest.max(known.head.sequence);
                let ids = self.ids(stream, bucket, (from, head.sequence)).await?;
                if from == known.head.sequence && !begins_with(&ids, &known.head) {
                    return self.learn(stream, bucket, head).await;
                }
                let ids = ids.iter().map(|row| (row.sequence, row.event_id));
                known.extend((bucket, head), ids, self.window());
                Ok(Some(known))
            }
            _ => self.learn(stream, bucket, head).await,
        }
    }

    /// What there is to know of `stream`: nothing was known of it, or the server lost that.
    async fn learn(
        &self,
        stream: &StreamId,
        bucket: u64,
        head: HeadRow,
    ) -> Result<Option<Known>, Error> {
        let oldest = oldest_in(self.window(), head.sequence);
        let ids = self.ids(stream, bucket, (oldest, head.sequence)).await?;
        Ok(Some(Known::new(bucket, head, ids)))
    }

    /// Ids at these sequences, `newest` being a bucket that holds the last one.
    pub(super) async fn ids(
        &self,
        stream: &StreamId,
        newest: u64,
        (from, to): (u64, u64),
    ) -> Result<Vec<IdRow>, Error> {
        let mut parts: Vec<Vec<IdRow>> = Vec::new();
        let (mut number, mut to) = (newest, to);
        loop {
            let request = Request::Ids {
                bucket: Bucket {
                    stream: stream.clone(),
                    number,
                },
                from,
                to,
                serial: true,
            };
            let part = match self.look(request, stream).await? {
                Reply::Ids(ids) => ids,
                other => return Err(self.strange(stream, &other)),
            };
            if let Some(first) = part.first() {
                to = first.sequence.saturating_sub(1);
                parts.push(part);
            }
            // Below the bucket's size times its number nothing stands in it.
            if to < from || number <= self.buckets().holding(from).0 {
                break;
            }
            number -= 1;
        }
        parts.reverse();
        Ok(parts.concat())
    }

    /// Asks for something that may be asked for as often as one likes.
    pub(super) async fn look(&self, request: Request, stream: &StreamId) -> Result<Reply, Error> {
        let (mut pause, mut left) = (FIRST_PAUSE, READ_TRIES);
        loop {
            left -= 1;
            match self.ask(request.clone()).await {
                Ok(reply) => return Ok(reply),
                Err(error) if left == 0 || error.class == ErrorClass::Refused => {
                    return Err(self.failed(&format!("read {stream}"), &error));
                }
                Err(_) => self.pause(pause).await,
            }
            pause *= 2;
        }
    }

    pub(super) async fn ask(&self, request: Request) -> Result<Reply, WireError> {
        self.wire.ask(request).await
    }

    /// Pauses for half of `longest` to all of it.
    pub(super) async fn pause(&self, longest: Duration) {
        let bytes = self.settings.ids.next_uuid().into_bytes();
        let share = f64::from(bytes[15]) / 255.0;
        let pause = longest.mul_f64(0.5 + share / 2.0);
        self.settings.sleeper.sleep(pause).await;
    }

    pub(super) fn failed(&self, action: &str, error: &WireError) -> Error {
        let server = self.settings.server.clone();
        match error.class {
            ErrorClass::Refused | ErrorClass::Schema => Error::ServerRefused {
                server,
                action: action.into(),
                reason: error.text.clone(),
            },
            ErrorClass::NotSent | ErrorClass::Unclear => Error::Unreachable {
                server,
                action: action.into(),
                reason: error.text.clone(),
            },
        }
    }

    pub(super) fn strange(&self, stream: &StreamId, reply: &Reply) -> Error {
        Error::ServerRefused {
            server: self.settings.server.clone(),
            action: format!("answer about {stream}").into(),
            reason: format!("it answered {reply:?}").into(),
        }
    }
}

/// Whether the event that was the head stands there still.
fn begins_with(ids: &[IdRow], head: &HeadRow) -> bool {
    ids.first()
        .is_some_and(|row| (row.sequence, row.event_id) == (head.sequence, head.event_id))
}
