//! What is asked of the cluster: who it is, which topics it has, and what stands where.

use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::error::KafkaError;
use rdkafka::metadata::MetadataTopic;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::outcome;
use crate::kafka::broker::{BrokerError, Cluster, Offsets, Place};
use crate::kafka::voice::{Since, Voice};

/// How long an answer is waited for.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);

/// How long one place is waited for, and all together that do not answer: one without a leader must keep
/// neither the others from answering nor whoever asks next.
const PLACE: Duration = Duration::from_secs(1);
const SILENT: Duration = Duration::from_secs(3);

/// More topics than that are looked up among all that there are.
const ONE_BY_ONE: usize = 3;

/// A client that is asked.
pub(crate) struct Asked<'a, C: ClientContext> {
    pub client: &'a Client<C>,
    pub voice: &'a Voice,
    /// Lets it say what it has to say: why there is no answer, among others.
    pub listen: &'a dyn Fn(),
    /// When it began to be asked.
    pub since: Since,
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

    /// What does not answer is not known.
    pub(crate) fn offsets(&self, places: &[Place]) -> Vec<Offsets> {
        let mut left = SILENT;
        let ask = |place: &Place| {
            if left.is_zero() {
                return Offsets::Unknown;
            }
            let begun = Instant::now();
            let (topic, within) = (&place.topic, left.min(PLACE));
            let found = self.client.fetch_watermarks(topic, place.partition, within);
            match found.map_err(|error| error.rdkafka_error_code()) {
                Ok((low, high)) => Offsets::There { low, high },
                Err(Some(code)) if outcome::is_no_topic(code) => Offsets::Missing,
                Err(code) => {
                    left = left.saturating_sub(begun.elapsed());
                    let Place { topic, partition } = place;
                    tracing::info!(%topic, partition, ?code, "a place does not say what it has");
                    Offsets::Unknown
                }
            }
        };
        places.iter().map(ask).collect()
    }

    fn failed(&self, error: &KafkaError, action: &str) -> BrokerError {
        (self.listen)();
        passing(error, action, self.voice, self.since)
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

/// What came instead of an answer to what was begun at `since`.
pub(crate) fn passing(
    error: &KafkaError,
    action: &str,
    voice: &Voice,
    since: Since,
) -> BrokerError {
    if let Some(reason) = voice.denied(since) {
        return BrokerError::Denied(reason);
    }
    match error.rdkafka_error_code() {
        Some(code) if outcome::is_denied(code) => {
            BrokerError::Denied(voice.scrub(&format!("cannot {action}: {error}")))
        }
        _ => BrokerError::Passing(voice.unreachable(action, &error.to_string())),
    }
}
