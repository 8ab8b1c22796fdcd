//! Which commands a process manager issues.

use std::any::{Any, TypeId, type_name};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};

use parking_lot::Mutex;

use crate::clock::Timestamp;
use crate::command::{Command, CommandError, CommandResponse, Context, Decide, Rejection};
use crate::dyn_store::BoxFuture;
use crate::envelope::EventEnvelope;
use crate::error::{Error, ExecuteError};
use crate::event::Event;
use crate::failure::HandlerError;
use crate::id::EventId;
use crate::process::{CommandBus, ProcessManager, StepOrigin, Steps, TimerChange};
use crate::stream_id::StreamId;

use super::history::{Fixed, History};
use super::story::{Story, line, lines};

/// The test of a process manager: an event, and the commands that must follow from it.
///
/// Commands are answered as accepted unless [`rejected`](Self::rejected) says otherwise. Each must
/// be expected, in order: one that nobody expected fails the next call, or the end of the scenario.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use std::convert::Infallible;
/// # use tidelog_core::{Aggregate, Command, CommandBus, Context, Decide, Event, EventEnvelope, HandlerError, ProcessManager, Steps};
/// # #[derive(Clone, Debug, Serialize, Deserialize, Event)]
/// # #[event(crate = tidelog_core)]
/// # struct Sold { article: String }
/// # #[derive(Clone, Debug, Serialize, Deserialize)] struct Shelf(u64);
/// # impl Aggregate for Shelf {
/// #     const TYPE: &'static str = "Shelf";
/// #     type Event = Sold;
/// #     type Error = Infallible;
/// #     fn apply(_: Option<Self>, _: &Sold) -> Result<Self, Infallible> { Ok(Self(0)) }
/// # }
/// # #[derive(Clone, Debug)] struct Refill { article: String }
/// # impl Command for Refill {
/// #     type Aggregate = Shelf;
/// #     fn target_aggregate_identifier(&self) -> Option<&str> { Some(&self.article) }
/// # }
/// # impl Decide<Refill> for Shelf {
/// #     type Rejection = Infallible;
/// #     fn decide(_: Option<&Self>, _: &Refill, _: &Context) -> Result<Vec<Sold>, Infallible> { Ok(vec![]) }
/// # }
/// # struct Refills;
/// # impl ProcessManager for Refills {
/// #     const NAME: &'static str = "refills";
/// #     fn on(&self, event: &EventEnvelope, then: &mut Steps<impl CommandBus>) -> Result<(), HandlerError> {
/// #         let sold: Sold = event.decode_event()?;
/// #         then.execute(Refill { article: sold.article });
/// #         Ok(())
/// #     }
/// # }
/// use tidelog_core::testing::scenario::ProcessScenario;
///
/// ProcessScenario::new(Refills)
///     .when("Till/3", Sold { article: "tea".into() })
///     .then(Refill { article: "tea".into() })
///     .then_nothing();
/// ```
pub struct ProcessScenario<M: ProcessManager> {
    manager: M,
    story: Story,
    history: History,
    timers: BTreeMap<String, (Timestamp, EventId)>,
    bus: Recorder,
    running: Option<BoxFuture<'static, Result<(), HandlerError>>>,
    runs: u64,
}

/// Hands each command to the scenario and waits for its answer.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Desk>>);

#[derive(Default)]
struct Desk {
    issued: Option<Issued>,
    /// Whether the command was looked at by the scenario.
    expected: bool,
    answer: Option<Answer>,
    position: u64,
}

struct Issued {
    text: String,
    rejection: (TypeId, &'static str),
}

enum Answer {
    Accepted,
    Rejected(Box<dyn Any + Send>),
}

impl CommandBus for Recorder {
    async fn execute_with<C>(
        &self,
        command: C,
        context: Context,
    ) -> Result<CommandResponse, CommandError<C>>
    where
        C: Command + Debug + 'static,
        C::Aggregate: Decide<C>,
    {
        self.0.lock().issued = Some(Issued {
            text: text_of(&command),
            rejection: (TypeId::of::<Rejection<C>>(), type_name::<Rejection<C>>()),
        });
        let answer = poll_fn(|_| match self.0.lock().answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        });
        if let Answer::Rejected(reason) = answer.await
            && let Ok(reason) = reason.downcast::<Rejection<C>>()
        {
            return Err(ExecuteError::Rejected(*reason));
        }
        let mut desk = self.0.lock();
        desk.position += 1;
        let target = command.target_aggregate_identifier();
        Ok(CommandResponse {
            aggregate_id: target.map_or_else(|| context.new_aggregate_id(), str::to_owned),
            sequence: desk.position,
            position: Some(desk.position),
            events: 1,
            already_executed: false,
        })
    }

