//! What changes a store in place.

use std::path::Path;

use serde::Serialize;
use tidelog::{LogReader, SledStore};

use super::opened::opened;
use crate::confirm::confirm;
use crate::error::CliError;
use crate::output::Output;
use crate::select;
use crate::stop::Stop;
use crate::text::{counted, shown};

#[derive(Serialize)]
struct Rebuilt {
    runs: u64,
    generation: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Accepted<'a> {
    accepted: Option<&'a str>,
}

const UNCHANGED: &str = "nothing was changed";

pub fn rebuild_index(path: &Path, yes: bool, out: &mut Output) -> Result<(), CliError> {
    LogReader::open(path)?;
    let change = format!(
        "this makes the index of {} again from its log: snapshots, and the rows of read models, go with the \
         old one, until the application makes them again",
        shown(&path.display().to_string())
    );
    confirm(yes, &change)?;
    let next = (
        UNCHANGED,
        "the index is made again when the store is opened",
    );
    let stop = Stop::between_steps();
    let info = opened(SledStore::builder(path), &stop, next, |store| {
        store.rebuild_index()?;
        store.info()
    })?;
    let done = Rebuilt {
        runs: info.index_runs,
        generation: info.index_generation,
        bytes: info.index_bytes,
    };
    if out.json {
        return out.object(&done);
    }
    out.line(&format!(
        "made again: generation {}, {}, {}",
        done.generation,
        counted(done.runs, "run"),
        counted(done.bytes, "byte")
    ))
}

pub fn accept_loss(
    path: &Path,
    stream: Option<&str>,
    yes: bool,
    out: &mut Output,
) -> Result<(), CliError> {
    let wanted = stream
        .map(select::stream)
        .transpose()
        .map_err(CliError::Usage)?;
    LogReader::open(path)?;
    let what = stream.map_or_else(
        || "all streams go on without the events that are gone".to_owned(),
        |stream| format!("{} goes on without the events that are gone", shown(stream)),
    );
    confirm(yes, &format!("from now on {what}"))?;
    let stop = Stop::between_steps();
    let next = (UNCHANGED, UNCHANGED);
    opened(
        SledStore::builder(path),
        &stop,
        next,
        |store| match &wanted {
            Some(stream) => store.accept_loss(stream),
            None => store.accept_all_losses(),
        },
    )?;
    if out.json {
        return out.object(&Accepted { accepted: stream });
    }
    out.line(&format!("accepted: {what}"))
}
