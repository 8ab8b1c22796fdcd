//! What an aggregate decides.

use std::fmt::Debug;

use crate::aggregate::Aggregate;
use crate::clock::Timestamp;
use crate::command::{Command, Context, Decide};
use crate::envelope::NewEvent;
use crate::id::CommandId;
use crate::metadata::Metadata;
use crate::stream_id::StreamId;

use super::history::{Fixed, History};
use super::story::{Story, line, lines};

/// The test of one decision: events that were, a command, and what must come of it.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use tidelog_core::{Aggregate, Command, Context, Decide, Event};
/// # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
/// # #[event(crate = tidelog_core)]
/// # enum Fact { Opened { holder: String }, Deposited { cents: u64 }, Withdrawn { cents: u64 } }
/// # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
/// # struct BankAccount { cents: u64 }
/// # #[derive(Debug, thiserror::Error)] #[error("impossible")] struct Impossible;
/// # impl Aggregate for BankAccount {
/// #     const TYPE: &'static str = "BankAccount";
/// #     type Event = Fact;
/// #     type Error = Impossible;
/// #     fn apply(state: Option<Self>, event: &Fact) -> Result<Self, Impossible> {
/// #         let cents = state.map_or(0, |account| account.cents);
/// #         Ok(Self { cents: match event {
/// #             Fact::Opened { .. } => cents,
/// #             Fact::Deposited { cents: more } => cents + more,
/// #             Fact::Withdrawn { cents: less } => cents - less,
/// #         }})
/// #     }
/// # }
/// # #[derive(Clone, Debug)] struct Withdraw { account_id: String, cents: u64 }
/// # impl Command for Withdraw {
/// #     type Aggregate = BankAccount;
/// #     fn target_aggregate_identifier(&self) -> Option<&str> { Some(&self.account_id) }
/// # }
/// # #[derive(Debug, PartialEq, thiserror::Error)] #[error("there is only {balance}")]
/// # struct Overdraft { balance: u64 }
/// # impl Decide<Withdraw> for BankAccount {
/// #     type Rejection = Overdraft;
/// #     fn decide(state: Option<&Self>, withdraw: &Withdraw, _: &Context) -> Result<Vec<Fact>, Overdraft> {
/// #         let balance = state.map_or(0, |account| account.cents);
/// #         if withdraw.cents > balance { return Err(Overdraft { balance }); }
/// #         Ok(vec![Fact::Withdrawn { cents: withdraw.cents }])
/// #     }
/// # }
/// use tidelog_core::testing::scenario::Scenario;
///
/// # let withdraw = |cents| Withdraw { account_id: "ada".into(), cents };
/// let history = || [Fact::Opened { holder: "Ada".into() }, Fact::Deposited { cents: 500 }];
/// Scenario::<BankAccount>::given(history())
///     .when(withdraw(200))
///     .then([Fact::Withdrawn { cents: 200 }])
///     .then_state(|account| assert_eq!(account.cents, 300))
///     .and_when(withdraw(301))
///     .then_rejected(Overdraft { balance: 300 });
/// ```
#[must_use = "a scenario tests something once it is asked `when` and `then`"]
pub struct Scenario<A: Aggregate> {
    story: Story,
    history: History,
    state: Option<A>,
    command_id: Option<CommandId>,
    metadata: Metadata,
    commands: u64,
}

