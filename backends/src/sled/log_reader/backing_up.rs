//! A backup without the store's lock.

use std::path::Path;

use tidelog_core::Error;

use super::super::backup::{self, BackupReport, Source};
use super::super::checkpoints::Saved;
use super::super::format::Format;
use super::super::frame_reader::{FrameReader, Step};
use super::super::log::Log;
use super::super::options::ProgressCallback;
use super::super::state::CleanMark;
use super::super::walk::{end_of, expect_of, header};
use super::LogReader;

impl LogReader {
    /// Copies the store to the directory `to`, also while another process has it open and appends. Made
    /// again into the same directory, it copies only what is new. Every commit is checked on the way.
    ///
    /// As [`SledStore::backup`](crate::SledStore::backup): the backup holds all commits that are whole when
    /// it begins, and what listeners had saved; it is put back by
    /// [`restore_backup`](crate::restore_backup). `progress` may cancel it.
    ///
    /// # Errors
    /// [`Error::NotAStore`] when `to` holds something else or another store's backup, or this is a copy of
    /// another store's log; [`Error::Damaged`] when the log is; [`Error::Cancelled`]; [`Error::Io`]: the
    /// backup is not complete then, make it again.
    pub fn backup(
        &mut self,
        to: impl AsRef<Path>,
        progress: Option<&ProgressCallback>,
    ) -> Result<BackupReport, Error> {
        self.format.ensure_writable(&self.dir)?;
        let kind_is_wrong = |reason: &str| Error::NotAStore {
            path: self.dir.clone(),
            reason: reason.into(),
        };
        if self.format.is_copy() {
            return Err(kind_is_wrong(
                "it is a copy of another store's log, which is only read",
            ));
        }
        if backup::is_backup(&self.dir) {
            return Err(kind_is_wrong(
                "it is a backup itself; copy its files, or restore it",
            ));
        }
        // Before the end of the log is looked for: none of it is ahead of what is copied then.
        let saved = Saved::whole(&self.dir)?;
        self.refresh()?;
        if let Some(damage) = self.tail.damage() {
            return Err(damage.clone());
        }
        let whole = self.tail.whole();
        let (newest, used, capacity) = self.tail.place();
        let mark = CleanMark {
            commit: whole.number,
            position: whole.position,
            hash: whole.hash,
        };
        let dir = &self.dir;
        // What the log has now may need flags that it had not when it was opened.
        let format_now = || Ok(Format::read(dir)?.unwrap_or(self.format));
        let log = &*self.log;
        let mut used_of = |number: u64| whole_segment(log, number);
        let source = Source {
            log,
            format: &self.format,
            format_now: &format_now,
            saved,
            mark,
            newest: (newest, used, capacity),
            sealed: &mut used_of,
            progress,
        };
        source.copy_to(to.as_ref())
    }
}

/// Where the commits of a sealed segment end, each of which is checked.
fn whole_segment(log: &Log, number: u64) -> Result<u64, Error> {
    let file = log.file(number)?;
    let mut reader = FrameReader::new(&file, log.path(number))?;
    let mut next = expect_of(&header(log, number)?);
    loop {
        match reader.step(&next)? {
            Step::Commit { next: after, .. } => next = after,
            Step::Bad(why) => return Err(log.damaged(number, reader.offset(), why)),
            Step::End => break,
        }
    }
    if end_of(&next) != header(log, number + 1)?.end_before() {
        let what = "it does not end where the next segment begins: commits are missing";
        return Err(log.damaged(number, reader.offset(), what));
    }
    Ok(reader.offset())
}
