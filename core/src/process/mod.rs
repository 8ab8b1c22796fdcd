//! Process managers: what turns events into further commands.

mod origin;
mod steps;
mod store_bus;
mod timer;

use crate::clock::Timestamp;
use crate::envelope::EventEnvelope;
use crate::failure::HandlerError;
use crate::stream_id::StreamId;

pub use origin::StepOrigin;
pub use steps::{CommandBus, Outcome, Steps};
pub use store_bus::StoreBus;
pub use timer::{Timer, Timers};

/// Turns events into commands, across aggregates: a saga.
///
/// How far a process is stands in an aggregate of its own, as events; the manager is a pure
/// function from one recorded event to what shall be done next, and keeps nothing. It may be asked
/// again about an event, after a crash, and must then say the same: the ids of its commands follow
/// from the event's id, so what was done is found and not done twice.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use std::convert::Infallible;
/// # use tidelog_core::{Aggregate, Command, Context, Decide, Event};
/// # #[derive(Clone, Debug, Serialize, Deserialize)] struct Sold { article: String }
/// # impl Event for Sold { fn event_type(&self) -> &'static str { "Sold" } }
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
/// use tidelog_core::{CommandBus, EventEnvelope, HandlerError, ProcessManager, Steps};
///
/// struct Refills;
///
/// impl ProcessManager for Refills {
///     const NAME: &'static str = "refills";
///     fn on(&self, event: &EventEnvelope, then: &mut Steps<impl CommandBus>) -> Result<(), HandlerError> {
///         if event.aggregate_type() == "Till" {
///             let sold: Sold = event.decode_event()?;
///             then.execute(Refill { article: sold.article });
///         }
///         Ok(())
///     }
/// }
/// ```
pub trait ProcessManager: Send + Sync + 'static {
    /// Names it for ever: part of the ids of the commands it issues, and of the name under which
    /// its checkpoint is kept. 1 to 45 of `a-z 0-9 - _ .`, beginning with a letter.
    const NAME: &'static str;

    /// Raise it when [`timer`](Self::timer) says something else about events that are recorded: what
    /// is pending is then made anew.
    const TIMERS_VERSION: u32 = 1;

    /// What shall follow from `event`. Must follow from it alone.
    ///
    /// # Errors
    /// What keeps it from saying so; the event's stream is parked when that does not pass.
    fn on(
        &self,
        event: &EventEnvelope,
        then: &mut Steps<impl CommandBus>,
    ) -> Result<(), HandlerError>;

    /// Whether `event` sets or clears the one timer of its stream. Deadlines are decided when the
    /// command is, and stand in the event: it is asked again whenever timers are made anew.
    ///
    /// # Errors
    /// What keeps it from saying so: the timers then stop at this event.
    fn timer(&self, event: &EventEnvelope) -> Result<TimerChange, HandlerError> {
        let _ = event;
        Ok(TimerChange::Keep)
    }

    /// What shall follow now that the timer of `stream`, set for `due`, is due. A command that is
    /// rejected here is passed over: "too late" is a normal answer.
    ///
    /// # Errors
    /// What keeps it from saying so; it is asked again later.
    fn on_timer(
        &self,
        stream: &StreamId,
        due: Timestamp,
        then: &mut Steps<impl CommandBus>,
    ) -> Result<(), HandlerError> {
        let _ = (stream, due, then);
        Ok(())
    }
}

/// What an event does to the one timer of its stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimerChange {
    /// It stays as it is.
    #[default]
    Keep,
    /// It is due at this moment, and no longer at any other. A stream's timer fires once for a moment:
    /// set again for one that it fired for, no command is executed again.
    Set(Timestamp),
    /// There is none any more.
    Clear,
}
