//! How far the server knows this log to be settled.

use std::sync::Arc;

use tidelog_backends::commits::CommitEnd;
use tidelog_backends::wire::{ErrorClass, OriginRow, Request, Watermark, Wire, WireError};
use tidelog_core::{Error, Halt};
use uuid::Uuid;

use super::ask::{applied, origins};
use super::handshake::cloned;
use crate::replicate::sink::Stop;

/// Tries before the connection is given up.
const TRIES: usize = 3;

/// A watermark under way from what was seen to what is settled.
pub(super) struct Advance {
    pub wire: Arc<dyn Wire>,
    pub origin: Uuid,
    pub epoch: Uuid,
    /// What the server confirmed last.
    pub seen: Watermark,
    pub to: Watermark,
    /// What is published by then.
    pub published: u64,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Noted {
    /// It stands there.
    At(Watermark),
    /// The server has an older one than it had confirmed.
    Lower(Watermark),
    /// The server does not know this epoch any more.
    Gone,
    /// Somebody else has the epoch, or it was given up.
    Taken(Halt),
}

pub(super) fn watermark(session: Uuid, end: CommitEnd) -> Watermark {
    Watermark {
        session,
        position: end.position,
        hash: end.hash,
        commit_number: end.number,
    }
}

impl Advance {
    pub(super) async fn run(self) -> Result<Noted, WireError> {
        for _ in 0..TRIES {
            let request = Request::Advance {
                origin: self.origin,
                epoch: self.epoch,
                seen: self.seen,
                to: self.to,
                published: self.published,
            };
            match applied(&*self.wire, request).await {
                Ok(true) => return Ok(Noted::At(self.to)),
                Ok(false) => {}
                // What came of it is looked at.
                Err(error) if error.class == ErrorClass::Unclear => {}
                Err(error) => return Err(error),
            }
            let rows = origins(&*self.wire, self.origin).await?;
            let Some(row) = rows.into_iter().find(|row| row.epoch == self.epoch) else {
                return Ok(Noted::Gone);
            };
            if let Some(halt) = taken(&row, self.to.session) {
                return Ok(Noted::Taken(halt));
            }
            let is_told = self.to != self.seen || row.published == self.published;
            if row.watermark == self.to && is_told {
                return Ok(Noted::At(self.to));
            }
            if row.watermark.position < self.seen.position {
                return Ok(Noted::Lower(row.watermark));
            }
            // Nobody else may move it under a session that this connection alone has claimed.
            if row.watermark != self.seen {
                return Ok(Noted::Taken(cloned(&row)));
            }
        }
        Err(WireError {
            class: ErrorClass::Unclear,
            text: "the watermark is not taken".into(),
        })
    }
}

/// Why an epoch is not this session's any more.
pub(super) fn taken(row: &OriginRow, session: Uuid) -> Option<Halt> {
    if let Some(successor) = row.successor {
        return Some(Halt::EpochRetired {
            epoch: row.epoch,
            successor,
        });
    }
    (row.watermark.session != session).then(|| cloned(row))
}

/// What a failed request means for the connection.
pub(super) fn stop(error: WireError, action: &str, server: &str) -> Stop {
    match error.class {
        ErrorClass::Refused => Halt::Refused {
            action: action.into(),
            reason: error.text,
        }
        .into(),
        ErrorClass::Schema => Halt::Schema {
            keyspace: server.into(),
            reason: error.text,
        }
        .into(),
        ErrorClass::NotSent | ErrorClass::Unclear => Stop::Trouble(Error::Unreachable {
            server: server.into(),
            action: action.into(),
            reason: error.text,
        }),
    }
}
