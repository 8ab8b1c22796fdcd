//! The parent's side of what is measured of tidelog alone, in each round.

use std::fs;
use std::path::Path;

use super::{Figures, Found, Measure, Step, Unit, killed};
use crate::Outcome;
use crate::child::Measured;
use crate::contenders::Kind;
use crate::facts;
use crate::options::{Job, Options};
use crate::rounds::{self, Rounds};
use crate::works::Work;

/// One part of so many of W3 is done again before a process is killed: enough for the threads in the
/// background to be at their ordinary work.
const KILLED_AT: u64 = 5;

/// Does one step in a process of its own, on the store in `dir`.
pub(super) fn step(step: Step, dir: &Path, options: &Options) -> Outcome<Figures> {
    let mut command = rounds::command(dir, options)?;
    rounds::answer(command.arg(format!("--step={step}")), &step)
}

/// One figure of a step.
pub(super) fn figure(figures: &Figures, name: &str) -> f64 {
    figures.get(name).copied().unwrap_or(f64::NAN)
}

type Figure = fn(&Measured) -> f64;

/// What is set beside a peer's of the same round: the figure's name, the work, whose.
const BESIDE: [(&str, Work, Kind, Kind, Figure); 11] = [
    (
        "W1 blocking: against raw",
        Work::W1,
        Kind::Tidelog,
        Kind::Raw,
        rate,
    ),
    (
        "W1 blocking: against tephra",
        Work::W1,
        Kind::Tidelog,
        Kind::Tephra,
        rate,
    ),
    (
        "W1 async: against raw",
        Work::W1,
        Kind::TidelogAsync,
        Kind::Raw,
        rate,
    ),
    (
        "W2 async: against raw",
        Work::W2,
        Kind::TidelogAsync,
        Kind::Raw,
        rate,
    ),
    (
        "W2 async: against tephra",
        Work::W2,
        Kind::TidelogAsync,
        Kind::Tephra,
        rate,
    ),
    (
        "W3 acknowledged: against tephra",
        Work::W3,
        Kind::Tidelog,
        Kind::Tephra,
        rate,
    ),
    (
        "W3 sustained: against tephra",
        Work::W3,
        Kind::Tidelog,
        Kind::Tephra,
        sustained,
    ),
    (
        "W4 sustained: against tephra",
        Work::W4,
        Kind::Tidelog,
        Kind::Tephra,
        sustained,
    ),
    (
        "R1: against tephra",
        Work::R1,
        Kind::Tidelog,
        Kind::Tephra,
        rate,
    ),
    (
        "R2: against tephra",
        Work::R2,
        Kind::Tidelog,
        Kind::Tephra,
        rate,
    ),
    (
        "disk after W3: against tephra",
        Work::W3,
        Kind::Tidelog,
        Kind::Tephra,
        disk,
    ),
];

fn rate(measured: &Measured) -> f64 {
    measured.timing.count as f64 / measured.timing.seconds
}

fn sustained(measured: &Measured) -> f64 {
    let timing = measured.timing;
    timing.count as f64 / timing.drained_seconds.unwrap_or(timing.seconds)
}

fn disk(measured: &Measured) -> f64 {
    measured.disk_bytes as f64
}

/// These works of the newest round beside those of the peers that goals name.
pub fn beside_peers(works: &[Work], all: &Rounds, found: &mut Found) {
    for (name, work, ours, peer, figure) in BESIDE {
        if !works.contains(&work) {
            continue;
        }
        let newest = |contender| Some(figure(all.get(&Job { work, contender })?.last()?));
        if let Some((ours, peer)) = newest(ours).zip(newest(peer)) {
            found.note(name, Unit::Times, ours / peer);
        }
    }
}

/// X1 and T1, beside what W2 did in this round.
pub fn after_clients(options: &Options, all: &Rounds, found: &mut Found) -> Outcome<()> {
    let job = Job {
        work: Work::W2,
        contender: Kind::TidelogAsync,
    };
    let Some(w2) = all.get(&job).and_then(|rounds| rounds.last()) else {
        return Ok(());
    };
    let w2 = w2.timing.count as f64 / w2.timing.seconds;
    if options.measures.contains(&Measure::X1) {
        let dir = rounds::fresh(options, Kind::TidelogAsync)?;
        let figures = step(Step::X1, &dir, options)?;
        let rate = figure(&figures, "rate");
        found.note("X1: commands", Unit::PerSecond, rate);
        found.note(
            "X1: processor time a command",
            Unit::Micros,
            figure(&figures, "cpu"),
        );
        found.note("X1: against W2 async", Unit::Times, rate / w2);
        fs::remove_dir_all(dir)?;
    }
    if options.measures.contains(&Measure::T1) {
        let mut options = options.clone();
        options.rate = w2 / 2.0;
        for (name, t1) in [
            ("idle, async", Step::T1IdleAsync),
            ("idle, blocking", Step::T1IdleBlocking),
            ("half of W2, async", Step::T1LoadAsync),
            ("half of W2, blocking", Step::T1LoadBlocking),
        ] {
            let dir = rounds::fresh(&options, Kind::Tidelog)?;
            let figures = step(t1, &dir, &options)?;
            for part in ["p50", "p99", "p99.9"] {
                let delivered = figure(&figures, &format!("delivered {part}"));
                let synced = figure(&figures, &format!("synced {part}"));
                found.note(
                    format!("T1 {name}: {part} delivered"),
                    Unit::Micros,
                    delivered,
                );
                found.note(format!("T1 {name}: {part} bare sync"), Unit::Micros, synced);
                let ratio = delivered / synced;
                found.note(
                    format!("T1 {name}: {part} against sync"),
                    Unit::Times,
                    ratio,
                );
            }
            fs::remove_dir_all(dir)?;
        }
    }
    Ok(())
}

