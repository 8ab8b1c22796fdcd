//! The goals, and whether they are met.

use comfy_table::Table;

use crate::measures::{Found, Unit};
use crate::report::{median, table};

/// How far a figure may go.
#[derive(Clone, Copy, Debug)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

use Bound::{AtLeast, AtMost};

/// Figure, unit and bound of each.
const GOALS: &[(&str, Unit, Bound)] = &[
    ("W1 blocking: against raw", Unit::Times, AtLeast(1.2)),
    ("W1 blocking: against tephra", Unit::Times, AtLeast(1.2)),
    ("W1 async: against raw", Unit::Times, AtLeast(1.0)),
    ("W2 async: against raw", Unit::Times, AtLeast(1.1)),
    ("W2 async: against tephra", Unit::Times, AtLeast(1.5)),
    ("W3 acknowledged: against tephra", Unit::Times, AtLeast(2.0)),
    ("W3 sustained: against tephra", Unit::Times, AtLeast(1.5)),
    ("W4 sustained: against tephra", Unit::Times, AtLeast(1.0)),
    ("R1: against tephra", Unit::Times, AtLeast(2.0)),
    ("R2: against tephra", Unit::Times, AtLeast(1.7)),
    ("disk after W3: against tephra", Unit::Times, AtMost(0.75)),
    ("R3: without against with", Unit::Times, AtLeast(5.0)),
    ("X1: against W2 async", Unit::Times, AtLeast(0.7)),
    ("T1 idle, async: p99 against sync", Unit::Times, AtMost(3.0)),
    (
        "T1 idle, blocking: p99 against sync",
        Unit::Times,
        AtMost(3.0),
    ),
    (
        "T1 half of W2, async: p99 against sync",
        Unit::Times,
        AtMost(3.0),
    ),
    (
        "T1 half of W2, blocking: p99 against sync",
        Unit::Times,
        AtMost(3.0),
    ),
    ("peak memory of W3", Unit::Mebi, AtMost(96.0)),
    ("peak memory of W4", Unit::Mebi, AtMost(96.0)),
    ("peak memory of R1", Unit::Mebi, AtMost(96.0)),
    ("peak memory of W3, large", Unit::Mebi, AtMost(128.0)),
    ("peak memory of W4, large", Unit::Mebi, AtMost(128.0)),
    ("peak memory of R1, large", Unit::Mebi, AtMost(128.0)),
    (
        "peak memory of opening, 16 MiB budget, large",
        Unit::Mebi,
        AtMost(40.0),
    ),
    (
        "peak memory of W1, 16 MiB budget, large",
        Unit::Mebi,
        AtMost(40.0),
    ),
    (
        "peak memory of R2, 16 MiB budget, large",
        Unit::Mebi,
        AtMost(40.0),
    ),
    ("open, closed", Unit::Millis, AtMost(50.0)),
    ("open, killed", Unit::Millis, AtMost(150.0)),
    (
        "open, closed: ten times the events against one",
        Unit::Times,
        AtMost(2.0),
    ),
    (
        "open, killed: ten times the events against one",
        Unit::Times,
        AtMost(2.0),
    ),
    ("idle: bytes written", Unit::Bytes, AtMost(0.0)),
    ("idle: wake-ups of own threads", Unit::Count, AtMost(0.0)),
    ("idle: wake-ups of sled's threads", Unit::Count, AtMost(0.0)),
    (
        "replication: W2, nobody listens",
        Unit::Times,
        AtLeast(0.95),
    ),
    (
        "replication: W2, nobody answers",
        Unit::Times,
        AtLeast(0.95),
    ),
    ("replication: W2, all accepted", Unit::Times, AtLeast(0.8)),
    (
        "catch-up, streams of 100: against inserts",
        Unit::Times,
        AtLeast(0.5),
    ),
    (
        "publish, 10,000 streams: against a bare producer",
        Unit::Times,
        AtLeast(0.8),
    ),
    ("rebuild: events", Unit::PerSecond, AtLeast(1e6)),
    (
        "growth: W2 at ten times the events",
        Unit::Times,
        AtLeast(0.8),
    ),
    (
        "growth: W3 at ten times the events",
        Unit::Times,
        AtLeast(0.8),
    ),
    (
        "growth: R2 at ten times the events",
        Unit::Times,
        AtLeast(0.8),
    ),
    ("growth: W2 at a million streams", Unit::Times, AtLeast(0.8)),
    ("growth: W3 at a million streams", Unit::Times, AtLeast(0.8)),
    ("growth: R2 at a million streams", Unit::Times, AtLeast(0.8)),
    (
        "direct, 1 client: against a bare batch",
        Unit::Times,
        AtLeast(0.8),
    ),
    (
        "direct, 1 client, own thread: against a bare batch",
        Unit::Times,
        AtLeast(0.8),
    ),
    (
        "direct, 64 clients: against a bare batch",
        Unit::Times,
        AtLeast(0.8),
    ),
    (
        "direct, 64 clients, own thread: against a bare batch",
        Unit::Times,
        AtLeast(0.8),
    ),
];

