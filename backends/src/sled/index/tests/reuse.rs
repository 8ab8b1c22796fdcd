//! Resetting, merging beside readers, closing, budgets, snapshots, golden bytes.

use super::page::{Kind, PageId};
use super::*;

#[test]
fn a_reset_index_is_empty_and_takes_segments_again() {
    let (root, mut model) = closed_store(3);
    let index = open(root.path(), model.segments).index;
    index.reset("a test wants it").unwrap();
    assert_eq!(index.covered(), None);
    assert_eq!(Model::default().check(&index, Hashing::Plain, 0), 0);
    model = Model::default();
    let segment = model.segment(Hashing::Plain, &[(1, 5, false)]);
    index.add_segment(&segment, chain(1)).unwrap();
    assert_eq!(model.check(&index, Hashing::Plain, 5), 0);
    assert_eq!(
        index.stats().unwrap().rebuilt.as_deref(),
        Some("a test wants it")
    );
    drop(index);
    assert_eq!(rebuilt(&open(root.path(), 1)), None);
}

#[test]
fn segments_out_of_order_are_refused() {
    let (root, model) = closed_store(3);
    let index = open(root.path(), model.segments).index;
    for wrong in [3, 5] {
        assert!(
            index
                .add_segment(&SegmentIndex::new(wrong), chain(wrong))
                .is_err()
        );
    }
    let mut segment = SegmentIndex::new(4);
    segment.push(1, &stream_id(1), 5, 4096, 100, 0).unwrap();
    assert!(segment.push(1, &stream_id(1), 5, 4196, 100, 0).is_err());
    assert!(segment.push(1, &stream_id(1), 6, 4195, 100, 0).is_err());
    segment.push(1, &stream_id(1), 6, 4196, 100, 0).unwrap();
    assert_eq!(segment.events(), 2);
}

#[test]
fn readers_and_merges_run_side_by_side() {
    let root = TempDir::new().unwrap();
    let index = open(root.path(), 0).index;
    let mut model = Model::default();
    let first = model.segment(Hashing::Plain, &[(0, 200, false), (1, 50, false)]);
    index.add_segment(&first, chain(1)).unwrap();
    let (id, before) = (stream_id(0), model.clone());
    let hash = Hashing::Plain.hash(id.as_str());
    let expected = before.expect(&id, 1..=200, Direction::Forward, usize::MAX);
    std::thread::scope(|scope| {
        let merger = scope.spawn(|| {
            let mut merges = 0;
            while merges < 4 {
                merges += u32::from(index.merge_step().unwrap());
                std::thread::yield_now();
            }
        });
        let (index, id, expected) = (&index, &id, &expected);
        let reader = scope.spawn(move || {
            while !merger.is_finished() {
                let mut out = Vec::new();
                let all = usize::MAX;
                index
                    .postings(hash, id, 1, 200, Direction::Forward, all, &mut out)
                    .unwrap();
                assert_eq!(&out, expected);
            }
        });
        for number in 2..=9 {
            let segment = model.segment(Hashing::Plain, &[(number, 9, false), (0, 90, false)]);
            index
                .add_segment(&segment, chain(u64::from(number)))
                .unwrap();
        }
        reader.join().unwrap();
    });
    assert_eq!(model.check(&index, Hashing::Plain, 77), 0);
    // Nothing of the merged runs is left in sled.
    assert!(!index.merge_step().unwrap());
    let stats = index.stats().unwrap();
    assert_eq!(stats.runs, 1);
    let mut runs: Vec<_> = all_keys(&*index.page_store())
        .iter()
        .filter_map(|key| page::run_of_key(key))
        .collect();
    runs.dedup();
    assert_eq!(runs.len(), 1);
}

#[test]
fn a_closed_index_says_so_and_frees_its_lock() {
    let (root, model) = closed_store(2);
    let index = open(root.path(), model.segments).index;
    index.close().unwrap();
    index.close().unwrap();
    let closed = |error| matches!(error, IndexError::Failed(Error::Closed));
    assert!(closed(index.head(1, &stream_id(1)).unwrap_err()));
    assert!(closed(index.merge_step().unwrap_err()));
    let again = open(root.path(), model.segments);
    assert_eq!(rebuilt(&again), None);
}

