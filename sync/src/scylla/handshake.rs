//! What the server knows of this store, and what follows from it before anything is sent.

use tidelog_backends::commits::{CommitEnd, EpochInfo};
use tidelog_backends::wire::{OriginRow, Watermark};
use tidelog_core::{Error, Halt};
use uuid::Uuid;

use crate::replicate::outbox::Identity;
use crate::scylla::state::SinkState;

/// What is known on both sides.
pub(super) struct Seen<'a> {
    pub identity: Identity,
    pub state: &'a SinkState,
    /// The newest position here.
    pub last: u64,
    /// What the server knows of this origin.
    pub rows: &'a [OriginRow],
    /// Whether the server has this store's last commit; `None` while that was not asked.
    pub has_my_end: Option<bool>,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The epoch is made known, and everything is sent.
    Register {
        /// The epoch it came out of, up to where, with the chain hash there.
        parent: Option<(Uuid, u64, [u8; 32])>,
        /// Where its watermark begins.
        at: CommitEnd,
        /// The server knew it once.
        was_lost: bool,
    },
    /// It is ours: it goes on at the watermark.
    Claim { seen: Watermark, at: CommitEnd },
    /// Whether the server has this store's last commit must be asked first.
    AskMyEnd,
    /// A person decides.
    Halt(Halt),
}

/// The local log, as far as the handshake asks for it.
pub(super) trait Log {
    fn commit_end(&self, position: u64) -> Result<Option<CommitEnd>, Error>;
    fn epochs(&self) -> Result<Vec<EpochInfo>, Error>;
}

pub(super) fn verdict(seen: &Seen<'_>, log: &dyn Log) -> Result<Verdict, Error> {
    let epoch = seen.identity.epoch;
    if let Some(row) = seen.rows.iter().find(|row| row.epoch == epoch) {
        return known(seen, row, log);
    }
    let state = seen.state;
    let was_there = state.epoch == epoch && state.settled.position > 0 && !state.session.is_nil();
    if seen.rows.is_empty() {
        return Ok(Verdict::Register {
            parent: None,
            at: seen.identity.genesis(),
            was_lost: was_there,
        });
    }
    if was_there {
        return registered_again(seen, log);
    }
    unknown(seen, log)
}

/// The server knows the epoch.
fn known(seen: &Seen<'_>, row: &OriginRow, log: &dyn Log) -> Result<Verdict, Error> {
    let (state, mark) = (seen.state, row.watermark);
    if let Some(successor) = row.successor {
        let epoch = row.epoch;
        return Ok(Verdict::Halt(Halt::EpochRetired { epoch, successor }));
    }
    let is_ours = state.epoch == row.epoch && state.is_ours(mark.session);
    let here = end_at(seen, log, mark.position)?;
    if let Some(at) = here.filter(|end| end.hash == mark.hash) {
        return Ok(if is_ours {
            Verdict::Claim { seen: mark, at }
        } else {
            Verdict::Halt(cloned(row))
        });
    }
    let is_above = mark.position > seen.last;
    Ok(match (is_ours, is_above, seen.has_my_end) {
        (true, true, _) | (false, true, Some(true)) => Verdict::Halt(restored(seen, row)),
        (true, false, _) => Verdict::Halt(Halt::HistoryMismatch {
            origin: row.origin,
            watermark: mark.position,
            remote: hex(&mark.hash),
            local: here.map_or_else(|| "no end of a commit".into(), |end| hex(&end.hash)),
        }),
        (false, true, None) => Verdict::AskMyEnd,
        (false, ..) => Verdict::Halt(cloned(row)),
    })
}

