//! What a repair keeps, and where it may work.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tidelog_backends::{Phase, Progress, ProgressCallback, SledStore, repair, repair_told};
use tidelog_core::*;

use crate::scene::*;
use crate::tools::{read_all, segment, segments, stream};

#[test]
fn a_healthy_store_is_kept_whole_and_nothing_is_said_to_be_lost() {
    for closed in [true, false] {
        let scene = Scene::new(200, closed);
        let (report, store) = scene.repair();
        assert_eq!((report.commits, report.records), (200, 200));
        assert!(report.lost.is_empty() && report.losses == store.losses().unwrap());
        assert_eq!(store.info().unwrap().epoch, report.epoch);
        assert_eq!(store.info().unwrap().incompatible_flags, 0);
        assert_eq!(read_all(&store).unwrap().len(), 201);
        let receipt = append(&store, &stream("0"), 1_000).unwrap();
        assert_eq!(
            (receipt.first_sequence, receipt.first_position),
            (41, Some(202))
        );
    }
}

#[test]
fn a_zeroed_header_costs_nothing() {
    for number in [1, 2] {
        let scene = Scene::new(200, true);
        scene.damage(number, |bytes| bytes[..FIRST_FRAME].fill(0));
        let (report, _) = scene.repair();
        assert!(report.lost.is_empty());
        assert_eq!(report.commits, 200);
    }
    // Even where nothing is left that says in which epoch the log began.
    let scene = Scene::new(20, true);
    scene.damage(1, |bytes| bytes[..FIRST_FRAME].fill(0));
    let (report, store) = scene.repair();
    assert!(report.lost.is_empty());
    assert_eq!(append(&store, &stream("0"), 900).unwrap().first_sequence, 5);
}

#[test]
fn what_nothing_vouches_for_is_a_write_that_never_finished() {
    let scene = Scene::new(50, false);
    scene.damage(1, |bytes| {
        let last = frames(bytes).pop().unwrap();
        bytes[last.end - 300..last.end].fill(0);
        // With the mark that vouches for it.
        let end = bytes.len();
        bytes[end - 4096..].fill(0);
    });
    let (report, store) = scene.repair_to_less(49);
    assert!(report.lost.is_empty());
    assert_eq!(
        append(&store, &stream("4"), 900).unwrap().first_sequence,
        10
    );
}

#[test]
fn a_lost_format_is_made_again_from_the_segments() {
    let scene = Scene::new(100, true);
    fs::remove_file(scene.store().join("format")).unwrap();
    let (report, _) = scene.repair();
    assert!(report.lost.is_empty());
    // But not believed where it is another store's.
    let other = Scene::new(5, true);
    fs::copy(other.store().join("format"), scene.store().join("format")).unwrap();
    let to = scene.root.path().join("other");
    let refused = repair(scene.store(), &to).unwrap_err();
    assert!(refused.to_string().contains("another store"), "{refused}");
}

#[test]
fn a_repair_tells_how_far_it_is_and_is_ended_where_it_is_told_to() {
    let scene = Scene::new(400, true);
    let told: Arc<Mutex<Vec<Progress>>> = Arc::default();
    let all = Arc::clone(&told);
    let hear: ProgressCallback = Arc::new(move |progress| {
        all.lock().unwrap().push(progress);
        ControlFlow::Continue(())
    });
    repair_told(scene.store(), scene.root.path().join("told"), Some(&hear)).unwrap();
    let steps: Vec<_> = told.lock().unwrap().drain(..).collect();
    assert!(steps.len() >= 6, "{steps:?}");
    let counts = |step: &Progress| step.phase == Phase::Repair && step.done < step.total;
    assert!(steps.iter().all(counts), "{steps:?}");
    assert!(steps.is_sorted_by_key(|step| step.done), "{steps:?}");
    // Ended at each step, nothing of it is a store, and the same call begins again.
    let to = scene.to();
    for left in 0..steps.len() {
        let left = AtomicUsize::new(left);
        let end: ProgressCallback = Arc::new(move |_| {
            if left.fetch_sub(1, Ordering::SeqCst) == 0 {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        let ended = repair_told(scene.store(), &to, Some(&end)).unwrap_err();
        assert!(matches!(ended, Error::Cancelled { .. }), "{ended}");
        assert!(SledStore::open(&to).is_err());
    }
    scene.repair();
}

#[test]
fn a_repair_that_never_ended_is_no_store_and_is_begun_again() {
    let scene = Scene::new(200, true);
    let report = repair(scene.store(), scene.to()).unwrap();
    // What a kill before the last step leaves.
    fs::write(scene.to().join("repair"), "").unwrap();
    let refused = SledStore::open(scene.to()).map(drop).unwrap_err();
    assert!(refused.to_string().contains("repair"), "{refused}");
    assert!(matches!(
        repair(scene.to(), scene.root.path().join("b")),
        Err(Error::NotAStore { .. })
    ));
    fs::remove_file(segment(&scene.to(), 1)).unwrap();
    let (again, _) = scene.repair();
    assert_eq!(
        (again.commits, again.records),
        (report.commits, report.records)
    );
    assert_ne!(again.epoch, report.epoch);
}

#[test]
fn nothing_is_repaired_over_something_else_or_under_somebody() {
    let scene = Scene::new(5, true);
    let refused = |to: &Path| repair(scene.store(), to).unwrap_err().code();
    let foreign = scene.root.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("letter.txt"), "dear").unwrap();
    assert_eq!(refused(&foreign), "not_a_store");
    assert_eq!(refused(&scene.store()), "not_a_store");
    assert_eq!(refused(&scene.store().join("log/inside")), "not_a_store");
    assert_eq!(
        repair(&foreign, scene.to()).unwrap_err().code(),
        "not_a_store"
    );
    let store = open(&scene.store());
    assert_eq!(refused(&scene.to()), "locked");
    drop(store);
    repair(scene.store(), scene.to()).unwrap();
    assert_eq!(refused(&scene.to()), "not_a_store");
}

#[test]
fn a_commit_is_whole_without_the_zeros_that_fill_it_up() {
    let scene = Scene::new(330, true);
    let sealed = segments(&scene.store()).into_iter().find(|number| {
        let bytes = fs::read(segment(&scene.store(), *number)).unwrap();
        bytes.len() < 65_536 && bytes.last() == Some(&0)
    });
    let number = sealed.expect("the payloads make some padding");
    let whole = fs::read(segment(&scene.store(), number)).unwrap();
    scene.damage(number, |bytes| bytes.truncate(bytes.len() - 1));
    let (report, _) = scene.repair();
    assert!(report.lost.is_empty(), "{report:?}");
    fs::remove_dir_all(scene.to()).unwrap();
    scene.damage(number, |bytes| {
        *bytes = whole;
        *bytes.last_mut().unwrap() = 7;
    });
    let (report, _) = scene.repair();
    assert!(report.lost.is_empty(), "{report:?}");
}
