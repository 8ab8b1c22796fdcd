//! Configurations from what was said as text.

use tidelog_core::Error;

use super::DistributedConfig;
use super::texts::{Section, Texts};
#[cfg(feature = "kafka")]
use crate::kafka::KafkaListenerConfig;

type Read = fn(&mut DistributedConfig, Section<'_>) -> Result<(), Error>;

const SECTIONS: [(&str, Read); 3] = [
    ("scylla", scylla::read),
    ("replication", scylla::read_replication),
    ("kafka", kafka::read),
];

impl DistributedConfig {
    /// The same with what `texts` say beside what was said before: sections that they touch are made
    /// anew.
    pub(super) fn reading(mut self, texts: &Texts) -> Result<Self, Error> {
        let all = self.texts.clone().overridden_by(texts);
        for (name, read) in SECTIONS {
            if let (Some(_), Some(section)) = (texts.section(name), all.section(name)) {
                read(&mut self, section)?;
            }
        }
        self.texts = all;
        Ok(self)
    }
}

#[cfg(feature = "kafka")]
impl KafkaListenerConfig {
    /// The same with what `texts` say beside what was said before.
    pub(super) fn reading(before: &Texts, texts: &Texts) -> Result<Self, Error> {
        let all = before.clone().overridden_by(texts);
        let section = all.section("listener").ok_or_else(|| {
            let reason = "it has no section [listener], and no variable TIDELOG_LISTENER_ is set";
            Error::invalid("kafka listener", "", reason)
        })?;
        let mut config = kafka::read_listener(section)?;
        config.texts = all;
        Ok(config)
    }
}

#[cfg(not(feature = "scylla"))]
mod scylla {
    use tidelog_core::Error;

    use super::super::DistributedConfig;
    use super::Section;

    pub(super) fn read(_: &mut DistributedConfig, section: Section<'_>) -> Result<(), Error> {
        Err(section.missing("contact_points", "build with feature scylla for a replica"))
    }

    pub(super) fn read_replication(
        _: &mut DistributedConfig,
        section: Section<'_>,
    ) -> Result<(), Error> {
        Err(section.missing("name", "build with feature scylla for a replica"))
    }
}

#[cfg(not(feature = "kafka"))]
mod kafka {
    use tidelog_core::Error;

    use super::super::DistributedConfig;
    use super::Section;

    pub(super) fn read(_: &mut DistributedConfig, section: Section<'_>) -> Result<(), Error> {
        Err(section.missing("brokers", "build with feature kafka to publish"))
    }
}

#[cfg(feature = "scylla")]
mod scylla {
    use tidelog_backends::{Consistency, KeyspaceReplication, ScyllaConfig, Tls};
    use tidelog_core::Error;
    use uuid::Uuid;

    use super::super::{DistributedConfig, ReplicationOptions};
    use super::Section;
    use crate::scylla::Pull;

    pub(super) fn read(into: &mut DistributedConfig, section: Section<'_>) -> Result<(), Error> {
        let Some(points) = section.list("contact_points") else {
            return Err(section.missing("contact_points", "name at least one node"));
        };
        let mut config = ScyllaConfig::new(points);
        if let Some(keyspace) = section.text("keyspace") {
            config = config.keyspace(keyspace);
        }
        if section.flag("migrate_at_connect")? {
            config = config.migrate_at_connect();
        }
        if let Some(replication) = replication(section)? {
            config = config.replication(replication);
        }
        if let Some(datacenter) = section.text("datacenter") {
            config = config.datacenter(datacenter);
        }
        if let Some(datacenter) = section.text("arbitration_dc") {
            config = config.arbitration_dc(datacenter);
        }
        config = config.consistency(consistency(section)?);
        if let Some((user, password)) = section.user()? {
            config = config.user(user, password);
        }
        if let Some(pem) = section.tls()? {
            let roots = pem.roots.ok_or_else(|| {
                section.missing("tls_roots_file", "TLS needs to know whom to trust")
            })?;
            let mut tls = Tls::roots(roots);
            if let Some((chain, key)) = pem.client {
                tls = tls.client(chain, key);
            }
            config = config.tls(tls);
        }
        if let Some(timeout) = section.millis("connect_timeout_ms")? {
            config = config.connect_timeout(timeout);
        }
        if let Some(timeout) = section.millis("request_timeout_ms")? {
            config = config.request_timeout(timeout);
        }
        into.scylla = Some(config);
        Ok(())
    }

    pub(super) fn read_replication(
        into: &mut DistributedConfig,
        section: Section<'_>,
    ) -> Result<(), Error> {
        let mut options = ReplicationOptions::new();
        if let Some(name) = section.text("name") {
            options = options.name(name);
        }
        if let Some(bytes) = section.number("window_bytes")? {
            options = options.window_bytes(bytes);
        }
        if let Some(lanes) = section.number("lanes")? {
            options = options.lanes(lanes);
        }
        if let Some(records) = section.number("overlap")? {
            options = options.overlap(records);
        }
        if let Some(linger) = section.millis("linger_ms")? {
            options = options.linger(linger);
        }
        if let Some(every) = section.millis("probe_every_ms")? {
            options = options.probe_every(every);
        }
        into.options = options.pull(pull(section)?);
        Ok(())
    }

    fn replication(section: Section<'_>) -> Result<Option<KeyspaceReplication>, Error> {
        let Some(text) = section.text("replication") else {
            return Ok(None);
        };
        if let Ok(copies) = text.parse() {
            return Ok(Some(KeyspaceReplication::Simple(copies)));
        }
        let each = text.split(',').map(|part| {
            let (datacenter, copies) = part.trim().split_once('=')?;
            Some((datacenter.trim().to_owned(), copies.trim().parse().ok()?))
        });
        let each: Option<Vec<(String, u32)>> = each.collect();
        let reason = "say 3, or dc1=3,dc2=3";
        let each = each.ok_or_else(|| section.wrong("replication", text, reason))?;
        Ok(Some(KeyspaceReplication::Network(each)))
    }

    fn consistency(section: Section<'_>) -> Result<Consistency, Error> {
        match section.text("consistency") {
            None | Some("local-quorum") => Ok(Consistency::LocalQuorum),
            Some("quorum") => Ok(Consistency::Quorum),
            Some("each-quorum") => Ok(Consistency::EachQuorum),
            Some(other) => {
                let reason = "say local-quorum, quorum or each-quorum";
                Err(section.wrong("consistency", other, reason))
            }
        }
    }

    fn pull(section: Section<'_>) -> Result<Pull, Error> {
        match section.text("pull") {
            None | Some("off") => Ok(Pull::Off),
            Some("all") => Ok(Pull::All),
            Some(text) => {
                let origins = section.list("pull").unwrap_or_default();
                let origins = origins.iter().map(|origin| Uuid::parse_str(origin));
                let origins: Result<_, _> = origins.collect();
                let reason = "say off, all, or which origins";
                origins
                    .map(Pull::Origins)
                    .map_err(|_| section.wrong("pull", text, reason))
            }
        }
    }
}

#[cfg(feature = "kafka")]
mod kafka {
    use tidelog_core::Error;

    use super::super::DistributedConfig;
    use super::Section;
    use crate::kafka::connection::Connection;
    use crate::kafka::{KafkaConfig, KafkaListenerConfig, PublishingOptions};
    #[cfg(feature = "kafka-tls")]
    use crate::kafka::{KafkaTls, Scram};
    use crate::listeners::StartAt;

    pub(super) fn read(into: &mut DistributedConfig, section: Section<'_>) -> Result<(), Error> {
        let Some(brokers) = section.list("brokers") else {
            return Err(section.missing("brokers", "name at least one broker"));
        };
        let mut config = KafkaConfig::new(brokers);
        if let Some(prefix) = section.text("topic_prefix") {
            config = config.topic_prefix(prefix);
        }
        if section.flag("structured")? {
            config = config.structured();
        }
        if let Some(topic) = section.text("origins_topic") {
            config = config.origins_topic(topic);
        }
        if let Some(name) = section.text("name") {
            config = config.name(name);
        }
        config = config.start(start(section)?);
        connect(&mut config.connection, section)?;
        into.kafka = Some(config.options(options(section)?));
        Ok(())
    }

    pub(super) fn read_listener(section: Section<'_>) -> Result<KafkaListenerConfig, Error> {
        let Some(brokers) = section.list("brokers") else {
            return Err(section.missing("brokers", "name at least one broker"));
        };
        let Some(group) = section.text("group") else {
            return Err(section.missing("group", "name the group that it is a member of"));
        };
        let mut config = KafkaListenerConfig::new(brokers, group)
            .topics(section.list("topics").unwrap_or_default())
            .types(section.list("types").unwrap_or_default());
        if let Some(prefix) = section.text("topic_prefix") {
            config = config.topic_prefix(prefix);
        }
        if let Some(pattern) = section.text("topics_matching") {
            config = config.topics_matching(pattern);
        }
        if let Some(topic) = section.text("dead_letters") {
            config = config.dead_letters(topic);
        }
        if let Some(topic) = section.text("parked_topic") {
            config = config.parked_topic(topic);
        }
        if let Some(name) = section.text("name") {
            config = config.name(name);
        }
        if let Some(hold_for) = section.millis("hold_for_ms")? {
            config = config.hold_for(hold_for);
        }
        connect(&mut config.connection, section)?;
        Ok(config)
    }

    /// Who logs in, TLS, and what is librdkafka's own.
    fn connect(connection: &mut Connection, section: Section<'_>) -> Result<(), Error> {
        if let Some((user, password)) = section.user()? {
            connection.user(user, password);
        }
        secure(connection, section)?;
        for (name, value) in section.librdkafka() {
            connection.set(name, value.expose());
        }
        Ok(())
    }

    fn start(section: Section<'_>) -> Result<StartAt, Error> {
        match section.text("start") {
            None | Some("beginning") => Ok(StartAt::Beginning),
            Some("end") => Ok(StartAt::End),
            Some(text) => {
                let reason = "say beginning, end, or after which position";
                let position = text.parse().map(StartAt::After);
                position.map_err(|_| section.wrong("start", text, reason))
            }
        }
    }

    fn options(section: Section<'_>) -> Result<PublishingOptions, Error> {
        let mut options = PublishingOptions::new();
        if let Some(bytes) = section.number("window_bytes")? {
            options = options.window_bytes(bytes);
        }
        if let Some(records) = section.number("window_records")? {
            options = options.window_records(records);
        }
        if let Some(records) = section.number("overlap")? {
            options = options.overlap(records);
        }
        if let Some(linger) = section.millis("linger_ms")? {
            options = options.linger(linger);
        }
        if let Some(every) = section.millis("probe_every_ms")? {
            options = options.probe_every(every);
        }
        Ok(options)
    }

    #[cfg(feature = "kafka-tls")]
    fn secure(connection: &mut Connection, section: Section<'_>) -> Result<(), Error> {
        if let Some(pem) = section.tls()? {
            let mut tls = pem.roots.map_or_else(KafkaTls::system, KafkaTls::roots);
            if let Some((chain, key)) = pem.client {
                tls = tls.client(chain, key);
            }
            connection.tls = Some(tls);
        }
        connection.scram = match section.text("sasl") {
            None | Some("plain") => None,
            Some("scram-sha-256") => Some(Scram::Sha256),
            Some("scram-sha-512") => Some(Scram::Sha512),
            Some(other) => {
                let reason = "say plain, scram-sha-256 or scram-sha-512";
                return Err(section.wrong("sasl", other, reason));
            }
        };
        Ok(())
    }

    #[cfg(not(feature = "kafka-tls"))]
    fn secure(_: &mut Connection, section: Section<'_>) -> Result<(), Error> {
        let needs = "build with feature kafka-tls for that";
        if section.tls()?.is_some() {
            return Err(section.missing("tls", needs));
        }
        match section.text("sasl") {
            None | Some("plain") => Ok(()),
            Some(other) => Err(section.wrong("sasl", other, needs)),
        }
    }
}
