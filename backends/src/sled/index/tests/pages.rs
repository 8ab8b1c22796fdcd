//! Pages as they lie in sled, and as they are searched.

use std::sync::Arc;

use super::block::Chunk;
use super::kv::{Kv, SledKv};
use super::page::{self, Kind, PageId, Pages};
use super::*;
use crate::sled::varint::Reader;

#[test]
fn a_removed_run_leaves_nothing_in_sled_and_its_neighbours_whole() {
    let dir = TempDir::new().unwrap();
    let kv = SledKv::open(dir.path(), 1 << 20, Duration::ZERO).unwrap();
    let pages = |run: u64| -> Vec<(Vec<u8>, Vec<u8>)> {
        let page = |number: u32| {
            let id = PageId {
                run,
                kind: Kind::Block,
                number,
            };
            let body = vec![u8::try_from(number % 251).unwrap(); 3000];
            (id.key().to_vec(), page::encode(id, &body).0)
        };
        (0..300).map(page).collect()
    };
    for run in 1..=3 {
        for some in pages(run).chunks(64) {
            kv.put_new(some).unwrap();
        }
    }
    kv.remove_all(&page::first_key(2)).unwrap();
    let left = all_keys(&kv);
    assert!(left.iter().all(|key| page::run_of_key(key) != Some(2)));
    for (key, value) in pages(1).iter().chain(&pages(3)) {
        assert_eq!(Kv::get(&kv, key).unwrap().as_ref(), Some(value));
    }
    kv.remove_all(&page::first_key(1)).unwrap();
    kv.remove_all(&page::first_key(3)).unwrap();
    assert_eq!(all_keys(&kv), Vec::<Vec<u8>>::new());
}

#[test]
fn a_block_is_entered_where_a_hash_begins() {
    for hashing in [Hashing::Plain, Hashing::Colliding] {
        let root = TempDir::new().unwrap();
        let index = open(root.path(), 0).index;
        let mut model = Model::default();
        let parts: Vec<_> = (0..100).map(|stream| (stream, 3, false)).collect();
        let segment = model.segment(hashing, &parts);
        index.add_segment(&segment, chain(1)).unwrap();
        let id = PageId {
            run: 1,
            kind: Kind::Block,
            number: 0,
        };
        let kv = index.page_store();
        let crc = kv.get(&id.key()).unwrap().unwrap();
        let crc = u32::from_le_bytes(*crc.first_chunk().unwrap());
        let pages = Pages::new(Arc::clone(&kv), 1 << 20);
        // The second answer comes from the cache.
        for page in [pages.get(id, crc).unwrap(), pages.get(id, crc).unwrap()] {
            let mut starts = vec![page.body()];
            let mut reader = Reader(page.body());
            while let Some(chunk) = Chunk::read(&mut reader) {
                let first = starts.iter().find(|rest| {
                    let chunk_there = Chunk::read(&mut Reader(rest));
                    chunk_there.is_some_and(|there| there.hash == chunk.hash)
                });
                assert_eq!(Some(&page.chunks_from(chunk.hash)), first);
                starts.push(reader.0);
            }
            assert!(starts.len() > 50, "{}", starts.len());
            assert_eq!(page.chunks_from(u64::MAX), b"");
            assert_eq!(page.chunks_from(0), page.body());
        }
    }
}
