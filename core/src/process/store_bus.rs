//! Commands of process managers, executed straight on a store.

use std::fmt::Debug;

use crate::command::{Command, CommandError, CommandResponse, Context, Decide};
use crate::error::Error;
use crate::id::EventId;
use crate::process::CommandBus;
use crate::repository::AggregateRepository;
use crate::store::EventStore;
use crate::stream_id::StreamId;

/// Executes commands on any store, loading each aggregate anew: for stores without a facade.
#[derive(Clone, Debug)]
pub struct StoreBus<S>(S);

impl<S: EventStore> StoreBus<S> {
    /// Executes on `store`.
    pub fn new(store: S) -> Self {
        Self(store)
    }
}

impl<S: EventStore> CommandBus for StoreBus<S> {
    async fn execute_with<C>(
        &self,
        command: C,
        context: Context,
    ) -> Result<CommandResponse, CommandError<C>>
    where
        C: Command + Debug + 'static,
        C::Aggregate: Decide<C>,
    {
        let repository = AggregateRepository::new(self.0.clone());
        repository.execute_with(command, context).await
    }

    async fn find_event(&self, stream: &StreamId, event_id: EventId) -> Result<bool, Error> {
        Ok(self.0.find_event(stream, event_id).await?.is_some())
    }
}
