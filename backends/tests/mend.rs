//! A damaged sealed segment is made again from its commits, also while the store is open, and also
//! where the store does not open because of it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that fails shall stop"
)]

mod tools;

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tidelog_backends::SledStore;
use tidelog_backends::commits::{Commit, SegmentMend};
use tidelog_core::*;
use tools::{event, make_writable, read_all, segment, segments, stream};

const FIRST_FRAME: usize = 4096;

fn open(dir: &Path) -> SledStore {
    SledStore::builder(dir)
        .segment_size(64 << 10)
        .open()
        .unwrap()
}

/// A closed store of several segments, its commits and records.
struct Scene {
    root: TempDir,
    commits: Vec<Commit>,
    records: Vec<EventEnvelope>,
}

impl Scene {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let store = open(&root.path().join("store"));
        for n in 0..300 {
            let to = stream(&(n % 5).to_string());
            let batch = AppendBatch::new(to, ExpectedVersion::Any, vec![event(n, 700)]);
            store.blocking().append(batch).unwrap();
            if n == 20 || n == 130 {
                store.begin_epoch().unwrap();
            }
            if n == 100 {
                let store = store.blocking();
                let head = store.head(&stream("1")).unwrap().unwrap();
                let what = Supersession::new(stream("1"), head, head.sequence);
                store.supersede(what).unwrap();
            }
        }
        store.drain().unwrap();
        let commits = store.commits(0).next(usize::MAX).unwrap();
        let records = read_all(&store).unwrap();
        store.close_blocking().unwrap();
        Self {
            root,
            commits,
            records,
        }
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("store")
    }

    fn path(&self, number: u64) -> PathBuf {
        segment(&self.dir(), number)
    }

    /// Changes the file; what stood there before.
    fn damage(&self, number: u64, damage: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let path = self.path(number);
        make_writable(&path);
        let before = fs::read(&path).unwrap();
        let mut bytes = before.clone();
        damage(&mut bytes);
        fs::write(path, bytes).unwrap();
        before
    }

    /// Gives it all that belongs into it.
    fn fill(&self, mend: &mut SegmentMend) {
        let (from, to) = (mend.next().number, mend.last().number);
        for commit in &self.commits {
            if from < commit.number && commit.number <= to {
                mend.push(commit.number, &commit.body, commit.hash).unwrap();
            }
        }
        assert_eq!(mend.next(), mend.last());
    }
}

/// The records of a segment stand where they stood; frame headers may vouch for less.
fn same_places(before: &[u8], after: &[u8]) {
    assert_eq!(before.len(), after.len());
    let mut at = FIRST_FRAME;
    while at < before.len() {
        let len = u32::from_le_bytes(before[at + 4..at + 8].try_into().unwrap()) as usize;
        let end = (at + 88 + len).next_multiple_of(8);
        assert_eq!(before[at..at + 24], after[at..at + 24]);
        assert_eq!(before[at + 32..at + 84], after[at + 32..at + 84]);
        assert_eq!(before[at + 88..end], after[at + 88..end]);
        at = end;
    }
}

#[test]
fn a_segment_of_an_open_store_is_made_again_while_it_is_read() {
    let scene = Scene::new();
    let newest = segments(&scene.dir()).len() as u64;
    assert!(newest > 4);
    let store = open(&scene.dir());
    for number in 1..4 {
        let before = scene.damage(number, |bytes| bytes[FIRST_FRAME + 900] ^= 1);
        assert!(matches!(store.verify(), Err(Error::Damaged { .. })));
        let mut mend = store.mend(number).unwrap();
        scene.fill(&mut mend);
        mend.finish().unwrap();
        same_places(&before, &fs::read(scene.path(number)).unwrap());
        assert!(
            fs::metadata(scene.path(number))
                .unwrap()
                .permissions()
                .readonly()
        );
        store.verify().unwrap();
    }
    assert!(read_all(&store).unwrap() == scene.records);
    let epochs = store.epochs().unwrap();
    assert_eq!(epochs.len(), 3, "no new one begins");
    store.close_blocking().unwrap();
    let store = open(&scene.dir());
    assert!(read_all(&store).unwrap() == scene.records);
    assert_eq!(store.epochs().unwrap(), epochs);
    store.rebuild_index().unwrap();
    store.verify().unwrap();
}

