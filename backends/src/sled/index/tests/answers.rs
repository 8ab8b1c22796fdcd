//! Right answers, or none.

use super::page::Kind;
use super::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, fork: false, ..ProptestConfig::default() })]

    #[test]
    fn the_index_answers_as_the_model_does(
        segments in segments(),
        colliding: bool,
        merged: bool,
        spread: u64,
    ) {
        let hashing = if colliding { Hashing::Colliding } else { Hashing::Plain };
        let root = TempDir::new().unwrap();
        let mut model = Model::default();
        let index = open(root.path(), 0).index;
        for parts in &segments {
            let segment = model.segment(hashing, parts);
            index.add_segment(&segment, chain(segment.segment())).unwrap();
            if merged {
                index.merge_step().unwrap();
            }
        }
        prop_assert_eq!(model.check(&index, hashing, spread), 0);
        merge_all(&index);
        prop_assert_eq!(model.check(&index, hashing, spread), 0);

        let mut walked: BTreeMap<String, Vec<(u64, Posting)>> = BTreeMap::new();
        index.verify(&mut |hash, name, sequence, posting| {
            assert_eq!(hash, hashing.hash(name));
            walked.entry(name.into()).or_default().push((sequence, posting));
            Ok(())
        }).unwrap();
        let mut expected = model.streams.clone();
        expected.retain(|_, postings| !postings.is_empty());
        prop_assert_eq!(&walked, &expected);
        let stats = index.stats().unwrap();
        prop_assert_eq!(stats.events, expected.values().map(|p| p.len() as u64).sum::<u64>());
        prop_assert!(stats.blobs_empty);

        index.close().unwrap();
        let opened = open(root.path(), model.segments);
        prop_assert_eq!(rebuilt(&opened), None);
        let segment = model.segments;
        prop_assert_eq!(opened.covered, Some(Covered { segment, chain: chain(segment) }));
        prop_assert_eq!(model.check(&opened.index, hashing, spread), 0);
    }

    #[test]
    fn a_segment_in_memory_answers_as_the_model_does(
        parts in prop::collection::vec((0..20_u16, 0..60_u8, prop::bool::weighted(0.1)), 0..80),
        colliding: bool,
        spread: u64,
    ) {
        let hashing = if colliding { Hashing::Colliding } else { Hashing::Plain };
        let mut model = Model::default();
        let segment = model.segment(hashing, &parts);
        for name in model.streams.keys() {
            let stream: StreamId = name.parse().unwrap();
            let hash = hashing.hash(name);
            let newest = model.expect(&stream, 0..=u64::MAX, Direction::Backward, usize::MAX);
            prop_assert_eq!(segment.head(hash, &stream), newest.first().copied());
            let mut prints = Vec::new();
            segment.fingerprints(hash, &stream, 5, &mut prints);
            let expected = newest.iter().take(5).map(|(s, p)| (*s, p.fingerprint));
            prop_assert_eq!(prints, expected.collect::<Vec<_>>());
            let last = newest.first().map_or(0, |(sequence, _)| *sequence);
            for direction in [Direction::Forward, Direction::Backward] {
                for limit in [0, 1, 10, usize::MAX] {
                    let (from, to) = (spread % (last + 2), (spread / 3) % (last + 3));
                    for range in [from..=to, 0..=u64::MAX, from..=u64::MAX, 0..=to] {
                        let mut out = Vec::new();
                        let (from, to) = (*range.start(), *range.end());
                        segment.postings(hash, &stream, from, to, direction, limit, &mut out);
                        prop_assert_eq!(out, model.expect(&stream, range, direction, limit));
                    }
                }
            }
        }
    }

    #[test]
    fn damaged_pages_are_noticed(
        segments in segments(),
        merged: bool,
        victim: prop::sample::Index,
        other: prop::sample::Index,
        damage in 0..4_u8,
        bit: u16,
        spread: u64,
    ) {
        let hashing = Hashing::Plain;
        let root = TempDir::new().unwrap();
        let mut model = Model::default();
        let index = open(root.path(), 0).index;
        for parts in &segments {
            let segment = model.segment(hashing, parts);
            index.add_segment(&segment, chain(segment.segment())).unwrap();
        }
        if merged {
            merge_all(&index);
        }
        let kv = index.page_store();
        let keys = page_keys(&*kv);
        prop_assume!(!keys.is_empty());
        let key: &Vec<u8> = victim.get(&keys);
        let elsewhere: &Vec<u8> = other.get(&keys);
        let mut value = kv.get(key).unwrap().unwrap();
        match damage {
            0 => kv.remove(key).unwrap(),
            1 => {
                let bit = usize::from(bit) % (value.len() * 8);
                value[bit / 8] ^= 1 << (bit % 8);
                kv.put(key, &value).unwrap();
            }
            // A page that was once right, elsewhere.
            2 => kv.put(key, &kv.get(elsewhere).unwrap().unwrap()).unwrap(),
            _ => kv.put(key, &value[..usize::from(bit) % value.len()]).unwrap(),
        }
        let unchanged = key == elsewhere && damage == 2;
        drop(kv);
        let verified = index.verify(&mut |_, _, _, _| Ok(()));
        let in_root = key[9] == Kind::Root as u8;
        prop_assert_eq!(verified.is_ok(), unchanged || in_root, "{:?}", verified);
        model.check(&index, hashing, spread);
        index.close().unwrap();
        let opened = open(root.path(), model.segments);
        prop_assert_eq!(rebuilt(&opened).is_none(), unchanged || !in_root);
        if rebuilt(&opened).is_none() {
            model.check(&opened.index, hashing, spread);
        } else {
            prop_assert_eq!(opened.covered, None);
        }
    }
}
