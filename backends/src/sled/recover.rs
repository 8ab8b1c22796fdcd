//! Opening the log: replay, and what to do about its end.
//!
//! The rules stand in `ARCHITECTURE.md`, "Opening". In short: everything must agree with its
//! predecessor; what does not is either *torn*, a write that never finished, and is cut away; or
//! *damaged*, because something vouches that it was synced, and nothing is changed.

use std::fs::{self, File};
use std::ops::{ControlFlow, Range};
use std::path::Path;

use tidelog_core::{Error, RecordKind, Timestamp};

use super::branches::Branches;
use super::control;
use super::format::Format;
use super::frame::{self, ChainHash};
use super::frame_reader::{Expect, FrameReader, Step, for_each_record};
use super::hash::NameHash;
use super::index::SegmentIndex;
use super::log::{Hop, SegmentInfo};
use super::losses::Known;
use super::mark;
use super::options::{Phase, Progress, ProgressCallback};
use super::record::Parsed;
use super::replay::{Replay, Replayed};
use super::segment::{self, End, Epoch, SegmentHeader};
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

struct Found {
    number: u64,
    header: SegmentHeader,
}

/// Each with the place where it ends, if another one follows.
fn with_ends(found: &[Found]) -> impl Iterator<Item = (&Found, Option<End>)> {
    let ends = found.iter().skip(1);
    let ends = ends.map(|next| Some(next.header.end_before()));
    found.iter().zip(ends.chain([None]))
}

