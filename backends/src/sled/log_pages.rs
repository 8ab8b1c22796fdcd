//! Reading the whole log page by page: windows of the files, cut at records, then decoded.
//!
//! Cutting is cheap and goes in order; decoding, which is nearly all of the work, needs nothing but
//! its window, so it is left to whichever thread is free.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tidelog_core::{Error, EventEnvelope};

use super::frame::{self, FrameHeader};
use super::log::{Cursor, Log};
use super::read_ahead::{AHEAD, Piece, Pieces};
use super::record::{self, Names};
use super::segment;

/// Read at once: little at first, since many reads end early, then more and more, since handing a
/// window over costs as much as decoding some hundred records.
const FIRST_WINDOW: usize = 64 << 10;
const LARGEST_WINDOW: usize = 256 << 10;
/// Records of a page at most: small ones take far more memory decoded than in the log.
const MOST_RECORDS: u64 = 1024;

/// Pages of the whole log.
pub(crate) struct LogPages {
    log: Arc<Log>,
    next: u64,
    to: u64,
    place: Option<Place>,
    /// Bytes to read next.
    window: usize,
    /// What was read lately; the oldest is read into again once nobody holds any of it.
    windows: VecDeque<Bytes>,
}

/// Where a scan stands: at a frame's start, or at a record inside one.
#[derive(Clone, Copy)]
struct Place {
    segment: u64,
    offset: u64,
    frame: Option<Inside>,
}

/// A commit that is being read.
#[derive(Clone, Copy)]
struct Inside {
    body_end: u64,
    /// Where the zeros begin that fill it up.
    padding: u64,
    end: u64,
    /// Of the next record.
    position: u64,
}

