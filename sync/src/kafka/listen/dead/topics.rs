//! The two topics of a group's dead letters.

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use std::time::Duration;
use tidelog_core::Error;

use crate::kafka::connection::Connection;
use crate::kafka::names::legal;
use crate::kafka::settings::Role;

/// How they come to be.
pub(crate) const REMEDY: &str = "make it by `KafkaListenerConfig::ensure_topics`";
const WITHIN: Duration = Duration::from_secs(30);

/// Their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeadTopics {
    /// Letters, as many partitions as wanted.
    pub letters: Box<str>,
    /// The parked set: compacted.
    pub parked: Box<str>,
}

impl DeadTopics {
    /// Those of a group, unless others are chosen.
    pub(crate) fn of(group: &str) -> Self {
        Self {
            letters: format!("{group}.dead").into(),
            parked: format!("{group}.parked").into(),
        }
    }

    /// # Errors
    /// [`Error::InvalidInput`] for names that Kafka does not take, or one for both.
    pub(crate) fn check(&self) -> Result<(), Error> {
        for (what, name) in [
            ("dead-letter topic", &self.letters),
            ("parked topic", &self.parked),
        ] {
            legal(name).map_err(|reason| Error::invalid(what, name, reason))?;
        }
        if self.letters == self.parked {
            let reason = "letters and the parked set cannot share one";
            return Err(Error::invalid("dead-letter topic", &self.letters, reason));
        }
        Ok(())
    }

    /// Makes those that are missing; what is there stays as it is. Both take the broker's time, since
    /// this machine's may be wrong, and messages of 10 MiB, since a letter is larger than its record.
    /// Letters are kept until somebody changes `retention.ms`.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when the cluster does not answer, [`Error::ServerRefused`] when it refuses.
    pub(crate) async fn ensure(
        &self,
        connection: &Connection,
        partitions: i32,
        replication: i32,
    ) -> Result<(), Error> {
        let client = connection.client(Role::Admin)?;
        let admin: AdminClient<DefaultClientContext> = client
            .create()
            .map_err(|error| connection.refused(&error))?;
        let topic = |name, partitions| {
            NewTopic::new(name, partitions, TopicReplication::Fixed(replication))
                .set("message.timestamp.type", "LogAppendTime")
                .set("max.message.bytes", "10485760")
        };
        let letters = topic(&self.letters, partitions).set("retention.ms", "-1");
        let parked = topic(&self.parked, 1)
            .set("cleanup.policy", "compact")
            .set("segment.ms", "3600000")
            .set("min.cleanable.dirty.ratio", "0.1");
        let options = AdminOptions::new().operation_timeout(Some(WITHIN));
        let answers = admin.create_topics([&letters, &parked], &options).await;
        let answers = answers.map_err(|error| unreachable(connection, &error))?;
        for answer in answers {
            match answer {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => {
                    return Err(Error::ServerRefused {
                        server: connection.server(),
                        action: format!("make topic {topic}").into(),
                        reason: code.to_string().into(),
                    });
                }
            }
        }
        Ok(())
    }
}

fn unreachable(connection: &Connection, error: &KafkaError) -> Error {
    Error::Unreachable {
        server: connection.server(),
        action: "make topics".into(),
        reason: connection.secrets().scrub(&error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_groups_and_checked() {
        let mut topics = DeadTopics::of("mail");
        assert_eq!(
            (&*topics.letters, &*topics.parked),
            ("mail.dead", "mail.parked")
        );
        assert!(topics.check().is_ok());
        topics.letters = "mail.parked".into();
        assert!(topics.check().is_err());
        topics.letters = "a b".into();
        assert!(topics.check().is_err());
        assert!(DeadTopics::of(&"g".repeat(243)).check().is_err());
    }
}
