//! The arrows of ARCHITECTURE.md point down only: what must not be in a crate's tree is not there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::process::Command;

/// Names of all crates that a build of `package` with these features links.
fn tree(package: &str, features: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .args([
            "tree",
            "--offline",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .args(["-p", package])
        .args(
            features
                .iter()
                .map(|feature| format!("--features={feature}")),
        )
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let names: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.split(' ').next().map(str::to_owned))
        .collect();
    assert!(names.contains(package), "{package} is in its own tree");
    names
}

fn assert_absent(package: &str, unwanted: &[&str]) {
    let tree = tree(package, &[]);
    for name in unwanted {
        assert!(!tree.contains(*name), "{package} depends on {name}");
    }
}

#[test]
fn core_knows_no_engine_no_runtime_and_no_crate_above_it() {
    assert_absent(
        "tidelog-core",
        &[
            "tokio",
            "sled",
            "scylla",
            "rdkafka",
            "rustix",
            "tidelog-backends",
            "tidelog",
        ],
    );
}

#[test]
fn the_derive_knows_no_crate_of_ours() {
    assert_absent(
        "tidelog-derive",
        &["tidelog-core", "tidelog-backends", "tidelog", "serde"],
    );
}

#[test]
fn kits_for_tests_are_in_no_default_build() {
    for package in ["tidelog", "bank-account"] {
        assert_absent(package, &["proptest", "similar"]);
    }
}

#[test]
fn backends_have_no_runtime_no_network_and_no_crate_above_them() {
    assert_absent(
        "tidelog-backends",
        &["tokio", "scylla", "rustls", "rdkafka", "tidelog"],
    );
    assert!(tree("tidelog-backends", &[]).contains("sled"));
}

#[test]
fn what_users_add_has_no_runtime_and_no_network() {
    assert_absent(
        "tidelog",
        &[
            "tokio",
            "scylla",
            "rustls",
            "rdkafka",
            "rdkafka-sys",
            "libz-sys",
            "zstd-sys",
            "metrics",
            "toml",
        ],
    );
}

#[test]
fn the_command_has_no_runtime_and_no_network() {
    assert_absent("tidelog-cli", &["tokio", "scylla", "rustls", "rdkafka"]);
}

#[test]
fn the_example_has_no_network() {
    assert_absent("bank-account", &["scylla", "rustls", "rdkafka"]);
}

#[test]
fn with_kafka_alone_there_is_no_runtime_no_other_driver_and_no_openssl() {
    let tree = tree("tidelog", &["kafka"]);
    for name in ["rdkafka", "rdkafka-sys", "libz-sys", "zstd-sys", "toml"] {
        assert!(tree.contains(name), "tidelog lacks {name}");
    }
    for name in ["tokio", "scylla", "rustls", "openssl-sys", "openssl"] {
        assert!(!tree.contains(name), "tidelog depends on {name}");
    }
}

#[test]
fn with_the_feature_the_driver_is_there() {
    for package in ["tidelog", "tidelog-backends"] {
        let tree = tree(package, &["scylla"]);
        for name in ["scylla", "tokio", "rustls"] {
            assert!(tree.contains(name), "{package} lacks {name}");
        }
        for name in ["openssl", "openssl-sys", "native-tls"] {
            assert!(!tree.contains(name), "{package} depends on {name}");
        }
    }
    assert!(tree("tidelog", &["scylla"]).contains("metrics"));
}
