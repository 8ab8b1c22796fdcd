//! Reading a stream page by page: by the places of its records.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tidelog_core::{Direction, Error, EventEnvelope, StreamId, StreamQuery};

use super::index::Posting;
use super::log::Log;
use super::read_ahead::{Piece, Pieces};
use super::record::{self, Names};
use super::streams::Streams;

/// Most events of one page of a stream.
const STREAM_PAGE: usize = 512;
/// Bytes after which a page ends.
const PAGE_BYTES: usize = 1 << 20;
/// So few places are read by one thread.
const ALONE: usize = 24;
/// Of more, two threads read as many each, in pieces of about so many.
const PIECE: usize = 64;
/// Two places this near are read by one call.
const NEAR: u64 = 2048;

/// Pages of one stream.
pub(crate) struct StreamPages {
    streams: Arc<Streams>,
    log: Arc<Log>,
    hash: u64,
    query: StreamQuery,
    left: u64,
    /// Nothing above this position is seen.
    pin: u64,
    /// A sequence that the stream must have reached, or reading it makes no sense.
    must_hold: u64,
}

impl StreamPages {
    pub(crate) fn new(
        streams: Arc<Streams>,
        log: Arc<Log>,
        hash: u64,
        query: StreamQuery,
        pin: u64,
    ) -> Self {
        let left = query.limit.unwrap_or(u64::MAX);
        Self {
            streams,
            log,
            hash,
            query,
            left,
            pin,
            must_hold: 0,
        }
    }

    /// Makes the first page an error when the stream does not reach to `sequence`.
    pub(crate) fn must_hold(&mut self, sequence: u64) {
        self.must_hold = sequence;
    }

    /// The reading of `places`, without what is newer than the pin.
    fn piece(&self, places: Vec<(u64, Posting)>) -> Piece {
        let (log, stream, pin) = (Arc::clone(&self.log), self.query.stream.clone(), self.pin);
        Piece::new(move || {
            let mut page = read_places(&log, &stream, &places)?;
            page.retain(|envelope| envelope.position.is_some_and(|position| position <= pin));
            Ok(page)
        })
    }

    /// Leaves the places before the first lost event; an error when there are none. Says whether it
    /// met one.
    fn stop_at_gap(&self, places: &mut Vec<(u64, Posting)>, full: bool) -> Result<bool, Error> {
        let Some(lost) = self.log.losses.unaccepted(&self.query.stream) else {
            return Ok(false);
        };
        let forward = self.query.direction == Direction::Forward;
        let (mut from, mut to) = (self.query.from.max(1), self.query.to);
        for at in 0..=places.len() {
            let between = match places.get(at) {
                Some((found, _)) if forward => (from, found - 1),
                Some((found, _)) => (found + 1, to),
                // More places may follow a full page.
                None if full => break,
                None => (from, to),
            };
            let mut met = lost
                .iter()
                .filter(|(first, last)| *first <= between.1 && *last >= between.0);
            let gap = if forward { met.next() } else { met.next_back() };
            match gap {
                Some((first, last)) if at == 0 => {
                    return Err(Error::Gap {
                        stream: Some(self.query.stream.clone()),
                        first: *first,
                        last: *last,
                    });
                }
                Some(_) => {
                    places.truncate(at);
                    return Ok(true);
                }
                None => {}
            }
            match places.get(at) {
                Some((found, _)) if forward => from = found + 1,
                Some((found, _)) => to = found - 1,
                None => {}
            }
        }
        Ok(false)
    }

    fn check_reach(&mut self) -> Result<(), Error> {
        let wanted = std::mem::take(&mut self.must_hold);
        let head = self
            .streams
            .head(self.hash, &self.query.stream, self.pin)?
            .map_or(0, |(head, _)| head);
        // Whoever goes on behind what is gone at the end of a stream does so on purpose.
        if head.max(self.log.losses.last_lost(&self.query.stream)) >= wanted {
            return Ok(());
        }
        let reason = format!(
            "{} ends at {head}: what was seen there is not in it any more",
            self.query.stream
        );
        Err(Error::invalid("sequence", wanted, reason))
    }
}

