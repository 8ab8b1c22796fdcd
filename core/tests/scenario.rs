//! What scenarios take and what they say when something is not as expected, to the letter.

#![cfg(feature = "testing")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Serialize};
use tidelog_core::testing::scenario::{ProcessScenario, ProjectionScenario, Scenario};
use tidelog_core::{
    Aggregate, Command, CommandBus, ContentType, Context, Decide, Event, EventEnvelope,
    HandlerError, Lookup, NewEvent, ProcessManager, Projection, Rows, Steps, StreamId, TimerChange,
    Timestamp, Upcasters,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(crate = tidelog_core, upcasters = upcasters)]
enum Fact {
    Opened { holder: String },
    Deposited { cents: u64 },
    Withdrawn { cents: u64 },
    Stamped { at: Timestamp, by: String },
}

fn upcasters() -> &'static Upcasters {
    static UPCASTERS: std::sync::LazyLock<Upcasters> =
        std::sync::LazyLock::new(|| Upcasters::new().rename("PaidIn", "Deposited"));
    &UPCASTERS
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Account {
    holder: String,
    cents: u64,
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("no such history")]
struct NoHistory;

impl Aggregate for Account {
    const TYPE: &'static str = "Account";
    type Event = Fact;
    type Error = NoHistory;

    fn apply(state: Option<Self>, event: &Fact) -> Result<Self, NoHistory> {
        match (state, event) {
            (None, Fact::Opened { holder }) => Ok(Self {
                holder: holder.clone(),
                cents: 0,
            }),
            (Some(account), Fact::Deposited { cents }) => Ok(Self {
                cents: account.cents + cents,
                ..account
            }),
            (Some(account), Fact::Withdrawn { cents }) => Ok(Self {
                cents: account.cents.checked_sub(*cents).ok_or(NoHistory)?,
                ..account
            }),
            (Some(account), Fact::Stamped { .. }) => Ok(account),
            _ => Err(NoHistory),
        }
    }
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("no")]
enum No {
    Overdraft { balance: u64, wanted: u64 },
    NoAccount,
}

#[derive(Clone, Debug)]
struct Withdraw {
    account_id: String,
    cents: u64,
}

#[derive(Clone, Debug)]
struct Stamp;

#[derive(Clone, Debug)]
struct Forget;

impl Command for Withdraw {
    type Aggregate = Account;
    fn target_aggregate_identifier(&self) -> Option<&str> {
        Some(&self.account_id)
    }
}

impl Command for Stamp {
    type Aggregate = Account;
    fn target_aggregate_identifier(&self) -> Option<&str> {
        Some("ada")
    }
}

impl Command for Forget {
    type Aggregate = Account;
    fn target_aggregate_identifier(&self) -> Option<&str> {
        Some("ada")
    }
}

impl Decide<Withdraw> for Account {
    type Rejection = No;
    fn decide(state: Option<&Self>, command: &Withdraw, _: &Context) -> Result<Vec<Fact>, No> {
        let account = state.ok_or(No::NoAccount)?;
        let wanted = command.cents;
        if wanted > account.cents {
            let balance = account.cents;
            return Err(No::Overdraft { balance, wanted });
        }
        let withdrawn = Fact::Withdrawn { cents: wanted };
        Ok((wanted > 0).then_some(withdrawn).into_iter().collect())
    }
}

impl Decide<Stamp> for Account {
    type Rejection = No;
    fn decide(_: Option<&Self>, _: &Stamp, context: &Context) -> Result<Vec<Fact>, No> {
        let id = context.command_id().map_or("", |id| id.as_str());
        let by = context.metadata().get("till").unwrap_or("");
        Ok(vec![Fact::Stamped {
            at: context.now(),
            by: format!("{}/{id}/{by}", context.aggregate_id()),
        }])
    }
}

impl Decide<Forget> for Account {
    type Rejection = No;
    fn decide(state: Option<&Self>, _: &Forget, _: &Context) -> Result<Vec<Fact>, No> {
        // Not a pure function: it says something else each time.
        static ASKED: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let cents = ASKED.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        state.ok_or(No::NoAccount)?;
        Ok(vec![Fact::Deposited { cents }])
    }
}

fn opened() -> Fact {
    Fact::Opened {
        holder: "Ada".into(),
    }
}

fn withdraw(cents: u64) -> Withdraw {
    Withdraw {
        account_id: "ada".into(),
        cents,
    }
}

/// What a scenario says when it fails.
fn failure<T>(scenario: impl FnOnce() -> T) -> String {
    let panic = catch_unwind(AssertUnwindSafe(scenario)).err().unwrap();
    panic.downcast_ref::<String>().unwrap().clone()
}

