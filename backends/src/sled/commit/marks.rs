//! Marks: which commit was synced last, where nothing follows that would say so.

use tidelog_core::Error;

use super::Committer;
use crate::sled::mark;

impl Committer {
    /// Whether the writer's thread is to be woken, to leave a mark once no commits come any more.
    pub(crate) fn begins_burst(&mut self) -> bool {
        let begins = self.watched.is_none() && self.lacks_mark();
        if begins {
            self.watched = Some(self.known_synced);
        }
        begins
    }

    /// Leaves the mark unless there was a commit since this was asked last; says whether to ask again
    /// later.
    pub(crate) fn mark_when_calm(&mut self) -> bool {
        let newest = self.known_synced;
        if self.lacks_mark() && self.watched.replace(newest) != Some(newest) {
            return true;
        }
        self.watched = None;
        if let Err(error) = self.leave_mark() {
            self.untold = Some(error);
        }
        false
    }

    /// Notes which commit is synced where a frame after it would.
    pub(crate) fn leave_mark(&mut self) -> Result<(), Error> {
        if !self.lacks_mark() {
            return Ok(());
        }
        self.marked = self.known_synced;
        let Some(place) = mark::place(self.active.capacity, self.active.offset) else {
            return Ok(());
        };
        mark::write(&self.active.file, place, &self.next).map_err(|error| {
            let error = self.failed("mark", error);
            self.shared.refuse(&error);
            error
        })
    }

    fn lacks_mark(&self) -> bool {
        let synced = self.known_synced;
        let current = synced == self.next.commit - 1 && self.marked < synced;
        current && !self.closed && self.shared.refusal().is_none()
    }
}
