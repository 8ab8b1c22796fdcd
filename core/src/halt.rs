//! Why replication or publishing stands still until a person decides.

use uuid::Uuid;

/// What replication or publishing met that it must not resolve by itself, with the calls that resolve it.
///
/// The local store goes on as if nothing was: appends and reads do not depend on it. What stands
/// still is only what this origin sends to the server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Halt {
    /// Another copy of this store has taken its place since this one sent something last.
    #[error(
        "another copy of this store (origin {origin}, known as {name:?}) took its place under session {session} and is at position {watermark}; stop one of the two, then `fork` the one that goes on"
    )]
    Cloned {
        /// The origin of both.
        origin: Uuid,
        /// What the other calls itself.
        name: Box<str>,
        /// The session that the other has claimed.
        session: Uuid,
        /// How far the other was then.
        watermark: u64,
    },

    /// The server has more of this store's history than the store itself: it was put back from an
    /// older backup or image, or lost its newest events.
    #[error(
        "the server has events of origin {origin} up to position {watermark}, this store ends at {last}: it was put back from an older copy; `restore` from the replica to have them again, where there is one, or `fork` to go on without them"
    )]
    RestoredBackup {
        /// The origin.
        origin: Uuid,
        /// How far it was sent.
        watermark: u64,
        /// The last position here.
        last: u64,
    },

    /// A backup was put back, or a repair has ended; nothing that the server has is missing here.
    #[error(
        "this store began a new epoch {epoch} since the server heard of it last (epoch {parent}); nothing is missing, `fork` lets it go on"
    )]
    NewEpoch {
        /// The epoch it is in.
        epoch: Uuid,
        /// The newest of its epochs that the server knows.
        parent: Uuid,
    },

    /// The server knows this origin, but none of the epochs that this store has been in.
    #[error(
        "the server knows origin {origin}, but no epoch of this store, which is in {epoch}; `fork` sends its whole history under the new epoch"
    )]
    UnknownEpoch {
        /// The origin.
        origin: Uuid,
        /// The epoch it is in.
        epoch: Uuid,
    },

    /// The server's watermark names a history that is not this store's.
    #[error(
        "up to position {watermark} the server has another history of origin {origin} than this store (chain hash {remote}, here {local}); `fork` sends this one beside it"
    )]
    HistoryMismatch {
        /// The origin.
        origin: Uuid,
        /// The position in question.
        watermark: u64,
        /// The server's chain hash there, in hex.
        remote: Box<str>,
        /// The chain hash here, in hex, or `no end of a commit`.
        local: Box<str>,
    },

    /// This epoch was given up elsewhere, in favour of another.
    #[error(
        "epoch {epoch} was given up in favour of {successor}, by a `fork` or `restore` elsewhere; throw this copy away, or `fork` it to let both live"
    )]
    EpochRetired {
        /// The epoch it is in.
        epoch: Uuid,
        /// The one that took its place.
        successor: Uuid,
    },

    /// What is reached is not the cluster that this store has published to.
    #[error(
        "this is Kafka cluster {found}, this store has published to {expected}; correct the addresses, or `forget_state` to begin anew with this one"
    )]
    OtherCluster {
        /// The cluster it has published to.
        expected: Box<str>,
        /// The one that answered.
        found: Box<str>,
    },

    /// The keyspace has no tables, or those of another version.
    #[error(
        "keyspace {keyspace}: {reason}; call `ScyllaStore::migrate` with this configuration, or set `migrate_at_connect`, then `retry`"
    )]
    Schema {
        /// The keyspace.
        keyspace: Box<str>,
        /// What was found.
        reason: Box<str>,
    },

    /// The server will never take this from us as things are: permissions, a password, a setting.
    #[error("the server refuses to {action}: {reason}; correct that, then `retry`")]
    Refused {
        /// What was wanted.
        action: Box<str>,
        /// Its answer.
        reason: Box<str>,
    },

    /// A record of the log is larger than what the server takes: it was appended before replication
    /// was on, or the server takes less than it did. Left out, it would be a hole in the log there.
    #[error(
        "the record at position {position} has {size} bytes, more than the server takes{}: {reason}; raise `commitlog_segment_size`, `max_mutation_size` and `native_transport_max_frame_size` at the server, then `retry`",
        most(*limit)
    )]
    RecordTooLarge {
        /// The record.
        position: u64,
        /// Its size, in bytes.
        size: u64,
        /// The most that the server takes at once, in bytes, where it says so.
        limit: Option<u64>,
        /// Its answer.
        reason: Box<str>,
    },

    /// More streams are parked than a person can look after: something is wrong at large.
    #[error(
        "{count} streams are parked, the most that are kept; resolve some, then `retry`: nothing is lost meanwhile"
    )]
    TooManyParked {
        /// How many.
        count: usize,
    },

    /// What was kept on this machine about what is sent cannot be read.
    #[error(
        "the state of what is sent is damaged: {reason}; `forget_state` begins anew, and `fork` makes this store known again"
    )]
    StateDamaged {
        /// What was found.
        reason: Box<str>,
    },

    /// The local log is damaged where replication has to read it.
    #[error("{reason}; `mend` the segment from the server, or `repair` the store")]
    LocalDamage {
        /// What was found where.
        reason: Box<str>,
    },

    /// A fault of this library; what was not sent is still in the log.
    #[error(
        "what sends this store's events failed by a fault of its own: {reason}; report it, reopen the store"
    )]
    Internal {
        /// What happened.
        reason: Box<str>,
    },
}

impl Halt {
    /// A stable word for it, for logs, metrics and remote callers.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Cloned { .. } => "halted_cloned",
            Self::RestoredBackup { .. } => "halted_restored_backup",
            Self::NewEpoch { .. } => "halted_new_epoch",
            Self::UnknownEpoch { .. } => "halted_unknown_epoch",
            Self::HistoryMismatch { .. } => "halted_history_mismatch",
            Self::EpochRetired { .. } => "halted_epoch_retired",
            Self::OtherCluster { .. } => "halted_other_cluster",
            Self::Schema { .. } => "halted_schema",
            Self::Refused { .. } => "halted_refused",
            Self::RecordTooLarge { .. } => "halted_record_too_large",
            Self::TooManyParked { .. } => "halted_too_many_parked",
            Self::StateDamaged { .. } => "halted_state_damaged",
            Self::LocalDamage { .. } => "halted_local_damage",
            Self::Internal { .. } => "halted_internal",
        }
    }
}

fn most(limit: Option<u64>) -> String {
    limit.map_or_else(String::new, |limit| format!(" ({limit})"))
}
