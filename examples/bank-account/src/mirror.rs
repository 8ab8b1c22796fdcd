//! Other banks' accounts, kept here: each event once and in order, however often it comes.
//!
//! The ledger of [`InOrder`](tidelog::InOrder) is the store itself: the head of a stream is the last
//! event that was applied, and appending behind just that head is both the effect and its note. The
//! read models of the bank run over this store as over any other.

use tidelog::{
    Aggregate, AppendBatch, Applied, EventEnvelope, ExpectedVersion, HandlerError, Ledger,
    NewEvent, StreamId, Tidelog,
};

use crate::aggregate::BankAccount;

/// A bank that is fed by listeners alone.
#[derive(Clone, Debug)]
pub struct Mirror {
    bank: Tidelog,
}

impl Mirror {
    /// Keeps what it hears in `bank`, which nobody else writes to.
    pub fn of(bank: &Tidelog) -> Self {
        Self { bank: bank.clone() }
    }
}

impl Ledger for Mirror {
    async fn last(&self, stream: &StreamId) -> Result<Option<Applied>, HandlerError> {
        let head = self.bank.head(stream).await?;
        Ok(head.map(|head| Applied {
            sequence: head.sequence,
            event_id: head.event_id,
        }))
    }

    async fn apply(
        &self,
        event: &EventEnvelope,
        after: Option<Applied>,
    ) -> Result<(), HandlerError> {
        let expected = ExpectedVersion::Exact(after.map_or(0, |last| last.sequence));
        // Who it was born by goes with it; the position here is the mirror's own.
        let same = NewEvent {
            event_id: event.event_id,
            event_type: event.event_type.clone(),
            revision: event.revision,
            content_type: event.content_type.clone(),
            event_time: Some(event.event_time),
            metadata: event.metadata.clone(),
            tags: event.tags.clone(),
            birth: event.birth.clone(),
            payload: event.event.clone(),
        };
        let batch = AppendBatch::new(event.stream.clone(), expected, vec![same]);
        self.bank.append(batch).await?;
        Ok(())
    }

    fn wants(&self, event: &EventEnvelope) -> bool {
        event.aggregate_type() == BankAccount::TYPE
    }
}
