//! What stands in the index, from a copy of it.

use std::ops::ControlFlow;
use std::path::Path;

use serde::Serialize;
use tempfile::TempDir;
use tidelog::{IndexCopy, LogReader, ModelState};

use crate::error::CliError;
use crate::output::Output;
use crate::stop::Stop;
use crate::table::Table;
use crate::text::grouped;

const NEXT: &str = "nothing was changed";

#[derive(Serialize)]
struct Snapshot<'a> {
    stream: &'a str,
    aggregate_type: &'a str,
    aggregate_id: &'a str,
    sequence: u64,
    event_id: String,
    revision: u32,
    content_type: &'a str,
    taken_time: String,
    bytes: u64,
}

#[derive(Serialize)]
struct Projection<'a> {
    name: &'a str,
    state: &'static str,
    version: u32,
    position: u64,
    behind: u64,
    rows: u64,
    parked: u64,
}

/// Where a copy of an index is put; taken away with the value.
pub fn scratch() -> Result<TempDir, CliError> {
    Ok(tempfile::Builder::new()
        .prefix("tidelog-index-")
        .tempdir()?)
}

/// A copy of the index of the store at `path`.
pub fn open(path: &Path, scratch: &TempDir) -> Result<(IndexCopy, Stop), CliError> {
    let stop = Stop::at_once(Some(scratch.path().to_owned()), NEXT);
    let copy = stop.end(IndexCopy::open(path, scratch.path()), NEXT)?;
    Ok((copy, stop))
}

/// An index that is not believed has nothing to show.
pub fn tell_damage(copy: &IndexCopy) -> Result<(), CliError> {
    copy.damage().map_or(Ok(()), |damage| Err(damage.into()))
}

pub fn snapshots(
    path: &Path,
    aggregate_type: Option<&str>,
    out: &mut Output,
) -> Result<(), CliError> {
    let dir = scratch()?;
    let (copy, _stop) = open(path, &dir)?;
    let heads = &[
        "stream",
        "sequence",
        "revision",
        "content type",
        "taken",
        "bytes",
    ];
    let mut table = Table::new(heads, &[1, 2, 5]);
    let mut failed = None;
    let listed = copy.snapshots(|snapshot| {
        if aggregate_type.is_some_and(|wanted| wanted != snapshot.stream.aggregate_type()) {
            return ControlFlow::Continue(());
        }
        let line = Snapshot {
            stream: snapshot.stream.as_str(),
            aggregate_type: snapshot.stream.aggregate_type(),
            aggregate_id: snapshot.stream.aggregate_id(),
            sequence: snapshot.sequence,
            event_id: snapshot.event_id.to_string(),
            revision: snapshot.revision,
            content_type: snapshot.content_type.as_str(),
            taken_time: snapshot.taken_time.to_string(),
            bytes: snapshot.state.len() as u64,
        };
        let written = if out.json {
            out.object(&line)
        } else {
            let row = vec![
                line.stream.to_owned(),
                line.sequence.to_string(),
                line.revision.to_string(),
                line.content_type.to_owned(),
                line.taken_time,
                grouped(line.bytes),
            ];
            table.row(out, row)
        };
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    });
    listed?;
    if let Some(error) = failed {
        return Err(error);
    }
    if !out.json {
        table.end(out, "no snapshots")?;
    }
    tell_damage(&copy)
}

pub fn projections(path: &Path, out: &mut Output) -> Result<(), CliError> {
    let dir = scratch()?;
    let (copy, stop) = open(path, &dir)?;
    let last = LogReader::open(path)?.last_position();
    let models = copy.models(&mut |done| stop.counted("checking entries", done));
    let models = stop.end(models, NEXT)?;
    let heads = &[
        "projection",
        "state",
        "version",
        "position",
        "behind",
        "rows",
        "parked",
    ];
    let mut table = Table::new(heads, &[2, 3, 4, 5, 6]);
    for model in &models {
        let mut write = |state: &ModelState, what: &'static str| {
            let checkpoint = state.checkpoint;
            let line = Projection {
                name: &model.name,
                state: what,
                version: checkpoint.version,
                position: checkpoint.position,
                behind: last.saturating_sub(checkpoint.position),
                rows: checkpoint.rows,
                parked: state.parked.len() as u64,
            };
            if out.json {
                return out.object(&line);
            }
            let row = vec![
                line.name.to_owned(),
                what.to_owned(),
                line.version.to_string(),
                line.position.to_string(),
                grouped(line.behind),
                grouped(line.rows),
                grouped(line.parked),
            ];
            table.row(out, row)
        };
        if let Some(state) = &model.active {
            write(state, "active")?;
        }
        if let Some(state) = &model.building {
            write(state, "being made anew")?;
        }
    }
    if !out.json {
        table.end(out, "no read models are kept in it")?;
    }
    tell_damage(&copy)
}
