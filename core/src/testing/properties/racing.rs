//! Several commands at once on one repository, and every command a second time.

use std::fmt::Debug;

use parking_lot::Mutex;

use crate::aggregate::Aggregate;
use crate::command::{Command, CommandResponse, Context, Decide};
use crate::dyn_store::BoxFuture;
use crate::envelope::EventEnvelope;
use crate::error::ExecuteError;
use crate::read::StreamQuery;
use crate::repository::AggregateRepository;
use crate::store::EventStore;
use crate::stream_id::StreamId;

use super::failure::Broken;
use super::sequential::{Promises, context, same};
use super::yielding::{Turn, Yielding, run};

/// What became of one command.
struct Done<R> {
    number: usize,
    /// Where its stream was before and after.
    between: (u64, u64),
    answer: Result<CommandResponse, R>,
}

type Answers<A, C> = Mutex<Vec<Result<Done<<A as Decide<C>>::Rejection>, Broken>>>;

/// Executes `commands`, at most `actors` at a time and as `turns` say, then all again.
pub(super) fn check<A, C, S>(
    store: &S,
    commands: &[C],
    turns: &[Turn],
    actors: usize,
    promises: &Promises<A>,
) -> Result<(), Broken>
where
    A: Decide<C> + Debug + PartialEq + Aggregate<Event: Debug + PartialEq>,
    C: Command<Aggregate = A> + Clone + Debug,
    S: EventStore,
{
    let contexts: Vec<Context> = commands
        .iter()
        .enumerate()
        .map(|(number, command)| context(command, "raced", number))
        .collect();
    let answers: Answers<A, C> = Mutex::default();
    let plain = AggregateRepository::<A, _>::new(Yielding(store.clone())).with_max_attempts(10_000);
    let cached = plain.clone().with_cache(1 << 20);
    let work = |number: usize| -> BoxFuture<'_, ()> {
        let repository = if turns[number].cached {
            &cached
        } else {
            &plain
        };
        let (command, context, answers) = (&commands[number], &contexts[number], &answers);
        Box::pin(async move {
            let done = execute(store, repository, number, command, context).await;
            answers.lock().push(done);
        })
    };
    let mut next = 0;
    while next < commands.len() {
        let joining = turns[next + 1..].iter().take_while(|turn| turn.joins);
        let together = next..next + 1 + joining.take(actors - 1).count();
        next = together.end;
        if !run(together
            .map(|number| (turns[number], work(number)))
            .collect())
        {
            return Err(Broken::new("raced, the commands do not come to an end"));
        }
    }
    let done = answers
        .into_inner()
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    for done in &done {
        let (command, context) = (&commands[done.number], &contexts[done.number]);
        check_answer(store, done, command, context, promises)?;
    }
    check_again(store, &done, commands, &contexts)
}

async fn execute<A, C, S>(
    store: &S,
    repository: &AggregateRepository<A, Yielding<S>>,
    number: usize,
    command: &C,
    context: &Context,
) -> Result<Done<A::Rejection>, Broken>
where
    A: Decide<C>,
    C: Command<Aggregate = A> + Clone + Debug,
    S: EventStore,
{
    let stream = StreamId::new(A::TYPE, context.aggregate_id())
        .map_err(|error| Broken::new(error.to_string()))?;
    let begin = sequence(store, &stream).await?;
    let answer = match repository
        .execute_with(command.clone(), context.clone())
        .await
    {
        Ok(response) => Ok(response),
        Err(ExecuteError::Rejected(rejection)) => Err(rejection),
        Err(error) => {
            return Err(Broken::new(format!(
                "{command:?} was not executed: {error}"
            )));
        }
    };
    Ok(Done {
        number,
        between: (begin, sequence(store, &stream).await?),
        answer,
    })
}

async fn sequence<S: EventStore>(store: &S, stream: &StreamId) -> Result<u64, Broken> {
    let head = store.head(stream).await;
    let head = head.map_err(|error| Broken::new(error.to_string()))?;
    Ok(head.map_or(0, |head| head.sequence))
}

