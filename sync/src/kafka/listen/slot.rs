//! What passes between a listener's session and the thread that polls.

use std::collections::{BTreeMap, VecDeque};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use parking_lot::{Condvar, Mutex};

use super::feed::{Fed, FeedError, Place, Record};

/// Records above which the thread takes no more from librdkafka until the session has taken some.
const SLOT_BYTES: usize = 1 << 20;
/// Most records that are handed over at once: others are to have their turn.
const PAGE: usize = 500;

/// What the thread is told, and how much the session had heard of places by then.
pub(super) struct Told {
    pub(super) command: Command,
    pub(super) heard: u64,
}

pub(super) enum Command {
    Begin(Vec<Place>),
    Hold(Place, bool),
    Commit(Vec<(Place, i64)>, oneshot::Sender<Result<(), FeedError>>),
    /// What was put down of places.
    Committed(
        Vec<Place>,
        oneshot::Sender<Result<Vec<(Place, i64)>, FeedError>>,
    ),
}

#[derive(Default)]
pub(super) struct Slot {
    state: Mutex<State>,
    /// Notified when the thread has something to do.
    changed: Condvar,
    /// Woken when something came.
    fed: AtomicWaker,
}

#[derive(Default)]
struct State {
    /// Each with the number that the session has heard by it.
    fed: VecDeque<(Fed, u64)>,
    /// Of the records in `fed`.
    bytes: usize,
    commands: VecDeque<Told>,
    /// Numbers what becomes of places; and up to where the session has heard of it.
    said: u64,
    heard: u64,
    /// When each place came or went last.
    changed_of: BTreeMap<Place, u64>,
    /// Whether no records are wanted.
    paused: bool,
    /// Whether the session is leaving, or gone.
    leaving: bool,
    /// Whether the thread has ended: nothing is done any more.
    ended: bool,
}

impl State {
    fn change(&mut self, places: &[Place]) {
        self.said += 1;
        let said = self.said;
        let places = places.iter().map(|place| (place.clone(), said));
        self.changed_of.extend(places);
    }
}

impl Slot {
    /// Of the session: what comes next.
    pub(super) fn poll_fed(&self, cx: &mut Context<'_>) -> Poll<Fed> {
        self.fed.register(cx.waker());
        let mut state = self.state.lock();
        let Some((fed, said)) = state.fed.pop_front() else {
            return Poll::Pending;
        };
        state.heard = said;
        if let Fed::Records(records) = &fed {
            state.bytes -= records.iter().map(Record::bytes).sum::<usize>();
            self.changed.notify_all();
        }
        Poll::Ready(fed)
    }

    /// Of the session.
    pub(super) fn pause(&self, paused: bool) {
        self.state.lock().paused = paused;
        self.changed.notify_all();
    }

    /// Of the session: false when the thread has ended.
    pub(super) fn tell(&self, command: Command) -> bool {
        let mut state = self.state.lock();
        if state.ended {
            return false;
        }
        let heard = state.heard;
        state.commands.push_back(Told { command, heard });
        self.changed.notify_all();
        true
    }

    /// Of the session: up to where it has heard of places that come and go.
    pub(super) fn heard(&self) -> u64 {
        self.state.lock().heard
    }

