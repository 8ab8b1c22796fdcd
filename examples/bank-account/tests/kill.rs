//! An import that is killed again and again.
//!
//! Ten times the import is started and killed (`SIGKILL`) at a random moment: while it opens the
//! store, heals it, passes over what is there, or writes. Then it runs to its end. Whatever moment
//! was hit, the sums are those of the file, nothing stands twice, and the store verifies.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::thread::sleep;
use std::time::Duration;

use std::process::Stdio;

mod common;
use common::{assert_clean, assert_totals, bank, data, import_all, row};

/// `SplitMix64`: enough to choose moments, and the same for the same seed.
struct Moments(u64);

impl Moments {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

fn seed() -> u64 {
    match std::env::var("BANK_KILL_SEED") {
        Ok(seed) => seed.parse().expect("BANK_KILL_SEED is a number"),
        Err(_) => tidelog::EventId::generate().as_uuid().as_u64_pair().1,
    }
}

#[test]
fn an_import_killed_ten_times_ends_with_the_same_sums() {
    let seed = seed();
    println!("BANK_KILL_SEED={seed}");
    let mut moments = Moments(seed);
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("bank");
    let mut hit = 0;
    for kill in 1..=10 {
        let mut child = bank(&store, &["import", data().to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Later runs pass over more before they write, so they are given more time.
        let millis = 20 + moments.below(200 + 150 * kill);
        sleep(Duration::from_millis(millis));
        let running = child.try_wait().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        match running {
            None => hit += 1,
            Some(status) => assert!(status.success(), "run {kill} failed by itself: {status}"),
        }
        println!("kill {kill} after {millis} ms");
    }
    assert!(hit >= 3, "only {hit} of ten kills met a running import");

    let report = import_all(&store);
    assert_totals(&report);
    assert_eq!(row(&report, "refused"), "80");
    println!(
        "{} deposits had survived the kills",
        row(&report, "imported before")
    );
    assert_clean(&store);
}
