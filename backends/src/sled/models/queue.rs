//! What waits for the writer is taken once, in order, or given back when the queue is stopped.

use std::sync::Arc;
use std::time::Duration;

use shuttle::sync::Mutex;
use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::thread;

use super::explore;
use crate::sled::queue::{Queue, Woken};

/// Producer and number of what is pushed.
type Item = (u64, u64);

const PRODUCERS: u64 = 2;
const ITEMS: u64 = 3;

/// Takes everything under the lock, as a commit does.
fn take_all(queue: &Queue<Item>, log: &Mutex<Vec<Item>>) {
    let mut log = log.lock().unwrap();
    while let Some(item) = queue.take() {
        log.push(item);
    }
}

fn in_order(items: &[Item]) -> bool {
    (0..PRODUCERS).all(|producer| {
        let numbers = items.iter().filter(|item| item.0 == producer);
        numbers.map(|item| item.1).is_sorted()
    })
}

#[test]
fn each_item_is_taken_once_and_in_order_or_given_back() {
    explore("queue", || {
        let queue = Arc::new(Queue::new());
        let log = Arc::new(Mutex::new(Vec::new()));
        let writer = {
            let (queue, log) = (Arc::clone(&queue), Arc::clone(&log));
            thread::spawn(move || {
                while queue.wait(None) != Woken::Stopped {
                    take_all(&queue, &log);
                }
            })
        };
        let helper = {
            let (queue, log) = (Arc::clone(&queue), Arc::clone(&log));
            thread::spawn(move || take_all(&queue, &log))
        };
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|producer| {
                let queue = Arc::clone(&queue);
                thread::spawn(move || {
                    let pushed = (0..ITEMS).filter_map(|number| queue.push((producer, number)));
                    pushed.collect::<Vec<_>>()
                })
            })
            .collect();
        let left = queue.stop();
        let refused = producers
            .into_iter()
            .flat_map(|producer| producer.join().unwrap());
        let refused: Vec<_> = refused.collect();
        writer.join().unwrap();
        helper.join().unwrap();
        let taken = log.lock().unwrap().clone();
        assert!(in_order(&taken), "{taken:?}");
        let mut all = taken;
        all.extend(left);
        all.extend(refused);
        assert!(in_order(&all), "what is refused comes last: {all:?}");
        all.sort_unstable();
        let pushed = (0..PRODUCERS).flat_map(|producer| (0..ITEMS).map(move |n| (producer, n)));
        assert!(all.iter().copied().eq(pushed), "{all:?}");
    });
}

#[test]
fn each_job_is_done_once_while_anybody_pushes() {
    explore("queue of jobs", || {
        let queue = Arc::new(Queue::new());
        let done = Arc::new(Mutex::new(Vec::new()));
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let (queue, done) = (Arc::clone(&queue), Arc::clone(&done));
                thread::spawn(move || {
                    while let Some(item) = queue.next() {
                        done.lock().unwrap().push(item);
                    }
                })
            })
            .collect();
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|producer| {
                let queue = Arc::clone(&queue);
                thread::spawn(move || {
                    for number in 0..ITEMS {
                        assert_eq!(queue.push((producer, number)), None);
                    }
                })
            })
            .collect();
        for producer in producers {
            producer.join().unwrap();
        }
        // The readers must be woken by what is pushed: only then is the queue stopped.
        while done.lock().unwrap().len() < usize::try_from(PRODUCERS * ITEMS).unwrap() {
            thread::yield_now();
        }
        assert!(queue.stop().is_empty());
        for reader in readers {
            reader.join().unwrap();
        }
        let mut done = done.lock().unwrap().clone();
        done.sort_unstable();
        done.dedup();
        assert_eq!(done.len() as u64, PRODUCERS * ITEMS);
    });
}

#[test]
fn no_nudge_is_lost_and_only_a_wait_with_a_limit_ends_by_itself() {
    explore("queue, nudged", || {
        let queue = Arc::new(Queue::<Item>::new());
        let [commits, seen, marked] = [(); 3].map(|()| Arc::new(AtomicU64::new(0)));
        let writer = {
            let queue = Arc::clone(&queue);
            let [commits, seen, marked] = [&commits, &seen, &marked].map(Arc::clone);
            thread::spawn(move || {
                let mut limit = None;
                loop {
                    let woken = queue.wait(limit);
                    let newest = commits.load(Ordering::SeqCst);
                    match woken {
                        Woken::Stopped => break,
                        Woken::Nudged => seen.store(newest, Ordering::SeqCst),
                        Woken::Work => panic!("there is none"),
                        Woken::TimeUp => {
                            assert!(limit.is_some());
                            marked.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                    limit = (woken == Woken::Nudged).then_some(Duration::from_millis(1));
                }
            })
        };
        for number in 1..=ITEMS {
            commits.store(number, Ordering::SeqCst);
            queue.nudge();
        }
        while seen.load(Ordering::SeqCst) < ITEMS {
            thread::yield_now();
        }
        assert!(queue.stop().is_empty());
        writer.join().unwrap();
        assert!(marked.load(Ordering::SeqCst) <= ITEMS);
    });
}
