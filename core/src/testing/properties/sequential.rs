//! One command after the other: deciding, applying, replaying, snapshots, encoding.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use crate::aggregate::Aggregate;
use crate::clock::Timestamp;
use crate::codec;
use crate::command::{Command, Context, Decide};
use crate::content_type::ContentType;
use crate::envelope::NewEvent;
use crate::id::{CommandId, EventId};
use crate::testing::scenario::Fixed;
use crate::upcast::RawEvent;

use super::failure::Broken;

/// What an aggregate promises beside what all do.
pub(super) struct Promises<A: Aggregate> {
    pub(super) invariants: Vec<(String, Arc<Holds<A>>)>,
    pub(super) conserved: Vec<Conserved<A>>,
}

pub(super) type Holds<A> = dyn Fn(&A) -> bool + Send + Sync;

pub(super) struct Conserved<A: Aggregate> {
    pub(super) name: String,
    pub(super) of_event: Box<Amount<A::Event>>,
    pub(super) of_state: Box<Amount<A>>,
}

pub(super) type Amount<T> = dyn Fn(&T) -> i128 + Send + Sync;

/// One aggregate with all that has happened to it.
struct Life<A: Aggregate> {
    /// As they come back from the log.
    events: Vec<A::Event>,
    /// After each of them.
    states: Vec<A>,
}

impl<A: Aggregate> Default for Life<A> {
    fn default() -> Self {
        Self {
            events: Vec::new(),
            states: Vec::new(),
        }
    }
}

/// The context of the command numbered `number`, and the aggregate that it is for.
pub(super) fn context<C: Command>(command: &C, kind: &str, number: usize) -> Context {
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    let fixed = Fixed {
        now: Timestamp::from_micros(946_684_800_000_000 + 1_000_000 * i64::from(number)),
        number: number.into(),
    };
    let id = CommandId::new(format!("{kind}/{number}")).unwrap();
    let context = Context::at(&fixed, &fixed).with_command_id(id);
    let target = command.target_aggregate_identifier();
    let target = target.map_or_else(|| context.new_aggregate_id(), str::to_owned);
    context.with_aggregate_id(target)
}

/// Executes `commands` without a store. Answers how many events were decided.
pub(super) fn check<A, C>(commands: &[C], promises: &Promises<A>) -> Result<usize, Broken>
where
    A: Decide<C> + Debug + PartialEq + Aggregate<Event: Debug + PartialEq>,
    C: Command<Aggregate = A> + Debug,
{
    let mut lives = BTreeMap::<String, Life<A>>::new();
    for (number, command) in commands.iter().enumerate() {
        let context = context(command, "plain", number);
        let life = lives.entry(context.aggregate_id().to_owned()).or_default();
        let before = life.events.clone();
        decide(command, &context, life, promises)
            .map_err(|broken| broken.at(A::TYPE, &before, command))?;
        promises.check_conserved(
            lives
                .values()
                .map(|life| (&life.events[..], life.states.last())),
        )?;
    }
    for life in lives.values() {
        check_replay(life)?;
        check_snapshots(life)?;
    }
    Ok(lives.values().map(|life| life.events.len()).sum())
}

fn decide<A, C>(
    command: &C,
    context: &Context,
    life: &mut Life<A>,
    promises: &Promises<A>,
) -> Result<(), Broken>
where
    A: Decide<C> + Debug + PartialEq + Aggregate<Event: Debug + PartialEq>,
    C: Command<Aggregate = A> + Debug,
{
    let state = life.states.last();
    let decided = A::decide(state, command, context);
    let again = A::decide(state, command, context);
    if !same(&decided, &again) {
        return Err(Broken::new(format!(
            "deciding again, in the same state and context, says something else:\n    {decided:?}\n    \
             {again:?}"
        )));
    }
    for (index, event) in (0..).zip(decided.into_iter().flatten()) {
        let back = check_encoding(&event, context.event_id(index))?;
        let state = A::apply(life.states.last().cloned(), &event).map_err(|error| {
            Broken::new(format!(
                "{event:?} is decided, and cannot be applied: {error}"
            ))
        })?;
        promises.check_state(&state)?;
        life.states.push(state);
        life.events.push(back);
    }
    Ok(())
}

/// Whether two decisions are equal; rejections by what `Debug` says of them.
pub(super) fn same<E: PartialEq, R: Debug>(
    one: &Result<Vec<E>, R>,
    other: &Result<Vec<E>, R>,
) -> bool {
    match (one, other) {
        (Ok(one), Ok(other)) => one == other,
        (Err(one), Err(other)) => format!("{one:?}") == format!("{other:?}"),
        _ => false,
    }
}

