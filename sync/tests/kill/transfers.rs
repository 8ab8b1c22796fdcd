//! Transfers between accounts that are closed and overdrawn at random, with deadlines.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidelog::*;

use crate::aggregate::BankAccount;
use crate::child::{Part, say};
use crate::commands::{CloseAccount, Deposit, OpenAccount, Withdraw};
use crate::event::BankAccountEvent;
use crate::sweep::{Random, Tally};
use crate::transfer::{Phase, RequestTransfer, Transfer, TransferEvent, Transfers};

pub fn builder(builder: TidelogBuilder) -> TidelogBuilder {
    builder.process_manager(Transfers)
}

/// What a child does with it.
pub struct Working {
    accounts: Vec<String>,
}

impl Working {
    pub fn start(log: &BlockingTidelog) -> Self {
        let all = log.read_all(LogQuery::all()).map(Result::unwrap);
        let opened = all.filter(|event| &*event.event_type == "Opened");
        let accounts = opened.map(|event| event.aggregate_id().to_owned());
        Self {
            accounts: accounts.collect(),
        }
    }

    fn account(&self, random: &mut Random) -> String {
        // Mostly the newest: those before them are closed by and by.
        let from = self.accounts.len().saturating_sub(5);
        random.pick(&self.accounts[from..]).clone()
    }
}

impl Part for Working {
    fn act(&mut self, log: &BlockingTidelog, random: &mut Random) {
        if self.accounts.len() < 3 || random.one_in(24) {
            let opened = log.execute(OpenAccount {
                account_id: None,
                holder: "Ada".into(),
            });
            let account_id = opened.unwrap().aggregate_id;
            self.accounts.push(account_id.clone());
            let cents = 1_000;
            log.execute(Deposit { account_id, cents }).unwrap();
            return;
        }
        let account_id = self.account(random);
        // Whether the bank refuses is all the same here.
        match random.below(16) {
            0 => drop(log.execute(CloseAccount { account_id })),
            1 => {
                let cents = 1 + random.below(500) as u64;
                drop(log.execute(Deposit { account_id, cents }));
            }
            2 => {
                let cents = 1 + random.below(500) as u64;
                drop(log.execute(Withdraw { account_id, cents }));
            }
            _ => {
                let to = self.account(random);
                let requested = log.execute(RequestTransfer {
                    transfer_id: None,
                    from: account_id,
                    to,
                    cents: 1 + random.below(700) as u64,
                    within: Duration::from_micros(random.below(20_000) as u64),
                });
                if let Ok(requested) = requested {
                    say(&format!("requested {}", requested.aggregate_id));
                }
            }
        }
    }
}

/// What the parent knows.
#[derive(Default)]
pub struct Oracle {
    requested: BTreeSet<String>,
}

/// What one transfer did.
#[derive(Debug, Default)]
struct Seen {
    state: Option<Transfer>,
    ends: u32,
    expired: u32,
    moves: Vec<(String, i128)>,
}

impl Oracle {
    pub fn hear(&mut self, words: &[&str]) {
        if let ["requested", id] = words {
            self.requested.insert((*id).to_owned());
        }
    }

    pub fn look(&self, store: &SledStore, events: &[EventEnvelope]) {
        let ids: BTreeSet<_> = events.iter().map(|event| event.event_id).collect();
        assert_eq!(ids.len(), events.len(), "a command was executed twice");
        let transfers = seen(events);
        for id in &self.requested {
            assert!(
                transfers.contains_key(id),
                "{id} was acknowledged and is gone"
            );
        }
        for (id, one) in &transfers {
            let state = one.state.as_ref().unwrap();
            let paths = paths(state);
            assert!(
                paths.iter().any(|path| path.starts_with(&one.moves)),
                "{id}: {one:?}"
            );
            assert!(one.ends <= 1 && one.expired <= 1, "{id}: {one:?}");
            if state.phase.is_end() {
                assert_eq!(one.moves, expected(state), "{id}");
            }
        }
        if let Some(bytes) = pollster::block_on(store.load("pm.transfers")).unwrap() {
            let state = ListenerState::decode("pm.transfers", &bytes).unwrap();
            let held = state.parked.values().find(|parked| parked.held() > 0);
            assert_eq!(held, None, "no transfer is ever parked");
        }
    }

