//! The thread of a member: it polls, hands over what comes, and does what it is told.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use tidelog_core::Error;

use super::events::{Events, Member};
use super::feed::Fed;
use super::record::readable;
use super::slot::Slot;

/// How long one poll waits: what is told in between waits as long.
const POLL: Duration = Duration::from_millis(100);
/// How long the thread waits for the session before it pauses fetching and polls on: pausing throws
/// away what is fetched ahead.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long leaving waits for the group.
const LEAVE: Duration = Duration::from_secs(5);

/// Runs the thread of a member; what is answered is dropped when that ends.
///
/// # Errors
/// [`Error::Io`] when there is no thread.
pub(super) fn start(consumer: Arc<Member>) -> Result<oneshot::AsyncReceiver<()>, Error> {
    let (ended, is_ended) = oneshot::async_channel();
    let at_end = AtEnd {
        slot: Arc::clone(consumer.context().slot()),
        _ended: ended,
    };
    let spawned = thread::Builder::new()
        .name("tidelog-kafka-listen".into())
        .spawn(move || {
            // Dropped last, also by a panic: nobody waits for a thread that is gone.
            let _at_end = at_end;
            run(&consumer);
        });
    spawned.map_err(|error| Error::io("start a thread for", "a listener", error))?;
    Ok(is_ended)
}

struct AtEnd {
    slot: Arc<Slot>,
    _ended: oneshot::Sender<()>,
}

impl Drop for AtEnd {
    fn drop(&mut self) {
        if !self.slot.is_leaving() {
            self.slot.push(Fed::Ended(Error::Closed));
        }
        self.slot.end();
    }
}

fn run(consumer: &Member) {
    let events = Arc::clone(consumer.context());
    let slot = events.slot();
    let mut fetching = Fetching::default();
    while !slot.is_leaving() {
        events.obey(consumer);
        events.start(consumer);
        if slot.has_room() {
            fetching.go_on(consumer, &events);
        } else if !fetching.has_waited_enough() {
            slot.wait(PATIENCE);
            continue;
        } else {
            fetching.pause(consumer, &events);
        }
        match consumer.poll(POLL) {
            Some(Ok(message)) => slot.push_record(readable(&message)),
            Some(Err(error)) => {
                if let Some(fed) = events.failed(consumer, &error) {
                    let is_end = matches!(fed, Fed::Ended(_));
                    slot.push(fed);
                    if is_end {
                        return slot.leave();
                    }
                }
            }
            None => {}
        }
    }
    leave(consumer);
}

/// Gives all places back, so that others need not wait until this member is missed.
fn leave(consumer: &Member) {
    consumer.unsubscribe();
    let until = Instant::now() + LEAVE;
    while Instant::now() < until && consumer.assignment().is_ok_and(|mine| mine.count() > 0) {
        let _ = consumer.poll(POLL);
    }
}

/// Whether the thread lets librdkafka fetch.
#[derive(Default)]
struct Fetching {
    full_since: Option<Instant>,
    is_paused: bool,
}

impl Fetching {
    fn has_waited_enough(&mut self) -> bool {
        let since = *self.full_since.get_or_insert_with(Instant::now);
        since.elapsed() >= PATIENCE
    }

    fn pause(&mut self, consumer: &Member, events: &Events) {
        if !self.is_paused {
            self.is_paused = true;
            events.pause(consumer);
        }
    }

    fn go_on(&mut self, consumer: &Member, events: &Events) {
        self.full_since = None;
        if std::mem::take(&mut self.is_paused) {
            events.resume(consumer);
        }
    }
}
