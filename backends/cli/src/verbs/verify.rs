//! Whether all of a store is whole.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use tidelog::{Error, ErrorKind, LogReader, VerifyReport};

use super::index::Opened;
use crate::error::{CliError, DAMAGED, DONE};
use crate::output::Output;
use crate::saved;
use crate::stop::Stop;
use crate::table::facts;
use crate::text::grouped;

#[derive(Serialize)]
struct Verified {
    ok: bool,
    segments: u64,
    commits: u64,
    records: u64,
    streams: u64,
    lost: u64,
    pending_commits: u64,
    listeners: u64,
    indexed: Option<u64>,
    faults: Vec<Fault>,
}

#[derive(Serialize)]
struct Fault {
    code: &'static str,
    message: String,
}

pub fn verify(path: &Path, index: bool, out: &mut Output) -> Result<ExitCode, CliError> {
    let next = "nothing was changed";
    let index = index.then(|| Opened::new(path)).transpose()?;
    let stop = index.as_ref().map(|index| index.stop.clone());
    let stop = stop.unwrap_or_else(Stop::between_steps);
    let log = LogReader::open(path)?;
    let told = stop.callback();
    let checked = match &index {
        Some(index) => index.copy.check(&log, Some(&told)),
        None => log.verify(Some(&told)),
    };
    let mut faults = Vec::new();
    let report = found(stop.end(checked, next), &mut faults)?;
    let (mut listeners, report) = (0, report.unwrap_or_default());
    for saved in saved::of(&log, &log.info()?)? {
        listeners += 1;
        found(saved.state.map_err(CliError::from), &mut faults)?;
    }
    let verified = Verified {
        ok: faults.is_empty(),
        segments: report.segments,
        commits: report.commits,
        records: report.records,
        streams: report.streams,
        lost: report.lost,
        pending_commits: log.pending_commits(),
        listeners,
        indexed: index.is_some().then_some(report.indexed),
        faults,
    };
    write(&verified, report, out)?;
    let code = if verified.ok { DONE } else { DAMAGED };
    Ok(ExitCode::from(code))
}

/// Damage is what is looked for; whatever else went wrong ends it.
fn found<T>(answer: Result<T, CliError>, faults: &mut Vec<Fault>) -> Result<Option<T>, CliError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(CliError::Store(error)) if error.kind() == ErrorKind::Repair => {
            faults.push(Fault::of(&error));
            Ok(None)
        }
        Err(other) => Err(other),
    }
}

impl Fault {
    fn of(error: &Error) -> Self {
        Self {
            code: error.code(),
            message: error.to_string(),
        }
    }
}

fn write(verified: &Verified, report: VerifyReport, out: &mut Output) -> Result<(), CliError> {
    if out.json {
        return out.object(verified);
    }
    for fault in &verified.faults {
        out.line(&format!("FAULT  {}", crate::text::shown(&fault.message)))?;
    }
    if report == VerifyReport::default() && !verified.ok {
        return Ok(());
    }
    let mut all = vec![
        ("segments", grouped(verified.segments)),
        ("commits", grouped(verified.commits)),
        ("records", grouped(verified.records)),
        ("streams", grouped(verified.streams)),
        ("listeners", grouped(verified.listeners)),
    ];
    all.push(match verified.indexed {
        Some(indexed) => ("index", format!("{} entries", grouped(indexed))),
        None => ("index", "not looked at; --index does".into()),
    });
    if verified.lost > 0 {
        let lost = grouped(verified.lost);
        all.push((
            "lost",
            format!("{lost} records, by a repair, as the log says"),
        ));
    }
    if verified.pending_commits > 0 {
        let pending = grouped(verified.pending_commits);
        all.push(("pending", format!("{pending} newer commits, not looked at")));
    }
    facts(out, &all)?;
    if verified.ok {
        out.line("no fault found")?;
    }
    Ok(())
}
