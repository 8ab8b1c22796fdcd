//! No secret is shown: by no `Debug`, in no error, in no trace.

use std::fmt::{Debug, Write as _};
use std::io::{Read, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidelog_backends::{ScyllaConfig, ScyllaStore, Secret, Tls};
use tidelog_core::{AppendBatch, EventStore, ExpectedVersion};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::keyspaces::Keyspace;
use crate::kit::{append, connect, events, read, stream};

const PASSWORD: &str = "correct-horse-battery";
const KEY: &str = include_str!("certificates/client.key");
const CHAIN: &str = include_str!("certificates/client.pem");
const ROOTS: &str = include_str!("certificates/authority.pem");

/// Everything that is traced, at every level, as text.
#[derive(Clone, Default)]
struct Capture(Arc<Mutex<String>>);

impl Capture {
    fn add(&self, note: impl FnOnce(&mut dyn Visit)) {
        note(&mut Text(&mut self.0.lock().unwrap()));
    }
}

struct Text<'a>(&'a mut String);

impl Visit for Text<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = writeln!(self.0, "{field}={value:?}");
    }
}

impl Subscriber for Capture {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.add(|text| span.record(text));
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, values: &Record<'_>) {
        self.add(|text| values.record(text));
    }
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        self.add(|text| event.record(text));
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// A line from the middle of the private key.
fn key_line() -> &'static str {
    let line = KEY.lines().nth(1).unwrap();
    assert!(line.len() > 40);
    line
}

#[track_caller]
fn assert_silent(text: &str) {
    for secret in [PASSWORD, key_line()] {
        assert!(!text.contains(secret), "a secret stands in: {text}");
    }
}

/// Answers whatever it is sent with something that is no CQL.
fn babbling_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut piece = [0; 1_024];
            let _ = client.read(&mut piece);
            let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    address
}

#[test]
fn no_secret_is_shown() {
    let Some(keyspace) = Keyspace::named("secrets") else {
        return;
    };
    let capture = Capture::default();
    // For this thread; what works on the driver's runtime here works on this thread, too.
    let text = Arc::clone(&capture.0);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tracing::subscriber::with_default(capture, || {
        let with_secrets = |config: ScyllaConfig| config.user("till", Secret::new(PASSWORD));
        let good = with_secrets(keyspace.config());
        let tls = Tls::roots(ROOTS).client(CHAIN, KEY);
        assert_silent(&format!("{good:?} {good:#?} {tls:?}"));
        runtime.block_on(async {
            let handle = runtime.handle().clone();
            let store = ScyllaStore::connect(good.clone().runtime(handle))
                .await
                .unwrap();
            assert_silent(&format!("{store:?} {:?}", store.blocking()));
            let batch = AppendBatch::new(stream("a"), ExpectedVersion::NoStream, events(2));
            store.append(batch).await.unwrap();
            store.close().await.unwrap();
        });
        let at = |address: &str| {
            with_secrets(ScyllaConfig::new([address]))
                .connect_timeout(Duration::from_millis(500))
                .runtime(runtime.handle().clone())
        };
        let babbling = babbling_server();
        let mut errors = Vec::new();
        for config in [
            at("127.0.0.1:1"),
            at(&babbling),
            at(&babbling).tls(tls.clone()),
            at("no such host.invalid"),
            at(keyspace.server()).keyspace("not_there"),
            at(keyspace.server()).keyspace("Not a name"),
            at(keyspace.server()).tls(Tls::roots(ROOTS).client(KEY, CHAIN)),
            at(keyspace.server()).tls(Tls::roots(ROOTS).client(CHAIN, KEY.replace('M', "!"))),
            at(keyspace.server()).tls(Tls::roots(KEY)),
        ] {
            let error = runtime.block_on(ScyllaStore::connect(config)).unwrap_err();
            errors.push(format!("{error} {error:?} {error:#?}"));
        }
        assert_eq!(errors.len(), 9);
        for error in &errors {
            assert_silent(error);
        }
    });
    let text = text.lock().unwrap();
    assert!(text.len() > 1_000, "hardly anything was traced: {text}");
    assert_silent(&text);
}

#[test]
fn a_user_with_a_password_is_served() {
    let Some(keyspace) = Keyspace::named("user") else {
        return;
    };
    let store = connect(keyspace.config().user("till", PASSWORD));
    append(&store, &stream("a"), &events(1));
    let query = tidelog_core::StreamQuery::new(stream("a"));
    assert_eq!(read(&store, query).len(), 1);
}
