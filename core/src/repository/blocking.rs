//! The repository for threads without a runtime.

use crate::aggregate::Aggregate;
use crate::command::{Command, CommandResponse, Context, Decide};
use crate::error::{Error, ExecuteError};
use crate::repository::{AggregateRepository, Loaded};
use crate::store::EventStore;

/// An [`AggregateRepository`] whose calls block the calling thread; made by
/// [`AggregateRepository::blocking`]. Do not use it inside async code.
///
/// ```
/// use tidelog_core::{
///     Aggregate, AggregateRepository, Blocking, BlockingRepository, EventStore,
/// };
///
/// fn accounts<A: Aggregate, S: EventStore>(store: &Blocking<S>) -> BlockingRepository<A, S> {
///     AggregateRepository::new(store.inner().clone())
///         .with_cache(8 << 20)
///         .blocking()
/// }
/// ```
#[derive(Debug)]
pub struct BlockingRepository<A: Aggregate, S>(AggregateRepository<A, S>);

impl<A: Aggregate, S: EventStore> BlockingRepository<A, S> {
    pub(super) fn new(repository: AggregateRepository<A, S>) -> Self {
        Self(repository)
    }

    /// The repository itself.
    pub fn inner(&self) -> &AggregateRepository<A, S> {
        &self.0
    }

    /// See [`AggregateRepository::load`].
    ///
    /// # Errors
    /// As there.
    pub fn load(&self, aggregate_id: &str) -> Result<Option<Loaded<A>>, Error> {
        pollster::block_on(self.0.load(aggregate_id))
    }

    /// See [`AggregateRepository::execute`].
    ///
    /// # Errors
    /// As there.
    pub fn execute<C>(&self, command: C) -> Result<CommandResponse, ExecuteError<A::Rejection>>
    where
        A: Decide<C>,
        C: Command<Aggregate = A>,
    {
        pollster::block_on(self.0.execute(command))
    }

    /// See [`AggregateRepository::execute_with`].
    ///
    /// # Errors
    /// As there.
    pub fn execute_with<C>(
        &self,
        command: C,
        context: Context,
    ) -> Result<CommandResponse, ExecuteError<A::Rejection>>
    where
        A: Decide<C>,
        C: Command<Aggregate = A>,
    {
        pollster::block_on(self.0.execute_with(command, context))
    }
}

impl<A: Aggregate, S: Clone> Clone for BlockingRepository<A, S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
