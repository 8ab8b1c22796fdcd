//! The two topics of a group's dead letters.

use tidelog_core::Error;

use crate::kafka::connection::Connection;
use crate::kafka::ensure::{self, TopicSpec, TopicsReport, Wanted};
use crate::kafka::names::legal;
use crate::kafka::settings::Role;

/// How they come to be.
pub(crate) const REMEDY: &str = "make it by `KafkaListenerConfig::ensure_topics`";

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

    /// Makes those that are missing; what is there is looked at, and stays as it is. `spec` is for letters;
    /// the parked set is compacted, in one partition. Both take the broker's time, since this machine's may
    /// be wrong, and messages of 10 MiB, since a letter is larger than its record. Letters are kept until
    /// `spec` says otherwise.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when the cluster does not answer, [`Error::ServerRefused`] when it refuses.
    pub(crate) async fn ensure(
        &self,
        connection: Connection,
        spec: TopicSpec,
    ) -> Result<TopicsReport, Error> {
        let client = connection.client(Role::Admin)?;
        let of_both = |spec: TopicSpec| {
            spec.or_set("message.timestamp.type", "LogAppendTime")
                .or_set("max.message.bytes", "10485760")
        };
        let parked = TopicSpec::new(1, spec.replication())
            .set("cleanup.policy", "compact")
            .set("segment.ms", "3600000")
            .set("min.cleanable.dirty.ratio", "0.1");
        let wanted = vec![
            Wanted {
                name: self.letters.clone(),
                spec: of_both(spec.or_set("retention.ms", "-1")),
            },
            Wanted {
                name: self.parked.clone(),
                spec: of_both(parked),
            },
        ];
        ensure::make(connection, client, wanted).await
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
