//! What replication says, to whoever listens: no secret, whatever goes wrong.

use std::fmt::{Debug, Write};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tempfile::tempdir;
use tidelog::{DistributedConfig, Secret};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::proxy::Proxy;
use crate::{plain, services, streams, till};

const PASSWORD: &str = "hunter2-of-the-till";
/// Set for the process that listens: there is one listener a process.
const ALONE: &str = "TIDELOG_TEST_SECRETS";

/// Everything that is said, the driver's own included, in words.
#[derive(Clone, Default)]
struct Heard {
    text: Arc<Mutex<String>>,
    spans: Arc<AtomicU64>,
}

struct Words<'a>(&'a mut String);

impl Visit for Words<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}

impl Subscriber for Heard {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut text = self.text.lock();
        let _ = write!(text, "\nspan {}", span.metadata().name());
        span.record(&mut Words(&mut text));
        Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut Words(&mut self.text.lock()));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = self.text.lock();
        let _ = write!(text, "\n{}", event.metadata().target());
        event.record(&mut Words(&mut text));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

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
    shown.push_str(&heard.text.lock());
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
