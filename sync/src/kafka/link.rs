//! What is under way on one connection.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tidelog_backends::commits::{CommitEnd, Envelopes};
use tidelog_core::{BoxFuture, StreamId};

use super::broker::{BrokerError, Cluster, Offsets, Place};
use super::lane::{LaneState, Lanes};
use super::state::Pass;
use super::topic_gates::Topics;
use super::turns::Reopenings;
use super::window::Flying;
use crate::replicate::outbox::Identity;
use crate::replicate::progress::Progress;

/// One connection.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each stands for a thing of its own"
)]
pub(super) struct Link {
    pub identity: Identity,
    /// What was settled when it began.
    pub floor: CommitEnd,
    pub progress: Progress,
    /// The part of the log that is published once more, instead of what is new.
    pub pass: Option<Pass>,
    /// Everything up to here was read on this connection.
    pub read: u64,
    /// Everything up to here was taken, now or before.
    pub taken: u64,
    /// Everything up to here may have been sent before this connection.
    pub sent_before: u64,
    pub lanes: Lanes,
    pub envelopes: Envelopes,
    /// Those that may send, whoever has waited longest first.
    pub ready: VecDeque<u32>,
    pub flying: Flying,
    /// What waits for a stream's entry to be saved, and in which order.
    pub holds: BTreeMap<StreamId, Hold>,
    pub held: VecDeque<(u64, StreamId)>,
    /// Streams that were set aside and are being published again.
    pub reopening: Reopenings,
    pub gate_news: Option<BoxFuture<'static, ()>>,
    pub looking: Option<Looking>,
    /// Set for the next look.
    pub alarm: Option<(Duration, BoxFuture<'static, ()>)>,
    pub probing: Option<Probing>,
    /// Whether reports stand still while the cluster answers.
    pub asking: Option<BoxFuture<'static, Result<Cluster, BrokerError>>>,
    pub marking: Option<Marking>,
    /// What a handshake record says.
    pub marked: CommitEnd,
    /// What was settled when it was looked last whether the record is to say something else.
    pub noted: Option<u64>,
    pub is_note_wanted: bool,
    /// This generation has delivered something.
    pub has_delivered: bool,
    pub is_again_wanted: bool,
    /// What was published last is to be published again.
    pub has_lost: bool,
    /// Nothing is sent before a record was written.
    pub is_proof_wanted: bool,
}

/// Positions that settle when the entry of their stream is saved.
#[derive(Default)]
pub(super) struct Hold {
    pub revision: u64,
    pub positions: Vec<u64>,
}

/// Topics that are being looked at.
pub(super) struct Looking {
    pub topics: Vec<usize>,
    pub answer: BoxFuture<'static, Result<Cluster, BrokerError>>,
}

/// Places that are being looked at, and the newest offset that was written to each.
pub(super) struct Probing {
    pub places: Vec<(Place, i64)>,
    pub answer: BoxFuture<'static, Result<Vec<Offsets>, BrokerError>>,
}

/// A record on its way.
pub(super) struct Marking {
    /// What it says.
    pub at: CommitEnd,
    pub begun: Duration,
    pub answer: BoxFuture<'static, Result<(), BrokerError>>,
}

impl Link {
    pub(super) fn new(
        identity: Identity,
        floor: CommitEnd,
        pass: Option<Pass>,
        marked: CommitEnd,
    ) -> Self {
        let from = CommitEnd {
            position: pass.map_or(floor.position, |pass| pass.at),
            ..floor
        };
        Self {
            identity,
            floor,
            progress: Progress::after(from),
            pass,
            read: pass.map_or(floor.position, |pass| pass.at),
            taken: floor.position,
            sent_before: floor.position,
            lanes: Lanes::default(),
            envelopes: Envelopes::new(),
            ready: VecDeque::new(),
            flying: Flying::default(),
            holds: BTreeMap::new(),
            held: VecDeque::new(),
            reopening: Reopenings::default(),
            gate_news: None,
            looking: None,
            alarm: None,
            probing: None,
            asking: None,
            marking: None,
            marked,
            noted: None,
            is_note_wanted: true,
            has_delivered: false,
            is_again_wanted: false,
            has_lost: false,
            is_proof_wanted: false,
        }
    }

    pub(super) fn settled(&self) -> CommitEnd {
        let done = self.progress.settled();
        if self.pass.is_none() && done.position > self.floor.position {
            done
        } else {
            self.floor
        }
    }

    /// Lets a lane send when its turn comes, if it has anything and waits for nothing.
    pub(super) fn queue(&mut self, id: u32, topics: &mut Topics) {
        let Some(lane) = self.lanes.get_mut(id) else {
            return;
        };
        if lane.queue.is_empty() {
            self.lanes.remove(id);
            return;
        }
        if lane.state != LaneState::Idle {
            return;
        }
        lane.state = LaneState::Queued;
        match topics.get_mut(lane.topic) {
            Some(topic) if !topic.is_open() => topic.waiting.push_back(id),
            _ => self.ready.push_back(id),
        }
    }

    /// Lets those go on that waited for a topic, if it is open.
    pub(super) fn open(&mut self, topic: usize, topics: &mut Topics) {
        if let Some(topic) = topics.get_mut(topic)
            && topic.is_open()
        {
            self.ready.append(&mut topic.waiting);
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.lanes.is_empty()
            && self.holds.is_empty()
            && self.reopening.is_empty()
            && self.looking.is_none()
            && self.probing.is_none()
            && self.marking.is_none()
            && self.pass.is_none()
    }
}
