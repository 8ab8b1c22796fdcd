//! What librdkafka says: lines for `tracing`, and the reason of what does not work.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel as Level;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::types::RDKafkaErrorCode as Code;
use tidelog_core::Error;

use crate::kafka::connection::{Connection, Secrets};

/// Lines of one kind are said once in so long: a handshake that fails does so thirty times a second.
const ONCE_IN: Duration = Duration::from_secs(1);

/// Scrubs and limits what a client says. Its calls answer nothing but what went wrong, since librdkafka
/// tells the reason only by the way.
#[derive(Debug)]
pub(crate) struct Voice {
    secrets: Secrets,
    server: Box<str>,
    said: Mutex<HashMap<Box<str>, Said>>,
    heard: Mutex<Complaints>,
}

#[derive(Debug, Default)]
struct Complaints {
    newest: Option<Complaint>,
    /// The newest that is for a person, and how many of all complaints there had been with it.
    denied: Option<(u64, Box<str>)>,
    count: u64,
}

/// A moment between two complaints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Since(u64);

#[derive(Debug)]
struct Said {
    at: Instant,
    left_out: u64,
}

/// Why the cluster cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Complaint {
    pub reason: Box<str>,
    /// It will not be different without a person: a wrong password, a certificate that is not trusted.
    pub is_denied: bool,
}

impl Voice {
    pub(crate) fn new(connection: &Connection) -> Self {
        Self {
            secrets: connection.secrets(),
            server: connection.server(),
            said: Mutex::default(),
            heard: Mutex::default(),
        }
    }

    /// What it is called in errors.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    pub(crate) fn scrub(&self, text: &str) -> Box<str> {
        self.secrets.scrub(text)
    }

    /// A line of its log.
    pub(crate) fn log(&self, level: Level, facility: &str, line: &str) {
        if matches!(level, Level::Debug) {
            // Nobody hears them who did not ask for them.
            if tracing::enabled!(target: "tidelog::kafka", tracing::Level::DEBUG) {
                let line = self.scrub(line);
                tracing::debug!(target: "tidelog::kafka", facility, "{line}");
            }
            return;
        }
        let Some(left_out) = self.may_say(facility, Instant::now()) else {
            return;
        };
        let line = self.scrub(line);
        match level {
            Level::Emerg | Level::Alert | Level::Critical | Level::Error | Level::Warning => {
                tracing::warn!(target: "tidelog::kafka", facility, left_out, "{line}");
            }
            _ => tracing::info!(target: "tidelog::kafka", facility, left_out, "{line}"),
        }
    }

    /// Whether a line of this kind is said now, and how many were left out before it.
    fn may_say(&self, facility: &str, now: Instant) -> Option<u64> {
        let mut said = self.said.lock();
        match said.get_mut(facility) {
            Some(before) if now.saturating_duration_since(before.at) < ONCE_IN => {
                before.left_out += 1;
                None
            }
            Some(before) => {
                before.at = now;
                Some(std::mem::take(&mut before.left_out))
            }
            None => {
                let first = Said {
                    at: now,
                    left_out: 0,
                };
                said.insert(facility.into(), first);
                Some(0)
            }
        }
    }

    /// An error event; each comes twice.
    pub(crate) fn complain(&self, error: &KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        let is_denied = match code {
            Some(Code::Authentication | Code::SaslAuthenticationFailed) => true,
            // Others end with the connection that they began with.
            Some(Code::SSL) => reason.contains("verif") || reason.contains("not available"),
            _ => false,
        };
        let mut heard = self.heard.lock();
        heard.count += 1;
        // That all are gone says less than why the last one went.
        if code == Some(Code::AllBrokersDown) && heard.newest.is_some() {
            return;
        }
        let reason = self.scrub(reason);
        if is_denied {
            heard.denied = Some((heard.count, reason.clone()));
        }
        heard.newest = Some(Complaint { reason, is_denied });
    }

    /// What was complained of since it worked last.
    pub(crate) fn complaint(&self) -> Option<Complaint> {
        self.heard.lock().newest.clone()
    }

    /// Now.
    pub(crate) fn since(&self) -> Since {
        Since(self.heard.lock().count)
    }

    /// Why access was denied since then, if it was: what was denied before may be cured, and what fails
    /// now fails for another reason.
    pub(crate) fn denied(&self, since: Since) -> Option<Box<str>> {
        let heard = self.heard.lock();
        let denied = heard.denied.as_ref();
        let newer = denied.filter(|(at, _)| *at > since.0);
        newer.map(|(_, reason)| reason.clone())
    }

    /// It works.
    pub(crate) fn works(&self) {
        let mut heard = self.heard.lock();
        (heard.newest, heard.denied) = (None, None);
    }

    /// What is answered where the cluster was not reached to do `action`.
    pub(crate) fn unreachable(&self, action: &str, answered: &str) -> Error {
        let reason = match self.complaint() {
            Some(complaint) => complaint.reason,
            None => self.scrub(answered),
        };
        Error::Unreachable {
            server: self.server.clone(),
            action: action.into(),
            reason,
        }
    }
}

