//! What passes between a listener's session and the thread that polls.

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use parking_lot::{Condvar, Mutex};

use super::feed::{Fed, FeedError, Place, Record};

/// Records above which the thread takes no more from librdkafka until the session has taken some.
const SLOT_BYTES: usize = 1 << 20;
/// Most records that are handed over at once: others are to have their turn.
const PAGE: usize = 500;

/// What the thread is told.
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
    fed: VecDeque<Fed>,
    /// Of the records in `fed`.
    bytes: usize,
    commands: VecDeque<Command>,
    /// Whether no records are wanted.
    paused: bool,
    /// Whether the session is leaving, or gone.
    leaving: bool,
    /// Whether the thread has ended: nothing is done any more.
    ended: bool,
}

impl Slot {
    /// Of the session: what comes next.
    pub(super) fn poll_fed(&self, cx: &mut Context<'_>) -> Poll<Fed> {
        self.fed.register(cx.waker());
        let mut state = self.state.lock();
        let Some(fed) = state.fed.pop_front() else {
            return Poll::Pending;
        };
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
        state.commands.push_back(command);
        self.changed.notify_all();
        true
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
        self.state.lock().fed.push_back(fed);
        self.fed.wake();
    }

    /// Hands over a record.
    pub(super) fn push_record(&self, record: Record) {
        let mut state = self.state.lock();
        state.bytes += record.bytes();
        match state.fed.back_mut() {
            Some(Fed::Records(records)) if records.len() < PAGE => records.push(record),
            _ => state.fed.push_back(Fed::Records(vec![record])),
        }
        drop(state);
        self.fed.wake();
    }

    /// Of the thread: what it is told next.
    pub(super) fn next_command(&self) -> Option<Command> {
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
