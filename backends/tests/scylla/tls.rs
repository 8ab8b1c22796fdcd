//! TLS, in front of a server that has none: what ends it stands here.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, Stream};
use tidelog_backends::wire::{Cql, ErrorClass, Reply, Request, Wire, WireError};
use tidelog_backends::{ScyllaConfig, Tls};

use crate::keyspaces::Keyspace;

/// By `certificates/make`.
macro_rules! pem {
    ($name:literal) => {
        include_str!(concat!("certificates/", $name))
    };
}

const AUTHORITY: &str = pem!("authority.pem");
const STRANGER: &str = pem!("stranger.pem");
/// For 127.0.0.1.
const ADDRESS: [&str; 2] = [pem!("address.pem"), pem!("address.key")];
/// For localhost.
const NAME: [&str; 2] = [pem!("name.pem"), pem!("name.key")];
const CLIENT: [&str; 2] = [pem!("client.pem"), pem!("client.key")];

/// A server's side of TLS, in front of `upstream`.
struct Front {
    address: String,
}

impl Front {
    fn start(upstream: &str, [certificate, key]: [&str; 2], asks_for_certificates: bool) -> Self {
        let read = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(read(AUTHORITY)).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = if asks_for_certificates {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            config.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            config.with_no_client_auth()
        };
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let config = config.with_single_cert(vec![read(certificate)], key);
        let config = Arc::new(config.unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let upstream = upstream.to_owned();
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, config) = (client.unwrap(), Arc::clone(&config));
                let server = TcpStream::connect(&upstream).unwrap();
                thread::spawn(move || pass(client, server, config));
            }
        });
        Self { address }
    }

    fn config(&self, keyspace: &Keyspace, tls: Option<Tls>) -> ScyllaConfig {
        let config = keyspace.config_at(&self.address);
        match tls {
            Some(tls) => config.tls(tls),
            None => config,
        }
    }
}

/// Passes on both ways by turns until either side has ended.
fn pass(mut client: TcpStream, mut server: TcpStream, config: Arc<ServerConfig>) {
    let mut tls = ServerConnection::new(config).unwrap();
    while tls.is_handshaking() {
        if tls.complete_io(&mut client).is_err() {
            return;
        }
    }
    for side in [&client, &server] {
        side.set_read_timeout(Some(Duration::from_millis(1)))
            .unwrap();
        side.set_nodelay(true).unwrap();
    }
    let waits = |kind| matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut);
    let mut piece = [0; 16 * 1024];
    loop {
        match Stream::new(&mut tls, &mut client).read(&mut piece) {
            Ok(0) => return,
            Ok(length) => server.write_all(&piece[..length]).unwrap(),
            Err(error) if waits(error.kind()) => {}
            Err(_) => return,
        }
        match server.read(&mut piece) {
            Ok(0) => return,
            Ok(length) => {
                let sent = Stream::new(&mut tls, &mut client).write_all(&piece[..length]);
                if sent.is_err() {
                    return;
                }
            }
            Err(error) if waits(error.kind()) => {}
            Err(_) => return,
        }
    }
}

fn connected(config: ScyllaConfig) -> Result<Reply, WireError> {
    let wire = Cql::new(config).unwrap();
    pollster::block_on(wire.renew())?;
    pollster::block_on(wire.ask(Request::Ping))
}

fn fails(config: ScyllaConfig) -> String {
    // It does in whatever time: longer is of no use.
    let error = connected(config.connect_timeout(Duration::from_secs(2))).unwrap_err();
    assert_ne!(
        error.class,
        ErrorClass::Refused,
        "{error}: it may be another node's fault"
    );
    error.to_string()
}

#[test]
fn a_node_that_shows_a_certificate_for_its_address_is_spoken_to() {
    let Some(keyspace) = Keyspace::named("tls") else {
        return;
    };
    let front = Front::start(keyspace.server(), ADDRESS, false);
    let roots = Tls::roots(AUTHORITY);
    let config = front.config(&keyspace, Some(roots.clone()));
    let patient = config.connect_timeout(Duration::from_secs(60));
    assert_eq!(connected(patient), Ok(Reply::Done));
    // Whose certificate is for a name alone, or is vouched for by somebody else, is not.
    let other = Front::start(keyspace.server(), NAME, false);
    fails(other.config(&keyspace, Some(roots)));
    fails(front.config(&keyspace, Some(Tls::roots(STRANGER))));
    // Nor is anybody spoken to in the clear.
    fails(front.config(&keyspace, None));
}

#[test]
fn a_node_that_asks_for_a_certificate_gets_it() {
    let Some(keyspace) = Keyspace::named("mtls") else {
        return;
    };
    let front = Front::start(keyspace.server(), ADDRESS, true);
    let shown = Tls::roots(AUTHORITY).client(CLIENT[0], CLIENT[1]);
    assert!(!format!("{shown:?}").contains("PRIVATE"));
    let config = front.config(&keyspace, Some(shown));
    let patient = config.connect_timeout(Duration::from_secs(60));
    assert_eq!(connected(patient), Ok(Reply::Done));
    fails(front.config(&keyspace, Some(Tls::roots(AUTHORITY))));
}