    /// Whether these places neither came nor went since the session had `heard`.
    pub(super) fn is_still<'a>(
        &self,
        places: impl IntoIterator<Item = &'a Place>,
        heard: u64,
    ) -> bool {
        let state = self.state.lock();
        let changed = |place| state.changed_of.get(place).copied().unwrap_or(0);
        places.into_iter().all(|place| changed(place) <= heard)
    }

    /// Of the session: it takes nothing any more, and waits for nothing.
    pub(super) fn leave(&self) {
        self.state.lock().leaving = true;
        self.changed.notify_all();
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.state.lock().leaving
    }

    /// Hands over what is no record.
    pub(super) fn push(&self, fed: Fed) {
        let mut state = self.state.lock();
        match &fed {
            Fed::Assigned(places)
            | Fed::Revoked {
                places, lost: true, ..
            } => state.change(places),
            // It is the member's until that is given up.
            Fed::Revoked { .. } => state.said += 1,
            _ => {}
        }
        let said = state.said;
        state.fed.push_back((fed, said));
        drop(state);
        self.fed.wake();
    }

    /// These places went, whatever the session says of them from now on.
    pub(super) fn went(&self, places: &[Place]) {
        self.state.lock().change(places);
    }

    /// Hands over a record.
    pub(super) fn push_record(&self, record: Record) {
        let mut state = self.state.lock();
        state.bytes += record.bytes();
        let said = state.said;
        match state.fed.back_mut() {
            Some((Fed::Records(records), _)) if records.len() < PAGE => records.push(record),
            _ => state.fed.push_back((Fed::Records(vec![record]), said)),
        }
        drop(state);
        self.fed.wake();
    }

    /// Of the thread: what it is told next.
    pub(super) fn next_command(&self) -> Option<Told> {
        self.state.lock().commands.pop_front()
    }

    /// Of the thread: whether more records may come.
    pub(super) fn has_room(&self) -> bool {
        let state = self.state.lock();
        !state.paused && state.bytes < SLOT_BYTES
    }

    /// Of the thread: waits until there is room, something is to be done, or the time has passed.
    pub(super) fn wait(&self, most: Duration) {
        let mut state = self.state.lock();
        let is_idle = (state.paused || state.bytes >= SLOT_BYTES)
            && state.commands.is_empty()
            && !state.leaving;
        if is_idle {
            self.changed.wait_for(&mut state, most);
        }
    }

    /// Of the thread: the last it does.
    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        let unanswered = std::mem::take(&mut state.commands);
        drop(state);
        drop(unanswered);
        self.fed.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn record(offset: i64, bytes: usize) -> Record {
        Record {
            place: Place {
                topic: "t".into(),
                partition: 0,
            },
            offset,
            key: None,
            value: Some(vec![0; bytes].into()),
            headers: Vec::new(),
        }
    }

    fn next(slot: &Slot) -> Option<Fed> {
        match slot.poll_fed(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(fed) => Some(fed),
            Poll::Pending => None,
        }
    }

    #[test]
    fn records_come_in_order_in_bounded_pages_and_what_is_told_between_stays_between() {
        let slot = Slot::default();
        (0..600).for_each(|offset| slot.push_record(record(offset, 1)));
        slot.push(Fed::Resumed(super::super::feed::RecordKey {
            place: record(0, 0).place,
            key: None,
        }));
        slot.push_record(record(600, 1));
        let mut sizes = Vec::new();
        let mut offsets = Vec::new();
        while let Some(fed) = next(&slot) {
            match fed {
                Fed::Records(records) => {
                    sizes.push(records.len());
                    offsets.extend(records.iter().map(|record| record.offset));
                }
                _ => sizes.push(0),
            }
        }
        assert_eq!(sizes, [500, 100, 0, 1]);
        assert_eq!(offsets, (0..=600).collect::<Vec<_>>());
    }

    fn place(partition: i32) -> Place {
        Place {
            topic: "t".into(),
            partition,
        }
    }

    fn revoked(lost: bool) -> (Fed, oneshot::Receiver<()>) {
        let (done, is_done) = oneshot::channel();
        let places = vec![place(0)];
        (Fed::Revoked { places, lost, done }, is_done)
    }

    #[test]
    fn what_is_told_of_a_place_that_went_and_came_back_unheard_is_of_another_assignment() {
        let slot = Slot::default();
        slot.push(Fed::Assigned(vec![place(0), place(1)]));
        assert!(next(&slot).is_some());
        let heard = slot.heard();
        assert!(slot.is_still([&place(0), &place(1)], heard));
        slot.tell(Command::Begin(vec![place(0)]));
        let (lost, _is_done) = revoked(true);
        slot.push(lost);
        slot.push(Fed::Assigned(vec![place(0)]));
        let told = slot.next_command().unwrap();
        assert!(!slot.is_still([&place(0)], told.heard));
        assert!(!slot.is_still([&place(0), &place(1)], slot.heard()));
        assert!(slot.is_still([&place(1)], heard));
        assert!(next(&slot).is_some());
        assert!(!slot.is_still([&place(0)], slot.heard()));
        assert!(next(&slot).is_some());
        assert!(slot.is_still([&place(0)], slot.heard()));
    }

    #[test]
    fn a_place_that_is_to_be_given_up_is_the_sessions_until_it_went() {
        let slot = Slot::default();
        slot.push(Fed::Assigned(vec![place(0)]));
        assert!(next(&slot).is_some());
        let before = slot.heard();
        let (graceful, _is_done) = revoked(false);
        slot.push(graceful);
        assert!(slot.is_still([&place(0)], before));
        assert!(next(&slot).is_some());
        let heard = slot.heard();
        assert!(slot.is_still([&place(0)], heard));
        slot.went(&[place(0)]);
        assert!(!slot.is_still([&place(0)], before));
        assert!(!slot.is_still([&place(0)], heard));
    }

    #[test]
    fn there_is_no_room_above_the_bound_nor_while_nothing_is_wanted() {
        let slot = Slot::default();
        assert!(slot.has_room());
        slot.push_record(record(0, SLOT_BYTES));
        assert!(!slot.has_room());
        assert!(next(&slot).is_some());
        assert!(slot.has_room());
        slot.pause(true);
        assert!(!slot.has_room());
    }

    #[test]
    fn nothing_is_told_to_a_thread_that_has_ended_and_nobody_waits_for_it() {
        let slot = Slot::default();
        let (reply, answer) = oneshot::channel();
        assert!(slot.tell(Command::Commit(Vec::new(), reply)));
        slot.end();
        assert!(answer.recv().is_err());
        assert!(!slot.tell(Command::Begin(Vec::new())));
    }
}
