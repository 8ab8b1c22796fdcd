//! Tables are made, or brought to this version, by one client at a time.

use std::time::Duration;

use scylla::client::session::Session;
use scylla::errors::ExecutionError;
use scylla::statement::unprepared::Statement;
use scylla::statement::{Consistency, SerialConsistency};
use tidelog_core::Error;
use uuid::Uuid;

use super::{META, SCHEMA_VERSION, STEPS, check, for_keyspace};
use crate::scylla::config::{KeyspaceReplication, ScyllaConfig};
use crate::scylla::failure::{self, is_missing_schema};
use crate::scylla::request::{ErrorClass, MetaRow};
use crate::scylla::rows::{MetaColumns, applied};

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
            Err(error) if failure::class(&error) == ErrorClass::Unclear => Ok(false),
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
}
