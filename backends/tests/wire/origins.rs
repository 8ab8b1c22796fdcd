//! `origins`: who has an epoch, how far it is, and what came out of it.

use tidelog_backends::wire::{ForkRows, OriginRow, Reply, Request, Watermark};
use uuid::Uuid;

use crate::kit::{Ask, cases};

cases![
    an_origin_that_never_registered_is_unknown,
    an_epoch_is_registered_once,
    epochs_of_an_origin_stand_beside_each_other,
    all_origins_are_listed,
    a_claim_gives_the_epoch_to_another_session,
    a_claim_wants_everything_as_it_was_seen,
    a_claim_of_an_unknown_epoch_makes_none,
    the_watermark_moves_with_what_is_published_and_keeps_its_session,
    the_watermark_may_go_back,
    the_watermark_moves_from_where_it_was_seen_alone,
    an_advance_of_an_unknown_epoch_makes_none,
    a_fork_beside_its_parent,
    a_fork_that_retires_its_parent,
    a_fork_of_what_moved_changes_nothing,
    a_fork_into_an_epoch_that_is_there_changes_nothing,
    a_retired_epoch_is_neither_claimed_nor_moved,
    a_retired_epoch_may_have_another_fork,
];

fn register(row: &OriginRow) -> Request {
    Request::Register(Box::new(row.clone()))
}

fn claim(ask: &Ask, seen: Watermark, session: Uuid) -> Request {
    Request::Claim {
        origin: ask.uuid(1),
        epoch: ask.uuid(2),
        seen,
        session,
    }
}

fn advance(ask: &Ask, seen: Watermark, to: Watermark) -> Request {
    Request::Advance {
        origin: ask.uuid(1),
        epoch: ask.uuid(2),
        seen,
        to,
        published: to.position / 3,
    }
}

/// Epoch 3 out of epoch 2 at 5.
fn fork(ask: &Ask, retires: Option<Watermark>) -> ForkRows {
    ForkRows {
        row: OriginRow {
            parent: Some((ask.uuid(2), 5, [5; 32])),
            watermark: ask.mark(5),
            published: 4,
            ..ask.origin_row(3)
        },
        retires: retires.map(|seen| (ask.uuid(2), seen)),
    }
}

/// Other values than `seen` in one of the three that count.
fn others(ask: &Ask, seen: Watermark) -> [Watermark; 3] {
    [
        Watermark {
            session: ask.uuid(199),
            ..seen
        },
        Watermark {
            position: seen.position + 1,
            ..seen
        },
        Watermark {
            hash: [99; 32],
            ..seen
        },
    ]
}

async fn an_origin_that_never_registered_is_unknown(ask: Ask) {
    assert!(ask.origins().await.is_empty());
}

async fn an_epoch_is_registered_once(ask: Ask) {
    let mut row = ask.origin_row(2);
    row.name = "Kasse \u{1f30a}".into();
    row.parent = Some((ask.uuid(9), 1 << 40, [7; 32]));
    row.watermark = ask.mark(1 << 41);
    row.published = 1 << 39;
    assert!(ask.applied(register(&row)).await);
    assert!(!ask.applied(register(&ask.origin_row(2))).await);
    assert_eq!(ask.origins().await, [row]);
}

async fn epochs_of_an_origin_stand_beside_each_other(ask: Ask) {
    for epoch in [4, 2, 3] {
        assert!(ask.applied(register(&ask.origin_row(epoch))).await);
    }
    let wanted = [2, 3, 4].map(|epoch| ask.origin_row(epoch));
    assert_eq!(ask.origins().await, wanted);
}

async fn all_origins_are_listed(ask: Ask) {
    let mut other = ask.origin_row(2);
    other.origin = ask.uuid(60);
    assert!(ask.applied(register(&ask.origin_row(2))).await);
    assert!(ask.applied(register(&other)).await);
    let Reply::Origins(all) = ask.ask(Request::AllOrigins).await else {
        panic!("no origins");
    };
    assert!(all.contains(&other) && all.contains(&ask.origin_row(2)));
}

async fn a_claim_gives_the_epoch_to_another_session(ask: Ask) {
    assert!(ask.applied(register(&ask.origin_row(2))).await);
    let next = ask.uuid(101);
    assert!(ask.applied(claim(&ask, ask.mark(0), next)).await);
    assert!(!ask.applied(claim(&ask, ask.mark(0), next)).await);
    let mut wanted = ask.origin_row(2);
    wanted.watermark.session = next;
    assert_eq!(ask.origins().await, [wanted]);
}

async fn a_claim_wants_everything_as_it_was_seen(ask: Ask) {
    assert!(ask.applied(register(&ask.origin_row(2))).await);
    for seen in others(&ask, ask.mark(0)) {
        assert!(!ask.applied(claim(&ask, seen, ask.uuid(101))).await);
    }
    assert_eq!(ask.origins().await, [ask.origin_row(2)]);
}

