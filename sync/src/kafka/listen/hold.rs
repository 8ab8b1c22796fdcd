//! Events that wait for what is missing before them in their stream.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use tidelog_core::{SequenceGap, StreamId};

use super::feed::RecordKey;
use super::job::Job;
use crate::listeners::Queued;

/// Most events of one stream that wait, and most bytes of them.
const MAX_EVENTS: usize = 1_000;
const MAX_BYTES: usize = 1 << 20;

/// Which stream of which lane.
pub(super) type Held = (RecordKey, StreamId);

/// All events that wait.
#[derive(Default)]
pub(super) struct Hold {
    waiting: HashMap<Held, Waiting>,
    /// Those that have waited long enough: the next gap is their last.
    over: HashSet<Held>,
    bytes: usize,
    next_wait: u64,
}

struct Waiting {
    /// By sequence; the same one may come twice.
    events: BTreeMap<(u64, i64), Arc<Job>>,
    bytes: usize,
    gap: SequenceGap,
    /// Tells the waits of one stream apart.
    wait: u64,
}

/// What follows from a gap.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It waits; a new wait has begun.
    Begun(u64),
    /// It waits with others.
    Joined,
    /// It does not wait, since too much does, or it has waited long enough.
    Refused,
}

impl Hold {
    /// Bytes of all that waits.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many events wait.
    pub(super) fn len(&self) -> usize {
        let waiting = self.waiting.values();
        waiting.map(|waiting| waiting.events.len()).sum()
    }

    /// Lets an event wait.
    pub(super) fn put(
        &mut self,
        held: Held,
        sequence: u64,
        job: Arc<Job>,
        gap: SequenceGap,
    ) -> Put {
        if self.over.contains(&held) {
            return Put::Refused;
        }
        let bytes = job.bytes();
        if let Some(waiting) = self.waiting.get_mut(&held) {
            if waiting.events.len() >= MAX_EVENTS || waiting.bytes + bytes > MAX_BYTES {
                return Put::Refused;
            }
            waiting.events.insert((sequence, job.order()), job);
            waiting.bytes += bytes;
            waiting.gap = gap;
            self.bytes += bytes;
            return Put::Joined;
        }
        self.next_wait += 1;
        let wait = self.next_wait;
        let waiting = Waiting {
            events: BTreeMap::from([((sequence, job.order()), job)]),
            bytes,
            gap,
            wait,
        };
        self.waiting.insert(held, waiting);
        self.bytes += bytes;
        Put::Begun(wait)
    }

    /// The event of `sequence` was handled: the first one that may follow it, and the wait that begins
    /// for those behind it.
    pub(super) fn after(&mut self, held: &Held, sequence: u64) -> Option<(Arc<Job>, Option<u64>)> {
        self.over.remove(held);
        let waiting = self.waiting.get_mut(held)?;
        let first = waiting.events.first_entry()?;
        if first.key().0 > sequence.saturating_add(1) {
            return None;
        }
        let job = first.remove();
        waiting.bytes -= job.bytes();
        self.bytes -= job.bytes();
        if waiting.events.is_empty() {
            self.waiting.remove(held);
            return Some((job, None));
        }
        self.next_wait += 1;
        waiting.wait = self.next_wait;
        Some((job, Some(waiting.wait)))
    }

    /// A wait is over: the first event, for its last attempt. `None` when it has ended otherwise.
    pub(super) fn expire(&mut self, held: &Held, wait: u64) -> Option<Arc<Job>> {
        let waiting = self.waiting.get_mut(held).filter(|w| w.wait == wait)?;
        let (_, job) = waiting.events.pop_first()?;
        waiting.bytes -= job.bytes();
        self.bytes -= job.bytes();
        if waiting.events.is_empty() {
            self.waiting.remove(held);
        }
        self.over.insert(held.clone());
        Some(job)
    }

    /// The one that waits longest.
    pub(super) fn oldest(&self) -> Option<(Held, SequenceGap)> {
        let oldest = self.waiting.iter().min_by_key(|(_, waiting)| waiting.wait);
        oldest.map(|(held, waiting)| (held.clone(), waiting.gap))
    }

    /// Ends all waiting of the key: what waited, in no order.
    pub(super) fn close(&mut self, key: &RecordKey) -> Vec<Arc<Job>> {
        if self.waiting.is_empty() && self.over.is_empty() {
            return Vec::new();
        }
        self.over.retain(|(of, _)| of != key);
        let mut closed = Vec::new();
        let bytes = &mut self.bytes;
        self.waiting.retain(|(of, _), waiting| {
            if of == key {
                *bytes -= waiting.bytes;
                closed.extend(std::mem::take(&mut waiting.events).into_values());
            }
            of != key
        });
        closed
    }

    /// The keys of which something waits.
    pub(super) fn keys(&self) -> impl Iterator<Item = &RecordKey> {
        self.waiting.keys().map(|(key, _)| key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::listen::feed::{Place, Record};

    fn held() -> Held {
        let place = Place {
            topic: "t".into(),
            partition: 0,
        };
        let key = RecordKey { place, key: None };
        (key, "T/a".parse().unwrap())
    }

    fn job(offset: i64, bytes: usize) -> Arc<Job> {
        let (key, _) = held();
        let record = Record {
            place: key.place.clone(),
            offset,
            key: None,
            value: Some(vec![0; bytes].into()),
            headers: Vec::new(),
        };
        Arc::new(Job {
            key,
            life: 0,
            record,
            event: Err("none".into()),
            letter: None,
        })
    }

    const GAP: SequenceGap = SequenceGap {
        expected: 2,
        found: 4,
    };

    #[test]
    fn what_waits_comes_in_order_of_sequence_as_the_one_before_is_handled() {
        let mut hold = Hold::default();
        assert_eq!(hold.put(held(), 5, job(1, 1), GAP), Put::Begun(1));
        assert_eq!(hold.put(held(), 4, job(2, 1), GAP), Put::Joined);
        assert!(hold.after(&held(), 2).is_none());
        let (first, wait) = hold.after(&held(), 3).unwrap();
        assert_eq!((first.record.offset, wait), (2, Some(2)));
        let (second, wait) = hold.after(&held(), 4).unwrap();
        assert_eq!((second.record.offset, wait), (1, None));
        assert_eq!((hold.bytes(), hold.len()), (0, 0));
    }

    #[test]
    fn a_wait_that_was_long_enough_is_the_last_one_unless_something_was_handled() {
        let mut hold = Hold::default();
        hold.put(held(), 4, job(1, 1), GAP);
        assert!(hold.expire(&held(), 9).is_none());
        let last = hold.expire(&held(), 1).unwrap();
        assert_eq!(hold.put(held(), 4, Arc::clone(&last), GAP), Put::Refused);
        assert!(hold.after(&held(), 3).is_none());
        assert_eq!(hold.put(held(), 4, last, GAP), Put::Begun(2));
    }

    #[test]
    fn too_much_does_not_wait() {
        let mut hold = Hold::default();
        hold.put(held(), 4, job(1, MAX_BYTES / 2), GAP);
        assert_eq!(
            hold.put(held(), 5, job(2, MAX_BYTES / 2), GAP),
            Put::Refused
        );
        let mut hold = Hold::default();
        for offset in 0..1_000 {
            assert_ne!(hold.put(held(), 4, job(offset, 0), GAP), Put::Refused);
        }
        assert_eq!(hold.put(held(), 4, job(1_000, 0), GAP), Put::Refused);
        assert_eq!(hold.close(&held().0).len(), 1_000);
        assert_eq!(hold.bytes(), 0);
    }
}
