//! Damage inside sled, page by page, behind its own checksums: what sled loses, keeps from an older
//! time, or mixes up, without noticing itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tidelog_core::Error;

use crate::image::{End, Image, open};
use crate::look::examine;
use crate::sweep::{self, Random, Tally};
use crate::tools;

type PageMap = BTreeMap<Vec<u8>, Vec<u8>>;

/// What is done to one page.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Lost,
    BitFlipped,
    CutShort,
    Emptied,
    AnotherPage,
    Older,
}

impl Damage {
    const ALL: [Self; 6] = [
        Self::Lost,
        Self::BitFlipped,
        Self::CutShort,
        Self::Emptied,
        Self::AnotherPage,
        Self::Older,
    ];

    /// The page afterwards; `None`: it is gone. An error when it would be as it was.
    fn apply(
        self,
        key: &[u8],
        pages: &PageMap,
        older: &PageMap,
        random: &mut Random,
    ) -> Result<Option<Vec<u8>>, ()> {
        let page = &pages[key];
        let after = match self {
            Self::Lost => None,
            Self::BitFlipped => {
                let mut page = page.clone();
                let at = random.below(page.len());
                *page.get_mut(at).ok_or(())? ^= 1 << random.below(8);
                Some(page)
            }
            Self::CutShort => Some(page[..page.len() / 2].to_vec()),
            Self::Emptied => Some(Vec::new()),
            Self::AnotherPage => {
                let others: Vec<_> = pages.values().collect();
                Some((*random.pick(&others)).clone())
            }
            Self::Older => older.get(key).cloned(),
        };
        if after.as_ref() == Some(page) {
            Err(())
        } else {
            Ok(after)
        }
    }
}

/// The folder that sled stands in.
fn generation(dir: &Path) -> PathBuf {
    let mut entries = fs::read_dir(dir.join("index")).unwrap();
    entries
        .find_map(|entry| Some(entry.unwrap().path()).filter(|path| path.is_dir()))
        .unwrap()
}

fn with_tree<T>(dir: &Path, work: impl FnOnce(&sled::Tree) -> T) -> T {
    let config = sled::Config::new();
    let config = config.path(generation(dir)).flush_every_ms(None);
    let db = loop {
        match config.open() {
            // Threads of a database dropped a moment ago may still hold its lock, as the store knows.
            Err(sled::Error::Io(held)) if held.to_string().contains("acquire lock") => {
                std::thread::yield_now();
            }
            opened => break opened.unwrap(),
        }
    };
    let done = work(&db.open_tree("index").unwrap());
    db.flush().unwrap();
    done
}

/// All pages of a store, but not those of runs merged away, which the next open removes, nor the
/// empty entries between pages, which nothing reads.
fn pages_of(files: &Path, scratch: &Path) -> PageMap {
    tools::put_back(files, scratch);
    open(scratch).unwrap().close_blocking().unwrap();
    with_tree(scratch, |tree| {
        let pairs = tree.iter().map(Result::unwrap);
        pairs
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| (key.to_vec(), value.to_vec()))
            .collect()
    })
}

fn kind_of(key: &[u8]) -> &'static str {
    match (key[0], key.get(9)) {
        (b'r', Some(1)) => "block",
        (b'r', Some(2)) => "fence page",
        (b'r', Some(3)) => "filter",
        (b'r', Some(4)) => "root",
        (b's', _) => "snapshot",
        _ => panic!("a page of no known kind: {key:?}"),
    }
}

#[test]
fn a_page_that_sled_lost_or_mixed_up_costs_a_rebuild_and_never_a_sequence() {
    let seed = sweep::seed();
    eprintln!("TIDELOG_SEED={seed}");
    let mut random = Random(seed);
    let mut tally = Tally::default();
    for end in [End::Closed, End::CrashedLater] {
        let image = Image::rich(end);
        let dir = image.dir();
        let (pages, older) = (pages_of(&image.files, &dir), pages_of(&image.older, &dir));
        let cases = pages
            .keys()
            .flat_map(|key| Damage::ALL.map(|damage| (key, damage)));
        let mut cases: Vec<_> = cases.collect();
        if !sweep::is_full() {
            // Some of each kind of page, and each damage.
            cases.retain(|_| random.one_in(5));
        }
        for (key, damage) in cases {
            let Ok(after) = damage.apply(key, &pages, &older, &mut random) else {
                continue;
            };
            let damage_pages = || {
                tools::put_back(&image.files, &dir);
                with_tree(&dir, |tree| match &after {
                    Some(page) => tree.insert(key, page.as_slice()).unwrap(),
                    None => tree.remove(key).unwrap(),
                });
            };
            let what = format!("{} {damage:?}", kind_of(key));
            damage_pages();
            if kind_of(key) != "snapshot" {
                assert_found(&dir, &what);
            }
            damage_pages();
            let verdict = examine(&image, &dir, random.one_in(2), |_| {});
            tally.count(what, verdict.outcome);
            assert_eq!(verdict.gone, 0);
        }
    }
    eprintln!("{}{}", tally.table(), tally.totals());
}

/// Opening notices it and begins anew, or verifying names it.
fn assert_found(dir: &Path, what: &str) {
    let store = open(dir).unwrap();
    if store.info().unwrap().index_rebuilt.is_none() {
        match store.verify() {
            Err(Error::Damaged { path, .. }) => {
                assert!(path.starts_with(dir.join("index")), "{what}");
            }
            other => panic!("{what}: nobody noticed: {other:?}"),
        }
    }
    store.crash();
}

#[test]
fn a_sled_rolled_back_as_a_whole_costs_a_rebuild() {
    let image = Image::rich(End::CrashedLater);
    let dir = image.dir();
    let older = pages_of(&image.older, &dir);
    tools::put_back(&image.files, &dir);
    with_tree(&dir, |tree| {
        tree.clear().unwrap();
        for (key, page) in &older {
            tree.insert(key.as_slice(), page.as_slice()).unwrap();
        }
    });
    let verdict = examine(&image, &dir, false, |_| {});
    assert_eq!(verdict.outcome, "whole, index made again");
}
