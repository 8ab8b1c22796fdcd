//! The sweep of power cuts: records lives of stores, goes through the images, and counts.

use std::time::Instant;

use crate::disk::Image;
use crate::recorded::{Ends, Recorded};
use crate::shim::{self, Flag};
use crate::sweep::{self, Random};
use crate::tools;
use crate::trace::{Op, Record};
use crate::watch::Found;
use crate::workload::{NOTES, STORE};

/// The filesystems played, one a recording, in turns.
const FLAGS: [Flag; 4] = [
    Flag::Inherited,
    Flag::Refused,
    Flag::PerFile,
    Flag::Inherited,
];
/// Lives that end in every way, and fill some segments.
const ALL_ENDS: [Ends; 5] = [
    Ends::ByItself,
    Ends::Killed(300),
    Ends::SyncFails(50),
    Ends::ByItself,
    Ends::ByItself,
];

#[test]
fn the_trace_makes_every_file_again_byte_for_byte() {
    let Some(library) = shim::library() else {
        return;
    };
    for flag in [Flag::Inherited, Flag::PerFile, Flag::Refused] {
        let recorded = Recorded::ending(library, flag, sweep::seed(), &ALL_ENDS);
        let root = recorded.root();
        let mut differences = Image::whole(&recorded.recording()).differences(&root);
        differences.retain(|path| path != NOTES);
        assert!(
            differences.is_empty(),
            "the shim missed calls: {differences:?}"
        );
        assert!(tools::segments(&root.join(STORE)).len() > 2);
    }
}

#[test]
fn a_disk_that_forgets_what_was_synced_is_noticed() {
    let Some(library) = shim::library() else {
        return;
    };
    let recorded = Recorded::ending(library, Flag::Inherited, sweep::seed(), &ALL_ENDS);
    let found = recorded.images(20, false);
    found.print("syncs that do nothing");
    assert!(found.wrong.len() > 5, "{found:?}");
}

#[test]
fn a_store_whose_making_was_cut_short_is_as_durable_as_any() {
    let Some(library) = shim::library() else {
        return;
    };
    let seed = sweep::seed();
    eprintln!("TIDELOG_SEED={seed}");
    let mut random = Random(seed);
    let mut all = Found::default();
    let (kills, failures) = if sweep::is_full() { (20, 10) } else { (5, 2) };
    // What it makes first are directories, whose names are not synced yet when it ends.
    let kills = (2..2 + kills).map(Ends::Killed);
    for ends in kills.chain((1..=failures).map(Ends::SyncFails)) {
        let lives = [ends, Ends::ByItself];
        let recorded = Recorded::ending(library, Flag::Inherited, random.next(), &lives);
        let found = recorded.images(6, true);
        if !found.wrong.is_empty() {
            found.print(&format!("{ends:?}"));
        }
        all.add(found);
    }
    all.print("making cut short");
    assert!(all.wrong.is_empty(), "{}", all.wrong.join("\n"));
}

/// Whoever finds the folder there does not know whether its name is on the disk.
#[test]
fn a_checkpoint_stands_in_a_folder_that_was_made_by_a_process_killed_in_it() {
    let Some(library) = shim::library() else {
        return;
    };
    let seed = sweep::seed();
    eprintln!("TIDELOG_SEED={seed}");
    let records = Recorded::saving(library, seed, &[Ends::ByItself]).records();
    let folder = |record: &Record| record.op == Op::MakeDir && record.path.ends_with("listeners");
    let made = records.iter().position(folder).unwrap();
    let (before, after) = if sweep::is_full() { (10, 20) } else { (2, 4) };
    let mut all = Found::default();
    // Other threads' calls come between.
    for call in made - before..made + after {
        let lives = [Ends::Killed(call), Ends::ByItself];
        let recorded = Recorded::saving(library, seed, &lives);
        all.add(recorded.images(20, true));
    }
    all.print("the folder of checkpoints");
    assert!(all.wrong.is_empty(), "{}", all.wrong.join("\n"));
}

/// Without the flag on its files sled's writes wait for a sync, and one that failed is not made up for.
#[test]
fn an_index_whose_first_sync_failed_is_not_gone_on_with() {
    let Some(library) = shim::library() else {
        return;
    };
    let seed = sweep::seed();
    eprintln!("TIDELOG_SEED={seed}");
    let records = Recorded::ending(library, Flag::PerFile, seed, &[Ends::ByItself]).records();
    let syncs = records
        .iter()
        .filter(|record| record.op == Op::SyncBegin && record.path.starts_with(STORE));
    let first = syncs
        .enumerate()
        .find(|(_, record)| record.path.ends_with("/db"));
    let first = 1 + first.unwrap().0;
    let mut all = Found::default();
    // Other threads' syncs come between.
    for sync in first - 2..first + 2 {
        let lives = [Ends::SyncFails(sync), Ends::ByItself];
        let recorded = Recorded::ending(library, Flag::PerFile, seed, &lives);
        all.add(recorded.images(if sweep::is_full() { 60 } else { 20 }, true));
    }
    all.print("the first sync of sled");
    assert!(all.wrong.is_empty(), "{}", all.wrong.join("\n"));
}

#[test]
fn after_a_power_cut_everything_promised_is_there() {
    let Some(library) = shim::library() else {
        return;
    };
    let seed = sweep::seed();
    eprintln!("TIDELOG_SEED={seed}");
    let (recordings, images) = if sweep::is_full() { (40, 100) } else { (3, 40) };
    let mut random = Random(seed);
    let mut all = Found::default();
    let began = Instant::now();
    for n in 0..recordings {
        let flag = FLAGS[n % FLAGS.len()];
        let recorded = Recorded::new(library, flag, random.next() >> 1, 8);
        let found = recorded.images(images, true);
        found.print(&format!("recording {n}, flag {flag:?}"));
        eprint!("{}", found.rebuilt.table());
        if !found.wrong.is_empty() {
            eprintln!("kept: {}", recorded.keep().display());
        }
        all.add(found);
    }
    all.print("power cuts");
    eprint!("{}", all.rebuilt.table());
    eprintln!("in {:.0} s", began.elapsed().as_secs_f32());
    assert!(all.wrong.is_empty(), "{}", all.wrong.join("\n"));
}
