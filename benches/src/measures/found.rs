//! What was found over all rounds, by name.

use std::collections::BTreeMap;
use std::fmt;

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A ratio.
    Times,
    /// Counts a second.
    PerSecond,
    /// 2^20 bytes.
    Mebi,
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
    /// Bytes.
    Bytes,
    /// A count.
    Count,
}

impl Unit {
    /// `value` as it stands in a table.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Times => format!("{value:.2}"),
            Self::PerSecond | Self::Bytes | Self::Count => crate::report::grouped(value),
            Self::Mebi | Self::Millis | Self::Micros => format!("{value:.1}"),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Times => "×",
            Self::PerSecond => "/s",
            Self::Mebi => "MiB",
            Self::Millis => "ms",
            Self::Micros => "µs",
            Self::Bytes => "bytes",
            Self::Count => "",
        })
    }
}

/// The figures of all rounds.
#[derive(Clone, Debug, Default)]
pub struct Found {
    figures: BTreeMap<String, (Unit, Vec<f64>)>,
    remarks: BTreeMap<String, String>,
}

impl Found {
    /// Notes one figure of one round.
    pub fn note(&mut self, name: impl Into<String>, unit: Unit, value: f64) {
        let name = name.into();
        eprintln!("{name:<52} {:>12} {unit}", unit.show(value));
        let (_, values) = self.figures.entry(name).or_insert((unit, Vec::new()));
        values.push(value);
    }

    /// Says why there is no figure of that name.
    pub fn remark(&mut self, name: impl Into<String>, text: String) {
        let name = name.into();
        eprintln!("{name:<52} {text}");
        self.remarks.insert(name, text);
    }

    /// Why there is no figure of that name, if anything was said.
    pub fn why_not(&self, name: &str) -> Option<&str> {
        self.remarks.get(name).map(String::as_str)
    }

    /// All figures of that name.
    pub fn get(&self, name: &str) -> Option<&[f64]> {
        self.figures.get(name).map(|(_, values)| &values[..])
    }

    /// Name, unit and values of each.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Unit, &[f64])> {
        let all = self.figures.iter();
        all.map(|(name, (unit, values))| (name.as_str(), *unit, &values[..]))
    }
}
