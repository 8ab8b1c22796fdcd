//! What a cluster had taken, and has not any more.

use std::time::Duration;

use super::counted;
use super::world::Till;

#[test]
fn what_was_lost_is_sent_again_also_by_the_publisher_after_a_crash() {
    let mut till = Till::new();
    for _ in 0..8 {
        till.append("T/a", 1, 10);
    }
    till.rest();
    till.script.world.lock().lose("tidelog.T", 4);
    till.script.world.lock().is_still = true;
    // It is looked at, and kept; and nothing is taken.
    till.skip(Duration::from_secs(300));
    till.run_until_kept(|kept| kept.places.values().all(|at| *at == 3));
    till.crash();
    till.script.world.lock().is_still = false;
    till.settle();
    till.run_for(Duration::from_secs(5));
    assert_eq!(till.sequences("T/a"), counted(1, 8));
}

#[test]
fn what_was_lost_under_a_producer_that_gave_up_is_sent_again_after_a_crash() {
    let mut till = Till::new();
    for _ in 0..8 {
        till.append("T/a", 1, 10);
    }
    till.rest();
    let fatal = crate::kafka::broker::Fatal {
        reason: "out of order".into(),
        lost_data: true,
    };
    till.script.world.lock().is_still = true;
    till.script.world.lock().fatal = Some(fatal);
    till.run_until(|status| status.fatals == 1);
    till.run_until_kept(|kept| kept.republish.is_some());
    till.crash();
    till.script.world.lock().is_still = false;
    till.run_until(|status| status.again >= 4);
}

#[test]
fn a_topic_that_does_not_say_what_it_has_keeps_no_other_from_being_published() {
    let mut till = Till::new();
    till.script.world.lock().make("tidelog.U");
    for _ in 0..8 {
        till.append("T/a", 1, 10);
        till.append("U/a", 1, 10);
    }
    till.rest();
    till.stop();
    till.script.world.lock().lose("tidelog.T", 2);
    till.script.world.lock().lose("tidelog.U", 2);
    till.script.world.lock().silent = Some("tidelog.U");
    till.crash();
    till.append("T/a", 1, 10);
    till.settle();
    assert_eq!(till.sequences("T/a"), counted(1, 9));
    // It is looked at again.
    till.script.world.lock().silent = None;
    till.skip(Duration::from_secs(300));
    till.run_until(|status| status.restarted_topics.len() == 2);
    till.rest();
    let world = till.script.world.lock();
    assert_eq!(world.sequences("tidelog.U")["U/a"], counted(1, 8));
}

#[test]
fn a_clock_that_is_ten_years_off_either_way_changes_nothing() {
    const TEN_YEARS: i64 = 10 * 365 * 86_400_000_000;
    for years in [TEN_YEARS, -TEN_YEARS] {
        let mut till = Till::new();
        till.append("T/a", 2, 10);
        till.settle();
        till.wall.advance_micros(years);
        till.append("T/a", 2, 10);
        till.append("T/b", 1, 10);
        till.rest();
        // It is set right while nobody looks, and the other way.
        till.wall.advance_micros(-2 * years);
        till.crash();
        till.append("T/a", 1, 10);
        till.settle();
        assert_eq!(till.status.status().delivered, 1, "nothing is sent twice");
        assert_eq!(till.sequences("T/a"), counted(1, 5));
        assert_eq!(till.sequences("T/b"), [1]);
        till.rest();
        till.run_for(Duration::from_secs(3));
        let record = till.script.world.lock().record.clone().unwrap();
        assert_eq!(record.position, 6);
    }
}
