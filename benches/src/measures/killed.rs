//! A process killed in the middle of W3.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;

use crate::Outcome;
use crate::contenders::Kind;
use crate::options::{Job, Options};
use crate::rounds;
use crate::works::Work;

/// What `kill -9` sends.
const KILL: i32 = 9;

/// Appends to new streams of the store in `dir` until `events` of them are acknowledged, then kills
/// the process that does it.
pub fn kill(dir: &Path, options: &Options, events: u64) -> Outcome<()> {
    let job = Job {
        work: Work::W3,
        contender: Kind::Tidelog,
    };
    let mut options = options.clone();
    options.tell = true;
    options.first_stream = usize::try_from(options.streams.unwrap_or_default())?;
    let mut child = rounds::command(dir, &options)?
        .arg(format!("--child={job}"))
        .stdout(Stdio::piped())
        .spawn()?;
    let told = child.stdout.take().ok_or("the child has no output")?;
    for line in BufReader::new(told).lines() {
        if line?.parse::<u64>().is_ok_and(|told| told >= events) {
            child.kill()?;
            break;
        }
    }
    let status = child.wait()?;
    if status.signal() != Some(KILL) {
        return Err(format!("{job} ended before it was killed: {status}").into());
    }
    Ok(())
}
