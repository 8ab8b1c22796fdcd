//! Where the log ends, of which somebody may be writing more right now.
//!
//! Whatever vouches for a commit was written after it. So a commit that was vouched for before it was
//! looked for is found whole, or it is gone: that is how damage is told from a write under way.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};

use tidelog_core::Error;
use uuid::Uuid;

use super::super::commits::CommitEnd;
use super::super::control;
use super::super::frame::{self, FrameHeader};
use super::super::frame_reader::{Expect, FrameReader, Step, for_each_record};
use super::super::log::{Hop, Log, SegmentInfo};
use super::super::mark;
use super::super::recover::REMEDY;
use super::super::segment::{self, SegmentHeader};
use super::super::state::CleanMark;
use super::super::walk::{end_of, expect_of};

/// What is known of the newest segment.
pub(super) struct Tail {
    segment: u64,
    capacity: u64,
    offset: u64,
    next: Expect,
    epoch: Uuid,
    clean: Option<CleanMark>,
    /// The newest commit that anything vouches for.
    vouched: u64,
    durable: Place,
    /// Whole commits behind it.
    unvouched: VecDeque<Place>,
    /// A commit that is whole by its checksums and cannot be right, or cannot follow.
    broken: Option<Error>,
    /// What is gone of what is vouched for, or broken.
    damage: Option<Error>,
}

/// Where a commit ends, and the epoch in force there.
#[derive(Clone, Copy)]
struct Place {
    end: CommitEnd,
    epoch: Uuid,
}

impl Tail {
    /// Nothing of the newest segment was read yet.
    pub(super) fn new(newest: &SegmentHeader, vouched: u64, clean: Option<CleanMark>) -> Self {
        let before = CommitEnd {
            number: newest.first_commit - 1,
            position: newest.first_position - 1,
            hash: newest.previous,
        };
        Self {
            segment: newest.number,
            capacity: newest.capacity,
            offset: segment::DATA,
            next: expect_of(newest),
            epoch: newest.epoch.id,
            clean,
            vouched: vouched.max(before.number),
            durable: Place {
                end: before,
                epoch: newest.epoch.id,
            },
            unvouched: VecDeque::new(),
            broken: None,
            damage: None,
        }
    }

    /// The newest commit that survives a power cut.
    pub(super) fn durable(&self) -> CommitEnd {
        self.durable.end
    }

    pub(super) fn durable_epoch(&self) -> Uuid {
        self.durable.epoch
    }

    /// The newest commit that is whole.
    pub(super) fn whole(&self) -> CommitEnd {
        self.unvouched
            .back()
            .map_or(self.durable.end, |place| place.end)
    }

    /// The segment that the newest whole commit stands in, where that ends there, and the segment's
    /// capacity.
    pub(super) fn place(&self) -> (u64, u64, u64) {
        (self.segment, self.offset, self.capacity)
    }

    /// What is gone though it was synced.
    pub(super) fn damage(&self) -> Option<&Error> {
        self.damage.as_ref()
    }

    /// Reads on as far as commits are whole.
    pub(super) fn follow(&mut self, log: &Log) -> Result<(), Error> {
        loop {
            // Before commits are looked for: it vouches for what was there then.
            self.read_mark(log)?;
            self.walk(log)?;
            if let Some(next) = self.next_header(log)? {
                // It vouches for all before it, which may have come since.
                self.walk(log)?;
                self.begin(log, &next);
                if self.damage.is_none() {
                    continue;
                }
            } else {
                self.judge(log)?;
            }
            return Ok(());
        }
    }

    fn read_mark(&mut self, log: &Log) -> Result<(), Error> {
        let file = log.file(self.segment)?;
        let marked = mark::read(&file, self.capacity, self.next.salt);
        let marked = marked.map_err(|error| Error::io("read", log.path(self.segment), error))?;
        self.vouched = self.vouched.max(marked.unwrap_or(0));
        self.settle();
        Ok(())
    }

    fn walk(&mut self, log: &Log) -> Result<(), Error> {
        // Who is level reads little.
        let head = log.read_up_to(self.segment, self.offset, frame::HEADER)?;
        if FrameHeader::decode(&head).is_none() {
            return Ok(());
        }
        let file = log.file(self.segment)?;
        let mut reader = FrameReader::new(&file, log.path(self.segment))?;
        reader.end_at(self.capacity);
        reader.seek(self.offset);
        while let Step::Commit { header, next } = reader.step(&self.next)? {
            let number = self.segment;
            let epoch = &mut self.epoch;
            let mut position = header.first_position;
            let mut dense = true;
            let count = for_each_record(reader.body(), |_, _, parsed| {
                dense &= parsed.position == position;
                position += 1;
                if let Some(begun) = control::epoch_of(&parsed) {
                    *epoch = begun.id;
                }
                if let Some(what) = control::superseded_by(&parsed) {
                    log.branches.add(&what);
                }
                if let Some(declared) = control::declared_by(&parsed) {
                    log.losses.learn(number, declared);
                }
                Ok(())
            })?;
            if count != Ok(header.records) || !dense {
                // No write under way has a right checksum.
                let what = "its records are not those stated";
                self.broken = Some(log.damaged(number, self.offset, what));
                return Ok(());
            }
            log.passed(Hop {
                position: header.first_position,
                offset: self.offset,
            });
            self.offset = reader.offset();
            self.next = next;
            self.vouched = self.vouched.max(header.known_synced);
            self.unvouched.push_back(Place {
                end: CommitEnd {
                    number: header.commit,
                    position: next.position - 1,
                    hash: next.previous,
                },
                epoch: self.epoch,
            });
            self.settle();
        }
        Ok(())
    }

