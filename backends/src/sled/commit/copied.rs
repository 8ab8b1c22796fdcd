//! Commits of another log, taken as they stand.

use tidelog_core::{Durability, Error};

use super::Committer;
use crate::sled::commits::{Commit, CommitEnd, DeclaredHole};
use crate::sled::control;
use crate::sled::format;
use crate::sled::frame_reader::{Expect, for_each_record};
use crate::sled::segment::{About, End};

impl Committer {
    /// Takes a commit of another log as it stands. It survives a power cut once it is synced.
    pub(crate) fn push_copied(&mut self, commit: &Commit) -> Result<(), Error> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        let not = |why: &str| Error::invalid("commit", commit.number, why);
        let mut recorded = self.last_recorded;
        let mut epoch = None;
        let mut declared = Vec::new();
        let mut about = About::EVENTS;
        let read = for_each_record(&commit.body, |_, _, parsed| {
            if parsed.recorded_time < recorded {
                return Err(not("its records were recorded before those it follows"));
            }
            recorded = parsed.recorded_time;
            epoch = control::epoch_of(&parsed).or(epoch);
            declared.extend(control::declared_by(&parsed));
            about.branches |= control::superseded_by(&parsed).is_some();
            Ok(())
        })?;
        read.map_err(not)?;
        about.losses = !declared.is_empty();
        if about.branches {
            self.shared.add_flag(format::BRANCHES)?;
        }
        if about.losses {
            // Also where the copy has what was lost: sequences may jump there.
            self.shared.add_flag(format::GAPS)?;
        }
        self.begin_group(recorded);
        self.group.copy(&self.shared, commit)?;
        self.about = about;
        let done = self.write(Durability::Process);
        self.about = About::EVENTS;
        done?;
        for declared in declared {
            self.shared.log.losses.learn(self.active.number, declared);
        }
        if let Some(epoch) = epoch {
            self.epoch = epoch;
            *self.shared.epoch.lock() = epoch.id;
        }
        Ok(())
    }

    /// What is pushed next stands behind `hole`, which begins where the log ends now.
    pub(crate) fn skip(&mut self, hole: &DeclaredHole) {
        let next = self.next;
        self.gap.get_or_insert(End {
            commit: next.commit,
            position: next.position,
            previous: next.previous,
        });
        self.next = Expect {
            salt: next.salt,
            commit: hole.last_commit + 1,
            position: hole.last_position + 1,
            previous: hole.hash_after,
        };
    }

    /// Whether commits were passed over that nothing follows yet.
    pub(crate) fn is_in_hole(&self) -> bool {
        self.gap.is_some()
    }

    /// Where the next commit must follow.
    pub(crate) fn next(&self) -> CommitEnd {
        CommitEnd {
            number: self.next.commit - 1,
            position: self.next.position - 1,
            hash: self.next.previous,
        }
    }
}
