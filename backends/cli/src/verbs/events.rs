//! Events, and those that come.

use std::path::Path;
use std::thread;
use std::time::Duration;

use tidelog::LogReader;

use crate::args::Show;
use crate::error::CliError;
use crate::event;
use crate::output::Output;
use crate::select::Selection;

/// How often the log is looked at for more. A writer's newest commit is vouched for 20 ms after it.
const LOOK: Duration = Duration::from_millis(100);
const NONE: &str = "no such events";

pub fn events(
    path: &Path,
    select: &Selection,
    (limit, last): (Option<u64>, Option<usize>),
    show: &Show,
    out: &mut Output,
) -> Result<(), CliError> {
    let log = LogReader::open(path)?;
    event::head(out, show)?;
    let mut any = false;
    if let Some(most) = last {
        let (newest, ended) = select.newest(&log, most);
        for selected in newest {
            any = true;
            event::write(out, &selected, show)?;
        }
        ended.map_or(Ok(()), Err)?;
    } else {
        let most = usize::try_from(limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        for selected in select.read(&log, 1).take(most) {
            any = true;
            event::write(out, &selected?, show)?;
        }
    }
    if !any {
        out.note(NONE)?;
    }
    tell_pending(&log, out)
}

pub fn tail(
    path: &Path,
    select: &Selection,
    (lines, follow): (usize, bool),
    show: &Show,
    out: &mut Output,
) -> Result<(), CliError> {
    let mut log = LogReader::open(path)?;
    event::head(out, show)?;
    let mut seen = log.last_position();
    let (newest, ended) = select.newest(&log, lines);
    let none = newest.is_empty();
    for selected in newest {
        event::write(out, &selected, show)?;
    }
    ended.map_or(Ok(()), Err)?;
    if none && lines > 0 && !follow {
        out.note(NONE)?;
    }
    if !follow {
        return tell_pending(&log, out);
    }
    while !select.ends_at(seen) {
        out.flush()?;
        thread::sleep(LOOK);
        log.refresh()?;
        if log.last_position() == seen && log.damage().is_none() {
            continue;
        }
        for selected in select.read(&log, seen + 1) {
            event::write(out, &selected?, show)?;
        }
        seen = log.last_position();
    }
    Ok(())
}

/// What is whole and not shown: of a writer at work, or of a process that was killed.
pub fn tell_pending(log: &LogReader, out: &mut Output) -> Result<(), CliError> {
    match log.pending_commits() {
        0 => Ok(()),
        pending => out.note(&format!(
            "{pending} newer commits are whole, and left out: nothing says yet that they are on the disk"
        )),
    }
}