#[test]
fn a_store_that_does_not_open_is_mended_from_outside() {
    let scene = Scene::new();
    let newest = segments(&scene.dir()).len() as u64;
    for number in 1..newest - 1 {
        // The first epoch ends in segment 1: only its header says which one that was.
        let header_is_gone = number > 1;
        let before = scene.damage(number, |bytes| {
            bytes[FIRST_FRAME + 900] ^= 1;
            if header_is_gone {
                bytes[40] ^= 1;
            }
        });
        if header_is_gone {
            let refused = SledStore::open(scene.dir()).map(drop);
            assert!(matches!(refused, Err(Error::Damaged { .. })), "{refused:?}");
        }
        let mut mend = SegmentMend::closed(&scene.dir(), number).unwrap();
        let locked = SledStore::open(scene.dir()).map(drop);
        assert!(matches!(locked, Err(Error::Locked { .. })));
        scene.fill(&mut mend);
        mend.finish().unwrap();
        same_places(&before, &fs::read(scene.path(number)).unwrap());
        let store = open(&scene.dir());
        assert!(read_all(&store).unwrap() == scene.records);
        assert_eq!(store.epochs().unwrap().len(), 3);
        store.verify().unwrap();
        store.close_blocking().unwrap();
    }
}

#[test]
fn what_does_not_belong_into_a_segment_is_not_taken() {
    let scene = Scene::new();
    let store = open(&scene.dir());
    let before = fs::read(scene.path(2)).unwrap();
    let mut mend = store.mend(2).unwrap();
    let first = usize::try_from(mend.next().number).unwrap();
    let invalid = |done: Result<(), Error>| {
        assert!(matches!(done, Err(Error::InvalidInput { .. })), "{done:?}");
    };
    let (one, next) = (&scene.commits[first], &scene.commits[first + 1]);
    invalid(mend.push(next.number, &next.body, next.hash));
    invalid(mend.push(one.number, &next.body, next.hash));
    invalid(mend.push(one.number, &one.body, next.hash));
    let mut other = one.body.to_vec();
    other[50] ^= 1;
    invalid(mend.push(one.number, &other, one.hash));
    mend.push(one.number, &one.body, one.hash).unwrap();
    invalid(mend.finish());
    assert_eq!(
        fs::read(scene.path(2)).unwrap(),
        before,
        "it stands there as before"
    );
    let mut mend = store.mend(2).unwrap();
    invalid(store.mend(2).map(drop));
    scene.fill(&mut mend);
    let beyond = &scene.commits[usize::try_from(mend.last().number).unwrap()];
    invalid(mend.push(beyond.number, &beyond.body, beyond.hash));
    drop(mend);
    let left = fs::read_dir(scene.dir().join("log")).unwrap();
    let left = left.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with("00000002")
    });
    assert_eq!(left.count(), 1, "nothing is left beside it");
    let newest = store.info().unwrap().segments;
    assert!(matches!(
        store.mend(newest).map(drop),
        Err(Error::InvalidInput { .. })
    ));
    store.verify().unwrap();
}

#[test]
fn a_segment_that_may_be_written_to_again_is_not_made_again() {
    let scene = Scene::new();
    let store = open(&scene.dir());
    let newest = store.info().unwrap().segments;
    store.close_blocking().unwrap();
    // Its first commit never arrived: the one before it is the newest.
    scene.damage(newest, |bytes| bytes[FIRST_FRAME..].fill(0));
    let before = scene.damage(newest - 1, |bytes| bytes[FIRST_FRAME + 900] ^= 1);
    let refused = SegmentMend::closed(&scene.dir(), newest - 1).map(drop);
    assert!(
        matches!(refused, Err(Error::InvalidInput { .. })),
        "{refused:?}"
    );
    assert_eq!(
        fs::read(scene.path(newest - 1)).unwrap().len(),
        before.len()
    );
}
