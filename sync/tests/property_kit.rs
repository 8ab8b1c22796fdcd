//! Aggregates that are wrong in one way each: each is found, told by its name, and shrunk.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use tidelog::testing::aggregate_check;
use tidelog::testing::properties::{AggregateCheck, strategies};
use tidelog::{
    Aggregate, AppendBatch, AppendReceipt, Command, ContentType, Context, Decide, Error, Event,
    EventEnvelope, EventId, EventStore, EventStream, ExpectedVersion, Limits, MemoryStore,
    RawEvent, StreamHead, StreamId, StreamQuery,
};

/// What is wrong with an account; each wrong one is a type of its own.
trait Fault: Clone + std::fmt::Debug + PartialEq + Send + Sync + 'static {
    const TYPE: &'static str;

    /// What is really recorded of `cents`.
    fn decide(_: &Account<Self>, cents: u64, _: &Context) -> Option<u64> {
        Some(cents)
    }

    /// What really goes in.
    fn apply(cents: u64) -> u64 {
        cents
    }

    /// Hears of each state that is made.
    fn seen(_: i64) {}

    const MAY_OVERDRAW: bool = false;
}

macro_rules! faults {
    ($($name:ident { $($item:item)* })*) => {$(
        #[derive(Clone, Debug, PartialEq)]
        struct $name;
        impl Fault for $name {
            const TYPE: &'static str = stringify!($name);
            $($item)*
        }
    )*};
}

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// The balance seen last.
static LAST: AtomicI64 = AtomicI64::new(0);

