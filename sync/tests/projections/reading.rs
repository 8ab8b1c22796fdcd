//! Rows are typed, found by key, by ranges and by lookups, a page at a time.

use std::ops::Bound;

use tidelog::{Error, MemoryStore, Projections, Repository};

use crate::common::{Counts, Sum, Sums, add, added, append};

#[test]
fn what_was_appended_is_found_once_it_is_waited_for() {
    let store = MemoryStore::new();
    let projections = Projections::builder(store.clone())
        .projection(Sums::default())
        .start()
        .unwrap();
    let sums = projections.get::<Sums>().unwrap().blocking();
    add(&store, "a", 2);
    let position = add(&store, "a", 3);
    sums.wait_for(position).unwrap();
    let row = sums.get(&"a".into()).unwrap();
    assert_eq!(
        row,
        Some(Sum {
            total: 5,
            events: 2
        })
    );
    assert_eq!(sums.get(&"b".into()).unwrap(), None);
}

#[test]
fn ranges_go_both_ways_and_page_by_page() {
    let store = MemoryStore::new();
    let projections = Projections::builder(store.clone())
        .projection(Sums::default())
        .start()
        .unwrap();
    let sums = projections.get::<Sums>().unwrap().blocking();
    for n in 0..25 {
        add(&store, &format!("{n:02}"), n % 3);
    }
    sums.wait_for(25).unwrap();
    let (mut seen, mut after) = (Vec::new(), Bound::Unbounded);
    loop {
        let page = sums.scan((after, Bound::Unbounded), 10).unwrap();
        let Some((last, _)) = page.last() else { break };
        after = Bound::Excluded(last.clone());
        seen.extend(page.into_iter().map(|(id, _)| id));
    }
    let expected: Vec<_> = (0..25).map(|n| format!("{n:02}")).collect();
    assert_eq!(seen, expected);
    let back = sums.scan_back("03".to_owned().."06".to_owned(), 2).unwrap();
    assert_eq!(
        back.iter().map(|(id, _)| &**id).collect::<Vec<_>>(),
        ["05", "04"]
    );
    assert_eq!(sums.scan("9".to_owned().."1".to_owned(), 9).unwrap(), []);

    let found = sums.find("total", &2_u64, 3).unwrap();
    assert_eq!(
        found.iter().map(|(id, _)| &**id).collect::<Vec<_>>(),
        ["02", "05", "08"]
    );
    let found = sums.find_range("total", 1_u64.., 10).unwrap();
    assert_eq!(found.len(), 10);
    assert_eq!((found[0].0, &*found[0].1), (1, "01"));
    assert_eq!((found[8].0, &*found[8].1), (2, "02"));
}

#[test]
fn lookups_follow_the_rows() {
    let store = MemoryStore::new();
    let projections = Projections::builder(store.clone())
        .projection(Sums::default())
        .start()
        .unwrap();
    let sums = projections.get::<Sums>().unwrap().blocking();
    add(&store, "a", 2);
    sums.wait_for(add(&store, "a", 3)).unwrap();
    assert_eq!(sums.find("total", &2_u64, 9).unwrap(), []);
    assert_eq!(sums.find("total", &5_u64, 9).unwrap().len(), 1);
    assert!(matches!(
        sums.find("totals", &5_u64, 9),
        Err(Error::InvalidInput { what: "lookup", .. })
    ));
}

#[tokio::test]
async fn a_read_model_is_a_repository_and_answers_async_callers() {
    async fn total(sums: &impl Repository<String, Sum>) -> Result<u64, Error> {
        let rows = sums.scan(.., 100).await?;
        Ok(rows.into_iter().map(|(_, sum)| sum.total).sum())
    }
    let store = MemoryStore::new();
    let projections = Projections::builder(store.clone())
        .projection(Sums::default())
        .projection(Counts)
        .start()
        .unwrap();
    let sums = projections.get::<Sums>().unwrap();
    let receipt = append(&store, "a", vec![added(1), added(2), added(4)]);
    sums.wait_for(receipt.last_position).await.unwrap();
    assert_eq!(total(&sums).await.unwrap(), 7);
    let counts = projections.get::<Counts>().unwrap();
    counts.wait_for(receipt.last_position).await.unwrap();
    assert_eq!(counts.get(&"Sum".into()).await.unwrap(), Some(3));
}

#[test]
fn a_projection_that_is_not_registered_is_said_to_be_so() {
    let projections = Projections::builder(MemoryStore::new())
        .projection(Counts)
        .start()
        .unwrap();
    let missing = projections.get::<Sums>().unwrap_err();
    assert!(missing.to_string().contains("not registered"), "{missing}");
}

#[test]
fn two_of_one_name_are_refused() {
    let refused = Projections::builder(MemoryStore::new())
        .projection(Counts)
        .inline_projection(Counts)
        .start()
        .unwrap_err();
    assert!(matches!(
        refused,
        Error::InvalidInput {
            what: "projection",
            ..
        }
    ));
}

#[test]
fn once_stopped_everything_answers_closed() {
    let store = MemoryStore::new();
    let projections = Projections::builder(store.clone())
        .projection(Sums::default())
        .start()
        .unwrap();
    let sums = projections.get::<Sums>().unwrap().blocking();
    sums.wait_for(add(&store, "a", 2)).unwrap();
    projections.stop();
    assert!(matches!(sums.get(&"a".into()), Err(Error::Closed)));
    assert!(matches!(sums.wait_for(99), Err(Error::Closed)));
    assert!(matches!(sums.rebuild(), Err(Error::Closed)));
}
