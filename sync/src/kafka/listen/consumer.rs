//! [`Feed`] over librdkafka: what a session says to its member of the group.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use rdkafka::consumer::{Consumer as _, ConsumerGroupMetadata};
use rdkafka::error::KafkaError;
use tidelog_core::{BoxFuture, Error};
use uuid::Uuid;

use super::config::KafkaListenerConfig;
use super::dead::{Changed, DeadLetters, Heard};
use super::events::{Events, Member};
use super::feed::{
    Asked, Fed, Feed, FeedError, LetterPlace, Letters, ParkedKey, Parking, Place, RecordKey,
};
use super::polling;
use super::slot::{Command, Slot};

/// What a member is made of.
pub(super) struct Membership {
    /// Names, or patterns that begin with `^`.
    pub(super) topics: Vec<String>,
    /// A group without offsets begins at the end.
    pub(super) starts_at_end: bool,
    /// This member's own, new in each run.
    pub(super) id: Uuid,
}

/// [`Feed`] over librdkafka.
pub(super) struct KafkaFeed {
    slot: Arc<Slot>,
    /// Gone when the thread has ended.
    member: Weak<Member>,
    dead: Arc<DeadLetters>,
    ended: Option<oneshot::AsyncReceiver<()>>,
}

impl KafkaFeed {
    /// Joins the group.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when librdkafka refuses a setting, [`Error::Io`] when there is no thread.
    pub(super) fn open(
        membership: &Membership,
        config: &KafkaListenerConfig,
    ) -> Result<Self, Error> {
        let connection = &config.connection;
        let refused = |error: KafkaError| connection.refused(&error);
        let slot = Arc::new(Slot::default());
        let heard = Arc::clone(&slot);
        let dead = DeadLetters::new(
            connection.clone(),
            &config.group,
            config.dead_topics(),
            membership.id,
            move |heard_of| heard.push(of_dead_letters(heard_of)),
        )?;
        let events = Events::new(Arc::clone(&slot), connection, membership.starts_at_end);
        let client = config.member()?;
        let consumer: Member = client.create_with_context(events).map_err(refused)?;
        let topics: Vec<&str> = membership.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics).map_err(refused)?;
        let consumer = Arc::new(consumer);
        let member = Arc::downgrade(&consumer);
        let is_ended = polling::start(consumer)?;
        Ok(Self {
            slot,
            member,
            dead: Arc::new(dead),
            ended: Some(is_ended),
        })
    }
}

fn of_dead_letters(heard: Heard) -> Fed {
    match heard {
        Heard::Changed(Changed::Parked(parked)) => Fed::Parked(parked),
        Heard::Changed(Changed::Resumed(key)) => Fed::Resumed(key),
        Heard::Changed(Changed::Asked(key, asked)) => Fed::Asked(key, asked),
        Heard::Trouble(error) => Fed::Trouble(error),
    }
}

impl Feed for KafkaFeed {
    fn poll_fed(&mut self, cx: &mut Context<'_>) -> Poll<Fed> {
        self.slot.poll_fed(cx)
    }

    fn pause(&mut self, paused: bool) {
        self.slot.pause(paused);
    }

    fn hold(&mut self, place: Place, held: bool) {
        self.slot.tell(Command::Hold(place, held));
    }

    fn begin(&mut self, places: Vec<Place>) {
        self.slot.tell(Command::Begin(places));
    }

    fn commit(&self, offsets: Vec<(Place, i64)>) -> BoxFuture<'static, Result<(), FeedError>> {
        let (reply, answer) = oneshot::async_channel();
        self.slot.tell(Command::Commit(offsets, reply));
        Box::pin(async move {
            // Without an answer the thread is gone, and the membership with it.
            answer.await.unwrap_or(Err(FeedError::Lost))
        })
    }

    fn park(&self, change: Parking) -> BoxFuture<'static, Result<Vec<LetterPlace>, FeedError>> {
        let fence = Fence {
            slot: Arc::clone(&self.slot),
            member: Weak::clone(&self.member),
            heard: self.slot.heard(),
        };
        let places = without_offset(&change);
        if !places.is_empty() {
            return self.park_with(places, change, fence);
        }
        match fence.metadata(&change) {
            Some(metadata) => self.dead.park(change, metadata),
            None => Box::pin(std::future::ready(Err(FeedError::Lost))),
        }
    }

    fn parked_set(&self) -> BoxFuture<'static, Result<Vec<ParkedKey>, FeedError>> {
        self.dead.parked_set()
    }

    fn letters(
        &self,
        key: RecordKey,
        from: LetterPlace,
    ) -> BoxFuture<'static, Result<Letters, FeedError>> {
        self.dead.letters(key, from)
    }

    fn ask(&self, key: RecordKey, asked: Asked) -> BoxFuture<'static, Result<(), FeedError>> {
        self.dead.ask(key, asked)
    }

    fn leave(&mut self) -> BoxFuture<'static, ()> {
        self.slot.leave();
        let ended = self.ended.take();
        Box::pin(async move {
            if let Some(ended) = ended {
                // Dropped when the thread ends.
                let _ = ended.await;
            }
        })
    }
}

