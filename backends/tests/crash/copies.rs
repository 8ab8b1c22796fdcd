//! Power cuts while a log is copied commit by commit: what was synced of the copy is there, nothing
//! else is, and it goes on to its end.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use tidelog_backends::SledStore;
use tidelog_backends::commits::{Commit, LogCopy};
use tidelog_core::*;
use uuid::Uuid;

use crate::disk::Image;
use crate::durable::Names;
use crate::oracle::Promised;
use crate::recorded::{Ends, Recorded};
use crate::scratch;
use crate::shim;
use crate::sweep::{self, Random};
use crate::tools::{event, read_all, stream};
use crate::workload::{Notes, STORE, builder};

/// The store whose log is copied stands where the shim does not look.
fn source_of(copy: &Path) -> PathBuf {
    let root = copy.parent().and_then(Path::parent);
    root.unwrap().join("source")
}

/// The log that is copied grows, and so does its copy. It may be killed at any call.
pub fn live(dir: &Path, seed: u64, first: u64) {
    let (notes, mut random) = (Notes::beside(dir), Random(seed));
    let source = builder(&source_of(dir)).open().unwrap();
    grow(&source, first, &mut random);
    let mut copy = open(dir, &source).unwrap();
    let mut commits = source.commits(copy.next().position);
    loop {
        let page = commits.next(1 + random.below(6_000)).unwrap();
        if page.is_empty() {
            break;
        }
        push(&mut copy, &page);
        if random.one_in(2) {
            copy.sync().unwrap();
            notes.durable(copy.next().position);
        }
    }
}

/// Appends, and events that give way.
fn grow(source: &SledStore, first: u64, random: &mut Random) {
    let face = source.blocking();
    for number in first..first + 60 {
        let to = stream(&random.below(4).to_string());
        let noted = event(number, 40 + random.below(1_500));
        let head = face.head(&to).unwrap();
        match head.filter(|_| random.one_in(12)) {
            None => drop(face.append(AppendBatch::new(to, ExpectedVersion::Any, vec![noted]))),
            Some(head) => {
                let from = head.sequence + 1 - (random.below(3) as u64).min(head.sequence);
                let what = Supersession::new(to, head, from).with_reissued(vec![noted]);
                face.supersede(what).unwrap();
            }
        }
    }
}

fn open(dir: &Path, source: &SledStore) -> Result<LogCopy, Error> {
    let first = source.epochs()?[0].id;
    LogCopy::open(dir, source.identity().origin, first, &builder(dir))
}

fn push(copy: &mut LogCopy, commits: &[Commit]) {
    for commit in commits {
        copy.push(commit.number, &commit.body, commit.hash).unwrap();
    }
}

/// What a cut has left of the copy.
fn check(dir: &Path, source: &SledStore, durable: u64) -> u64 {
    let all = read_all(source).unwrap();
    let mut copy = open(dir, source).unwrap();
    let there = copy.next().position;
    assert!(there >= durable, "{there} of {durable} that were synced");
    assert!(read_all(copy.store()).unwrap() == all[..there as usize]);
    copy.store().verify().unwrap();
    push(&mut copy, &source.commits(there).next(usize::MAX).unwrap());
    let made = copy.finish(Uuid::from_u128(77)).unwrap();
    assert!(read_all(&made).unwrap()[..all.len()] == all[..]);
    made.verify().unwrap();
    made.close_blocking().unwrap();
    there
}

#[test]
fn after_a_power_cut_a_copy_has_what_was_synced_and_goes_on() {
    let Some(library) = shim::library() else {
        return;
    };
    let seed = sweep::seed();
    let (recordings, images) = if sweep::is_full() { (12, 80) } else { (2, 20) };
    eprintln!("TIDELOG_SEED={seed}");
    let mut random = Random(seed);
    let (mut cuts, mut begun, mut wrong) = (0, 0, Vec::new());
    for _ in 0..recordings {
        let calls = 30 + random.below(150);
        let lives = [Ends::Killed(calls), Ends::ByItself];
        let recorded = Recorded::copying(library, random.next() >> 1, &lives);
        let source = builder(&source_of(&recorded.root().join(STORE)));
        let source = source.open().unwrap();
        let recording = recorded.recording();
        for _ in 0..images {
            let cut = random.below(recording.changes.len());
            let names = *random.pick(&[Names::OneJournal, Names::EachDirectory]);
            let made = Image::after_cut(&recording, cut, names, true, &mut random);
            let promised = Promised::default().until(&recording, cut);
            let folder = scratch::folder();
            let dir = folder.path().join("image");
            fs::create_dir(&dir).unwrap();
            made.write_to(&dir);
            let checked = catch_unwind(AssertUnwindSafe(|| {
                check(&dir.join(STORE), &source, promised.durable)
            }));
            cuts += 1;
            match checked {
                Ok(there) => begun += u64::from(there > 0),
                Err(_) => wrong.push(format!("cut at {cut} of {}", recording.changes.len())),
            }
        }
        source.close_blocking().unwrap();
    }
    eprintln!("{cuts} cuts of copies, {begun} with something there");
    assert!(begun > 0, "none had anything");
    assert!(wrong.is_empty(), "{wrong:?}");
}