#[test]
fn what_is_as_expected_passes() {
    Scenario::<Account>::given([opened(), Fact::Deposited { cents: 500 }])
        .when(withdraw(200))
        .then([Fact::Withdrawn { cents: 200 }])
        .then_state(|account| assert_eq!(account.cents, 300))
        .and_when(withdraw(0))
        .then_nothing()
        .and_when(withdraw(301))
        .then_rejected(No::Overdraft {
            balance: 300,
            wanted: 301,
        })
        .then_state_is(Account {
            holder: "Ada".into(),
            cents: 300,
        });
    Scenario::<Account>::new()
        .when(withdraw(1))
        .then_rejected(No::NoAccount);
    Scenario::given_state(Account {
        holder: "Ada".into(),
        cents: 7,
    })
    .when(withdraw(7))
    .then([Fact::Withdrawn { cents: 7 }]);
}

#[test]
fn time_command_id_metadata_and_aggregate_id_reach_the_decision() {
    let noon = Timestamp::from_micros(852_119_999_000_000);
    let later = Timestamp::from_micros(852_119_999_000_001);
    Scenario::<Account>::given([opened()])
        .at(noon)
        .with_command_id("x")
        .with_metadata("till", "3")
        .when(Stamp)
        .then([Fact::Stamped {
            at: noon,
            by: "ada/x/3".into(),
        }])
        .at(later)
        .and_when(Stamp)
        .then([Fact::Stamped {
            at: later,
            by: "ada//3".into(),
        }]);
}

#[test]
fn given_records_of_earlier_programs_are_upcast() {
    let opened = NewEvent::new("Opened", 1, ContentType::Postcard, &b"\x03Ada"[..]);
    let paid = NewEvent::new("PaidIn", 1, ContentType::Postcard, &[5][..]);
    Scenario::<Account>::given_recorded([opened, paid])
        .when(withdraw(5))
        .then([Fact::Withdrawn { cents: 5 }]);
}

#[test]
fn a_rejection_in_place_of_events_is_told_with_all_that_led_to_it() {
    let told = failure(|| {
        Scenario::<Account>::given([opened(), Fact::Deposited { cents: 500 }])
            .when(withdraw(700))
            .then([Fact::Withdrawn { cents: 700 }])
    });
    assert_eq!(
        told,
        r#"
given
    Opened { holder: "Ada" }
    Deposited { cents: 500 }
when
    Withdraw { account_id: "ada", cents: 700 }
expected (-) is not what came (+):
- decided [
-     Withdrawn {
-         cents: 700,
-     },
- ]
+ rejected: Overdraft {
+     balance: 500,
+     wanted: 700,
+ }
"#
    );
}

#[test]
fn one_wrong_number_among_many_events_is_told_with_three_lines_around_it() {
    let told = failure(|| {
        Scenario::<Account>::given([opened(), Fact::Deposited { cents: 9 }])
            .when(withdraw(9))
            .then_state_is(Account {
                holder: "Ada".into(),
                cents: 1,
            })
    });
    assert!(
        told.ends_with(
            r#"
expected (-) is not what came (+):
  Account {
      holder: "Ada",
-     cents: 1,
+     cents: 0,
  }
"#
        ),
        "{told}"
    );
}

#[test]
fn long_diffs_leave_out_what_is_equal_and_end() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Many(Vec<u32>);
    impl Aggregate for Many {
        const TYPE: &'static str = "Many";
        type Event = Fact;
        type Error = NoHistory;
        fn apply(state: Option<Self>, _: &Fact) -> Result<Self, NoHistory> {
            state.ok_or(NoHistory)
        }
    }
    impl Decide<Nothing> for Many {
        type Rejection = No;
        fn decide(_: Option<&Self>, _: &Nothing, _: &Context) -> Result<Vec<Fact>, No> {
            Ok(vec![])
        }
    }
    #[derive(Debug)]
    struct Nothing;
    impl Command for Nothing {
        type Aggregate = Many;
        fn target_aggregate_identifier(&self) -> Option<&str> {
            None
        }
    }
    let compare = |expected: Vec<u32>| {
        failure(|| {
            Scenario::given_state(Many((0..1000).collect()))
                .when(Nothing)
                .then_state_is(Many(expected))
        })
    };
    let one = compare((0..1000).map(|n| if n == 500 { 7 } else { n }).collect());
    assert!(
        one.ends_with(
            "came (+):\n  … 499 equal lines\n          497,\n          498,\n          499,\n\
             -         7,\n+         500,\n          501,\n          502,\n          503,\n  \
             … 498 equal lines\n"
        ),
        "{one}"
    );
    let all = compare((1000..2000).collect());
    assert!(all.lines().count() < 210, "{}", all.lines().count());
    assert!(all.ends_with("lines more\n"), "{all}");
}

