//! What is under way on one connection.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use tidelog_backends::commits::{Commit, CommitEnd, CommitRecord};
use tidelog_backends::wire::{Reply, Wire, WireError};
use tidelog_core::{BoxFuture, Error, EventEnvelope, RecordKind, StreamId, Superseded};

use super::arbitrate::Done;
use super::connect::Greeting;
use super::judge::Place;
use super::lane::{Item, Lanes};
use super::log_rows::{LogRows, Unsent};
use super::park::{Change, EntryKey, Pending};
use super::probe::{Probe, Probed};
use super::retrying::Retrying;
use super::torn::Several;
use super::watermark::Noted;
use crate::replicate::progress::Progress;
use crate::scylla::state::Keeper;

/// One connection.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each stands for a thing of its own"
)]
pub(super) struct Link {
    pub greeting: Greeting,
    /// What is settled at least, by what the server said.
    pub floor: CommitEnd,
    /// Where the log ended when this connection began: what is above, none before it sent.
    pub last_at_connect: u64,
    /// What was lost up to here lets everything be sent again.
    pub rewind_below: u64,
    pub progress: Progress,
    pub log: LogRows,
    /// Commits whose rows are not all there, oldest first, and what follows when they are.
    pub commits: VecDeque<Arriving>,
    pub lanes: Lanes,
    pub several: Several,
    /// Entries that wait for the state to be saved.
    pub pending: VecDeque<Pending>,
    /// The server is being told of one: they stand in one partition, where each waits for the other.
    pub is_telling: bool,
    /// Positions of events that settle once a state is saved, with its revision.
    pub noted: VecDeque<(u64, u64)>,
    /// How many entries each record of superseded events waits for, by its position.
    pub unparking: BTreeMap<u64, usize>,
    /// Parked streams that are being tried.
    pub retrying: BTreeMap<StreamId, Retrying>,
    pub running: FuturesUnordered<BoxFuture<'static, Answer>>,
    pub noting: Option<BoxFuture<'static, Result<Noted, WireError>>>,
    pub is_note_wanted: bool,
    /// What the server is being told to be published.
    pub telling: u64,
    /// Ends when that is another.
    pub published_news: Option<BoxFuture<'static, ()>>,
    /// Lanes whose event the server refused while it had taken nothing yet.
    pub suspects: Vec<(StreamId, Box<str>)>,
    /// The server has taken something from this connection.
    pub has_appended: bool,
    /// The last event that was accepted.
    pub last_accepted: Option<(StreamId, Place)>,
    /// What the probe before looked at: what was settled, what had been accepted last.
    pub probed: (CommitEnd, Option<(StreamId, Place)>),
    pub is_probing: bool,
    /// When the server answered last, and whether it is being asked if it does.
    pub heard: Duration,
    pub is_pinging: bool,
    pub is_rewind_wanted: bool,
    /// The server is to be asked anew what it knows of this store.
    pub is_again_wanted: bool,
}

pub(super) struct Arriving {
    pub first: u64,
    pub rows_left: usize,
    pub then: Vec<Then>,
}

/// What is done once a commit's rows are all there.
pub(super) enum Then {
    Send(StreamId, Item),
    Supersede(Superseded),
}

/// What came back.
pub(super) enum Answer {
    Log(Result<Vec<u64>, Unsent>),
    Lane(StreamId, Box<Done>),
    Told(EntryKey, Change, Result<(), WireError>),
    Held(StreamId, Result<Vec<EventEnvelope>, Error>),
    Retried(StreamId, Box<Done>),
    Probed(Result<Probed, WireError>),
    LetGo(Result<(), Error>),
    Pinged(Result<Reply, WireError>),
}

impl Link {
    pub(super) fn new(
        greeting: Greeting,
        last: u64,
        after: u64,
        overlap: u64,
        now: Duration,
    ) -> Self {
        let settled = greeting.settled;
        let tenth = overlap.min(settled.position - after) / 10;
        Self {
            floor: settled,
            last_at_connect: last,
            rewind_below: if after == 0 { 0 } else { after + tenth },
            progress: Progress::after(CommitEnd {
                number: 0,
                position: 0,
                hash: [0; 32],
            }),
            log: LogRows::default(),
            commits: VecDeque::new(),
            lanes: Lanes::default(),
            several: Several::default(),
            pending: VecDeque::new(),
            is_telling: false,
            noted: VecDeque::new(),
            unparking: BTreeMap::new(),
            retrying: BTreeMap::new(),
            running: FuturesUnordered::new(),
            noting: None,
            is_note_wanted: true,
            telling: greeting.published,
            published_news: None,
            suspects: Vec::new(),
            has_appended: false,
            last_accepted: None,
            probed: (settled, None),
            is_probing: false,
            heard: now,
            is_pinging: false,
            is_rewind_wanted: false,
            is_again_wanted: false,
            greeting,
        }
    }

