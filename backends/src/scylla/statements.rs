//! The statements, prepared once a session, each with its consistencies and its policy.

use std::sync::Arc;

use scylla::client::session::Session;
use scylla::policies::retry::RetryPolicy;
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::unprepared::Statement;
use scylla::statement::{Consistency, SerialConsistency};

use super::config::ScyllaConfig;
use super::failure::{self, class_of_preparing, wire_error};
use super::request::WireError;
use super::schema::for_keyspace;

pub(crate) const META: &str = "SELECT keyspace_id, schema_version, migrating, bucket_events,
    chunk_records, arbitration_dc FROM {ks}.tidelog_meta WHERE id = 'keyspace'";
const PUT_META: &str = "INSERT INTO {ks}.tidelog_meta
    (id, keyspace_id, schema_version, bucket_events, chunk_records, arbitration_dc)
    VALUES ('keyspace', ?, ?, ?, ?, ?) IF NOT EXISTS";
const PING: &str = "SELECT key FROM system.local WHERE key = 'local'";

const HEAD: &str = "SELECT head_sequence, head_event_id, head_recorded FROM {ks}.events_by_stream
    WHERE aggregate_type = ? AND aggregate_id = ? AND bucket = ? LIMIT 1";
const IDS: &str = "SELECT sequence, event_id, origin, recorded_time FROM {ks}.events_by_stream
    WHERE aggregate_type = ? AND aggregate_id = ? AND bucket = ?
    AND sequence >= ? AND sequence <= ?";
const EVENTS: &str = "SELECT sequence, event_id, kind, event_type, revision, content_type,
    event_time, recorded_time, batch_first, batch_count, metadata, tags, payload,
    origin, epoch, origin_position, birth_origin, birth_epoch, birth_position, birth_recorded
    FROM {ks}.events_by_stream WHERE aggregate_type = ? AND aggregate_id = ? AND bucket = ?
    AND sequence >= ? AND sequence <= ?";
const NEWEST_FIRST: &str = " ORDER BY sequence DESC";
/// Part of a conditional batch: never sent by itself.
const INSERT_EVENT: &str = "INSERT INTO {ks}.events_by_stream
    (aggregate_type, aggregate_id, bucket, sequence, event_id, kind, event_type, revision,
    content_type, event_time, recorded_time, batch_first, batch_count, metadata, tags, payload,
    origin, epoch, origin_position, birth_origin, birth_epoch, birth_position, birth_recorded)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
const SET_HEAD: &str = "UPDATE {ks}.events_by_stream
    SET head_sequence = ?, head_event_id = ?, head_recorded = ?
    WHERE aggregate_type = ? AND aggregate_id = ? AND bucket = ? IF ";
const NO_HEAD: &str = "head_sequence = null";
const HEAD_AT: &str = "head_sequence = ?";
const HEAD_IS: &str = "head_sequence = ? AND head_event_id = ?";

const INSERT_LOG: &str = "INSERT INTO {ks}.log_by_origin
    (origin, epoch, chunk, position, event_id, commit_number, commit_first, commit_count,
    commit_hash, record) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
const LOG: &str = "SELECT position, event_id, commit_number, commit_first, commit_count,
    commit_hash, record FROM {ks}.log_by_origin
    WHERE origin = ? AND epoch = ? AND chunk = ? AND position >= ?";
const LOG_ENDS: &str = "SELECT position, event_id, commit_number, commit_first, commit_count,
    commit_hash FROM {ks}.log_by_origin
    WHERE origin = ? AND epoch = ? AND chunk = ? AND position >= ?";

const ALL_ORIGINS: &str = "SELECT origin, epoch, first_epoch, parent, parent_position, parent_hash,
    session, position, hash, commit_number, published, state, successor, name FROM {ks}.origins";
const OF_ORIGIN: &str = " WHERE origin = ?";
const REGISTER: &str = "INSERT INTO {ks}.origins
    (origin, epoch, first_epoch, parent, parent_position, parent_hash, session, position, hash,
    commit_number, published, state, successor, name)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS";