#[test]
fn a_decision_that_says_something_else_the_second_time_is_found() {
    let told = failure(|| {
        Scenario::<Account>::given([opened()])
            .when(Forget)
            .then_nothing()
    });
    assert!(
        told.contains("deciding again, in the same state and context, says something else"),
        "{told}"
    );
    assert!(
        told.contains("-         cents: 0,\n+         cents: 1,"),
        "{told}"
    );
}

#[test]
fn an_impossible_history_is_told() {
    let told = failure(|| {
        Scenario::<Account>::given([Fact::Deposited { cents: 5 }])
            .when(withdraw(5))
            .then_nothing()
    });
    assert_eq!(
        told,
        "\ngiven\n    Deposited { cents: 5 }\nthe Account cannot apply Deposited { cents: 5 }: no \
         such history\n"
    );
}

struct Balances;

impl Projection for Balances {
    const NAME: &'static str = "balances";
    type Key = String;
    type Row = u64;

    fn apply(
        &self,
        event: &EventEnvelope,
        rows: &mut Rows<'_, String, u64>,
    ) -> Result<(), HandlerError> {
        for fact in event.of::<Account>()? {
            let id = event.aggregate_id().to_owned();
            match fact {
                Fact::Opened { .. } => rows.put(id, 0),
                Fact::Deposited { cents } => rows.update(id, |row| *row += cents)?,
                Fact::Withdrawn { cents } => {
                    let row = rows.get(&id)?.and_then(|row| row.checked_sub(cents));
                    rows.put(id, row.ok_or_else(|| HandlerError::permanent("overdrawn"))?);
                }
                Fact::Stamped { .. } => rows.remove(&id),
            }
        }
        Ok(())
    }

    fn lookups() -> Vec<Lookup<String, u64>> {
        vec![Lookup::by("cents", |_, cents: &u64| Some(*cents))]
    }
}

fn balances() -> ProjectionScenario<Balances> {
    ProjectionScenario::new(Balances)
        .given("Account/ada", [opened(), Fact::Deposited { cents: 500 }])
        .when("Account/bob", [opened(), Fact::Deposited { cents: 7 }])
}

#[test]
fn rows_that_are_as_expected_pass() {
    let stamped = Fact::Stamped {
        at: Timestamp::from_micros(0),
        by: String::new(),
    };
    balances()
        .then_row(&"ada".into(), Some(500))
        .then_row(&"eve".into(), None)
        .then_rows([("bob".into(), 7), ("ada".into(), 500)])
        .then_found("cents", &7_u64, ["bob".into()])
        .then_found("cents", &8_u64, [])
        .when("Account/ada", [Fact::Withdrawn { cents: 493 }])
        .then_found("cents", &7_u64, ["bob".into(), "ada".into()])
        .when("Account/ada", [stamped])
        .when_recorded(
            "Account/bob",
            NewEvent::new("PaidIn", 1, ContentType::Postcard, &[1][..]),
        )
        .then_rows([("bob".into(), 8)]);
}

#[test]
fn rows_that_are_not_are_told() {
    let told = failure(|| balances().then_rows([("ada".into(), 500), ("bob".into(), 8)]));
    assert_eq!(
        told,
        r#"
given
    Account/ada: Opened { holder: "Ada" }
    Account/ada: Deposited { cents: 500 }
when
    Account/bob: Opened { holder: "Ada" }
    Account/bob: Deposited { cents: 7 }
expected (-) is not what came (+):
  "ada": 500
- "bob": 8
+ "bob": 7
"#
    );
    let told = failure(|| balances().then_row(&"eve".into(), Some(1)));
    assert!(
        told.ends_with("\n- \"eve\": 1\n+ \"eve\": no row\n"),
        "{told}"
    );
    let told = failure(|| balances().then_found("cents", &7_u64, []));
    assert!(
        told.contains("- cents 7: []\n+ cents 7: [\n+     \"bob\",\n+ ]"),
        "{told}"
    );
    let told = failure(|| balances().then_found("owner", &7_u64, []));
    assert!(
        told.contains("the projection has the lookups [\"cents\"]"),
        "{told}"
    );
    let told = failure(|| balances().when("Account/bob", [Fact::Withdrawn { cents: 8 }]));
    assert!(
        told.ends_with("the projection balances does not take it in: overdrawn\n"),
        "{told}"
    );
}

/// Takes a fee of a cent for each deposit, tells when that is refused, and closes what stays quiet.
struct Fees;

#[derive(Clone, Debug)]
struct NoteRefused {
    account_id: String,
    refused: bool,
}

impl Command for NoteRefused {
    type Aggregate = Account;
    fn target_aggregate_identifier(&self) -> Option<&str> {
        Some(&self.account_id)
    }
}

impl Decide<NoteRefused> for Account {
    type Rejection = No;
    fn decide(_: Option<&Self>, note: &NoteRefused, _: &Context) -> Result<Vec<Fact>, No> {
        let back = Fact::Deposited { cents: 1 };
        Ok(note.refused.then_some(back).into_iter().collect())
    }
}

