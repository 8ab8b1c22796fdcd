//! Events as they come, for any number of readers: Server-Sent Events whose ids are positions.
//!
//! The newest events stand once, in a ring of bounded length and size. Readers have no queue: each has
//! its place, and takes what stands behind it from the ring, or from the log where the ring begins
//! later. So who reads slowly, or not at all, costs a place.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use tidelog::{Error, EventEnvelope, LogQuery, Subscribe, Tidelog};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::App;
use super::headers::{digits, one};
use super::input::Asking;
use super::problem::{GONE, MALFORMED, Problem, READERS};
use super::view;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Most events in the ring.
const EVENTS: usize = 1_024;
/// Most bytes of them.
const BYTES: usize = 1 << 20;
/// Most bytes that a reader is given at once, unless one event has more.
const PORTION: usize = 64 << 10;
/// Records that are read from the log at once for a reader that is behind.
const CATCH_UP: u64 = 256;
/// How often an idle connection is written to, so that one that is gone is found.
const ALIVE: Duration = Duration::from_secs(15);
/// How long what comes is gathered, for each reader.
const EACH: Duration = Duration::from_micros(10);
/// How long to wait before the log is followed again after a failure.
const AGAIN: Duration = Duration::from_secs(1);

/// The newest events, and who reads them.
pub(super) struct Feed {
    ring: Mutex<Ring>,
    /// The newest position that the ring knows.
    news: watch::Sender<u64>,
    room: Arc<Semaphore>,
    readers: u32,
    closing: watch::Receiver<bool>,
}

struct Ring {
    frames: VecDeque<(u64, Bytes)>,
    bytes: usize,
    /// Everything above it, up to the newest, is here.
    after: u64,
    newest: u64,
}

/// What the ring says to somebody at a place.
enum Found {
    /// Events, and the place after them.
    Events(Bytes, u64),
    /// It begins later: the log has them.
    Before,
    /// Nothing has come.
    Nothing,
}

impl Feed {
    /// An empty one, which begins with what comes next.
    pub(super) fn of(bank: &Tidelog, readers: u32, closing: watch::Receiver<bool>) -> Arc<Self> {
        let now = bank.last_position();
        let ring = Ring {
            frames: VecDeque::new(),
            bytes: 0,
            after: now,
            newest: now,
        };
        Arc::new(Self {
            ring: Mutex::new(ring),
            news: watch::Sender::new(now),
            room: Arc::new(Semaphore::new(readers as usize)),
            readers,
            closing,
        })
    }

