//! Transfers, cut and interleaved anywhere: money is neither made nor lost, and each transfer ends
//! once.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that fails shall stop"
)]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use bank_account::aggregate::BankAccount;
use bank_account::commands::{CloseAccount, Deposit, OpenAccount, Withdraw};
use bank_account::event::BankAccountEvent;
use bank_account::transfer::{Phase, RequestTransfer, Transfer, TransferEvent, Transfers};
use proptest::prelude::*;
use tidelog::*;

/// Executes on a store, lets others in before and after, and loses every `loses`th answer.
#[derive(Clone)]
struct Bus {
    inner: StoreBus<MemoryStore>,
    executed: Arc<AtomicU32>,
    loses: u32,
}

impl CommandBus for Bus {
    async fn execute_with<C>(
        &self,
        command: C,
        context: Context,
    ) -> Result<CommandResponse, CommandError<C>>
    where
        C: Command + Debug + 'static,
        C::Aggregate: Decide<C>,
    {
        let_others_in().await;
        let answer = self.inner.execute_with(command, context).await;
        let_others_in().await;
        let number = self.executed.fetch_add(1, Ordering::SeqCst);
        if number % self.loses == self.loses - 1 {
            return Err(Error::Cancelled { what: "the wire" }.into());
        }
        answer
    }

    async fn find_event(&self, stream: &StreamId, event_id: EventId) -> Result<bool, Error> {
        let_others_in().await;
        self.inner.find_event(stream, event_id).await
    }
}

async fn let_others_in() {
    let mut waited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// What may happen next.
#[derive(Clone, Debug)]
enum Op {
    Transfer(u8, u8, u64, u8),
    Deposit(u8, u64),
    Withdraw(u8, u64),
    Close(u8),
    /// The manager and the timers get on by so many polls, in this order of the bits.
    Poll(u8),
    Pass(u8),
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..3_u8, 0..3_u8, 0..120_u64, 0..4_u8).prop_map(|(from, to, cents, within)| Op::Transfer(from, to, cents, within)),
        2 => (0..3_u8, 1..100_u64).prop_map(|(to, cents)| Op::Deposit(to, cents)),
        1 => (0..3_u8, 1..100_u64).prop_map(|(from, cents)| Op::Withdraw(from, cents)),
        1 => (0..3_u8).prop_map(Op::Close),
        12 => any::<u8>().prop_map(Op::Poll),
        3 => (1..4_u8).prop_map(Op::Pass),
        1 => Just(Op::Crash),
    ]
}

struct Bank {
    store: MemoryStore,
    clock: Arc<ManualClock>,
    bus: Bus,
    /// The manager and its timers, as long as they run.
    running: [BoxFuture<'static, ()>; 2],
    control: ListenerControl,
    /// What came from outside and is in the bank.
    money: i128,
    transfers: u32,
}

impl Bank {
    fn new(loses: u32) -> Self {
        let clock = Arc::new(ManualClock::default());
        let store = MemoryStore::new().with_clock(Arc::clone(&clock) as Arc<dyn Clock>);
        let bus = Bus {
            inner: StoreBus::new(store.clone()),
            executed: Arc::default(),
            loses,
        };
        let (running, control) = start(&store, &clock, &bus);
        let mut bank = Self {
            store,
            clock,
            bus,
            running,
            control,
            money: 0,
            transfers: 0,
        };
        for account in 0..3 {
            let (account_id, holder) = (Some(name(account)), "Ada".to_owned());
            bank.execute(OpenAccount { account_id, holder });
            bank.act(&Op::Deposit(account, 100));
        }
        bank
    }

    fn execute<C>(&self, command: C) -> bool
    where
        C: Command + Debug + 'static,
        C::Aggregate: Decide<C>,
    {
        let context = Context::at(&*self.clock, &SystemIds);
        pollster::block_on(self.bus.inner.execute_with(command, context)).is_ok()
    }