impl KafkaFeed {
    /// As [`park`](Feed::park), of places that nothing was taken of: their offsets stay what they are.
    fn park_with(
        &self,
        places: Vec<Place>,
        mut change: Parking,
        fence: Fence,
    ) -> BoxFuture<'static, Result<Vec<LetterPlace>, FeedError>> {
        let (reply, answer) = oneshot::async_channel();
        self.slot.tell(Command::Committed(places, reply));
        let dead = Arc::clone(&self.dead);
        Box::pin(async move {
            let offsets = answer.await.unwrap_or(Err(FeedError::Lost))?;
            change.offsets.extend(offsets);
            let metadata = fence.metadata(&change).ok_or(FeedError::Lost)?;
            dead.park(change, metadata).await
        })
    }
}

/// What lets nobody write of places that were another member's meanwhile.
struct Fence {
    slot: Arc<Slot>,
    member: Weak<Member>,
    /// How much the session had heard of places when it said what is to be written.
    heard: u64,
}

impl Fence {
    /// What the group says of this member at this moment: who is not the owner any more is refused by
    /// it. `None` when some of the places went since the session said so: they may have come back, and
    /// then the group would take what is said of another assignment.
    fn metadata(&self, change: &Parking) -> Option<ConsumerGroupMetadata> {
        let metadata = self.member.upgrade()?.group_metadata()?;
        // In this order: what goes from here on is of a later generation than that.
        let places = change.offsets.iter().map(|(place, _)| place);
        self.slot.is_still(places, self.heard).then_some(metadata)
    }
}

/// The places that a change is about without saying their offsets.
fn without_offset(change: &Parking) -> Vec<Place> {
    let parked = change.parked.iter().map(|parked| &parked.key.place);
    let resumed = change.resumed.iter().map(|key| &key.place);
    let letters = change.letters.iter().map(|letter| &letter.record.place);
    let about: BTreeSet<&Place> = parked.chain(resumed).chain(letters).collect();
    let has_offset = |place: &Place| change.offsets.iter().any(|(of, _)| of == place);
    let without = about.into_iter().filter(|place| !has_offset(place));
    without.cloned().collect()
}

impl Drop for KafkaFeed {
    fn drop(&mut self) {
        self.slot.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::iter;
    use std::task::Waker;

    use super::*;

    fn is_trouble(fed: &Poll<Fed>) -> bool {
        matches!(fed, Poll::Ready(Fed::Trouble(_)))
    }

    #[test]
    fn what_is_said_of_a_place_that_came_back_unheard_is_refused_without_asking_the_group() {
        // Nobody is there who could refuse it.
        let config = KafkaListenerConfig::new(["127.0.0.1:1"], "mail").topics(["t"]);
        let membership = Membership {
            topics: vec!["t".into()],
            starts_at_end: false,
            id: Uuid::nil(),
        };
        let mut feed = KafkaFeed::open(&membership, &config).unwrap();
        let place = Place {
            topic: "t".into(),
            partition: 0,
        };
        feed.slot.push(Fed::Assigned(vec![place.clone()]));
        // That nobody is there may be said before.
        let mut hear = || feed.poll_fed(&mut Context::from_waker(Waker::noop()));
        let heard = iter::repeat_with(&mut hear).find(|fed| !is_trouble(fed));
        assert!(matches!(heard, Some(Poll::Ready(Fed::Assigned(_)))));
        let (done, _is_done) = oneshot::channel();
        feed.slot.push(Fed::Revoked {
            places: vec![place.clone()],
            lost: true,
            done,
        });
        feed.slot.push(Fed::Assigned(vec![place.clone()]));
        let offsets = vec![(place, 7)];
        let committed = pollster::block_on(feed.commit(offsets.clone()));
        assert!(matches!(committed, Err(FeedError::Lost)), "{committed:?}");
        let change = Parking {
            offsets,
            ..Parking::default()
        };
        let parked = pollster::block_on(feed.park(change));
        assert!(matches!(parked, Err(FeedError::Lost)), "{parked:?}");
    }
}
