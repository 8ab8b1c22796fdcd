//! Executing commands: find, load, decide, append, keep.

use std::sync::Arc;
use std::task::Poll;

use crate::aggregate::Aggregate;
use crate::append::{AppendBatch, AppendOutcome, AppendReceipt, ExpectedVersion};
use crate::command::{Command, CommandHandler, CommandResponse, Context, Decide};
use crate::envelope::NewEvent;
use crate::error::{Error, ExecuteError};
use crate::read::StreamQuery;
use crate::repository::load::{Found, apply_error};
use crate::repository::{AggregateRepository, Current, SinceSnapshot};
use crate::store::EventStore;
use crate::stream_id::StreamId;
use crate::typed::encode_all;

impl<A: Aggregate, S: EventStore> AggregateRepository<A, S> {
    /// Executes `command` now, by the repository's clock, and answers when its events are durable.
    ///
    /// # Errors
    /// [`ExecuteError::Rejected`] when the aggregate says no, [`ExecuteError::Conflict`] when
    /// others were faster too often: nothing was recorded. [`ExecuteError::Store`] as its error
    /// says; [`Error::Apply`] when the aggregate cannot apply what it has decided itself, which is
    /// found out before anything is recorded.
    pub async fn execute<C>(
        &self,
        command: C,
    ) -> Result<CommandResponse, ExecuteError<A::Rejection>>
    where
        A: Decide<C>,
        C: Command<Aggregate = A>,
    {
        let context = Context::at(&*self.clock, &*self.ids);
        self.execute_with(command, context).await
    }

    /// Executes `command` with the time, identity and metadata of `context`.
    ///
    /// One context is one intention: executing again with a clone of it is a retry, even without a
    /// command id.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub async fn execute_with<C>(
        &self,
        command: C,
        context: Context,
    ) -> Result<CommandResponse, ExecuteError<A::Rejection>>
    where
        A: Decide<C>,
        C: Command<Aggregate = A>,
    {
        let (stream, cached) = self.target(command.target_aggregate_identifier(), &context)?;
        let context = context.with_aggregate_id(stream.aggregate_id());
        if let Some(response) = self.executed_before(&stream, &context).await? {
            return Ok(response);
        }

        // A cached state may be old. An append finds that out by itself; any other answer must not
        // be given before it is known.
        let mut maybe_old = cached.is_some();
        let mut found = match cached {
            Some(cached) => Found::at(cached),
            None => self.load_current(&stream).await?,
        };
        let mut attempts = 1;
        loop {
            let state = found.current.as_ref().map(|current| &*current.state);
            let decided = A::decide(state, &command, &context);
            let version = found.sequence;
            let events = match decided {
                Ok(events) if !events.is_empty() => events,
                answer => {
                    if maybe_old && let Some(old) = found.current.take() {
                        maybe_old = false;
                        let decided_on = found.event_id;
                        found = self.refresh(old).await?;
                        if (found.sequence, found.event_id) != (version, decided_on) {
                            continue;
                        }
                    }
                    // The same command may have been executed since it was looked for, and its own
                    // events may be why it is refused now.
                    if let Some(response) = self.executed_before(&stream, &context).await? {
                        return Ok(response);
                    }
                    return match answer {
                        Err(rejection) => Err(ExecuteError::Rejected(rejection)),
                        Ok(_) => Ok(nothing_done(&stream, version)),
                    };
                }
            };

            let encoded = encode_all(&events, &context)?;
            let next = after(&found, &stream, &events, &encoded)?;
            let mut batch =
                AppendBatch::new(stream.clone(), ExpectedVersion::Exact(version), encoded);
            batch.after = found.event_id;
            if let Some(durability) = self.durability {
                batch = batch.with_durability(durability);
            }
            match self.store.append(batch).await {
                Ok(receipt) => {
                    if receipt.outcome == AppendOutcome::Appended {
                        if receipt.last_sequence == next.sequence {
                            self.keep_and_snapshot(next, &context).await;
                        } else if let Some(cache) = &self.cache {
                            // The stream left sequences out, as after a repair: what was counted
                            // here would be applied again.
                            cache.forget(stream.aggregate_id());
                        }
                    }
                    return Ok(recorded(&receipt));
                }
                Err(error @ Error::WrongVersion { actual, .. }) => {
                    if attempts >= self.max_attempts {
                        return Err(ExecuteError::Conflict {
                            attempts,
                            last: error,
                        });
                    }
                    tracing::debug!(%stream, attempts, "somebody was faster; deciding again");
                    self.back_off(attempts).await;
                    attempts += 1;
                    maybe_old = false;
                    found = match found.current.take() {
                        Some(old) => self.catch_up(old, actual).await?,
                        None => self.load_current(&stream).await?,
                    };
                }
                Err(error @ Error::IdConflict { .. }) => {
                    // Somebody executed this very command at the same time, on another state.
                    let response = self.executed_before(&stream, &context).await?;
                    return response.ok_or(ExecuteError::Store(error));
                }
                Err(error) => return Err(ExecuteError::Store(error)),
            }
        }
    }

    /// The stream of a command, and its cached state.
    fn target(
        &self,
        aggregate_id: Option<&str>,
        context: &Context,
    ) -> Result<(StreamId, Option<Current<A>>), Error> {
        let Some(aggregate_id) = aggregate_id else {
            return Ok((self.stream_id(&context.new_aggregate_id())?, None));
        };
        match self.cached(aggregate_id) {
            Some(cached) => Ok((cached.stream.clone(), Some(cached))),
            None => Ok((self.stream_id(aggregate_id)?, None)),
        }
    }

    /// The answer of an earlier execution of the same command, if it has a command id.
    async fn executed_before(
        &self,
        stream: &StreamId,
        context: &Context,
    ) -> Result<Option<CommandResponse>, Error> {
        let Some(command_id) = context.command_id() else {
            return Ok(None);
        };
        let first_id = command_id.event_id(0);
        let Some(first) = self.store.find_event(stream, first_id).await? else {
            return Ok(None);
        };
        // A batch may hold other streams' events too, so its last one here has to be looked for:
        // backwards, because a command's batch usually holds nothing else.
        let (batch, from) = (first.batch, first.sequence);
        let to = from + u64::from(batch.count.max(1)) - 1;
        let mut last = first;
        if to > from {
            let query = StreamQuery::new(stream.clone())
                .from(from)
                .to(to)
                .backward();
            let mut events = self.store.read_stream(query);
            while let Some(event) = events.next().await.transpose()? {
                if event.batch == batch {
                    last = event;
                    break;
                }
            }
        }
        Ok(Some(CommandResponse {
            aggregate_id: stream.aggregate_id().to_owned(),
            sequence: last.sequence,
            position: last.position,
            events: u32::try_from(last.sequence - from + 1).unwrap_or(u32::MAX),
            already_executed: true,
        }))
    }

    /// What is done once the command's events are durable: none of it can fail the command.
    async fn keep_and_snapshot(&self, mut next: Current<A>, context: &Context) {
        let due = self
            .snapshots
            .as_ref()
            .filter(|snapshots| snapshots.is_due(&next));
        if due.is_some() {
            // Counted as taken even if it fails: a failing one is not tried with every command.
            next.since_snapshot = SinceSnapshot::default();
        }
        self.keep(&next);
        if let Some(snapshots) = due {
            snapshots.take(&next, context.now()).await;
        }
    }

    async fn back_off(&self, failed: u32) {
        match &self.backoff {
            Some(backoff) => backoff(failed).await,
            None => let_others_run().await,
        }
    }
}

