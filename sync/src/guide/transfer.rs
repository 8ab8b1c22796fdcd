// A transfer between two bank accounts, for the code of chapter 10. It is no module of the crate; the
// chapter's code has it, beside bank.rs, by these hidden lines:
//
//     # mod transfer { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/guide/transfer.rs")); }
//     # use transfer::*;

use std::convert::Infallible;

use serde::{Deserialize, Serialize};
use tidelog::{Aggregate, Command, Context, Decide, Event, Timestamp};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
pub enum TransferEvent {
    Requested { from: String, to: String, cents: u64, deadline: Timestamp },
    Debited { to: String, cents: u64 },
    CreditRefused { from: String, cents: u64 },
    Expired,
    Ended { how: String },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Transfer {
    from: String,
    to: String,
    cents: u64,
    last: TransferEvent,
}

impl Aggregate for Transfer {
    const TYPE: &'static str = "Transfer";
    type Event = TransferEvent;
    type Error = Infallible;

    fn apply(state: Option<Self>, event: &TransferEvent) -> Result<Self, Infallible> {
        let last = event.clone();
        Ok(match (state, event) {
            (_, TransferEvent::Requested { from, to, cents, .. }) => {
                Self { from: from.clone(), to: to.clone(), cents: *cents, last }
            }
            (Some(transfer), _) => Self { last, ..transfer },
            (None, _) => Self { from: String::new(), to: String::new(), cents: 0, last },
        })
    }
}

/// Moves money, within a minute.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub id: String,
    pub from: String,
    pub to: String,
    pub cents: u64,
}

/// Records what came of the step before.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub id: String,
    pub outcome: Result<(), String>,
}

/// The deadline has passed.
#[derive(Clone, Debug, PartialEq)]
pub struct Expire {
    pub id: String,
}

macro_rules! to_transfers {
    ($($command:ty),*) => {
        $(impl Command for $command {
            type Aggregate = Transfer;
            fn target_aggregate_identifier(&self) -> Option<&str> {
                Some(&self.id)
            }
        })*
    };
}

to_transfers!(Request, Record, Expire);

impl Decide<Request> for Transfer {
    type Rejection = Infallible;
    fn decide(_: Option<&Self>, asked: &Request, context: &Context) -> Result<Vec<TransferEvent>, Infallible> {
        let deadline = Timestamp::from_micros(context.now().as_micros() + 60_000_000);
        let (from, to, cents) = (asked.from.clone(), asked.to.clone(), asked.cents);
        Ok(vec![TransferEvent::Requested { from, to, cents, deadline }])
    }
}

impl Decide<Record> for Transfer {
    type Rejection = Infallible;
    fn decide(transfer: Option<&Self>, record: &Record, _: &Context) -> Result<Vec<TransferEvent>, Infallible> {
        let Some(Self { from, to, cents, last }) = transfer.cloned() else {
            return Ok(vec![]);
        };
        let ended = |how: &str| TransferEvent::Ended { how: how.to_owned() };
        Ok(vec![match (last, &record.outcome) {
            (TransferEvent::Requested { .. }, Ok(())) => TransferEvent::Debited { to, cents },
            (TransferEvent::Debited { .. }, Ok(())) => ended("completed"),
            (TransferEvent::Debited { .. }, Err(_)) | (TransferEvent::Expired, Ok(())) => {
                TransferEvent::CreditRefused { from, cents }
            }
            (TransferEvent::CreditRefused { .. }, Ok(())) => ended("refunded"),
            (_, Err(reason)) => ended(reason),
            (_, Ok(())) => ended("twice"),
        }])
    }
}

impl Decide<Expire> for Transfer {
    type Rejection = Infallible;
    fn decide(transfer: Option<&Self>, _: &Expire, _: &Context) -> Result<Vec<TransferEvent>, Infallible> {
        match transfer.map(|transfer| &transfer.last) {
            Some(TransferEvent::Requested { .. }) => Ok(vec![TransferEvent::Expired]),
            _ => Ok(vec![]),
        }
    }
}
