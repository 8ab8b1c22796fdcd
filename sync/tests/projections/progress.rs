//! How far a projection is can be seen.

use tidelog::{MemoryStore, ProjectionState, Projections};

use crate::common::{Counts, Lever, Sums, add};

#[test]
fn states_and_counts_are_shown() {
    let store = MemoryStore::new();
    let lever = Lever::default();
    let projections = Projections::builder(store.clone())
        .projection(Sums(lever.clone()))
        .inline_projection(Counts)
        .start()
        .unwrap();
    let sums = projections.get::<Sums>().unwrap().blocking();
    for id in ["a", "b", "c"] {
        add(&store, id, 1);
    }
    sums.wait_for(3).unwrap();
    pollster::block_on(projections.applied(3));
    let status = sums.progress();
    assert_eq!(
        (&*status.name, status.version, status.inline),
        ("sums", 1, false)
    );
    assert_eq!((status.position, status.last_position), (3, 3));
    assert_eq!((status.rows, status.parked), (3, 0));
    assert!(matches!(status.state, ProjectionState::Live), "{status:?}");

    lever.fail_permanently(7);
    add(&store, "a", 7);
    assert!(sums.wait_for(4).is_err());
    pollster::block_on(projections.applied(4));
    let [of_sums, of_counts] = &projections.status()[..] else {
        panic!("two are registered")
    };
    assert!(
        matches!(of_sums.state, ProjectionState::Stopped(_)),
        "{of_sums:?}"
    );
    assert_eq!((of_sums.position, of_sums.last_position), (3, 4));
    assert!(
        matches!(of_counts.state, ProjectionState::Live),
        "{of_counts:?}"
    );
    assert_eq!(
        (of_counts.position, of_counts.rows, of_counts.inline),
        (4, 1, true)
    );

    projections.stop();
    assert!(matches!(sums.progress().state, ProjectionState::Closed));
}
