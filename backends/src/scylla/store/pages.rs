//! Reading a stream page by page, over its buckets, without a hole.

use tidelog_core::{Birth, Direction, Error, EventEnvelope, Limits, RecordKind, StreamQuery};

use super::super::request::{
    Bucket, ErrorClass, EventRow, Page, PageAt, Reply, Request, Wire, WireError,
};
use super::direct::Direct;

/// Servers count rows and not bytes: so many are asked for at first, and later as many as make a page
/// of this size.
const FIRST_ROWS: u32 = 8;
const PAGE_BYTES: usize = 1 << 20;
/// A page of rows that are as large as they may be is not larger than this, whatever came before.
const MOST_BYTES: usize = 64 << 20;
const MOST_ROWS: usize = 256;
/// What others may have written whose limits are not known here, if they have the usual ones.
const USUAL_PAYLOAD: usize = 1 << 20;

/// The rest of a read.
pub struct Pages<'a, W> {
    direct: &'a Direct<W>,
    query: StreamQuery,
    /// The sequence to be read next; `None` at the end.
    next: Option<u64>,
    /// The last one.
    last: u64,
    left: u64,
    rows: u32,
    most_rows: u32,
    /// The bucket that the last page came from, when more of it is to be expected there.
    bucket: Option<u64>,
}

impl<'a, W: Wire> Pages<'a, W> {
    /// A read of what stands at or below `head`.
    pub(super) fn new(direct: &'a Direct<W>, query: StreamQuery, head: u64) -> Self {
        let (lowest, highest) = (query.from.max(1), query.to.min(head));
        let left = query.limit.unwrap_or(u64::MAX);
        let is_empty = lowest > highest || left == 0;
        let (next, last) = match query.direction {
            Direction::Forward => (lowest, highest),
            Direction::Backward => (highest, lowest),
        };
        Self {
            direct,
            query,
            next: (!is_empty).then_some(next),
            last,
            left,
            rows: FIRST_ROWS,
            most_rows: most_rows(&direct.limits()),
            bucket: None,
        }
    }

    /// The next page, of at least one event; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::ServerRefused`]; [`Error::Gap`] where the server lost rows.
    pub async fn next(&mut self) -> Result<Option<Vec<EventEnvelope>>, Error> {
        let Some(next) = self.next else {
            return Ok(None);
        };
        let rows = match self.page(next, false).await? {
            Some(rows) => rows,
            // What another data centre committed may not have come here: those who decided have it.
            None => match self.page(next, true).await? {
                Some(rows) => rows,
                None => return Err(self.gap(next).await),
            },
        };
        self.adapt(&rows);
        let read = rows.len() as u64;
        self.left = self.left.saturating_sub(read);
        let reached = match self.query.direction {
            Direction::Forward => next + (read - 1),
            Direction::Backward => next - (read - 1),
        };
        self.next = (self.left > 0 && reached != self.last).then_some(match self.query.direction {
            Direction::Forward => reached + 1,
            Direction::Backward => reached.saturating_sub(1),
        });
        Ok(Some(rows.into_iter().map(envelope).collect()))
    }

    /// Rows from `next` on that follow each other; `None` when `next` itself is not there.
    async fn page(&mut self, next: u64, serial: bool) -> Result<Option<Vec<EventRow>>, Error> {
        // Only what was appended in one batch over a border stands in the first of the two.
        let (first, last) = self.direct.buckets().holding(next);
        let mut places = [last, first];
        if self.bucket == Some(first) {
            places.swap(0, 1);
        }
        let places = if first == last { &places[..1] } else { &places };
        for number in places {
            let mut rows = self.ask(*number, next, serial).await?;
            let is_full = rows.len() >= self.rows as usize;
            let dense = rows
                .iter()
                .zip(0..)
                .take_while(|(row, n)| match self.query.direction {
                    Direction::Forward => row.event.sequence == next.saturating_add(*n),
                    Direction::Backward => row.event.sequence == next.saturating_sub(*n),
                })
                .count();
            if dense > 0 {
                rows.truncate(dense);
                self.bucket = is_full.then_some(*number);
                return Ok(Some(rows));
            }
        }
        Ok(None)
    }