/// The event as it comes back from its bytes, which must be itself.
fn check_encoding<E>(event: &E, id: EventId) -> Result<E, Broken>
where
    E: crate::Event + Debug + PartialEq,
{
    let faulty =
        |error: crate::Error| Broken::new(format!("{event:?} cannot be recorded: {error}"));
    let new = NewEvent::encode(event, id).map_err(faulty)?;
    let back: E = decode(&new).map_err(faulty)?;
    if back != *event {
        return Err(Broken::new(format!(
            "{event:?} comes back from the log as another one: {back:?}"
        )));
    }
    let (kind, kind_back) = (
        (&*new.event_type, new.revision),
        (back.event_type(), back.revision()),
    );
    if kind != kind_back {
        return Err(Broken::new(format!(
            "{event:?} was recorded as {kind:?} and comes back as {kind_back:?}"
        )));
    }
    let again = NewEvent::encode(&back, id).map_err(faulty)?;
    if again.payload != new.payload {
        return Err(Broken::new(format!(
            "{event:?} has other bytes each time, so that a retry is not known again; take a \
             BTreeMap where it has a HashMap"
        )));
    }
    Ok(back)
}

fn decode<E: crate::Event>(new: &NewEvent) -> Result<E, crate::Error> {
    codec::decode_event(
        &new.event_type,
        new.revision,
        &new.content_type,
        &new.payload,
    )
}

/// An event of an earlier program is read as events of today, which can be recorded.
pub(super) fn check_old<A>(old: &RawEvent) -> Result<(), Broken>
where
    A: Aggregate<Event: Debug + PartialEq>,
{
    let faulty = |error: crate::Error| Broken::new(format!("{old:?} cannot be read: {error}"));
    let payload = &old.payload;
    let events: Vec<A::Event> =
        codec::decode_bytes(&old.event_type, old.revision, &old.content_type, payload)
            .map_err(faulty)?
            .into_iter()
            .collect();
    for event in &events {
        check_encoding(event, EventId::from_bytes([1; 16])).map_err(|broken| {
            Broken::new(format!("{old:?} is read as what it is not: {broken}"))
        })?;
        // Whether it can be applied depends on what was before; it must not panic.
        drop(A::apply(None, event));
    }
    Ok(())
}

impl<A: Aggregate> Promises<A> {
    pub(super) fn check_state(&self, state: &A) -> Result<(), Broken>
    where
        A: Debug,
    {
        for (name, holds) in &self.invariants {
            if !holds(state) {
                return Err(Broken::new(format!("{name:?} does not hold: {state:?}")));
            }
        }
        Ok(())
    }

    pub(super) fn check_conserved<'a>(
        &self,
        lives: impl Iterator<Item = (&'a [A::Event], Option<&'a A>)>,
    ) -> Result<(), Broken> {
        let lives: Vec<_> = lives.collect();
        for conserved in &self.conserved {
            let moved = lives.iter().flat_map(|(events, _)| *events);
            let moved: i128 = moved.map(|event| (conserved.of_event)(event)).sum();
            let there = lives.iter().filter_map(|(_, state)| *state);
            let there: i128 = there.map(|state| (conserved.of_state)(state)).sum();
            if moved != there {
                return Err(Broken::new(format!(
                    "{:?} is not conserved: {there} by the states, {moved} by the events",
                    conserved.name
                )));
            }
        }
        Ok(())
    }
}

fn check_replay<A>(life: &Life<A>) -> Result<(), Broken>
where
    A: Debug + PartialEq + Aggregate<Event: Debug>,
{
    let replayed = A::apply_all(None, &life.events)
        .map_err(|error| Broken::new(format!("its events cannot be replayed: {error}")))?;
    if replayed.as_ref() != life.states.last() {
        return Err(Broken::new(format!(
            "replaying {:?} gives another state:\n    {:?}\n    {replayed:?}",
            life.events,
            life.states.last(),
        )));
    }
    Ok(())
}

/// From every snapshot on, the rest of the events leads to the same state.
fn check_snapshots<A>(life: &Life<A>) -> Result<(), Broken>
where
    A: Debug + PartialEq + Aggregate<Event: Debug>,
{
    for (index, state) in life.states.iter().enumerate() {
        let broken = |error: String| {
            Broken::new(format!("the snapshot of {state:?} cannot be kept: {error}"))
        };
        let bytes = codec::encode_state(state).map_err(|error| broken(error.to_string()))?;
        let revision = A::SNAPSHOT_REVISION;
        let back = codec::decode_state::<A>(revision, &ContentType::Postcard, &bytes)
            .map_err(|error| broken(error.to_string()))?;
        let went_on = A::apply_all(Some(back), &life.events[index + 1..])
            .map_err(|error| broken(error.to_string()))?;
        if went_on.as_ref() != life.states.last() {
            return Err(Broken::new(format!(
                "a snapshot after {} of {} events leads to another state:\n    {:?}\n    {went_on:?}",
                index + 1,
                life.events.len(),
                life.states.last(),
            )));
        }
    }
    Ok(())
}
