//! A group is written as one frame, synced and published; segments follow one another.

use std::sync::Arc;

use tidelog_core::{Durability, Error};

use super::Committer;
use crate::platform;
use crate::primitives::atomic::Ordering;
use crate::sled::frame::{self, FrameHeader};
use crate::sled::frame_reader::Expect;
use crate::sled::index::SegmentIndex;
use crate::sled::log::{Hop, SegmentInfo};
use crate::sled::mark;
use crate::sled::recover::Active;
use crate::sled::segment::{self, About, Prepared, SegmentHeader};
use crate::sled::state::CleanMark;
use crate::sled::streams::{SegmentEnd, Tail};

impl Committer {
    /// Writes the frame, syncs as asked, and publishes it.
    pub(super) fn write(&mut self, durability: Durability) -> Result<(), Error> {
        let result = if self.group.records.is_empty() {
            // An answer for good may rest on commits that were not synced yet.
            if durability == Durability::Power {
                self.sync()
            } else {
                Ok(())
            }
        } else {
            self.write_frame(durability)
        };
        if let Err(error) = &result {
            self.shared.refuse(error);
        }
        result
    }

    fn write_frame(&mut self, durability: Durability) -> Result<(), Error> {
        let body_len = self.group.body().len();
        let frame_len = frame::frame_len(body_len as u64);
        let end = self.active.offset + frame_len;
        let elsewhere = self.belongs_in_front(self.about) || self.gap.is_some();
        let began = if elsewhere || mark::place(self.active.capacity, end).is_none() {
            Some(self.begin_segment(frame_len)?)
        } else {
            None
        };
        self.segment_about = self.about;
        let body = self.group.body();
        let previous = frame::chain(&self.next.previous, body);
        let header = FrameHeader {
            // A group has at most 32 MiB, a batch at most 256 MiB and a little.
            body_len: u32::try_from(body_len).unwrap_or(u32::MAX),
            salt: self.next.salt,
            commit: self.next.commit,
            known_synced: self.known_synced,
            previous: self.next.previous,
            first_position: self.next.position,
            records: u32::try_from(self.group.records.len()).unwrap_or(u32::MAX),
            trailer_len: 0,
            body_crc: crc32c::crc32c(body),
        };
        if let Some(place) = self.group.frame.first_chunk_mut::<{ frame::HEADER }>() {
            *place = header.encode();
        }
        self.group.frame.resize(
            usize::try_from(frame_len).unwrap_or(self.group.frame.len()),
            0,
        );
        let at = self.active.offset;
        fail::fail_point!("log_write", |_| Err(self.failed("write", injected())));
        platform::write_all_at(&self.active.file, &self.group.frame, at)
            .map_err(|error| self.failed("write", error))?;
        self.active.offset += frame_len;
        self.next = Expect {
            salt: header.salt,
            commit: header.commit + 1,
            position: header.first_position + u64::from(header.records),
            previous,
        };
        self.last_recorded = self.group.recorded;
        if durability == Durability::Power || began.is_some() {
            self.sync()?;
        }
        self.publish(at, &header)?;
        if let Some(sealed) = began {
            self.shared.indexer.seal(sealed);
        }
        Ok(())
    }

    /// Whether what is about this begins a segment, since the present one is not all about it.
    fn belongs_in_front(&self, about: About) -> bool {
        about != About::EVENTS && about != self.segment_about
    }

    /// The segment that would begin with what is about this, and the length of the one before it;
    /// `None` when it may stand in the present one.
    pub(crate) fn needs_front(&self, about: About) -> Option<(u64, u64)> {
        let begins = self.belongs_in_front(about);
        begins.then_some((self.active.number + 1, self.active.capacity))
    }

    pub(super) fn sync(&mut self) -> Result<(), Error> {
        let newest = self.next.commit - 1;
        if self.known_synced == newest {
            return Ok(());
        }
        fail::fail_point!("log_sync", |_| Err(self.failed("sync", injected())));
        self.active
            .file
            .sync_data()
            .map_err(|error| self.failed("sync", error))?;
        self.known_synced = newest;
        self.note_durable();
        Ok(())
    }

