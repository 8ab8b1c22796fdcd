//! Which topic an aggregate type goes to.

use std::fmt::{self, Write};
use std::sync::Arc;

use tidelog_core::Error;

/// Kafka's own bound of a topic's name.
const MAX_NAME: usize = 249;
/// What the longest aggregate type, each byte escaped, leaves of it.
const MAX_PREFIX: usize = MAX_NAME - 3 * 64;

/// The application's own choice.
pub(crate) type TopicFunction = dyn Fn(&str) -> String + Send + Sync;

/// Names topics by a prefix and the aggregate type, or as the application says.
#[derive(Clone)]
pub(crate) struct TopicNames {
    pub(crate) prefix: String,
    pub(crate) chosen: Option<Arc<TopicFunction>>,
    pub(crate) origins: Option<String>,
}

impl Default for TopicNames {
    fn default() -> Self {
        Self {
            prefix: "tidelog.".to_owned(),
            chosen: None,
            origins: None,
        }
    }
}

impl TopicNames {
    /// The topic of handshake records: never that of a type, since an `_` in those begins two digits.
    pub(crate) fn origins(&self) -> String {
        let chosen = self.origins.clone();
        chosen.unwrap_or_else(|| format!("{}_origins", self.prefix))
    }

    /// The topic of an aggregate type.
    ///
    /// # Errors
    /// Why the application's choice cannot be a topic of events.
    pub(crate) fn topic(&self, aggregate_type: &str) -> Result<Box<str>, Box<str>> {
        let name = match &self.chosen {
            Some(chosen) => chosen(aggregate_type),
            None => format!("{}{}", self.prefix, escape(aggregate_type)),
        };
        if let Err(reason) = legal(&name) {
            return Err(format!("topic name {name:?}: {reason}").into());
        }
        if name == self.origins() {
            return Err(format!("topic name {name:?}: handshake records go there").into());
        }
        Ok(name.into())
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let prefix = &self.prefix;
        if prefix.len() > MAX_PREFIX || !prefix.bytes().all(is_of_kafka) {
            let reason = format!(
                "it must be at most {MAX_PREFIX} letters, digits and any of . _ - of ASCII"
            );
            return Err(Error::invalid("topic prefix", prefix, reason));
        }
        let origins = self.origins();
        legal(&origins).map_err(|reason| Error::invalid("origins topic", &origins, reason))
    }
}

impl fmt::Debug for TopicNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chosen = self.chosen.as_ref().map(|_| format_args!(".."));
        f.debug_struct("TopicNames")
            .field("prefix", &self.prefix)
            .field("chosen", &chosen)
            .field("origins", &self.origins())
            .finish()
    }
}

/// Whether Kafka takes it for the name of a topic.
pub(crate) fn legal(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err("it must have 1 to 249 bytes");
    }
    if name == "." || name == ".." {
        return Err("it must be more than dots");
    }
    if !name.bytes().all(is_of_kafka) {
        return Err("it must be of ASCII letters, digits, '.', '_' and '-'");
    }
    Ok(())
}

fn is_of_kafka(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// Different for different types, without `.`: Kafka refuses names beside each other that differ in
/// `.` and `_` alone.
fn escape(aggregate_type: &str) -> String {
    let mut escaped = String::with_capacity(aggregate_type.len());
    for byte in aggregate_type.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' {
            escaped.push(char::from(byte));
        } else {
            // Into memory, which does not fail.
            let _ = write!(escaped, "_{byte:02x}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_type_names_its_topic() {
        let names = TopicNames::default();
        let topic = |of: &str| names.topic(of).unwrap();
        assert_eq!(*topic("BankAccount"), *"tidelog.BankAccount");
        assert_eq!(*topic("Konto.Größe"), *"tidelog.Konto_2eGr_c3_b6_c3_9fe");
        assert_eq!(*topic("a_b"), *"tidelog.a_5fb");
        assert_eq!(names.origins(), "tidelog._origins");
    }

    #[test]
    fn what_cannot_be_a_topic_is_said() {
        let mut names = TopicNames {
            chosen: Some(Arc::new(str::to_owned)),
            ..TopicNames::default()
        };
        for (of, reason) in [
            ("", "1 to 249"),
            ("..", "dots"),
            ("ä", "ASCII"),
            ("tidelog._origins", "handshake"),
        ] {
            let refused = names.topic(of).unwrap_err();
            assert!(refused.contains(reason), "{refused}");
        }
        assert_eq!(*names.topic("orders").unwrap(), *"orders");

        assert!(names.check().is_ok());
        names.origins = Some("a b".to_owned());
        assert!(names.check().is_err());
        for prefix in ["shop/", &"p".repeat(58)] {
            names = TopicNames {
                prefix: prefix.to_owned(),
                ..TopicNames::default()
            };
            assert!(names.check().is_err(), "{prefix}");
        }
    }

    proptest! {
        #[test]
        fn different_types_have_different_topics_even_in_metrics(
            one in "\\PC{1,16}|[a-c._-]{1,4}|_[0-9a-f]{2}",
            other in "\\PC{1,16}|[a-c._-]{1,4}|_[0-9a-f]{2}",
        ) {
            let names = TopicNames::default();
            let (a, b) = (names.topic(&one).unwrap(), names.topic(&other).unwrap());
            // As Kafka compares them.
            let metric = |name: &str| name.replace('.', "_");
            prop_assert_eq!(metric(&a) == metric(&b), one == other);
            prop_assert!(legal(&a).is_ok());
            prop_assert_ne!(metric(&a), metric(&names.origins()));
        }
    }

    #[test]
    fn the_longest_type_and_prefix_fit() {
        let names = TopicNames {
            prefix: "p".repeat(MAX_PREFIX),
            ..TopicNames::default()
        };
        assert!(names.check().is_ok());
        assert_eq!(names.topic(&"_".repeat(64)).unwrap().len(), MAX_NAME);
    }
}
