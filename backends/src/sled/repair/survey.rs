//! What is left of a damaged log: every whole commit, wherever it stands, and whatever says that
//! there were more.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use tidelog_core::{Error, RecordKind};

use super::super::format::Format;
use super::super::frame::ChainHash;
use super::super::frame_reader::{Expect, FrameReader, Step, for_each_record};
use super::super::indexer::BACKLOG;
use super::super::segment::{self, End, SegmentHeader};
use super::super::walk::end_of;
use super::Told;
use crate::platform;

/// No record is shorter: 8 bytes of length and CRC, 28 fixed ones, 6 numbers, 3 texts of a byte.
const LEAST_RECORD: u64 = 48;
/// Segments grow to this unless larger ones were asked for.
const LARGEST: u64 = 16 << 20;

/// One file of the log.
pub(super) struct Found {
    pub number: u64,
    pub path: PathBuf,
    pub len: u64,
    pub header: Option<SegmentHeader>,
}

/// Whole commits that follow one another in one file.
#[derive(Clone, Debug)]
pub(super) struct Stretch {
    pub number: u64,
    /// Bytes of the file, from the first frame to the end of the last.
    pub bytes: (u64, u64),
    pub begins: End,
    pub ends: End,
}

/// What can be known of the log.
pub(super) struct Survey {
    /// Whole commits, ascending, none twice.
    pub stretches: Vec<Stretch>,
    /// Whole commits that do not go together with those kept.
    pub foreign: u64,
    /// The commit and the position that were certainly given last.
    pub given: (u64, u64),
    /// Most records that may have followed all that is known.
    pub unknown: u64,
}

/// The files of the log in `dir`, ascending; those whose names are not a segment's are nobody's.
pub(super) fn files(dir: &Path) -> Result<Vec<Found>, Error> {
    let mut files = Vec::new();
    let failed = |error| Error::io("list", dir, error);
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Some(number) = entry.file_name().to_str().and_then(segment::number_of) else {
            continue;
        };
        let path = entry.path();
        let failed = |error| Error::io("read", &path, error);
        let file = File::open(&path).map_err(failed)?;
        let len = file.metadata().map_err(failed)?.len();
        let mut bytes = [0; segment::FIELDS];
        let header = if len >= segment::DATA {
            platform::read_exact_at(&file, &mut bytes, 0).map_err(failed)?;
            SegmentHeader::decode(&bytes)
        } else {
            None
        };
        files.push(Found {
            number,
            path,
            len,
            header,
        });
    }
    files.sort_unstable_by_key(|found| found.number);
    Ok(files)
}

/// Looks at every byte of the log. `promised` is the newest segment that was sealed, as far as the
/// index says.
pub(super) fn survey(
    files: &[Found],
    format: &Format,
    closed: Closed,
    promised: Option<u64>,
    told: &Told<'_>,
) -> Result<Survey, Error> {
    let mut seen = Seen::default();
    let mut stretches = Vec::new();
    for (done, found) in (0..).zip(files) {
        told.surveyed(done)?;
        if found.len > segment::MAX_LEN {
            continue;
        }
        scan(found, format.salt, &mut seen, &mut stretches)?;
    }
    let ours = |found: &&Found| {
        found
            .header
            .is_some_and(|header| (header.origin, header.salt) == (format.origin, format.salt))
    };
    for header in files.iter().filter(ours).filter_map(|found| found.header) {
        seen.vouched = seen.vouched.max(header.first_commit - 1);
        seen.give(header.first_commit - 1, header.first_position - 1);
    }
    if let Some((commit, position)) = closed {
        seen.vouched = seen.vouched.max(commit);
        seen.give(commit, position);
    }
    let (stretches, foreign, end) = join(stretches, files, format.salt)?;
    // As when a store is opened: what nothing vouches for behind the last whole commit is a write
    // that never finished.
    let given = if seen.vouched >= end.commit {
        (seen.given.0.max(end.commit), seen.given.1.max(end.position))
    } else {
        (end.commit - 1, end.position - 1)
    };
    let exact = closed.is_some_and(|(commit, _)| commit >= given.0);
    let unknown = match files.iter().rfind(ours) {
        Some(newest) if !exact => unknown_after(newest, promised),
        _ => 0,
    };
    Ok(Survey {
        stretches,
        foreign,
        given,
        unknown,
    })
}

/// Number and last position of the commit that the store was closed with.
pub(super) type Closed = Option<(u64, u64)>;

/// How many records may have followed the newest segment that is left, or its end. Only an open
/// segment has its whole capacity; a shorter one may be a sealed one that had successors, whether or
/// not its last frame can be read.
fn unknown_after(newest: &Found, promised: Option<u64>) -> u64 {
    let capacity = newest.header.map_or(0, |header| header.capacity);
    let had_successors = promised.is_some_and(|promised| promised >= newest.number);
    if had_successors || newest.len < capacity {
        let segments = BACKLOG as u64 + 1;
        segments * capacity.saturating_mul(2).max(LARGEST) / LEAST_RECORD
    } else {
        0
    }
}