/// Lets a client that nobody waits for reports of say what it has to say.
pub(crate) struct Clients(pub Arc<Voice>);

impl ClientContext for Clients {
    fn log(&self, level: Level, facility: &str, line: &str) {
        self.0.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() != Some(Code::Fatal) {
            self.0.complain(&error, reason);
        }
    }

    fn stats_raw(&self, _: &[u8]) {}
}

impl ConsumerContext for Clients {}

impl ProducerContext for Clients {
    type DeliveryOpaque = ();

    // The transaction fails with its messages.
    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voice() -> Voice {
        let mut connection = Connection::new(["a:1"]);
        connection.user("till", "hunter2");
        Voice::new(&connection)
    }

    #[test]
    fn lines_of_one_kind_are_said_once_a_second_and_counted_between() {
        let (voice, now) = (voice(), Instant::now());
        assert_eq!(voice.may_say("FAIL", now), Some(0));
        assert_eq!(voice.may_say("FAIL", now), None);
        assert_eq!(voice.may_say("FAIL", now + ONCE_IN / 2), None);
        assert_eq!(voice.may_say("OTHER", now), Some(0));
        assert_eq!(voice.may_say("FAIL", now + ONCE_IN), Some(2));
    }

    #[test]
    fn the_reason_is_what_was_complained_of_and_no_secret() {
        let voice = voice();
        let denied = KafkaError::Global(Code::Authentication);
        voice.complain(&denied, "user till with hunter2 failed");
        voice.complain(
            &KafkaError::Global(Code::AllBrokersDown),
            "1/1 brokers are down",
        );
        let complaint = voice.complaint().unwrap();
        assert!(complaint.is_denied && complaint.reason.contains("till with ***"));
        let error = voice.unreachable("ask for topics", "transport failure");
        assert!(error.to_string().contains("till with ***"), "{error}");

        voice.works();
        assert_eq!(voice.complaint(), None);
        assert_eq!(voice.denied(Since(0)), None);
        let error = voice.unreachable("ask for topics", "transport failure");
        assert!(error.to_string().contains("transport failure"), "{error}");
    }

    #[test]
    fn what_was_denied_once_does_not_make_what_fails_later_a_refusal() {
        let voice = voice();
        let before = voice.since();
        let denied = KafkaError::Global(Code::Authentication);
        voice.complain(&denied, "who are you?");
        let down = KafkaError::Global(Code::BrokerTransportFailure);
        voice.complain(&down, "connection refused");
        assert_eq!(voice.denied(before).as_deref(), Some("who are you?"));
        let after = voice.since();
        voice.complain(&down, "connection refused");
        assert_eq!(voice.denied(after), None);
        voice.complain(&denied, "who are you?");
        assert!(voice.denied(after).is_some());
    }
}
