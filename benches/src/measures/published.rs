//! The parent's side of what publishing costs and takes; the steps stand in `publish.rs`, and need
//! feature `kafka`.

use std::fs;

use super::rounds::{figure, step};
use super::{Figures, Found, Measure, Step, Unit};
use crate::Outcome;
use crate::contenders::Kind;
use crate::options::Options;
use crate::rounds;

/// The broker that publishing is measured with.
pub const BROKER: &str = "TIDELOG_TEST_KAFKA";
/// What is published: its name, streams, and one in so many of all events.
pub const SHAPES: [(Step, &str, u64, u64); 5] = [
    (Step::Publish, "10,000 streams", 10_000, 1),
    (Step::PublishThousand, "1,000 streams", 1_000, 4),
    (Step::PublishHundred, "100 streams", 100, 10),
    (Step::PublishOne, "1 stream", 1, 100),
    (Step::PublishWide, "streams of one event", u64::MAX, 4),
];

/// One of the steps.
#[cfg(feature = "kafka")]
pub fn run(step: Step, options: &Options) -> Outcome<Figures> {
    match step {
        Step::Heard => super::heard::run(options),
        step => super::publish::run(step, options),
    }
}

/// None, without the feature.
#[cfg(not(feature = "kafka"))]
pub fn run(_: Step, _: &Options) -> Outcome<Figures> {
    Err("built without feature kafka".into())
}

/// Publishing beside a bare producer, and from append to consumer.
pub fn published(options: &Options, found: &mut Found) -> Outcome<()> {
    if !options.measures.contains(&Measure::Publish) {
        return Ok(());
    }
    let goal = "publish, 10,000 streams: against a bare producer";
    if !cfg!(feature = "kafka") {
        found.remark(goal, "built without feature kafka".into());
        return Ok(());
    }
    if std::env::var_os(BROKER).is_none() {
        found.remark(goal, format!("{BROKER} names no broker"));
        return Ok(());
    }
    for (part, name, ..) in SHAPES {
        let dir = rounds::fresh(options, Kind::Tidelog)?;
        let figures = step(part, &dir, options)?;
        let of = |what: &str| figure(&figures, what);
        found.note(
            format!("publish, {name}: events"),
            Unit::PerSecond,
            of("rate"),
        );
        found.note(
            format!("publish, {name}: bare producer"),
            Unit::PerSecond,
            of("bare"),
        );
        found.note(
            format!("publish, {name}: against a bare producer"),
            Unit::Times,
            of("ratio"),
        );
        found.note(
            format!("publish, {name}: bare producer, one of a stream in flight"),
            Unit::PerSecond,
            of("in-turn"),
        );
        found.note(
            format!("publish, {name}: against that"),
            Unit::Times,
            of("in-turn-ratio"),
        );
        fs::remove_dir_all(dir)?;
    }
    let dir = rounds::fresh(options, Kind::Tidelog)?;
    let figures = step(Step::PublishLatency, &dir, options)?;
    for part in ["p50", "p99"] {
        let name = format!("publish: from append to consumer, {part}");
        found.note(name, Unit::Millis, figure(&figures, part));
    }
    fs::remove_dir_all(dir)?;
    let dir = rounds::fresh(options, Kind::Tidelog)?;
    let figures = step(Step::Heard, &dir, options)?;
    let of = |what: &str| figure(&figures, what);
    found.note("heard: events", Unit::PerSecond, of("rate"));
    found.note("heard: bare consumer", Unit::PerSecond, of("bare"));
    found.note("heard: against a bare consumer", Unit::Times, of("ratio"));
    found.note(
        "heard: bare consumer that decodes",
        Unit::PerSecond,
        of("decoding"),
    );
    found.note("heard: against that", Unit::Times, of("decoding-ratio"));
    fs::remove_dir_all(dir)?;
    Ok(())
}
