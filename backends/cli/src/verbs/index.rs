//! What stands in the index, from a copy of it.

use std::ops::ControlFlow;
use std::path::Path;

use serde::Serialize;
use tempfile::TempDir;
use tidelog::{Error, IndexCopy, LogReader, ModelState, StoredModel};

use crate::error::CliError;
use crate::output::Output;
use crate::stop::Stop;
use crate::table::{Column, Table, number, text, word};
use crate::text::grouped;

const NEXT: &str = "nothing was changed";

const SNAPSHOTS: [Column; 6] = [
    text("stream"),
    number("sequence"),
    number("revision"),
    text("content type"),
    word("taken"),
    number("bytes"),
];

const PROJECTIONS: [Column; 7] = [
    text("projection"),
    word("state"),
    number("version"),
    number("position"),
    number("behind"),
    number("rows"),
    number("parked"),
];

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

/// A copy of a store's index, in a directory that goes with it.
pub struct Opened {
    pub copy: IndexCopy,
    /// It ends at once, and takes the directory along.
    pub stop: Stop,
    _scratch: TempDir,
}

impl Opened {
    pub fn new(path: &Path) -> Result<Self, CliError> {
        let temporary = std::env::temp_dir();
        let scratch = tempfile::Builder::new().prefix("tidelog-index-").tempdir();
        let scratch =
            scratch.map_err(|error| Error::io("create a directory in", temporary, error))?;
        let stop = Stop::at_once(scratch.path().to_owned(), NEXT);
        let copy = stop.end(IndexCopy::open(path, scratch.path()), NEXT)?;
        Ok(Self {
            copy,
            stop,
            _scratch: scratch,
        })
    }

    pub fn models(&self) -> Result<Vec<StoredModel>, CliError> {
        let stop = &self.stop;
        let models = self
            .copy
            .models(&mut |done| stop.counted("checking entries", done));
        stop.end(models, NEXT)
    }

    /// An index that is not believed has nothing to show.
    pub fn tell_damage(&self) -> Result<(), CliError> {
        let damage = self.copy.damage();
        damage.map_or(Ok(()), |damage| Err(damage.into()))
    }
}

pub fn snapshots(
    path: &Path,
    aggregate_type: Option<&str>,
    out: &mut Output,
) -> Result<(), CliError> {
    let opened = Opened::new(path)?;
    let mut table = Table::new(&SNAPSHOTS);
    let mut failed = None;
    let listed = opened.copy.snapshots(|snapshot| {
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
    opened.tell_damage()
}

pub fn projections(path: &Path, out: &mut Output) -> Result<(), CliError> {
    let opened = Opened::new(path)?;
    let last = LogReader::open(path)?.last_position();
    let models = opened.models()?;
    let mut table = Table::new(&PROJECTIONS);
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
    opened.tell_damage()
}