    /// Follows the log until the store is closed.
    pub(super) async fn fill(self: Arc<Self>, bank: Tidelog) {
        loop {
            let after = self.ring().newest;
            let mut events = bank.subscribe(Subscribe::All { after });
            let error = loop {
                match events.next_page().await {
                    Some(Ok(page)) => {
                        self.take_in(&page);
                        tokio::time::sleep(self.pause()).await;
                    }
                    Some(Err(error)) => break Some(error),
                    None => break None,
                }
            };
            match error {
                None | Some(Error::Closed) => return,
                Some(error) => tracing::error!(%error, after, "live events are interrupted"),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// How long to gather what comes: each reader is woken once for all of it, so many readers are woken
    /// less often.
    fn pause(&self) -> Duration {
        EACH.saturating_mul(self.reading())
    }

    fn reading(&self) -> u32 {
        let room = u32::try_from(self.room.available_permits()).unwrap_or(u32::MAX);
        self.readers.saturating_sub(room)
    }

    fn take_in(&self, page: &[EventEnvelope]) {
        let newest = {
            let mut ring = self.ring();
            for envelope in page {
                ring.push(envelope);
            }
            ring.newest
        };
        self.news.send_replace(newest);
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // Nothing that is done under it is left half done.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many read, how many events the ring has, and how many bytes of them.
    pub(super) fn sizes(&self) -> (u32, usize, usize) {
        let ring = self.ring();
        (self.reading(), ring.frames.len(), ring.bytes)
    }
}

impl Ring {
    fn push(&mut self, envelope: &EventEnvelope) {
        let Some(position) = envelope.position else {
            return;
        };
        self.newest = position;
        let Some(frame) = frame(envelope) else {
            return;
        };
        self.bytes += frame.len();
        self.frames.push_back((position, frame));
        while self.frames.len() > EVENTS || self.bytes > BYTES {
            let Some((position, frame)) = self.frames.pop_front() else {
                break;
            };
            self.bytes -= frame.len();
            self.after = position;
        }
    }

    fn behind(&self, place: u64) -> Found {
        if place < self.after {
            return Found::Before;
        }
        if place >= self.newest {
            return Found::Nothing;
        }
        let first = self
            .frames
            .partition_point(|(position, _)| *position <= place);
        let mut taken = Vec::new();
        // Records that are shown to nobody are passed over.
        let mut upto = self.newest;
        for (position, frame) in self.frames.range(first..) {
            if !taken.is_empty() && taken.len() + frame.len() > PORTION {
                upto = position - 1;
                break;
            }
            taken.extend_from_slice(frame);
        }
        Found::Events(taken.into(), upto)
    }
}

/// One event as it is sent; `None` of what is not shown.
fn frame(envelope: &EventEnvelope) -> Option<Bytes> {
    let position = envelope.position?;
    let shown = view::event(envelope).unwrap_or_else(|error| {
        tracing::error!(%error, position, "an event cannot be shown");
        None
    })?;
    // Neither types nor JSON hold a line break.
    let kind = &envelope.event_type;
    Some(format!("id: {position}\nevent: {kind}\ndata: {shown}\n\n").into())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Following {
    /// The last position that was seen; the header says the same, and has the last word.
    after: Option<u64>,
    /// End where the log ends now.
    #[serde(default = "yes")]
    follow: bool,
}

fn yes() -> bool {
    true
}

pub(super) async fn events(
    State(app): State<Arc<App>>,
    Asking(following): Asking<Following>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let last = app.bank.last_position();
    let seen = match one(&headers, &LAST_EVENT_ID)? {
        Some(id) => {
            let wrong = || Problem::new(MALFORMED, "Last-Event-ID is a position: digits");
            Some(digits(id, 18).ok_or_else(wrong)?)
        }
        None => following.after,
    };
    let place = seen.unwrap_or(last);
    if place > last {
        let detail = format!("the log ends at position {last}: what was seen behind it is gone");
        return Err(Problem::new(GONE, detail));
    }
    let room = Arc::clone(&app.feed.room).try_acquire_owned();
    let room = room.map_err(|_| Problem::new(READERS, "try again later"))?;
    let reader = Reader {
        news: app.feed.news.subscribe(),
        closing: app.feed.closing.clone(),
        place,
        until: (!following.follow).then_some(last),
        // So that who is cut off before the first event goes on here.
        first: Some(format!(
            "retry: 1000\nid: {place}\nevent: place\ndata: {{\"position\":{place}}}\n\n"
        )),
        app,
        _room: room,
    };
    let frames = stream::unfold(reader, |mut reader| async move {
        match reader.next().await {
            Ok(frames) => frames.map(|frames| (Ok(frames), reader)),
            Err(error) => Some((Err(error), reader)),
        }
    });
    let kind = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((kind, Body::from_stream(frames)).into_response())
}

/// Somebody who reads along.
struct Reader {
    app: Arc<App>,
    news: watch::Receiver<u64>,
    closing: watch::Receiver<bool>,
    /// Everything up to it was given.
    place: u64,
    until: Option<u64>,
    first: Option<String>,
    _room: OwnedSemaphorePermit,
}

impl Reader {
    /// What comes next; `None` at the end. It is asked for only when what was given before is gone.
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first.into()));
        }
        loop {
            if *self.closing.borrow() || self.until.is_some_and(|until| self.place >= until) {
                return Ok(None);
            }
            self.news.mark_unchanged();
            let found = self.app.feed.ring().behind(self.place);
            let frames = match found {
                Found::Events(frames, place) => {
                    self.place = place;
                    frames
                }
                Found::Before => self.catch_up().await?,
                Found::Nothing => {
                    tokio::select! {
                        changed = self.news.changed() => if changed.is_err() { return Ok(None); },
                        _ = self.closing.changed() => {}
                        () = tokio::time::sleep(ALIVE) => return Ok(Some(Bytes::from_static(b":\n\n"))),
                    }
                    continue;
                }
            };
            if !frames.is_empty() {
                return Ok(Some(frames));
            }
        }
    }

    /// What stands in the log behind the place, one portion of it.
    async fn catch_up(&mut self) -> Result<Bytes, Error> {
        let query = LogQuery::from(self.place + 1).limit(CATCH_UP);
        let mut read = self.app.bank.read_all(query);
        let mut taken = Vec::new();
        while let Some(envelope) = read.next().await.transpose()? {
            let frame = frame(&envelope).unwrap_or_default();
            if !taken.is_empty() && taken.len() + frame.len() > PORTION {
                break;
            }
            taken.extend_from_slice(&frame);
            self.place = envelope.position.unwrap_or(self.place);
        }
        Ok(taken.into())
    }
}
