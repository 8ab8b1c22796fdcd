//! Group commit: everything that waits becomes one frame, one write, one sync.
//!
//! One [`Committer`] stands behind a lock; whoever holds it commits: the writer's thread for async
//! callers, the caller's own for blocking ones. At most one commit is not yet synced.

use std::sync::Arc;

use tidelog_core::{AppendReceipt, Durability, Error, EventId, StreamId, Supersession, Timestamp};

use super::commits::{Commit, CommitEnd, DeclaredHole};
use super::control;
use super::format;
use super::frame::{self, FrameHeader};
use super::frame_reader::{Expect, for_each_record};
use super::group::Group;
use super::index::SegmentIndex;
use super::log::{Hop, SegmentInfo};
use super::mark;
use super::recover::Active;
use super::request::Request;
use super::segment::{self, About, End, Epoch, Prepared, SegmentHeader};
use super::shared::Shared;
use super::state::CleanMark;
use super::streams::{SegmentEnd, Tail};
use crate::platform;
use crate::primitives::atomic::Ordering;

/// A group is closed when it has this many bytes; one larger batch makes a group alone.
const GROUP_BYTES: usize = 32 << 20;

/// Writes the log. All of its state is behind the store's commit lock.
pub(crate) struct Committer {
    shared: Arc<Shared>,
    active: Active,
    tail: Arc<Tail>,
    next: Expect,
    last_recorded: Timestamp,
    epoch: Epoch,
    known_synced: u64,
    /// No id of version 7 that is published is above this one; `None` where that is not known.
    newest_id: Option<u128>,
    /// The commit that the segment's mark vouches for.
    marked: u64,
    /// The newest commit when the writer's thread looked last whether any come, if it is to look again.
    watched: Option<u64>,
    /// A failure that nobody was told of: whoever comes next is.
    untold: Option<Error>,
    group: Group,
    /// Requests that did not fit into the group before.
    carried: Vec<Request>,
    /// The newest commit that readers see.
    published: CleanMark,
    /// What is written next is about: it may belong at the front of a segment that says so.
    about: About,
    /// What all of the segment is about so far.
    segment_about: About,
    /// Where the next segment says that the one before it ends, when what follows that is left out.
    gap: Option<End>,
    closed: bool,
}

type Answer = (Request, Result<Vec<AppendReceipt>, Error>);

/// What a commit leaves to be done without the lock: answering runs wakers, which are foreign code
/// and may drop the store's last handle.
#[must_use]
pub(crate) struct Done {
    answers: Vec<Answer>,
    more: bool,
    published: bool,
}

impl Done {
    /// Answers everybody; says whether there is more to commit.
    pub(crate) fn deliver(self, shared: &Shared) -> bool {
        if self.published {
            shared.live.notify();
        }
        for (request, result) in self.answers {
            request.answer(result);
        }
        self.more
    }
}

