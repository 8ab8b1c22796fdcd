//! The works at ten million events, and at a million streams, against the same at a tenth of that.
//!
//! Each work runs as ever, with other sizes, and as far as a goal needs it. Both sides of a ratio are
//! measured in the same round.

use std::fmt;
use std::fs;
use std::path::Path;

use super::limited::{self, Limited};
use super::rounds::{on_store, open, peak_memory};
use super::{Found, Measure, Unit};
use crate::Outcome;
use crate::child::Measured;
use crate::contenders::Kind;
use crate::facts;
use crate::load::PayloadKind;
use crate::options::{Job, Options};
use crate::rounds;
use crate::works::Work;

/// How much smaller the other side is.
pub const SMALLER: u64 = 10;
/// Events of a stream.
pub const LONG: u64 = 100;
/// The small memory budget.
const BUDGET: usize = 16 << 20;
/// What is not measured when W3 was ended.
const AFTER_W3: [&str; 10] = [
    "peak memory of W3, large",
    "peak memory of R1, large",
    "peak memory of opening, 16 MiB budget, large",
    "peak memory of W1, 16 MiB budget, large",
    "peak memory of R2, 16 MiB budget, large",
    "open, closed: ten times the events against one",
    "open, killed: ten times the events against one",
    "growth: W3 at ten times the events",
    "growth: R2 at ten times the events",
    "growth: W2 at ten times the events",
];

/// A part of a round, with a store of its own.
#[derive(Clone, Copy, Debug)]
pub enum Large {
    /// The works at a tenth of the events.
    Tenth,
    /// The works over a million streams, and R2 over a tenth of those.
    Streams,
    /// W4.
    New,
    /// The works at all events.
    Whole,
}

impl Large {
    /// All, in the order they run.
    pub const ALL: [Self; 4] = [Self::Tenth, Self::Streams, Self::New, Self::Whole];

    /// Refuses sizes that cannot be done: batches must come out even, and W2 must find its streams
    /// in a tenth of the store.
    pub fn check(options: &Options) -> Outcome<()> {
        let events = options.large_events;
        if events < 2_000_000 || !events.is_multiple_of(1_000_000) {
            let needed = "a multiple of 1,000,000, at least 2,000,000";
            return Err(format!("--large-events={events} must be {needed}").into());
        }
        Ok(())
    }

    /// Does it.
    pub fn run(self, options: &Options, round: usize, found: &mut Found) -> Outcome<()> {
        let mut options = options.clone();
        options.payload_kind = vec![PayloadKind::Random];
        // The others say nothing more of a large store, and take long.
        options.measures.retain(|measure| *measure == Measure::Open);
        let (small, big) = (options.large_events / SMALLER, options.large_events);
        let sized = |events: u64, each: u64| Options {
            w3_events: Some(events),
            w4_events: Some(events),
            streams: Some(events / each),
            r2_loads: Some(small / LONG),
            ..options.clone()
        };
        match self {
            Self::Tenth => tenth(&sized(small, LONG), round, found),
            Self::Streams => streams(&sized(small, 1), &sized(small / SMALLER, 1), found),
            Self::New => new(&sized(big, 1), found),
            Self::Whole => whole(&sized(big, LONG), round, found),
        }
    }
}

impl fmt::Display for Large {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tenth => "a tenth of the events",
            Self::Streams => "many streams",
            Self::New => "new streams",
            Self::Whole => "all events",
        })
    }
}

/// W3, R2, W2 and opening.
fn tenth(options: &Options, round: usize, found: &mut Found) -> Outcome<()> {
    let (size, dir) = (", a tenth", rounds::fresh(options, Kind::Tidelog)?);
    note_rate(Work::W3, &run(Work::W3, &dir, options)?, size, found);
    facts::warm(&dir)?;
    note_rate(Work::R2, &run(Work::R2, &dir, options)?, size, found);
    w2_on_top(&dir, options, 0, size, found)?;
    on_store(&dir, options, size, round, found)?;
    fs::remove_dir_all(dir)?;
    Ok(())
}

/// The same and memory, with ten times the events.
fn whole(options: &Options, round: usize, found: &mut Found) -> Outcome<()> {
    let (size, dir) = (", large", rounds::fresh(options, Kind::Tidelog)?);
    let Some(w3) = limited(Work::W3, &dir, options, &AFTER_W3, found)? else {
        fs::remove_dir_all(dir)?;
        return Ok(());
    };
    note_rate(Work::W3, &w3, size, found);
    peak_memory(&w3, "W3, large", found);
    facts::warm(&dir)?;
    peak_memory(&run(Work::R1, &dir, options)?, "R1, large", found);
    note_rate(Work::R2, &run(Work::R2, &dir, options)?, size, found);
    frugal(&dir, options, size, found)?;
    // W1 was in the first ones.
    w2_on_top(&dir, options, options.streams_a_client, size, found)?;
    on_store(&dir, options, size, round, found)?;
    fs::remove_dir_all(dir)?;
    for work in [Work::W3, Work::R2, Work::W2] {
        let name = format!("growth: {work} at ten times the events");
        let [of, to] = [size, ", a tenth"].map(|size| format!("rate of {work}{size}"));
        note_ratio(name, &of, &to, found);
    }
    for state in ["closed", "killed"] {
        let name = format!("open, {state}: ten times the events against one");
        let [of, to] = [size, ", a tenth"].map(|size| format!("open, {state}{size}"));
        note_ratio(name, &of, &to, found);
    }
    Ok(())
}

