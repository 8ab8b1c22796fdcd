//! Commands: what somebody wants done, and how it is decided.

use std::future::Future;
use std::sync::Arc;

use uuid::Uuid;

use crate::aggregate::Aggregate;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::error::ExecuteError;
use crate::id::{CommandId, EventId, IdSource, SystemIds};
use crate::metadata::{
    ACTOR, CAUSATION_ID, CORRELATION_ID, Metadata, TRACE_ID, TRACEPARENT, TraceParent,
};

/// Something that somebody wants done to one aggregate.
///
/// ```
/// use tidelog_core::Command;
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Serialize, Deserialize)] struct BankAccount;
/// # #[derive(Clone, Serialize, Deserialize)] enum Fact { Opened }
/// # impl tidelog_core::Event for Fact { fn event_type(&self) -> &'static str { "Opened" } }
/// # impl tidelog_core::Aggregate for BankAccount {
/// #     const TYPE: &'static str = "BankAccount";
/// #     type Event = Fact;
/// #     type Error = std::convert::Infallible;
/// #     fn apply(_: Option<Self>, _: &Fact) -> Result<Self, Self::Error> { Ok(Self) }
/// # }
/// struct Deposit { account_id: String, cents: u64 }
///
/// impl Command for Deposit {
///     type Aggregate = BankAccount;
///     fn target_aggregate_identifier(&self) -> Option<&str> {
///         Some(&self.account_id)
///     }
/// }
/// ```
pub trait Command: Send + Sync {
    /// The aggregate that decides it.
    type Aggregate: Aggregate;

    /// The aggregate's id; `None` for a command that creates one and leaves its id to the library.
    fn target_aggregate_identifier(&self) -> Option<&str>;
}

/// How an aggregate decides one kind of command.
///
/// It must be pure: it may be called again after a conflict, and a test calls it with any state.
/// Time, ids and metadata come from the [`Context`].
///
/// ```
/// use tidelog_core::{Aggregate, Context, Decide};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Serialize, Deserialize)] struct Account { cents: u64 }
/// # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)] enum Fact { Withdrawn { cents: u64 } }
/// # impl tidelog_core::Event for Fact { fn event_type(&self) -> &'static str { "Withdrawn" } }
/// # impl Aggregate for Account {
/// #     const TYPE: &'static str = "Account";
/// #     type Event = Fact;
/// #     type Error = std::convert::Infallible;
/// #     fn apply(_: Option<Self>, _: &Fact) -> Result<Self, Self::Error> { Ok(Self { cents: 0 }) }
/// # }
/// struct Withdraw { cents: u64 }
///
/// #[derive(Debug, thiserror::Error)]
/// #[error("there is not enough in it")]
/// struct Overdrawn;
///
/// impl Decide<Withdraw> for Account {
///     type Rejection = Overdrawn;
///     fn decide(state: Option<&Self>, command: &Withdraw, _: &Context) -> Result<Vec<Fact>, Overdrawn> {
///         let there = state.map_or(0, |account| account.cents);
///         if command.cents > there { Err(Overdrawn) } else { Ok(vec![Fact::Withdrawn { cents: command.cents }]) }
///     }
/// }
///
/// let decided = Account::decide(Some(&Account { cents: 5 }), &Withdraw { cents: 7 }, &Context::new());
/// assert!(decided.is_err());
/// ```
pub trait Decide<C>: Aggregate {
    /// Why the business says no.
    type Rejection: std::error::Error + Send + Sync + 'static;

    /// The events that `command` leads to in this state; none when there is nothing to do.
    ///
    /// # Errors
    /// The rejection; nothing is recorded then.
    fn decide(
        state: Option<&Self>,
        command: &C,
        context: &Context,
    ) -> Result<Vec<Self::Event>, Self::Rejection>;
}

/// Why the aggregate of the command `C` says no.
pub type Rejection<C> = <<C as Command>::Aggregate as Decide<C>>::Rejection;

/// Why the command `C` was not executed; `Rejected` holds the reason of its aggregate.
pub type CommandError<C> = ExecuteError<Rejection<C>>;

/// Handles one kind of command, however it likes; repositories do it by [`Decide`].
pub trait CommandHandler<C>: Send + Sync {
    /// Why the command was not handled.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Handles `command` and answers when its events are durable.
    fn handle(
        &self,
        command: C,
    ) -> impl Future<Output = Result<CommandResponse, Self::Error>> + Send;
}

/// The answer to an executed command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandResponse {
    /// The aggregate that decided it.
    pub aggregate_id: String,
    /// Sequence of its newest event after the command.
    pub sequence: u64,
    /// Position of that event, when this command recorded any and the backend has positions: what
    /// a reader waits for to see its own write.
    pub position: Option<u64>,
    /// How many events this command recorded; 0 when there was nothing to do.
    pub events: u32,
    /// Whether it was executed by an earlier call with the same command id; nothing was recorded
    /// again.
    pub already_executed: bool,
}

/// What surrounds one command: time, identity, and what its events shall carry.
///
/// ```
/// use tidelog_core::{CORRELATION_ID, CommandId, Context, Timestamp};
/// let context = Context::new()
///     .with_command_id(CommandId::new("purchases.txt:17")?)
///     .with_event_time(Timestamp::from_micros(852_076_800_000_000))
///     .with_metadata(CORRELATION_ID, "import-7");
/// assert_eq!(context.metadata().get(CORRELATION_ID), Some("import-7"));
/// # Ok::<(), tidelog_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Context {
    now: Timestamp,
    seed: CommandId,
    seed_uuid: Uuid,
    command_id: Option<CommandId>,
    event_time: Option<Timestamp>,
    metadata: Metadata,
    aggregate_id: Option<Arc<str>>,
}

