//! Models: the store's own code on shuttle's threads, through thousands of interleavings.
//!
//! Each model says what must hold whatever happens first; that nobody waits for ever, shuttle sees
//! by itself. Run by `cargo test -p tidelog-backends --features shuttle --lib models`; one that
//! fails prints its schedule. `TIDELOG_SEED` repeats a run, `TIDELOG_SWEEP=full` makes a longer one.
//!
//! Shuttle knows one memory order only: what rests on a weaker one is not shown here.

mod appends;
mod gate;
mod queue;
mod scene;
mod signal;
mod subscriptions;
mod superseding;

use std::env;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner};

/// Executions of each model by each scheduler.
const EXECUTIONS: usize = 2_000;
/// As many in a full sweep.
const FULL: usize = 100_000;
/// How often the second scheduler takes the turn from the thread that it prefers.
const CHANGES: usize = 3;

/// Runs `model` through interleavings chosen at random, and through such as let one thread run far
/// ahead of the others.
fn explore(name: &str, model: impl Fn() + Send + Sync + 'static) {
    let seed = match env::var("TIDELOG_SEED") {
        Ok(seed) => seed.parse().expect("TIDELOG_SEED is a number"),
        Err(_) => RandomState::new().hash_one(name) >> 1,
    };
    let full = env::var("TIDELOG_SWEEP").is_ok_and(|size| size == "full");
    let executions = if full { FULL } else { EXECUTIONS };
    eprintln!("{name}: TIDELOG_SEED={seed}");
    let started = Instant::now();
    let model = Arc::new(model);
    let random = RandomScheduler::new_from_seed(seed, executions);
    let preferring = PctScheduler::new_from_seed(seed, CHANGES, executions);
    let ran = run(random, &model) + run(preferring, &model);
    let seconds = started.elapsed().as_secs_f32();
    eprintln!("{name}: {ran} executions in {seconds:.1} s");
    assert!(ran >= 2 * executions);
}

fn run(
    scheduler: impl Scheduler + 'static,
    model: &Arc<impl Fn() + Send + Sync + 'static>,
) -> usize {
    let mut config = Config::new();
    config.stack_size = 256 << 10;
    config.max_steps = MaxSteps::FailAfter(200_000);
    config.silence_warnings = true;
    let model = Arc::clone(model);
    Runner::new(scheduler, config).run(move || model())
}

/// A number below `limit`, chosen by the scheduler, so that it is repeated with the schedule.
fn choose(limit: u64) -> u64 {
    use shuttle::rand::RngCore;
    shuttle::rand::thread_rng().next_u64() % limit
}

/// Polls `future` up to `polls` times and then drops it, as a caller does whose time is up.
struct GivesUp<F> {
    future: Option<Pin<Box<F>>>,
    polls: u64,
}

impl<F: Future> GivesUp<F> {
    fn after(polls: u64, future: F) -> Self {
        let future = Some(Box::pin(future));
        Self { future, polls }
    }
}

impl<F: Future> Future for GivesUp<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.polls == 0 {
            this.future = None;
        }
        let Some(future) = &mut this.future else {
            return Poll::Ready(None);
        };
        this.polls -= 1;
        let polled = future.as_mut().poll(cx).map(Some);
        if polled.is_pending() && this.polls == 0 {
            // It may be woken, or not, before it is dropped.
            cx.waker().wake_by_ref();
        }
        polled
    }
}
