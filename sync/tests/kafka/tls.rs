//! TLS and SCRAM, to a broker of a test's own.

use std::path::Path;
use std::process::Command;

use tempfile::tempdir;
use tidelog::{Error, KafkaConfig, KafkaTls, Scram, TopicSpec};

use crate::services::{self, Broker, Own};
use crate::topics;

fn ensure(config: &KafkaConfig) -> Result<(), Error> {
    let done = config.ensure_topics(&["Account"], TopicSpec::new(1, 1));
    pollster::block_on(done).map(drop)
}

fn config(address: &str) -> KafkaConfig {
    KafkaConfig::new([address]).topic_prefix(topics::unique("tls."))
}

/// A key and the certificate of `127.0.0.1` that it signs itself.
fn certificate(key: &Path, certificate: &Path) {
    let made = Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30",
        ])
        .args([
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ])
        .arg("-keyout")
        .arg(key)
        .arg("-out")
        .arg(certificate)
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
}

#[test]
fn a_broker_is_trusted_by_its_roots_and_by_nothing_else() {
    if !services::is_there("openssl") {
        services::left_out("openssl not found, so there is no certificate");
        return;
    }
    let dir = tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    certificate(&path("key.pem"), &path("certificate.pem"));
    certificate(&path("other-key.pem"), &path("other.pem"));
    let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
    std::fs::write(
        path("both.pem"),
        format!("{}{}", read("key.pem"), read("certificate.pem")),
    )
    .unwrap();
    let Some(own) = Own::kafka_with(&Broker {
        tls: Some(&path("both.pem")),
        ..Broker::default()
    }) else {
        return;
    };
    let address = own.by_tls();
    let trusting = |tls| ensure(&config(&address).tls(tls));
    trusting(KafkaTls::roots(read("certificate.pem"))).unwrap();
    // With a certificate of its own, which this broker does not ask for.
    let own_key = read("other-key.pem");
    let shown = KafkaTls::roots(read("certificate.pem")).client(read("other.pem"), own_key.clone());
    assert!(!format!("{shown:?}").contains("KEY"));
    trusting(shown).unwrap();

    for (tls, what) in [
        (KafkaTls::system(), "the system's"),
        (KafkaTls::roots(read("other.pem")), "another's"),
    ] {
        match trusting(tls) {
            Err(Error::ServerRefused { reason, .. }) => {
                assert!(reason.contains("certificate"), "{what}: {reason}");
            }
            other => panic!("{what}: {other:?}"),
        }
    }
    let broken = trusting(KafkaTls::roots("no certificate"));
    assert!(matches!(broken, Err(Error::InvalidInput { .. })));
    let broken = KafkaTls::roots(read("certificate.pem")).client(read("other.pem"), "hunter2");
    let refused = trusting(broken).unwrap_err();
    assert!(matches!(refused, Error::InvalidInput { .. }), "{refused}");
    assert!(!format!("{refused} {refused:?}").contains("hunter2"));
    // Without TLS it is no broker.
    assert!(ensure(&config(&address)).is_err());
}

#[test]
fn a_password_is_proven_without_being_sent() {
    let Some(own) = Own::kafka_with(&Broker {
        user: Some(("till", "right")),
        ..Broker::default()
    }) else {
        return;
    };
    let address = own.with_password();
    for scram in [Scram::Sha256] {
        let of = |password: &str| config(&address).user("till", password).scram(scram);
        ensure(&of("right")).unwrap();
        match ensure(&of("wrong")) {
            Err(Error::ServerRefused { reason, .. }) => {
                assert!(reason.contains("uthentication"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
}