impl<C, A, S> CommandHandler<C> for AggregateRepository<A, S>
where
    A: Decide<C>,
    C: Command<Aggregate = A>,
    S: EventStore,
{
    type Error = ExecuteError<A::Rejection>;

    async fn handle(&self, command: C) -> Result<CommandResponse, Self::Error> {
        self.execute(command).await
    }
}

/// The state after `events`, made before they are recorded: a stream must never hold an event that
/// its aggregate cannot apply.
fn after<A: Aggregate>(
    found: &Found<A>,
    stream: &StreamId,
    events: &[A::Event],
    encoded: &[NewEvent],
) -> Result<Current<A>, Error> {
    let current = found.current.as_ref();
    let mut sequence = found.sequence;
    let mut since_snapshot = current.map_or_else(SinceSnapshot::default, |c| c.since_snapshot);
    let mut state = current.map(|current| A::clone(&current.state));
    let mut event_id = None;
    for (event, encoded) in events.iter().zip(encoded) {
        sequence += 1;
        let next =
            A::apply(state.take(), event).map_err(|error| apply_error(stream, sequence, error))?;
        state = Some(next);
        event_id = Some(encoded.event_id);
        since_snapshot.events += 1;
        since_snapshot.bytes += encoded.payload.len() as u64;
    }
    let (Some(state), Some(event_id)) = (state, event_id) else {
        // The one caller has at least one event.
        return Err(Error::invalid("batch", stream, "it holds no events"));
    };
    Ok(Current {
        stream: stream.clone(),
        size: state.size_hint(),
        state: Arc::new(state),
        sequence,
        event_id,
        since_snapshot,
    })
}

fn recorded(receipt: &AppendReceipt) -> CommandResponse {
    let events = receipt.last_sequence - receipt.first_sequence + 1;
    CommandResponse {
        aggregate_id: receipt.stream.aggregate_id().to_owned(),
        sequence: receipt.last_sequence,
        position: receipt.last_position,
        events: u32::try_from(events).unwrap_or(u32::MAX),
        already_executed: receipt.outcome == AppendOutcome::AlreadyAppended,
    }
}

fn nothing_done(stream: &StreamId, sequence: u64) -> CommandResponse {
    CommandResponse {
        aggregate_id: stream.aggregate_id().to_owned(),
        sequence,
        position: None,
        events: 0,
        already_executed: false,
    }
}

/// Lets the executor poll others once.
async fn let_others_run() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
