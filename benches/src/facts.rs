//! What stands around a measurement: the machine, the disk, this process.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::Outcome;

/// Most memory this process ever had, KiB; 0 where the system does not say.
pub fn peak_kib() -> u64 {
    peak_kib_of("self")
}

/// The same of the process with that id.
pub fn peak_kib_of(process: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}

/// Processor time of this process so far, all threads, in steps of 10 ms; 0 where the system does
/// not say.
pub fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The process's name stands in parentheses and may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}

/// Bytes that this process had written to storage so far, less what was removed before it got there;
/// 0 where the system does not say. What it left in the page cache counts already.
pub fn written_bytes() -> u64 {
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let field = |name: &str| {
        let line = io.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse::<u64>().ok())
            .unwrap_or_default()
    };
    field("write_bytes:").saturating_sub(field("cancelled_write_bytes:"))
}

/// Bytes ever written to the block device that `dir` is on, by whoever; `None` where it is on none.
pub fn device_bytes(dir: &Path) -> Option<u64> {
    let device = fs::metadata(dir).ok()?.dev();
    // As glibc takes a device's number apart.
    let major = ((device >> 8) & 0xfff) | ((device >> 32) & !0xfff);
    let minor = (device & 0xff) | ((device >> 12) & !0xff);
    let stat = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?;
    let sectors: u64 = stat.split_whitespace().nth(6)?.parse().ok()?;
    // Its unit is 512 bytes whatever the device's own sectors are.
    Some(sectors * 512)
}

/// How many threads wanted to run, on average over the last minute.
pub fn load_average() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or("unknown").to_owned()
}

/// Bytes allocated on disk for all files under `dir`.
pub fn disk_bytes(dir: &Path) -> Outcome<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() {
            disk_bytes(&entry.path())?
        } else {
            // `blocks` counts units of 512 bytes whatever the filesystem's own blocks are.
            metadata.blocks() * 512
        };
    }
    Ok(bytes)
}

/// Reads every file under `dir` once, so that it stands in the page cache.
pub fn warm(dir: &Path) -> Outcome<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            warm(&path)?;
        } else {
            std::io::copy(&mut fs::File::open(path)?, &mut std::io::sink())?;
        }
    }
    Ok(())
}

/// Fails when `dir` is on a filesystem without a disk: a sync would cost nothing there.
pub fn refuse_memory_disk(dir: &Path) -> Outcome<()> {
    fs::create_dir_all(dir)?;
    match filesystem(dir).as_deref() {
        Some(kind @ ("tmpfs" | "ramfs")) => {
            let dir = dir.display();
            Err(format!("{dir} is on {kind}, where a sync costs nothing; give --dir").into())
        }
        _ => Ok(()),
    }
}

/// The machine as lines of `name: value`.
pub fn machine(dir: &Path) -> Vec<String> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_once(':'));
        value.map_or("unknown".into(), |(_, value)| value.trim().to_owned())
    };
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    vec![
        format!(
            "CPU: {cpus} × {}",
            field(&read("/proc/cpuinfo"), "model name")
        ),
        format!("memory: {}", field(&read("/proc/meminfo"), "MemTotal")),
        format!(
            "kernel: Linux {}",
            read("/proc/sys/kernel/osrelease").trim()
        ),
        format!(
            "filesystem of the data: {}",
            filesystem(dir).unwrap_or_else(|| "unknown".into())
        ),
    ]
}

/// Type of the filesystem that `dir` is on.
fn filesystem(dir: &Path) -> Option<String> {
    let dir = dir.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            Some((words.next()?, words.next()?))
        })
        .filter(|(place, _)| dir.starts_with(place))
        .max_by_key(|(place, _)| place.len())
        .map(|(_, kind)| kind.to_owned())
}
