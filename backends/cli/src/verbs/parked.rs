//! Streams that were set aside.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use tidelog::{ListenerState, LogReader, ParkedStream};

use super::index;
use crate::error::{CliError, DAMAGED, DONE};
use crate::output::Output;
use crate::table::Table;
use crate::text::grouped;

#[derive(Serialize)]
struct Parked<'a> {
    consumer: &'a str,
    kind: &'static str,
    stream: &'a str,
    aggregate_type: &'a str,
    aggregate_id: &'a str,
    event_id: String,
    position: u64,
    sequence: u64,
    held: u64,
    attempts: u32,
    since: String,
    reason: &'a str,
}

/// The list under way.
struct List<'a> {
    out: &'a mut Output,
    table: Table,
}

pub fn parked(path: &Path, projections: bool, out: &mut Output) -> Result<ExitCode, CliError> {
    // Before anything is shown: somebody may have it open.
    let dir = index::scratch()?;
    let copy = projections.then(|| index::open(path, &dir)).transpose()?;
    let log = LogReader::open(path)?;
    let heads = &[
        "consumer", "stream", "position", "seq", "held", "tries", "since", "reason",
    ];
    let mut list = List {
        out,
        table: Table::new(heads, &[2, 3, 4, 5]),
    };
    let (mut faults, mut sinks) = (Vec::new(), Vec::new());
    for saved in log.saved()? {
        if saved.name.starts_with("sink.") {
            sinks.push(saved.name);
            continue;
        }
        let state = saved
            .state
            .and_then(|bytes| ListenerState::decode(&saved.name, &bytes));
        match state {
            Ok(state) => {
                for parked in state.parked.values().filter(|parked| parked.held() > 0) {
                    list.add(&saved.name, "listener", parked)?;
                }
            }
            Err(error) => faults.push(CliError::from(error)),
        }
    }
    if let Some((copy, stop)) = &copy {
        let models = copy.models(&mut |done| stop.counted("checking entries", done));
        for model in stop.end(models, "nothing was changed")? {
            for parked in model.active.iter().flat_map(|state| &state.parked) {
                list.add(&model.name, "projection", parked)?;
            }
        }
        faults.extend(index::tell_damage(copy).err());
    }
    let List { out, table } = list;
    if !out.json {
        table.end(out, "nothing is parked")?;
    }
    for sink in sinks {
        out.note(&format!(
            "what {sink} has parked is shown by the application that replicates or publishes this store"
        ))?;
    }
    for fault in &faults {
        out.tell(fault);
    }
    let code = if faults.is_empty() { DONE } else { DAMAGED };
    Ok(ExitCode::from(code))
}

impl List<'_> {
    fn add(
        &mut self,
        consumer: &str,
        kind: &'static str,
        parked: &ParkedStream,
    ) -> Result<(), CliError> {
        let line = Parked {
            consumer,
            kind,
            stream: parked.stream.as_str(),
            aggregate_type: parked.stream.aggregate_type(),
            aggregate_id: parked.stream.aggregate_id(),
            event_id: parked.event_id.to_string(),
            position: parked.position,
            sequence: parked.sequence,
            held: parked.held(),
            attempts: parked.attempts,
            since: parked.since.to_string(),
            reason: &parked.reason,
        };
        if self.out.json {
            return self.out.object(&line);
        }
        let row = vec![
            format!("{kind} {consumer}"),
            line.stream.to_owned(),
            line.position.to_string(),
            line.sequence.to_string(),
            grouped(line.held),
            line.attempts.to_string(),
            line.since,
            line.reason.to_owned(),
        ];
        self.table.row(self.out, row)
    }
}
