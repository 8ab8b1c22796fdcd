//! Reads durable commits one after another, each checked as replay would.

use std::sync::Arc;

use bytes::Bytes;
use tidelog_core::Error;

use super::super::frame::{self, FrameHeader};
use super::super::frame_reader::Expect;
use super::super::log::{Cursor, Log, SegmentInfo};
use super::super::mark;
use super::super::segment;
use super::super::shared::Shared;
use super::super::walk::{end_of, expect_of, header};
use super::Commit;

/// Read at once: little at first, since whoever is level wants one commit, then more.
const FIRST_WINDOW: usize = 16 << 10;
const LARGEST_WINDOW: usize = 1 << 20;

/// The commits of a log from one place on; made by
/// [`SledStore::commits`](crate::SledStore::commits). It does not keep the store open.
pub struct Commits {
    shared: Arc<Shared>,
    after: u64,
    place: Option<Place>,
    window: usize,
}

/// Where a frame begins, and what it must agree with.
#[derive(Clone, Copy)]
struct Place {
    cursor: Cursor,
    expect: Expect,
}

impl Commits {
    pub(crate) fn new(shared: Arc<Shared>, after: u64) -> Self {
        Self {
            shared,
            after,
            place: None,
            window: FIRST_WINDOW,
        }
    }

    /// Position of the last record that was passed.
    pub fn after(&self) -> u64 {
        self.after
    }

    /// The next commits, whole and durable, of some `max_bytes` together but at least one; none when
    /// there is no more. What a repair left out is passed over: positions and numbers jump there.
    /// Blocks for file I/O.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Io`], [`Error::Closed`].
    pub fn next(&mut self, max_bytes: usize) -> Result<Vec<Commit>, Error> {
        if self.shared.live.is_closed() {
            return Err(Error::Closed);
        }
        let durable = self.shared.durable();
        let log = Arc::clone(&self.shared.log);
        let mut commits: Vec<Commit> = Vec::new();
        let mut bytes = 0;
        while self.after < durable && bytes < max_bytes {
            let mut place = match self.place {
                Some(place) => place,
                None => first_place(&log, self.after + 1)?,
            };
            let left = max_bytes - bytes;
            let window = self.window.min(left.max(FIRST_WINDOW));
            let read = read(&log, &mut place, window, (durable, left))?;
            self.place = Some(place);
            let used: usize = read.iter().map(|commit| commit.body.len()).sum();
            // Twice what was of use.
            self.window = (used * 2).clamp(FIRST_WINDOW, LARGEST_WINDOW);
            bytes += used;
            let Some(last) = read.last() else { break };
            self.after = last.last_position();
            commits.extend(read);
        }
        Ok(commits)
    }
}

/// The commit that holds `position`, or the first one behind the hole that it is in.
fn first_place(log: &Log, position: u64) -> Result<Place, Error> {
    let position = match log.hole_at(position) {
        Some((_, last)) => last + 1,
        None => position.max(log.first_position()),
    };
    let cursor = log.locate(position)?;
    let Some(header) = header_at(log, cursor)? else {
        return Err(log.damaged(cursor.segment, cursor.offset, UNREADABLE));
    };
    let expect = Expect {
        salt: log.salt,
        commit: header.commit,
        position: header.first_position,
        previous: header.previous,
    };
    Ok(Place { cursor, expect })
}

/// The frame header that stands at `cursor`.
pub(super) fn header_at(log: &Log, cursor: Cursor) -> Result<Option<FrameHeader>, Error> {
    let bytes = log.read_up_to(cursor.segment, cursor.offset, frame::HEADER)?;
    let header = FrameHeader::decode(&bytes);
    Ok(header.filter(|header| header.salt == log.salt && !mark::is_mark(header)))
}

/// The commit that stands at `cursor`.
pub(super) fn commit_at(log: &Log, cursor: Cursor, header: &FrameHeader) -> Result<Commit, Error> {
    let mut place = Place {
        cursor,
        expect: Expect {
            salt: log.salt,
            commit: header.commit,
            position: header.first_position,
            previous: header.previous,
        },
    };
    let len = usize::try_from(header.frame_len()).unwrap_or(usize::MAX);
    let mut read = read(log, &mut place, len, (header.first_position, 1))?;
    let gone = || log.damaged(cursor.segment, cursor.offset, UNREADABLE);
    read.pop().ok_or_else(gone)
}