faults! {
    Right {}
    DecidesByChance {
        fn decide(_: &Account<Self>, cents: u64, _: &Context) -> Option<u64> {
            Some(cents + NUMBER.fetch_add(1, Ordering::SeqCst))
        }
    }
    Overdraws {
        const MAY_OVERDRAW: bool = true;
    }
    AppliesByChance {
        fn apply(cents: u64) -> u64 {
            cents + NUMBER.fetch_add(1, Ordering::SeqCst)
        }
    }
    LosesMoney {
        fn apply(cents: u64) -> u64 {
            cents - u64::from(cents > 50)
        }
    }
    DecidesFromMemory {
        fn decide(_: &Account<Self>, cents: u64, _: &Context) -> Option<u64> {
            Some(cents + (LAST.load(Ordering::SeqCst) & 1).unsigned_abs())
        }
        fn seen(cents: i64) {
            LAST.store(cents, Ordering::SeqCst);
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
enum Moved {
    In(u64),
    Out(u64),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Account<F> {
    cents: i64,
    #[serde(skip)]
    fault: PhantomData<F>,
}

impl<F: Fault> Aggregate for Account<F> {
    const TYPE: &'static str = F::TYPE;
    type Event = Moved;
    type Error = std::convert::Infallible;

    fn apply(state: Option<Self>, event: &Moved) -> Result<Self, Self::Error> {
        let before = state.map_or(0, |account| account.cents);
        let cents = match event {
            Moved::In(cents) => before + i64::try_from(F::apply(*cents)).unwrap(),
            Moved::Out(cents) => before - i64::try_from(*cents).unwrap(),
        };
        F::seen(cents);
        Ok(Self {
            cents,
            fault: PhantomData,
        })
    }
}

#[derive(Clone, Debug)]
struct Move<F> {
    account: String,
    cents: i64,
    fault: PhantomData<F>,
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("too little")]
struct TooLittle;

impl<F: Fault> Command for Move<F> {
    type Aggregate = Account<F>;
    fn target_aggregate_identifier(&self) -> Option<&str> {
        Some(&self.account)
    }
}

impl<F: Fault> Decide<Move<F>> for Account<F> {
    type Rejection = TooLittle;

    fn decide(
        state: Option<&Self>,
        command: &Move<F>,
        context: &Context,
    ) -> Result<Vec<Moved>, TooLittle> {
        let empty = Self {
            cents: 0,
            fault: PhantomData,
        };
        let account = state.unwrap_or(&empty);
        let cents = command.cents.unsigned_abs();
        if command.cents >= 0 {
            let recorded = F::decide(account, cents, context);
            return Ok(recorded.map(Moved::In).into_iter().collect());
        }
        if account.cents + command.cents < 0 && !F::MAY_OVERDRAW {
            return Err(TooLittle);
        }
        Ok(vec![Moved::Out(cents)])
    }
}

fn moves<F: Fault>() -> impl Strategy<Value = Move<F>> {
    ("[ab]", -100..100_i64).prop_map(|(account, cents)| Move {
        account,
        cents,
        fault: PhantomData,
    })
}

fn run<F: Fault>() {
    aggregate_check(moves::<F>())
        .invariant("never below zero", |account: &Account<F>| {
            account.cents >= 0
        })
        .conserved(
            "money",
            |event| match event {
                Moved::In(cents) => i128::from(*cents),
                Moved::Out(cents) => -i128::from(*cents),
            },
            |account| account.cents.into(),
        )
        .commands(1..=20)
        .cases(200)
        .seed(7)
        .run();
}

/// What a failing check says, and how many commands are left of it.
fn failure(check: impl FnOnce()) -> (String, usize) {
    let panic = catch_unwind(AssertUnwindSafe(check)).expect_err("nothing was found");
    let told = panic.downcast_ref::<String>().unwrap().clone();
    let count = told.split("the smallest case has ").nth(1);
    let count = count.and_then(|rest| rest.split(' ').next()?.parse().ok());
    (told, count.unwrap_or(0))
}

#[track_caller]
fn assert_found(check: impl FnOnce(), part: &str, commands: usize) -> String {
    let (told, count) = failure(check);
    assert!(told.contains(part), "{told}");
    assert_eq!(count, commands, "{told}");
    assert!(told.contains("repeat it by .seed(7)"), "{told}");
    told
}

#[test]
fn an_aggregate_that_keeps_its_promises_passes() {
    run::<Right>();
}

#[test]
fn one_that_decides_by_chance_is_found() {
    let told = assert_found(run::<DecidesByChance>, "deciding again", 1);
    assert!(
        told.contains("as a scenario:\n    Scenario::<DecidesByChance>::new()\n    .when(Move {"),
        "{told}"
    );
}

#[test]
fn one_that_breaks_its_invariant_is_found() {
    let told = assert_found(
        run::<Overdraws>,
        "\"never below zero\" does not hold: Account { cents: -1,",
        1,
    );
    assert!(
        told.contains("1  Move { account: \"a\", cents: -1,"),
        "{told}"
    );
}

#[test]
fn one_that_does_not_conserve_is_found() {
    let told = assert_found(
        run::<LosesMoney>,
        "\"money\" is not conserved: 50 by the states, 51 by the events",
        1,
    );
    assert!(told.contains("cents: 51,"), "{told}");
}

#[test]
fn one_whose_replay_gives_another_state_is_found() {
    let check = || aggregate_check(moves::<AppliesByChance>()).seed(7).run();
    assert_found(check, "replaying [In(0)] gives another state", 1);
}

#[test]
fn one_that_decides_from_memory_instead_of_its_state_is_found_by_racing() {
    let check = || aggregate_check(moves::<DecidesFromMemory>()).seed(7).run();
    // One after the other it looks right, since what it remembers is the state then.
    let what = "raced, it recorded what it does not decide in the state that it was recorded after";
    assert_found(check, what, 1);
}

/// A store that is wrong itself.
#[derive(Clone)]
struct WrongStore {
    inner: MemoryStore,
    /// It takes an append wherever the stream is.
    careless: bool,
    /// It knows no event again.
    forgetful: bool,
    conflicts: Arc<AtomicU64>,
}

impl EventStore for WrongStore {
    async fn append(&self, mut batch: AppendBatch) -> Result<AppendReceipt, Error> {
        if self.careless {
            batch.expected = ExpectedVersion::Any;
        }
        if self.forgetful {
            for event in &mut batch.events {
                event.event_id = EventId::generate();
            }
        }
        let answer = self.inner.append(batch).await;
        if matches!(answer, Err(Error::WrongVersion { .. })) {
            self.conflicts.fetch_add(1, Ordering::SeqCst);
        }
        answer
    }

    fn read_stream(&self, query: StreamQuery) -> EventStream {
        self.inner.read_stream(query)
    }

    async fn head(&self, stream: &StreamId) -> Result<Option<StreamHead>, Error> {
        self.inner.head(stream).await
    }

    async fn find_event(
        &self,
        stream: &StreamId,
        event_id: EventId,
    ) -> Result<Option<EventEnvelope>, Error> {
        self.inner.find_event(stream, event_id).await
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }
}

/// Answers how many appends others were faster than.
fn on_wrong_store(careless: bool, forgetful: bool) -> u64 {
    let conflicts = Arc::<AtomicU64>::default();
    let counted = Arc::clone(&conflicts);
    let store = move || WrongStore {
        inner: MemoryStore::new(),
        careless,
        forgetful,
        conflicts: Arc::clone(&counted),
    };
    AggregateCheck::new(moves::<Right>(), store)
        .commands(1..=20)
        .seed(7)
        .run();
    conflicts.load(Ordering::SeqCst)
}

#[test]
fn commands_that_race_meet_conflicts() {
    assert!(on_wrong_store(false, false) > 100);
}

#[test]
fn a_store_that_does_not_look_at_versions_is_found_by_racing() {
    // What was kept of the account is old when the last command comes, and nobody notices.
    let told = assert_found(
        || assert_eq!(on_wrong_store(true, false), 0),
        "raced, it recorded what it does not decide in the state that it was recorded after",
        4,
    );
    assert!(told.contains("decides  Err(TooLittle)"), "{told}");
    let last = told.lines().find(|line| line.starts_with("    4  "));
    assert!(last.unwrap().ends_with(", from a kept state"), "{told}");
}

#[test]
fn a_store_that_knows_no_event_again_is_found_by_repeating() {
    let told = assert_found(
        || assert_eq!(on_wrong_store(false, true), 0),
        "executed again with its command id, is not known again",
        1,
    );
    assert!(!told.contains("at the same time"), "{told}");
}

/// A counter whose state leaves something out of its snapshots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Forgetful {
    sum: u64,
    #[serde(skip)]
    largest: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
struct Counted(u64);

#[derive(Clone, Debug)]
struct Count(u64);

impl Aggregate for Forgetful {
    const TYPE: &'static str = "Forgetful";
    type Event = Counted;
    type Error = std::convert::Infallible;
    fn apply(state: Option<Self>, event: &Counted) -> Result<Self, Self::Error> {
        let before = state.map_or((0, 0), |counter| (counter.sum, counter.largest));
        Ok(Self {
            sum: before.0 + event.0,
            largest: before.1.max(event.0),
        })
    }
}

impl Command for Count {
    type Aggregate = Forgetful;
    fn target_aggregate_identifier(&self) -> Option<&str> {
        Some("a")
    }
}

impl Decide<Count> for Forgetful {
    type Rejection = std::convert::Infallible;
    fn decide(
        _: Option<&Self>,
        count: &Count,
        _: &Context,
    ) -> Result<Vec<Counted>, Self::Rejection> {
        Ok(vec![Counted(count.0)])
    }
}

#[test]
fn one_whose_snapshots_forget_something_is_found() {
    let check = || aggregate_check((0..100_u64).prop_map(Count)).seed(7).run();
    let told = assert_found(
        check,
        "a snapshot after 1 of 1 events leads to another state",
        1,
    );
    assert!(told.contains("1  Count(1)"), "{told}");
}

/// An event that leaves something out of its bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
struct Noted {
    number: u32,
    #[serde(skip)]
    aside: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Notes(u64);

/// Notes something down; the aggregate's id is made anew whenever it is asked for, if it has none.
#[derive(Debug)]
struct Note {
    number: u32,
    aside: u32,
    id: Option<String>,
}

impl Clone for Note {
    fn clone(&self) -> Self {
        let anew = |_: &String| format!("n{}", NUMBER.fetch_add(1, Ordering::SeqCst));
        Self {
            id: self.id.as_ref().map(anew),
            ..*self
        }
    }
}

impl Aggregate for Notes {
    const TYPE: &'static str = "Notes";
    type Event = Noted;
    type Error = std::convert::Infallible;
    fn apply(state: Option<Self>, _: &Noted) -> Result<Self, Self::Error> {
        Ok(Self(state.map_or(1, |notes| notes.0 + 1)))
    }
}

impl Command for Note {
    type Aggregate = Notes;
    fn target_aggregate_identifier(&self) -> Option<&str> {
        self.id.as_deref()
    }
}

impl Decide<Note> for Notes {
    type Rejection = std::convert::Infallible;
    fn decide(_: Option<&Self>, note: &Note, _: &Context) -> Result<Vec<Noted>, Self::Rejection> {
        Ok(vec![Noted {
            number: note.number,
            aside: note.aside,
        }])
    }
}

fn notes(aside: u32, named: bool) -> impl Strategy<Value = Note> {
    (0..100_u32, 0..=aside).prop_map(move |(number, aside)| Note {
        number,
        aside,
        id: named.then(|| "n".to_owned()),
    })
}

#[test]
fn one_whose_events_come_back_as_others_is_found() {
    let check = || aggregate_check(notes(100, false)).seed(7).run();
    let told = assert_found(check, "comes back from the log as another one", 1);
    assert!(told.contains("Noted { number: 0, aside: 1 }"), "{told}");
}

#[test]
fn one_that_a_repeated_command_does_not_find_again_is_found() {
    let check = || aggregate_check(notes(0, true)).seed(7).run();
    assert_found(
        check,
        "executed again with its command id, is not known again",
        1,
    );
    // Left to the library, the id follows from the command id, and it is known again.
    aggregate_check(notes(0, false)).cases(20).seed(7).run();
}

#[test]
fn an_old_event_that_is_no_longer_read_is_found() {
    let old = |payload: &'static [u8]| RawEvent {
        event_type: "Counted".into(),
        revision: 1,
        content_type: ContentType::Postcard,
        payload: payload.into(),
    };
    let check = |old: RawEvent| {
        let counts = (0..100_u64).prop_map(|by| Move::<Right> {
            account: "a".into(),
            cents: i64::try_from(by).unwrap(),
            fault: PhantomData,
        });
        aggregate_check(counts)
            .old_events(Just(old))
            .cases(5)
            .seed(7)
            .run();
    };
    check(RawEvent {
        event_type: "In".into(),
        ..old(&[5])
    });
    let (told, _) = failure(|| check(old(&[5])));
    assert!(told.contains("does not read an old event"), "{told}");
    assert!(
        told.contains("this program knows no such event, only In, Out"),
        "{told}"
    );
}

#[test]
fn commands_that_lead_to_nothing_test_nothing_and_say_so() {
    let withdraw = (1..100_i64).prop_map(|cents| Move::<Right> {
        account: "a".into(),
        cents: -cents,
        fault: PhantomData,
    });
    let (told, _) = failure(|| aggregate_check(withdraw).cases(5).run());
    assert!(
        told.contains("no command of 5 lists led to an event of Right"),
        "{told}"
    );
}

#[test]
fn a_seed_repeats_the_failure_exactly() {
    let told = || failure(run::<LosesMoney>).0;
    assert_eq!(told(), told());
}

fn moved() -> impl Strategy<Value = Moved> {
    prop_oneof![
        any::<u64>().prop_map(Moved::In),
        any::<u64>().prop_map(Moved::Out)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn histories_are_numbered_as_a_log_is(
        history in strategies::history(moved(), "Account", 3, 0..40),
    ) {
        let mut sequences = BTreeMap::<StreamId, u64>::new();
        for (position, envelope) in (1..).zip(&history) {
            prop_assert_eq!(envelope.position, Some(position));
            let sequence = sequences.entry(envelope.stream.clone()).or_default();
            *sequence += 1;
            prop_assert_eq!(envelope.sequence, *sequence);
            prop_assert_eq!(envelope.aggregate_type(), "Account");
            prop_assert_eq!(envelope.decode_all::<Moved>().unwrap().len(), 1);
        }
        prop_assert!(sequences.len() <= 3);
        let times = history.iter().map(|envelope| envelope.recorded_time);
        prop_assert!(times.is_sorted());
    }

    #[test]
    fn drawn_events_are_taken_by_a_store(
        event in strategies::new_event(),
        stream in strategies::stream_id(),
    ) {
        let store = MemoryStore::new().blocking();
        let batch = AppendBatch::new(stream.clone(), ExpectedVersion::NoStream, vec![event.clone()]);
        store.append(batch).unwrap();
        let back = store.read_stream(StreamQuery::new(stream)).next().unwrap().unwrap();
        prop_assert!(back.same_content(&event));
        prop_assert_eq!(&back.metadata, &event.metadata);
    }

    #[test]
    fn drawn_envelopes_hold_their_event(
        (event, envelope) in moved().prop_flat_map(|event| {
            (Just(event.clone()), strategies::envelope(Just(event)))
        }),
        turns in strategies::interleaving(3, 5),
    ) {
        prop_assert_eq!(envelope.decode_event::<Moved>().unwrap(), event);
        prop_assert!(turns.len() == 5 && turns.iter().all(|turn| *turn < 3));
    }
}