    /// Makes the group visible to readers, all at once: whoever finds one of its events in the tail
    /// or among the heads waits for the tail's lock, or sees the new position already.
    fn publish(&mut self, at: u64, header: &FrameHeader) -> Result<(), Error> {
        let shared = &self.shared;
        let mut index = self.tail.index.write();
        // Readers that see the branch wait for its events.
        for begun in self.group.begins() {
            shared.log.branches.add(begun);
        }
        for record in &self.group.records {
            let Some((stream, hash)) = self.group.stream_of(record) else {
                continue;
            };
            // A segment is at most 1 GiB, or one batch.
            let offset = u32::try_from(at + record.at as u64).unwrap_or(u32::MAX);
            let len = u32::try_from(record.len).unwrap_or(u32::MAX);
            index
                .push(
                    hash,
                    stream,
                    record.sequence,
                    offset,
                    len,
                    record.fingerprint,
                )
                .map_err(crate::sled::index_failed)?;
        }
        index.note_id(self.group.newest_id);
        self.newest_id = self.newest_id.map(|id| id.max(self.group.newest_id));
        self.group.publish(&shared.heads, &shared.recent_ids);
        shared.log.passed(Hop {
            position: header.first_position,
            offset: at,
        });
        self.published = CleanMark {
            commit: header.commit,
            position: self.next.position - 1,
            hash: self.next.previous,
        };
        let body = frame::HEADER..frame::HEADER + header.body_len as usize;
        shared
            .live
            .publish(header.first_position, self.published.position, || {
                self.group.frame.get(body)
            });
        drop(index);
        self.note_durable();
        Ok(())
    }

    fn note_durable(&self) {
        if self.known_synced >= self.published.commit {
            self.shared
                .durable_position
                .store(self.published.position, Ordering::Release);
        }
    }

    /// Goes on in the next segment; answers the tail that is sealed once the new segment's first
    /// frame is synced.
    fn begin_segment(&mut self, frame_len: u64) -> Result<Arc<Tail>, Error> {
        // A header vouches for everything before it.
        self.sync()?;
        self.shared.indexer.wait_for_room()?;
        let needed = mark::capacity_for(segment::DATA + frame_len);
        let Prepared {
            number,
            file,
            mut capacity,
        } = self
            .shared
            .preparer
            .take(self.active.number + 1, self.active.capacity)?;
        if needed > capacity {
            let failed = |error| Error::io("fill", self.shared.log.path(number), error);
            platform::zero_fill(&file, capacity, needed).map_err(failed)?;
            file.sync_all().map_err(failed)?;
            capacity = needed;
        }
        let header = SegmentHeader {
            origin: self.shared.format.origin,
            salt: self.next.salt,
            number,
            first_commit: self.next.commit,
            first_position: self.next.position,
            previous: self.next.previous,
            epoch: self.epoch,
            capacity,
            gap: self.gap.take(),
            about: self.about,
        };
        platform::write_all_at(&file, &header.encode(), 0)
            .map_err(|error| Error::io("write", self.shared.log.path(number), error))?;
        let sealed = Arc::clone(&self.tail);
        sealed.index.write().shrink();
        *sealed.end.lock() = Some(SegmentEnd {
            offset: self.active.offset,
            hash: self.next.previous,
        });
        self.tail = Tail::new(SegmentIndex::new(number), None);
        self.shared.streams.begin(&self.tail);
        self.shared.log.begin(SegmentInfo {
            number,
            first_commit: self.next.commit,
            first_position: self.next.position,
            before: header.end_before(),
            about: header.about,
        });
        self.active = Active {
            number,
            file,
            offset: segment::DATA,
            capacity,
        };
        Ok(sealed)
    }

    pub(super) fn failed(&self, action: &'static str, error: std::io::Error) -> Error {
        Error::io(action, self.shared.log.path(self.active.number), error)
    }
}

#[cfg(feature = "failpoints")]
fn injected() -> std::io::Error {
    std::io::Error::other("injected by a test")
}
