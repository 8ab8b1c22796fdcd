//! What a handshake record means for a log that is published to Kafka alone.

use tidelog_backends::commits::{CommitEnd, EpochInfo};
use tidelog_core::{Error, Halt};
use uuid::Uuid;

use super::broker::OriginRecord;
use super::state::KafkaState;
use crate::replicate::outbox::{Identity, Outbox};

/// What is known of this log.
pub(super) trait Log {
    fn last(&self) -> u64;
    fn commit_end(&self, position: u64) -> Result<Option<CommitEnd>, Error>;
    fn epochs(&self) -> Result<Vec<EpochInfo>, Error>;
}

impl Log for &dyn Outbox {
    fn last(&self) -> u64 {
        (**self).last()
    }

    fn commit_end(&self, position: u64) -> Result<Option<CommitEnd>, Error> {
        (**self).commit_end(position)
    }

    fn epochs(&self) -> Result<Vec<EpochInfo>, Error> {
        (**self).epochs()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// This log is ours to publish, from where its state says.
    Claim,
    /// The same, from here: the state speaks of no place of this log.
    ClaimAt(CommitEnd),
    /// The same; the record is gone.
    ClaimLost,
    Halt(Halt),
}

pub(super) fn verdict(
    record: Option<&OriginRecord>,
    state: &KafkaState,
    identity: Identity,
    log: &impl Log,
) -> Result<Verdict, Error> {
    let Some(record) = record else {
        return Ok(if state.session.is_nil() {
            Verdict::Claim
        } else {
            Verdict::ClaimLost
        });
    };
    if record.retired.contains(&identity.epoch) {
        return Ok(Verdict::Halt(Halt::EpochRetired {
            epoch: identity.epoch,
            successor: record.epoch,
        }));
    }
    if record.epoch != identity.epoch {
        return other_epoch(record, identity, log);
    }
    if !state.is_ours(record.session) {
        return Ok(Verdict::Halt(cloned(record)));
    }
    let here = end_at(record, log)?;
    let Some(end) = here.filter(|end| end.hash == record.hash) else {
        return Ok(Verdict::Halt(if record.position > log.last() {
            restored(record, log)
        } else {
            Halt::HistoryMismatch {
                origin: record.origin,
                watermark: record.position,
                remote: hex(&record.hash),
                local: here.map_or("no end of a commit".into(), |end| hex(&end.hash)),
            }
        }));
    };
    let known = state.settled;
    let is_here = log.commit_end(known.position)?;
    Ok(if is_here.is_some_and(|end| end.hash == known.hash) {
        Verdict::Claim
    } else {
        Verdict::ClaimAt(end)
    })
}

/// The record is of another epoch than the one that the log is in.
fn other_epoch(
    record: &OriginRecord,
    identity: Identity,
    log: &impl Log,
) -> Result<Verdict, Error> {
    let halt = if !is_ancestor(record.epoch, identity.epoch, &log.epochs()?) {
        Halt::UnknownEpoch {
            origin: record.origin,
            epoch: identity.epoch,
        }
    } else if end_at(record, log)?.is_some_and(|end| end.hash == record.hash) {
        Halt::NewEpoch {
            epoch: identity.epoch,
            parent: record.epoch,
        }
    } else {
        restored(record, log)
    };
    Ok(Verdict::Halt(halt))
}

pub(super) fn is_ancestor(epoch: Uuid, of: Uuid, epochs: &[EpochInfo]) -> bool {
    let mut at = of;
    // A log has each epoch once: more steps than that would go in a circle.
    for _ in 0..=epochs.len() {
        let Some(info) = epochs.iter().find(|info| info.id == at) else {
            return false;
        };
        if info.parent == epoch {
            return true;
        }
        at = info.parent;
    }
    false
}

/// Where this log has a commit that ends where the record says.
pub(super) fn end_at(record: &OriginRecord, log: &impl Log) -> Result<Option<CommitEnd>, Error> {
    if record.position > log.last() {
        return Ok(None);
    }
    log.commit_end(record.position)
}

pub(super) fn cloned(record: &OriginRecord) -> Halt {
    Halt::Cloned {
        origin: record.origin,
        name: record.name.clone(),
        session: record.session,
        watermark: record.position,
    }
}

fn restored(record: &OriginRecord, log: &impl Log) -> Halt {
    Halt::RestoredBackup {
        origin: record.origin,
        watermark: record.position,
        last: log.last(),
    }
}

fn hex(hash: &[u8; 32]) -> Box<str> {
    let text: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: Uuid = Uuid::from_u128(1);
    const FIRST: Uuid = Uuid::from_u128(2);
    const EPOCH: Uuid = Uuid::from_u128(3);
    const SESSION: Uuid = Uuid::from_u128(4);
    const NEXT: Uuid = Uuid::from_u128(5);
    const OTHER: Uuid = Uuid::from_u128(6);

    /// A log of ten commits of two events; it is in its second epoch since position 4.
    struct TenCommits;

    fn end(position: u64) -> CommitEnd {
        CommitEnd {
            number: position / 2,
            position,
            hash: [u8::try_from(position).unwrap(); 32],
        }
    }

    impl Log for TenCommits {
        fn last(&self) -> u64 {
            20
        }

        fn commit_end(&self, position: u64) -> Result<Option<CommitEnd>, Error> {
            Ok((position.is_multiple_of(2) && position <= 20).then(|| end(position)))
        }

        fn epochs(&self) -> Result<Vec<EpochInfo>, Error> {
            let epoch = |id, first_position, parent| EpochInfo {
                id,
                first_position,
                parent,
                parent_position: first_position - 1,
                parent_hash: [0; 32],
            };
            Ok(vec![epoch(FIRST, 1, Uuid::nil()), epoch(EPOCH, 5, FIRST)])
        }
    }

    fn identity() -> Identity {
        Identity {
            origin: ORIGIN,
            first_epoch: FIRST,
            epoch: EPOCH,
        }
    }

    fn state(position: u64) -> KafkaState {
        KafkaState {
            session: SESSION,
            next_session: NEXT,
            settled: end(position),
            ..KafkaState::new(&identity())
        }
    }

    fn record(epoch: Uuid, session: Uuid, at: CommitEnd) -> OriginRecord {
        OriginRecord {
            origin: ORIGIN,
            first_epoch: FIRST,
            epoch,
            parent: None,
            session,
            position: at.position,
            commit: at.number,
            hash: at.hash,
            name: "till".into(),
            retired: Vec::new(),
        }
    }

    fn of(record: Option<&OriginRecord>, state: &KafkaState) -> Verdict {
        verdict(record, state, identity(), &TenCommits).unwrap()
    }

    fn code(record: &OriginRecord, state: &KafkaState) -> &'static str {
        match of(Some(record), state) {
            Verdict::Halt(halt) => halt.code(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn k1_and_k2_without_a_record_the_log_is_claimed_and_a_loss_is_told() {
        assert_eq!(of(None, &KafkaState::new(&identity())), Verdict::Claim);
        assert_eq!(of(None, &state(8)), Verdict::ClaimLost);
    }

    #[test]
    fn k3_a_session_of_ours_goes_on_where_its_state_says_or_else_where_the_record_does() {
        for session in [SESSION, NEXT] {
            let record = record(EPOCH, session, end(8));
            assert_eq!(of(Some(&record), &state(6)), Verdict::Claim);
            assert_eq!(of(Some(&record), &state(10)), Verdict::Claim);
            let mut lost = state(6);
            lost.settled.hash = [99; 32];
            assert_eq!(of(Some(&record), &lost), Verdict::ClaimAt(end(8)));
        }
    }

    #[test]
    fn k4_and_k5_a_record_that_this_log_does_not_contain_stops_it() {
        let beyond = record(EPOCH, SESSION, end(22));
        assert_eq!(code(&beyond, &state(6)), "halted_restored_backup");
        let inside = record(
            EPOCH,
            SESSION,
            CommitEnd {
                hash: [99; 32],
                ..end(8)
            },
        );
        assert_eq!(code(&inside, &state(6)), "halted_history_mismatch");
        let between = record(
            EPOCH,
            SESSION,
            CommitEnd {
                position: 9,
                ..end(8)
            },
        );
        assert_eq!(code(&between, &state(6)), "halted_history_mismatch");
    }

    #[test]
    fn k6_another_session_is_another_copy_wherever_it_is() {
        for at in [end(0), end(8), end(22)] {
            assert_eq!(code(&record(EPOCH, OTHER, at), &state(6)), "halted_cloned");
        }
        let unknown = KafkaState::new(&identity());
        assert_eq!(
            code(&record(EPOCH, OTHER, end(8)), &unknown),
            "halted_cloned"
        );
        assert_eq!(
            code(&record(EPOCH, Uuid::nil(), end(8)), &unknown),
            "halted_cloned"
        );
    }

    #[test]
    fn k7_and_k8_a_record_of_an_epoch_before_asks_for_a_fork() {
        assert_eq!(
            code(&record(FIRST, SESSION, end(4)), &state(4)),
            "halted_new_epoch"
        );
        assert_eq!(
            code(&record(FIRST, SESSION, end(22)), &state(4)),
            "halted_restored_backup"
        );
        let other = CommitEnd {
            hash: [99; 32],
            ..end(4)
        };
        assert_eq!(
            code(&record(FIRST, SESSION, other), &state(4)),
            "halted_restored_backup"
        );
    }

    #[test]
    fn k9_and_k10_an_epoch_that_is_not_known_or_was_given_up_stops_it() {
        assert_eq!(
            code(&record(OTHER, SESSION, end(4)), &state(4)),
            "halted_unknown_epoch"
        );
        let mut retired = record(OTHER, SESSION, end(4));
        retired.retired = vec![FIRST, EPOCH];
        assert_eq!(code(&retired, &state(4)), "halted_epoch_retired");
    }
}