async fn a_claim_of_an_unknown_epoch_makes_none(ask: Ask) {
    assert!(!ask.applied(claim(&ask, ask.mark(0), ask.uuid(101))).await);
    assert!(ask.origins().await.is_empty());
}

async fn the_watermark_moves_with_what_is_published_and_keeps_its_session(ask: Ask) {
    assert!(ask.applied(register(&ask.origin_row(2))).await);
    assert!(ask.applied(advance(&ask, ask.mark(0), ask.mark(8))).await);
    assert!(!ask.applied(advance(&ask, ask.mark(0), ask.mark(8))).await);
    assert!(ask.applied(advance(&ask, ask.mark(8), ask.mark(200))).await);
    let mut wanted = ask.origin_row(2);
    wanted.watermark = ask.mark(200);
    wanted.published = 66;
    assert_eq!(ask.origins().await, [wanted]);
}

async fn the_watermark_may_go_back(ask: Ask) {
    let mut row = ask.origin_row(2);
    row.watermark = ask.mark(40);
    assert!(ask.applied(register(&row)).await);
    assert!(ask.applied(advance(&ask, ask.mark(40), ask.mark(0))).await);
    assert_eq!(ask.origins().await, [ask.origin_row(2)]);
}

async fn the_watermark_moves_from_where_it_was_seen_alone(ask: Ask) {
    let mut row = ask.origin_row(2);
    row.watermark = ask.mark(40);
    assert!(ask.applied(register(&row)).await);
    for seen in others(&ask, ask.mark(40)) {
        let to = Watermark {
            session: seen.session,
            ..ask.mark(50)
        };
        assert!(!ask.applied(advance(&ask, seen, to)).await);
    }
    assert_eq!(ask.origins().await, [row]);
}

async fn an_advance_of_an_unknown_epoch_makes_none(ask: Ask) {
    assert!(!ask.applied(advance(&ask, ask.mark(0), ask.mark(1))).await);
    assert!(ask.origins().await.is_empty());
}

async fn a_fork_beside_its_parent(ask: Ask) {
    assert!(ask.applied(register(&ask.origin_row(2))).await);
    let fork = fork(&ask, None);
    assert!(ask.applied(Request::Fork(Box::new(fork.clone()))).await);
    assert!(!ask.applied(Request::Fork(Box::new(fork.clone()))).await);
    assert_eq!(ask.origins().await, [ask.origin_row(2), fork.row]);
    assert!(ask.applied(advance(&ask, ask.mark(0), ask.mark(1))).await);
}

async fn a_fork_that_retires_its_parent(ask: Ask) {
    let mut parent = ask.origin_row(2);
    parent.watermark = ask.mark(5);
    assert!(ask.applied(register(&parent)).await);
    let fork = fork(&ask, Some(ask.mark(5)));
    assert!(ask.applied(Request::Fork(Box::new(fork.clone()))).await);
    parent.successor = Some(ask.uuid(3));
    assert_eq!(ask.origins().await, [parent, fork.row]);
}

async fn a_fork_of_what_moved_changes_nothing(ask: Ask) {
    let mut parent = ask.origin_row(2);
    parent.watermark = ask.mark(5);
    assert!(ask.applied(register(&parent)).await);
    for seen in others(&ask, ask.mark(5)).into_iter().take(2) {
        let fork = fork(&ask, Some(seen));
        assert!(!ask.applied(Request::Fork(Box::new(fork))).await);
    }
    assert_eq!(ask.origins().await, [parent]);
}

async fn a_fork_into_an_epoch_that_is_there_changes_nothing(ask: Ask) {
    let rows = [ask.origin_row(2), ask.origin_row(3)];
    for row in &rows {
        assert!(ask.applied(register(row)).await);
    }
    let fork = fork(&ask, Some(ask.mark(0)));
    assert!(!ask.applied(Request::Fork(Box::new(fork))).await);
    assert_eq!(ask.origins().await, rows);
}

async fn a_retired_epoch_is_neither_claimed_nor_moved(ask: Ask) {
    assert!(ask.applied(register(&ask.origin_row(2))).await);
    let retires = fork(&ask, Some(ask.mark(0)));
    assert!(ask.applied(Request::Fork(Box::new(retires))).await);
    assert!(!ask.applied(claim(&ask, ask.mark(0), ask.uuid(101))).await);
    assert!(!ask.applied(advance(&ask, ask.mark(0), ask.mark(1))).await);
}

async fn a_retired_epoch_may_have_another_fork(ask: Ask) {
    assert!(ask.applied(register(&ask.origin_row(2))).await);
    let first = fork(&ask, Some(ask.mark(0)));
    assert!(ask.applied(Request::Fork(Box::new(first))).await);
    let mut second = fork(&ask, None);
    second.row.epoch = ask.uuid(4);
    assert!(ask.applied(Request::Fork(Box::new(second))).await);
    let rows = ask.origins().await;
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0].successor, Some(ask.uuid(3)));
}
