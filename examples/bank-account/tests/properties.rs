//! What accounts and transfers promise, tried on generated commands, one after the other and raced.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use bank_account::aggregate::BankAccount;
use bank_account::commands::{
    CloseAccount, Deposit, DepositForCds, OpenAccount, Refusal, Withdraw,
};
use bank_account::event::BankAccountEvent;
use bank_account::transfer::{
    ExpireTransfer, RecordCredit, RecordDebit, RecordRefund, RequestTransfer, Transfer,
    TransferEvent, TransferRefusal,
};
use proptest::prelude::*;
use tidelog::testing::aggregate_check;
use tidelog::{Command, ContentType, Context, Decide, RawEvent};

/// Any of some commands of one aggregate.
macro_rules! any_command {
    ($name:ident of $aggregate:ty, $event:ty, $rejection:ty: $($command:ident),*) => {
        #[derive(Clone, Debug)]
        enum $name {
            $($command($command),)*
        }

        impl Command for $name {
            type Aggregate = $aggregate;

            fn target_aggregate_identifier(&self) -> Option<&str> {
                match self {
                    $(Self::$command(command) => command.target_aggregate_identifier(),)*
                }
            }
        }

        impl Decide<$name> for $aggregate {
            type Rejection = $rejection;

            fn decide(
                state: Option<&Self>,
                command: &$name,
                context: &Context,
            ) -> Result<Vec<$event>, $rejection> {
                match command {
                    $($name::$command(command) => Self::decide(state, command, context),)*
                }
            }
        }
    };
}

any_command!(
    BankCommand of BankAccount, BankAccountEvent, Refusal:
    OpenAccount, Deposit, DepositForCds, Withdraw, CloseAccount
);
any_command!(
    TransferCommand of Transfer, TransferEvent, TransferRefusal:
    RequestTransfer, RecordDebit, RecordCredit, RecordRefund, ExpireTransfer
);

/// Small amounts, which meet, and the largest ones.
fn cents() -> impl Strategy<Value = u64> {
    prop_oneof![9 => 0..500_u64, 1 => u64::MAX - 3..=u64::MAX]
}

fn bank_command() -> impl Strategy<Value = BankCommand> {
    let id = || "[abc]";
    prop_oneof![
        2 => (id(), "[A-Z][a-z]{0,8}").prop_map(|(id, holder)| {
            let account_id = Some(id);
            BankCommand::OpenAccount(OpenAccount { account_id, holder })
        }),
        1 => Just(BankCommand::OpenAccount(OpenAccount {
            account_id: None,
            holder: "Somebody".into(),
        })),
        4 => (id(), cents())
            .prop_map(|(account_id, cents)| BankCommand::Deposit(Deposit { account_id, cents })),
        2 => (id(), cents(), any::<u32>()).prop_map(|(account_id, cents, cds)| {
            let cds = cds.into();
            BankCommand::DepositForCds(DepositForCds { account_id, cents, cds })
        }),
        4 => (id(), cents())
            .prop_map(|(account_id, cents)| BankCommand::Withdraw(Withdraw { account_id, cents })),
        1 => id().prop_map(|account_id| BankCommand::CloseAccount(CloseAccount { account_id })),
    ]
}

/// Records of before the number of CDs stood in them.
fn old_deposit() -> impl Strategy<Value = RawEvent> {
    (0..128_u8).prop_map(|cents| RawEvent {
        event_type: "Deposited".into(),
        revision: 1,
        content_type: ContentType::Postcard,
        payload: vec![cents].into(),
    })
}

#[test]
fn an_account_neither_makes_nor_loses_money() {
    aggregate_check(bank_command())
        .conserved(
            "money",
            |event| match event {
                BankAccountEvent::Deposited { cents, .. } => i128::from(*cents),
                BankAccountEvent::Withdrawn { cents } => -i128::from(*cents),
                BankAccountEvent::Opened { .. } | BankAccountEvent::Closed => 0,
            },
            |account: &BankAccount| account.cents.into(),
        )
        .invariant("it has a holder", |account| !account.holder.is_empty())
        .old_events(old_deposit())
        .cases(64)
        .run();
}

fn outcome() -> impl Strategy<Value = Result<(), String>> {
    prop_oneof![3 => Just(Ok(())), 1 => Just(Err("no".to_owned()))]
}

fn transfer_command() -> impl Strategy<Value = TransferCommand> {
    let id = || "[tu]";
    prop_oneof![
        3 => (id(), "[ab]", "[ab]", 0..3_u64, 0..9_u64).prop_map(|(id, from, to, cents, seconds)| {
            TransferCommand::RequestTransfer(RequestTransfer {
                transfer_id: Some(id),
                from,
                to,
                cents,
                within: Duration::from_secs(seconds),
            })
        }),
        3 => (id(), outcome()).prop_map(|(transfer_id, outcome)| {
            TransferCommand::RecordDebit(RecordDebit { transfer_id, outcome })
        }),
        2 => (id(), outcome()).prop_map(|(transfer_id, outcome)| {
            TransferCommand::RecordCredit(RecordCredit { transfer_id, outcome })
        }),
        2 => (id(), outcome()).prop_map(|(transfer_id, outcome)| {
            TransferCommand::RecordRefund(RecordRefund { transfer_id, outcome })
        }),
        1 => id().prop_map(|transfer_id| {
            TransferCommand::ExpireTransfer(ExpireTransfer { transfer_id })
        }),
    ]
}

#[test]
fn a_transfer_takes_its_steps_in_an_order_that_it_can_replay() {
    aggregate_check(transfer_command())
        .invariant("something moves", |transfer: &Transfer| transfer.cents > 0)
        .invariant("between two accounts", |transfer| {
            transfer.from != transfer.to
        })
        .cases(64)
        .run();
}
