//! What codes of librdkafka and of brokers mean for a message.

use rdkafka::types::RDKafkaErrorCode as Code;

use crate::kafka::broker::{NotSent, Outcome, Refusal, Trouble};

/// What has come of a message that failed with `code`. What is not known here passes: nothing is
/// parked by what is not understood.
pub(crate) fn of_report(code: Code, partition: i32) -> Outcome {
    match code {
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge => {
            Outcome::Refused(Refusal::TooLarge)
        }
        // A batch is refused whole: with the one that is no record all others of it, for which librdkafka
        // has a code of its own. Who is guilty is found out as ever, since brokers need not say.
        Code::InvalidMessage
        | Code::InvalidRecord
        | Code::InvalidDifferentRecord
        | Code::UnsupportedForMessageFormat
        | Code::PolicyViolation => Outcome::Refused(Refusal::Other(said(code, partition))),
        Code::InvalidTimestamp => Outcome::Failed(Trouble::Clock),
        _ if is_no_topic(code) => Outcome::Failed(Trouble::NoTopic),
        _ if is_denied(code) => Outcome::Failed(Trouble::Denied(said(code, partition))),
        // What came with the generation's end.
        Code::PurgeQueue
        | Code::PurgeInflight
        | Code::Fatal
        | Code::OutOfOrderSequenceNumber
        | Code::UnknownProducerId => Outcome::Purged,
        _ => Outcome::Failed(Trouble::Passing(said(code, partition))),
    }
}

/// Why a message was not queued.
pub(crate) fn of_send(code: Option<Code>) -> NotSent {
    match code {
        Some(Code::QueueFull) => NotSent::Full,
        Some(Code::MessageSizeTooLarge) => NotSent::TooLarge,
        Some(code) if is_no_topic(code) => NotSent::NoTopic,
        _ => NotSent::Fatal,
    }
}

/// The topic, or the partition of it, is not there as far as is known. With `BrokerDestroy` the
/// messages of a topic end that went while they waited.
pub(crate) fn is_no_topic(code: Code) -> bool {
    matches!(
        code,
        Code::UnknownTopicOrPartition
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicId
            | Code::BrokerDestroy
    )
}

/// It will not be different without a person.
pub(crate) fn is_denied(code: Code) -> bool {
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::IllegalSASLState
            | Code::SecurityDisabled
            | Code::InvalidTopic
            | Code::Authentication
            | Code::SSL
    )
}

/// Another copy of this store has taken the fence.
pub(crate) fn is_fenced(code: Code) -> bool {
    matches!(
        code,
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch
    )
}

/// The broker does not know what it acknowledged.
pub(crate) fn is_lost_data(code: Code) -> bool {
    matches!(
        code,
        Code::OutOfOrderSequenceNumber | Code::UnknownProducerId
    )
}

fn said(code: Code, partition: i32) -> Box<str> {
    match partition {
        0.. => format!("partition {partition}: {code}").into(),
        _ => code.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Every code there is, by its number.
    fn codes() -> BTreeMap<i32, Code> {
        (-200..=130)
            .filter_map(|number| {
                let code = rdkafka::types::RDKafkaRespErr::try_from(number).ok()?;
                Some((number, Code::from(code)))
            })
            .collect()
    }

    fn numbers(is: impl Fn(&Outcome) -> bool) -> Vec<i32> {
        let codes = codes().into_iter();
        let found = codes.filter(|(_, code)| is(&of_report(*code, -1)));
        found.map(|(number, _)| number).collect()
    }

    #[test]
    fn every_code_has_its_meaning_and_only_these_park_a_message() {
        let codes = codes();
        assert!(codes.len() > 150, "{}", codes.len());
        assert_eq!(
            numbers(|outcome| *outcome == Outcome::Refused(Refusal::TooLarge)),
            [10, 18]
        );
        assert_eq!(
            numbers(|outcome| matches!(outcome, Outcome::Refused(Refusal::Other(_)))),
            [-138, 2, 43, 44, 87]
        );
        assert_eq!(
            numbers(|outcome| *outcome == Outcome::Failed(Trouble::Clock)),
            [32]
        );
        assert_eq!(
            numbers(|outcome| *outcome == Outcome::Failed(Trouble::NoTopic)),
            [-197, -190, -188, 3, 100]
        );
        assert_eq!(
            numbers(|outcome| matches!(outcome, Outcome::Failed(Trouble::Denied(_)))),
            [-181, -169, 17, 29, 30, 31, 33, 34, 53, 54, 58]
        );
        assert_eq!(
            numbers(|outcome| *outcome == Outcome::Purged),
            [-152, -151, -150, 45, 59]
        );
        let passing = numbers(|outcome| matches!(outcome, Outcome::Failed(Trouble::Passing(_))));
        assert_eq!(passing.len() + 2 + 5 + 1 + 5 + 11 + 5, codes.len());
    }

    #[test]
    fn what_is_not_queued_says_why() {
        let of = |code| of_send(Some(code));
        assert_eq!(of(Code::QueueFull), NotSent::Full);
        assert_eq!(of(Code::MessageSizeTooLarge), NotSent::TooLarge);
        assert_eq!(of(Code::UnknownTopic), NotSent::NoTopic);
        assert_eq!(of(Code::Fatal), NotSent::Fatal);
        assert_eq!(of_send(None), NotSent::Fatal);
    }
}
