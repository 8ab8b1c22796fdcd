//! The domain of these tests: a bank account that counts how often it is asked to decide.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use tidelog_core::{Aggregate, Command, Context, Decide, Event};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AccountEvent {
    Opened {
        owner: String,
    },
    Deposited {
        cents: u64,
    },
    Withdrawn {
        cents: u64,
    },
    /// What the aggregate decides but cannot apply.
    Impossible,
}

impl Event for AccountEvent {
    fn event_type(&self) -> &'static str {
        match self {
            Self::Opened { .. } => "Opened",
            Self::Deposited { .. } => "Deposited",
            Self::Withdrawn { .. } => "Withdrawn",
            Self::Impossible => "Impossible",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Account {
    pub id_seen: String,
    pub cents: u64,
    pub events: u64,
}

#[derive(Debug, PartialEq)]
pub enum No {
    AlreadyOpen,
    NotOpen,
    TooLittle { cents: u64 },
    History,
}

impl fmt::Display for No {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for No {}

impl Aggregate for Account {
    const TYPE: &'static str = "Account";
    const SNAPSHOT_REVISION: u32 = 2;
    type Event = AccountEvent;
    type Error = No;

    fn apply(state: Option<Self>, event: &AccountEvent) -> Result<Self, No> {
        let (mut account, first) = match state {
            Some(account) => (account, false),
            None => (
                Self {
                    id_seen: String::new(),
                    cents: 0,
                    events: 0,
                },
                true,
            ),
        };
        match event {
            AccountEvent::Opened { owner } if first => account.id_seen.clone_from(owner),
            AccountEvent::Deposited { cents } if !first => account.cents += cents,
            AccountEvent::Withdrawn { cents } if !first => account.cents -= cents,
            _ => return Err(No::History),
        }
        account.events += 1;
        Ok(account)
    }
}

/// How often a command was decided, over all its clones.
#[derive(Clone, Debug, Default)]
pub struct Decisions(Arc<AtomicUsize>);

impl Decisions {
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

#[derive(Clone, Debug)]
pub enum What {
    Open,
    Deposit(u64),
    Withdraw(u64),
    /// Several events at once.
    Split(Vec<u64>),
    Nothing,
    Impossible,
}

#[derive(Clone, Debug)]
pub struct Do {
    pub id: Option<String>,
    pub what: What,
    pub decisions: Decisions,
}

pub fn on(id: &str, what: What) -> Do {
    Do {
        id: Some(id.into()),
        what,
        decisions: Decisions::default(),
    }
}

impl Command for Do {
    type Aggregate = Account;

    fn target_aggregate_identifier(&self) -> Option<&str> {
        self.id.as_deref()
    }
}

impl Decide<Do> for Account {
    type Rejection = No;

    fn decide(state: Option<&Self>, command: &Do, ctx: &Context) -> Result<Vec<AccountEvent>, No> {
        command.decisions.0.fetch_add(1, Ordering::SeqCst);
        let account = match (&command.what, state) {
            (What::Open, None) => {
                return Ok(vec![AccountEvent::Opened {
                    owner: ctx.aggregate_id().into(),
                }]);
            }
            (What::Open, Some(_)) => return Err(No::AlreadyOpen),
            (_, None) => return Err(No::NotOpen),
            (_, Some(account)) => account,
        };
        match &command.what {
            What::Open | What::Nothing => Ok(vec![]),
            What::Deposit(cents) => Ok(vec![AccountEvent::Deposited { cents: *cents }]),
            What::Withdraw(cents) if *cents > account.cents => Err(No::TooLittle {
                cents: account.cents,
            }),
            What::Withdraw(cents) => Ok(vec![AccountEvent::Withdrawn { cents: *cents }]),
            What::Split(parts) => Ok(parts
                .iter()
                .map(|cents| AccountEvent::Deposited { cents: *cents })
                .collect()),
            What::Impossible => Ok(vec![
                AccountEvent::Deposited { cents: 1 },
                AccountEvent::Impossible,
            ]),
        }
    }
}
