//! Configuration: a TOML file, then `KEYSTEAD_SECTION_KEY` from the environment over it.
//!
//! What always holds: a key that is not known refuses the start; secrets are references to a file
//! or a variable; everything has a default, which `default.toml` beside this file documents.

mod connect;
mod read;
mod secret;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use keystead_core::action::Role;
use serde::Deserialize;

pub(crate) use connect::{Connect, OAuthApp};
pub(crate) use read::{ConfigFault, load};
pub(crate) use secret::{Secret, SecretText};

/// The default configuration, with what each setting means.
pub(crate) const DEFAULT: &str = include_str!("default.toml");

/// All of it.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) server: Server,
    pub(crate) store: Store,
    pub(crate) kms: Kms,
    pub(crate) issuer: Vec<Issuer>,
    pub(crate) egress: Egress,
    pub(crate) provider: BTreeMap<String, Provider>,
    pub(crate) providers: Providers,
    pub(crate) oauth: BTreeMap<String, OAuthApp>,
    pub(crate) connect: Connect,
    pub(crate) limits: Limits,
    pub(crate) reveal: Reveal,
    pub(crate) proxy: Proxy,
    pub(crate) log: Log,
}

/// Where requests come in.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Server {
    pub(crate) listen: SocketAddr,
    pub(crate) public_url: Option<String>,
    #[serde(deserialize_with = "read::nets")]
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) max_connections: usize,
    pub(crate) grace_seconds: u64,
}

impl Default for Server {
    fn default() -> Self {
        Server {
            listen: SocketAddr::from(([127, 0, 0, 1], 8200)),
            public_url: None,
            trusted_proxies: Vec::new(),
            max_connections: 10_000,
            grace_seconds: 20,
        }
    }
}

/// Where rows are kept.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Store {
    pub(crate) url: SecretText,
    pub(crate) system_url: Option<SecretText>,
    pub(crate) connections: usize,
}

impl Default for Store {
    fn default() -> Self {
        Store {
            url: SecretText::plain("sqlite:keystead-data/keystead.db"),
            system_url: None,
            connections: 8,
        }
    }
}

/// What wraps the root key.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Kms {
    pub(crate) driver: KmsDriver,
    pub(crate) path: PathBuf,
    pub(crate) reopen_seconds: u64,
    pub(crate) grace_seconds: u64,
}

/// Which key service.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum KmsDriver {
    File,
}

impl Default for Kms {
    fn default() -> Self {
        Kms {
            driver: KmsDriver::File,
            path: PathBuf::from("keystead-data/root.key"),
            reopen_seconds: 3600,
            grace_seconds: 24 * 3600,
        }
    }
}

/// Whose JWTs are believed.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Issuer {
    pub(crate) name: String,
    pub(crate) issuer: String,
    pub(crate) audience: Vec<String>,
    pub(crate) algorithms: Vec<String>,
    pub(crate) jwks_url: Option<String>,
    pub(crate) jwks: Option<Secret>,
    pub hs256_secret: Option<Secret>,
    pub(crate) tenant_claim: Option<String>,
    pub(crate) role_claim: Option<String>,
    pub(crate) default_role: Option<Role>,
    #[serde(default)]
    pub(crate) allow_service_role: bool,
    #[serde(default)]
    pub(crate) allow_anonymous: bool,
    #[serde(default)]
    pub(crate) allow_third_party_clients: bool,
    pub(crate) max_lifetime_seconds: Option<u64>,
    pub(crate) leeway_seconds: Option<u64>,
}

/// Where Keystead may connect to, beyond public addresses.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Egress {
    #[serde(deserialize_with = "read::nets")]
    pub(crate) allow: Vec<IpNet>,
    pub(crate) extra_ca: Option<PathBuf>,
}

/// What an operator sets of one provider.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Provider {
    pub(crate) base_url: Option<String>,
    pub(crate) approved: Vec<String>,
}

/// Providers of one's own.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Providers {
    pub(crate) folder: Option<PathBuf>,
    pub(crate) dangerous_allow_override: bool,
    /// Files that a command brings along: name and text.
    #[serde(skip)]
    pub(crate) brought: Vec<(String, String)>,
}

/// How often who may ask.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    pub(crate) user: String,
    pub(crate) service: String,
    pub(crate) operator: String,
    pub(crate) anonymous: String,
    pub(crate) integration: BTreeMap<String, String>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            user: "600/minute".to_owned(),
            service: "60000/minute".to_owned(),
            operator: "6000/minute".to_owned(),
            anonymous: "60/minute".to_owned(),
            integration: BTreeMap::new(),
        }
    }
}

/// Which users may reveal.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Reveal {
    pub(crate) users: Vec<Role>,
}

/// The proxy's limits.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Proxy {
    pub(crate) head_timeout_seconds: u64,
    pub(crate) idle_timeout_seconds: u64,
    pub(crate) max_request_body: u64,
    pub(crate) max_signed_body: u64,
    pub(crate) dangerous_no_body_redaction: bool,
}

impl Default for Proxy {
    fn default() -> Self {
        Proxy {
            head_timeout_seconds: 120,
            idle_timeout_seconds: 300,
            max_request_body: 512 << 20,
            max_signed_body: 16 << 20,
            dangerous_no_body_redaction: false,
        }
    }
}

/// What is logged.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    pub(crate) format: LogFormat,
    pub(crate) level: String,
    pub(crate) requests: bool,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Json,
    Text,
}

impl Default for Log {
    fn default() -> Self {
        Log {
            format: LogFormat::Json,
            level: "info".to_owned(),
            requests: false,
        }
    }
}

impl Server {
    /// Whether it listens where other machines can reach it.
    pub(crate) fn is_public(&self) -> bool {
        let ip: IpAddr = self.listen.ip();
        !ip.is_loopback()
    }

    /// What browsers call it: `public_url`, or on loopback the address itself. `None` where only
    /// the operator could know.
    pub(crate) fn home(&self) -> Option<String> {
        match &self.public_url {
            Some(url) => Some(url.trim_end_matches('/').to_owned()),
            None => (!self.is_public()).then(|| format!("http://{}", self.listen)),
        }
    }
}