const CLAIM: &str = "UPDATE {ks}.origins SET session = ? WHERE origin = ? AND epoch = ?
    IF session = ? AND position = ? AND hash = ? AND state = 0";
const ADVANCE: &str =
    "UPDATE {ks}.origins SET position = ?, hash = ?, commit_number = ?, published = ?
    WHERE origin = ? AND epoch = ? IF session = ? AND position = ? AND hash = ? AND state = 0";
const RETIRE: &str = "UPDATE {ks}.origins SET state = 1, successor = ?
    WHERE origin = ? AND epoch = ? IF session = ? AND position = ? AND hash = ? AND state = 0";

const PARK: &str = "INSERT INTO {ks}.parked_by_origin
    (origin, epoch, aggregate_type, aggregate_id, first_position, first_sequence, until_position,
    reason, local_event, remote_sequence, remote_event)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS";
const UNPARK: &str = "UPDATE {ks}.parked_by_origin SET until_position = ?
    WHERE origin = ? AND epoch = ? AND aggregate_type = ? AND aggregate_id = ?
    AND first_position = ? IF reason != null AND until_position = null";
const PARKED: &str = "SELECT aggregate_type, aggregate_id, first_position, first_sequence,
    until_position, reason, local_event, remote_sequence, remote_event FROM {ks}.parked_by_origin
    WHERE origin = ? AND epoch = ?";

const SNAPSHOT: &str = "SELECT sequence, event_id, revision, content_type, taken_time, version,
    parts, state FROM {ks}.snapshots WHERE aggregate_type = ? AND aggregate_id = ?";
const PART: &str = "SELECT state FROM {ks}.snapshot_parts
    WHERE aggregate_type = ? AND aggregate_id = ? AND version = ? AND part = ?";
const PUT_PART: &str = "INSERT INTO {ks}.snapshot_parts
    (aggregate_type, aggregate_id, version, part, state) VALUES (?, ?, ?, ?, ?)";
const SET_SNAPSHOT: &str = "UPDATE {ks}.snapshots SET sequence = ?, event_id = ?, revision = ?,
    content_type = ?, taken_time = ?, version = ?, parts = ?, state = ?
    WHERE aggregate_type = ? AND aggregate_id = ? IF version = ";
const DROP_PARTS: &str = "DELETE FROM {ks}.snapshot_parts
    WHERE aggregate_type = ? AND aggregate_id = ? AND version < ?";

/// All that is asked of the tables.
pub(crate) struct Statements {
    pub(crate) meta: PreparedStatement,
    pub(crate) put_meta: PreparedStatement,
    pub(crate) head: PreparedStatement,
    pub(crate) ids: Both,
    pub(crate) events: Both,
    pub(crate) events_newest_first: Both,
    pub(crate) insert_event: PreparedStatement,
    pub(crate) set_head_of_none: PreparedStatement,
    pub(crate) set_head_at: PreparedStatement,
    pub(crate) set_head_of: PreparedStatement,
    pub(crate) insert_log: PreparedStatement,
    pub(crate) log: Wide,
    pub(crate) log_ends: Wide,
    pub(crate) origins: PreparedStatement,
    pub(crate) all_origins: PreparedStatement,
    pub(crate) register: PreparedStatement,
    pub(crate) claim: PreparedStatement,
    pub(crate) advance: PreparedStatement,
    pub(crate) retire: PreparedStatement,
    pub(crate) park: PreparedStatement,
    pub(crate) unpark: PreparedStatement,
    pub(crate) parked: PreparedStatement,
    pub(crate) snapshot: PreparedStatement,
    pub(crate) part: PreparedStatement,
    pub(crate) put_part: PreparedStatement,
    pub(crate) set_first_snapshot: PreparedStatement,
    pub(crate) set_snapshot: PreparedStatement,
    pub(crate) drop_parts: PreparedStatement,
    /// How conditional writes are decided.
    pub(crate) serial: SerialConsistency,
    pub(crate) write: Consistency,
}

