//! The tables: their text, their version, what is checked of them.

mod migrate;

pub use migrate::MigrateReport;
pub(crate) use migrate::migrate;

use tidelog_core::Error;

use super::config::ScyllaConfig;
use super::request::MetaRow;

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

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

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
