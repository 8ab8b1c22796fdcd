//! Group commit: everything that waits becomes one frame, one write, one sync.
//!
//! One [`Committer`] stands behind a lock; whoever holds it commits: the writer's thread for async
//! callers, the caller's own for blocking ones. At most one commit is not yet synced.

mod copied;
mod marks;
mod writing;

use std::sync::Arc;

use tidelog_core::{AppendReceipt, Durability, Error, EventId, StreamId, Supersession, Timestamp};

use super::control;
use super::format;
use super::frame_reader::Expect;
use super::group::Group;
use super::recover::Active;
use super::request::Request;
use super::segment::{About, End, Epoch};
use super::shared::Shared;
use super::state::CleanMark;
use super::streams::Tail;

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
}
