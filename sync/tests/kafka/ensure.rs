//! Topics are made on purpose, by one call.

use tidelog::{Error, KafkaConfig, TopicSpec};

use crate::{services, topics};

#[test]
fn topics_of_types_are_made_once_and_what_is_there_is_left_as_it_is() {
    let Some(address) = services::kafka() else {
        return;
    };
    let prefix = topics::unique("ensured.");
    let config = KafkaConfig::new([&address]).topic_prefix(&prefix);
    let name = |of: &str| format!("{prefix}{of}");
    let (account, odd, origins) = (name("Account"), name("Konto_2e_c3_9f"), name("_origins"));
    topics::create(
        &address,
        &odd,
        1,
        &[("cleanup.policy", "compact"), ("retention.ms", "1000000")],
    );
    let types = ["Account", "Konto.ß", "Account"];
    let spec = TopicSpec::new(3, 1).set("retention.ms", "-1");
    let ensure = || pollster::block_on(config.ensure_topics(&types, spec.clone())).unwrap();

    let first = ensure();
    assert_eq!(
        first.created,
        [account.as_str().into(), origins.as_str().into()]
    );
    assert_eq!(first.found, [odd.as_str().into()]);
    let differs: Vec<_> = first.differs.iter().map(|differs| &*differs.what).collect();
    assert_eq!(
        differs,
        [
            "1 partitions, 3 asked for",
            "retention.ms is 1000000, -1 asked for",
            "message.timestamp.type is CreateTime, LogAppendTime asked for",
            "cleanup.policy is compact, delete asked for",
        ]
    );
    assert!(first.differs.iter().all(|differs| *differs.topic == *odd));
    assert_eq!(topics::partitions(&address, &account), Some(3));
    assert_eq!(topics::partitions(&address, &odd), Some(1));
    assert_eq!(topics::partitions(&address, &origins), Some(1));

    // What was made is as it was asked for; what was there is as it was.
    let again = ensure();
    assert_eq!(again.created, []);
    assert_eq!(again.found.len(), 3);
    assert_eq!(again.differs, first.differs);

    // A message that says it is of long ago stays, since the broker's time counts.
    let seen = topics::setting(&address, &account, "message.timestamp.type");
    assert_eq!(seen.as_deref(), Some("LogAppendTime"));
    let seen = topics::setting(&address, &origins, "cleanup.policy");
    assert_eq!(seen.as_deref(), Some("compact"));
    topics::delete(&address, &[&account, &odd, &origins]);
}

#[test]
fn what_cannot_be_made_says_why() {
    let Some(address) = services::kafka() else {
        return;
    };
    let prefix = topics::unique("refused.");
    let config = KafkaConfig::new([&address]).topic_prefix(&prefix);
    let copies = config.ensure_topics(&["Account"], TopicSpec::new(1, 99));
    match pollster::block_on(copies) {
        Err(Error::ServerRefused { action, reason, .. }) => {
            assert!(action.contains("Account"), "{action}");
            assert!(reason.contains("eplication"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    let none = config.ensure_topics(&["Account"], TopicSpec::new(0, 1));
    assert!(matches!(
        pollster::block_on(none),
        Err(Error::InvalidInput { .. })
    ));
    let ours = config.topics(|of| of.to_owned() + "/x");
    let illegal = ours.ensure_topics(&["Account"], TopicSpec::new(1, 1));
    let refused = pollster::block_on(illegal).unwrap_err().to_string();
    assert!(refused.contains("Account/x"), "{refused}");
    assert_eq!(
        topics::partitions(&address, &format!("{prefix}Account")),
        None
    );

    let nobody = KafkaConfig::new(["127.0.0.1:1"]);
    let asked = nobody.ensure_topics(&["Account"], TopicSpec::new(1, 1));
    match pollster::block_on(asked) {
        Err(Error::Unreachable { reason, .. }) => {
            assert!(reason.contains("refused"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}
