//! Which part of the log is read for whom: those that stand level share each read.

use tidelog::{
    Error, EventEnvelope, EventLog, HandlerError, MemoryStore, Projection, Projections, ReadModel,
    RowStore, Rows,
};

use crate::common::{Counts, Lever, Sum, Sums, add, added, append};
use crate::counting::Counting;

/// How many amounts there were; one of several of its kind.
struct Number<const N: usize>;

impl<const N: usize> Projection for Number<N> {
    const NAME: &'static str = ["n0", "n1", "n2", "n3", "n4"][N];
    type Key = ();
    type Row = u64;

    fn apply(&self, _: &EventEnvelope, rows: &mut Rows<'_, (), u64>) -> Result<(), HandlerError> {
        rows.update((), |count| *count += 1)
    }
}

fn expect<const N: usize>(projections: &Projections<Counting>, count: u64) {
    let model: ReadModel<Number<N>, Counting> = projections.get().unwrap();
    model.blocking().wait_for(count).unwrap();
    assert_eq!(model.blocking().get(&()).unwrap(), Some(count));
}

#[test]
fn projections_that_stand_level_share_one_read() {
    let store = Counting::default();
    for n in 0..1_000 {
        add(&store, "a", n);
    }
    let projections = Projections::builder(store.clone())
        .projection(Number::<0>)
        .projection(Number::<1>)
        .projection(Number::<2>)
        .start()
        .unwrap();
    expect::<0>(&projections, 1_000);
    expect::<1>(&projections, 1_000);
    expect::<2>(&projections, 1_000);
    let before = store.reads();
    for n in 1_000..1_100 {
        add(&store, "a", n);
    }
    expect::<0>(&projections, 1_100);
    expect::<1>(&projections, 1_100);
    expect::<2>(&projections, 1_100);
    assert_eq!(store.reads(), before, "one subscription feeds all");
    assert_eq!(before.1, 1);
}

#[test]
fn one_that_lags_is_read_forward_until_it_meets_the_others_and_then_shares_with_them() {
    let store = Counting::default();
    let start = || {
        Projections::builder(store.clone())
            .projection(Number::<0>)
            .projection(Number::<1>)
    };
    let projections = start().start().unwrap();
    for n in 0..2_000 {
        add(&store, "a", n);
    }
    expect::<0>(&projections, 2_000);
    expect::<1>(&projections, 2_000);
    drop(projections);
    let projections = start().projection(Number::<3>).start().unwrap();
    expect::<3>(&projections, 2_000);
    let before = store.reads();
    for n in 2_000..2_100 {
        add(&store, "a", n);
    }
    expect::<0>(&projections, 2_100);
    expect::<1>(&projections, 2_100);
    expect::<3>(&projections, 2_100);
    assert_eq!(store.reads(), before, "they have met");
}

#[test]
fn a_rebuild_is_fed_beside_the_live_ones_and_meets_them() {
    let store = Counting::default();
    let projections = Projections::builder(store.clone())
        .projection(Number::<0>)
        .projection(Number::<1>)
        .start()
        .unwrap();
    for n in 0..2_000 {
        add(&store, "a", n);
    }
    expect::<0>(&projections, 2_000);
    let model = projections.get::<Number<0>>().unwrap().blocking();
    model.rebuild().unwrap();
    let before = store.reads();
    add(&store, "a", 1);
    expect::<0>(&projections, 2_001);
    expect::<1>(&projections, 2_001);
    assert_eq!(store.reads(), before);
}

#[test]
fn a_rebuild_ends_while_more_and_more_comes() {
    const APPENDS: u64 = 2_000;
    let store = Counting::default();
    let projections = Projections::builder(store.clone())
        .projection(Number::<0>)
        .start()
        .unwrap();
    for n in 0..1_000 {
        add(&store, "a", n);
    }
    expect::<0>(&projections, 1_000);
    store.append_at_commits(APPENDS);
    let model = projections.get::<Number<0>>().unwrap().blocking();
    model.rebuild().unwrap();
    let came = store.last_position() - 1_000;
    assert!(came < APPENDS, "it ended only when nothing came any more");
}