/// One statement at SERIAL and at the configured consistency.
pub(crate) struct Both {
    pub(crate) serial: PreparedStatement,
    pub(crate) plain: PreparedStatement,
}

impl Both {
    pub(crate) fn at(&self, serial: bool) -> &PreparedStatement {
        if serial { &self.serial } else { &self.plain }
    }
}

/// One statement at the configured consistency and at QUORUM.
pub(crate) struct Wide {
    plain: PreparedStatement,
    wide: PreparedStatement,
}

impl Wide {
    pub(crate) fn at(&self, wide: bool) -> &PreparedStatement {
        if wide { &self.wide } else { &self.plain }
    }
}

impl Statements {
    /// Prepares all of them.
    pub(crate) async fn prepare(
        session: &Session,
        config: &ScyllaConfig,
        arbitration_dc: Option<&str>,
    ) -> Result<Self, WireError> {
        let with = Preparing::new(session, config, arbitration_dc);
        let head = |condition: &str| format!("{SET_HEAD}{condition}");
        let newest_first = format!("{EVENTS}{NEWEST_FIRST}");
        let of_origin = format!("{ALL_ORIGINS}{OF_ORIGIN}");
        let first_snapshot = format!("{SET_SNAPSHOT}null");
        let next_snapshot = format!("{SET_SNAPSHOT}?");
        Ok(Self {
            meta: with.decided(META).await?,
            put_meta: with.conditional(PUT_META).await?,
            head: with.decided(HEAD).await?,
            ids: with.both(IDS).await?,
            events: with.both(EVENTS).await?,
            events_newest_first: with.both(&newest_first).await?,
            insert_event: with.conditional(INSERT_EVENT).await?,
            set_head_of_none: with.conditional(&head(NO_HEAD)).await?,
            set_head_at: with.conditional(&head(HEAD_AT)).await?,
            set_head_of: with.conditional(&head(HEAD_IS)).await?,
            insert_log: with.write(INSERT_LOG).await?,
            log: with.wide(LOG).await?,
            log_ends: with.wide(LOG_ENDS).await?,
            origins: with.decided(&of_origin).await?,
            all_origins: with.read(ALL_ORIGINS).await?,
            register: with.conditional(REGISTER).await?,
            claim: with.conditional(CLAIM).await?,
            advance: with.conditional(ADVANCE).await?,
            retire: with.conditional(RETIRE).await?,
            park: with.conditional(PARK).await?,
            unpark: with.conditional(UNPARK).await?,
            parked: with.decided(PARKED).await?,
            snapshot: with.read(SNAPSHOT).await?,
            part: with.read(PART).await?,
            put_part: with.write(PUT_PART).await?,
            set_first_snapshot: with.conditional(&first_snapshot).await?,
            set_snapshot: with.conditional(&next_snapshot).await?,
            drop_parts: with.write(DROP_PARTS).await?,
            serial: with.serial,
            write: config.consistency.of_writes(),
        })
    }

    #[cfg(test)]
    pub(crate) fn each(&self) -> Vec<&PreparedStatement> {
        vec![
            &self.meta,
            &self.put_meta,
            &self.head,
            &self.ids.serial,
            &self.ids.plain,
            &self.events.serial,
            &self.events.plain,
            &self.events_newest_first.serial,
            &self.events_newest_first.plain,
            &self.insert_event,
            &self.set_head_of_none,
            &self.set_head_at,
            &self.set_head_of,
            &self.insert_log,
            &self.log.plain,
            &self.log.wide,
            &self.log_ends.plain,
            &self.log_ends.wide,
            &self.origins,
            &self.all_origins,
            &self.register,
            &self.claim,
            &self.advance,
            &self.retire,
            &self.park,
            &self.unpark,
            &self.parked,
            &self.snapshot,
            &self.part,
            &self.put_part,
            &self.set_first_snapshot,
            &self.set_snapshot,
            &self.drop_parts,
        ]
    }
}