/// What frames say of others.
#[derive(Default)]
struct Seen {
    vouched: u64,
    /// The highest commit and position that any header of a frame or segment names.
    given: (u64, u64),
}

impl Seen {
    fn give(&mut self, commit: u64, position: u64) {
        self.given = (self.given.0.max(commit), self.given.1.max(position));
    }
}

/// Finds the whole commits of one file.
fn scan(
    found: &Found,
    salt: u64,
    seen: &mut Seen,
    stretches: &mut Vec<Stretch>,
) -> Result<(), Error> {
    let file = File::open(&found.path).map_err(|error| Error::io("open", &found.path, error))?;
    let mut reader = FrameReader::new(&file, found.path.clone())?;
    reader.forgive_padding();
    let mut from = segment::DATA;
    while let Some((at, header)) = reader.find(from, salt)? {
        seen.vouched = seen.vouched.max(header.known_synced);
        let last = (header.first_position + u64::from(header.records)).saturating_sub(1);
        seen.give(header.commit, last);
        let expect = Expect {
            salt,
            commit: header.commit,
            position: header.first_position,
            previous: header.previous,
        };
        reader.seek(at);
        let Some(next) = whole(&mut reader, &expect)? else {
            // A header may stand inside what it is damaged by: look at every place.
            from = at + 8;
            continue;
        };
        from = reader.offset();
        match stretches.last_mut() {
            Some(last)
                if last.number == found.number
                    && last.bytes.1 == at
                    && last.ends == end_of(&expect) =>
            {
                last.bytes.1 = from;
                last.ends = end_of(&next);
            }
            _ => stretches.push(Stretch {
                number: found.number,
                bytes: (at, from),
                begins: end_of(&expect),
                ends: end_of(&next),
            }),
        }
    }
    Ok(())
}

/// Reads the commit at hand; `None` when it is not whole.
fn whole(reader: &mut FrameReader<'_>, expect: &Expect) -> Result<Option<Expect>, Error> {
    let Step::Commit { header, next } = reader.step(expect)? else {
        return Ok(None);
    };
    let mut position = header.first_position;
    let mut right = true;
    let count = for_each_record(reader.body(), |_, _, parsed| {
        right &= parsed.position == position;
        right &= parsed.kind == RecordKind::Control || parsed.stream().is_some();
        position += 1;
        Ok(())
    })?;
    Ok((count == Ok(header.records) && right).then_some(next))
}

/// Puts the stretches into the order of the log, each commit once. Answers how many commits belong
/// to another history, and where the last stretch ends.
fn join(
    mut found: Vec<Stretch>,
    files: &[Found],
    salt: u64,
) -> Result<(Vec<Stretch>, u64, End), Error> {
    // Where two begin alike, the longer one has all of the shorter.
    found.sort_by_key(|stretch| {
        (
            stretch.begins.commit,
            std::cmp::Reverse(stretch.ends.commit),
        )
    });
    let mut kept: Vec<Stretch> = Vec::new();
    let mut foreign = 0;
    let mut foreign_ends: HashSet<ChainHash> = HashSet::new();
    let mut end: Option<End> = None;
    for mut stretch in found {
        if let Some(end) = end {
            if stretch.ends.commit <= end.commit {
                continue;
            }
            if stretch.begins.commit < end.commit {
                skip_to(&mut stretch, end.commit, files, salt)?;
            }
            let follows = if stretch.begins.commit == end.commit {
                stretch.begins == end
            } else {
                stretch.begins.position > end.position
            };
            if !follows || foreign_ends.contains(&stretch.begins.previous) {
                foreign += stretch.ends.commit - stretch.begins.commit;
                foreign_ends.insert(stretch.ends.previous);
                continue;
            }
        }
        end = Some(stretch.ends);
        kept.push(stretch);
    }
    let end = end.unwrap_or(End {
        commit: 1,
        position: 1,
        previous: [0; 32],
    });
    Ok((kept, foreign, end))
}

/// Leaves out the commits before `commit`, which are kept already.
fn skip_to(stretch: &mut Stretch, commit: u64, files: &[Found], salt: u64) -> Result<(), Error> {
    let Some(found) = files.iter().find(|found| found.number == stretch.number) else {
        return Ok(());
    };
    let file = File::open(&found.path).map_err(|error| Error::io("open", &found.path, error))?;
    let mut reader = FrameReader::new(&file, found.path.clone())?;
    reader.forgive_padding();
    reader.seek(stretch.bytes.0);
    let mut next = stretch.begins.expect(salt);
    while next.commit < commit {
        match reader.step(&next)? {
            Step::Commit { next: after, .. } => next = after,
            _ => break,
        }
    }
    stretch.bytes.0 = reader.offset();
    stretch.begins = end_of(&next);
    Ok(())
}

impl End {
    /// What the commit after it must agree with.
    pub(super) fn expect(&self, salt: u64) -> Expect {
        Expect {
            salt,
            commit: self.commit,
            position: self.position,
            previous: self.previous,
        }
    }
}
