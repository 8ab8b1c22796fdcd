//! What a power cut, a failing disk and a full one do to the store.
//!
//! A shim in C, preloaded into a child, stands between the store and the system (`tests/shim`).
//!
//! **Power cut** (`power_cut`). Children let a store live several lives; some are killed, some end by
//! a sync that fails. The shim records each call that changes something (`trace`, `recording`), and
//! among them the lines in which the workload notes what it was promised (`workload`). From the
//! recording crash images are made: at a random call everything ends, and what was not durable is
//! lost, torn or overtaken; `disk` describes the model. Each image is opened (`images`): what is left
//! must be a beginning of what was written, with all in it that was promised before the cut, every
//! stream must read like the log, and the store must go on (`oracle`). What listeners saved must be
//! there, and rows of a read model only as they were committed (`consumers`). Of some images the reopening
//! is recorded as well, and cut in its turn. `copies` cuts the copying of a log.
//!
//! **I/O errors** (`io_errors`). The nth write, sync, open, rename and so on fails, for every n; the
//! child (`faulty`) sees that the store refuses writes and still reads, opens it again, goes on, and in
//! the end everything must be there once. The same with a disk that is full from some byte on.
//!
//! **Mounted filesystems** (`mounts`). ext4 and XFS on loop devices, taken down while a child appends.
//!
//! A part runs with all tests, everything with `TIDELOG_SWEEP=full`. `TIDELOG_SEED` repeats a sweep's
//! choices, and the images of a recording that was kept; threads interleave anew each time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test that fails shall stop, and its numbers are small"
)]

mod consumers;
mod copies;
mod disk;
mod durable;
mod faulty;
mod images;
mod io_errors;
mod mounts;
mod oracle;
mod power_cut;
mod recorded;
mod recording;
mod scratch;
mod shim;
#[path = "../tools/sweep.rs"]
mod sweep;
#[path = "../tools/mod.rs"]
mod tools;
mod trace;
mod watch;
mod workload;

/// Not a test by itself: what runs under the shim.
#[test]
fn child() {
    let Ok(order) = std::env::var(shim::ORDER) else {
        return;
    };
    let words: Vec<&str> = order.split(' ').collect();
    match words[..] {
        ["life", dir, seed, steps, first] => workload::life(
            dir.as_ref(),
            seed.parse().unwrap(),
            steps.parse().unwrap(),
            first.parse().unwrap(),
        ),
        ["saving", dir, seed, _, first] => {
            workload::saving(dir.as_ref(), seed.parse().unwrap(), first.parse().unwrap());
        }
        ["copying", dir, seed, _, first] => {
            copies::live(dir.as_ref(), seed.parse().unwrap(), first.parse().unwrap());
        }
        ["faulty", dir] => faulty::run(dir.as_ref(), false),
        ["full", dir] => faulty::run(dir.as_ref(), true),
        ["mounted", dir, first] => mounts::live(dir.as_ref(), first.parse().unwrap()),
        ["images", ref rest @ ..] => images::run(&images::Order::parse(rest)),
        _ => panic!("{order} is no order"),
    }
}
