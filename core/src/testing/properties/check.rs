//! The check of one aggregate: what is tried, how often, and what comes of it.

use std::fmt::{Debug, Write};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ::proptest::collection::vec;
use ::proptest::prelude::any;
use ::proptest::strategy::{BoxedStrategy, Strategy};
use ::proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};

use crate::aggregate::Aggregate;
use crate::command::{Command, Decide};
use crate::id::{IdSource, SystemIds};
use crate::store::EventStore;
use crate::upcast::RawEvent;

use super::failure::Broken;
use super::sequential::{Conserved, Promises};
use super::yielding::Turn;
use super::{racing, sequential};

/// Rounds by which a command begins later than the one that it runs beside: about as many as
/// executing one takes.
const LAGS: u8 = 16;
/// How often a failing case is made smaller at most.
const SHRINKS: u32 = 20_000;

/// Tries an aggregate on generated commands.
///
/// For each list of commands it holds that
/// 1. deciding is pure: twice in one state and context says the same; what is decided can be
///    applied;
/// 2. the [invariants](Self::invariant) hold after each event, and what is
///    [conserved](Self::conserved) adds up;
/// 3. replaying all events gives the state that applying them one by one gave;
/// 4. from every snapshot on, the remaining events lead to the same state;
/// 5. each event comes back from its bytes as it was, with its type and revision, and with the same
///    bytes when it is encoded again; [old events](Self::old_events) are read as events of today;
/// 6. when several of them are executed at the same time, what is recorded is what the aggregate decides in
///    the state that it was recorded after, and each rejection is right in some state that was
///    there meanwhile;
/// 7. each command, executed again with its command id, records nothing.
///
/// Commands name their aggregates themselves; a strategy that draws from a few ids lets them meet.
/// There are no threads and there is no time in it, so a seed repeats exactly. A failure is made
/// smaller, and told as a scenario.
///
/// The store is whatever `store` makes, one a case; `tidelog::testing::aggregate_check` takes the
/// one in memory.
pub struct AggregateCheck<A: Aggregate, C, S> {
    commands: BoxedStrategy<C>,
    store: Arc<dyn Fn() -> S>,
    promises: Promises<A>,
    old_events: Option<BoxedStrategy<RawEvent>>,
    length: RangeInclusive<usize>,
    actors: usize,
    cases: u32,
    seed: Option<u64>,
}

