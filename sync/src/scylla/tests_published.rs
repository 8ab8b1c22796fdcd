//! The server is told what is published, also while nothing else is to be told.

use std::sync::Arc;

use tidelog_backends::fake::FakeWire;
use tidelog_backends::wire::{Reply, Request};
use tidelog_core::EventLog as _;
use uuid::Uuid;

use super::sink::ScyllaSink;
use super::tests::{Till, server};
use crate::replicate::published::Published;

fn told(wire: &FakeWire, origin: Uuid) -> u64 {
    let request = Request::Origins(origin);
    let reply = wire.with_server(|server| server.execute(&request, &mut |_| true));
    match reply {
        Ok(Reply::Origins(rows)) => rows[0].published,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_published_is_told_by_itself_and_kept_where_nobody_publishes() {
    let wire = server();
    let (fake, published) = (wire.clone(), Arc::<Published>::default());
    let cell = Arc::clone(&published);
    let mut till = Till::on(wire.clone(), move |options| {
        ScyllaSink::new(Arc::new(fake), options).telling(cell)
    });
    let origin = till.store.identity().origin;
    till.append("T/a", 3);
    till.settle();
    assert_eq!(told(&wire, origin), 0, "nobody knows yet");
    for position in [2, 3, 1] {
        published.set(position);
        till.run_until(|_| told(&wire, origin) == position);
    }
    till.crash();
    till.append("T/a", 1);
    till.settle();
    assert_eq!(told(&wire, origin), 1, "as it was");
}
