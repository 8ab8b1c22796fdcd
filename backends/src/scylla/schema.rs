//! The tables: their text, their version, how they are made and checked.

use std::time::Duration;

use scylla::client::session::Session;
use scylla::errors::ExecutionError;
use scylla::statement::unprepared::Statement;
use scylla::statement::{Consistency, SerialConsistency};
use tidelog_core::Error;
use uuid::Uuid;

use super::config::{KeyspaceReplication, ScyllaConfig};
use super::failure::{self, is_missing_schema};
use super::request::MetaRow;
use super::rows::{MetaColumns, applied};

/// The version of the tables that this program works with.
pub const SCHEMA_VERSION: u32 = 1;

/// What makes each version out of the one before it; `{ks}` is the keyspace.
const STEPS: [(u32, &[&str]); 1] = [(
    1,
    &[
        "CREATE TABLE IF NOT EXISTS {ks}.events_by_stream (
    aggregate_type text, aggregate_id text, bucket bigint, sequence bigint,
    head_sequence bigint static, head_event_id uuid static, head_recorded bigint static,
    event_id uuid, kind tinyint, event_type text, revision bigint, content_type text,
    event_time bigint, recorded_time bigint, batch_first bigint, batch_count int,
    metadata text, tags text, payload blob,
    origin uuid, epoch uuid, origin_position bigint,
    birth_origin uuid, birth_epoch uuid, birth_position bigint, birth_recorded bigint,
    PRIMARY KEY ((aggregate_type, aggregate_id, bucket), sequence))",
        "CREATE TABLE IF NOT EXISTS {ks}.log_by_origin (
    origin uuid, epoch uuid, chunk bigint, position bigint, event_id uuid,
    commit_number bigint, commit_first bigint, commit_count int, commit_hash blob, record blob,
    PRIMARY KEY ((origin, epoch, chunk), position, event_id, commit_hash))",
        "CREATE TABLE IF NOT EXISTS {ks}.origins (
    origin uuid, epoch uuid, first_epoch uuid,
    parent uuid, parent_position bigint, parent_hash blob,
    session uuid, position bigint, hash blob, commit_number bigint, published bigint,
    state tinyint, successor uuid, name text,
    PRIMARY KEY (origin, epoch))",
        "CREATE TABLE IF NOT EXISTS {ks}.parked_by_origin (
    origin uuid, epoch uuid, aggregate_type text, aggregate_id text, first_position bigint,
    first_sequence bigint, until_position bigint, reason text,
    local_event uuid, remote_sequence bigint, remote_event uuid,
    PRIMARY KEY ((origin, epoch), aggregate_type, aggregate_id, first_position))",
        "CREATE TABLE IF NOT EXISTS {ks}.snapshots (
    aggregate_type text, aggregate_id text,
    sequence bigint, event_id uuid, revision bigint, content_type text, taken_time bigint,
    version uuid, parts int, state blob,
    PRIMARY KEY ((aggregate_type, aggregate_id)))",
        "CREATE TABLE IF NOT EXISTS {ks}.snapshot_parts (
    aggregate_type text, aggregate_id text, version uuid, part int, state blob,
    PRIMARY KEY ((aggregate_type, aggregate_id), version, part))",
    ],
)];

const META: &str = "CREATE TABLE IF NOT EXISTS {ks}.tidelog_meta (
    id text PRIMARY KEY, keyspace_id uuid, schema_version int, migrating uuid,
    bucket_events bigint, chunk_records bigint, arbitration_dc text)";

/// The conditional statements of a migration; everything else asks by `statements`.
const BEGIN_META: &str = "INSERT INTO {ks}.tidelog_meta
    (id, keyspace_id, schema_version, bucket_events, chunk_records, arbitration_dc)
    VALUES ('keyspace', ?, 0, ?, ?, ?) IF NOT EXISTS";
const TAKE_LOCK: &str = "UPDATE {ks}.tidelog_meta SET migrating = ?
    WHERE id = 'keyspace' IF migrating = ? AND schema_version = ?";
const FINISH: &str = "UPDATE {ks}.tidelog_meta SET schema_version = ?, migrating = null
    WHERE id = 'keyspace' IF migrating = ?";
