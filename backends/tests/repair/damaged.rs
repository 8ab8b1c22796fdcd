//! What each damage costs, and what is said of it.

use std::fs;

use tidelog_backends::{SledStore, restore_backup};
use tidelog_core::*;

use crate::scene::*;
use crate::tools::{self, read_all, segment, segments, stream};

#[test]
fn a_flipped_bit_costs_its_commit_and_its_stream_waits_for_an_answer() {
    let scene = Scene::new(330, true);
    scene.damage(2, |bytes| {
        let frame = &frames(bytes)[10];
        bytes[frame.start + 200] ^= 4;
    });
    assert!(matches!(
        SledStore::open(scene.store()).and_then(|store| store.verify()),
        Err(Error::Damaged { .. })
    ));
    let (report, store) = scene.repair();
    let [lost] = &report.lost[..] else {
        panic!("{report:?}")
    };
    assert_eq!(lost.commits, lost.positions);
    assert_eq!((report.losses.unnamed, report.commits), (0, 329));
    let [of] = &report.losses.streams[..] else {
        panic!("{report:?}")
    };
    let gone = &scene.events[*lost.positions.start() as usize - 1];
    assert_eq!(of.stream, gone.stream);
    assert_eq!(of.sequences, [gone.sequence..=gone.sequence]);

    let refused = append(&store, &gone.stream, 5_000).unwrap_err();
    assert_eq!(
        (refused.code(), refused.kind()),
        ("lost_events", ErrorKind::Repair)
    );
    assert!(
        refused
            .to_string()
            .contains(&format!("sequences {}", gone.sequence))
    );
    let others = scene
        .events
        .iter()
        .find(|event| event.stream != gone.stream);
    append(&store, &others.unwrap().stream, 5_001).unwrap();

    let read = tools::read_stream(&store, &gone.stream).unwrap_err();
    assert!(
        matches!(&read, Error::Gap { stream: Some(stream), first, last }
        if *stream == gone.stream && (*first, *last) == (gone.sequence, gone.sequence))
    );
    store.accept_loss(&gone.stream).unwrap();
    let there = tools::read_stream(&store, &gone.stream).unwrap();
    assert_eq!(there.len(), 65);
    let receipt = append(&store, &gone.stream, 5_000).unwrap();
    assert_eq!(receipt.first_sequence, 67);
    store.crash();
    drop(store);
    let store = open(&scene.to());
    assert!(store.losses().unwrap().streams[0].accepted);
    assert_eq!(
        append(&store, &gone.stream, 5_002).unwrap().first_sequence,
        68
    );
    assert_eq!(
        append(&store, &gone.stream, 5_000).unwrap().first_sequence,
        67
    );
    store.verify().unwrap();
}

#[test]
fn a_deleted_segment_in_the_middle_is_told_stream_by_stream() {
    let scene = Scene::new(330, true);
    fs::remove_file(segment(&scene.store(), 2)).unwrap();
    let refused = SledStore::open(scene.store()).map(drop).unwrap_err();
    assert!(refused.to_string().contains("`repair`"), "{refused}");
    let (report, store) = scene.repair();
    assert_eq!(report.lost.len(), 1);
    assert_eq!((report.losses.unnamed, report.losses.streams.len()), (0, 5));
    assert!(report.index_asked);
    let backup = scene.root.path().join("backup");
    store.backup(&backup).unwrap();
    let restored = scene.root.path().join("restored");
    restore_backup(&backup, &restored).unwrap();
    let restored = open(&restored);
    assert_eq!(restored.losses().unwrap(), report.losses);
    assert_eq!(
        append(&restored, &stream("1"), 9_000).unwrap_err().code(),
        "lost_events"
    );
    restored.accept_all_losses().unwrap();
    assert_eq!(
        append(&restored, &stream("1"), 9_000)
            .unwrap()
            .first_sequence,
        67
    );
    assert_eq!(
        read_all(&restored).unwrap().len() as u64,
        report.records + 6
    );
}

#[test]
fn the_beginning_of_a_log_can_be_gone() {
    let scene = Scene::new(200, true);
    fs::remove_file(segment(&scene.store(), 1)).unwrap();
    let (report, store) = scene.repair();
    assert_eq!(*report.lost[0].positions.start(), 1);
    assert_eq!(report.losses.unnamed, 0);
    assert!(matches!(
        read_all(&store),
        Err(Error::Gap {
            stream: None,
            first: 1,
            ..
        })
    ));
}

#[test]
fn a_cut_sealed_segment_loses_its_end() {
    let scene = Scene::new(330, false);
    scene.damage(3, |bytes| bytes.truncate(bytes.len() / 2));
    let (report, _) = scene.repair();
    assert_eq!((report.lost.len(), report.losses.unnamed), (1, 0));
}

#[test]
fn a_lost_end_that_nothing_names_makes_the_whole_store_wait() {
    let scene = Scene::new(200, true);
    let newest = segments(&scene.store())
        .into_iter()
        .rfind(|number| {
            fs::read(segment(&scene.store(), *number))
                .unwrap()
                .starts_with(b"TIDESEG1")
        })
        .unwrap();
    scene.damage(newest, |bytes| {
        let frames = frames(bytes);
        let last = frames[frames.len() - 3].start;
        bytes[last..].fill(0);
    });
    let (report, store) = scene.repair();
    assert_eq!((report.commits, report.losses.unnamed), (197, 3));
    let refused = append(&store, &stream("0"), 5_000).unwrap_err();
    assert!(
        refused.to_string().contains("accept_all_losses"),
        "{refused}"
    );
    assert_eq!(
        store.accept_loss(&stream("0")).unwrap_err().code(),
        "lost_events"
    );
    store.accept_all_losses().unwrap();
    // Any stream may have had the three that are gone.
    let heads: Vec<u64> = (0..5)
        .map(|n| {
            let head = store.blocking().head(&stream(&n.to_string())).unwrap();
            head.unwrap().sequence
        })
        .collect();
    for (n, head) in heads.iter().enumerate() {
        let to = stream(&n.to_string());
        let receipt = append(&store, &to, 6_000 + n as u64).unwrap();
        assert_eq!(receipt.first_sequence, head + 4);
        assert!(receipt.first_position.unwrap() > 200);
    }
    assert_eq!(
        append(&store, &stream("new"), 7_000)
            .unwrap()
            .first_sequence,
        4
    );
    store.close_blocking().unwrap();
    drop(store);
    let store = open(&scene.to());
    assert_eq!(
        append(&store, &stream("0"), 8_000).unwrap().first_sequence,
        heads[0] + 5
    );
    store.verify().unwrap();
    store.rebuild_index().unwrap();
    store.verify().unwrap();
}

#[test]
fn a_newest_segment_that_lost_its_end_may_have_held_more() {
    let scene = Scene::new(20, false);
    scene.damage(1, |bytes| {
        let end = frames(bytes).pop().unwrap().start + 10;
        bytes.truncate(end);
    });
    let (report, store) = scene.repair_to_less(19);
    assert!(report.losses.unnamed > 900, "{report:?}");
    store.accept_all_losses().unwrap();
    let receipt = append(&store, &stream("4"), 900).unwrap();
    assert!(receipt.first_sequence > 4 && receipt.first_position.unwrap() > 20);
}
