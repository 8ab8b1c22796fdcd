//! TLS and SCRAM, which OpenSSL is needed for: feature `kafka-tls`.

use std::fmt;

use rdkafka::ClientConfig;
use tidelog_core::Secret;

/// Whom connections to Kafka trust, and how they show who they are. Feature `kafka-tls`.
#[derive(Clone, Default)]
pub struct KafkaTls {
    /// `None` trusts whom the system does.
    roots: Option<String>,
    client: Option<(String, Secret)>,
}

impl KafkaTls {
    /// Trusts the authorities that the system trusts.
    pub fn system() -> Self {
        Self::default()
    }

    /// Trusts the authorities whose certificates stand in `pem`, and nobody else.
    pub fn roots(pem: impl Into<String>) -> Self {
        Self {
            roots: Some(pem.into()),
            client: None,
        }
    }

    /// Shows this certificate to the brokers: its chain and its private key, both PEM.
    pub fn client(mut self, chain: impl Into<String>, key: impl Into<Secret>) -> Self {
        self.client = Some((chain.into(), key.into()));
        self
    }

    pub(crate) fn secret(&self) -> Option<&Secret> {
        self.client.as_ref().map(|(_, key)| key)
    }

    pub(crate) fn apply(&self, config: &mut ClientConfig) {
        if let Some(roots) = &self.roots {
            config.set("ssl.ca.pem", roots);
        }
        if let Some((chain, key)) = &self.client {
            config.set("ssl.certificate.pem", chain);
            config.set("ssl.key.pem", key.expose());
        }
    }
}

impl fmt::Debug for KafkaTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trusts = self.roots.as_ref().map_or("system", |_| "roots");
        match &self.client {
            None => write!(f, "KafkaTls({trusts})"),
            Some(_) => write!(f, "KafkaTls({trusts}, client certificate)"),
        }
    }
}

/// How a password is proven to a broker without being sent. Feature `kafka-tls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scram {
    /// `SCRAM-SHA-256`.
    Sha256,
    /// `SCRAM-SHA-512`.
    Sha512,
}

impl Scram {
    pub(crate) fn mechanism(self) -> &'static str {
        match self {
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha512 => "SCRAM-SHA-512",
        }
    }
}
