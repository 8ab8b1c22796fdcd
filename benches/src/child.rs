//! One measurement in this process: open, work, close; printed as one line of JSON.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::facts;
use crate::options::{Job, Options};
use crate::works::Timing;

/// What one measurement found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// The work itself.
    pub timing: Timing,
    /// Opening the store before it.
    pub open_seconds: f64,
    /// Closing the store after it.
    pub close_seconds: f64,
    /// Most memory this process ever had, KiB.
    pub peak_kib: u64,
    /// Bytes the store takes on disk, closed.
    pub disk_bytes: u64,
    /// Bytes that the process had written to storage.
    pub written_bytes: u64,
    /// Bytes written to the block device from before the process to after a sync behind it, by
    /// whoever; `None` where there is no such device.
    pub device_bytes: Option<u64>,
}

/// Runs `job` on the store in the directory given and prints what was measured.
pub fn run(job: Job, options: &Options) -> Outcome<()> {
    let streams = job.work.streams(options)?;
    let start = Instant::now();
    let mut contender = match options.tuning() {
        Some(tuning) => job.contender.open_tuned(&options.dir, streams, &tuning)?,
        None => job.contender.open(&options.dir, streams)?,
    };
    let open_seconds = start.elapsed().as_secs_f64();
    let timing = job.work.run(contender.as_mut(), options)?;
    let start = Instant::now();
    contender.close()?;
    let close_seconds = start.elapsed().as_secs_f64();
    let measured = Measured {
        timing,
        open_seconds,
        close_seconds,
        peak_kib: facts::peak_kib(),
        disk_bytes: facts::disk_bytes(&options.dir)?,
        written_bytes: facts::written_bytes(),
        device_bytes: None,
    };
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}
