//! A session, and the handler that it calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tidelog_core::{
    BoxFuture, ContentType, EventEnvelope, EventId, EventListener, HandlerError, IdSource,
    ManualClock, ManualSleeper, Metadata, RecordKind, RetryPolicy, StreamId, Tags, Timestamp,
};

use super::super::feed::{Place, Record};
use super::super::session::{End, Session, Setup};
use super::super::shared::Shared as Control;
use super::feed::FakeFeed;
use super::mutants::Mutant;
use super::world::{MemberId, Outcome, Running, Shared, key_of};
use crate::listeners::{ListenerOptions, Tools};

/// Waits that fail together are to come back together, so that a seed says all.
struct Ids;

impl IdSource for Ids {
    fn next_uuid(&self) -> uuid::Uuid {
        uuid::Uuid::nil()
    }
}

/// One process.
pub(super) struct Process {
    pub(super) id: MemberId,
    pub(super) control: Arc<Control>,
    run: BoxFuture<'static, End>,
    woken: Arc<Woken>,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Process {
    pub(super) fn start(
        id: MemberId,
        world: &Shared,
        clock: &Arc<ManualClock>,
        options: ListenerOptions,
    ) -> Self {
        world
            .lock()
            .members
            .insert(id, super::world::Member::default());
        let control = Arc::new(Control::new("group"));
        let setup = Setup {
            shared: Arc::clone(&control),
            handler: Arc::new(Handler {
                id,
                world: Arc::clone(world),
            }),
            decode,
            options,
            hold_for: Duration::from_secs(60),
            tools: Tools {
                clock: Arc::clone(clock) as _,
                ids: Arc::new(Ids),
                sleeper: Arc::new(ManualSleeper::new(Arc::clone(clock))),
            },
        };
        let feed = FakeFeed {
            id,
            world: Arc::clone(world),
        };
        Self {
            id,
            control,
            run: Box::pin(async move { Session::new(&setup, feed).run().await }),
            woken: Arc::new(Woken(AtomicBool::new(true))),
        }
    }

    /// Lets it do all that it can; what it ended with.
    pub(super) fn go_on(&mut self) -> Option<End> {
        let waker = Waker::from(Arc::clone(&self.woken));
        for _ in 0..100_000 {
            if !self.woken.0.swap(false, Ordering::SeqCst) {
                return None;
            }
            if let Poll::Ready(end) = self.run.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Some(end);
            }
        }
        panic!("member {} never waits", self.id);
    }
}

pub(super) fn options() -> ListenerOptions {
    ListenerOptions::default()
        .concurrency(3)
        .in_flight_bytes(3_000)
        .retry(RetryPolicy {
            attempts: 3,
            first: Duration::from_millis(100),
            ceiling: Duration::from_millis(400),
        })
}

/// Runs until the world says what comes of it.
struct Handler {
    id: MemberId,
    world: Shared,
}

/// What comes of a handler; one that lives on is not done when it is dropped.
struct Answered {
    answered: oneshot::AsyncReceiver<Outcome>,
    lives_on: bool,
}

impl Drop for Answered {
    fn drop(&mut self) {
        if self.lives_on {
            let (_, other) = oneshot::async_channel();
            std::mem::forget(std::mem::replace(&mut self.answered, other));
        }
    }
}

impl EventListener for Handler {
    async fn on(&self, event: &EventEnvelope) -> Result<(), HandlerError> {
        let (answer, answered) = oneshot::async_channel();
        let place = Place {
            topic: event.metadata.get("topic").unwrap().into(),
            partition: event.metadata.get("partition").unwrap().parse().unwrap(),
        };
        let offset: i64 = event.metadata.get("offset").unwrap().parse().unwrap();
        let lives_on;
        {
            let mut world = self.world.lock();
            let record = &world.logs[&place][usize::try_from(offset).unwrap()];
            let running = Running {
                member: self.id,
                key: key_of(record),
                offset,
                sequence: event.sequence,
                answer,
            };
            world.check_begin(&running);
            world.handlers.push(running);
            lives_on = world.is(Mutant::HandlersLiveOn);
        }
        let mut answered = Answered { answered, lives_on };
        match (&mut answered.answered).await.expect("the world answers") {
            Outcome::Handled => Ok(()),
            Outcome::Passing => Err(HandlerError::passing("not now")),
            Outcome::Permanent => Err(HandlerError::permanent("never")),
            Outcome::Gap { expected } => Err(HandlerError::gap(expected, event.sequence)),
        }
    }

    fn wants(&self, event: &EventEnvelope) -> bool {
        &*event.event_type != "unwanted"
    }
}

/// Records of the world: a key that names a stream, and a value that is a sequence, `!` for one that is
/// no event, or `-` for one that nobody wants.
fn decode(record: &Record) -> Result<EventEnvelope, Box<str>> {
    let value = record.value.as_deref().unwrap_or_default();
    let text = std::str::from_utf8(value).unwrap();
    if text.starts_with('!') {
        return Err("no event".into());
    }
    let key = record.key.as_deref().unwrap_or(b"none");
    let is_wanted = !text.ends_with('-');
    Ok(EventEnvelope {
        event_id: EventId::from_bytes([0; 16]),
        stream: StreamId::new("T", std::str::from_utf8(key).unwrap()).unwrap(),
        sequence: text.trim_end_matches('-').parse().unwrap(),
        position: None,
        birth: None,
        kind: RecordKind::Event,
        event_type: if is_wanted { "wanted" } else { "unwanted" }.into(),
        revision: 1,
        content_type: ContentType::Bytes,
        event_time: Timestamp::from_micros(0),
        recorded_time: Timestamp::from_micros(0),
        metadata: Metadata::new()
            .with("topic", &*record.place.topic)
            .with("partition", record.place.partition.to_string())
            .with("offset", record.offset.to_string()),
        tags: Tags::none(),
        batch: tidelog_core::Batch { first: 1, count: 1 },
        event: record.value.clone().unwrap_or_default(),
    })
}
