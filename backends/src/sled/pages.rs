//! Reading pages of envelopes: of one stream by its places, of the whole log by scanning.

use std::sync::Arc;

use bytes::Bytes;
use tidelog_core::{Direction, Error, EventEnvelope, StreamId, StreamQuery};

use super::frame::{self, FrameHeader};
use super::index::Posting;
use super::log::{Cursor, Log};
use super::record::{self, Names};
use super::segment;
use super::streams::Streams;

/// Most events of one page of a stream.
const STREAM_PAGE: usize = 512;
/// Bytes after which a page ends.
const PAGE_BYTES: usize = 1 << 20;
/// Read at once by a scan.
const SCAN_WINDOW: usize = 256 << 10;
/// Two places this near are read by one call.
const NEAR: u64 = 2048;

/// Something that reads page after page; `None` at the end.
pub(crate) trait Pages: Send + 'static {
    fn next_page(&mut self) -> Result<Option<Vec<EventEnvelope>>, Error>;
}

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
    names: Names,
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
            names: Names::new(),
        }
    }

    /// Makes the first page an error when the stream does not reach to `sequence`.
    pub(crate) fn must_hold(&mut self, sequence: u64) {
        self.must_hold = sequence;
    }

    fn check_reach(&mut self) -> Result<(), Error> {
        let wanted = std::mem::take(&mut self.must_hold);
        let head = self
            .streams
            .head(self.hash, &self.query.stream)?
            .map_or(0, |(head, _)| head);
        if head >= wanted {
            return Ok(());
        }
        let reason = format!(
            "{} ends at {head}: what was seen there is not in it any more",
            self.query.stream
        );
        Err(Error::invalid("sequence", wanted, reason))
    }
}

impl Pages for StreamPages {
    fn next_page(&mut self) -> Result<Option<Vec<EventEnvelope>>, Error> {
        if self.must_hold > 0 {
            self.check_reach()?;
        }
        loop {
            let (from, to) = (self.query.from.max(1), self.query.to);
            if from > to || self.left == 0 {
                return Ok(None);
            }
            let limit = usize::try_from(self.left)
                .unwrap_or(usize::MAX)
                .min(STREAM_PAGE);
            let stream = &self.query.stream;
            let direction = self.query.direction;
            let mut places =
                self.streams
                    .postings(self.hash, stream, (from, to), direction, limit)?;
            let mut bytes = 0;
            let fitting = places.iter().take_while(|(_, place)| {
                let fits = bytes < PAGE_BYTES;
                bytes += place.len as usize;
                fits
            });
            let fitting = fitting.count();
            places.truncate(fitting);
            let Some((last, _)) = places.last().copied() else {
                return Ok(None);
            };
            let mut page = read_places(&self.log, stream, &places, &mut self.names)?;
            match direction {
                Direction::Forward => self.query.from = last + 1,
                Direction::Backward => self.query.to = last - 1,
            }
            let read = page.len();
            page.retain(|envelope| {
                envelope
                    .position
                    .is_some_and(|position| position <= self.pin)
            });
            if direction == Direction::Forward && page.len() < read {
                // All that follows is newer still.
                self.left = 0;
            }
            self.left = self.left.saturating_sub(page.len() as u64);
            if !page.is_empty() {
                return Ok(Some(page));
            }
        }
    }
}