const DUE: Timestamp = Timestamp::from_micros(1_000_000_000_000_000);

impl ProcessManager for Fees {
    const NAME: &'static str = "fees";

    fn on(
        &self,
        event: &EventEnvelope,
        then: &mut Steps<impl CommandBus>,
    ) -> Result<(), HandlerError> {
        for fact in event.of::<Account>()? {
            let account_id = event.aggregate_id().to_owned();
            match fact {
                Fact::Deposited { .. } => {
                    let fee = Withdraw {
                        account_id: account_id.clone(),
                        cents: 1,
                    };
                    then.step(fee, move |outcome| NoteRefused {
                        account_id,
                        refused: outcome.is_err(),
                    });
                }
                Fact::Withdrawn { cents: 13 } => then.execute(withdraw(1)),
                _ => {}
            }
        }
        Ok(())
    }

    fn timer(&self, event: &EventEnvelope) -> Result<TimerChange, HandlerError> {
        let facts = event.of::<Account>()?.into_one();
        Ok(match facts {
            Some(Fact::Opened { .. }) => TimerChange::Set(DUE),
            Some(Fact::Withdrawn { .. }) => TimerChange::Clear,
            _ => TimerChange::Keep,
        })
    }

    fn on_timer(
        &self,
        stream: &StreamId,
        _: Timestamp,
        then: &mut Steps<impl CommandBus>,
    ) -> Result<(), HandlerError> {
        then.execute(Withdraw {
            account_id: stream.aggregate_id().to_owned(),
            cents: 99,
        });
        Ok(())
    }
}

fn note(refused: bool) -> NoteRefused {
    NoteRefused {
        account_id: "ada".into(),
        refused,
    }
}

#[test]
fn commands_and_timers_that_are_as_expected_pass() {
    ProcessScenario::new(Fees)
        .given("Account/ada", opened())
        .then_timer("Account/ada", Some(DUE))
        .when("Account/ada", Fact::Deposited { cents: 5 })
        .then(withdraw(1))
        .then(note(false))
        .then_nothing()
        .when("Account/ada", Fact::Deposited { cents: 5 })
        .then(withdraw(1))
        .rejected(No::NoAccount)
        .then(note(true))
        .when_due("Account/ada")
        .then(withdraw(99))
        .rejected(No::NoAccount)
        .when("Account/ada", Fact::Withdrawn { cents: 13 })
        .then(withdraw(1))
        .rejected(No::NoAccount)
        .then_parked("was rejected: no")
        .then_timer("Account/ada", None)
        .when("Account/bob", opened())
        .then_nothing();
}

#[test]
fn commands_that_are_not_are_told() {
    let deposited = || {
        ProcessScenario::new(Fees)
            .given("Account/ada", opened())
            .when("Account/ada", Fact::Deposited { cents: 5 })
    };
    let told = failure(|| deposited().then(withdraw(2)));
    assert_eq!(
        told,
        r#"
given
    Account/ada: Opened { holder: "Ada" }
when
    Account/ada: Deposited { cents: 5 }
expected (-) is not what came (+):
  Withdraw {
      account_id: "ada",
-     cents: 2,
+     cents: 1,
  }
"#
    );
    let told = failure(|| deposited().then(withdraw(1)).then_nothing());
    assert_eq!(
        told,
        r#"
given
    Account/ada: Opened { holder: "Ada" }
when
    Account/ada: Deposited { cents: 5 }
then
    Withdraw { account_id: "ada", cents: 1, }
expected (-) is not what came (+):
- no command
+ NoteRefused {
+     account_id: "ada",
+     refused: false,
+ }
"#
    );
    let told = failure(|| {
        ProcessScenario::new(Fees)
            .when("Account/ada", opened())
            .then(withdraw(1))
    });
    assert!(told.ends_with("- }\n+ no command\n"), "{told}");
    let told = failure(|| deposited().then(withdraw(1)).rejected(NoHistory));
    assert!(
        told.ends_with("the command is rejected by a scenario::No, not by a scenario::NoHistory\n"),
        "{told}"
    );
    let told = failure(|| ProcessScenario::new(Fees).when_due("Account/eve"));
    assert!(told.ends_with("Account/eve has no timer\n"), "{told}");
    let told = failure(|| deposited().then_timer("Account/ada", None));
    assert!(
        told.contains("- Account/ada has no timer\n+ the timer of Account/ada is due at 2001"),
        "{told}"
    );
}

#[test]
fn a_command_that_nobody_expected_fails_the_end_of_the_scenario() {
    let told = failure(|| {
        let scenario = ProcessScenario::new(Fees);
        drop(scenario.when("Account/ada", Fact::Deposited { cents: 5 }));
    });
    assert!(told.contains("- no command\n+ Withdraw {"), "{told}");
}
