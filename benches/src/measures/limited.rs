//! A work that is ended when it takes too long.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::child::Measured;
use crate::facts;
use crate::options::{Job, Options};
use crate::rounds;

/// What became of it.
pub enum Limited {
    /// It was done in time.
    Whole(Measured),
    /// It was ended.
    Ended {
        /// Events acknowledged by then.
        events: u64,
        /// Most memory until then, KiB.
        peak_kib: u64,
    },
}

/// Does a job that tells its count in a process of its own, for as long as the options allow.
pub fn measure(job: Job, dir: &Path, options: &Options) -> Outcome<Limited> {
    let deadline = Instant::now() + Duration::from_secs(options.large_seconds);
    let mut options = options.clone();
    options.tell = true;
    rounds::sync()?;
    let mut child = rounds::command(dir, &options)?
        .arg(format!("--child={job}"))
        .stdout(Stdio::piped())
        .spawn()?;
    let told = child.stdout.take().ok_or("the child has no output")?;
    let (tell, lines) = mpsc::channel();
    // Reading waits for as long as the child pleases; it ends with the child.
    let reader = thread::spawn(move || {
        for line in BufReader::new(told).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                break;
            }
        }
    });
    let (mut events, mut measured) = (0, None);
    let late = loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => match line.parse() {
                Ok(told) => events = told,
                Err(_) => measured = Some(serde_json::from_str(&line)?),
            },
            Err(mpsc::RecvTimeoutError::Timeout) => break true,
            Err(mpsc::RecvTimeoutError::Disconnected) => break false,
        }
    };
    let peak_kib = facts::peak_kib_of(&child.id().to_string());
    if late {
        child.kill()?;
    }
    let status = child.wait()?;
    reader.join().map_err(|_| "the reader panicked")?;
    match measured {
        Some(measured) if status.success() => Ok(Limited::Whole(measured)),
        _ if late => Ok(Limited::Ended { events, peak_kib }),
        _ => Err(format!("{job} failed: {status}").into()),
    }
}