const READ_META: &str = "SELECT keyspace_id, schema_version, migrating, bucket_events,
    chunk_records, arbitration_dc FROM {ks}.tidelog_meta WHERE id = 'keyspace'";

/// Between looks at another's lock.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What a migration did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MigrateReport {
    /// The version that was found; `None` when there were no tables.
    pub from: Option<u32>,
    /// The version that stands there now.
    pub to: u32,
    /// How many statements were sent to make it.
    pub statements: usize,
}

/// `text` for this keyspace.
pub(crate) fn for_keyspace(text: &str, keyspace: &str) -> String {
    text.replace("{ks}", &format!("\"{keyspace}\""))
}

/// Whether what stands in the keyspace is what this version works with.
pub(crate) fn check(config: &ScyllaConfig, found: Option<&MetaRow>) -> Result<(), Error> {
    let version = found
        .map(|meta| meta.schema_version)
        .filter(|version| *version > 0);
    let remedy = match version {
        None => "call ScyllaStore::migrate, or set migrate_at_connect",
        Some(version) if version < SCHEMA_VERSION => {
            "call ScyllaStore::migrate, or set migrate_at_connect; older programs stop then"
        }
        Some(version) if version > SCHEMA_VERSION => {
            "it was written by a newer tidelog: update this program"
        }
        Some(_) => return found.map_or(Ok(()), |meta| fits(config, meta)),
    };
    Err(Error::Schema {
        keyspace: config.keyspace.as_str().into(),
        found: version,
        wanted: SCHEMA_VERSION,
        remedy,
    })
}

/// Whether what is fixed for ever in the keyspace is what the configuration says, where it does.
fn fits(config: &ScyllaConfig, meta: &MetaRow) -> Result<(), Error> {
    for (what, wanted, fixed) in [
        ("bucket_events", config.bucket_events, meta.bucket_events),
        ("chunk_records", config.chunk_records, meta.chunk_records),
    ] {
        if let Some(wanted) = wanted
            && wanted != fixed
        {
            let keyspace = &config.keyspace;
            let reason = format!("keyspace {keyspace} was made with {fixed}, which never changes");
            return Err(Error::invalid(what, wanted, reason));
        }
    }
    let fixed = meta.arbitration_dc.as_deref();
    if let Some(wanted) = config.arbitration_dc.as_deref()
        && fixed != Some(wanted)
    {
        let fixed = fixed.unwrap_or("all data centres together");
        let reason = format!(
            "keyspace {} was made with {fixed}, which never changes",
            config.keyspace
        );
        return Err(Error::invalid("arbitration_dc", wanted, reason));
    }
    if let Some(fixed) = fixed
        && config.datacenter.as_deref() != Some(fixed)
    {
        let mine = config.datacenter.as_deref().unwrap_or_default();
        let reason = format!(
            "conditional writes of keyspace {} are decided in {fixed}: only clients with that as their datacenter may write",
            config.keyspace
        );
        return Err(Error::invalid("datacenter", mine, reason));
    }
    Ok(())
}

/// Makes the tables, or brings them to this version.
pub(crate) async fn migrate(
    session: &Session,
    config: &ScyllaConfig,
) -> Result<MigrateReport, Error> {
    let mut migration = Migration {
        session,
        config,
        statements: 0,
    };
    let (found, _) = migration.read().await?.unwrap_or_default();
    if found.is_some_and(|found| found >= SCHEMA_VERSION) {
        let meta = migration.meta().await?;
        check(config, meta.as_ref())?;
    } else {
        migration.make_keyspace().await?;
        migration.run().await?;
    }
    Ok(MigrateReport {
        from: found.filter(|version| *version > 0),
        to: SCHEMA_VERSION,
        statements: migration.statements,
    })
}

struct Migration<'a> {
    session: &'a Session,
    config: &'a ScyllaConfig,
    statements: usize,
}

/// Version and lock of a keyspace that has a row about itself.
type Standing = (Option<u32>, Option<Uuid>);