/// What was recorded is what the aggregate decides in the state that it was recorded after; what
/// was not, it says in some state met meanwhile.
fn check_answer<A, C, S>(
    store: &S,
    done: &Done<A::Rejection>,
    command: &C,
    context: &Context,
    promises: &Promises<A>,
) -> Result<(), Broken>
where
    A: Decide<C> + Debug + Aggregate<Event: Debug + PartialEq>,
    C: Command<Aggregate = A> + Debug,
    S: EventStore,
{
    let id = match &done.answer {
        Ok(response) => &response.aggregate_id,
        Err(_) => context.aggregate_id(),
    };
    let stream = StreamId::new(A::TYPE, id).map_err(|error| Broken::new(error.to_string()))?;
    let events = read::<A, S>(store, &stream)?;
    let mut states: Vec<Option<A>> = vec![None];
    for event in &events {
        let before = states.last().cloned().flatten();
        let state = A::apply(before, event)
            .map_err(|error| Broken::new(format!("raced, {stream} cannot be replayed: {error}")))?;
        promises.check_state(&state)?;
        states.push(Some(state));
    }
    promises.check_conserved(std::iter::once((
        &events[..],
        states.last().and_then(Option::as_ref),
    )))?;
    let decide = |at: usize| {
        let state = states.get(at).and_then(Option::as_ref);
        A::decide(state, command, context)
    };
    match &done.answer {
        Ok(response) if response.events > 0 => {
            let end = index(response.sequence);
            let begin = end - index(u64::from(response.events));
            let recorded = Ok(events[begin..end].to_vec());
            let decided = decide(begin);
            if !same(&decided, &recorded) {
                let broken = Broken::new(format!(
                    "raced, it recorded what it does not decide in the state that it was recorded \
                     after:\n    recorded {recorded:?}\n    decides  {decided:?}"
                ));
                return Err(broken.at(A::TYPE, &events[..begin], command));
            }
        }
        answer => {
            let said = match answer {
                Ok(_) => Ok(Vec::<A::Event>::new()),
                Err(rejection) => Err(rejection),
            };
            let (begin, end) = done.between;
            let met = (index(begin)..=index(end)).map(decide);
            let mut met = met.map(|decided| match decided {
                Ok(events) => format!("{:?}", Ok::<_, A::Rejection>(events)),
                Err(rejection) => format!("{:?}", Err::<Vec<A::Event>, _>(rejection)),
            });
            let said = format!("{said:?}");
            if !met.any(|decided| decided == said) {
                return Err(Broken::new(format!(
                    "raced, {command:?} was answered {said}, which it decides in no state between \
                     its begin and its end"
                )));
            }
        }
    }
    Ok(())
}

/// Each command that recorded something is executed again, and must record nothing.
fn check_again<A, C, S>(
    store: &S,
    done: &[Done<A::Rejection>],
    commands: &[C],
    contexts: &[Context],
) -> Result<(), Broken>
where
    A: Decide<C>,
    C: Command<Aggregate = A> + Clone + Debug,
    S: EventStore,
{
    let repository = AggregateRepository::<A, S>::new(store.clone()).blocking();
    for done in done {
        let Ok(first) = &done.answer else { continue };
        if first.events == 0 {
            continue;
        }
        let (command, context) = (&commands[done.number], &contexts[done.number]);
        let again = repository.execute_with(command.clone(), context.clone());
        let expected = CommandResponse {
            already_executed: true,
            ..first.clone()
        };
        match again {
            Ok(again) if again == expected => {}
            other => {
                return Err(Broken::new(format!(
                    "{command:?}, executed again with its command id, is not known again:\n    \
                     {first:?}\n    {other:?}"
                )));
            }
        }
    }
    Ok(())
}

fn read<A: Aggregate, S: EventStore>(
    store: &S,
    stream: &StreamId,
) -> Result<Vec<A::Event>, Broken> {
    let recorded = store
        .read_stream(StreamQuery::new(stream.clone()))
        .collect();
    let recorded: Vec<EventEnvelope> =
        pollster::block_on(recorded).map_err(|error| Broken::new(error.to_string()))?;
    let decode = |envelope: EventEnvelope| {
        let event = envelope.decode_event::<A::Event>();
        event.map_err(|error| Broken::new(error.to_string()))
    };
    recorded.into_iter().map(decode).collect()
}

/// A sequence as a place in a list; both are small here.
fn index(sequence: u64) -> usize {
    usize::try_from(sequence).unwrap_or(usize::MAX)
}