    pub(super) fn settled(&self) -> CommitEnd {
        let done = self.progress.settled();
        if done.position > self.floor.position {
            done
        } else {
            self.floor
        }
    }

    pub(super) fn take(&mut self, commit: &Arc<Commit>, keeper: &Keeper) -> Result<(), Error> {
        let records = commit.each().collect::<Result<Vec<_>, _>>()?;
        let several = of_several(&records);
        let origin = self.greeting.identity.origin;
        let chunk_records = self.greeting.replica.chunk_records;
        let mut then = Vec::new();
        for record in &records {
            let epoch = keeper.state().epoch_of(record.position);
            self.log
                .push(commit, record, (origin, epoch, chunk_records));
            if record.kind == RecordKind::Control {
                then.extend(record.superseded().map(Then::Supersede));
                continue;
            }
            let is_of_several = several.contains(&record.batch.first);
            if is_of_several {
                let event = (record.sequence, record.position, record.event_id);
                self.several.take(record.batch.first, &record.stream, event);
            }
            let item = Item::of_record(record, is_of_several);
            then.push(Then::Send(record.stream.clone(), item));
        }
        self.progress.take(commit, records.len() + then.len());
        self.commits.push_back(Arriving {
            first: commit.first_position,
            rows_left: records.len(),
            then,
        });
        Ok(())
    }

    /// Whether the server has taken something, or is yet to be asked to.
    pub(super) fn may_append(&self) -> bool {
        let lanes = &self.lanes;
        self.has_appended || lanes.in_flight() > 0 || lanes.is_ready() || !self.commits.is_empty()
    }

    pub(super) fn accepted(&mut self, stream: &StreamId, place: Place) {
        self.last_accepted = Some((stream.clone(), place));
        self.probed.1.get_or_insert_with(|| (stream.clone(), place));
    }

    /// The first end of a commit that this connection has settled, where it began at nothing: what is
    /// lost before the next probe is missed by none of those after it.
    pub(super) fn note_first_end(&mut self) {
        if self.probed.0.position == 0 {
            self.probed.0 = self.settled();
        }
    }

    /// Something that had been at the server up to `position` was missing there.
    pub(super) fn lost(&mut self, position: u64) {
        if position <= self.rewind_below {
            self.is_rewind_wanted = true;
        }
    }

    pub(super) fn probe(&mut self, wire: &Arc<dyn Wire>, keeper: &Keeper) {
        if std::mem::replace(&mut self.is_probing, true) {
            return;
        }
        let now = (self.settled(), self.last_accepted.clone());
        let before = std::mem::replace(&mut self.probed, now.clone());
        let probe = Probe {
            wire: Arc::clone(wire),
            origin: self.greeting.identity.origin,
            replica: self.greeting.replica.clone(),
            ends: [now.0, before.0]
                .map(|end| (end, keeper.state().epoch_of(end.position)))
                .into(),
            accepted: now.1.into_iter().chain(before.1).collect(),
            current: self.greeting.identity.epoch,
            confirmed: self.greeting.watermark,
            parked: keeper.state().parked.keys().cloned().collect(),
        };
        self.running
            .push(Box::pin(async move { Answer::Probed(probe.run().await) }));
    }
}

/// Appends to several streams of one commit, by their first position.
fn of_several(records: &[CommitRecord<'_>]) -> BTreeSet<u64> {
    let mut first_of: BTreeMap<u64, &StreamId> = BTreeMap::new();
    let mut several = BTreeSet::new();
    for record in records {
        if record.batch.count < 2 || record.kind == RecordKind::Control {
            continue;
        }
        let first = first_of.entry(record.batch.first).or_insert(&record.stream);
        if *first != &record.stream {
            several.insert(record.batch.first);
        }
    }
    several
}
