//! Settings of librdkafka: which are ours, which have other defaults here, and what is passed on.

use std::borrow::Cow;

use tidelog_core::Error;

/// Most bytes of a message unless set: below the 1,048,588 that a broker takes as it comes.
pub(crate) const MESSAGE_MAX_BYTES: usize = 1_000_000;

/// What a client of librdkafka is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Publishes events: idempotent, without transactions.
    Publisher,
    /// Writes by transactions: handshake records, dead letters.
    Transactional,
    /// A member of a group.
    Member,
    /// Reads partitions that it names itself, committed records alone.
    Reader,
    /// Asks and makes topics.
    Admin,
}

/// Settings that cannot be had, by all of their names, and what rests on them.
const OURS: &[(&[&str], &str)] = &[
    (
        &["bootstrap.servers", "metadata.broker.list"],
        "the brokers are named when the configuration is made",
    ),
    (
        &["enable.idempotence", "acks", "request.required.acks"],
        "it breaks that nothing acknowledged is lost or doubled by retries",
    ),
    (
        &["message.timeout.ms", "delivery.timeout.ms"],
        "it breaks that nothing is given up by time",
    ),
    (
        &["retries", "message.send.max.retries"],
        "it breaks that nothing is given up by counting",
    ),
    (
        &["max.in.flight", "max.in.flight.requests.per.connection"],
        "idempotence holds for 5 at most",
    ),
    (
        &["enable.gapless.guarantee"],
        "it leaves gaps after all, and stops every stream for one that is refused",
    ),
    (
        &["partitioner", "partitioner_cb"],
        "it breaks that producers in Java put a key where this one does",
    ),
    (
        &["queuing.strategy", "msg_order_cmp"],
        "it breaks the order of events",
    ),
    (
        &["allow.auto.create.topics"],
        "topics are made by `ensure_topics` alone",
    ),
    (
        &["transactional.id", "transaction.timeout.ms"],
        "fencing rests on it",
    ),
    (
        &["queue.buffering.max.kbytes", "queue.buffering.max.messages"],
        "it follows from `PublishingOptions::window_bytes` and `window_records`",
    ),
    (
        &[
            "delivery.report.only.error",
            "produce.offset.report",
            "dr_cb",
            "dr_msg_cb",
        ],
        "it breaks that what is published is known",
    ),
    (
        &[
            "enable.auto.commit",
            "auto.commit.enable",
            "auto.commit.interval.ms",
            "enable.auto.offset.store",
            "offset.store.method",
            "offset.store.path",
            "offset.store.sync.interval.ms",
        ],
        "it breaks that only what was handled is committed",
    ),
    (
        &["auto.offset.reset"],
        "it breaks that nothing is skipped; say where to begin by `start`",
    ),
    (
        &["group.id", "group.protocol.type"],
        "the group is named when the configuration is made",
    ),
    (
        &["isolation.level"],
        "it breaks that only what is committed is read",
    ),
    (
        &["partition.assignment.strategy", "enable.partition.eof"],
        "how places are handed over rests on it",
    ),
    (
        &[
            "log_level",
            "log.queue",
            "log_cb",
            "enabled_events",
            "error_cb",
            "stats_cb",
            "throttle_cb",
            "background_event_cb",
            "rebalance_cb",
            "consume_cb",
            "offset_commit_cb",
            "oauthbearer_token_refresh_cb",
            "socket_cb",
            "connect_cb",
            "closesocket_cb",
            "open_cb",
            "resolve_cb",
            "ssl.certificate.verify_cb",
            "opaque",
            "default_topic_conf",
            "interceptors",
            "consume.callback.max.messages",
        ],
        "it is not set by text; what librdkafka says goes to `tracing`",
    ),
];

/// Other names of settings that can be had.
const ALIASES: &[(&str, &str)] = &[
    ("queue.buffering.max.ms", "linger.ms"),
    ("compression.codec", "compression.type"),
    ("sasl.mechanisms", "sasl.mechanism"),
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
    (
        "sasl.oauthbearer.client.credentials.client.id",
        "sasl.oauthbearer.client.id",
    ),
    (
        "sasl.oauthbearer.client.credentials.client.secret",
        "sasl.oauthbearer.client.secret",
    ),
];

