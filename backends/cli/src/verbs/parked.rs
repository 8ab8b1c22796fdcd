//! Streams that were set aside.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use tidelog::{LogReader, ParkedStream, SinkKind, SinkParked};

use super::index::Opened;
use crate::error::{CliError, DAMAGED, DONE};
use crate::output::Output;
use crate::saved::{self, Saved, State};
use crate::table::{Column, Table, number, text, word};
use crate::text::grouped;

const COLUMNS: [Column; 8] = [
    text("consumer"),
    text("stream"),
    number("position"),
    number("seq"),
    number("held"),
    number("tries"),
    word("since"),
    text("reason"),
];

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
    /// Not known of a sink, which holds all of a stream from that event on.
    held: Option<u64>,
    attempts: Option<u32>,
    /// When; of a sink it is known where the log ended then.
    since: Option<String>,
    since_position: Option<u64>,
    reason: String,
    /// A stable word for what keeps a sink from sending it.
    code: Option<&'static str>,
    /// What stands in its way at the server.
    remote_sequence: Option<u64>,
    remote_event: Option<String>,
    /// Nothing is held: the event has arrived, while others of its append have not.
    accepted: bool,
}

/// The list under way.
struct List<'a> {
    out: &'a mut Output,
    table: Table,
}

pub fn parked(path: &Path, projections: bool, out: &mut Output) -> Result<ExitCode, CliError> {
    // Before anything is shown: somebody may have it open.
    let index = projections.then(|| Opened::new(path)).transpose()?;
    let log = LogReader::open(path)?;
    let mut list = List {
        out,
        table: Table::new(&COLUMNS),
    };
    let mut faults = Vec::new();
    for Saved { name, state } in saved::of(&log, &log.info()?)? {
        match state {
            Ok(State::Listener(state)) => {
                for parked in state.parked.values().filter(|parked| parked.held() > 0) {
                    list.add(Parked::of(&name, "listener", parked))?;
                }
            }
            Ok(State::Sink(sink)) => {
                for parked in &sink.parked {
                    list.add(Parked::of_sink(&name, sink.kind, parked))?;
                }
            }
            Ok(State::Other) => {}
            Err(error) => faults.push(CliError::from(error)),
        }
    }
    if let Some(index) = &index {
        for model in index.models()? {
            for parked in model.active.iter().flat_map(|state| &state.parked) {
                list.add(Parked::of(&model.name, "projection", parked))?;
            }
        }
        faults.extend(index.tell_damage().err());
    }
    let List { out, table } = list;
    if !out.json {
        table.end(out, "nothing is parked")?;
    }
    for fault in &faults {
        out.tell(fault);
    }
    let code = if faults.is_empty() { DONE } else { DAMAGED };
    Ok(ExitCode::from(code))
}

impl<'a> Parked<'a> {
    fn of(consumer: &'a str, kind: &'static str, parked: &'a ParkedStream) -> Self {
        Self {
            consumer,
            kind,
            stream: parked.stream.as_str(),
            aggregate_type: parked.stream.aggregate_type(),
            aggregate_id: parked.stream.aggregate_id(),
            event_id: parked.event_id.to_string(),
            position: parked.position,
            sequence: parked.sequence,
            held: Some(parked.held()),
            attempts: Some(parked.attempts),
            since: Some(parked.since.to_string()),
            since_position: None,
            reason: parked.reason.to_string(),
            code: None,
            remote_sequence: None,
            remote_event: None,
            accepted: false,
        }
    }

    fn of_sink(consumer: &'a str, kind: SinkKind, parked: &'a SinkParked) -> Self {
        Self {
            consumer,
            kind: kind.code(),
            stream: parked.stream.as_str(),
            aggregate_type: parked.stream.aggregate_type(),
            aggregate_id: parked.stream.aggregate_id(),
            event_id: parked.event_id.to_string(),
            position: parked.first_position,
            sequence: parked.first_sequence,
            held: parked.accepted.then_some(0),
            attempts: None,
            since: None,
            since_position: Some(parked.since_position),
            reason: parked.reason.to_string(),
            code: Some(parked.reason.code()),
            remote_sequence: parked.remote.map(|(sequence, _)| sequence),
            remote_event: parked.remote.map(|(_, event)| event.to_string()),
            accepted: parked.accepted,
        }
    }
}

impl List<'_> {
    fn add(&mut self, parked: Parked<'_>) -> Result<(), CliError> {
        if self.out.json {
            return self.out.object(&parked);
        }
        let is_sink = parked.since_position.is_some();
        let since = parked.since_position.map(|at| format!("position {at}"));
        let of_all = if is_sink { "all" } else { "–" };
        let row = vec![
            if is_sink {
                parked.consumer.to_owned()
            } else {
                format!("{} {}", parked.kind, parked.consumer)
            },
            parked.stream.to_owned(),
            parked.position.to_string(),
            parked.sequence.to_string(),
            parked.held.map_or_else(|| of_all.into(), grouped),
            parked
                .attempts
                .map_or_else(|| "–".into(), |n| n.to_string()),
            parked.since.or(since).unwrap_or_default(),
            parked.reason,
        ];
        self.table.row(self.out, row)
    }
}
