//! Clients of librdkafka for dead letters, and what their errors mean.

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::ProducerContext;
use rdkafka::types::RDKafkaErrorCode;
use tidelog_core::Error;

use super::topics::{DeadTopics, REMEDY};
use crate::kafka::connection::Connection;
use crate::kafka::listen::feed::{FeedError, LetterPlace};
use crate::kafka::voice::Voice;

/// What both threads know.
#[derive(Debug)]
pub(super) struct Known {
    pub connection: Connection,
    pub topics: DeadTopics,
    pub group: Box<str>,
}

/// Takes what librdkafka says by itself.
#[derive(Debug)]
pub(super) struct Hears {
    voice: Voice,
    reports: Mutex<Vec<Report>>,
}

/// What came of the message with this number.
pub(super) type Report = (usize, Result<LetterPlace, RDKafkaErrorCode>);

impl Hears {
    pub(super) fn new(known: &Known) -> Self {
        Self {
            voice: Voice::new(&known.connection),
            reports: Mutex::default(),
        }
    }

    /// The cluster answered.
    pub(super) fn works(&self) {
        self.voice.works();
    }

    pub(super) fn take_reports(&self) -> Vec<Report> {
        std::mem::take(&mut self.reports.lock())
    }
}

impl ClientContext for Hears {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.voice.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.voice.complain(&error, reason);
    }
}

impl ConsumerContext for Hears {}

impl ProducerContext for Hears {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        let outcome = match result {
            Ok(message) => Ok(LetterPlace {
                partition: message.partition(),
                offset: message.offset(),
            }),
            Err((error, _)) => {
                let code = error.rdkafka_error_code();
                Err(code.unwrap_or(RDKafkaErrorCode::Unknown))
            }
        };
        self.reports.lock().push((number, outcome));
    }
}

impl Hears {
    /// What `error` means for who asked for `action`, by the client that tells this.
    pub(super) fn failure(&self, action: &str, topic: &str, error: &KafkaError) -> FeedError {
        let code = error
            .rdkafka_error_code()
            .unwrap_or(RDKafkaErrorCode::Unknown);
        self.coded(action, topic, code, &error.to_string())
    }

    pub(super) fn coded(
        &self,
        action: &str,
        topic: &str,
        code: RDKafkaErrorCode,
        text: &str,
    ) -> FeedError {
        use RDKafkaErrorCode as Code;
        match code {
            // A generation that is over means nothing of the sort: places are kept from one to the next.
            Code::UnknownMemberId | Code::FencedInstanceId | Code::FencedMemberEpoch => {
                FeedError::Lost
            }
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
                FeedError::NoTopic(topic.into())
            }
            Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed => {
                FeedError::Passing(Error::ServerRefused {
                    server: self.voice.server().into(),
                    action: action.into(),
                    reason: self.voice.scrub(text),
                })
            }
            _ => FeedError::Passing(self.voice.unreachable(action, text)),
        }
    }

    /// How many partitions a topic of ours has.
    pub(super) fn partitions<C: ClientContext>(
        &self,
        client: &Client<C>,
        topic: &str,
    ) -> Result<i32, FeedError> {
        let action = format!("look at topic {topic}");
        let metadata = client.fetch_metadata(Some(topic), super::WITHIN);
        let metadata = metadata.map_err(|error| self.failure(&action, topic, &error))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let missing = || FeedError::NoTopic(topic.into());
        let found = found.ok_or_else(missing)?;
        if let Some(error) = found.error() {
            let code = RDKafkaErrorCode::from(error);
            return Err(match code {
                RDKafkaErrorCode::UnknownTopicOrPartition => missing(),
                code => self.coded(&action, topic, code, &code.to_string()),
            });
        }
        self.works();
        let count = i32::try_from(found.partitions().len()).unwrap_or(i32::MAX);
        if count == 0 {
            Err(missing())
        } else {
            Ok(count)
        }
    }
}

/// The error that it is to whoever asked by hand.
pub(crate) fn plain(error: FeedError) -> Error {
    match error {
        FeedError::Passing(error) => error,
        FeedError::NoTopic(topic) => Error::NoTopic {
            topic,
            remedy: REMEDY,
        },
        FeedError::Lost => {
            Error::invalid("key", "", "its place is another member's by now: ask again")
        }
        FeedError::Gone { from, found } => Error::Gap {
            stream: None,
            first: from.offset.max(0).cast_unsigned(),
            last: found.offset.max(1).cast_unsigned() - 1,
        },
    }
}