/// Defaults of every client.
const OF_ALL: &[(&str, &str)] = &[
    // Half-open connections are noticed, and a broker that is back is found within 5 s.
    ("socket.keepalive.enable", "true"),
    ("reconnect.backoff.max.ms", "5000"),
    ("socket.timeout.ms", "30000"),
    ("message.max.bytes", "1000000"),
    // A topic that was made again is noticed when idle; one that is missing is said in time.
    ("topic.metadata.refresh.interval.ms", "30000"),
    ("topic.metadata.propagation.max.ms", "5000"),
];

/// Defaults of clients that write.
const OF_WRITERS: &[(&str, &str)] = &[
    ("compression.type", "lz4"),
    // Batches form by themselves while a request is under way; waiting costs a stream that is written
    // to all the time, of which one message is under way at once.
    ("linger.ms", "0"),
    // Fewer innocents when a batch is refused.
    ("batch.size", "524288"),
    ("batch.num.messages", "2000"),
    ("request.timeout.ms", "20000"),
];

/// Defaults of a member of a group.
const OF_MEMBERS: &[(&str, &str)] = &[
    ("session.timeout.ms", "15000"),
    ("queued.max.messages.kbytes", "8192"),
    ("fetch.queue.backoff.ms", "50"),
];

/// What every client has, whatever was set.
const FIXED_OF_ALL: &[(&str, &str)] = &[("allow.auto.create.topics", "false")];

const FIXED_OF_WRITERS: &[(&str, &str)] = &[
    ("enable.idempotence", "true"),
    ("acks", "all"),
    ("retries", "2147483647"),
    ("max.in.flight", "5"),
    ("enable.gapless.guarantee", "false"),
    ("partitioner", "murmur2_random"),
    ("queuing.strategy", "fifo"),
    ("delivery.report.only.error", "false"),
];

const FIXED_OF_PUBLISHERS: &[(&str, &str)] = &[("message.timeout.ms", "0")];

/// Whoever leaves a transaction open holds up readers so long; a request may not take longer.
pub(crate) const OF_TRANSACTIONS: &[(&str, &str)] = &[
    ("transaction.timeout.ms", "10000"),
    ("socket.timeout.ms", "10000"),
];

const FIXED_OF_READERS: &[(&str, &str)] = &[
    ("isolation.level", "read_committed"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "earliest"),
];

const FIXED_OF_MEMBERS: &[(&str, &str)] = &[("enable.partition.eof", "false")];

/// With the protocol of Kafka 4 the broker assigns, and librdkafka refuses what says how.
const FIXED_OF_CLASSIC_MEMBERS: &[(&str, &str)] =
    &[("partition.assignment.strategy", "cooperative-sticky")];

/// Values that are hidden from the moment on that they are set.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["password", "passphrase", "secret"]
        .into_iter()
        .any(|word| name.contains(word))
        || name.ends_with("key.pem")
        || name.starts_with("ssl.keystore.")
        || name == "sasl.oauthbearer.config"
        || name == "sasl.oauthbearer.extensions"
}

/// The one name of a setting, of those that it has.
///
/// # Errors
/// [`Error::InvalidInput`] for one that is not to be had.
pub(crate) fn name(given: &str) -> Result<Cow<'_, str>, Error> {
    let plain = given.trim().to_ascii_lowercase();
    if let Some((_, reason)) = OURS
        .iter()
        .find(|(names, _)| names.contains(&plain.as_str()))
    {
        let reason = format!("{reason}: tidelog sets it");
        return Err(Error::invalid("kafka setting", given, reason));
    }
    let one = ALIASES.iter().find(|(alias, _)| *alias == given);
    Ok(one.map_or(Cow::Borrowed(given), |(_, name)| Cow::Borrowed(*name)))
}

/// What a client has that nothing else was set for.
pub(crate) fn defaults(role: Role) -> impl Iterator<Item = (&'static str, &'static str)> {
    let own: &[_] = match role {
        Role::Publisher | Role::Transactional => OF_WRITERS,
        Role::Member => OF_MEMBERS,
        Role::Reader | Role::Admin => &[],
    };
    OF_ALL.iter().chain(own).copied()
}

