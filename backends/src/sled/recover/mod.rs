//! Opening the log: replay, and what to do about its end.
//!
//! The rules stand in `ARCHITECTURE.md`, "Opening". In short: everything must agree with its
//! predecessor; what does not is either *torn*, a write that never finished, and is cut away; or
//! *damaged*, because something vouches that it was synced, and nothing is changed.

mod declared;
mod segments;

use std::fs::{self, File};
use std::ops::{ControlFlow, Range};
use std::path::Path;

use tidelog_core::{Error, Timestamp};

use self::segments::{Found, info, read_dir};
use super::branches::Branches;
use super::format::Format;
use super::frame_reader::{Expect, Step};
use super::hash::NameHash;
use super::index::SegmentIndex;
use super::log::{Hop, SegmentInfo};
use super::losses::Known;
use super::mark;
use super::options::{Phase, Progress, ProgressCallback};
use super::replay::{Replay, Replayed};
use super::segment::{self, Epoch, SegmentHeader};
use super::state::CleanMark;
use super::streams::SegmentEnd;
use super::walk::{end_of, expect_of};
use crate::platform;

/// The log as it was found, with its newest segment open for writing.
pub(crate) struct Recovered {
    pub segments: Vec<SegmentInfo>,
    pub active: Active,
    /// Indexes of the segments that the runs do not cover, oldest first, the active one last.
    pub tails: Vec<SegmentIndex>,
    /// Ends of the sealed ones among them.
    pub sealed_ends: Vec<SegmentEnd>,
    pub hops: Vec<Hop>,
    /// What repairs have lost, when the log declares any.
    pub losses: Option<Known>,
    pub next: Expect,
    pub last_recorded: Timestamp,
    pub epoch: Epoch,
    /// Commits written again because nothing vouched for them.
    pub rewritten: u64,
    /// Bytes of a torn write that were cut away.
    pub cut: u64,
}

/// The segment that is written to.
pub(crate) struct Active {
    pub number: u64,
    pub file: File,
    pub offset: u64,
    pub capacity: u64,
}

/// What recovery needs to know beside the log.
pub(crate) struct Recovery<'a> {
    pub log_dir: &'a Path,
    pub format: &'a Format,
    pub hash: &'a NameHash,
    /// What [`declared_branches`](Self::declared_branches) found.
    pub branches: &'a Branches,
    pub clean: Option<CleanMark>,
    /// Highest segment that the index covers; 0 when none.
    pub covered: u64,
    /// Nothing on disk is changed: what is torn stays, and what nothing vouches for is not written
    /// again.
    pub read_only: bool,
    pub progress: Option<&'a ProgressCallback>,
}

/// What can be told of a log without reading its newest segment.
pub(crate) struct Looked {
    pub segments: Vec<SegmentInfo>,
    pub newest: SegmentHeader,
    /// The newest commit that is vouched for outside the newest segment.
    pub vouched: u64,
    pub losses: Option<Known>,
    pub branches: Branches,
}