impl<A, C, S> AggregateCheck<A, C, S>
where
    A: Decide<C> + Debug + PartialEq + Aggregate<Event: Debug + PartialEq>,
    C: Command<Aggregate = A> + Clone + Debug + 'static,
    S: EventStore,
{
    /// A check on lists of `commands`, on the stores that `store` makes.
    #[must_use = "nothing is tried before `run`"]
    pub fn new(
        commands: impl Strategy<Value = C> + 'static,
        store: impl Fn() -> S + 'static,
    ) -> Self {
        Self {
            commands: commands.boxed(),
            store: Arc::new(store),
            promises: Promises {
                invariants: Vec::new(),
                conserved: Vec::new(),
            },
            old_events: None,
            length: 1..=40,
            actors: 3,
            cases: 256,
            seed: None,
        }
    }

    /// `holds` is true of every state.
    #[must_use = "nothing is tried before `run`"]
    pub fn invariant(
        mut self,
        name: &str,
        holds: impl Fn(&A) -> bool + Send + Sync + 'static,
    ) -> Self {
        let invariant = (name.to_owned(), Arc::new(holds) as _);
        self.promises.invariants.push(invariant);
        self
    }

    /// What the events move, by `of_event`, is what the states hold, by `of_state`, over all
    /// aggregates.
    #[must_use = "nothing is tried before `run`"]
    pub fn conserved(
        mut self,
        name: &str,
        of_event: impl Fn(&A::Event) -> i128 + Send + Sync + 'static,
        of_state: impl Fn(&A) -> i128 + Send + Sync + 'static,
    ) -> Self {
        self.promises.conserved.push(Conserved {
            name: name.to_owned(),
            of_event: Box::new(of_event),
            of_state: Box::new(of_state),
        });
        self
    }

    /// Records of earlier programs, which must still be read.
    #[must_use = "nothing is tried before `run`"]
    pub fn old_events(mut self, old: impl Strategy<Value = RawEvent> + 'static) -> Self {
        self.old_events = Some(old.boxed());
        self
    }

    /// How many commands a list has; 1 to 40 unless set.
    #[must_use = "nothing is tried before `run`"]
    pub fn commands(mut self, length: RangeInclusive<usize>) -> Self {
        self.length = length;
        self
    }

    /// How many commands run at the same time at most; 3 unless set, at least 1.
    #[must_use = "nothing is tried before `run`"]
    pub fn actors(mut self, actors: usize) -> Self {
        self.actors = actors.max(1);
        self
    }

    /// How many lists are tried; 256 unless set.
    #[must_use = "nothing is tried before `run`"]
    pub fn cases(mut self, cases: u32) -> Self {
        self.cases = cases;
        self
    }

    /// Repeats a run: the seed that a failure told. Another one each time unless set.
    #[must_use = "nothing is tried before `run`"]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Tries it.
    ///
    /// # Panics
    /// With the smallest case found, when a promise does not hold; when no command of any list led
    /// to an event, since nothing was tried then.
    #[track_caller]
    pub fn run(self) {
        let seed = self
            .seed
            .unwrap_or_else(|| match Config::default().rng_seed {
                RngSeed::Fixed(seed) => seed,
                RngSeed::Random => SystemIds.next_uuid().as_u64_pair().1,
            });
        if let Err(told) = self.run_commands(seed).and_then(|()| self.run_old(seed)) {
            panic!("\n{told}\n");
        }
    }

    fn run_commands(&self, seed: u64) -> Result<(), String> {
        let turn = (any::<bool>(), 0..LAGS, 0..3_u8, any::<bool>());
        let turn = turn.prop_map(|(joins, lag, rests, cached)| Turn {
            joins,
            lag,
            rests,
            cached,
        });
        let lists = vec((self.commands.clone(), turn), self.length.clone());
        let events = AtomicUsize::new(0);
        let tried = self.runner(seed).run(&lists, |list| {
            let (commands, turns): (Vec<C>, Vec<Turn>) = list.into_iter().unzip();
            let decided =
                sequential::check(&commands, &self.promises).map_err(|broken| failed(&broken))?;
            events.fetch_add(decided, Ordering::Relaxed);
            let store = (self.store)();
            racing::check(&store, &commands, &turns, self.actors, &self.promises)
                .map_err(|broken| failed(&broken))
        });
        match tried {
            Ok(()) if events.into_inner() == 0 && self.cases > 0 => Err(format!(
                "no command of {} lists led to an event of {}, so nothing was tried; let the \
                 strategy draw commands that are accepted",
                self.cases,
                A::TYPE
            )),
            Ok(()) => Ok(()),
            Err(TestError::Abort(reason)) => Err(format!("given up: {reason}")),
            Err(TestError::Fail(reason, list)) => {
                let mut told = format!("{} breaks a promise: {reason}\n", A::TYPE);
                let _ = writeln!(told, "the smallest case has {} commands:", list.len());
                for (number, (command, turn)) in (1..).zip(&list) {
                    let joins = turn.joins && number > 1;
                    let beside = if joins { ", at the same time" } else { "" };
                    let kept = if turn.cached {
                        ", from a kept state"
                    } else {
                        ""
                    };
                    let _ = writeln!(told, "    {number}  {command:?}{beside}{kept}");
                }
                let _ = write!(told, "repeat it by .seed({seed})");
                Err(told)
            }
        }
    }

    fn run_old(&self, seed: u64) -> Result<(), String> {
        let Some(old) = &self.old_events else {
            return Ok(());
        };
        let tried = self.runner(seed).run(old, |old| {
            sequential::check_old::<A>(&old).map_err(|broken| failed(&broken))
        });
        tried.map_err(|error| match error {
            TestError::Abort(reason) => format!("given up: {reason}"),
            TestError::Fail(reason, _) => format!(
                "{} does not read an old event: {reason}\nrepeat it by .seed({seed})",
                A::TYPE
            ),
        })
    }

    fn runner(&self, seed: u64) -> TestRunner {
        TestRunner::new(Config {
            cases: self.cases,
            max_shrink_iters: SHRINKS,
            rng_seed: RngSeed::Fixed(seed),
            failure_persistence: None,
            ..Config::default()
        })
    }
}

fn failed(broken: &Broken) -> TestCaseError {
    TestCaseError::fail(broken.to_string())
}