    fn act(&mut self, op: &Op) {
        match *op {
            Op::Transfer(from, to, cents, within) => {
                self.transfers += 1;
                self.execute(RequestTransfer {
                    transfer_id: Some(format!("t{}", self.transfers)),
                    from: name(from),
                    to: name(to),
                    cents,
                    within: Duration::from_secs(within.into()),
                });
            }
            Op::Deposit(account, cents) => {
                let account_id = name(account);
                if self.execute(Deposit { account_id, cents }) {
                    self.money += i128::from(cents);
                }
            }
            Op::Withdraw(account, cents) => {
                let account_id = name(account);
                if self.execute(Withdraw { account_id, cents }) {
                    self.money -= i128::from(cents);
                }
            }
            Op::Close(account) => {
                // What is left in it stays in it.
                let account_id = name(account);
                self.execute(CloseAccount { account_id });
            }
            Op::Poll(bits) => {
                for bit in 0..8 {
                    self.poll(usize::from(bits >> bit & 1));
                }
            }
            Op::Pass(seconds) => self.clock.advance_micros(i64::from(seconds) * 1_000_000),
            Op::Crash => self.restart(),
        }
    }

    fn poll(&mut self, which: usize) {
        let mut cx = TaskContext::from_waker(Waker::noop());
        assert!(self.running[which].as_mut().poll(&mut cx).is_pending());
    }

    fn restart(&mut self) {
        // The name is free only when the one before is gone.
        self.running = [
            Box::pin(std::future::pending()),
            Box::pin(std::future::pending()),
        ];
        (self.running, self.control) = start(&self.store, &self.clock, &self.bus);
    }

    fn rest(&mut self) {
        for _ in 0..60 {
            for _ in 0..200 {
                self.poll(0);
                self.poll(1);
            }
            self.clock.advance_micros(1_000_000);
        }
    }

    fn log(&self) -> Vec<EventEnvelope> {
        pollster::block_on(self.store.read_all(LogQuery::all()).collect()).unwrap()
    }

    fn balances(&self) -> i128 {
        let repository = AggregateRepository::<BankAccount, _>::new(self.store.clone());
        let cents = (0..3).map(|account| {
            let account = pollster::block_on(repository.load(&name(account))).unwrap();
            i128::from(account.unwrap().state.cents)
        });
        cents.sum()
    }

    /// What each transfer has done to the accounts, and how far it is.
    fn transfers(&self) -> BTreeMap<String, Seen> {
        let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
        let mut of_request: BTreeMap<String, String> = BTreeMap::new();
        for event in self.log() {
            for fact in event.of::<Transfer>().unwrap() {
                let id = event.aggregate_id().to_owned();
                let one = seen.entry(id.clone()).or_default();
                let state = Transfer::apply(one.state.take(), &fact).unwrap();
                one.ends += u32::from(state.phase.is_end());
                one.state = Some(state);
                if let TransferEvent::Requested { .. } = fact {
                    of_request.insert(event.event_id.to_string(), id);
                }
            }
            for fact in event.of::<BankAccount>().unwrap() {
                let correlation = event.metadata.get(CORRELATION_ID);
                let Some(transfer) = correlation.and_then(|id| of_request.get(id)) else {
                    continue;
                };
                let cents = match fact {
                    BankAccountEvent::Deposited { cents, .. } => i128::from(cents),
                    BankAccountEvent::Withdrawn { cents } => -i128::from(cents),
                    _ => 0,
                };
                let one = seen.get_mut(transfer).unwrap();
                one.moves.push((event.aggregate_id().to_owned(), cents));
            }
        }
        seen
    }
}

impl Bank {
    /// Every transfer has ended once, and did to the accounts what its end stands for.
    fn look_at_rest(&self) {
        assert_eq!(self.control.parked(), []);
        for (id, seen) in self.transfers() {
            assert_eq!(seen.ends, 1, "{id} ends {seen:?}");
            assert_eq!(seen.moves, seen.expected(), "{id}");
        }
    }
}

#[derive(Debug, Default)]
struct Seen {
    state: Option<Transfer>,
    ends: u32,
    moves: Vec<(String, i128)>,
}

impl Seen {
    fn in_flight(&self) -> i128 {
        -self.moves.iter().map(|(_, cents)| cents).sum::<i128>()
    }

