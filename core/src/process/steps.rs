//! The steps of a process: commands, and what records their outcomes.

use std::fmt::{self, Debug};
use std::future::Future;

use crate::aggregate::Aggregate;
use crate::clock::Clock;
use crate::command::{Command, CommandError, CommandResponse, Context, Decide, Rejection};
use crate::dyn_store::BoxFuture;
use crate::error::{Error, ExecuteError};
use crate::failure::HandlerError;
use crate::id::{EventId, IdSource};
use crate::process::StepOrigin;
use crate::stream_id::StreamId;

/// Whoever executes the commands of process managers: a store's handle, or a test's recorder.
pub trait CommandBus: Clone + Send + Sync + 'static {
    /// Executes `command` with the time, identity and metadata of `context`.
    ///
    /// # Errors
    /// As [`AggregateRepository::execute_with`](crate::AggregateRepository::execute_with).
    fn execute_with<C>(
        &self,
        command: C,
        context: Context,
    ) -> impl Future<Output = Result<CommandResponse, CommandError<C>>> + Send
    where
        C: Command + Debug + 'static,
        C::Aggregate: Decide<C>;

    /// Whether `stream` has the event, as [`EventStore::find_event`](crate::EventStore::find_event)
    /// finds it.
    ///
    /// # Errors
    /// Whatever reading met.
    fn find_event(
        &self,
        stream: &StreamId,
        event_id: EventId,
    ) -> impl Future<Output = Result<bool, Error>> + Send;
}

/// What the business said to a step's command: done, or its rejection. What a store meets, and
/// conflicts with other writers, are no outcome: the step is tried again.
pub type Outcome<C> = Result<CommandResponse, Rejection<C>>;

/// Collects what a [`ProcessManager`](crate::ProcessManager) wants done; run one after the other.
pub struct Steps<B> {
    steps: Vec<Box<dyn Step<B>>>,
}

impl<B: CommandBus> Steps<B> {
    /// Nothing to do yet.
    pub fn new() -> Self {
        Self { steps: Vec::new() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether nothing shall be done.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Executes `command`. Should it be rejected, the process is parked with the reason, or, after a
    /// timer, the step is passed over. Where a rejection is an answer that the process goes on
    /// with, take [`step`](Self::step).
    pub fn execute<C>(&mut self, command: C)
    where
        C: Command + Debug + 'static,
        C::Aggregate: Decide<C>,
    {
        self.steps.push(Box::new(Execute { command }));
    }

    /// Executes `command`, then the command that `record` makes of its outcome, on the aggregate
    /// whose event or timer led here.
    ///
    /// Once the outcome is recorded the step is never done again, not even when the command was
    /// rejected and would be accepted now. The recording command must not be rejected, must record
    /// something, and must name that aggregate; otherwise the process is parked.
    pub fn step<C, R>(&mut self, command: C, record: impl FnOnce(Outcome<C>) -> R + Send + 'static)
    where
        C: Command + Debug + 'static,
        C::Aggregate: Decide<C>,
        R: Command + Debug + 'static,
        R::Aggregate: Decide<R>,
    {
        self.steps.push(Box::new(Recorded { command, record }));
    }

    /// Does all steps, one after the other; those that were done before are found and passed over.
    ///
    /// # Errors
    /// What the first step met that is not done now. Running again goes on there.
    pub async fn run(
        self,
        bus: &B,
        origin: &StepOrigin,
        clock: &dyn Clock,
        ids: &dyn IdSource,
    ) -> Result<(), HandlerError> {
        for (index, step) in self.steps.into_iter().enumerate() {
            let issue = Issue {
                bus,
                origin,
                index,
                clock,
                ids,
            };
            step.run(issue).await?;
        }
        Ok(())
    }
}

impl<B: CommandBus> Default for Steps<B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B> Debug for Steps<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.steps.iter().map(|step| step.command()))
            .finish()
    }
}

/// How one step is executed.
#[derive(Clone, Copy)]
struct Issue<'a, B> {
    bus: &'a B,
    origin: &'a StepOrigin,
    index: usize,
    clock: &'a dyn Clock,
    ids: &'a dyn IdSource,
}