/// The records at `places`, all of `stream`, in that order.
pub(crate) fn read_places(
    log: &Log,
    stream: &StreamId,
    places: &[(u64, Posting)],
    names: &mut Names,
) -> Result<Vec<EventEnvelope>, Error> {
    let spans = spans(places);
    for span in &spans {
        log.check_range(span.segment, span.start, span.end - span.start)?;
    }
    let total = spans.iter().map(Span::len).sum();
    let mut buffer = vec![0; total];
    let mut rest = &mut buffer[..];
    for span in &spans {
        let (here, after) = rest.split_at_mut(span.len());
        log.read_at(span.segment, span.start, here)?;
        rest = after;
    }
    let page = Bytes::from(buffer);
    let mut envelopes = Vec::with_capacity(places.len());
    for (sequence, place) in places {
        let damaged = |what: &str| log.damaged(place.segment, u64::from(place.offset), what);
        let start = offset_in(&spans, place).ok_or_else(|| damaged("its place was not read"))?;
        let bytes = page
            .get(start..start + place.len as usize)
            .unwrap_or_default();
        let parsed = record::parse(bytes).map_err(damaged)?;
        if parsed.sequence != *sequence || !parsed.is_of(stream) {
            return Err(damaged(
                "another record stands where the index points; rebuild the index",
            ));
        }
        let event_type = names.event_type(parsed.event_type);
        let envelope = parsed.to_envelope(&page, stream.clone(), event_type);
        envelopes.push(envelope.ok_or_else(|| damaged("the record's fields cannot be read"))?);
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

/// Pages of the whole log.
pub(crate) struct LogPages {
    log: Arc<Log>,
    next: u64,
    to: u64,
    place: Option<Place>,
    names: Names,
}

/// Where a scan stands: at a frame's start, or at a record inside one.
#[derive(Clone, Copy)]
struct Place {
    segment: u64,
    offset: u64,
    frame: Option<Frame>,
}

/// What a scan knows of the frame it is inside.
#[derive(Clone, Copy)]
struct Frame {
    body_end: u64,
    /// Where the zeros begin that fill it up.
    padding: u64,
    end: u64,
}

impl LogPages {
    /// Records `from..=to`; `to` must not be above the newest visible position.
    pub(crate) fn new(log: Arc<Log>, from: u64, to: u64) -> Self {
        let next = from.max(log.first_position());
        Self {
            log,
            next,
            to,
            place: None,
            names: Names::new(),
        }
    }

    fn scan(&mut self, place: &mut Place) -> Result<Vec<EventEnvelope>, Error> {
        let mut page = Vec::new();
        let mut want = SCAN_WINDOW;
        while page.is_empty() && self.next <= self.to {
            let window = Bytes::from(self.log.read_up_to(place.segment, place.offset, want)?);
            let base = place.offset;
            let asked = std::mem::replace(&mut want, SCAN_WINDOW);
            loop {
                let inside = usize::try_from(place.offset - base).unwrap_or(usize::MAX);
                let rest = window.get(inside..).unwrap_or_default();
                if self.next > self.to {
                    break;
                }
                let Some(frame) = place.frame else {
                    if rest.len() < frame::HEADER && inside > 0 {
                        break;
                    }
                    match FrameHeader::decode(rest) {
                        Some(header) if header.salt == self.log.salt => {
                            let body = place.offset + frame::HEADER as u64;
                            let body_end = body + u64::from(header.body_len);
                            place.frame = Some(Frame {
                                body_end,
                                padding: body_end + u64::from(header.trailer_len),
                                end: place.offset + header.frame_len(),
                            });
                            place.offset = body;
                        }
                        _ if rest.iter().take(frame::HEADER).all(|byte| *byte == 0) => {
                            // The position wanted is in the log, so another segment follows.
                            *place = Place {
                                segment: place.segment + 1,
                                offset: segment::DATA,
                                frame: None,
                            };
                            break;
                        }
                        _ => {
                            return Err(self.log.damaged(
                                place.segment,
                                place.offset,
                                "no frame header can be read",
                            ));
                        }
                    }
                    continue;
                };
                if place.offset >= frame.body_end {
                    place.offset = place.offset.max(frame.padding);
                    let at = usize::try_from(place.offset - base).unwrap_or(usize::MAX);
                    let left = usize::try_from(frame.end - place.offset).unwrap_or_default();
                    let Some(padding) = window.get(at..at.saturating_add(left)) else {
                        if at == 0 {
                            return Err(self.log.damaged(
                                place.segment,
                                place.offset,
                                "the file ends before a commit does",
                            ));
                        }
                        break;
                    };
                    if padding.iter().any(|byte| *byte != 0) {
                        return Err(self.log.damaged(
                            place.segment,
                            place.offset,
                            "what fills the commit up is not zero",
                        ));
                    }
                    place.offset = frame.end;
                    place.frame = None;
                    continue;
                }
                let Some(len) = record::total_len(rest) else {
                    if rest.len() >= record::PREFIX || inside == 0 {
                        return Err(self.log.damaged(
                            place.segment,
                            place.offset,
                            "the record's length is impossible",
                        ));
                    }
                    break;
                };
                if place.offset + len as u64 > frame.body_end {
                    return Err(self.log.damaged(
                        place.segment,
                        place.offset,
                        "the record does not fit into its commit",
                    ));
                }
                let Some(bytes) = rest.get(..len) else {
                    if inside == 0 && asked >= len {
                        return Err(self.log.damaged(
                            place.segment,
                            place.offset,
                            "the file ends before a record does",
                        ));
                    }
                    want = len.max(SCAN_WINDOW);
                    break;
                };
                let damaged = |what: &str| self.log.damaged(place.segment, place.offset, what);
                let parsed = record::parse(bytes).map_err(damaged)?;
                if parsed.position >= self.next {
                    if parsed.position > self.next {
                        return Err(damaged("the position does not follow"));
                    }
                    let envelope = self.names.envelope(parsed, &window);
                    page.push(envelope.ok_or_else(|| {
                        self.log.damaged(
                            place.segment,
                            place.offset,
                            "the record's fields cannot be read",
                        )
                    })?);
                    self.next += 1;
                }
                place.offset += len as u64;
            }
        }
        Ok(page)
    }
}

impl Pages for LogPages {
    fn next_page(&mut self) -> Result<Option<Vec<EventEnvelope>>, Error> {
        if self.next > self.to {
            return Ok(None);
        }
        let mut place = match self.place {
            Some(place) => place,
            None => {
                let Cursor { segment, offset } = self.log.locate(self.next)?;
                Place {
                    segment,
                    offset,
                    frame: None,
                }
            }
        };
        let page = self.scan(&mut place)?;
        self.place = Some(place);
        Ok((!page.is_empty()).then_some(page))
    }
}