impl Migration<'_> {
    async fn make_keyspace(&mut self) -> Result<(), Error> {
        let Some(replication) = &self.config.replication else {
            return Ok(());
        };
        let mut text = format!(
            "CREATE KEYSPACE IF NOT EXISTS {{ks}} WITH replication = {} AND durable_writes = true",
            options(replication)
        );
        if self.tablets_without_conditions().await? {
            text.push_str(" AND tablets = {'enabled': false}");
        }
        self.define(&text).await
    }

    async fn run(&mut self) -> Result<(), Error> {
        self.define(META).await?;
        self.check_for_leftovers().await?;
        let me = self.config.ids.next_uuid();
        let keyspace_id = self.config.ids.next_uuid();
        self.begin(keyspace_id).await?;
        let Some(from) = self.lock(me, keyspace_id).await? else {
            // Somebody else was faster, and is done.
            let meta = self.meta().await?;
            return check(self.config, meta.as_ref());
        };
        for (version, step) in STEPS.iter().filter(|(version, _)| *version > from) {
            for text in *step {
                self.define(text).await?;
            }
            tracing::info!(keyspace = %self.config.keyspace, version, "schema made");
        }
        self.finish(me).await?;
        let meta = self.meta().await?;
        check(self.config, meta.as_ref())
    }

    /// Makes the row that the keyspace has about itself, if it has none.
    async fn begin(&mut self, keyspace_id: Uuid) -> Result<(), Error> {
        let config = self.config;
        let size = |said: Option<u64>| said.unwrap_or(ScyllaConfig::DEFAULT_BUCKET).cast_signed();
        let values = (
            keyspace_id,
            size(config.bucket_events),
            size(config.chunk_records),
            config.arbitration_dc.as_deref(),
        );
        self.ask_whether(BEGIN_META, values).await?;
        Ok(())
    }

    /// A keyspace that has events but no row about itself lost it. What was fixed for ever when it was
    /// made must then be said, and not be the default of the day.
    async fn check_for_leftovers(&mut self) -> Result<(), Error> {
        let is_said = self.config.bucket_events.is_some() && self.config.chunk_records.is_some();
        if is_said || self.columns().await?.is_some() {
            return Ok(());
        }
        for table in ["events_by_stream", "log_by_origin"] {
            let text = format!("SELECT event_id FROM {{ks}}.{table} LIMIT 1");
            let text = for_keyspace(&text, &self.config.keyspace);
            let asked = self.session.query_unpaged(self.statement(text, true), &[]);
            let has_rows = match asked.await {
                Ok(answer) => answer
                    .into_rows_result()
                    .is_ok_and(|rows| rows.rows_num() > 0),
                Err(error) if is_missing_schema(&error) => false,
                Err(error) => return Err(self.failed(&error)),
            };
            if has_rows {
                let reason = format!(
                    "keyspace {} has lost the row that says it, in tidelog_meta, but not its {table}; say bucket_events and chunk_records as they were when it was made, or let a store that replicates into it put the row back",
                    self.config.keyspace
                );
                return Err(Error::invalid("bucket_events", "not set", reason));
            }
        }
        Ok(())
    }

    /// Takes the lock; answers the version to go on from, or `None` when there is nothing to do.
    async fn lock(&mut self, me: Uuid, keyspace_id: Uuid) -> Result<Option<u32>, Error> {
        let mut seen: (Standing, Duration) = ((None, None), Duration::ZERO);
        loop {
            let Some(standing) = self.read().await? else {
                // It was never made though it may have been, or it is gone again.
                tokio::time::sleep(LOOK_AGAIN).await;
                self.begin(keyspace_id).await?;
                continue;
            };
            let version = standing.0.unwrap_or(0);
            if version >= SCHEMA_VERSION {
                return Ok(None);
            }
            if standing != seen.0 {
                seen = (standing, Duration::ZERO);
            }
            let free = standing.1.is_none() || seen.1 >= self.config.lock_patience;
            if free {
                let values = (me, standing.1, version.cast_signed());
                if self.ask_whether(TAKE_LOCK, values).await?
                    || self.read().await? == Some((Some(version), Some(me)))
                {
                    return Ok(Some(version));
                }
                continue;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            seen.1 += LOOK_AGAIN;
        }
    }

    /// Notes that the tables are made. Where somebody took over the lock, it is them who do: they make
    /// the same tables, and each may be made twice.
    async fn finish(&mut self, me: Uuid) -> Result<(), Error> {
        let mut waited = Duration::ZERO;
        loop {
            self.ask_whether(FINISH, (SCHEMA_VERSION.cast_signed(), me))
                .await?;
            let (version, _) = self.read().await?.unwrap_or_default();
            if version.is_some_and(|version| version >= SCHEMA_VERSION)
                || waited >= self.config.lock_patience
            {
                return Ok(());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            waited += LOOK_AGAIN;
        }
    }

    /// ScyllaDB before 2025.4 has no conditional writes on tablets, its default.
    async fn tablets_without_conditions(&self) -> Result<bool, Error> {
        let state = self.session.get_cluster_state();
        if !state
            .get_nodes_info()
            .iter()
            .any(|node| node.sharder().is_some())
        {
            return Ok(false);
        }
        let asked = self
            .session
            .query_unpaged("SELECT version FROM system.versions", &[])
            .await;
        let version = match asked {
            Err(_) => None,
            Ok(answer) => answer
                .into_rows_result()
                .ok()
                .and_then(|rows| rows.maybe_first_row::<(Option<String>,)>().ok().flatten())
                .and_then(|(version,)| version),
        };
        Ok(version.is_none_or(|version| needs_tablets_off(&version)))
    }

    async fn define(&mut self, text: &str) -> Result<(), Error> {
        let text = for_keyspace(text, &self.config.keyspace);
        self.statements += 1;
        self.session
            .query_unpaged(self.statement(text, true), &[])
            .await
            .map_err(|error| self.failed(&error))?;
        Ok(())
    }

    /// Whether a conditional write was applied. One whose answer got lost counts as not applied: all
    /// of them may be asked again, and what stands there is read.
    async fn ask_whether(
        &mut self,
        text: &str,
        values: impl scylla::serialize::row::SerializeRow,
    ) -> Result<bool, Error> {
        let text = for_keyspace(text, &self.config.keyspace);
        self.statements += 1;
        let asked = self
            .session
            .query_unpaged(self.statement(text, false), values)
            .await;
        match asked {
            Ok(answer) => applied(answer)
                .map_err(|error| failure::refused(self.config, "migrate", &error.text)),
            Err(error) if failure::class(&error) == super::request::ErrorClass::Unclear => {
                Ok(false)
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    async fn read(&self) -> Result<Option<Standing>, Error> {
        Ok(self.columns().await?.map(|columns| {
            let version = columns.schema_version.unwrap_or(0).cast_unsigned();
            (Some(version), columns.migrating)
        }))
    }

    async fn meta(&self) -> Result<Option<MetaRow>, Error> {
        Ok(self.columns().await?.and_then(MetaColumns::into_row))
    }

    async fn columns(&self) -> Result<Option<MetaColumns>, Error> {
        let text = for_keyspace(READ_META, &self.config.keyspace);
        let mut statement = self.statement(text, true);
        statement.set_consistency(match self.config.arbitration_dc {
            None => Consistency::Serial,
            Some(_) => Consistency::LocalSerial,
        });
        match self.session.query_unpaged(statement, &[]).await {
            Ok(answer) => MetaColumns::first(answer)
                .map_err(|error| failure::refused(self.config, "migrate", &error.text)),
            Err(error) if is_missing_schema(&error) => Ok(None),
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn statement(&self, text: String, idempotent: bool) -> Statement {
        let mut statement = Statement::new(text);
        statement.set_is_idempotent(idempotent);
        statement.set_consistency(Consistency::Quorum);
        statement.set_serial_consistency(Some(match self.config.arbitration_dc {
            None => SerialConsistency::Serial,
            Some(_) => SerialConsistency::LocalSerial,
        }));
        if !idempotent {
            statement.set_retry_policy(Some(failure::never_again()));
        }
        statement
    }

    fn failed(&self, error: &ExecutionError) -> Error {
        failure::error(self.config, "make its tables", error)
    }
}

fn options(replication: &KeyspaceReplication) -> String {
    let quoted = |text: &str| text.replace('\'', "''");
    match replication {
        KeyspaceReplication::Simple(copies) => {
            format!("{{'class': 'SimpleStrategy', 'replication_factor': {copies}}}")
        }
        KeyspaceReplication::Network(datacenters) => {
            let mut text = "{'class': 'NetworkTopologyStrategy'".to_owned();
            for (datacenter, copies) in datacenters {
                text = format!("{text}, '{}': {copies}", quoted(datacenter));
            }
            format!("{text}}}")
        }
    }
}

/// Whether a ScyllaDB of this version needs `tablets = {'enabled': false}`: before 2025.4.
fn needs_tablets_off(version: &str) -> bool {
    let mut numbers = version
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < (2025, 4),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tablets_are_off_where_they_take_no_conditions() {
        for (version, off) in [
            ("5.4.9", true),
            ("6.2.0-0.20241013.b8a9fd4e49e8", true),
            ("2025.1.2", true),
            ("2025.3.0~rc1", true),
            ("2025.4.0", false),
            ("2026.1.0", false),
            ("unknown", true),
        ] {
            assert_eq!(needs_tablets_off(version), off, "{version}");
        }
    }

    #[test]
    fn copies_are_written_as_servers_take_them() {
        assert_eq!(
            options(&KeyspaceReplication::Simple(3)),
            "{'class': 'SimpleStrategy', 'replication_factor': 3}"
        );
        let network = KeyspaceReplication::Network(vec![("eu".into(), 3), ("o'clock".into(), 2)]);
        assert_eq!(
            options(&network),
            "{'class': 'NetworkTopologyStrategy', 'eu': 3, 'o''clock': 2}"
        );
    }

    #[test]
    fn tables_keep_to_what_both_servers_take() {
        for text in STEPS
            .iter()
            .flat_map(|(_, step)| step.iter())
            .chain([&META])
        {
            assert!(text.starts_with("CREATE TABLE IF NOT EXISTS {ks}."));
            for foreign in [
                "map<", "set<", "list<", "counter", "timeuuid", "WITH", "cdc",
            ] {
                assert!(!text.contains(foreign), "{foreign} in {text}");
            }
        }
        assert_eq!(
            STEPS.last().map(|(version, _)| *version),
            Some(SCHEMA_VERSION)
        );
    }

    fn meta(version: u32) -> MetaRow {
        MetaRow {
            keyspace_id: Uuid::nil(),
            schema_version: version,
            bucket_events: 1_000,
            chunk_records: 1_000,
            arbitration_dc: None,
        }
    }

    #[test]
    fn other_versions_are_refused_by_name() {
        let config = ScyllaConfig::new(["h"]).keyspace("shop");
        for (found, said) in [
            (None, "keyspace shop has no tables of tidelog"),
            (Some(meta(0)), "no tables of tidelog"),
            (
                Some(meta(2)),
                "has schema version 2, this program needs schema version 1; it was written by a newer tidelog",
            ),
        ] {
            let refused = check(&config, found.as_ref()).unwrap_err();
            assert!(refused.to_string().contains(said), "{refused}");
        }
        assert!(check(&config, Some(&meta(1))).is_ok());
    }

    #[test]
    fn what_is_fixed_for_ever_is_compared() {
        let config = || ScyllaConfig::new(["h"]);
        let mut dc = meta(1);
        dc.arbitration_dc = Some("eu".into());
        for (config, meta, said) in [
            (config().bucket_events(10), meta(1), "was made with 1000"),
            (config().chunk_records(10), meta(1), "was made with 1000"),
            (
                config().arbitration_dc("us"),
                meta(1),
                "all data centres together",
            ),
            (config(), dc.clone(), "only clients with that"),
            (
                config().datacenter("us"),
                dc.clone(),
                "only clients with that",
            ),
            (
                config().datacenter("eu").arbitration_dc("us"),
                dc.clone(),
                "was made with eu",
            ),
        ] {
            let refused = check(&config, Some(&meta)).unwrap_err();
            assert!(refused.to_string().contains(said), "{refused}");
        }
        assert!(check(&config().bucket_events(1_000), Some(&meta(1))).is_ok());
        assert!(check(&config().datacenter("eu"), Some(&dc)).is_ok());
    }
}
