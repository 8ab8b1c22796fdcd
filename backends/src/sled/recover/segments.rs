//! Which segments there are, and whether each follows the one before it.

use std::fs::{self, File};
use std::path::Path;

use tidelog_core::Error;

use super::{REMEDY, Recovery};
use crate::platform;
use crate::sled::frame::{self, ChainHash};
use crate::sled::frame_reader::{FrameReader, Step};
use crate::sled::log::SegmentInfo;
use crate::sled::segment::{self, End, SegmentHeader};
use crate::sled::walk::expect_of;

pub(super) struct Found {
    pub number: u64,
    pub header: SegmentHeader,
}

/// Each with the place where it ends, if another one follows.
pub(super) fn with_ends(found: &[Found]) -> impl Iterator<Item = (&Found, Option<End>)> {
    let ends = found.iter().skip(1);
    let ends = ends.map(|next| Some(next.header.end_before()));
    found.iter().zip(ends.chain([None]))
}

impl Recovery<'_> {
    /// Segments that were begun, numbers of those after them, newest commit vouched for so far.
    pub(super) fn begun(&self) -> Result<(Vec<Found>, Vec<u64>, u64), Error> {
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
}

pub(super) fn info(found: &Found) -> SegmentInfo {
    SegmentInfo {
        number: found.number,
        first_commit: found.header.first_commit,
        first_position: found.header.first_position,
        before: found.header.end_before(),
        about: found.header.about,
    }
}

pub(super) fn read_dir(dir: &Path) -> Result<fs::ReadDir, Error> {
    fs::read_dir(dir).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::damaged(dir, "it is missing", REMEDY),
        _ => Error::io("list", dir, error),
    })
}
