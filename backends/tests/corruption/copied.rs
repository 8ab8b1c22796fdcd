//! Copies of logs, damaged: what is read of one is the log's beginning, or its damage is named; what
//! verifies goes on to a store.

use std::fs;
use std::path::Path;

use tidelog_backends::SledStore;
use tidelog_backends::commits::LogCopy;
use tidelog_core::*;
use uuid::Uuid;

use crate::branched::{self, Image};
use crate::sweep::{self, Random, Tally};
use crate::tools::{self, read_all};

/// The copy in `dir` of the log that began so.
fn open(dir: &Path, (origin, first_epoch): (Uuid, Uuid)) -> Result<LogCopy, Error> {
    let options = SledStore::builder(dir).segment_size(64 << 10);
    LogCopy::open(dir, origin, first_epoch, &options)
}

/// The image of a copy in place of that of the store whose log it is.
fn copied(seed: u64) -> (Image, (Uuid, Uuid)) {
    let image = Image::new(seed, true);
    let store = crate::image::open(&image.path("store")).unwrap();
    let log = (store.identity().origin, store.epochs().unwrap()[0].id);
    let mut copy = open(&image.path("copy"), log).unwrap();
    for commit in store.commits(0).next(usize::MAX).unwrap() {
        copy.push(commit.number, &commit.body, commit.hash).unwrap();
    }
    copy.sync().unwrap();
    drop(copy);
    store.close_blocking().unwrap();
    tools::put_back(&image.path("copy"), &image.path("files"));
    let _ = fs::remove_file(image.path("files").join("LOCK"));
    (image, log)
}

fn check(image: &Image, copy: LogCopy) -> &'static str {
    let outcome = branched::check_opened(image, copy.store());
    if outcome == "whole" {
        let there = copy.next().position as usize;
        let made = copy.finish(Uuid::from_u128(77)).unwrap();
        let all = read_all(&made).unwrap();
        assert!(all[..there] == image.events[..there]);
        made.close_blocking().unwrap();
    }
    outcome
}

#[test]
fn copies_that_are_damaged_are_right_or_their_damage_is_named() {
    let (seed, cases) = (sweep::seed(), if sweep::is_full() { 800 } else { 40 });
    eprintln!("TIDELOG_SEED={seed}, {cases} cases");
    let mut random = Random(seed);
    let mut tally = Tally::default();
    for _ in 0..cases / 20 {
        let (image, log) = copied(random.next());
        for _ in 0..20 {
            let (dir, what) = image.damaged(&mut random);
            let outcome = match open(&dir, log) {
                Ok(copy) => check(&image, copy),
                Err(Error::Damaged { .. }) => "refused",
                Err(error) => panic!("not a typed damage: {error:?}"),
            };
            tally.count(what, outcome);
        }
    }
    eprintln!("{}{}", tally.table(), tally.totals());
}
