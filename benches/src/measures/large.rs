//! The works at ten million events, and at a million streams, against the same at a tenth of that.
//!
//! Each work runs as ever, with other sizes. Both sides of a ratio are measured in the same round.

use std::fs;
use std::path::Path;

use super::rounds::{on_store, open, peak_memory};
use super::{Found, Unit};
use crate::Outcome;
use crate::child::Measured;
use crate::contenders::Kind;
use crate::facts;
use crate::options::{Job, Options};
use crate::rounds;
use crate::works::Work;

/// How much smaller the other side is.
pub const SMALLER: u64 = 10;
/// Events of a stream.
pub const LONG: u64 = 100;
/// The small memory budget.
const BUDGET: usize = 16 << 20;

/// Runs one round of them.
pub fn large(options: &Options, round: usize, found: &mut Found) -> Outcome<()> {
    // Batches must come out even, and W2 must find its streams in a tenth of the store.
    let events_given = options.large_events;
    if events_given < 2_000_000 || !events_given.is_multiple_of(1_000_000) {
        let needed = "a multiple of 1,000,000, at least 2,000,000";
        return Err(format!("--large-events={events_given} must be {needed}").into());
    }
    let mut options = options.clone();
    // The others say nothing more of a large store, and take long.
    options
        .measures
        .retain(|measure| *measure == super::Measure::Open || *measure == super::Measure::Rebuild);
    let loads = options.large_events / SMALLER / LONG;
    let sized = |events: u64, each: u64| Options {
        w3_events: Some(events),
        streams: Some(events / each),
        r2_loads: Some(loads),
        ..options.clone()
    };
    let (small, big) = (options.large_events / SMALLER, options.large_events);

    let base = events(&sized(small, LONG), ", a tenth", round, found)?;
    let ten = events(&sized(big, LONG), ", large", round, found)?;
    for (work, (ten, base)) in ["W3", "R2", "W2"].iter().zip(ten.iter().zip(base)) {
        found.note(
            format!("growth: {work} at ten times the events"),
            Unit::Times,
            ten / base,
        );
    }
    for state in ["closed", "killed"] {
        let newest = |size| {
            found
                .get(&format!("open, {state}{size}"))
                .and_then(|all| all.last().copied())
        };
        if let Some((ten, base)) = newest(", large").zip(newest(", a tenth")) {
            found.note(
                format!("open, {state}: ten times the events against one"),
                Unit::Times,
                ten / base,
            );
        }
    }

    let few = streams(
        &sized(small / SMALLER, 1),
        ", a tenth of the streams",
        found,
    )?;
    let many = streams(&sized(small, 1), ", a million streams", found)?;
    for (work, rate) in ["W3", "W2"]
        .iter()
        .zip([many[0] / base[0], many[2] / base[2]])
    {
        found.note(
            format!("growth: {work} at a million streams"),
            Unit::Times,
            rate,
        );
    }
    // Streams as short as those, at a tenth of their number.
    found.note(
        "growth: R2 at a million streams",
        Unit::Times,
        many[1] / few[1],
    );
    tephra(&sized(big, LONG), found)
}

/// Rates of W3, R2 and W2 in one store, one after the other, with what else is asked of that store.
fn events(options: &Options, size: &str, round: usize, found: &mut Found) -> Outcome<[f64; 3]> {
    let dir = rounds::fresh(options, Kind::Tidelog)?;
    let w3 = run(Work::W3, &dir, options)?;
    peak_memory(&w3, &format!("W3{size}"), found);
    facts::warm(&dir)?;
    peak_memory(&run(Work::R1, &dir, options)?, &format!("R1{size}"), found);
    let r2 = run(Work::R2, &dir, options)?;
    peak_memory(&r2, &format!("R2{size}"), found);
    frugal(&dir, options, size, found)?;
    let on_top = Options {
        already: LONG,
        // W1 was in those before.
        first_stream: options.streams_a_client,
        ..options.clone()
    };
    let w2 = run(Work::W2, &dir, &on_top)?;
    on_store(&dir, options, size, round, found)?;
    fs::remove_dir_all(dir)?;
    let rates = [w3, r2, w2].map(|measured| rate(&measured));
    Ok(note_rates(rates, size, found))
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

/// Rates of W3, R2 and W2 over streams of one event each, with W3's and W2's clients appending to all
/// of them.
fn streams(options: &Options, size: &str, found: &mut Found) -> Outcome<[f64; 3]> {
    let dir = rounds::fresh(options, Kind::Tidelog)?;
    // They are new streams as yet, as in W4.
    run(Work::W3, &dir, options)?;
    let second = Options {
        already: 1,
        ..options.clone()
    };
    let w3 = run(Work::W3, &dir, &second)?;
    facts::warm(&dir)?;
    let r2 = run(Work::R2, &dir, &second)?;
    let all = options.streams.unwrap_or_default();
    let third = Options {
        already: 2,
        streams_a_client: usize::try_from(all / options.clients)?,
        ..options.clone()
    };
    let w2 = run(Work::W2, &dir, &third)?;
    fs::remove_dir_all(dir)?;
    let rates = [w3, r2, w2].map(|measured| rate(&measured));
    Ok(note_rates(rates, size, found))
}

/// How long tephra takes to open as much.
fn tephra(options: &Options, found: &mut Found) -> Outcome<()> {
    if !options.contenders.contains(&Kind::Tephra) {
        return Ok(());
    }
    let dir = rounds::fresh(options, Kind::Tephra)?;
    let contender = Kind::Tephra;
    for work in [Work::W3, Work::R1] {
        let measured = rounds::measure(Job { work, contender }, &dir, options)?;
        if work == Work::R1 {
            found.note(
                "open, closed, large, tephra",
                Unit::Millis,
                measured.open_seconds * 1e3,
            );
        }
        facts::warm(&dir)?;
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

/// Notes the rates of W3, R2 and W2, which ratios hide.
fn note_rates(rates: [f64; 3], size: &str, found: &mut Found) -> [f64; 3] {
    for (work, rate) in ["W3", "R2", "W2"].iter().zip(rates) {
        found.note(format!("rate of {work}{size}"), Unit::PerSecond, rate);
    }
    rates
}

fn rate(measured: &Measured) -> f64 {
    measured.timing.count as f64 / measured.timing.seconds
}