#[test]
fn rows_show_an_append_whole() {
    let store = Counting::default();
    let projections = Projections::builder(store.clone())
        .projection(Sums::default())
        .start()
        .unwrap();
    let sums = projections.get::<Sums>().unwrap().blocking();
    let asked = sums.clone();
    // 700 events are more than a page.
    let looking = std::thread::spawn(move || {
        loop {
            match asked.get(&"a".into()).unwrap() {
                Some(sum) => {
                    assert_eq!(sum.events % 700, 0, "half of an append");
                    if sum.events == 7_000 {
                        return;
                    }
                }
                None => std::thread::yield_now(),
            }
        }
    });
    sums.wait_for(0).unwrap();
    for _ in 0..10 {
        append(&store, "a", (0..700).map(added).collect());
    }
    looking.join().unwrap();
    assert!(store.commits() <= 10, "{}", store.commits());
}

#[test]
fn a_hole_in_the_log_stops_a_rebuild_that_meets_it_until_it_is_accepted() {
    let store = Counting::default();
    let projections = Projections::builder(store.clone())
        .projection(Sums::default())
        .projection(Counts)
        .start()
        .unwrap();
    let sums = projections.get::<Sums>().unwrap().blocking();
    sums.wait_for(add(&store, "a", 1)).unwrap();
    drop(projections);

    let gap = Error::Gap {
        stream: None,
        first: 2,
        last: 3,
    };
    let projections = Projections::builder(store.clone())
        .projection(Sums::default())
        .start()
        .unwrap();
    let sums = projections.get::<Sums>().unwrap().blocking();
    sums.wait_for(1).unwrap();
    store.refuse(Some(gap));
    // A rebuild reads from the beginning.
    let stopped = sums.rebuild().unwrap_err();
    assert!(
        stopped.to_string().contains("positions 2 to 3 are gone"),
        "{stopped}"
    );
    assert_eq!(
        sums.get(&"a".into()).unwrap(),
        Some(Sum {
            total: 1,
            events: 1
        })
    );
    store.refuse(None);
    // Where the subscription was made too late, it met the hole as well.
    sums.retry().unwrap();
    sums.rebuild().unwrap();
    sums.wait_for(add(&store, "a", 1)).unwrap();
}

#[test]
fn rows_of_another_history_are_made_anew() {
    let (old, new) = (MemoryStore::new(), Counting::default());
    let projections = Projections::builder(old.clone())
        .projection(Sums::default())
        .start();
    let sums = projections
        .as_ref()
        .unwrap()
        .get::<Sums>()
        .unwrap()
        .blocking();
    sums.wait_for(add(&old, "a", 5)).unwrap();
    // What the old store's slot says is copied to a store whose log has another event there.
    add(&new, "a", 7);
    let mut go_on = |_| std::ops::ControlFlow::Continue(());
    let (_, checkpoint) = old.slots("sums", &mut go_on).unwrap().active.unwrap();
    let slot = new.create_slot("sums", &checkpoint).unwrap();
    new.commit(&slot, &[], &checkpoint).unwrap();
    new.activate("sums", &slot).unwrap();

    let lever = Lever::default();
    let projections = Projections::builder(new.clone())
        .projection(Sums(lever.clone()))
        .start();
    let sums = projections.unwrap().get::<Sums>();
    drop(sums);
    let projections = Projections::builder(new)
        .projection(Sums(lever.clone()))
        .start()
        .unwrap();
    let sums = projections.get::<Sums>().unwrap().blocking();
    sums.wait_for(1).unwrap();
    assert_eq!(
        sums.get(&"a".into()).unwrap(),
        Some(Sum {
            total: 7,
            events: 1
        })
    );
    assert!(lever.calls() >= 1);
}
