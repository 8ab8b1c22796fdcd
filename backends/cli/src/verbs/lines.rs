//! Events as lines of JSON, out of a store and into one.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use serde::Serialize;
use tidelog::{
    Error, ExportQuery, ExportReport, ImportOptions, Limits, LogReader, Sequences, SledStore,
    export_log, import,
};

use super::events::tell_pending;
use super::opened::{is_free, opened};
use crate::error::CliError;
use crate::output::Output;
use crate::select;
use crate::stop::Stop;
use crate::text::{counted, grouped, json_shown};

/// What is written out.
pub struct Select {
    pub from: Option<u64>,
    pub to: Option<u64>,
    pub stream: Option<String>,
    pub aggregate_type: Option<String>,
    pub event_type: Option<String>,
    pub tag: Option<String>,
}

#[derive(Serialize)]
struct Exported {
    events: u64,
    batches: u64,
    bytes: u64,
    last_position: u64,
}

#[derive(Serialize)]
struct Imported {
    events: u64,
    batches: u64,
    already: u64,
}

impl Select {
    fn query(self, stop: &Stop) -> Result<ExportQuery, CliError> {
        let told = stop.clone();
        let mut query = ExportQuery::all().progress(move |events| told.counted("events", events));
        if let Some(position) = self.from {
            query = query.from(position);
        }
        if let Some(position) = self.to {
            query = query.to(position);
        }
        if let Some(stream) = self.stream {
            query = query.stream(select::stream(&stream).map_err(CliError::Usage)?);
        }
        if let Some(name) = self.aggregate_type {
            query = query.aggregate_type(name);
        }
        if let Some(name) = self.event_type {
            query = query.event_type(name);
        }
        if let Some(tag) = self.tag {
            query = query.tag(tag);
        }
        Ok(query)
    }
}

pub fn export(
    path: &Path,
    file: Option<&Path>,
    select: Select,
    out: &mut Output,
) -> Result<(), CliError> {
    let log = LogReader::open(path)?;
    let file = file.filter(|file| *file != Path::new("-"));
    let is_terminal = file.is_none() && out.width.is_some();
    let stop = if is_terminal {
        Stop::unseen()
    } else {
        Stop::between_steps()
    };
    let query = select.query(&stop)?;
    let Some(file) = file else {
        let done = if is_terminal {
            export_log(&log, &query, Shown(out.writer()))
        } else {
            export_log(&log, &query, out.writer())
        };
        stop.end(done, "whole lines were written up to there")?;
        return tell_pending(&log, out);
    };
    let done = to_file(&log, &query, file);
    let done = stop.end(done, "nothing is left of it")?;
    tell_pending(&log, out)?;
    if out.json {
        return out.object(&Exported {
            events: done.events,
            batches: done.batches,
            bytes: done.bytes,
            last_position: done.last_position,
        });
    }
    out.line(&format!(
        "exported: {}, {}, up to position {}",
        counted(done.events, "event"),
        counted(done.bytes, "byte"),
        done.last_position
    ))
}

/// Into a file of its own name once all of it is there.
fn to_file(log: &LogReader, query: &ExportQuery, file: &Path) -> Result<ExportReport, CliError> {
    let exists = || {
        let there = io::Error::from(io::ErrorKind::AlreadyExists);
        CliError::from(Error::io("create", file, there))
    };
    if file.symlink_metadata().is_ok() {
        return Err(exists());
    }
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = dir.unwrap_or(Path::new("."));
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let made = tempfile::Builder::new()
        .prefix(&format!(".{name}."))
        .suffix(".exporting")
        .tempfile_in(dir)
        .map_err(|error| Error::io("create a file in", dir, error))?;
    let done = export_log(log, query, made.as_file())?;
    made.as_file()
        .sync_all()
        .map_err(|error| Error::io("sync", file, error))?;
    made.persist_noclobber(file)
        .map_err(|error| Error::io("create", file, error.error))?;
    if cfg!(unix) {
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(|error| Error::io("sync", dir, error))?;
    }
    Ok(done)
}

/// Lines for a terminal: whole ones come at once.
struct Shown<W>(W);

impl<W: Write> Write for Shown<W> {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(lines);
        self.0.write_all(json_shown(&text).as_bytes())?;
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

pub fn import_from(
    path: &Path,
    file: &Path,
    (into_existing, renumber): (bool, bool),
    out: &mut Output,
) -> Result<(), CliError> {
    check_target(path, into_existing)?;
    let from: Box<dyn BufRead> = if file == Path::new("-") {
        Box::new(BufReader::new(io::stdin()))
    } else {
        let opened = File::open(file).map_err(|error| Error::io("open", file, error))?;
        Box::new(BufReader::with_capacity(1 << 16, opened))
    };
    let stop = Stop::between_steps();
    // Whatever the limits of the program were that appended it.
    let builder = SledStore::builder(path).limits(Limits {
        payload_bytes: 64 << 20,
        metadata_bytes: 16 << 20,
        batch_events: 1_000_000,
        batch_bytes: 256 << 20,
    });
    let told = stop.clone();
    let options = ImportOptions::default().progress(move |events| told.counted("events", events));
    let options = options.sequences(if renumber {
        Sequences::Renumber
    } else {
        Sequences::Keep
    });
    let next = "what was imported so far is whole and on the disk; with --into-existing the same command goes on";
    let next = ("nothing was imported", next);
    let done = opened(builder, &stop, next, |store| import(from, store, &options))?;
    let done = Imported {
        events: done.events,
        batches: done.batches,
        already: done.already,
    };
    if out.json {
        return out.object(&done);
    }
    out.line(&format!(
        "imported: {} in {}, {} of them were there before",
        counted(done.events, "event"),
        counted(done.batches, "append"),
        grouped(done.already)
    ))
}

/// A typing error makes no store where one was meant to be, and takes nothing into one that was not.
fn check_target(path: &Path, into_existing: bool) -> Result<(), CliError> {
    if into_existing {
        LogReader::open(path)?;
        return Ok(());
    }
    if is_free(path)? {
        return Ok(());
    }
    let what = "there is something already; nothing was imported: say --into-existing if the events shall be added to that store";
    Err(CliError::Usage(format!("{}: {what}", path.display())))
}
