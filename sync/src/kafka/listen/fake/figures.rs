//! What the `metrics` facade gets to hear of a listener.

use super::super::feed::{Fed, RecordKey};
use super::super::shared::Request;
use super::recorder::Kept;
use super::schedule::{Run, place};
use super::world::Operation;

fn key(name: &str) -> RecordKey {
    RecordKey {
        place: place(0),
        key: Some(name.as_bytes().to_vec().into()),
    }
}

/// How often this stands in what happened.
fn times(run: &Run, what: &str) -> u64 {
    let world = run.world.lock();
    let story = world.story.as_ref().unwrap();
    let found = story.iter().filter(|line| line.contains(what)).count();
    found.try_into().unwrap()
}

/// The member does all that it can; the first commit fails.
fn go_on(run: &mut Run, commits_failed: &mut u64) {
    for _ in 0..400 {
        run.go_on();
        run.give();
        let next = {
            let world = run.world.lock();
            (0..world.operations.len()).find(|at| world.can_operate(*at))
        };
        if let Some(at) = next {
            let mut world = run.world.lock();
            let is_commit = matches!(world.operations[at].2, Operation::Commit(..));
            let fails = is_commit && *commits_failed == 0;
            *commits_failed += u64::from(fails);
            world.operate(at, fails, false);
        }
        run.close_transaction(false);
        run.fetch_some();
        if !run.world.lock().handlers.is_empty() {
            run.complete(0);
        }
        run.clock.advance_micros(20_000);
    }
}

#[test]
fn what_a_listener_does_and_what_goes_wrong_is_counted() {
    let kept: &'static Kept = Box::leak(Box::default());
    metrics::with_local_recorder(&kept, || {
        let mut run = Run::new(11, true);
        run.world.lock().story = Some(Vec::new());
        let member = run.start();
        let mut commits_failed = 0;
        for sequence in 1..=30 {
            run.push(key("a"), sequence.to_string());
        }
        let poison = run.push(key("b"), "1".into());
        run.poison.insert(poison);
        run.push(key("g"), "!".into());
        run.push(key("c"), "3".into());
        go_on(&mut run, &mut commits_failed);
        let end = vec![(place(0), 40)];
        run.world.lock().feed(member, Fed::Ends(end));
        run.go_on();

        let counter = |name: &str| kept.counter(&format!("tidelog_listener_{name} group=group"));
        let gauge = |name: &str| kept.gauge(&format!("tidelog_listener_{name} group=group"));
        assert_eq!(counter("handled_total"), 30);
        assert_eq!(counter("handled_total"), times(&run, ": Handled"));
        assert!(counter("retried_total") > 0);
        assert_eq!(counter("retried_total"), times(&run, ": Passing"));
        assert_eq!(counter("garbage_total"), 1);
        assert_eq!(counter("parked_total"), 2);
        assert_eq!(counter("gaps_total"), 1);
        assert_eq!((counter("commit_failures_total"), commits_failed), (1, 1));
        assert!(counter("rebalances_total") >= 1);
        // The event behind the gap is not settled, and seven more stand behind it.
        assert_eq!((gauge("lag_events"), gauge("held_events")), (8.0, 1.0));
        assert_eq!((gauge("parked_keys"), gauge("in_flight")), (2.0, 0.0));

        run.poison.clear();
        for sequence in 1..=3 {
            run.push(key("c"), sequence.to_string());
        }
        let (reply, _) = oneshot::channel();
        run.processes[0].control.requests().ask(Request::Resume {
            which: "T/b".into(),
            skip: false,
            reply,
        });
        go_on(&mut run, &mut commits_failed);
        assert_eq!(counter("resumed_total"), 1);
        assert_eq!((gauge("parked_keys"), gauge("held_events")), (1.0, 0.0));
        assert_eq!((gauge("lag_events"), gauge("in_flight")), (4.0, 0.0));
    });
}
