//! What the log says at the front of segments: what is lost, and what gave way.

use std::fs::File;

use tidelog_core::{Error, RecordKind};

use super::Recovery;
use super::segments::{Found, with_ends};
use crate::sled::branches::Branches;
use crate::sled::control;
use crate::sled::frame_reader::{FrameReader, Step, for_each_record};
use crate::sled::losses::Known;
use crate::sled::record::Parsed;
use crate::sled::segment::{self, End, SegmentHeader};
use crate::sled::walk::{end_of, expect_of};

impl Recovery<'_> {
    /// What the log says that repairs have lost, and what of it was accepted.
    pub(super) fn losses(&self, found: &[Found]) -> Result<Option<Known>, Error> {
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
        // Without a segment whose first commit never arrived.
        let (found, _, _) = self.begun()?;
        self.branches_of(&found)
    }

    pub(super) fn branches_of(&self, found: &[Found]) -> Result<Branches, Error> {
        let branches = Branches::default();
        let flagged = with_ends(found).filter(|(found, _)| found.header.about.branches);
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
}