    /// What is vouched for is durable.
    fn settle(&mut self) {
        while let Some(place) = self.unvouched.front()
            && place.end.number <= self.vouched
        {
            self.durable = *place;
            self.unvouched.pop_front();
        }
    }

    /// The header of the segment after this one, if that was begun: its first commit is there.
    fn next_header(&self, log: &Log) -> Result<Option<SegmentHeader>, Error> {
        let number = self.segment + 1;
        let path = log.path(number);
        let failed = |error| Error::io("read", &path, error);
        // Not by a file that is kept open: before it is begun it may be removed and made again.
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = Vec::new();
        let begins = segment::DATA + frame::HEADER as u64;
        file.take(begins).read_to_end(&mut bytes).map_err(failed)?;
        let data = usize::try_from(segment::DATA).unwrap_or(usize::MAX);
        let first = bytes.get(data..).unwrap_or_default();
        let header = SegmentHeader::decode(&bytes);
        let header =
            header.filter(|header| header.number == number && header.salt == self.next.salt);
        let is_begun = |header: &SegmentHeader| {
            FrameHeader::decode(first).is_some_and(|first| first.commit == header.first_commit)
        };
        Ok(header.filter(is_begun))
    }

    fn begin(&mut self, log: &Log, header: &SegmentHeader) {
        if header.end_before() != end_of(&self.next) {
            let what = "its header does not agree with the end of the segment before it";
            self.broken = Some(log.damaged(header.number, 0, what));
            self.damage.clone_from(&self.broken);
            return;
        }
        self.vouched = self.vouched.max(header.first_commit - 1);
        self.settle();
        log.begin(SegmentInfo {
            number: header.number,
            first_commit: header.first_commit,
            first_position: header.first_position,
            before: header.end_before(),
            about: header.about,
        });
        self.segment = header.number;
        self.capacity = header.capacity;
        self.offset = segment::DATA;
        self.next = expect_of(header);
        self.epoch = header.epoch.id;
        if let Some(hole) = header.gap.map(|_| self.next) {
            self.durable = Place {
                end: CommitEnd {
                    number: hole.commit - 1,
                    position: hole.position - 1,
                    hash: hole.previous,
                },
                epoch: self.epoch,
            };
        }
    }

    /// Whether something is gone, where no further commit is whole.
    fn judge(&mut self, log: &Log) -> Result<(), Error> {
        let whole = self.whole();
        let mut what = None;
        if self.vouched > whole.number {
            what = Some(format!(
                "the commit that stood here is gone or damaged, though commit {} was synced",
                self.vouched
            ));
        }
        let closed = self.clean.filter(|mark| mark.commit == whole.number);
        if closed.is_some_and(|mark| mark.hash != whole.hash) {
            what = Some("its last commit is not the one that was closed with".into());
        }
        let file = log.file(self.segment)?;
        let len = file.metadata();
        let len = len.map_err(|error| Error::io("inspect", log.path(self.segment), error))?;
        // A segment is cut once the next one is begun.
        if len.len() < self.capacity && self.next_header(log)?.is_none() {
            let (len, capacity) = (len.len(), self.capacity);
            what = Some(format!("it has {len} of {capacity} bytes"));
        }
        self.damage = what.map(|what| {
            let path = log.path(self.segment);
            let (offset, before) = (self.offset, whole.number);
            let remedy = format!("{REMEDY}; the {before} commits before it are read");
            Error::damaged(path, format!("at byte {offset}: {what}"), remedy)
        });
        self.damage = self.damage.take().or_else(|| self.broken.clone());
        Ok(())
    }

    /// The newest commit that any frame behind the last whole one vouches for.
    pub(super) fn survey(&self, log: &Log) -> Result<u64, Error> {
        let file = log.file(self.segment)?;
        let mut reader = FrameReader::new(&file, log.path(self.segment))?;
        reader.end_at(self.capacity);
        Ok(reader.survey(self.offset, self.next.salt)?.vouched)
    }
}
