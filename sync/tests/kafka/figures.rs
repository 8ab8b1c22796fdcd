//! What the `metrics` facade gets to hear of publishing: enough to watch it.

use tempfile::tempdir;

use crate::recorder::{self, Kept};
use crate::stores::{self, Shop};
use crate::sweep::Random;
use crate::{services, topics};

#[test]
fn publishing_tells_how_far_it_is_and_what_it_has_set_aside() {
    let Some(address) = services::kafka() else {
        return;
    };
    let test = "figures::publishing_tells_how_far_it_is_and_what_it_has_set_aside";
    let servers = [("TIDELOG_TEST_KAFKA", address.clone())];
    if let Some(kept) = recorder::alone(test, &servers) {
        watched(kept, address);
    }
}

fn watched(kept: &Kept, address: String) {
    let shop = Shop::new("figures", address, 2);
    topics::alter(&shop.address, &shop.topic(), "max.message.bytes", "10000");
    let dir = tempdir().unwrap();
    let log = shop.open(dir.path());
    let payload = stores::noise(&mut Random(7), 200_000);
    stores::append(&log, &stores::stream(9), payload);
    for number in 0..50 {
        stores::append(&log, &stores::stream(number % 5), b"one".to_vec());
    }
    stores::level(&log);
    #[allow(clippy::cast_precision_loss, reason = "a small number")]
    let last = log.last_position() as f64;
    kept.until("tidelog_sink_settled_position sink=kafka", last);
    kept.until("tidelog_sink_parked_streams sink=kafka", 1.0);
    log.close().unwrap();
    for (name, expected) in [
        ("tidelog_appended_position ", last),
        ("tidelog_sink_settled_position sink=kafka", last),
        ("tidelog_sink_lag_events sink=kafka", 0.0),
        ("tidelog_sink_lag_seconds sink=kafka", 0.0),
        ("tidelog_sink_parked_streams sink=kafka", 1.0),
        ("tidelog_sink_window_bytes sink=kafka", 0.0),
    ] {
        let found = kept.gauge(name);
        assert!((found - expected).abs() < 1e-9, "{name}: {found}");
    }
    let delivered = kept.counter("tidelog_sink_delivered_events_total sink=kafka");
    assert_eq!(delivered, 50);
    assert!(kept.counter("tidelog_sink_refused_messages_total sink=kafka") >= 1);
    assert!(kept.counter("tidelog_sink_connects_total sink=kafka") >= 1);
    assert!(kept.counter("tidelog_sink_generations_total sink=kafka") >= 1);
    shop.forget();
}
