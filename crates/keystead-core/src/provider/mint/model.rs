//! `[mode.mint]` of a provider file.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::provider::model::HostRule;
use crate::provider::oauth::ClientAuth;

/// How a token is made from the credential. The token endpoint is never the caller's to name.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Mint {
    /// RFC 7523, RS256: the fields `client_email`, `private_key`, `private_key_id`.
    JwtBearer {
        /// The token endpoint.
        token_url: String,
        /// The scopes, by host.
        scopes: Vec<Scope>,
    },
    /// RFC 6749 section 4.4.
    ClientCredentials {
        /// The token endpoint; a template.
        token_url: String,
        /// The scopes, by host.
        scopes: Vec<Scope>,
        /// The field with the client's id.
        #[serde(default = "client_id")]
        client_id: String,
        /// The field with the client's secret.
        #[serde(default = "client_secret")]
        client_secret: String,
        /// How the client proves itself.
        #[serde(default)]
        client_auth: ClientAuth,
        /// What the vendor calls the grant.
        #[serde(default = "client_credentials")]
        grant_type: String,
        /// Further parameters; templates over the settings and the fields that are not secret.
        #[serde(default)]
        form: BTreeMap<String, String>,
    },
    /// A GitHub App's JWT, RS256, buys the token of an installation: the fields `app_id`,
    /// `private_key`.
    GithubApp {
        /// The token endpoint; a template that names the installation.
        token_url: String,
        /// What tells installations apart, by host.
        scopes: Vec<Scope>,
    },
}

fn client_id() -> String {
    "client_id".to_owned()
}

fn client_secret() -> String {
    "client_secret".to_owned()
}

fn client_credentials() -> String {
    "client_credentials".to_owned()
}

impl Mint {
    pub(in crate::provider) fn scopes(&self) -> &[Scope] {
        match self {
            Mint::JwtBearer { scopes, .. }
            | Mint::ClientCredentials { scopes, .. }
            | Mint::GithubApp { scopes, .. } => scopes,
        }
    }

    pub(in crate::provider) fn token_url(&self) -> &str {
        match self {
            Mint::JwtBearer { token_url, .. }
            | Mint::ClientCredentials { token_url, .. }
            | Mint::GithubApp { token_url, .. } => token_url,
        }
    }
}

/// The scope that a token for a host needs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// Which hosts.
    pub host: HostRule,
    /// The scope; a template over the config. Empty where the vendor has none.
    #[serde(default)]
    pub scope: String,
}
