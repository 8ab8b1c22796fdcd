//! What is asked of the cluster: who it is, which topics it has, and what stands where.

use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::error::KafkaError;
use rdkafka::metadata::MetadataTopic;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::outcome;
use crate::kafka::broker::{BrokerError, Cluster, Offsets, Place};
use crate::kafka::voice::Voice;

/// How long an answer is waited for.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);

/// More topics than that are looked up among all that there are.
const ONE_BY_ONE: usize = 3;

/// A client that is asked.
pub(crate) struct Asked<'a, C: ClientContext> {
    pub client: &'a Client<C>,
    pub voice: &'a Voice,
    /// Lets it say what it has to say: why there is no answer, among others.
    pub listen: &'a dyn Fn(),
}

impl<C: ClientContext> Asked<'_, C> {
    pub(crate) fn cluster(&self, names: &[Box<str>]) -> Result<Cluster, BrokerError> {
        let action = "ask for its topics";
        let topics = if (1..=ONE_BY_ONE).contains(&names.len()) {
            let ask = |name: &str| {
                let found = self.client.fetch_metadata(Some(name), ANSWER);
                let found = found.map_err(|error| self.failed(&error, action))?;
                partitions(found.topics().first())
            };
            names
                .iter()
                .map(|name| ask(name))
                .collect::<Result<_, _>>()?
        } else {
            let all = self.client.fetch_metadata(None, ANSWER);
            let all = all.map_err(|error| self.failed(&error, action))?;
            let find = |name: &str| {
                let found = all.topics().iter().find(|topic| topic.name() == name);
                partitions(found)
            };
            names
                .iter()
                .map(|name| find(name))
                .collect::<Result<_, _>>()?
        };
        let Some(id) = self.client.fetch_cluster_id(ANSWER) else {
            (self.listen)();
            let error = self.voice.unreachable(action, "it does not say who it is");
            return Err(BrokerError::Passing(error));
        };
        self.voice.works();
        let id = id.into();
        Ok(Cluster { id, topics })
    }

    pub(crate) fn offsets(&self, places: &[Place]) -> Result<Vec<Offsets>, BrokerError> {
        let ask = |place: &Place| {
            let found = self
                .client
                .fetch_watermarks(&place.topic, place.partition, ANSWER);
            match found {
                Ok((low, high)) => Ok(Offsets::There { low, high }),
                Err(error) => match error.rdkafka_error_code() {
                    Some(code) if outcome::is_no_topic(code) => Ok(Offsets::Missing),
                    _ => Err(self.failed(&error, "ask for offsets")),
                },
            }
        };
        places.iter().map(ask).collect()
    }

    fn failed(&self, error: &KafkaError, action: &str) -> BrokerError {
        (self.listen)();
        passing(error, action, self.voice)
    }
}

/// How many partitions a topic has; `None` when it is not there.
fn partitions(topic: Option<&MetadataTopic>) -> Result<Option<u32>, BrokerError> {
    let Some(topic) = topic else { return Ok(None) };
    let code = topic.error().map(Code::from);
    match code {
        Some(code) if outcome::is_denied(code) => {
            let reason = format!("topic {}: {code}", topic.name());
            Err(BrokerError::Denied(reason.into()))
        }
        // It is being made: without a leader nothing is taken yet.
        Some(_) => Ok(None),
        None => {
            let count = u32::try_from(topic.partitions().len()).unwrap_or(u32::MAX);
            Ok((count > 0).then_some(count))
        }
    }
}

/// What came instead of an answer.
pub(crate) fn passing(error: &KafkaError, action: &str, voice: &Voice) -> BrokerError {
    if let Some(complaint) = voice.complaint().filter(|complaint| complaint.is_denied) {
        return BrokerError::Denied(complaint.reason);
    }
    match error.rdkafka_error_code() {
        Some(code) if outcome::is_denied(code) => {
            BrokerError::Denied(voice.scrub(&format!("cannot {action}: {error}")))
        }
        _ => BrokerError::Passing(voice.unreachable(action, &error.to_string())),
    }
}