    /// Lets every transfer end, and counts the money.
    pub fn rest(log: &BlockingTidelog, tally: &mut Tally) {
        let manager = log.inner().process_manager::<Transfers>().unwrap();
        loop {
            let last = log.last_position();
            pollster::block_on(manager.wait_for(last)).unwrap();
            if log.last_position() == last {
                break;
            }
        }
        let events: Vec<_> = log.read_all(LogQuery::all()).map(Result::unwrap).collect();
        let (mut balances, mut from_outside) = (0, 0);
        let of_transfers = requests(&events);
        for event in &events {
            for fact in event.of::<BankAccount>().unwrap() {
                let cents = change(&fact);
                balances += cents;
                if transfer_of(event, &of_transfers).is_none() {
                    from_outside += cents;
                }
            }
        }
        let mut lost = 0;
        for (id, one) in seen(&events) {
            let state = one.state.as_ref().unwrap();
            assert_eq!(one.ends, 1, "{id} has not ended: {one:?}");
            tally.count("transfers", format!("{:?}", state.phase));
            if one.expired > 0 {
                tally.count("transfers", "Expired before");
            }
            if state.phase == Phase::RefundFailed {
                lost += i128::from(state.cents);
            }
        }
        assert_eq!(balances + lost, from_outside, "money was made or lost");
    }
}

/// Which transfer each request began, by the request's event id.
fn requests(events: &[EventEnvelope]) -> BTreeMap<String, String> {
    let requests = events
        .iter()
        .filter(|event| &*event.event_type == "TransferRequested");
    let ids = requests.map(|event| (event.event_id.to_string(), event.aggregate_id().to_owned()));
    ids.collect()
}

fn transfer_of<'a>(
    event: &EventEnvelope,
    requests: &'a BTreeMap<String, String>,
) -> Option<&'a String> {
    requests.get(event.metadata.get(CORRELATION_ID)?)
}

fn change(fact: &BankAccountEvent) -> i128 {
    match fact {
        BankAccountEvent::Deposited { cents, .. } => i128::from(*cents),
        BankAccountEvent::Withdrawn { cents } => -i128::from(*cents),
        BankAccountEvent::Opened { .. } | BankAccountEvent::Closed => 0,
    }
}

fn seen(events: &[EventEnvelope]) -> BTreeMap<String, Seen> {
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    let requests = requests(events);
    for event in events {
        for fact in event.of::<Transfer>().unwrap() {
            let one = seen.entry(event.aggregate_id().to_owned()).or_default();
            let state = Transfer::apply(one.state.take(), &fact).unwrap();
            one.ends += u32::from(state.phase.is_end());
            one.expired += u32::from(fact == TransferEvent::Expired);
            one.state = Some(state);
        }
        for fact in event.of::<BankAccount>().unwrap() {
            if let Some(id) = transfer_of(event, &requests) {
                let one = seen.entry(id.clone()).or_default();
                one.moves
                    .push((event.aggregate_id().to_owned(), change(&fact)));
            }
        }
    }
    seen
}

fn paths(state: &Transfer) -> [Vec<(String, i128)>; 2] {
    let cents = i128::from(state.cents);
    let out = (state.from.clone(), -cents);
    [
        vec![out.clone(), (state.to.clone(), cents)],
        vec![out, (state.from.clone(), cents)],
    ]
}

/// The moves that the phase of an ended transfer stands for.
fn expected(state: &Transfer) -> Vec<(String, i128)> {
    let [completed, refunded] = paths(state);
    match state.phase {
        Phase::Completed => completed,
        Phase::Refunded => refunded,
        Phase::RefundFailed => completed.into_iter().take(1).collect(),
        _ => Vec::new(),
    }
}