impl Committer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        active: Active,
        tail: Arc<Tail>,
        next: Expect,
        last_recorded: Timestamp,
        epoch: Epoch,
    ) -> Self {
        let known_synced = next.commit - 1;
        let newest_id = shared.streams.newest_id();
        let group = Group::new();
        let published = CleanMark {
            commit: next.commit - 1,
            position: next.position - 1,
            hash: next.previous,
        };
        Self {
            shared,
            active,
            tail,
            next,
            last_recorded,
            epoch,
            known_synced,
            newest_id,
            marked: 0,
            watched: None,
            untold: None,
            group,
            carried: Vec::new(),
            published,
            about: About::EVENTS,
            segment_about: About::EVENTS,
            gap: None,
            closed: false,
        }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Why nothing can be committed, when it cannot.
    pub(crate) fn refusal(&self) -> Option<Error> {
        if self.closed {
            Some(Error::Closed)
        } else {
            self.shared.refusal()
        }
    }

    /// Number, last position and chain hash of the newest commit that readers see.
    pub(crate) fn mark(&self) -> CleanMark {
        self.published
    }

    /// The newest segment, where its last frame ends, and its length.
    pub(crate) fn end(&self) -> (u64, u64, u64) {
        (self.active.number, self.active.offset, self.active.capacity)
    }

    /// Commits `first` and what waits, as one group; what does not fit is carried to the next.
    pub(crate) fn run(&mut self, first: Option<Request>) -> Done {
        let mut waiting = Vec::new();
        let mut bytes = 0;
        let mut ahead = std::mem::take(&mut self.carried).into_iter().chain(first);
        while let Some(request) = ahead.next().or_else(|| self.shared.queue.take()) {
            if bytes > 0 && bytes + request.bytes > GROUP_BYTES {
                self.carried.push(request);
                self.carried.extend(ahead);
                break;
            }
            bytes += request.bytes;
            waiting.push(request);
        }
        let before = self.next.commit;
        let answers = if waiting.is_empty() {
            Vec::new()
        } else {
            self.commit_group(waiting)
        };
        Done {
            answers,
            more: !self.carried.is_empty(),
            published: before != self.next.commit,
        }
    }

    fn commit_group(&mut self, waiting: Vec<Request>) -> Vec<Answer> {
        if let Some(refusal) = self.refusal() {
            self.untold = None;
            return waiting
                .into_iter()
                .map(|request| (request, Err(refusal.clone())))
                .collect();
        }
        let recorded = self.shared.clock.now().max(self.last_recorded);
        self.begin_group(recorded);
        let mut durability = Durability::Process;
        let mut answers: Vec<Answer> = Vec::with_capacity(waiting.len());
        for request in waiting {
            let answer = self.group.admit(&self.shared, &request);
            if answer.is_ok() {
                durability = durability.max(request.durability);
            }
            answers.push((request, answer));
        }
        if let Err(error) = self.write(durability) {
            // Even a refusal may rest on what this group was to write.
            for (_, answer) in &mut answers {
                *answer = Err(error.clone());
            }
        }
        answers
    }

    fn begin_group(&mut self, recorded: Timestamp) {
        self.group
            .begin(self.next.position, recorded, self.newest_id);
    }

    /// Begins a new epoch by a record of its own; durable when this returns.
    pub(crate) fn begin_epoch(&mut self, id: uuid::Uuid) -> Result<(), Error> {
        let mark = self.mark();
        let epoch = Epoch {
            id,
            parent: self.epoch.id,
            parent_position: mark.position,
            parent_hash: mark.hash,
        };
        let payload = control::encode_epoch(&epoch)?;
        let recorded = self.shared.clock.now().max(self.last_recorded);
        self.begin_group(recorded);
        let event_id = EventId::from_uuid(id);
        self.group
            .encode_control(&self.shared.control, event_id, control::EPOCH, &payload);
        let done = self.write(Durability::Power);
        if done.is_ok() {
            self.epoch = epoch;
            *self.shared.epoch.lock() = id;
        }
        done
    }

    /// Accepts that `stream` has lost events, or all that is lost, by a record; durable when this
    /// returns.
    pub(crate) fn accept_loss(&mut self, stream: Option<&StreamId>) -> Result<(), Error> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        let payload = control::encode_accepted(stream)?;
        let recorded = self.shared.clock.now().max(self.last_recorded);
        self.begin_group(recorded);
        let (kind, id) = (control::ACCEPTED, EventId::generate());
        self.group
            .encode_control(&self.shared.control, id, kind, &payload);
        self.about = About::LOSSES;
        let done = self.write(Durability::Power);
        self.about = About::EVENTS;
        if done.is_ok() {
            self.shared.log.losses.accept(stream);
        }
        done
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Refuses a branch whose own events have ids that the stream knows.
    pub(crate) fn refuse_known(&mut self, what: &Supersession) -> Result<(), Error> {
        self.begin_group(self.last_recorded);
        self.group.refuse_known(&self.shared, what)
    }

    /// Begins the branch that `what` asks for, whose head was looked at; durable when this returns.
    pub(crate) fn begin_branch(&mut self, what: &Supersession) -> Result<AppendReceipt, Error> {
        self.refuse_known(what)?;
        // Builds that know no branches must not meet one.
        self.shared.add_flag(format::BRANCHES)?;
        let recorded = self.shared.clock.now().max(self.last_recorded);
        self.begin_group(recorded);
        let receipt = self.group.begin_branch(&self.shared, what)?;
        self.about = About::BRANCHES;
        let done = self.write(Durability::Power);
        self.about = About::EVENTS;
        done.map(|()| receipt)
    }

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

    /// Writes the frame, syncs as asked, and publishes it.
    fn write(&mut self, durability: Durability) -> Result<(), Error> {
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

    fn sync(&mut self) -> Result<(), Error> {
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
                .map_err(super::index_failed)?;
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

    /// Asks for the next segment ahead of time, once this one is half full.
    pub(crate) fn prepare_ahead(&self) {
        if self.active.offset > self.active.capacity / 2 && self.shared.refusal().is_none() {
            self.shared
                .preparer
                .ask(self.active.number + 1, self.active.capacity);
        }
    }

    /// Takes nothing more. A clean close syncs what is not yet, and answers its mark unless a write
    /// has failed.
    pub(crate) fn close(&mut self, cleanly: bool) -> Result<Option<CleanMark>, Error> {
        let done = if cleanly && self.shared.refusal().is_none() {
            // The clean mark is taken away when the store is opened next; this one stays.
            self.sync().and_then(|()| self.leave_mark())
        } else {
            Ok(())
        };
        self.closed = true;
        if let Some(error) = self.untold.take().filter(|_| cleanly) {
            return Err(error);
        }
        done?;
        if !cleanly || self.shared.refusal().is_some() {
            return Ok(None);
        }
        Ok(Some(self.mark()))
    }

    /// Makes everything written so far survive a power cut.
    pub(crate) fn sync_now(&mut self) -> Result<(), Error> {
        if let Some(cause) = self.shared.refusal() {
            return Err(cause);
        }
        let synced = self.sync().and_then(|()| self.leave_mark());
        if let Err(error) = &synced {
            self.shared.refuse(error);
        }
        synced
    }

    fn failed(&self, action: &'static str, error: std::io::Error) -> Error {
        Error::io(action, self.shared.log.path(self.active.number), error)
    }
}

#[cfg(feature = "failpoints")]
fn injected() -> std::io::Error {
    std::io::Error::other("injected by a test")
}