    /// The moves that its phase stands for.
    fn expected(&self) -> Vec<(String, i128)> {
        let state = self.state.as_ref().unwrap();
        let cents = i128::from(state.cents);
        let (out, back) = ((state.from.clone(), -cents), (state.from.clone(), cents));
        let into = (state.to.clone(), cents);
        match state.phase {
            Phase::Completed => vec![out, into],
            Phase::Refunded => vec![out, back],
            Phase::RefundFailed => vec![out],
            Phase::Refused => vec![],
            phase => panic!("it has not ended: {phase:?}"),
        }
    }
}

fn start(
    store: &MemoryStore,
    clock: &Arc<ManualClock>,
    bus: &Bus,
) -> ([BoxFuture<'static, ()>; 2], ListenerControl) {
    let shown = || Arc::clone(clock) as Arc<dyn Clock>;
    let sleeper = Arc::new(ManualSleeper::new(Arc::clone(clock)));
    let listener = ProcessListener::new(Transfers, bus.clone()).with_clock(shown());
    let fires = TimerLoop::new(
        &listener,
        FoldedTimers::new(Transfers, store).unwrap(),
        Arc::clone(&sleeper) as Arc<dyn Sleeper>,
    );
    let retry = RetryPolicy::for_ever();
    let container = EventListenerContainer::builder(store.clone())
        .listener_with(
            "pm.transfers",
            listener,
            ListenerOptions::default().retry(retry),
        )
        .clock(shown())
        .sleeper(sleeper)
        .build()
        .unwrap();
    let control = container.control("pm.transfers").unwrap();
    let manager = async move {
        container.run().await.unwrap();
    };
    ([Box::pin(manager), Box::pin(fires.run(0))], control)
}

fn name(account: u8) -> String {
    format!("acc-{account}")
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn money_is_neither_made_nor_lost_and_each_transfer_ends_once(
        ops in prop::collection::vec(op(), 1..80),
        loses in 2..9_u32,
    ) {
        let mut bank = Bank::new(loses);
        for op in &ops {
            bank.act(op);
            let in_flight: i128 = bank.transfers().values().map(Seen::in_flight).sum();
            prop_assert_eq!(bank.balances() + in_flight, bank.money, "after {:?}", op);
        }
        bank.rest();
        bank.look_at_rest();
        // Run again from the beginning, all of it is found.
        let log = bank.log();
        let replay = bank.control.clone();
        let mut replay = Box::pin(async move { replay.replay_from(1).await });
        for _ in 0..200 {
            let mut cx = TaskContext::from_waker(Waker::noop());
            let done = replay.as_mut().poll(&mut cx).is_ready();
            bank.rest();
            if done { break; }
        }
        prop_assert_eq!(bank.log().len(), log.len());
    }
}

/// The deterministic twin of the kills: each way that a transfer can end, cut after each poll.
#[test]
fn a_crash_after_any_poll_changes_nothing_of_how_a_transfer_ends() {
    for (cents, within, target_closes, ends) in [
        (50, 60, false, Phase::Completed),
        (500, 60, false, Phase::Refused),
        (50, 60, true, Phase::Refunded),
        (50, 0, false, Phase::Refunded),
    ] {
        let mut crashed = 0;
        for crash_at in 0..400 {
            let mut bank = Bank::new(u32::MAX);
            if target_closes {
                bank.act(&Op::Close(1));
            }
            bank.act(&Op::Transfer(0, 1, cents, within));
            let ended = |bank: &Bank| bank.transfers().values().all(|seen| seen.ends == 1);
            let mut polls = 0;
            // A deadline that has passed at once is met before the debit.
            let order: &[usize] = if within == 0 { &[1, 1, 1, 0] } else { &[0, 1] };
            while polls < crash_at && !ended(&bank) {
                bank.poll(order[polls % order.len()]);
                polls += 1;
            }
            if ended(&bank) && polls < crash_at {
                break;
            }
            bank.restart();
            crashed += 1;
            for round in 0..400 {
                bank.poll(order[round % order.len()]);
            }
            bank.rest();
            bank.look_at_rest();
            let seen = bank.transfers().remove("t1").unwrap();
            assert_eq!(
                seen.state.unwrap().phase,
                ends,
                "crashed after {crash_at} polls"
            );
        }
        assert!((8..400).contains(&crashed), "{ends:?}: {crashed} crashes");
    }
}