/// Prepares the statement by which a session is pinged.
pub(crate) async fn ping(
    session: &Session,
    config: &ScyllaConfig,
) -> Result<PreparedStatement, WireError> {
    let with = Preparing::new(session, config, None);
    with.prepare(PING, Consistency::LocalOne, true).await
}

struct Preparing<'a> {
    session: &'a Session,
    config: &'a ScyllaConfig,
    serial: SerialConsistency,
    never_again: Arc<dyn RetryPolicy>,
}

impl<'a> Preparing<'a> {
    fn new(session: &'a Session, config: &'a ScyllaConfig, arbitration_dc: Option<&str>) -> Self {
        Self {
            session,
            config,
            serial: match arbitration_dc {
                None => SerialConsistency::Serial,
                Some(_) => SerialConsistency::LocalSerial,
            },
            never_again: failure::never_again(),
        }
    }

    /// A read that sees every decision taken before it, and finishes or refuses those under way.
    async fn decided(&self, text: &str) -> Result<PreparedStatement, WireError> {
        let consistency = match self.serial {
            SerialConsistency::Serial => Consistency::Serial,
            SerialConsistency::LocalSerial => Consistency::LocalSerial,
        };
        let mut statement = self.prepare(text, consistency, true).await?;
        // Whoever asked does it again, by itself.
        statement.set_retry_policy(Some(Arc::clone(&self.never_again)));
        Ok(statement)
    }

    async fn read(&self, text: &str) -> Result<PreparedStatement, WireError> {
        let consistency = self.config.consistency.of_reads();
        self.prepare(text, consistency, true).await
    }

    async fn both(&self, text: &str) -> Result<Both, WireError> {
        Ok(Both {
            serial: self.decided(text).await?,
            plain: self.read(text).await?,
        })
    }

    async fn wide(&self, text: &str) -> Result<Wide, WireError> {
        Ok(Wide {
            plain: self.read(text).await?,
            wide: self.prepare(text, Consistency::Quorum, true).await?,
        })
    }

    /// A write of equal content for equal keys.
    async fn write(&self, text: &str) -> Result<PreparedStatement, WireError> {
        let consistency = self.config.consistency.of_writes();
        self.prepare(text, consistency, true).await
    }

    async fn conditional(&self, text: &str) -> Result<PreparedStatement, WireError> {
        let consistency = self.config.consistency.of_writes();
        let mut statement = self.prepare(text, consistency, false).await?;
        statement.set_retry_policy(Some(Arc::clone(&self.never_again)));
        Ok(statement)
    }

    async fn prepare(
        &self,
        text: &str,
        consistency: Consistency,
        idempotent: bool,
    ) -> Result<PreparedStatement, WireError> {
        let text = for_keyspace(text, &self.config.keyspace);
        let mut statement = Statement::new(text);
        statement.set_is_idempotent(idempotent);
        statement.set_consistency(consistency);
        // Always set: the driver's own default is LOCAL_SERIAL.
        statement.set_serial_consistency(Some(self.serial));
        self.session.prepare(statement).await.map_err(|error| {
            wire_error(
                self.config,
                class_of_preparing(&error),
                &format!("cannot prepare a statement: {error}"),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    /// A row of a table with conditions that is written without one, even once, is outside of what
    /// decides there.
    #[test]
    fn tables_with_conditions_are_never_written_without_one() {
        let source = include_str!("statements.rs");
        let source = source.split("#[cfg(test)]\nmod tests").next().unwrap();
        let mut seen = 0;
        for text in source.split("const ").skip(1) {
            let text = text.split(';').next().unwrap();
            let is_write = ["INSERT INTO", "UPDATE {", "DELETE FROM"]
                .iter()
                .any(|verb| text.contains(verb));
            if !is_write {
                continue;
            }
            seen += 1;
            let free = text.contains("log_by_origin") || text.contains("snapshot_parts");
            let part_of_a_batch = text.starts_with("INSERT_EVENT");
            assert!(
                free || part_of_a_batch || text.contains(" IF "),
                "{text} has no condition"
            );
        }
        assert!(seen >= 12, "{seen}");
    }
}
