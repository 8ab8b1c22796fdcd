//! Walks over the records of one segment of an open store, believing nothing.

use tidelog_core::Error;

use super::frame;
use super::frame_reader::{Expect, FrameReader, Step, for_each_record};
use super::hash::NameHash;
use super::index::SegmentIndex;
use super::log::Log;
use super::record::Parsed;
use super::replay;
use super::segment::{self, End, SegmentHeader};
use crate::platform;

/// Visits every record of a sealed segment with its offset and length, checking CRCs, chain and
/// density, and that the next segment goes on where it ends.
pub(crate) fn walk_sealed(
    log: &Log,
    number: u64,
    visit: impl FnMut(u64, usize, &Parsed<'_>) -> Result<(), Error>,
) -> Result<Expect, Error> {
    let end = walk(log, number, u64::MAX, visit)?;
    if end_of(&end) != header(log, number + 1)?.end_before() {
        let what = "it does not end where the next segment begins: commits are missing";
        return Err(log.damaged(number, segment::DATA, what));
    }
    Ok(end)
}

/// Visits the records of the segment being written up to position `last`.
pub(crate) fn walk_newest(
    log: &Log,
    number: u64,
    last: u64,
    visit: impl FnMut(u64, usize, &Parsed<'_>) -> Result<(), Error>,
) -> Result<Expect, Error> {
    let end = walk(log, number, last, visit)?;
    if end.position <= last {
        let what = "a commit that is visible cannot be read";
        return Err(log.damaged(number, segment::DATA, what));
    }
    Ok(end)
}

/// The index of a sealed segment, read from the log, and the chain hash at its end.
pub(crate) fn read_segment(
    log: &Log,
    number: u64,
    hash: &NameHash,
) -> Result<(SegmentIndex, frame::ChainHash), Error> {
    let mut index = SegmentIndex::new(number);
    let end = walk_sealed(log, number, |offset, len, parsed| {
        if parsed.sequence > 0
            && !replay::push(&mut index, hash, &log.branches, parsed, offset, len)
        {
            return Err(log.damaged(number, offset, "a record cannot be indexed"));
        }
        Ok(())
    })?;
    Ok((index, end.previous))
}

fn walk(
    log: &Log,
    number: u64,
    last: u64,
    mut visit: impl FnMut(u64, usize, &Parsed<'_>) -> Result<(), Error>,
) -> Result<Expect, Error> {
    let mut next = expect_of(&header(log, number)?);
    let file = log.file(number)?;
    let mut reader = FrameReader::new(&file, log.path(number))?;
    while next.position <= last {
        let offset = reader.offset();
        let (header, after) = match reader.step(&next)? {
            Step::End => break,
            Step::Bad(why) => return Err(log.damaged(number, offset, why)),
            Step::Commit { header, next } => (header, next),
        };
        let base = offset + frame::HEADER as u64;
        let mut position = header.first_position;
        let mut dense = true;
        let count = for_each_record(reader.body(), |at, len, parsed| {
            dense &= parsed.position == position;
            position += 1;
            visit(base + at as u64, len, &parsed)
        })?;
        if count != Ok(header.records) || !dense {
            return Err(log.damaged(number, offset, "its records are not those stated"));
        }
        next = after;
    }
    Ok(next)
}

/// The header of a segment.
pub(crate) fn header(log: &Log, number: u64) -> Result<SegmentHeader, Error> {
    let file = log.file(number)?;
    let mut bytes = [0; segment::FIELDS];
    platform::read_exact_at(&file, &mut bytes, 0)
        .map_err(|error| Error::io("read", log.path(number), error))?;
    SegmentHeader::decode(&bytes)
        .filter(|header| header.number == number && header.salt == log.salt)
        .ok_or_else(|| log.damaged(number, 0, "its header cannot be read"))
}

/// Where a walk ended.
pub(crate) fn end_of(next: &Expect) -> End {
    End {
        commit: next.commit,
        position: next.position,
        previous: next.previous,
    }
}

/// What the first commit of a segment must agree with.
pub(crate) fn expect_of(header: &SegmentHeader) -> Expect {
    Expect {
        salt: header.salt,
        commit: header.first_commit,
        position: header.first_position,
        previous: header.previous,
    }
}