/// The server knew the epoch, and knows others of this store still.
fn registered_again(seen: &Seen<'_>, log: &dyn Log) -> Result<Verdict, Error> {
    let mut stretches = seen.state.lineage.iter().rev();
    let (newest, before) = (stretches.next(), stretches.next());
    let genesis = seen.identity.genesis();
    let Some((newest, before)) = newest.zip(before) else {
        return Ok(Verdict::Register {
            parent: None,
            at: genesis,
            was_lost: true,
        });
    };
    let position = newest.first_position.saturating_sub(1);
    let Some(at) = end_at(seen, log, position)? else {
        return unknown(seen, log);
    };
    Ok(Verdict::Register {
        parent: Some((before.epoch, position, at.hash)),
        at,
        was_lost: true,
    })
}

/// The server knows this store, but not in this epoch.
fn unknown(seen: &Seen<'_>, log: &dyn Log) -> Result<Verdict, Error> {
    let epochs = log.epochs()?;
    let mut epoch = seen.identity.epoch;
    // A log has each epoch once: more steps than that would go in a circle.
    for _ in 0..=epochs.len() {
        let Some(info) = epochs.iter().find(|info| info.id == epoch) else {
            break;
        };
        epoch = info.parent;
        let Some(row) = seen.rows.iter().find(|row| row.epoch == epoch) else {
            continue;
        };
        let mark = row.watermark;
        let here = end_at(seen, log, mark.position)?;
        let is_contained = here.is_some_and(|end| end.hash == mark.hash);
        return Ok(Verdict::Halt(if is_contained {
            Halt::NewEpoch {
                epoch: seen.identity.epoch,
                parent: epoch,
            }
        } else {
            restored(seen, row)
        }));
    }
    Ok(Verdict::Halt(Halt::UnknownEpoch {
        origin: seen.identity.origin,
        epoch: seen.identity.epoch,
    }))
}

fn end_at(seen: &Seen<'_>, log: &dyn Log, position: u64) -> Result<Option<CommitEnd>, Error> {
    match position {
        0 => Ok(Some(seen.identity.genesis())),
        above if above > seen.last => Ok(None),
        within => log.commit_end(within),
    }
}

pub(super) fn cloned(row: &OriginRow) -> Halt {
    Halt::Cloned {
        origin: row.origin,
        name: row.name.clone(),
        session: row.watermark.session,
        watermark: row.watermark.position,
    }
}

fn restored(seen: &Seen<'_>, row: &OriginRow) -> Halt {
    Halt::RestoredBackup {
        origin: row.origin,
        watermark: row.watermark.position,
        last: seen.last,
    }
}