impl Recovery<'_> {
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

    /// What the log says that repairs have lost, and what of it was accepted.
    fn losses(&self, found: &[Found]) -> Result<Option<Known>, Error> {
        if !self.format.has_gaps() {
            return Ok(None);
        }
        let mut known: Option<Known> = None;
        let flagged = with_ends(found).filter(|(found, _)| found.header.about.losses);
        for (Found { number, header }, ends) in flagged {
            self.visit_front(*number, header, ends, &mut |parsed| {
                if let Some(declared) = control::declared_by(parsed) {
                    known.get_or_insert_default().apply(*number, declared);
                }
            })?;
        }
        // A copy may stand between a hole and the record that declares it.
        if known.is_none() && !self.format.is_copy() {
            return Err(self.damaged(1, "no segment says what was lost when it was repaired"));
        }
        Ok(known)
    }

    /// The branches that streams have.
    pub(crate) fn declared_branches(&self) -> Result<Branches, Error> {
        let branches = Branches::default();
        // Without a segment whose first commit never arrived.
        let (found, _, _) = self.begun()?;
        let flagged = with_ends(&found).filter(|(found, _)| found.header.about.branches);
        for (Found { number, header }, ends) in flagged {
            self.visit_front(*number, header, ends, &mut |parsed| {
                if let Some(what) = control::superseded_by(parsed) {
                    branches.add(&what);
                }
            })?;
        }
        Ok(branches)
    }

    /// Visits the control records at the front of a flagged segment, which ends at `ends` if another
    /// one follows.
    fn visit_front(
        &self,
        number: u64,
        header: &SegmentHeader,
        ends: Option<End>,
        visit: &mut dyn FnMut(&Parsed<'_>),
    ) -> Result<(), Error> {
        let path = segment::path(self.log_dir, number);
        let file = File::open(&path).map_err(|error| Error::io("open", &path, error))?;
        let mut reader = FrameReader::new(&file, path)?;
        let mut next = expect_of(header);
        loop {
            let offset = reader.offset();
            match reader.step(&next)? {
                Step::Commit { next: after, .. } => next = after,
                // Where nothing else reads the segment, nobody would notice what it was about.
                Step::Bad(why) if ends.is_some() || next.commit == header.first_commit => {
                    return Err(reader.damaged(offset, why));
                }
                Step::End if ends.is_some_and(|ends| ends != end_of(&next)) => {
                    return Err(reader.damaged(offset, "it ends before the next one begins"));
                }
                _ => return Ok(()),
            }
            let mut is_front = false;
            let read = for_each_record(reader.body(), |at, _, parsed| {
                let begins_branch = control::superseded_by(&parsed).is_some();
                let is_about = begins_branch
                    || control::declared_by(&parsed).is_some()
                    || control::epoch_of(&parsed).is_some();
                // What follows the record of a branch in its commit are events.
                is_front = if at == 0 {
                    is_about
                } else {
                    is_front && (is_about || parsed.kind != RecordKind::Control)
                };
                visit(&parsed);
                Ok(())
            })?;
            if let Err(why) = read {
                return Err(reader.damaged(offset, why));
            }
            if !is_front {
                return Ok(());
            }
        }
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

    /// Segments that were begun, numbers of those after them, newest commit vouched for so far.
    fn begun(&self) -> Result<(Vec<Found>, Vec<u64>, u64), Error> {
        let (mut found, mut unbegun) = self.list()?;
        let mut vouched = self.clean.map_or(0, |mark| mark.commit);
        for number in &unbegun {
            vouched = vouched.max(self.survey_unbegun(*number)?);
        }
        let Some(newest) = found.last() else {
            return Err(self.damaged(1, "it is the only segment and its header cannot be read"));
        };
        if self.covered >= newest.number {
            let what = format!(
                "the index covers segment {}, which is not sealed",
                self.covered
            );
            return Err(self.damaged(newest.number, what));
        }
        // A segment whose first commit never arrived was not begun after all. Its header says all
        // before it is synced.
        if found.len() > 1 && self.is_empty(newest.number)? {
            let header = newest.header;
            vouched = vouched.max(header.first_commit - 1);
            vouched = vouched.max(self.survey_unbegun(newest.number)?);
            unbegun.push(newest.number);
            found.pop();
        }
        Ok((found, unbegun, vouched))
    }

    /// Number of the newest segment with a readable header.
    pub(crate) fn newest(&self) -> Result<u64, Error> {
        Ok(self.list()?.0.last().map_or(0, |found| found.number))
    }

    /// The chain hash that segment `number` begins with.
    pub(crate) fn chain_before(&self, number: u64) -> Result<Option<ChainHash>, Error> {
        let (found, _) = self.list()?;
        Ok(found
            .iter()
            .find(|found| found.number == number)
            .map(|found| found.header.end_before().previous))
    }

    /// Segments with a readable header, and the numbers of those at the end without one.
    fn list(&self) -> Result<(Vec<Found>, Vec<u64>), Error> {
        let mut numbers = Vec::new();
        for entry in read_dir(self.log_dir)? {
            let entry = entry.map_err(|error| Error::io("list", self.log_dir, error))?;
            numbers.extend(entry.file_name().to_str().and_then(segment::number_of));
        }
        numbers.sort_unstable();
        let mut found: Vec<Found> = Vec::new();
        let mut unbegun = Vec::new();
        for (index, number) in numbers.into_iter().enumerate() {
            if number != index as u64 + 1 {
                return Err(
                    self.damaged(index as u64 + 1, "it is missing, but later ones are there")
                );
            }
            let Some(header) = self.header(number)? else {
                unbegun.push(number);
                continue;
            };
            if !unbegun.is_empty() {
                return Err(self.damaged(
                    number - 1,
                    "its header cannot be read, but the next one's can",
                ));
            }
            if header.origin != self.format.origin || header.salt != self.format.salt {
                return Err(self.damaged(number, "it belongs to another store"));
            }
            // A segment whose room the first commit did not fit into stays empty.
            let follows = found.last().is_none_or(|before| {
                header.first_commit >= before.header.first_commit
                    && header.first_position >= before.header.first_position
            });
            let begins = number > 1
                || (header.first_commit == 1
                    && header.first_position == 1
                    // A repair may not have found out which epoch was the first.
                    && (self.format.has_gaps()
                        || header.previous == frame::genesis(&header.origin, &header.epoch.id)));
            let declared = header.gap.is_none() || (number > 1 && self.format.has_gaps());
            if header.number != number || !follows || !begins || !declared {
                return Err(
                    self.damaged(number, "its header does not follow the segment before it")
                );
            }
            found.push(Found { number, header });
        }
        Ok((found, unbegun))
    }

    fn header(&self, number: u64) -> Result<Option<SegmentHeader>, Error> {
        let path = segment::path(self.log_dir, number);
        let failed = |error| Error::io("read", &path, error);
        let file = File::open(&path).map_err(failed)?;
        let len = file.metadata().map_err(failed)?.len();
        let mut bytes = vec![0; usize::try_from(len.min(segment::DATA)).unwrap_or_default()];
        platform::read_exact_at(&file, &mut bytes, 0).map_err(failed)?;
        let Some(header) = SegmentHeader::decode(&bytes) else {
            return Ok(None);
        };
        // What follows the fields is zero, or the header is not what was written.
        let rest_is_zero = bytes.iter().skip(segment::FIELDS).all(|byte| *byte == 0);
        Ok((rest_is_zero && len >= segment::DATA).then_some(header))
    }

    fn is_empty(&self, number: u64) -> Result<bool, Error> {
        let path = segment::path(self.log_dir, number);
        let file = File::open(&path).map_err(|error| Error::io("open", &path, error))?;
        let header = self.header(number)?;
        let Some(header) = header else {
            return Ok(true);
        };
        let mut reader = FrameReader::new(&file, path)?;
        Ok(!matches!(
            reader.step(&expect_of(&header))?,
            Step::Commit { .. }
        ))
    }

    /// The newest commit that frames in a segment without a header vouch for.
    fn survey_unbegun(&self, number: u64) -> Result<u64, Error> {
        let path = segment::path(self.log_dir, number);
        let file = File::open(&path).map_err(|error| Error::io("open", &path, error))?;
        let mut reader = FrameReader::new(&file, path)?;
        if reader.file_len() > segment::MAX_LEN {
            return Err(self.damaged(number, "it is longer than any segment"));
        }
        Ok(reader.survey(0, self.format.salt)?.vouched)
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

fn info(found: &Found) -> SegmentInfo {
    SegmentInfo {
        number: found.number,
        first_commit: found.header.first_commit,
        first_position: found.header.first_position,
        before: found.header.end_before(),
        about: found.header.about,
    }
}

fn read_dir(dir: &Path) -> Result<fs::ReadDir, Error> {
    fs::read_dir(dir).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::damaged(dir, "it is missing", REMEDY),
        _ => Error::io("list", dir, error),
    })
}