/// W2 on streams that W3 filled.
fn w2_on_top(
    dir: &Path,
    options: &Options,
    first_stream: usize,
    size: &str,
    found: &mut Found,
) -> Outcome<()> {
    let options = Options {
        already: LONG,
        first_stream,
        ..options.clone()
    };
    note_rate(Work::W2, &run(Work::W2, dir, &options)?, size, found);
    Ok(())
}

/// Opening, W1 and R2 with a small memory budget.
fn frugal(dir: &Path, options: &Options, size: &str, found: &mut Found) -> Outcome<()> {
    let options = Options {
        memory_budget: Some(BUDGET),
        ..options.clone()
    };
    open(dir, &options, &format!("16 MiB budget{size}"), found)?;
    for (work, already) in [(Work::R2, 0), (Work::W1, LONG)] {
        let options = Options {
            already,
            ..options.clone()
        };
        let measured = run(work, dir, &options)?;
        peak_memory(&measured, &format!("{work}, 16 MiB budget{size}"), found);
    }
    Ok(())
}

/// W3 over streams of one event each, once just opened and once by a process that has met each of them
/// before, as W2 then; R2 over them, and over fewer streams as short as those.
fn streams(many: &Options, few: &Options, found: &mut Found) -> Outcome<()> {
    let (few_size, size) = (", a tenth of the streams", ", a million streams");
    for (options, size) in [(few, few_size), (many, size)] {
        let dir = rounds::fresh(options, Kind::Tidelog)?;
        // They are new streams as yet, as in W4.
        run(Work::W3, &dir, options)?;
        let opened = Options {
            already: 1,
            ..options.clone()
        };
        let just = format!("{size}, just opened");
        note_rate(Work::W3, &run(Work::W3, &dir, &opened)?, &just, found);
        facts::warm(&dir)?;
        note_rate(Work::R2, &run(Work::R2, &dir, &opened)?, size, found);
        if options.streams == many.streams {
            let a_client = options.streams.unwrap_or_default() / options.clients;
            let warm = |already| Options {
                already,
                warm_up: true,
                ..options.clone()
            };
            note_rate(Work::W3, &run(Work::W3, &dir, &warm(2))?, size, found);
            let all = Options {
                streams_a_client: usize::try_from(a_client)?,
                ..warm(4)
            };
            note_rate(Work::W2, &run(Work::W2, &dir, &all)?, size, found);
        }
        fs::remove_dir_all(dir)?;
    }
    for (work, to) in [
        (Work::W3, ", a tenth"),
        (Work::W2, ", a tenth"),
        (Work::R2, few_size),
    ] {
        let name = format!("growth: {work} at a million streams");
        let [of, to] = [size, to].map(|size| format!("rate of {work}{size}"));
        note_ratio(name, &of, &to, found);
    }
    Ok(())
}

/// W4 with as many events as W3 has.
fn new(options: &Options, found: &mut Found) -> Outcome<()> {
    let dir = rounds::fresh(options, Kind::Tidelog)?;
    let goals = ["peak memory of W4, large"];
    if let Some(w4) = limited(Work::W4, &dir, options, &goals, found)? {
        note_rate(Work::W4, &w4, ", large", found);
        peak_memory(&w4, "W4, large", found);
    }
    fs::remove_dir_all(dir)?;
    Ok(())
}

/// One work of tidelog; W2 from tasks.
fn run(work: Work, dir: &Path, options: &Options) -> Outcome<Measured> {
    let contender = if work == Work::W2 {
        Kind::TidelogAsync
    } else {
        Kind::Tidelog
    };
    rounds::measure(Job { work, contender }, dir, options)
}

/// The same, unless it takes too long; then it is said of the goals that need it.
fn limited(
    work: Work,
    dir: &Path,
    options: &Options,
    goals: &[&str],
    found: &mut Found,
) -> Outcome<Option<Measured>> {
    let contender = Kind::Tidelog;
    match limited::measure(Job { work, contender }, dir, options)? {
        Limited::Whole(measured) => Ok(Some(measured)),
        Limited::Ended { events, peak_kib } => {
            for goal in goals {
                let text = format!(
                    "{work} ended after {} s at {events} events, {} MiB until then",
                    options.large_seconds,
                    peak_kib >> 10
                );
                found.remark(*goal, text);
            }
            Ok(None)
        }
    }
}

/// Notes the rate of a work, which ratios hide: of a writer until nothing is left to do.
fn note_rate(work: Work, measured: &Measured, size: &str, found: &mut Found) {
    let timing = &measured.timing;
    let seconds = timing.drained_seconds.unwrap_or(timing.seconds);
    let rate = timing.count as f64 / seconds;
    found.note(format!("rate of {work}{size}"), Unit::PerSecond, rate);
}

/// Notes the newest of one figure to the newest of another.
fn note_ratio(name: String, of: &str, to: &str, found: &mut Found) {
    let newest = |name| found.get(name).and_then(|all| all.last().copied());
    if let Some((of, to)) = newest(of).zip(newest(to)) {
        found.note(name, Unit::Times, of / to);
    }
}
