//! Keys that are parked, and taken in again.

use std::time::Duration;

use tidelog::{Error, KafkaListenerConfig, KafkaListenerStatus};

use super::kit::{Group, of, options, start_with, told};

const WITHIN: Duration = Duration::from_secs(120);

/// Whether everything below is put down: letters stand in Kafka by then.
fn is_at(offset: i64) -> impl Fn(&KafkaListenerStatus) -> bool {
    move |status| status.places.first().and_then(|place| place.committed) == Some(offset)
}

fn parked_and_taken_in(group: &Group, config: impl Fn() -> KafkaListenerConfig) {
    group.write(&[("a", 1), ("a", 2), ("b", 1), ("a", 3)]);
    let (listener, heard) = told();
    heard.poison.lock().push(("a".into(), 2));
    let running = start_with(config(), listener, options());
    let mut handled = heard.next(2);
    handled.sort();
    assert_eq!(handled, [("a".to_owned(), 1), ("b".to_owned(), 1)]);
    running.control().blocking().wait_until(is_at(4));
    running.stop().unwrap();

    group.write(&[("a", 4)]);
    let (listener, heard) = told();
    let running = start_with(config(), listener, options());
    let control = running.control().blocking();
    control.wait_until(is_at(5));
    assert!(heard.rest().is_empty());
    assert_eq!(control.parked()[0].stream.as_ref(), "Till/a");
    control.resume("Till/a").unwrap();
    assert_eq!(heard.rest(), of("a", [2, 3, 4]));
    group.write(&[("a", 5)]);
    assert_eq!(heard.next(1), of("a", [5]));
    let nothing = control.resume("Till/a").unwrap_err();
    assert!(matches!(nothing, Error::InvalidInput { .. }), "{nothing}");
    running.stop().unwrap();
}

#[test]
fn a_parked_key_is_taken_in_again_in_order_and_survives_its_member() {
    let Some(group) = Group::new("resume", 1) else {
        return;
    };
    parked_and_taken_in(&group, || group.config());
}

#[test]
fn it_is_so_where_the_broker_divides_the_places() {
    let Some(group) = Group::new("resume-848", 1) else {
        return;
    };
    parked_and_taken_in(&group, || {
        KafkaListenerConfig::new([&group.address], group.name.as_str())
            .topics([group.topic.as_str()])
            .set("group.protocol", "consumer")
    });
}

#[test]
fn who_is_no_member_sees_what_is_parked_and_is_told_what_came_of_asking_for_it() {
    let Some(group) = Group::new("outside", 1) else {
        return;
    };
    // What it reads need not be said.
    let config = KafkaListenerConfig::new([&group.address], group.name.as_str());
    let parked = config.parked_keys().unwrap().blocking();
    assert_eq!(parked.list().unwrap(), []);
    group.write(&[("a", 1), ("b", 1), ("a", 2)]);
    let (listener, heard) = told();
    let poison = [("a".to_owned(), 1), ("b".to_owned(), 1)];
    heard.poison.lock().extend(poison);
    let running = group.start(listener);
    let control = running.control().blocking();
    control.wait_until(is_at(3));

    let found = parked.list().unwrap();
    let mut streams: Vec<&str> = found.iter().map(|key| &*key.stream).collect();
    streams.sort_unstable();
    assert_eq!(streams, ["Till/a", "Till/b"]);
    let still = parked.resume("Till/a", WITHIN).unwrap_err();
    assert!(still.to_string().contains("it is poison"), "{still}");
    let nobody = parked.resume("Till/c", WITHIN).unwrap_err();
    assert!(matches!(nobody, Error::InvalidInput { .. }), "{nobody}");
    heard.poison.lock().clear();
    parked.resume("Till/a", WITHIN).unwrap();
    assert_eq!(heard.rest(), of("a", [1, 2]));
    parked.skip("Till/b", WITHIN).unwrap();
    assert!(heard.rest().is_empty());
    assert_eq!(parked.list().unwrap(), []);

    // While no member is there it stays asked for, and the next one does it.
    group.write(&[("a", 3)]);
    assert_eq!(heard.next(1), of("a", [3]));
    heard.poison.lock().push(("a".into(), 4));
    group.write(&[("a", 4)]);
    control.wait_until(is_at(5));
    running.stop().unwrap();
    let waits = parked.resume("Till/a", Duration::from_millis(300));
    let waits = waits.unwrap_err().to_string();
    assert!(waits.contains("it stays asked for"), "{waits}");
    let (listener, heard) = told();
    let running = group.start(listener);
    assert_eq!(heard.next(1), of("a", [4]));
    running.stop().unwrap();
}