impl<A> Scenario<A>
where
    A: Aggregate<Event: Debug + PartialEq>,
{
    /// An aggregate that does not exist yet.
    #[expect(
        clippy::new_without_default,
        reason = "it reads as the beginning of a story"
    )]
    pub fn new() -> Self {
        Self {
            story: Story::default(),
            history: History::new(),
            state: None,
            command_id: None,
            metadata: Metadata::new(),
            commands: 0,
        }
    }

    /// An aggregate with these events.
    #[track_caller]
    pub fn given(events: impl IntoIterator<Item = A::Event>) -> Self {
        let mut scenario = Self::new();
        for event in events {
            scenario.story.tell("given", line(&event));
            scenario.record(&event);
        }
        scenario
    }

    /// An aggregate with these records, which may be of earlier revisions.
    #[track_caller]
    pub fn given_recorded(records: impl IntoIterator<Item = NewEvent>) -> Self {
        let mut scenario = Self::new();
        for record in records {
            let what = format!(
                "{} revision {}, recorded",
                record.event_type, record.revision
            );
            scenario.story.tell("given", what);
            let record = scenario.history.record_encoded(&scenario.stream(), record);
            scenario.take_in(&record);
        }
        scenario
    }

    /// An aggregate in this state, however it came to be.
    pub fn given_state(state: A) -> Self {
        let mut scenario = Self::new();
        scenario
            .story
            .tell("given", format!("a {} in some state", A::TYPE));
        scenario.state = Some(state);
        scenario
    }

    /// The time at which the next command is decided; the beginning of 2000 unless set.
    pub fn at(mut self, time: Timestamp) -> Self {
        self.history.now = time;
        self
    }

    /// The command id of the next command.
    #[track_caller]
    pub fn with_command_id(mut self, id: &str) -> Self {
        match CommandId::new(id) {
            Ok(id) => self.command_id = Some(id),
            Err(error) => self.story.fails(&error.to_string()),
        }
        self
    }

    /// A metadata key of the context in which commands are decided.
    pub fn with_metadata(mut self, key: &str, value: &str) -> Self {
        self.metadata.insert(key, value);
        self
    }

    /// Decides `command`. It is decided twice and must say the same, and what it decides must be
    /// recordable and applicable.
    #[track_caller]
    #[must_use = "compare what was decided by `then` and its like"]
    pub fn when<C>(mut self, command: C) -> Decided<A, A::Rejection>
    where
        C: Command<Aggregate = A> + Debug,
        A: Decide<C>,
    {
        self.story.tell("when", line(&command));
        let context = self.context(command.target_aggregate_identifier());
        let outcome = A::decide(self.state.as_ref(), &command, &context);
        let again = A::decide(self.state.as_ref(), &command, &context);
        let same = match (&outcome, &again) {
            (Ok(first), Ok(second)) => first == second,
            (Err(first), Err(second)) => lines(first) == lines(second),
            _ => false,
        };
        if !same {
            let why = "deciding again, in the same state and context, says something else:";
            let diff = (outcome_text(&outcome), outcome_text(&again));
            self.story.tell("then", why);
            self.story.differs(&diff.0, &diff.1);
        }
        for event in outcome.iter().flatten() {
            self.record(event);
        }
        Decided {
            scenario: self,
            outcome,
        }
    }

    fn context(&mut self, aggregate_id: Option<&str>) -> Context {
        self.commands += 1;
        let fixed = Fixed {
            now: self.history.now,
            number: self.commands,
        };
        let mut context = Context::at(&fixed, &fixed);
        if let Some(id) = self.command_id.take() {
            context = context.with_command_id(id);
        }
        for (key, value) in &self.metadata {
            context = context.with_metadata(key, value);
        }
        let id = aggregate_id.map_or_else(|| context.new_aggregate_id(), str::to_owned);
        context.with_aggregate_id(id)
    }

    fn stream(&self) -> StreamId {
        match StreamId::new(A::TYPE, "scenario") {
            Ok(stream) => stream,
            Err(error) => self.story.fails(&error.to_string()),
        }
    }

    #[track_caller]
    fn record(&mut self, event: &A::Event) {
        match self.history.record(&self.stream(), event) {
            Ok(record) => self.take_in(&record),
            Err(error) => self.story.fails(&format!("it cannot be recorded: {error}")),
        }
    }

    #[track_caller]
    fn take_in(&mut self, record: &crate::EventEnvelope) {
        let events = match record.decode_all::<A::Event>() {
            Ok(events) => events,
            Err(error) => self.story.fails(&format!("it cannot be read: {error}")),
        };
        for event in events {
            match A::apply(self.state.take(), &event) {
                Ok(state) => self.state = Some(state),
                Err(error) => {
                    let event = line(&event);
                    self.story
                        .fails(&format!("the {} cannot apply {event}: {error}", A::TYPE));
                }
            }
        }
    }
}

/// What was decided, to be compared with what is expected.
pub struct Decided<A: Aggregate, R> {
    scenario: Scenario<A>,
    outcome: Result<Vec<A::Event>, R>,
}

impl<A, R> Decided<A, R>
where
    A: Aggregate<Event: Debug + PartialEq>,
    R: Debug,
{
    /// It led to exactly these events, in this order.
    #[track_caller]
    pub fn then(self, expected: impl IntoIterator<Item = A::Event>) -> Self {
        let expected = Ok(expected.into_iter().collect());
        if !matches!((&self.outcome, &expected), (Ok(came), Ok(expected)) if came == expected) {
            self.differs(&expected);
        }
        self
    }

    /// There was nothing to do.
    #[track_caller]
    pub fn then_nothing(self) -> Self {
        self.then([])
    }

    /// The aggregate said no, for this reason.
    #[track_caller]
    pub fn then_rejected(self, expected: R) -> Self
    where
        R: PartialEq,
    {
        let expected = Err(expected);
        if !matches!((&self.outcome, &expected), (Err(came), Err(expected)) if came == expected) {
            self.differs(&expected);
        }
        self
    }

    /// The aggregate as it stands now is what `look` asserts.
    #[track_caller]
    pub fn then_state(self, look: impl FnOnce(&A)) -> Self {
        match &self.scenario.state {
            Some(state) => look(state),
            None => self
                .scenario
                .story
                .fails("there is no state: nothing has happened"),
        }
        self
    }

    /// The aggregate as it stands now is this one.
    #[track_caller]
    pub fn then_state_is(self, expected: A) -> Self
    where
        A: Debug + PartialEq,
    {
        let (expected, found) = (Some(expected), &self.scenario.state);
        if *found != expected {
            let text = |state: &Option<A>| match state {
                Some(state) => lines(state),
                None => "no state\n".to_owned(),
            };
            self.scenario.story.differs(&text(&expected), &text(found));
        }
        self
    }

    /// The time at which the next command is decided.
    pub fn at(mut self, time: Timestamp) -> Self {
        self.scenario.history.now = time;
        self
    }

    /// Decides a further command, after what was decided so far.
    #[track_caller]
    #[must_use = "compare what was decided by `then` and its like"]
    pub fn and_when<C>(self, command: C) -> Decided<A, A::Rejection>
    where
        C: Command<Aggregate = A> + Debug,
        A: Decide<C>,
    {
        self.scenario.when(command)
    }

    #[track_caller]
    fn differs(&self, expected: &Result<Vec<A::Event>, R>) -> ! {
        self.scenario
            .story
            .differs(&outcome_text(expected), &outcome_text(&self.outcome))
    }
}

fn outcome_text<E: Debug, R: Debug>(outcome: &Result<Vec<E>, R>) -> String {
    match outcome {
        Ok(events) if events.is_empty() => "nothing to do\n".to_owned(),
        Ok(events) => format!("decided {}", lines(events)),
        Err(rejection) => format!("rejected: {}", lines(rejection)),
    }
}