impl Context {
    /// A context of the present moment by the machine's clock.
    pub fn new() -> Self {
        Self::at(&SystemClock, &SystemIds)
    }

    /// A context with time and randomness from elsewhere.
    pub fn at(clock: &dyn Clock, ids: &dyn IdSource) -> Self {
        let seed_uuid = ids.next_uuid();
        let seed = seed_uuid.hyphenated().to_string();
        Self {
            now: clock.now(),
            seed_uuid,
            // A hyphenated UUID is neither empty nor long, so the fallback is never taken.
            seed: CommandId::new(seed).unwrap_or_else(|_| unreachable!("36 bytes")),
            command_id: None,
            event_time: None,
            metadata: Metadata::new(),
            aggregate_id: None,
        }
    }

    /// The same with a command id: executing the command again records nothing new, and gets the
    /// first answer, whatever the command says now; as long as its events are among the newest
    /// [`Limits::retry_window`](crate::Limits::retry_window) of their stream.
    pub fn with_command_id(mut self, command_id: CommandId) -> Self {
        self.command_id = Some(command_id);
        self
    }

    /// The same with the time at which the events happened, when that is not now.
    pub fn with_event_time(mut self, time: Timestamp) -> Self {
        self.event_time = Some(time);
        self
    }

    /// The same with a metadata key for all events of the command.
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key, value);
        self
    }

    /// The same with `correlation-id`.
    pub fn with_correlation_id(self, id: impl Into<String>) -> Self {
        self.with_metadata(CORRELATION_ID, id)
    }

    /// The same with `causation-id`.
    pub fn with_causation_id(self, id: impl Into<String>) -> Self {
        self.with_metadata(CAUSATION_ID, id)
    }

    /// The same with `actor`.
    pub fn with_actor(self, actor: impl Into<String>) -> Self {
        self.with_metadata(ACTOR, actor)
    }

    /// The same with `trace-id` and `traceparent` from a W3C header.
    pub fn with_traceparent(self, parent: &TraceParent) -> Self {
        self.with_metadata(TRACE_ID, parent.trace_id())
            .with_metadata(TRACEPARENT, parent.as_str())
    }

    /// The present moment, the same for the whole decision.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// When the command's events happened: what was set, or now.
    pub fn event_time(&self) -> Timestamp {
        self.event_time.unwrap_or(self.now)
    }

    /// The command id, when there is one.
    pub fn command_id(&self) -> Option<&CommandId> {
        self.command_id.as_ref()
    }

    /// What the command's events carry.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The id of the deciding aggregate: the command's own, or the one made for a new aggregate.
    /// Empty before a repository has set it.
    pub fn aggregate_id(&self) -> &str {
        self.aggregate_id.as_deref().unwrap_or_default()
    }

    /// The same with the deciding aggregate's id; repositories set it, tests of `decide` may.
    pub fn with_aggregate_id(mut self, id: impl Into<Arc<str>>) -> Self {
        self.aggregate_id = Some(id.into());
        self
    }

    /// A UUID for use inside a decision: the same for the same command (or, without a command id,
    /// for the same context) and `index`, so deciding again changes nothing.
    pub fn derived_uuid(&self, index: u32) -> Uuid {
        self.identity().derive(b"tidelog derived id v1", index)
    }

    /// The id of the `index`-th event of the command: derived from the command id when there is one,
    /// else of version 7, made once for this context.
    pub fn event_id(&self, index: u32) -> EventId {
        if let Some(command_id) = &self.command_id {
            return command_id.event_id(index);
        }
        // Time from the context's own id, the rest as unique as that id and the index.
        let mut bytes = *self.seed.event_id(index).as_bytes();
        for (to, from) in bytes
            .iter_mut()
            .zip(self.seed_uuid.as_bytes().iter().take(6))
        {
            *to = *from;
        }
        EventId::from_uuid(
            uuid::Builder::from_bytes(bytes)
                .with_version(uuid::Version::SortRand)
                .into_uuid(),
        )
    }

    /// An id for an aggregate that the command creates without naming it.
    pub fn new_aggregate_id(&self) -> String {
        self.identity().aggregate_uuid().hyphenated().to_string()
    }

    fn identity(&self) -> &CommandId {
        self.command_id.as_ref().unwrap_or(&self.seed)
    }
}

impl Default for Context {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_without_a_command_id_have_ids_of_version_7_made_once_for_the_context() {
        let context = Context::new();
        let (first, second) = (context.event_id(0), context.event_id(1));
        assert_eq!(first.as_uuid().get_version_num(), 7);
        assert_ne!(first, second);
        assert_eq!(context.clone().event_id(1), second);
        assert_ne!(Context::new().event_id(0), first);
    }

    #[test]
    fn events_of_a_command_id_have_derived_ids_of_version_8() {
        let context = Context::new().with_command_id(CommandId::new("a:1").unwrap());
        assert_eq!(context.event_id(0).as_uuid().get_version_num(), 8);
        assert_eq!(
            context.event_id(0),
            CommandId::new("a:1").unwrap().event_id(0)
        );
    }
}
