//! A whole run: rounds of each kind of payload, then the large works; the report is written as it
//! goes.

use std::fs;

use crate::Outcome;
use crate::facts;
use crate::load::PayloadKind;
use crate::measures::{Found, Large};
use crate::options::Options;
use crate::report;
use crate::rounds::{self, Rounds};

/// What a run has measured so far.
struct Run<'a> {
    options: &'a Options,
    load_before: String,
    measured: Vec<(PayloadKind, Rounds)>,
    found: Found,
}

/// Runs all rounds and prints the tables. They are written down after each round, so that a run that
/// was interrupted leaves what it measured.
pub fn run(options: &Options) -> Outcome<()> {
    facts::refuse_memory_disk(&options.dir)?;
    if options.large {
        Large::check(options)?;
    }
    let mut run = Run {
        options,
        load_before: facts::load_average(),
        measured: Vec::new(),
        found: Found::default(),
    };
    for (kind, options) in options.by_payload() {
        let all = options.rounds.unwrap_or_default();
        let mut measured = Rounds::new();
        for round in 0..all {
            let done = format!("round {} of {all}, {kind} payloads", round + 1);
            eprintln!("{done}");
            rounds::round(&options, round, &mut measured, &mut run.found)?;
            run.measured.retain(|(other, _)| *other != kind);
            run.measured.push((kind, measured.clone()));
            run.write(Some(&done))?;
        }
    }
    if options.large {
        for round in 0..options.large_rounds {
            for part in Large::ALL {
                let done = format!(
                    "large round {} of {}, {part}",
                    round + 1,
                    options.large_rounds
                );
                eprintln!("{done}");
                part.run(options, round, &mut run.found)?;
                run.write(Some(&done))?;
            }
        }
    }
    println!("{}", run.write(None)?);
    if let Some(out) = options.results_file() {
        eprintln!("written to {}", out.display());
    }
    Ok(())
}

impl Run<'_> {
    /// Writes the report of what is there; `until` is what was done last, unless all is done.
    fn write(&self, until: Option<&str>) -> Outcome<String> {
        let mut facts = facts::machine(&self.options.dir);
        facts.push(format!(
            "load average: {} before the run, {} after",
            self.load_before,
            facts::load_average()
        ));
        facts.extend(until.map(|until| format!("**not the whole run**: written after {until}")));
        let text = report::write(self.options, &facts, &self.measured, &self.found);
        if let Some(out) = self.options.results_file() {
            fs::write(out, &text)?;
        }
        Ok(text)
    }
}
