//! Stores copied: to a backup, from one, out of a damaged one.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tempfile::TempDir;
use tidelog::{Error, LogReader, LostRange, repair_told, restore_backup_told};

use super::opened::is_free;
use crate::error::CliError;
use crate::output::Output;
use crate::stop::Stop;
use crate::table::facts;
use crate::text::{counted, grouped, shown};

#[derive(Serialize)]
struct BackedUp {
    to: String,
    last_position: u64,
    copied_segments: u64,
    kept_segments: u64,
    copied_bytes: u64,
}

#[derive(Serialize)]
struct Restored {
    to: String,
    last_position: u64,
    commits: u64,
}

#[derive(Serialize)]
struct Repaired {
    to: String,
    commits: u64,
    records: u64,
    epoch: String,
    foreign_commits: u64,
    index_asked: bool,
    lost: Vec<Range>,
    lost_streams: Vec<LostStream>,
    unnamed: u64,
    accepted: bool,
}

#[derive(Serialize)]
struct Range {
    first_position: u64,
    last_position: u64,
    first_commit: u64,
    last_commit: u64,
}

#[derive(Serialize)]
struct LostStream {
    stream: String,
    sequences: Vec<(u64, u64)>,
    accepted: bool,
}

pub fn backup(path: &Path, to: &Path, out: &mut Output) -> Result<(), CliError> {
    let mut log = LogReader::open(path)?;
    let stop = Stop::between_steps();
    let next = "the backup is not complete; the same command goes on with it";
    let done = stop.end(log.backup(to, Some(&stop.callback())), next)?;
    let done = BackedUp {
        to: to.display().to_string(),
        last_position: done.last_position,
        copied_segments: done.copied_segments,
        kept_segments: done.kept_segments,
        copied_bytes: done.copied_bytes,
    };
    if out.json {
        return out.object(&done);
    }
    facts(
        out,
        &[
            ("backup", done.to),
            ("up to position", done.last_position.to_string()),
            ("copied", counted(done.copied_segments, "segment")),
            ("kept", counted(done.kept_segments, "segment")),
        ],
    )
}

pub fn restore(from: &Path, to: &Path, out: &mut Output) -> Result<(), CliError> {
    let whole = std::path::absolute(to)?;
    refuse_unless_empty(&whole)?;
    let parent = whole
        .parent()
        .map_or_else(|| PathBuf::from("/"), Path::to_owned);
    fs::create_dir_all(&parent).map_err(|error| Error::io("create", &parent, error))?;
    let name = whole
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let name = format!(".{}.", name.unwrap_or_default());
    // Beside it, and renamed when all of it is there: a store, or nothing.
    let made: TempDir = tempfile::Builder::new()
        .prefix(&name)
        .suffix(".restoring")
        .tempdir_in(&parent)
        .map_err(|error| Error::io("create a directory in", &parent, error))?;
    let stop = Stop::between_steps();
    let next = "nothing is left of it";
    let copied = restore_backup_told(from, made.path(), Some(&stop.callback()));
    stop.end(copied, next)?;
    let log = LogReader::open(made.path())?;
    let done = Restored {
        to: to.display().to_string(),
        last_position: log.last_position(),
        commits: log.info()?.commits,
    };
    refuse_unless_empty(&whole)?;
    fs::rename(made.path(), &whole).map_err(|error| Error::io("create", &whole, error))?;
    // It is not there any more under that name.
    let _ = made.keep();
    sync(&parent)?;
    if out.json {
        return out.object(&done);
    }
    facts(
        out,
        &[
            ("store", done.to),
            ("up to position", done.last_position.to_string()),
            ("commits", grouped(done.commits)),
        ],
    )
}

/// The name of what was renamed survives a power cut.
fn sync(dir: &Path) -> Result<(), CliError> {
    if cfg!(unix) {
        let synced = fs::File::open(dir).and_then(|dir| dir.sync_all());
        synced.map_err(|error| Error::io("sync", dir, error))?;
    }
    Ok(())
}

fn refuse_unless_empty(to: &Path) -> Result<(), CliError> {
    if is_free(to)? {
        return Ok(());
    }
    let reason = "there is something already, and nothing is overwritten; move it away, or give another directory";
    Err(Error::NotAStore {
        path: to.into(),
        reason: reason.into(),
    }
    .into())
}

pub fn repair_into(path: &Path, to: &Path, out: &mut Output) -> Result<(), CliError> {
    let next = "what stands there is no store; the same command begins again";
    let stop = Stop::between_steps();
    let done = stop.end(repair_told(path, to, Some(&stop.callback())), next)?;
    let range = |lost: &LostRange| Range {
        first_position: *lost.positions.start(),
        last_position: *lost.positions.end(),
        first_commit: *lost.commits.start(),
        last_commit: *lost.commits.end(),
    };
    let streams = done.losses.streams.iter().map(|lost| LostStream {
        stream: lost.stream.to_string(),
        sequences: lost
            .sequences
            .iter()
            .map(|gone| (*gone.start(), *gone.end()))
            .collect(),
        accepted: lost.accepted,
    });
    let done = Repaired {
        to: to.display().to_string(),
        commits: done.commits,
        records: done.records,
        epoch: done.epoch.to_string(),
        foreign_commits: done.foreign_commits,
        index_asked: done.index_asked,
        lost: done.lost.iter().map(range).collect(),
        lost_streams: streams.collect(),
        unnamed: done.losses.unnamed,
        accepted: done.losses.accepted,
    };
    if out.json {
        return out.object(&done);
    }
    facts(
        out,
        &[
            ("repaired into", done.to.clone()),
            (
                "kept",
                format!(
                    "{} in {}",
                    counted(done.records, "record"),
                    counted(done.commits, "commit")
                ),
            ),
        ],
    )?;
    for lost in &done.lost {
        out.line(&format!(
            "lost: positions {} to {}",
            lost.first_position, lost.last_position
        ))?;
    }
    for lost in &done.lost_streams {
        let each = lost
            .sequences
            .iter()
            .map(|(first, last)| format!("{first} to {last}"));
        let each = each.collect::<Vec<_>>().join(", ");
        let state = if lost.accepted { " (accepted)" } else { "" };
        out.line(&format!("lost: {} {each}{state}", shown(&lost.stream)))?;
    }
    if done.unnamed > 0 && !done.accepted {
        out.line(&format!(
            "lost: at most {} events whose streams are not known",
            grouped(done.unnamed)
        ))?;
    }
    if done.foreign_commits > 0 {
        out.line(&format!(
            "left out: {} commits of another history",
            grouped(done.foreign_commits)
        ))?;
    }
    if done.lost.is_empty() {
        out.line("nothing was lost")
    } else {
        out.line("streams that lost events take none until `tidelog accept-loss`")
    }
}
