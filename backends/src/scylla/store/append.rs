//! An append: its ids are looked at, then its version, then it is one conditional batch.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use tidelog_core::{
    AppendBatch, AppendOutcome, AppendReceipt, Batch, Direction, Error, EventEnvelope, NewEvent,
    RecordKind, StreamId, Timestamp, check_append,
};

use super::super::oversized::Oversized;
use super::super::request::{
    AppendRows, Bucket, ErrorClass, EventRow, Expected, HeadRow, PageAt, Reply, Request, Wire,
    WireError,
};
use super::direct::Direct;
use super::known::{Known, oldest_in};
use super::recorded::{Found, are_of, compare, conflict, look};
use super::turns::Turn;

/// How often an append loses to others before it gives up.
const ATTEMPTS: u32 = 64;
/// The longest pauses, after losing to others and while an outcome is not known.
const CONTENDED: Duration = Duration::from_millis(32);
const UNCLEAR: Duration = Duration::from_millis(400);

impl<W: Wire> Direct<W> {
    /// See [`EventStore::append`](tidelog_core::EventStore::append).
    ///
    /// # Errors
    /// As there; [`Error::Unclear`] when the server did not say for too long whether it was recorded.
    pub async fn append(&self, batch: AppendBatch) -> Result<AppendReceipt, Error> {
        check_append(std::slice::from_ref(&batch), &self.settings().limits)?;
        let _turn = self.turn(&batch.stream, "append to").await?;
        self.turns.unpinned(&batch.stream).await;
        let mut append = Append {
            direct: self,
            known: self.streams.take(&batch.stream),
            trust: Trust::Cached,
            batch: &batch,
        };
        let answer = append.run().await;
        if let Some(known) = append.known {
            self.streams.keep(&batch.stream, known);
        }
        answer
    }

    /// Waits for a turn of `stream`, as long as an append may be looked after: those before this one
    /// may each take so long when the server says nothing.
    pub(super) async fn turn(&self, stream: &StreamId, action: &str) -> Result<Turn, Error> {
        let settings = self.settings();
        let take = pin!(self.turns.take(stream));
        match select(take, settings.sleeper.sleep(settings.give_up)).await {
            Either::Left((turn, _)) => Ok(turn),
            Either::Right(_) => {
                let error = WireError {
                    class: ErrorClass::NotSent,
                    text: "appends to it that were asked for before have no answer".into(),
                };
                Err(self.failed(&format!("{action} {stream}"), &error))
            }
        }
    }
}

/// How much what is known counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// It may be older than the server's.
    Cached,
    /// It was read in this call.
    Fresh,
    /// It is older than the server's.
    Stale,
}

struct Append<'a, W> {
    direct: &'a Direct<W>,
    batch: &'a AppendBatch,
    /// `None`: the stream is empty, or nothing is known of it.
    known: Option<Known>,
    trust: Trust,
}