impl Recovery<'_> {
    /// Looks at the segments and changes nothing, for who does not hold the lock.
    pub(crate) fn look(&self) -> Result<Looked, Error> {
        let (found, _, vouched) = self.begun()?;
        let Some(newest) = found.last() else {
            return Err(self.damaged(1, "there is no segment"));
        };
        Ok(Looked {
            newest: newest.header,
            vouched,
            losses: self.losses(&found)?,
            branches: self.branches_of(&found)?,
            segments: found.iter().map(info).collect(),
        })
    }

    /// Replays what the index does not cover. `sealed` gets the index of each sealed segment when
    /// more stand uncovered than shall be kept in memory.
    pub(crate) fn run(
        &self,
        keep: usize,
        sealed: &mut dyn FnMut(&SegmentIndex, SegmentEnd) -> Result<(), Error>,
    ) -> Result<Recovered, Error> {
        let (found, mut unbegun, vouched) = self.begun()?;
        let losses = self.losses(&found)?;
        let mut recovered = self.replay(&found, vouched, keep, sealed)?;
        recovered.losses = losses;
        recovered.segments = found.iter().map(info).collect();
        if self.read_only {
            return Ok(recovered);
        }
        // Newest first: what an interrupted removal leaves is without holes.
        unbegun.sort_unstable();
        for number in unbegun.into_iter().rev() {
            let path = segment::path(self.log_dir, number);
            fail::fail_point!("log_remove", |_| Err(Error::Closed));
            fs::remove_file(&path).map_err(|error| Error::io("remove", path, error))?;
        }
        self.remove_leftovers()?;
        platform::sync_dir(self.log_dir).map_err(|error| Error::io("sync", self.log_dir, error))?;
        Ok(recovered)
    }

    /// Judges the newest segment, before anything on disk is changed.
    pub(crate) fn check_end(&self) -> Result<(), Error> {
        let (found, _, vouched) = self.begun()?;
        let Some(Found { number, header }) = found.last() else {
            return Err(self.damaged(1, "there is no segment"));
        };
        let mut vouched = vouched.max(header.first_commit - 1);
        let mut next = expect_of(header);
        let mut replayed = Replayed::new(header.epoch);
        let path = segment::path(self.log_dir, *number);
        let file = File::open(&path).map_err(|error| Error::io("open", &path, error))?;
        let marked = self.marked(&file, header)?;
        vouched = vouched.max(marked);
        let mut walk = Replay::new(&file, *number, path, self.hash, self.branches)?;
        walk.reader.end_at(header.capacity);
        let end = walk.run(&mut next, &mut vouched, &mut replayed)?;
        self.judge_end(&mut walk, header, &next, vouched, marked, &end)
            .map(drop)
    }

    fn replay(
        &self,
        found: &[Found],
        mut vouched: u64,
        keep: usize,
        sealed: &mut dyn FnMut(&SegmentIndex, SegmentEnd) -> Result<(), Error>,
    ) -> Result<Recovered, Error> {
        let mut uncovered = found
            .iter()
            .filter(|found| found.number > self.covered)
            .peekable();
        let total = found.len() as u64 - self.covered;
        let Some(first) = uncovered.peek() else {
            return Err(self.damaged(self.covered, "nothing follows what the index covers"));
        };
        let mut next = expect_of(&first.header);
        let mut replayed = Replayed::new(first.header.epoch);
        let mut tails: Vec<SegmentIndex> = Vec::new();
        let mut ends: Vec<SegmentEnd> = Vec::new();
        let mut done = 0;
        while let Some(Found { number, header }) = uncovered.next() {
            let is_first = *number == self.covered + 1;
            if !is_first && header.end_before() != end_of(&next) {
                return Err(self.damaged(
                    *number,
                    "its header does not agree with the end of the segment before it",
                ));
            }
            next = expect_of(header);
            vouched = vouched.max(header.first_commit - 1);
            replayed.epoch = header.epoch;
            self.report(done, total)?;
            let path = segment::path(self.log_dir, *number);
            let newest = uncovered.peek().is_none();
            let file = File::open(&path).map_err(|error| Error::io("open", &path, error))?;
            let mut walk = Replay::new(&file, *number, path, self.hash, self.branches)?;
            let mut marked = 0;
            if newest {
                marked = self.marked(&file, header)?;
                vouched = vouched.max(marked);
                walk.reader.end_at(header.capacity);
            }
            let end = walk.run(&mut next, &mut vouched, &mut replayed)?;
            if !newest {
                if let Step::Bad(why) = end {
                    return Err(self.damaged_at(*number, walk.reader.offset(), why, &next));
                }
                tails.push(walk.index);
                ends.push(SegmentEnd {
                    offset: walk.reader.offset(),
                    hash: next.previous,
                });
                if tails.len() > keep {
                    sealed(&tails.remove(0), ends.remove(0))?;
                }
                done += 1;
                continue;
            }
            let offset = walk.reader.offset();
            let capacity = walk.reader.file_len();
            let torn_to = self.judge_end(&mut walk, header, &next, vouched, marked, &end)?;
            let Replay {
                index,
                hops,
                unvouched,
                ..
            } = walk;
            let first_unvouched = unvouched
                .into_iter()
                .find(|(commit, _)| *commit > vouched && !self.read_only);
            let torn_to = if self.read_only { offset } else { torn_to };
            let rewritten = first_unvouched.map_or(0, |(commit, _)| next.commit - commit);
            let cut = torn_to - offset;
            let file = if self.read_only {
                file
            } else {
                let path = segment::path(self.log_dir, *number);
                make_whole(&path, header, offset..torn_to, first_unvouched)?
            };
            tails.push(index);
            return Ok(Recovered {
                segments: Vec::new(),
                active: Active {
                    number: *number,
                    file,
                    offset,
                    capacity,
                },
                tails,
                sealed_ends: ends,
                hops,
                losses: None,
                next,
                last_recorded: replayed.last_recorded,
                epoch: replayed.epoch,
                rewritten,
                cut,
            });
        }
        Err(self.damaged(1, "there is no segment"))
    }

    /// The commit that the segment's mark vouches for; 0 without one.
    fn marked(&self, file: &File, header: &SegmentHeader) -> Result<u64, Error> {
        let path = || segment::path(self.log_dir, header.number);
        let marked = mark::read(file, header.capacity, self.format.salt);
        Ok(marked
            .map_err(|error| Error::io("read", path(), error))?
            .unwrap_or(0))
    }

    /// Torn or damaged? Answers where what is torn ends; changes nothing.
    fn judge_end(
        &self,
        walk: &mut Replay<'_>,
        header: &SegmentHeader,
        next: &Expect,
        vouched: u64,
        marked: u64,
        end: &Step,
    ) -> Result<u64, Error> {
        let (number, offset) = (header.number, walk.reader.offset());
        let capacity = walk.reader.file_len();
        if capacity < header.capacity {
            let what = format!("it has {capacity} of {} bytes", header.capacity);
            return Err(self.damaged_at(number, offset, &what, next));
        }
        let closed_here = self
            .clean
            .is_some_and(|mark| mark.commit == next.commit - 1);
        if let Some(mark) = self.clean
            && closed_here
            && mark.hash != next.previous
        {
            let why = "its last commit is not the one that was closed with";
            return Err(self.damaged_at(number, offset, why, next));
        }
        if closed_here && matches!(end, Step::End) && vouched < next.commit {
            return Ok(offset);
        }
        // The mark is no torn write, and nothing stands behind it. Without one, frames may stand
        // there that vouch: earlier versions left no room.
        if marked > 0
            && let Some(place) = mark::place(header.capacity, offset)
        {
            walk.reader.end_at(place);
        }
        let survey = walk.reader.survey(offset, self.format.salt)?;
        if vouched.max(survey.vouched) >= next.commit {
            let why = match end {
                Step::Bad(why) => *why,
                _ => "the commit that stood here is gone",
            };
            let what = format!("{why}, though commit {} was synced", next.commit);
            return Err(self.damaged_at(number, offset, &what, next));
        }
        if survey.nonzero_end > offset {
            tracing::warn!(
                segment = number,
                offset,
                bytes = survey.nonzero_end - offset,
                "cutting a torn write away"
            );
        }
        Ok(survey.nonzero_end.max(offset))
    }

    fn remove_leftovers(&self) -> Result<(), Error> {
        for entry in read_dir(self.log_dir)? {
            let entry = entry.map_err(|error| Error::io("list", self.log_dir, error))?;
            if entry.file_name().to_string_lossy().ends_with(".seg.new") {
                let path = entry.path();
                fs::remove_file(&path).map_err(|error| Error::io("remove", path, error))?;
            }
        }
        Ok(())
    }

    fn report(&self, done: u64, total: u64) -> Result<(), Error> {
        report(
            self.progress,
            Progress {
                phase: Phase::Replay,
                done,
                total,
            },
        )
    }

    fn damaged(&self, number: u64, what: impl Into<Box<str>>) -> Error {
        Error::damaged(segment::path(self.log_dir, number), what, REMEDY)
    }

    /// Damage at `offset`, where the commit that `next` describes should stand.
    fn damaged_at(&self, number: u64, offset: u64, what: &str, next: &Expect) -> Error {
        let before = next.commit - 1;
        Error::damaged(
            segment::path(self.log_dir, number),
            format!("at byte {offset}: {what}"),
            format!(
                "nothing was changed; restore the store from a backup, or `repair` it into another \
                 directory, which keeps the {before} commits before it and every whole one after it"
            ),
        )
    }
}