    async fn ask(&mut self, number: u64, next: u64, serial: bool) -> Result<Vec<EventRow>, Error> {
        let (from, to) = match self.query.direction {
            Direction::Forward => (next, self.last),
            Direction::Backward => (self.last, next),
        };
        let wanted = u32::try_from(self.left.min(to - from + 1)).unwrap_or(u32::MAX);
        let mut wanted = self.rows.min(wanted);
        let mut after: Option<Page> = None;
        loop {
            let request = Request::Events {
                bucket: Bucket {
                    stream: self.query.stream.clone(),
                    number,
                },
                from,
                to,
                direction: self.query.direction,
                serial,
                page: PageAt {
                    after: after.clone(),
                    rows: wanted,
                },
            };
            let answer = match self.direct.ask(request.clone()).await {
                // It may be too much at once, or take too long.
                Err(error) if wanted > 1 && is_of_size(&error) => {
                    wanted /= 2;
                    self.rows = wanted;
                    continue;
                }
                Err(_) => self.direct.look(request, &self.query.stream).await?,
                Ok(answer) => answer,
            };
            let mut found = match answer {
                Reply::Events(found) => found,
                other => return Err(self.direct.strange(&self.query.stream, &other)),
            };
            // A server may answer less than it was asked for, even nothing, and have more.
            if found.rows.is_empty() && found.next.is_some() {
                after = found.next;
                continue;
            }
            found.rows.truncate(wanted as usize);
            return Ok(found.rows);
        }
    }

    fn adapt(&mut self, rows: &[EventRow]) {
        let size = |row: &EventRow| {
            256 + row.event.event.len() + row.event.metadata.size() + row.event.tags.size()
        };
        let bytes: usize = rows.iter().map(size).sum();
        let each = (bytes / rows.len().max(1)).max(1);
        let fit = u32::try_from(PAGE_BYTES / each).unwrap_or(u32::MAX);
        // Not more at once than four times as many: what comes may weigh more.
        let fit = fit.clamp(1, self.most_rows);
        self.rows = fit.min(self.rows.saturating_mul(4));
    }

    /// What is missing from `next` on, as far as that can be seen.
    async fn gap(&mut self, next: u64) -> Error {
        const MOST_BUCKETS: u64 = 64;
        let buckets = self.direct.buckets();
        let numbers = match self.query.direction {
            Direction::Forward => {
                let (from, to) = (buckets.holding(next).0, buckets.holding(self.last).1);
                from..=to.min(from.saturating_add(MOST_BUCKETS))
            }
            Direction::Backward => {
                let (from, to) = (buckets.holding(self.last).0, buckets.holding(next).1);
                from.max(to.saturating_sub(MOST_BUCKETS))..=to
            }
        };
        let mut seen: Vec<u64> = Vec::new();
        for number in numbers {
            let rows = self.ask(number, next, true).await.unwrap_or_default();
            seen.extend(rows.first().map(|row| row.event.sequence));
        }
        let (first, last) = match self.query.direction {
            Direction::Forward => (next, seen.iter().min().map_or(self.last, |seen| seen - 1)),
            Direction::Backward => (seen.iter().max().map_or(self.last, |seen| seen + 1), next),
        };
        Error::Gap {
            stream: Some(self.query.stream.clone()),
            first,
            last,
        }
    }
}

fn most_rows(limits: &Limits) -> u32 {
    let largest = limits.payload_bytes.max(USUAL_PAYLOAD) + limits.metadata_bytes;
    let rows = (MOST_BYTES / largest.max(1)).clamp(1, MOST_ROWS);
    u32::try_from(rows).unwrap_or(1)
}

/// Whether fewer rows may be answered where these were not.
fn is_of_size(error: &WireError) -> bool {
    matches!(error.class, ErrorClass::Refused | ErrorClass::Unclear)
}

/// An event that was replicated from a log was recorded elsewhere first.
fn envelope(row: EventRow) -> EventEnvelope {
    let mut event = row.event;
    if let Some(place) = row.place {
        event.kind = RecordKind::Adopted;
        if event.birth.is_none() {
            event.birth = Some(std::sync::Arc::new(Birth {
                origin: place.origin,
                epoch: place.epoch,
                position: place.position,
                recorded_time: event.recorded_time,
            }));
        }
    }
    event
}