    async fn find_event(&self, _: &StreamId, _: EventId) -> Result<bool, Error> {
        Ok(false)
    }
}

impl<M: ProcessManager> ProcessScenario<M> {
    /// Nothing has happened yet.
    #[must_use = "a scenario tests something once it is asked `when` and `then`"]
    pub fn new(manager: M) -> Self {
        Self {
            manager,
            story: Story::default(),
            history: History::new(),
            timers: BTreeMap::new(),
            bus: Recorder::default(),
            running: None,
            runs: 0,
        }
    }

    /// The time from now on; the beginning of 2000 unless set.
    pub fn at(mut self, time: Timestamp) -> Self {
        self.history.now = time;
        self
    }

    /// An event of the stream `type/id` that was taken in before: only the timers that it sets or
    /// clears matter.
    #[track_caller]
    pub fn given<E: Event + Debug>(mut self, stream: &str, event: E) -> Self {
        self.take_in("given", stream, &event);
        self
    }

    /// The manager is told of an event of the stream `type/id`. It is asked twice and must say the
    /// same.
    #[track_caller]
    pub fn when<E: Event + Debug>(mut self, stream: &str, event: E) -> Self {
        self.finish();
        let record = self.take_in("when", stream, &event);
        let origin = StepOrigin::event(M::NAME, &record);
        self.ask(origin, |manager, steps| manager.on(&record, steps));
        self
    }

    /// The timer of the stream `type/id` is due.
    #[track_caller]
    pub fn when_due(mut self, stream: &str) -> Self {
        self.finish();
        self.story
            .tell("when", format!("the timer of {stream} is due"));
        let Some((due, set_by)) = self.timers.get(stream).copied() else {
            self.story.fails(&format!("{stream} has no timer"));
        };
        let id = self.stream(stream);
        self.history.now = self.history.now.max(due);
        let origin = StepOrigin::timer(M::NAME, &id, due, set_by, None);
        self.ask(origin, |manager, steps| manager.on_timer(&id, due, steps));
        self
    }

    /// The next command is this one, by its `Debug`: of a step, or what records its outcome.
    #[track_caller]
    pub fn then<C: Command + Debug>(mut self, expected: C) -> Self {
        let expected = text_of(&expected);
        match self.next_command() {
            Some(text) if text == expected => {}
            Some(text) => self.story.differs(&expected, &text),
            None => self.story.differs(&expected, "no command\n"),
        }
        self.story.tell("then", one_line(&expected));
        self.bus.0.lock().expected = true;
        self
    }