pub(crate) const REMEDY: &str = "nothing was changed; restore the store from a backup, or `repair` it into another \
                      directory, which keeps every whole commit";

/// Tells the caller how far a long operation is; an error when it asks to stop.
pub(crate) fn report(callback: Option<&ProgressCallback>, progress: Progress) -> Result<(), Error> {
    match callback.map(|callback| callback(progress)) {
        Some(ControlFlow::Break(())) => Err(Error::Cancelled {
            what: progress.phase.as_str(),
        }),
        _ => Ok(()),
    }
}

/// Zeroes what is `torn`, writes again what nothing vouches for (its first commit and where that
/// begins), and answers the segment's file, open for writing.
fn make_whole(
    path: &Path,
    header: &SegmentHeader,
    torn: Range<u64>,
    unvouched: Option<(u64, u64)>,
) -> Result<File, Error> {
    let file = segment::open_for_writing(path)?;
    let failed = |error| Error::io("make whole", path, error);
    platform::zero_fill(&file, torn.start, torn.end).map_err(failed)?;
    if let Some((commit, at)) = unvouched {
        // Without a vouched commit the header may stand only in the page cache, too.
        let from = if commit == header.first_commit { 0 } else { at };
        rewrite(&file, from, torn.start).map_err(failed)?;
    }
    if !torn.is_empty() || unvouched.is_some() {
        file.sync_all().map_err(failed)?;
    }
    Ok(file)
}

/// Writes again in place what may stand only in the page cache.
fn rewrite(file: &File, from: u64, end: u64) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    let mut at = from;
    while at < end {
        let len = usize::try_from(end - at)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let part = buffer.get_mut(..len).unwrap_or_default();
        platform::read_exact_at(file, part, at)?;
        platform::write_all_at(file, part, at)?;
        at += len as u64;
    }
    Ok(())
}
