//! What stands on disk is missing, old, damaged, or of another store.

use super::*;

#[test]
fn an_empty_index_is_small_and_knows_nothing() {
    let root = TempDir::new().unwrap();
    let opened = open(root.path(), 0);
    assert_eq!((opened.covered, rebuilt(&opened)), (None, None));
    assert_eq!(opened.index.head(1, &stream_id(1)).unwrap(), None);
    let stats = opened.index.stats().unwrap();
    assert!(stats.disk_bytes <= 2 << 20, "{stats:?}");
    assert!(stats.blobs_empty);
    assert!(!root.path().join("index/opening").exists());
}

#[test]
fn segments_without_events_are_covered_too() {
    let root = TempDir::new().unwrap();
    let index = open(root.path(), 0).index;
    for number in 1..=7 {
        index
            .add_segment(&SegmentIndex::new(number), chain(number))
            .unwrap();
    }
    merge_all(&index);
    index.verify(&mut |_, _, _, _| Ok(())).unwrap();
    drop(index);
    let opened = open(root.path(), 7);
    assert_eq!(
        opened.covered,
        Some(Covered {
            segment: 7,
            chain: chain(7)
        })
    );
}

#[test]
fn an_index_without_its_manifest_is_rebuilt() {
    let (root, model) = closed_store(3);
    fs::remove_file(root.path().join("manifest")).unwrap();
    is_rebuilt(&open(root.path(), model.segments), "no manifest");
}

#[test]
fn a_damaged_manifest_means_rebuild() {
    let (root, model) = closed_store(3);
    let path = root.path().join("manifest");
    let mut bytes = fs::read(&path).unwrap();
    bytes[40] ^= 1;
    fs::write(&path, bytes).unwrap();
    is_rebuilt(&open(root.path(), model.segments), "manifest is not whole");
}

#[test]
fn an_index_of_another_log_is_rebuilt() {
    let (root, model) = closed_store(3);
    is_rebuilt(
        &open(root.path(), model.segments - 1),
        "covers the segments 1 to 3",
    );
    let (root, _) = closed_store(3);
    is_rebuilt(&open(root.path(), 0), "no sealed segment");
    let (root, model) = closed_store(3);
    let other = IndexOptions {
        identity: [1; 16],
        ..options()
    };
    is_rebuilt(
        &Index::open(root.path(), other, Some(1..=model.segments)).unwrap(),
        "another store",
    );
}

#[test]
fn a_sled_that_was_rolled_back_is_rebuilt() {
    let (root, mut model) = closed_store(2);
    let generation = root.path().join("index/00000001");
    let aside = TempDir::new().unwrap();
    copy_dir(&generation, aside.path());
    let index = open(root.path(), model.segments).index;
    let segment = model.segment(Hashing::Plain, &[(1, 5, false)]);
    index.add_segment(&segment, chain(3)).unwrap();
    merge_all(&index);
    index.close().unwrap();
    fs::remove_dir_all(&generation).unwrap();
    copy_dir(aside.path(), &generation);
    is_rebuilt(&open(root.path(), model.segments), "is missing");
}

#[test]
fn a_manifest_older_than_its_sled_is_right_or_rebuilt() {
    let (root, mut model) = closed_store(2);
    let manifest = fs::read(root.path().join("manifest")).unwrap();
    let older = model.clone();
    let index = open(root.path(), model.segments).index;
    let segment = model.segment(Hashing::Plain, &[(1, 5, false)]);
    index.add_segment(&segment, chain(3)).unwrap();
    index.close().unwrap();
    fs::write(root.path().join("manifest"), manifest).unwrap();
    let opened = open(root.path(), model.segments);
    assert_eq!(opened.covered.map(|covered| covered.segment), Some(2));
    assert_eq!(older.check(&opened.index, Hashing::Plain, 5), 0);
    // The stray run's pages are gone, and its id is not used again.
    opened.index.add_segment(&segment, chain(3)).unwrap();
    assert_eq!(model.check(&opened.index, Hashing::Plain, 5), 0);
    let runs: Vec<u64> = all_keys(&*opened.index.page_store())
        .iter()
        .filter_map(|key| page::run_of_key(key))
        .collect();
    assert!(runs.contains(&4) && !runs.contains(&3), "{runs:?}");
}

#[test]
fn an_open_that_never_ended_begins_a_new_generation() {
    let (root, mut model) = closed_store(2);
    fs::write(root.path().join("index/opening"), "1\n").unwrap();
    let opened = open(root.path(), model.segments);
    is_rebuilt(&opened, "never ended");
    assert_eq!(opened.index.stats().unwrap().generation, 2);
    assert!(!root.path().join("index/opening").exists());
    assert!(!root.path().join("index/00000001").exists());
    model = Model::default();
    let segment = model.segment(Hashing::Plain, &[(1, 5, false)]);
    opened.index.add_segment(&segment, chain(1)).unwrap();
    drop(opened);
    let opened = open(root.path(), 1);
    assert_eq!(rebuilt(&opened), None);
    assert_eq!(model.check(&opened.index, Hashing::Plain, 5), 0);
}

#[test]
fn a_sled_that_does_not_open_in_time_is_left_alone() {
    let (root, model) = closed_store(2);
    let generation = root.path().join("index/00000001");
    // Another owner of sled's lock makes its open wait.
    let holder = ::sled::open(&generation).unwrap();
    let impatient = IndexOptions {
        // The empty one in its place has to open within it, on a busy machine too.
        open_timeout: Duration::from_secs(5),
        ..options()
    };
    let opened = Index::open(root.path(), impatient, Some(1..=model.segments)).unwrap();
    is_rebuilt(&opened, "sled did not open");
    drop(holder);
}

#[test]
fn half_made_snapshots_of_sled_are_removed_before_it_opens() {
    let (root, model) = closed_store(2);
    let half_made = root
        .path()
        .join("index/00000001/snap.00000000000000FF.generating");
    fs::write(&half_made, "half").unwrap();
    let opened = open(root.path(), model.segments);
    assert_eq!(rebuilt(&opened), None);
    assert!(!half_made.exists());
}

#[test]
fn a_sled_file_cut_or_overwritten_is_right_or_rebuilt() {
    for damage in 0..6 {
        let (root, model) = closed_store(4);
        let db = root.path().join("index/00000001/db");
        let mut bytes = fs::read(&db).unwrap();
        let half = bytes.len() / 2;
        match damage {
            0 => bytes.truncate(half),
            1 => bytes.clear(),
            2 => bytes
                .iter_mut()
                .step_by(1009)
                .for_each(|byte| *byte ^= 0x55),
            3 => bytes[..half].fill(0),
            4 => bytes[half..].fill(0xff),
            _ => bytes
                .iter_mut()
                .skip(300)
                .step_by(90_001)
                .for_each(|byte| *byte ^= 1),
        }
        fs::write(&db, bytes).unwrap();
        let opened = open(root.path(), model.segments);
        if rebuilt(&opened).is_none() {
            model.check(&opened.index, Hashing::Plain, 3);
        } else {
            assert_eq!(opened.covered, None);
        }
    }
}