/// Work, goal, what was measured, and whether that is enough.
pub fn goals(found: &Found) -> Table {
    let mut all = table(&[
        "work",
        "goal",
        "measured median (lowest–highest)",
        "met or missed by",
    ]);
    for (name, unit, bound) in GOALS {
        let (measured, verdict) = match found.get(name) {
            Some(values) => (spread(*unit, values), bound.verdict(*unit, median(values))),
            None => match found.why_not(name) {
                Some(why) => (why.into(), "not met".into()),
                None => ("not measured".into(), "–".into()),
            },
        };
        all.add_row([(*name).to_owned(), bound.show(*unit), measured, verdict]);
    }
    all
}

/// All figures of what is measured of tidelog alone.
pub fn figures(found: &Found) -> Table {
    let mut all = table(&["figure", "median (lowest–highest)"]);
    for (name, unit, values) in found.iter() {
        all.add_row([name.to_owned(), spread(unit, values)]);
    }
    all
}

impl Bound {
    fn show(self, unit: Unit) -> String {
        let (sign, bound) = match self {
            AtLeast(bound) => ('≥', bound),
            AtMost(bound) => ('≤', bound),
        };
        with_unit(&format!("{sign} {}", unit.show(bound)), unit)
    }

    /// Whether `value` is within, and how far it is from the bound.
    fn verdict(self, unit: Unit, value: f64) -> String {
        let (met, bound) = match self {
            AtLeast(bound) => (value >= bound, bound),
            AtMost(bound) => (value <= bound, bound),
        };
        let word = if met { "met" } else { "missed" };
        let far = (value - bound).abs();
        // A part of nothing says nothing.
        if bound > 0.0 {
            format!("{word} by {:.0} %", far / bound * 100.0)
        } else if met {
            word.into()
        } else {
            with_unit(&format!("{word} by {}", unit.show(far)), unit)
        }
    }
}

fn spread(unit: Unit, values: &[f64]) -> String {
    let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let [median, lowest, highest] = [median(values), lowest, highest].map(|value| unit.show(value));
    with_unit(&format!("{median} ({lowest}–{highest})"), unit)
}

fn with_unit(text: &str, unit: Unit) -> String {
    format!("{text} {unit}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_says_by_how_much_it_is_met_or_missed() {
        let verdict = |bound: Bound, value| bound.verdict(Unit::Count, value);
        assert_eq!(verdict(AtLeast(5.0), 6.0), "met by 20 %");
        assert_eq!(verdict(AtLeast(5.0), 4.0), "missed by 20 %");
        assert_eq!(verdict(AtMost(50.0), 50.0), "met by 0 %");
        assert_eq!(verdict(AtMost(50.0), 75.0), "missed by 50 %");
        assert_eq!(verdict(AtMost(0.0), 0.0), "met");
        assert_eq!(verdict(AtMost(0.0), 3.0), "missed by 3");
        assert!(verdict(AtMost(1.0), f64::NAN).starts_with("missed"));
    }

    #[test]
    fn a_goal_nobody_measured_is_not_met() {
        let text = goals(&Found::default()).to_string();
        assert_eq!(text.matches("not measured").count(), GOALS.len());
    }

    #[test]
    fn a_goal_whose_work_was_ended_says_so_and_is_not_met() {
        let mut found = Found::default();
        found.remark("peak memory of W3, large", "W3 ended".into());
        let text = goals(&found).to_string();
        let row = text.lines().find(|row| row.contains("W3 ended"));
        let row = row.unwrap_or_default();
        assert!(row.contains("peak memory of W3, large") && row.contains("not met"));
        assert_eq!(text.matches("not measured").count(), GOALS.len() - 1);
    }
}