impl Pieces for StreamPages {
    fn next_pieces(&mut self, pieces: &mut VecDeque<Piece>) -> Result<bool, Error> {
        if self.must_hold > 0 {
            self.check_reach()?;
        }
        let (from, to) = (self.query.from.max(1), self.query.to);
        if from > to || self.left == 0 {
            return Ok(false);
        }
        let limit = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(STREAM_PAGE);
        let stream = &self.query.stream;
        let direction = self.query.direction;
        let mut places =
            self.streams
                .postings(self.hash, stream, (from, to), direction, limit, self.pin)?;
        let found = places.len();
        let mut bytes = 0;
        let fitting = places.iter().take_while(|(_, place)| {
            let fits = bytes < PAGE_BYTES;
            bytes += place.len as usize;
            fits
        });
        let fitting = fitting.count();
        let full = places.len() == limit || fitting < places.len();
        places.truncate(fitting);
        let at_gap = self.stop_at_gap(&mut places, full)?;
        let Some((last, _)) = places.last().copied() else {
            return Ok(false);
        };
        let is_end = found < limit && places.len() == found && !at_gap;
        match direction {
            Direction::Forward => {
                // What is above the pin comes last, so it is none of those wanted.
                self.left -= places.len() as u64;
                self.query.from = last + 1;
                let shares = match places.len() {
                    ..=ALONE => 1,
                    many => many.div_ceil(2 * PIECE) * 2,
                };
                let size = places.len().div_ceil(shares);
                pieces.extend(places.chunks(size).map(|places| self.piece(places.into())));
            }
            Direction::Backward => {
                self.query.to = last - 1;
                let page = self.piece(places).read()?;
                self.left -= page.len() as u64;
                pieces.push_back(Piece::done(page));
            }
        }
        if is_end {
            self.left = 0;
        }
        Ok(true)
    }
}

/// The records at `places`, all of `stream`, in that order.
pub(crate) fn read_places(
    log: &Log,
    stream: &StreamId,
    places: &[(u64, Posting)],
) -> Result<Vec<EventEnvelope>, Error> {
    let mut names = Names::new();
    let spans = spans(places);
    for span in &spans {
        log.check_range(span.segment, span.start, span.end - span.start)?;
    }
    let total = spans.iter().map(Span::len).sum();
    let mut buffer = vec![0; total];
    let mut rest = &mut buffer[..];
    for in_segment in spans.chunk_by(|a, b| a.segment == b.segment) {
        let Some(Span { segment, .. }) = in_segment.first() else {
            continue;
        };
        let file = log.file(*segment)?;
        for span in in_segment {
            let (here, after) = rest.split_at_mut(span.len());
            log.read_from(&file, *segment, span.start, here)?;
            rest = after;
        }
    }
    let page = Bytes::from(buffer);
    let mut envelopes = Vec::with_capacity(places.len());
    for (sequence, place) in places {
        let damaged = |what: &str| log.damaged(place.segment, u64::from(place.offset), what);
        let start = offset_in(&spans, place).ok_or_else(|| damaged("its place was not read"))?;
        let bytes = page
            .get(start..start + place.len as usize)
            .unwrap_or_default();
        let parsed = record::parse_fields(bytes).map_err(damaged)?;
        if parsed.sequence != *sequence || !parsed.is_of(stream) {
            return Err(damaged(
                "another record stands where the index points; rebuild the index",
            ));
        }
        names
            .event_type(parsed.event_type)
            .and_then(|event_type| parsed.push_to(&mut envelopes, &page, stream, event_type))
            .ok_or_else(|| damaged("the record's fields cannot be read"))?;
    }
    Ok(envelopes)
}

/// Bytes of one segment that are read by one call.
struct Span {
    segment: u64,
    start: u64,
    end: u64,
    /// Where they stand in the buffer.
    at: usize,
}

impl Span {
    fn len(&self) -> usize {
        usize::try_from(self.end - self.start).unwrap_or_default()
    }
}

fn spans(places: &[(u64, Posting)]) -> Vec<Span> {
    let mut ordered: Vec<&Posting> = places.iter().map(|(_, place)| place).collect();
    ordered.sort_unstable_by_key(|place| (place.segment, place.offset));
    let mut spans: Vec<Span> = Vec::new();
    for place in ordered {
        let (start, end) = (
            u64::from(place.offset),
            u64::from(place.offset) + u64::from(place.len),
        );
        match spans.last_mut() {
            Some(span) if span.segment == place.segment && start <= span.end + NEAR => {
                span.end = span.end.max(end);
            }
            _ => {
                let at = spans.last().map_or(0, |span| span.at + span.len());
                spans.push(Span {
                    segment: place.segment,
                    start,
                    end,
                    at,
                });
            }
        }
    }
    spans
}

fn offset_in(spans: &[Span], place: &Posting) -> Option<usize> {
    let key = (place.segment, u64::from(place.offset));
    let after = spans.partition_point(|span| (span.segment, span.start) <= key);
    let span = spans.get(after.checked_sub(1)?)?;
    Some(span.at + usize::try_from(key.1 - span.start).ok()?)
}
