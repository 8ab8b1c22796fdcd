//! What replication says, to whoever listens: no secret, whatever goes wrong.

use std::fmt::Write;
use std::process::Command;

use tempfile::tempdir;
use tidelog::{DistributedConfig, Secret};

use crate::heard::Heard;
use crate::proxy::Proxy;
use crate::{plain, services, streams, till};

const PASSWORD: &str = "hunter2-of-the-till";
/// Set for the process that listens: there is one listener a process.
const ALONE: &str = "TIDELOG_TEST_SECRETS";

#[test]
fn no_secret_is_said_by_replication() {
    if std::env::var_os(ALONE).is_none() {
        let Some(server) = services::scylla() else {
            return;
        };
        let name = "secrets::no_secret_is_said_by_replication";
        let done = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(ALONE, "1")
            .env("TIDELOG_TEST_SCYLLA", server)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stdout);
        let complained = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{said}{complained}");
        return;
    }
    let heard = Heard::default();
    tracing::subscriber::set_global_default(heard.clone()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut shown = runtime.block_on(replicated());
    shown.push_str(&heard.text());
    for said in [
        "span replication",
        "span commit",
        "span connect",
        "span restore",
    ] {
        assert!(shown.contains(said), "{said} is not said");
    }
    let at = shown.find("hunter2");
    let around = at.and_then(|at| shown.get(at.saturating_sub(200)..at));
    assert_eq!(around, None);
}

/// Connects, is cut off, refused, and restored; answers all that a user could print of it.
async fn replicated() -> String {
    let server = services::scylla().unwrap();
    let proxy = Proxy::start(&server);
    let keyspace = plain::keyspace("secrets");
    let dir = tempdir().unwrap();
    let config = || till::config(&proxy.address(), &keyspace).user("till", Secret::new(PASSWORD));
    let mut shown = format!("{:?}", DistributedConfig::new().scylla(config()));
    let log = till::builder(&dir.path().join("log"), config())
        .open()
        .unwrap();
    till::say(&log, &streams::named("Till", 1), &["one"]).await;
    till::level(&log).await;
    proxy.refuse(true);
    till::say(&log, &streams::named("Till", 1), &["two"]).await;
    till::until(&log, "trouble", |status| status.retries > 2).await;
    let status = log.replication().status();
    let error = status.last_error.clone().unwrap();
    let _ = write!(
        shown,
        "{status:?} {error} {error:?} {:?}",
        log.replication()
    );
    proxy.refuse(false);
    till::level(&log).await;
    log.close().await.unwrap();
    let empty = plain::keyspace("secrets");
    let missing = till::config(&proxy.address(), &empty).user("till", Secret::new(PASSWORD));
    let failed = tidelog::restore(
        missing,
        tidelog::RestoreOptions::new(),
        dir.path().join("x"),
    );
    let failed = failed.await.unwrap_err();
    let _ = write!(shown, "{failed} {failed:?}");
    let to = dir.path().join("restored");
    let report = tidelog::restore(config(), tidelog::RestoreOptions::new(), to);
    let _ = write!(shown, "{:?}", report.await.unwrap());
    let session = plain::session(&server).await;
    for keyspace in [&keyspace, &empty] {
        plain::drop_keyspace(&session, keyspace).await;
    }
    shown
}