impl<W: Wire> Append<'_, W> {
    async fn run(&mut self) -> Result<AppendReceipt, Error> {
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                let longest = Duration::from_millis(1) * 2_u32.pow(attempt.min(5));
                self.direct.pause(longest.min(CONTENDED)).await;
            }
            if self.has_to_refresh() {
                self.refresh().await?;
            }
            if let Some(first) = self.first_receipt().await? {
                return Ok(first);
            }
            let actual = self.head_sequence();
            if !self.batch.expected.holds(actual) {
                return Err(Error::WrongVersion {
                    stream: self.batch.stream.clone(),
                    expected: self.batch.expected,
                    actual,
                });
            }
            if let Some(receipt) = self.send().await? {
                return Ok(receipt);
            }
            self.trust = Trust::Stale;
        }
        let reason = format!("others were faster {ATTEMPTS} times");
        Err(self.unreachable(&reason))
    }

    /// Whether the server's head must be read before anything is decided. A version that is held
    /// against what was known may be sent at once: the server decides. A miss must be true.
    fn has_to_refresh(&self) -> bool {
        let expected = self.batch.expected;
        match (self.trust, &self.known) {
            (Trust::Fresh, _) => false,
            (Trust::Stale, _) => true,
            (Trust::Cached, None) => expected.implied_head() != Some(0),
            (Trust::Cached, Some(known)) => !expected.holds(known.head.sequence),
        }
    }

    async fn refresh(&mut self) -> Result<(), Error> {
        let known = self.known.take();
        self.known = self.direct.refresh(&self.batch.stream, known).await?;
        self.trust = Trust::Fresh;
        Ok(())
    }

    fn head_sequence(&self) -> u64 {
        self.known.as_ref().map_or(0, |known| known.head.sequence)
    }

    /// The receipt that this batch got before; `None` when all of it is new.
    async fn first_receipt(&mut self) -> Result<Option<AppendReceipt>, Error> {
        loop {
            match self.look().await? {
                Found::New => return Ok(None),
                // What was appended since may be the rest of it.
                Found::Torn(..) if self.trust != Trust::Fresh => self.refresh().await?,
                Found::Torn(id, reason) => return Err(conflict(self.batch, id, reason)),
                Found::Standing(from) => {
                    let to = from + (self.batch.events.len() as u64 - 1);
                    match self.direct.rows(&self.batch.stream, from, to).await {
                        Ok(rows) if are_of(self.batch, &rows) => {
                            compare(self.batch, &rows)?;
                            return Ok(rows.last().map(|last| {
                                let outcome = AppendOutcome::AlreadyAppended;
                                self.receipt(from, last.recorded_time, outcome)
                            }));
                        }
                        // The server lost what was known: what is there now counts.
                        Ok(_) | Err(Error::Gap { .. }) if self.trust != Trust::Fresh => {
                            self.refresh().await?;
                        }
                        Ok(_) => return Err(self.unreachable("its events change meanwhile")),
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }

    /// Looks for the batch's ids where they count: in the retry window, and at the sequences that
    /// its expectation implies.
    async fn look(&mut self) -> Result<Found, Error> {
        let window = self.direct.window();
        let Some(known) = &mut self.known else {
            return Ok(Found::New);
        };
        let head = known.head.sequence;
        let oldest = oldest_in(window, head);
        let implied = self.batch.expected.implied_head().filter(|at| *at < head);
        let Some(from) = implied.map(|at| at + 1).filter(|from| *from < oldest) else {
            return Ok(look(self.batch, known.ids()));
        };
        let to = (oldest - 1).min(from + (self.batch.events.len() as u64 - 1));
        let newest = self.direct.buckets().holding(to).1;
        let stream = &self.batch.stream;
        let older = self.direct.ids(stream, newest, (from, to)).await?;
        let older = older.iter().map(|row| (row.sequence, row.event_id));
        let there: Vec<_> = older.chain(known.ids().iter().copied()).collect();
        Ok(look(self.batch, &there))
    }

    /// Sends the batch; `None` when the head was another one.
    async fn send(&mut self) -> Result<Option<AppendReceipt>, Error> {
        let Some(rows) = self.rows().await? else {
            return Ok(None);
        };
        let answer = self.direct.ask(append_of(&rows)).await;
        let applied = match answer {
            Ok(Reply::Applied(applied)) => applied,
            Ok(other) => return Err(self.direct.strange(&self.batch.stream, &other)),
            Err(error) if error.class == ErrorClass::Unclear => {
                self.look_after(&rows, error).await?
            }
            Err(error) => return Err(self.refused(&rows, &error)),
        };
        if !applied {
            return Ok(None);
        }
        let ids = rows
            .rows
            .iter()
            .map(|row| (row.event.sequence, row.event.event_id));
        let window = self.direct.window();
        let place = (rows.bucket.number, rows.head);
        let mut known = self.known.take().unwrap_or_else(|| {
            Known::new(
                0,
                HeadRow {
                    sequence: 0,
                    ..rows.head
                },
                [],
            )
        });
        known.extend(place, ids, window);
        self.known = Some(known);
        let first = rows.head.sequence - (self.batch.events.len() as u64 - 1);
        Ok(Some(self.receipt(
            first,
            rows.head.recorded,
            AppendOutcome::Appended,
        )))
    }

    /// The conditional batch; `None` when the head is known to be another one by now.
    async fn rows(&self) -> Result<Option<AppendRows>, Error> {
        let stream = &self.batch.stream;
        let head = self.head_sequence();
        let bucket = self.direct.buckets().expecting(head);
        let expected = match &self.known {
            Some(known) if known.bucket == bucket => {
                Expected::Event(known.head.sequence, known.head.event_id)
            }
            Some(known) => {
                // The first of a bucket: nothing in it says that the head is the one expected.
                let before = if self.trust == Trust::Fresh {
                    Some(known.head)
                } else {
                    self.direct.head_of(stream, known.bucket).await?
                };
                if before != Some(known.head) {
                    return Ok(None);
                }
                Expected::Nothing
            }
            None => Expected::Nothing,
        };
        let not_before = self.known.as_ref().map(|known| known.head.recorded);
        let not_before = not_before.unwrap_or(Timestamp::from_micros(i64::MIN));
        let recorded = self.direct.record_time(not_before);
        let batch = Batch {
            first: head + 1,
            // Limits are far below.
            count: u32::try_from(self.batch.events.len()).unwrap_or(u32::MAX),
        };
        let rows: Vec<EventRow> = (head + 1..)
            .zip(&self.batch.events)
            .map(|(sequence, event)| EventRow {
                event: self.envelope(event, sequence, recorded, batch),
                place: None,
            })
            .collect();
        Ok(rows
            .last()
            .map(|last| HeadRow {
                sequence: last.event.sequence,
                event_id: last.event.event_id,
                recorded,
            })
            .map(|head| AppendRows {
                bucket: Bucket {
                    stream: stream.clone(),
                    number: bucket,
                },
                expected,
                rows,
                head,
            }))
    }

    fn envelope(
        &self,
        event: &NewEvent,
        sequence: u64,
        recorded_time: Timestamp,
        batch: Batch,
    ) -> EventEnvelope {
        EventEnvelope {
            event_id: event.event_id,
            stream: self.batch.stream.clone(),
            sequence,
            position: None,
            birth: event.birth.clone(),
            kind: match event.birth {
                None => RecordKind::Event,
                Some(_) => RecordKind::Adopted,
            },
            event_type: event.event_type.clone(),
            revision: event.revision,
            content_type: event.content_type.clone(),
            event_time: event.event_time.unwrap_or(recorded_time),
            recorded_time,
            metadata: event.metadata.clone(),
            tags: event.tags.clone(),
            batch,
            event: event.payload.clone(),
        }
    }

    /// Finds out what became of a batch that was sent, for as long as that is allowed to take.
    async fn look_after(&self, rows: &AppendRows, error: WireError) -> Result<bool, Error> {
        let settings = self.direct.settings();
        let give_up = settings.sleeper.sleep(settings.give_up);
        let mut last = error.text;
        let outcome = {
            let asking = Box::pin(self.ask_until_known(rows, &mut last));
            match select(give_up, asking).await {
                Either::Left(_) => None,
                Either::Right((applied, _)) => Some(applied),
            }
        };
        outcome.ok_or_else(|| Error::Unclear {
            stream: self.batch.stream.clone(),
            reason: last,
        })
    }

    /// Sends the very same batch again, and looks: whichever copy of it comes first counts, and the
    /// others find the head moved. Nothing is concluded from an answer to a copy alone.
    async fn ask_until_known(&self, rows: &AppendRows, last: &mut Box<str>) -> bool {
        let mut longest = UNCLEAR / 8;
        loop {
            self.direct.pause(longest).await;
            longest = (longest * 2).min(UNCLEAR);
            match self.direct.ask(append_of(rows)).await {
                Ok(Reply::Applied(true)) => return true,
                Ok(_) => {}
                Err(error) => *last = error.text,
            }
            match self.outcome(rows).await {
                Ok(Some(applied)) => return applied,
                // It is undecided still: a copy may be on its way, and the head is as expected.
                Ok(None) => {}
                Err(error) => *last = error.text,
            }
        }
    }

    /// Whether this very batch stands there; `None` while the head is the one that it expects.
    async fn outcome(&self, rows: &AppendRows) -> Result<Option<bool>, WireError> {
        // The head first: what is read of the rows after it is at least as new.
        let head = Request::Head(rows.bucket.clone());
        let Reply::Head(head) = self.direct.ask(head).await? else {
            return Ok(None);
        };
        let is_expected = match rows.expected {
            Expected::Nothing => head.is_none(),
            Expected::Sequence(sequence) => head.is_some_and(|head| head.sequence == sequence),
            Expected::Event(sequence, id) => {
                head.is_some_and(|head| (head.sequence, head.event_id) == (sequence, id))
            }
        };
        if is_expected {
            return Ok(None);
        }
        let (Some(first), Some(last)) = (rows.rows.first(), rows.rows.last()) else {
            return Ok(Some(false));
        };
        let mut there = Vec::with_capacity(rows.rows.len());
        let mut after = None;
        loop {
            let request = Request::Events {
                bucket: rows.bucket.clone(),
                from: first.event.sequence,
                to: last.event.sequence,
                direction: Direction::Forward,
                serial: true,
                page: PageAt {
                    after,
                    // What stands there may be somebody else's, and larger.
                    rows: u32::try_from(rows.rows.len()).unwrap_or(u32::MAX).min(48),
                },
            };
            let Reply::Events(page) = self.direct.ask(request).await? else {
                return Ok(None);
            };
            there.extend(page.rows);
            match page.next {
                // Recorded time and all: a retry by somebody else is not this call's.
                None => return Ok(Some(there == rows.rows)),
                next => after = next,
            }
        }
    }

    fn refused(&self, rows: &AppendRows, error: &WireError) -> Error {
        if Oversized::of(error).is_some() {
            let size = |row: &EventRow| {
                row.event.event.len() + row.event.metadata.size() + row.event.tags.size()
            };
            let size = rows.rows.iter().map(size).sum();
            return Error::too_large("batch (server)", size, size.saturating_sub(1));
        }
        let action = format!("append to {}", self.batch.stream);
        self.direct.failed(&action, error)
    }

    fn unreachable(&self, reason: &str) -> Error {
        let error = WireError {
            class: ErrorClass::NotSent,
            text: reason.into(),
        };
        let action = format!("append to {}", self.batch.stream);
        self.direct.failed(&action, &error)
    }

    fn receipt(
        &self,
        first_sequence: u64,
        recorded_time: Timestamp,
        outcome: AppendOutcome,
    ) -> AppendReceipt {
        AppendReceipt {
            stream: self.batch.stream.clone(),
            first_sequence,
            last_sequence: first_sequence + (self.batch.events.len() as u64 - 1),
            first_position: None,
            last_position: None,
            recorded_time,
            outcome,
        }
    }
}

fn append_of(rows: &AppendRows) -> Request {
    Request::Append(Box::new(rows.clone()))
}