/// What a client has in any case. `is_classic` is whether a member divides places by itself.
pub(crate) fn fixed(
    role: Role,
    is_classic: bool,
) -> impl Iterator<Item = (&'static str, &'static str)> {
    let own: [&[_]; 3] = match role {
        Role::Publisher => [FIXED_OF_WRITERS, FIXED_OF_PUBLISHERS, &[]],
        Role::Transactional => [FIXED_OF_WRITERS, &[], &[]],
        Role::Member if is_classic => {
            [FIXED_OF_READERS, FIXED_OF_MEMBERS, FIXED_OF_CLASSIC_MEMBERS]
        }
        Role::Member => [FIXED_OF_READERS, FIXED_OF_MEMBERS, &[]],
        Role::Reader => [FIXED_OF_READERS, &[], &[]],
        Role::Admin => [&[], &[], &[]],
    };
    FIXED_OF_ALL
        .iter()
        .chain(own.into_iter().flatten())
        .copied()
}

/// Whether a setting of the user's means anything to a client of this kind; librdkafka complains of
/// those that do not.
pub(crate) fn concerns(role: Role, name: &str) -> bool {
    const OF_PRODUCERS: &[&str] = &[
        "queue.buffering.",
        "linger.ms",
        "compression.",
        "batch.",
        "request.timeout.ms",
        "sticky.partitioning.linger.ms",
    ];
    const OF_GROUPS: &[&str] = &[
        "group.",
        "session.timeout.ms",
        "heartbeat.interval.ms",
        "coordinator.query.interval.ms",
        "max.poll.interval.ms",
    ];
    const OF_CONSUMERS: &[&str] = &["queued.", "fetch.", "check.crcs"];
    let begins = |with: &[&str]| with.iter().any(|begin| name.starts_with(begin));
    match role {
        Role::Publisher | Role::Transactional => !begins(OF_GROUPS) && !begins(OF_CONSUMERS),
        Role::Member => !begins(OF_PRODUCERS),
        Role::Reader => !begins(OF_PRODUCERS) && !begins(OF_GROUPS),
        Role::Admin => !begins(OF_PRODUCERS) && !begins(OF_GROUPS) && !begins(OF_CONSUMERS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_what_is_ours_is_refused_and_named() {
        for given in OURS.iter().flat_map(|(names, _)| *names) {
            for spelled in [
                given.to_string(),
                given.to_uppercase(),
                format!(" {given} "),
            ] {
                let Err(Error::InvalidInput { value, reason, .. }) = name(&spelled) else {
                    panic!("{spelled} was taken");
                };
                assert_eq!(*value, *spelled);
                assert!(reason.ends_with(": tidelog sets it"), "{reason}");
            }
        }
    }

    const ROLES: [Role; 5] = [
        Role::Publisher,
        Role::Transactional,
        Role::Member,
        Role::Reader,
        Role::Admin,
    ];

    #[test]
    fn what_is_fixed_cannot_be_set_by_any_name() {
        for role in ROLES {
            for (fixed, _) in fixed(role, true) {
                assert!(name(fixed).is_err(), "{fixed} can be set");
            }
            for (default, _) in defaults(role) {
                assert_eq!(name(default).unwrap(), default);
                assert!(concerns(role, default), "{default} does not reach {role:?}");
            }
        }
    }

    #[test]
    fn an_alias_is_the_same_setting() {
        assert_eq!(name("queue.buffering.max.ms").unwrap(), "linger.ms");
        assert_eq!(name("sasl.mechanisms").unwrap(), "sasl.mechanism");
        for (alias, name) in ALIASES {
            assert!(super::name(name).unwrap() == *name, "{alias}");
        }
    }

    #[test]
    fn what_is_secret_is_known_by_its_name() {
        for name in [
            "sasl.password",
            "ssl.key.password",
            "ssl.key.pem",
            "ssl.keystore.location",
            "ssl.keystore.password",
            "sasl.oauthbearer.client.secret",
            "sasl.oauthbearer.client.credentials.client.secret",
            "sasl.oauthbearer.assertion.private.key.passphrase",
            "sasl.oauthbearer.assertion.private.key.pem",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["linger.ms", "ssl.ca.pem", "sasl.username", "debug"] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