fn hex(hash: &[u8; 32]) -> Box<str> {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::scylla::state::Stretch;

    const ORIGIN: Uuid = Uuid::from_u128(1);
    const EPOCH: Uuid = Uuid::from_u128(2);
    const PARENT: Uuid = Uuid::from_u128(3);
    const MINE: Uuid = Uuid::from_u128(10);
    const NEXT: Uuid = Uuid::from_u128(11);
    const THEIRS: Uuid = Uuid::from_u128(12);
    const END: u64 = 9;

    fn identity() -> Identity {
        Identity {
            origin: ORIGIN,
            first_epoch: PARENT,
            epoch: EPOCH,
        }
    }

    /// Commits end at 3, 6 and 9; 7 is in the middle of one.
    struct Local {
        ends: BTreeMap<u64, CommitEnd>,
        is_damaged: bool,
    }

    fn end(position: u64) -> CommitEnd {
        CommitEnd {
            number: position / 3,
            position,
            hash: [u8::try_from(position).unwrap(); 32],
        }
    }

    fn local() -> Local {
        Local {
            ends: [3, 6, END].map(|at| (at, end(at))).into(),
            is_damaged: false,
        }
    }

    impl Log for Local {
        fn commit_end(&self, position: u64) -> Result<Option<CommitEnd>, Error> {
            if self.is_damaged {
                return Err(Error::damaged("log", "a bit", "repair"));
            }
            Ok(self.ends.get(&position).copied())
        }

        fn epochs(&self) -> Result<Vec<EpochInfo>, Error> {
            let info = |id, parent, parent_position| EpochInfo {
                id,
                first_position: parent_position + 1,
                parent,
                parent_position,
                parent_hash: end(parent_position).hash,
            };
            Ok(vec![info(PARENT, Uuid::nil(), 0), info(EPOCH, PARENT, 6)])
        }
    }

    /// A state that has settled up to 6 under session `MINE`.
    fn state() -> SinkState {
        let mut state = SinkState::new(ORIGIN, EPOCH, identity().genesis());
        (state.session, state.next_sessions) = (MINE, vec![NEXT]);
        state.settled = end(6);
        state
    }

    fn fresh() -> SinkState {
        SinkState::new(ORIGIN, EPOCH, identity().genesis())
    }

    fn row(epoch: Uuid, session: Uuid, at: CommitEnd) -> OriginRow {
        OriginRow {
            origin: ORIGIN,
            epoch,
            first_epoch: PARENT,
            parent: None,
            watermark: Watermark {
                session,
                position: at.position,
                hash: at.hash,
                commit_number: at.number,
            },
            published: 0,
            successor: None,
            name: "till".into(),
        }
    }

    fn shaken(state: &SinkState, rows: &[OriginRow]) -> Verdict {
        asked(state, rows, None)
    }

    fn asked(state: &SinkState, rows: &[OriginRow], has_my_end: Option<bool>) -> Verdict {
        let seen = Seen {
            identity: identity(),
            state,
            last: END,
            rows,
            has_my_end,
        };
        verdict(&seen, &local()).unwrap()
    }

    fn halt_code(verdict: &Verdict) -> &'static str {
        match verdict {
            Verdict::Halt(halt) => halt.code(),
            _ => "none",
        }
    }

    fn other_hash(position: u64) -> CommitEnd {
        CommitEnd {
            hash: [99; 32],
            ..end(position)
        }
    }

    fn register(was_lost: bool) -> Verdict {
        Verdict::Register {
            parent: None,
            at: identity().genesis(),
            was_lost,
        }
    }

    #[test]
    fn h1_a_store_the_server_does_not_know_is_registered() {
        assert_eq!(shaken(&fresh(), &[]), register(false));
    }

    #[test]
    fn h2_a_store_the_server_has_forgotten_is_registered_and_sent_again() {
        assert_eq!(shaken(&state(), &[]), register(true));
        let mut of_another_epoch = state();
        of_another_epoch.epoch = PARENT;
        assert_eq!(shaken(&of_another_epoch, &[]), register(false));
    }

    #[test]
    fn h2b_an_epoch_the_server_has_forgotten_is_registered_where_it_began() {
        let mut forked = state();
        let stretch = |epoch, first_position| Stretch {
            epoch,
            first_position,
        };
        forked.lineage = vec![stretch(PARENT, 1), stretch(EPOCH, 4)];
        let expected = Verdict::Register {
            parent: Some((PARENT, 3, end(3).hash)),
            at: end(3),
            was_lost: true,
        };
        assert_eq!(shaken(&forked, &[row(PARENT, MINE, end(3))]), expected);
    }

    #[test]
    fn h3a_our_session_goes_on_at_the_watermark_whichever_side_is_ahead() {
        for (session, at) in [(MINE, 3), (MINE, 6), (NEXT, 9), (MINE, 0)] {
            let at = if at == 0 {
                identity().genesis()
            } else {
                end(at)
            };
            let row = row(EPOCH, session, at);
            let expected = Verdict::Claim {
                seen: row.watermark,
                at,
            };
            assert_eq!(shaken(&state(), &[row]), expected);
        }
    }

    /// Its answer was lost, and the run after it has claimed, too: what arrives late is no clone's.
    #[test]
    fn h3a_a_claim_of_any_run_that_had_no_answer_is_ours() {
        let earlier = Uuid::from_u128(0xea);
        let mut state = state();
        state.next_sessions = vec![earlier, NEXT];
        let row = row(EPOCH, earlier, end(6));
        let expected = Verdict::Claim {
            seen: row.watermark,
            at: end(6),
        };
        assert_eq!(shaken(&state, std::slice::from_ref(&row)), expected);
        state.next_sessions = vec![NEXT];
        assert_eq!(halt_code(&shaken(&state, &[row])), "halted_cloned");
    }

    #[test]
    fn h3b_a_watermark_above_the_log_is_a_restored_backup() {
        let verdict = shaken(&state(), &[row(EPOCH, MINE, end(12))]);
        assert_eq!(halt_code(&verdict), "halted_restored_backup");
    }

    #[test]
    fn h3c_a_watermark_of_another_history_is_a_mismatch() {
        for at in [other_hash(6), end(7)] {
            let verdict = shaken(&state(), &[row(EPOCH, MINE, at)]);
            assert_eq!(halt_code(&verdict), "halted_history_mismatch");
        }
    }

    #[test]
    fn h4_a_retired_epoch_names_its_successor() {
        let mut retired = row(EPOCH, MINE, end(6));
        retired.successor = Some(PARENT);
        let expected = Verdict::Halt(Halt::EpochRetired {
            epoch: EPOCH,
            successor: PARENT,
        });
        assert_eq!(shaken(&state(), &[retired]), expected);
    }

    #[test]
    fn h5a_another_session_is_a_clone_even_where_nothing_differs() {
        for state in [state(), fresh()] {
            let verdict = shaken(&state, &[row(EPOCH, THEIRS, end(6))]);
            assert_eq!(halt_code(&verdict), "halted_cloned");
        }
    }

    #[test]
    fn h5b_another_session_ahead_of_us_on_our_history_is_an_image_put_back() {
        let rows = [row(EPOCH, THEIRS, end(12))];
        assert_eq!(shaken(&state(), &rows), Verdict::AskMyEnd);
        let verdict = asked(&state(), &rows, Some(true));
        assert_eq!(halt_code(&verdict), "halted_restored_backup");
    }

    #[test]
    fn h5c_another_session_on_another_history_is_a_clone() {
        let ahead = asked(&state(), &[row(EPOCH, THEIRS, end(12))], Some(false));
        let apart = shaken(&state(), &[row(EPOCH, THEIRS, other_hash(6))]);
        assert_eq!([halt_code(&ahead), halt_code(&apart)], ["halted_cloned"; 2]);
    }

    #[test]
    fn h6a_a_new_epoch_that_misses_nothing_says_so() {
        let verdict = shaken(&fresh(), &[row(PARENT, THEIRS, end(6))]);
        let expected = Verdict::Halt(Halt::NewEpoch {
            epoch: EPOCH,
            parent: PARENT,
        });
        assert_eq!(verdict, expected);
    }

    #[test]
    fn h6b_a_new_epoch_behind_its_parent_is_a_restored_backup() {
        for at in [end(12), other_hash(6), end(7)] {
            let verdict = shaken(&fresh(), &[row(PARENT, THEIRS, at)]);
            assert_eq!(halt_code(&verdict), "halted_restored_backup");
        }
    }

    #[test]
    fn h6c_an_epoch_without_a_known_ancestor_is_unknown() {
        let verdict = shaken(&fresh(), &[row(Uuid::from_u128(77), THEIRS, end(6))]);
        assert_eq!(halt_code(&verdict), "halted_unknown_epoch");
    }

    #[test]
    fn h6_a_fork_that_was_saved_and_not_applied_is_asked_for_again() {
        let mut half = state();
        half.session = Uuid::nil();
        let verdict = shaken(&half, &[row(PARENT, MINE, end(6))]);
        assert_eq!(halt_code(&verdict), "halted_new_epoch");
    }

    #[test]
    fn h8_a_damaged_log_is_an_error() {
        let damaged = Local {
            is_damaged: true,
            ..local()
        };
        let (state, rows) = (state(), [row(EPOCH, MINE, end(6))]);
        let seen = Seen {
            identity: identity(),
            state: &state,
            last: END,
            rows: &rows,
            has_my_end: None,
        };
        assert_eq!(verdict(&seen, &damaged).unwrap_err().code(), "damaged");
    }
}