/// Whole records that stand one after another.
struct Run {
    bytes: Range<usize>,
    positions: Range<u64>,
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
            window: FIRST_WINDOW,
            windows: VecDeque::new(),
        }
    }

    /// Reads up to `want` bytes from `place` on.
    fn read(&mut self, place: &Place, want: usize) -> Result<Bytes, Error> {
        let spare = if self.windows.len() > AHEAD + 1 {
            self.windows.pop_front()
        } else {
            None
        };
        let mut buffer = spare
            .and_then(|spare| spare.try_into_mut().ok())
            .unwrap_or_default();
        self.log
            .read_into(place.segment, place.offset, want, &mut buffer)?;
        let window = buffer.freeze();
        // One for a large record is let go of with it.
        if window.len() <= LARGEST_WINDOW {
            self.windows.push_back(window.clone());
        }
        Ok(window)
    }

    /// The next window with records that are wanted.
    fn cut(&mut self, place: &mut Place) -> Result<Piece, Error> {
        let mut want = self.window;
        loop {
            let window = self.read(place, want)?;
            let base = *place;
            let runs = self.runs(place, &window, &mut want)?;
            let Some(last) = runs.last() else {
                continue;
            };
            // Twice what was of use.
            self.window = (last.bytes.end * 2).clamp(FIRST_WINDOW, LARGEST_WINDOW);
            let log = Arc::clone(&self.log);
            return Ok(Piece::new(move || decode(&log, &base, &window, &runs)));
        }
    }

    /// The whole records in `window` that are wanted; `place` moves behind them. `want` becomes what
    /// the next window needs to hold a whole record.
    fn runs(
        &mut self,
        place: &mut Place,
        window: &Bytes,
        want: &mut usize,
    ) -> Result<Vec<Run>, Error> {
        let base = place.offset;
        let asked = std::mem::replace(want, FIRST_WINDOW);
        let mut runs: Vec<Run> = Vec::new();
        let end = self
            .next
            .saturating_add(MOST_RECORDS)
            .min(self.to.saturating_add(1))
            .min(self.log.next_hole(self.next));
        while self.next < end {
            let damaged = |place: &Place, what| self.log.damaged(place.segment, place.offset, what);
            let inside = usize::try_from(place.offset - base).unwrap_or(usize::MAX);
            let rest = window.get(inside..).unwrap_or_default();
            let Some(commit) = &mut place.frame else {
                if rest.len() < frame::HEADER && inside > 0 {
                    break;
                }
                match FrameHeader::decode(rest) {
                    Some(header) if header.salt == self.log.salt => {
                        let body = place.offset + frame::HEADER as u64;
                        let body_end = body + u64::from(header.body_len);
                        place.frame = Some(Inside {
                            body_end,
                            padding: body_end + u64::from(header.trailer_len),
                            end: place.offset + header.frame_len(),
                            position: header.first_position,
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
                    _ => return Err(damaged(place, "no frame header can be read")),
                }
                continue;
            };
            if place.offset >= commit.body_end {
                let end = commit.end;
                place.offset = place.offset.max(commit.padding);
                let at = usize::try_from(place.offset - base).unwrap_or(usize::MAX);
                let left = usize::try_from(end - place.offset).unwrap_or_default();
                let Some(padding) = window.get(at..at.saturating_add(left)) else {
                    if at == 0 {
                        return Err(damaged(place, "the file ends before a commit does"));
                    }
                    break;
                };
                if padding.iter().any(|byte| *byte != 0) {
                    return Err(damaged(place, "what fills the commit up is not zero"));
                }
                place.offset = end;
                place.frame = None;
                continue;
            }
            let Some(len) = record::total_len(rest) else {
                if rest.len() >= record::PREFIX || inside == 0 {
                    return Err(damaged(place, "the record's length is impossible"));
                }
                break;
            };
            if place.offset + len as u64 > commit.body_end {
                return Err(damaged(place, "the record does not fit into its commit"));
            }
            if rest.len() < len {
                if inside == 0 && asked >= len {
                    return Err(damaged(place, "the file ends before a record does"));
                }
                *want = len.max(FIRST_WINDOW);
                break;
            }
            let position = commit.position;
            if position > self.next {
                return Err(damaged(place, "the position does not follow"));
            }
            if position == self.next {
                self.next += 1;
                match runs.last_mut() {
                    Some(run) if run.bytes.end == inside => {
                        run.bytes.end += len;
                        run.positions.end += 1;
                    }
                    _ => runs.push(Run {
                        bytes: inside..inside + len,
                        positions: position..position + 1,
                    }),
                }
            }
            commit.position += 1;
            place.offset += len as u64;
        }
        Ok(runs)
    }
}

impl Pieces for LogPages {
    fn next_pieces(&mut self, pieces: &mut VecDeque<Piece>) -> Result<bool, Error> {
        if self.next > self.to {
            return Ok(false);
        }
        if let Some((first, last)) = self.log.hole_at(self.next) {
            // A copy may meet a hole before the record that declares it.
            if self.log.losses.is_none() || !self.log.losses.accepted() {
                return Err(Error::Gap {
                    stream: None,
                    first,
                    last,
                });
            }
            self.next = last + 1;
            self.place = None;
            return self.next_pieces(pieces);
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
        pieces.push_back(self.cut(&mut place)?);
        self.place = Some(place);
        Ok(true)
    }
}

/// The records of `runs` in `window`, which was read from `base` on.
fn decode(
    log: &Log,
    base: &Place,
    window: &Bytes,
    runs: &[Run],
) -> Result<Vec<EventEnvelope>, Error> {
    let mut names = Names::new();
    let records: u64 = runs
        .iter()
        .map(|run| run.positions.end - run.positions.start)
        .sum();
    let mut page = Vec::with_capacity(usize::try_from(records).unwrap_or_default());
    for run in runs {
        let mut at = run.bytes.start;
        let mut position = run.positions.start;
        while at < run.bytes.end {
            let damaged = |what: &str| log.damaged(base.segment, base.offset + at as u64, what);
            let rest = window.get(at..run.bytes.end).unwrap_or_default();
            let bytes = record::total_len(rest).and_then(|len| rest.get(..len));
            let bytes = bytes.ok_or_else(|| damaged("the record's length is impossible"))?;
            let parsed = record::parse_fields(bytes).map_err(damaged)?;
            if parsed.position != position {
                return Err(damaged("the position does not follow"));
            }
            names
                .push(parsed, window, &mut page)
                .ok_or_else(|| damaged("the record's fields cannot be read"))?;
            position += 1;
            at += bytes.len();
        }
    }
    Ok(page)
}