    /// The command just expected is answered by this rejection.
    #[track_caller]
    pub fn rejected<R: Debug + Send + 'static>(mut self, reason: R) -> Self {
        self.story
            .tell("then", format!("rejected: {}", line(&reason)));
        let mut desk = self.bus.0.lock();
        let (wanted, name) = match &desk.issued {
            Some(issued) if desk.expected => issued.rejection,
            _ => {
                drop(desk);
                self.story
                    .fails("there is no command to answer; expect one by `then` first");
            }
        };
        if wanted != TypeId::of::<R>() {
            drop(desk);
            let given = type_name::<R>();
            let why = format!("the command is rejected by a {name}, not by a {given}");
            self.story.fails(&why);
        }
        desk.answer = Some(Answer::Rejected(Box::new(reason)));
        drop(desk);
        self
    }

    /// No further command follows.
    #[track_caller]
    pub fn then_nothing(mut self) -> Self {
        self.finish();
        self
    }

    /// The process cannot go on: its stream would be parked, for a reason that holds `part`.
    #[track_caller]
    pub fn then_parked(mut self, part: &str) -> Self {
        match self.advance() {
            Poll::Pending => self.finish(),
            Poll::Ready(Err(error)) if error.to_string().contains(part) => {}
            Poll::Ready(Err(error)) => self.story.differs(
                &format!("parked: …{part}…\n"),
                &format!("parked: {error}\n"),
            ),
            Poll::Ready(Ok(())) => {
                let expected = format!("parked: …{part}…\n");
                self.story.differs(&expected, "all steps done\n");
            }
        }
        self
    }

    /// The timer of the stream `type/id` is set for this moment, or there is none.
    #[track_caller]
    pub fn then_timer(self, stream: &str, expected: Option<Timestamp>) -> Self {
        let found = self.timers.get(stream).map(|(due, _)| *due);
        if found != expected {
            let text = |due: Option<Timestamp>| match due {
                Some(due) => format!("the timer of {stream} is due at {due}\n"),
                None => format!("{stream} has no timer\n"),
            };
            self.story.differs(&text(expected), &text(found));
        }
        self
    }

    #[track_caller]
    fn take_in<E: Event + Debug>(
        &mut self,
        heading: &'static str,
        stream: &str,
        event: &E,
    ) -> EventEnvelope {
        self.story
            .tell(heading, format!("{stream}: {}", line(event)));
        let id = self.stream(stream);
        let record = match self.history.record(&id, event) {
            Ok(record) => record,
            Err(error) => self.story.fails(&format!("it cannot be recorded: {error}")),
        };
        match self.manager.timer(&record) {
            Ok(TimerChange::Keep) => {}
            Ok(TimerChange::Set(due)) => {
                self.timers
                    .insert(stream.to_owned(), (due, record.event_id));
            }
            Ok(TimerChange::Clear) => {
                self.timers.remove(stream);
            }
            Err(error) => self
                .story
                .fails(&format!("its timer is not known: {error}")),
        }
        record
    }

    #[track_caller]
    fn ask(
        &mut self,
        origin: StepOrigin,
        say: impl Fn(&M, &mut Steps<Recorder>) -> Result<(), HandlerError>,
    ) {
        let ask = || {
            let mut steps = Steps::new();
            say(&self.manager, &mut steps).map(|()| steps)
        };
        let (steps, again) = match (ask(), ask()) {
            (Ok(steps), Ok(again)) => (steps, again),
            (Err(error), _) | (_, Err(error)) => {
                self.running = Some(Box::pin(async move { Err(error) }));
                return;
            }
        };
        if lines(&steps) != lines(&again) {
            self.story.tell(
                "then",
                "asked again about it, the manager says something else:",
            );
            self.story.differs(&lines(&steps), &lines(&again));
        }
        self.runs += 1;
        let fixed = Fixed {
            now: self.history.now,
            number: self.runs,
        };
        let bus = self.bus.clone();
        let run = async move { steps.run(&bus, &origin, &fixed, &fixed).await };
        self.running = Some(Box::pin(run));
    }

    /// Goes on to the next command; ready at the end.
    fn advance(&mut self) -> Poll<Result<(), HandlerError>> {
        let mut desk = self.bus.0.lock();
        if desk.expected {
            desk.expected = false;
            desk.issued = None;
            desk.answer.get_or_insert(Answer::Accepted);
        }
        if desk.issued.is_some() {
            return Poll::Pending;
        }
        drop(desk);
        let Some(running) = &mut self.running else {
            return Poll::Ready(Ok(()));
        };
        let mut context = TaskContext::from_waker(Waker::noop());
        let polled = running.as_mut().poll(&mut context);
        if polled.is_ready() {
            self.running = None;
        }
        polled
    }

    #[track_caller]
    fn next_command(&mut self) -> Option<String> {
        match self.advance() {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => return None,
            Poll::Ready(Err(error)) => self.story.fails(&format!("the process is parked: {error}")),
        }
        let desk = self.bus.0.lock();
        desk.issued.as_ref().map(|issued| issued.text.clone())
    }

    /// Fails when a command is left that nobody expected.
    #[track_caller]
    fn finish(&mut self) {
        if let Some(text) = self.next_command() {
            self.running = None;
            self.story.differs("no command\n", &text);
        }
    }

    #[track_caller]
    fn stream(&self, name: &str) -> StreamId {
        match name.parse() {
            Ok(stream) => stream,
            Err(error) => self.story.fails(&Error::to_string(&error)),
        }
    }
}

impl<M: ProcessManager> Drop for ProcessScenario<M> {
    #[track_caller]
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.finish();
        }
    }
}

fn text_of<C: Debug>(command: &C) -> String {
    lines(command)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
