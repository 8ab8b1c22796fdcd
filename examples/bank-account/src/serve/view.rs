//! How accounts and events are shown. Amounts are texts, since numbers of JSON are not exact in every
//! reader.

use serde_json::{Map, Value, json};
use tidelog::{
    Aggregate, CORRELATION_ID, Error, EventEnvelope, RecordKind, TRACEPARENT, Timestamp,
};

use crate::aggregate::BankAccount;
use crate::event::BankAccountEvent;
use crate::read_models::AccountRow;
use crate::transfer::{Transfer, TransferEvent};

/// `12.34`.
pub(super) fn amount(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

pub(super) fn account(id: &str, account: &BankAccount, sequence: u64) -> Value {
    json!({
        "id": id,
        "holder": account.holder,
        "balance": amount(account.cents),
        "closed": account.closed,
        "sequence": sequence,
    })
}

pub(super) fn row(id: &str, row: &AccountRow) -> Value {
    json!({
        "id": id,
        "holder": row.holder,
        "balance": amount(row.cents),
        "closed": row.closed,
        "deposits": row.deposits,
        "deposited": amount(row.deposited_cents),
    })
}

/// One recorded event; `None` of what is no event of the bank's.
pub(super) fn event(envelope: &EventEnvelope) -> Result<Option<Value>, Error> {
    let of = envelope.aggregate_type();
    if envelope.kind == RecordKind::Control || (of != BankAccount::TYPE && of != Transfer::TYPE) {
        return Ok(None);
    }
    let mut shown = Map::new();
    let mut says = |key: &str, value: Value| shown.insert(key.into(), value);
    let about = if of == BankAccount::TYPE {
        "account"
    } else {
        "transfer"
    };
    says(about, envelope.aggregate_id().into());
    says("sequence", envelope.sequence.into());
    says("position", envelope.position.into());
    says("type", (*envelope.event_type).into());
    says("time", time(envelope.event_time));
    says("recorded", time(envelope.recorded_time));
    for key in [TRACEPARENT, CORRELATION_ID] {
        if let Some(value) = envelope.metadata.get(key) {
            says(key, value.into());
        }
    }
    // A record is one event, unless an upcaster has split it: then the later ones have the last word.
    for fact in envelope.of::<BankAccount>()? {
        match fact {
            BankAccountEvent::Opened { holder } => drop(says("holder", holder.into())),
            BankAccountEvent::Deposited { cents, cds } => {
                says("amount", amount(cents).into());
                if cds > 0 {
                    says("cds", cds.into());
                }
            }
            BankAccountEvent::Withdrawn { cents } => drop(says("amount", amount(cents).into())),
            BankAccountEvent::Closed => {}
        }
    }
    for fact in envelope.of::<Transfer>()? {
        match fact {
            TransferEvent::Requested {
                from, to, cents, ..
            }
            | TransferEvent::Debited { from, to, cents } => {
                says("from", from.into());
                says("to", to.into());
                says("amount", amount(cents).into());
            }
            TransferEvent::Refused { reason } => drop(says("reason", reason.into())),
            TransferEvent::CreditRefused {
                from,
                cents,
                reason,
            } => {
                says("from", from.into());
                says("amount", amount(cents).into());
                says("reason", reason.into());
            }
            TransferEvent::RefundFailed { cents, reason } => {
                says("amount", amount(cents).into());
                says("reason", reason.into());
            }
            TransferEvent::Completed | TransferEvent::Refunded | TransferEvent::Expired => {}
        }
    }
    Ok(Some(Value::Object(shown)))
}

pub(super) fn time(time: Timestamp) -> Value {
    time.to_string().into()
}