/// What is measured on the store that W3 wrote and closed in `dir`; it is not whole W3 afterwards.
/// `size` tells its figures from those of other sizes.
pub fn on_store(
    dir: &Path,
    options: &Options,
    size: &str,
    round: usize,
    found: &mut Found,
) -> Outcome<()> {
    let does = |measure| options.measures.contains(&measure);
    if does(Measure::Open) {
        open(dir, options, &format!("closed{size}"), found)?;
    }
    // It takes long and hardly differs.
    if does(Measure::Idle) && round == 0 {
        let figures = step(Step::Idle, dir, options)?;
        found.note(
            "idle: bytes written",
            Unit::Bytes,
            figure(&figures, "written"),
        );
        found.note(
            "idle: wake-ups of own threads",
            Unit::Count,
            figure(&figures, "own"),
        );
        found.note(
            "idle: wake-ups of sled's threads",
            Unit::Count,
            figure(&figures, "sled"),
        );
    }
    if does(Measure::Open) {
        killed::kill(
            dir,
            options,
            options.w3_events.unwrap_or_default() / KILLED_AT,
        )?;
        open(dir, options, &format!("killed{size}"), found)?;
    }
    if does(Measure::Rebuild) {
        let figures = step(Step::Rebuild, dir, options)?;
        let rate = figure(&figures, "rate");
        found.note(format!("rebuild{size}: events"), Unit::PerSecond, rate);
        let peak = figure(&figures, "peak");
        found.note(format!("rebuild{size}: peak memory"), Unit::Mebi, peak);
    }
    Ok(())
}

/// How long opening the store in `dir` takes, and what memory.
pub(super) fn open(dir: &Path, options: &Options, name: &str, found: &mut Found) -> Outcome<()> {
    facts::warm(dir)?;
    let figures = step(Step::Open, dir, options)?;
    found.note(
        format!("open, {name}"),
        Unit::Millis,
        figure(&figures, "millis"),
    );
    let peak = figure(&figures, "peak");
    found.note(format!("peak memory of opening, {name}"), Unit::Mebi, peak);
    Ok(())
}

/// What needs no store of another work: R3, and the writers with segments that are holes.
pub fn apart(options: &Options, found: &mut Found) -> Outcome<()> {
    if options.measures.contains(&Measure::R3) {
        let dir = rounds::fresh(options, Kind::Tidelog)?;
        step(Step::R3Fill, &dir, options)?;
        facts::warm(&dir)?;
        let with = figure(&step(Step::R3With, &dir, options)?, "micros");
        let without = figure(&step(Step::R3Without, &dir, options)?, "micros");
        found.note("R3: a load with a snapshot", Unit::Micros, with);
        found.note("R3: a load without", Unit::Micros, without);
        found.note("R3: without against with", Unit::Times, without / with);
        fs::remove_dir_all(dir)?;
    }
    if options.measures.contains(&Measure::Direct) {
        direct(options, found)?;
    }
    if options.measures.contains(&Measure::Wear) {
        let mut options = options.clone();
        options.sparse = true;
        for work in [Work::W1, Work::W2, Work::W3] {
            let dir = rounds::fresh(&options, Kind::Tidelog)?;
            let job = Job {
                work,
                contender: Kind::Tidelog,
            };
            let measured = rounds::measure(job, &dir, &options)?;
            wear(
                &measured,
                &format!("{work}, tidelog without zero-fill"),
                &options,
                found,
            );
            found.note(
                format!("{work}, tidelog without zero-fill: rate"),
                Unit::PerSecond,
                measured.timing.count as f64 / measured.timing.seconds,
            );
            fs::remove_dir_all(dir)?;
        }
    }
    Ok(())
}

/// Appends directly on a server, beside those of the driver alone.
fn direct(options: &Options, found: &mut Found) -> Outcome<()> {
    let clients = [("1", "1 client"), ("64", "64 clients")];
    let ways = [("near", ""), ("apart", ", own thread")];
    let against = |name: &str, way: &str| format!("direct, {name}{way}: against a bare batch");
    if let Err(why) = super::direct::server() {
        for (_, name) in clients {
            for (_, way) in ways {
                found.remark(against(name, way), why.into());
            }
        }
        return Ok(());
    }
    let figures = step(Step::Direct, &options.dir, options)?;
    for (number, name) in clients {
        let of = |what: &str| figure(&figures, &format!("{what} {number}"));
        for (key, way) in ways {
            let appends = format!("direct, {name}{way}: appends");
            found.note(appends, Unit::PerSecond, of(key));
            let ratio = of(&format!("{key} ratio"));
            found.note(against(name, way), Unit::Times, ratio);
        }
        let batches = format!("direct, {name}: bare batches");
        found.note(batches, Unit::PerSecond, of("bare"));
    }
    Ok(())
}

/// Bytes written for each byte of payload.
pub fn wear(measured: &Measured, name: &str, options: &Options, found: &mut Found) {
    let payload = measured.timing.count as f64 * options.payload as f64;
    let process = measured.written_bytes as f64 / payload;
    found.note(
        format!("wear, {name}: by the process"),
        Unit::Times,
        process,
    );
    if let Some(bytes) = measured.device_bytes {
        let device = bytes as f64 / payload;
        found.note(format!("wear, {name}: at the device"), Unit::Times, device);
    }
}

/// Most memory of one measurement.
pub fn peak_memory(measured: &Measured, name: &str, found: &mut Found) {
    let peak = measured.peak_kib as f64 / 1024.0;
    found.note(format!("peak memory of {name}"), Unit::Mebi, peak);
}