#[test]
fn filters_keep_within_their_budget() {
    let root = TempDir::new().unwrap();
    let tight = IndexOptions {
        filter_bytes: 1500,
        ..options()
    };
    let index = Index::open(root.path(), tight, None).unwrap().index;
    let mut model = Model::default();
    for _ in 0..5 {
        let parts: Vec<_> = (0..600).map(|stream| (stream, 1, false)).collect();
        let segment = model.segment(Hashing::Plain, &parts);
        index
            .add_segment(&segment, chain(segment.segment()))
            .unwrap();
        assert_eq!(model.check(&index, Hashing::Plain, 3), 0);
        let used = index.stats().unwrap().filter_bytes;
        assert!(used > 0 && used <= 1500, "{used}");
    }
    merge_all(&index);
    assert_eq!(model.check(&index, Hashing::Plain, 3), 0);
}

#[test]
fn snapshots_come_back_whole_or_not_at_all() {
    let root = TempDir::new().unwrap();
    let index = open(root.path(), 0).index;
    let (a, b) = (stream_id(1), stream_id(10));
    assert_eq!(index.snapshot_get(&a).unwrap(), None);
    let bytes = |len: u32| (0..len).map(|n| (n * 7 % 251) as u8).collect::<Vec<u8>>();
    for len in [0, 10, 4072, 4073, 4096, 4097, 100_000, 20, 50_000, 9000] {
        index.snapshot_put(&a, &bytes(len)).unwrap();
        index.snapshot_put(&b, &[9; 5000]).unwrap();
        assert_eq!(index.snapshot_get(&a).unwrap(), Some(bytes(len)));
        assert_eq!(index.snapshot_get(&b).unwrap(), Some(vec![9; 5000]));
    }
    // Only the newest version of each is left: a head each, and their parts.
    let keys = all_keys(&*index.page_store());
    assert_eq!(keys.len(), 1 + 3 + 1 + 2, "{keys:?}");
    index.close().unwrap();
    let index = open(root.path(), 0).index;
    assert_eq!(index.snapshot_get(&a).unwrap(), Some(bytes(9000)));
    let kv = index.page_store();
    for key in all_keys(&*kv)
        .iter()
        .filter(|key| key.windows(4).any(|part| part == b"0001"))
    {
        let value = kv.get(key).unwrap().unwrap();
        let mut damaged = value.clone();
        *damaged.last_mut().unwrap() ^= 1;
        kv.put(key, &damaged).unwrap();
        assert_eq!(index.snapshot_get(&a).unwrap(), None);
        kv.remove(key).unwrap();
        assert_eq!(index.snapshot_get(&a).unwrap(), None);
        kv.put(key, &value).unwrap();
        assert_eq!(index.snapshot_get(&a).unwrap(), Some(bytes(9000)));
    }
    index.snapshot_put(&a, b"small").unwrap();
    assert_eq!(
        index.snapshot_get(&a).unwrap().as_deref(),
        Some(&b"small"[..])
    );
}

#[test]
fn golden_bytes_of_a_block() {
    let root = TempDir::new().unwrap();
    let index = open(root.path(), 0).index;
    let mut segment = SegmentIndex::new(1);
    let (a, b) = (
        StreamId::new("T", "a").unwrap(),
        StreamId::new("T", "b").unwrap(),
    );
    segment.push(2, &b, 1, 4096, 300, 0x0403_0201).unwrap();
    segment.push(1, &a, 7, 4396, 100, 0x0807_0605).unwrap();
    segment.push(2, &b, 2, 4496, 301, 0x0c0b_0a09).unwrap();
    index.add_segment(&segment, chain(1)).unwrap();
    let id = PageId {
        run: 1,
        kind: Kind::Block,
        number: 0,
    };
    assert_eq!(id.key(), *b"r\0\0\0\0\0\0\0\x01\x01\0\0\0\0");
    let page = index.page_store().get(&id.key()).unwrap().unwrap();
    let body = [
        &b"\x01\0\0\0\0\0\0\0\x03T/a\x07\x01\x07\xd8\x44\x64\x05\x06\x07\x08"[..],
        &b"\x02\0\0\0\0\0\0\0\x03T/b\x01\x02\x10"[..],
        &b"\x80\x40\xac\x02\x01\x02\x03\x04\xc8\x01\xad\x02\x09\x0a\x0b\x0c"[..],
    ]
    .concat();
    let rest = [&b"\x01\x01\0\0\0\0\0\0\0\0\0\0\0"[..], &body].concat();
    assert_eq!(page[4..], rest);
    assert_eq!(page[..4], crc32c::crc32c(&rest).to_le_bytes());
}
