//! The world as one member sees it.

use std::task::{Context, Poll};

use tidelog_core::BoxFuture;

use super::super::feed::{
    Asked, Fed, Feed, FeedError, LetterPlace, Letters, ParkedKey, Parking, Place, RecordKey,
};
use super::world::{MemberId, Operation, Shared};

pub(super) struct FakeFeed {
    pub(super) id: MemberId,
    pub(super) world: Shared,
}

impl FakeFeed {
    fn ask_world<T: Send + 'static>(
        &self,
        operation: impl FnOnce(oneshot::Sender<Result<T, FeedError>>) -> Operation,
    ) -> BoxFuture<'static, Result<T, FeedError>> {
        let (answer, answered) = oneshot::async_channel();
        let operation = operation(answer);
        let mut world = self.world.lock();
        let knows = world.known_to(self.id);
        world.operations.push((self.id, knows, operation));
        drop(world);
        Box::pin(async move { answered.await.unwrap_or(Err(FeedError::Lost)) })
    }
}

impl Feed for FakeFeed {
    fn poll_fed(&mut self, cx: &mut Context<'_>) -> Poll<Fed> {
        let mut world = self.world.lock();
        let Some(member) = world.members.get_mut(&self.id) else {
            return Poll::Pending;
        };
        member.waker = Some(cx.waker().clone());
        member.queue.pop_front().map_or(Poll::Pending, Poll::Ready)
    }

    fn pause(&mut self, paused: bool) {
        if let Some(member) = self.world.lock().members.get_mut(&self.id) {
            member.is_paused = paused;
        }
    }

    fn hold(&mut self, place: Place, held: bool) {
        if let Some(member) = self.world.lock().members.get_mut(&self.id) {
            if held {
                member.held.insert(place);
            } else {
                member.held.remove(&place);
            }
        }
    }

    fn begin(&mut self, places: Vec<Place>) {
        if let Some(member) = self.world.lock().members.get_mut(&self.id) {
            for place in places {
                member.begins(place);
            }
        }
    }

    fn commit(&self, offsets: Vec<(Place, i64)>) -> BoxFuture<'static, Result<(), FeedError>> {
        self.ask_world(|answer| Operation::Commit(offsets, answer))
    }

    fn park(&self, change: Parking) -> BoxFuture<'static, Result<Vec<LetterPlace>, FeedError>> {
        self.ask_world(|answer| Operation::Park(change, answer))
    }

    fn parked_set(&self) -> BoxFuture<'static, Result<Vec<ParkedKey>, FeedError>> {
        self.ask_world(Operation::Set)
    }

    fn letters(
        &self,
        key: RecordKey,
        from: LetterPlace,
    ) -> BoxFuture<'static, Result<Letters, FeedError>> {
        self.ask_world(|answer| Operation::Letters(key, from, answer))
    }

    fn ask(&self, key: RecordKey, asked: Asked) -> BoxFuture<'static, Result<(), FeedError>> {
        self.ask_world(|answer| Operation::Ask(key, asked, answer))
    }

    fn leave(&mut self) -> BoxFuture<'static, ()> {
        if let Some(member) = self.world.lock().members.get_mut(&self.id) {
            member.is_leaving = true;
        }
        Box::pin(std::future::ready(()))
    }
}
