//! Whom the connection trusts, and how it shows who it is.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tidelog_core::{Error, Secret};

/// How TLS is spoken to the nodes.
///
/// A node's certificate must name its **IP address**; a wrong clock of this machine may make a
/// valid certificate look expired.
#[derive(Clone)]
pub struct Tls(Kind);

#[derive(Clone)]
enum Kind {
    Pem {
        roots: Vec<u8>,
        client: Option<(Vec<u8>, Secret)>,
    },
    Ready(Arc<ClientConfig>),
}

impl Tls {
    /// Trusts the authorities whose certificates stand in `pem`, and nobody else.
    pub fn roots(pem: impl Into<Vec<u8>>) -> Self {
        Self(Kind::Pem {
            roots: pem.into(),
            client: None,
        })
    }

    /// Shows this certificate to the nodes: its chain and its private key, both PEM. Has no effect
    /// on [`Tls::config`], which has its own.
    pub fn client(mut self, chain: impl Into<Vec<u8>>, key: impl Into<Secret>) -> Self {
        if let Kind::Pem { client, .. } = &mut self.0 {
            *client = Some((chain.into(), key.into()));
        }
        self
    }

    /// A configuration of rustls, as it is.
    pub fn config(config: Arc<ClientConfig>) -> Self {
        Self(Kind::Ready(config))
    }

    pub(crate) fn build(&self) -> Result<Arc<ClientConfig>, Error> {
        let (roots, client) = match &self.0 {
            Kind::Ready(config) => return Ok(Arc::clone(config)),
            Kind::Pem { roots, client } => (roots, client),
        };
        let mut trusted = RootCertStore::empty();
        for root in certificates("TLS roots", roots)? {
            trusted
                .add(root)
                .map_err(|error| invalid("TLS roots", &error))?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid("TLS versions", &error))?
            .with_root_certificates(trusted);
        let config = match client {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = certificates("TLS client certificate", chain)?;
                // What is wrong with a key is not said further: the text may quote it.
                let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).map_err(|_| {
                    Error::invalid("TLS client key", "..", "it is not a private key in PEM")
                })?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| invalid("TLS client certificate", &error))?
            }
        };
        Ok(Arc::new(config))
    }
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(Error::invalid(what, "..", "there is no certificate in it")),
        Err(error) => Err(Error::invalid(what, "..", error.to_string())),
    }
}

fn invalid(what: &'static str, error: &rustls::Error) -> Error {
    Error::invalid(what, "..", error.to_string())
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Kind::Pem { client: None, .. } => "Tls(roots)",
            Kind::Pem { .. } => "Tls(roots, client certificate)",
            Kind::Ready(_) => "Tls(config)",
        })
    }
}