/// Reads the commits that fit into a window from `place` on, up to the one that holds position `last`
/// or has these `bytes` full; one that does not fit is read alone. `place` moves behind them.
fn read(
    log: &Log,
    place: &mut Place,
    window: usize,
    (last, most): (u64, usize),
) -> Result<Vec<Commit>, Error> {
    let mut want = window;
    let mut used = 0;
    let mut commits: Vec<Commit> = Vec::new();
    while commits.is_empty() && place.expect.position <= last {
        let Cursor { segment, offset } = place.cursor;
        let bytes = Bytes::from(log.read_up_to(segment, offset, want)?);
        let mut at = 0;
        while place.expect.position <= last && used < most {
            let rest = bytes.slice(at..);
            let Some(header) = FrameHeader::decode(&rest) else {
                if rest.len() < frame::HEADER && at > 0 {
                    break;
                }
                if rest.iter().take(frame::HEADER).any(|byte| *byte != 0) {
                    return Err(log.damaged(segment, place.cursor.offset, UNREADABLE));
                }
                next_segment(log, place)?;
                break;
            };
            if header.salt == log.salt && mark::is_mark(&header) {
                next_segment(log, place)?;
                break;
            }
            let len = usize::try_from(header.frame_len()).unwrap_or(usize::MAX);
            if rest.len() < len {
                if at == 0 && want >= len {
                    let what = "the file ends before a commit does";
                    return Err(log.damaged(segment, offset, what));
                }
                log.check_range(segment, place.cursor.offset, header.frame_len())?;
                want = len;
                break;
            }
            let commit = check(&header, &rest, &place.expect, window);
            let commit = commit.map_err(|why| log.damaged(segment, place.cursor.offset, why))?;
            place.expect = Expect {
                salt: log.salt,
                commit: commit.number + 1,
                position: commit.last_position() + 1,
                previous: commit.hash,
            };
            place.cursor.offset += header.frame_len();
            used += commit.body.len();
            commits.push(commit);
            at += len;
        }
    }
    Ok(commits)
}

/// The commit at the front of `bytes`, if it is what is expected.
fn check(
    header: &FrameHeader,
    bytes: &Bytes,
    expect: &Expect,
    window: usize,
) -> Result<Commit, &'static str> {
    if header.salt != expect.salt || header.records == 0 {
        return Err(UNREADABLE);
    }
    if header.commit != expect.commit
        || header.previous != expect.previous
        || header.first_position != expect.position
    {
        return Err("the commit does not follow the one before it");
    }
    let body_end = frame::HEADER.saturating_add(header.body_len as usize);
    let body = bytes.get(frame::HEADER..body_end).unwrap_or_default();
    if crc32c::crc32c(body) != header.body_crc {
        return Err("the commit's checksum does not match");
    }
    Ok(Commit {
        number: header.commit,
        first_position: header.first_position,
        records: header.records,
        previous: header.previous,
        hash: frame::chain(&header.previous, body),
        // A small one shall not keep a whole window alive.
        body: if body.len() * 2 < window {
            Bytes::copy_from_slice(body)
        } else {
            bytes.slice_ref(body)
        },
    })
}

/// Goes on in the next segment, which must begin where `place` is, or declare what is missing.
fn next_segment(log: &Log, place: &mut Place) -> Result<(), Error> {
    let Cursor { segment, offset } = place.cursor;
    let segments = log.segments();
    let is_next = |info: &&SegmentInfo| info.number == segment + 1;
    let Some(next) = segments.iter().find(is_next) else {
        return Err(log.damaged(segment, offset, "a commit that was synced is gone"));
    };
    if end_of(&place.expect) != next.before {
        let what = "it does not end where the next segment begins: commits are missing";
        return Err(log.damaged(segment, offset, what));
    }
    place.cursor = Cursor {
        segment: segment + 1,
        offset: segment::DATA,
    };
    place.expect = expect_of(&header(log, segment + 1)?);
    Ok(())
}

const UNREADABLE: &str = "no commit can be read";
