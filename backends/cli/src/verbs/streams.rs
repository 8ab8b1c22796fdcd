//! Which streams there are.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::path::Path;

use serde::Serialize;
use tidelog::{LogQuery, LogReader, RecordKind, StreamId, Timestamp};

use super::events::tell_pending;
use crate::args::Sort;
use crate::error::CliError;
use crate::output::Output;
use crate::stop::Stop;
use crate::table::{Column, Table, number, text, word};
use crate::text::grouped;

/// Records between two looks at whether to go on.
const STEP: u64 = 1_024;

const COLUMNS: [Column; 5] = [
    text("stream"),
    number("events"),
    number("last"),
    number("position"),
    word("recorded"),
];

#[derive(Serialize)]
struct Line<'a> {
    stream: &'a str,
    aggregate_type: &'a str,
    aggregate_id: &'a str,
    events: u64,
    last_sequence: u64,
    last_position: u64,
    last_recorded_time: String,
}

/// What is met of one stream.
#[derive(Clone, Copy, Default)]
struct Met {
    events: u64,
    sequence: u64,
    position: u64,
    recorded: Timestamp,
}

pub fn streams(
    path: &Path,
    aggregate_type: Option<&str>,
    (sort, limit): (Sort, Option<usize>),
    out: &mut Output,
) -> Result<(), CliError> {
    let log = LogReader::open(path)?;
    let stop = Stop::between_steps();
    let mut streams: HashMap<StreamId, Met> = HashMap::new();
    let mut failed = None;
    for (done, read) in (0_u64..).zip(log.read(LogQuery::all())) {
        if done.is_multiple_of(STEP) && stop.counted("records read:", done).is_break() {
            stop.done();
            return Err(CliError::Stopped("nothing was changed".into()));
        }
        let event = match read {
            Ok(event) => event,
            Err(error) => {
                failed = Some(error);
                break;
            }
        };
        let is_wanted = aggregate_type.is_none_or(|wanted| wanted == event.aggregate_type());
        if event.kind == RecordKind::Control || !is_wanted || log.superseded_at(&event).is_some() {
            continue;
        }
        let met = streams.entry(event.stream).or_default();
        met.events += 1;
        met.sequence = event.sequence;
        met.position = event.position.unwrap_or_default();
        met.recorded = event.recorded_time;
    }
    stop.done();
    let mut streams: Vec<_> = streams.into_iter().collect();
    match sort {
        Sort::Name => streams.sort_unstable_by(|a, b| a.0.cmp(&b.0)),
        Sort::Events => {
            streams.sort_unstable_by_key(|(_, met)| (Reverse(met.events), met.position));
        }
        Sort::Newest => streams.sort_unstable_by_key(|(_, met)| Reverse(met.position)),
    }
    streams.truncate(limit.unwrap_or(usize::MAX));
    let mut table = Table::new(&COLUMNS);
    for (stream, met) in &streams {
        let line = Line {
            stream: stream.as_str(),
            aggregate_type: stream.aggregate_type(),
            aggregate_id: stream.aggregate_id(),
            events: met.events,
            last_sequence: met.sequence,
            last_position: met.position,
            last_recorded_time: met.recorded.to_string(),
        };
        if out.json {
            out.object(&line)?;
            continue;
        }
        let row = vec![
            line.stream.to_owned(),
            grouped(met.events),
            met.sequence.to_string(),
            met.position.to_string(),
            line.last_recorded_time,
        ];
        table.row(out, row)?;
    }
    if !out.json {
        table.end(out, "no streams")?;
    }
    tell_pending(&log, out)?;
    // What is listed is of the events before it.
    failed.map_or(Ok(()), |error| Err(error.into()))
}
