//! Anything may happen in any order: a listener against a plain model.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use tidelog::*;

use crate::kit::*;

#[derive(Clone, Debug)]
enum Op {
    Append(u8),
    /// The next event of the stream, as it stands now, fails.
    Poison(u8),
    /// The next event of the stream hangs until the listener is stopped or crashes.
    Hang(u8),
    Heal(u8),
    Resume(u8),
    Skip(u8),
    Pass(u16),
    Poll,
    Crash,
    Stop,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..4_u8).prop_map(Op::Append),
        2 => (0..4_u8).prop_map(Op::Poison),
        1 => (0..4_u8).prop_map(Op::Hang),
        2 => (0..4_u8).prop_map(Op::Heal),
        2 => (0..4_u8).prop_map(Op::Resume),
        1 => (0..4_u8).prop_map(Op::Skip),
        3 => (0..1_500_u16).prop_map(Op::Pass),
        4 => Just(Op::Poll),
        1 => Just(Op::Crash),
        1 => Just(Op::Stop),
    ]
}

fn name(stream: u8) -> String {
    format!("s{stream}")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_event_is_handled_in_order_or_parked_or_was_skipped(
        ops in prop::collection::vec(op(), 1..80),
        concurrency in 1..4_usize,
    ) {
        let (store, time, told) = (Watched::new(), Time::default(), Told::default());
        let retry = RetryPolicy { attempts: 2, ..RetryPolicy::default() };
        let options = ListenerOptions::default().concurrency(concurrency).retry(retry);
        let new = || Driven::new(&store, &time, &told, options.clone());
        let mut driven = new();
        let mut counts: BTreeMap<u8, u64> = BTreeMap::new();
        let mut skipped: BTreeSet<(String, u64)> = BTreeSet::new();
        let mut crashes = false;
        for op in ops {
            match op {
                Op::Append(stream) => {
                    store.note(&name(stream));
                    *counts.entry(stream).or_default() += 1;
                }
                Op::Poison(stream) => {
                    let next = counts.get(&stream).copied().unwrap_or(0) + 1;
                    told.to(&name(stream), next, Does::Fails);
                }
                Op::Hang(stream) => {
                    let next = counts.get(&stream).copied().unwrap_or(0) + 1;
                    told.to(&name(stream), next, Does::Hangs);
                }
                Op::Heal(stream) => (1..100).for_each(|sequence| told.heal(&name(stream), sequence)),
                Op::Resume(stream) => {
                    // Asked and not waited for.
                    let (mail, stream) = (driven.mail.clone(), id(&name(stream)));
                    let mut asked = Box::pin(mail.resume(&stream));
                    let _ = asked.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
                }
                Op::Skip(stream) => {
                    driven.settle();
                    let parked = driven.mail.parked().into_iter().find(|p| p.stream == id(&name(stream)));
                    let (mail, of) = (driven.mail.clone(), id(&name(stream)));
                    let mut asked = Box::pin(mail.skip(&of));
                    // What hangs behind it keeps it from being answered.
                    let mut answer = None;
                    for _ in 0..20 {
                        let cx = &mut std::task::Context::from_waker(std::task::Waker::noop());
                        if let std::task::Poll::Ready(ready) = asked.as_mut().poll(cx) {
                            answer = Some(ready);
                            break;
                        }
                        driven.settle();
                        time.0.advance_micros(100_000);
                    }
                    // Refused when nothing is parked, or when it is being resumed.
                    if let Some(parked) = parked
                        && !matches!(answer, Some(Err(Error::InvalidInput { .. })))
                    {
                        skipped.insert((name(stream), parked.sequence));
                    }
                }
                Op::Pass(millis) => drop(driven.pass(&time, Duration::from_millis(millis.into()))),
                Op::Poll => drop(driven.settle()),
                Op::Crash => {
                    driven.crash();
                    crashes = true;
                    driven = new();
                }
                Op::Stop => {
                    let mail = driven.mail.clone();
                    mail.stop();
                    driven.pass(&time, Duration::from_secs(10));
                    prop_assert!(matches!(driven.done, Some(Ok(()))));
                    drop(driven);
                    driven = new();
                }
            }
        }
        told.heal_all();
        driven.mail.stop();
        driven.pass(&time, Duration::from_secs(10));
        prop_assert!(matches!(driven.done, Some(Ok(()))));
        drop(driven);
        driven = new();
        driven.pass(&time, Duration::from_secs(30));
        for parked in driven.mail.parked() {
            driven.answer(driven.mail.clone().resume(&parked.stream)).unwrap();
        }
        driven.pass(&time, Duration::from_secs(2));
        prop_assert_eq!(driven.parked(), vec![]);
        prop_assert_eq!(driven.mail.status().settled, store.inner.last_position());
        for (stream, count) in counts {
            let handled = told.handled_of(&name(stream));
            let mut seen = BTreeSet::new();
            for sequence in &handled {
                let is_new = !seen.contains(sequence);
                // A new event comes after all before it; one that comes again, only after a crash.
                let gap = (1..*sequence).find(|before| {
                    !seen.contains(before) && !skipped.contains(&(name(stream), *before))
                });
                prop_assert!(!is_new || gap.is_none(), "{sequence} before {gap:?}: {handled:?}");
                prop_assert!(is_new || crashes, "{sequence} twice: {handled:?}");
                seen.insert(*sequence);
            }
            let missing = (1..=count).find(|sequence| {
                !seen.contains(sequence) && !skipped.contains(&(name(stream), *sequence))
            });
            prop_assert_eq!(missing, None, "{:?}", handled);
        }
    }
}