trait Step<B>: Send {
    fn command(&self) -> &dyn Debug;
    fn run<'a>(self: Box<Self>, issue: Issue<'a, B>) -> BoxFuture<'a, Result<(), HandlerError>>
    where
        Self: 'a;
}

struct Execute<C> {
    command: C,
}

impl<B, C> Step<B> for Execute<C>
where
    B: CommandBus,
    C: Command + Debug + 'static,
    C::Aggregate: Decide<C>,
{
    fn command(&self) -> &dyn Debug {
        &self.command
    }

    fn run<'a>(self: Box<Self>, issue: Issue<'a, B>) -> BoxFuture<'a, Result<(), HandlerError>>
    where
        Self: 'a,
    {
        Box::pin(async move {
            let said = format!("{:?}", self.command);
            match issue.ask(self.command).await? {
                Ok(_) => Ok(()),
                Err(rejection) if issue.origin.is_timer() => {
                    tracing::info!(
                        manager = issue.origin.manager(),
                        stream = %issue.origin.stream(),
                        command = said,
                        %rejection,
                        "a timer's command was rejected"
                    );
                    Ok(())
                }
                Err(rejection) => Err(HandlerError::permanent(format!(
                    "{said} was rejected: {rejection}"
                ))),
            }
        })
    }
}

struct Recorded<C, F> {
    command: C,
    record: F,
}

impl<B, C, R, F> Step<B> for Recorded<C, F>
where
    B: CommandBus,
    C: Command + Debug + 'static,
    C::Aggregate: Decide<C>,
    R: Command + Debug + 'static,
    R::Aggregate: Decide<R>,
    F: FnOnce(Outcome<C>) -> R + Send + 'static,
{
    fn command(&self) -> &dyn Debug {
        &self.command
    }

    fn run<'a>(self: Box<Self>, issue: Issue<'a, B>) -> BoxFuture<'a, Result<(), HandlerError>>
    where
        Self: 'a,
    {
        Box::pin(async move {
            let (origin, bus) = (issue.origin, issue.bus);
            // First, because a rejected command leaves nothing behind: decided again, it might be
            // accepted now, for a process that has gone on without it.
            let outcome_id = origin.outcome_id(issue.index)?;
            if bus
                .find_event(origin.stream(), outcome_id.event_id(0))
                .await?
            {
                return Ok(());
            }
            let outcome = issue.ask(self.command).await?;
            let record = (self.record)(outcome);
            let said = format!("{record:?}");
            let to = record.target_aggregate_identifier();
            let is_ours = R::Aggregate::TYPE == origin.stream().aggregate_type()
                && to == Some(origin.stream().aggregate_id());
            if !is_ours {
                return Err(HandlerError::permanent(format!(
                    "{said} does not record the outcome in {}; name the aggregate that the process stands in",
                    origin.stream()
                )));
            }
            let context = origin.context(outcome_id, issue.clock, issue.ids);
            match bus.execute_with(record, context).await {
                Ok(recorded) if recorded.events > 0 => Ok(()),
                Ok(_) => Err(HandlerError::permanent(format!(
                    "{said} recorded nothing; decide an event, by which the outcome is found again"
                ))),
                Err(ExecuteError::Rejected(rejection)) => Err(HandlerError::permanent(format!(
                    "{said} was rejected: {rejection}; an outcome has to be recorded"
                ))),
                Err(ExecuteError::Store(error)) => Err(error.into()),
                Err(conflict) => Err(HandlerError::passing(conflict)),
            }
        })
    }
}

impl<B: CommandBus> Issue<'_, B> {
    /// Executes a step's command: what the business says to it.
    async fn ask<C>(&self, command: C) -> Result<Outcome<C>, HandlerError>
    where
        C: Command + Debug + 'static,
        C::Aggregate: Decide<C>,
    {
        let id = self.origin.command_id(self.index)?;
        let context = self.origin.context(id, self.clock, self.ids);
        match self.bus.execute_with(command, context).await {
            Ok(response) => Ok(Ok(response)),
            Err(ExecuteError::Rejected(rejection)) => Ok(Err(rejection)),
            Err(ExecuteError::Store(error)) => Err(error.into()),
            Err(conflict) => Err(HandlerError::passing(conflict)),
        }
    }
}
