//! What a power cut and a failing disk do to the store.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test that fails shall stop, and its numbers are small"
)]

mod disk;
mod faulty;
mod images;
mod io_errors;
mod mounts;
mod oracle;
mod power_cut;
mod recording;
mod scratch;
mod shim;
#[path = "../tools/sweep.rs"]
mod sweep;
#[path = "../tools/mod.rs"]
mod tools;
mod trace;
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
        ["faulty", dir] => faulty::run(dir.as_ref(), false),
        ["full", dir] => faulty::run(dir.as_ref(), true),
        ["mounted", dir] => mounts::live(dir.as_ref()),
        ["images", ref rest @ ..] => images::run(&images::Order::parse(rest)),
        _ => panic!("{order} is no order"),
    }
}
