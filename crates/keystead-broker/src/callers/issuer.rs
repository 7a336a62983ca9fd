//! What is configured of an issuer, and the checks that a configuration has to pass.
//!
//! What always holds of an [`Issuer`]: its algorithms are all symmetric with a shared secret or
//! all asymmetric with public keys, never mixed; it has an audience; no claim that users write
//! themselves decides a tenant or a role.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::{Algorithm, AlgorithmFamily};
use keystead_core::action::Role;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::jwks::{Jwks, JwksFetch, KeySet};

const MIN_SECRET: usize = 32;
const MAX_LEEWAY: Duration = Duration::from_secs(60);
/// Objects that users write themselves at the identity providers that have them.
const USER_WRITTEN: [&str; 3] = ["user_metadata", "raw_user_meta_data", "unsafe_metadata"];

/// One issuer as it is configured. Holds a secret, so it cannot be printed.
pub struct IssuerSettings {
    /// Our name for it: lower-case letters, digits, `-`, `_`; at most 64.
    pub name: String,
    /// The exact `iss`.
    pub issuer: String,
    /// The `aud` values that mean us; at least one.
    pub audience: Vec<String>,
    /// The `alg` values that it signs with.
    pub algorithms: Vec<String>,
    /// Where its keys are.
    pub keys: KeySource,
    /// Which claim names the tenant: a dotted path, or one name that is a URL.
    pub tenant_claim: Option<String>,
    /// Which claim names the role: likewise.
    pub role_claim: Option<String>,
    /// The role of a token without a role claim.
    pub default_role: Option<Role>,
    /// Whether a token with `role` = `service_role` is a service. It may lack `sub` and `aud`, as
    /// Supabase's do; they live for years, so `max_lifetime` has to allow that too.
    pub allow_service_role: bool,
    /// Whether a user that signed in anonymously (`is_anonymous`) is one.
    pub allow_anonymous: bool,
    /// Whether a token that was minted for an OAuth client (`client_id`) counts for the user.
    pub allow_third_party_clients: bool,
    /// The longest time from `iat` to `exp`.
    pub max_lifetime: Duration,
    /// How far its clock may be off ours; at most a minute.
    pub leeway: Duration,
}

impl IssuerSettings {
    /// The settings with everything that may be left out at its default.
    pub fn new(
        name: &str,
        issuer: &str,
        audience: &[&str],
        algorithms: &[&str],
        keys: KeySource,
    ) -> IssuerSettings {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        IssuerSettings {
            name: name.to_owned(),
            issuer: issuer.to_owned(),
            audience: owned(audience),
            algorithms: owned(algorithms),
            keys,
            tenant_claim: None,
            role_claim: None,
            default_role: None,
            allow_service_role: false,
            allow_anonymous: false,
            allow_third_party_clients: false,
            max_lifetime: Duration::from_secs(24 * 3600),
            leeway: Duration::from_secs(30),
        }
    }
}

/// Where an issuer's keys are.
pub enum KeySource {
    /// At a URL, fetched and kept up to date.
    JwksUrl(String),
    /// In the configuration, as the JSON text of a JWKS.
    Jwks(String),
    /// A shared secret for HS256, at least 32 bytes.
    Hs256Secret(Zeroizing<Vec<u8>>),
}

/// Why an issuer's configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("issuer {name:?}: {fault}")]
pub struct InvalidIssuer {
    /// The issuer's configured name.
    pub name: String,
    /// What is wrong, and what would be right.
    pub fault: String,
}

/// An issuer whose configuration holds.
pub(super) struct Issuer {
    pub(super) name: Arc<str>,
    pub(super) audience: Vec<String>,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) keys: Keys,
    pub(super) tenant_claim: Option<ClaimPath>,
    pub(super) role_claim: Option<ClaimPath>,
    pub(super) default_role: Option<Role>,
    pub(super) allow_service_role: bool,
    pub(super) allow_anonymous: bool,
    pub(super) allow_third_party_clients: bool,
    pub(super) max_lifetime: i64,
    pub(super) leeway: i64,
}

pub(super) enum Keys {
    Fetched(Arc<Jwks>),
    Fixed(KeySet),
    /// The one key, whatever `kid` a token names.
    Secret(KeySet),
}

impl Issuer {
    /// Checks the settings.
    pub(super) fn new(
        settings: IssuerSettings,
        fetch: &Arc<dyn JwksFetch>,
    ) -> Result<Issuer, InvalidIssuer> {
        let name = settings.name.clone();
        Self::check(settings, fetch).map_err(|fault| InvalidIssuer { name, fault })
    }

    fn check(settings: IssuerSettings, fetch: &Arc<dyn JwksFetch>) -> Result<Issuer, String> {
        let name = &settings.name;
        let plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        if !(1..=64).contains(&name.len()) || !name.bytes().all(plain) {
            return Err("name is 1 to 64 of a-z, 0-9, - and _".into());
        }
        if settings.issuer.is_empty() {
            return Err("issuer is empty; it is the exact `iss` of its tokens".into());
        }
        if settings.audience.is_empty() || settings.audience.iter().any(String::is_empty) {
            return Err("audience needs at least one value, none of them empty".into());
        }
        if settings.leeway > MAX_LEEWAY {
            return Err("leeway is at most 60 seconds".into());
        }
        if settings.max_lifetime.as_secs() == 0 {
            return Err("max_lifetime is at least a second".into());
        }
        let algorithms = read_algorithms(&settings.algorithms)?;
        let symmetric = algorithms.contains(&Algorithm::HS256);
        let keys = match settings.keys {
            KeySource::Hs256Secret(_) if algorithms != [Algorithm::HS256] => {
                return Err("hs256_secret goes with algorithms = [\"HS256\"] and no other".into());
            }
            KeySource::Hs256Secret(secret) if secret.len() < MIN_SECRET => {
                return Err(format!(
                    "hs256_secret has {} bytes; HS256 needs at least {MIN_SECRET}",
                    secret.len()
                ));
            }
            KeySource::Hs256Secret(secret) => Keys::Secret(KeySet::secret(&secret)),
            _ if symmetric => {
                return Err("HS256 needs hs256_secret; it never goes with public keys".into());
            }
            KeySource::Jwks(text) => {
                let keys = KeySet::parse(text.as_bytes(), &algorithms)
                    .map_err(|fault| format!("jwks: {fault}"))?;
                if keys.is_empty() {
                    return Err("jwks holds no key that fits the algorithms".into());
                }
                Keys::Fixed(keys)
            }
            KeySource::JwksUrl(url) => {
                match url::Url::parse(&url) {
                    Ok(parsed) if ["http", "https"].contains(&parsed.scheme()) => {}
                    _ => return Err("jwks_url is no http(s) URL".into()),
                }
                Keys::Fetched(Jwks::new(name, url, algorithms.clone(), fetch.clone()))
            }
        };
        Ok(Issuer {
            name: name.as_str().into(),
            audience: settings.audience,
            algorithms,
            keys,
            tenant_claim: settings
                .tenant_claim
                .as_deref()
                .map(ClaimPath::parse)
                .transpose()?,
            role_claim: settings
                .role_claim
                .as_deref()
                .map(ClaimPath::parse)
                .transpose()?,
            default_role: settings.default_role,
            allow_service_role: settings.allow_service_role,
            allow_anonymous: settings.allow_anonymous,
            allow_third_party_clients: settings.allow_third_party_clients,
            max_lifetime: i64::try_from(settings.max_lifetime.as_secs()).unwrap_or(i64::MAX),
            leeway: settings.leeway.as_secs() as i64,
        })
    }
}

fn read_algorithms(names: &[String]) -> Result<Vec<Algorithm>, String> {
    if names.is_empty() {
        return Err("algorithms needs at least one value, e.g. \"ES256\"".into());
    }
    names
        .iter()
        .map(|name| match name.parse() {
            Ok(algorithm @ Algorithm::HS256) => Ok(algorithm),
            Ok(algorithm) if algorithm.family() != AlgorithmFamily::Hmac => Ok(algorithm),
            _ => Err(format!(
                "{name:?} is no algorithm that is taken: ES256, ES384, EdDSA, RS256, RS384, RS512, \
                 PS256, PS384, PS512, or HS256 with hs256_secret"
            )),
        })
        .collect()
}

/// Where in the claims a value stands.
pub(super) struct ClaimPath(Vec<String>);

impl ClaimPath {
    /// Reads `a.b.c`. A name that is a URL (as some providers want for claims of one's own) is one
    /// step, dots and all.
    fn parse(text: &str) -> Result<ClaimPath, String> {
        let steps: Vec<String> = if text.starts_with("https://") || text.starts_with("http://") {
            vec![text.to_owned()]
        } else {
            text.split('.').map(str::to_owned).collect()
        };
        if steps.iter().any(String::is_empty) {
            return Err(format!(
                "{text:?} is no path of claims, e.g. app_metadata.tenant_id"
            ));
        }
        if steps
            .iter()
            .any(|step| USER_WRITTEN.contains(&step.as_str()))
        {
            return Err(format!(
                "{text:?} is written by users themselves and cannot decide"
            ));
        }
        Ok(ClaimPath(steps))
    }

    /// The value there; `null` counts as none.
    pub(super) fn find<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        let (first, rest) = self.0.split_first()?;
        rest.iter()
            .try_fold(claims.get(first)?, |value, step| value.get(step))
            .filter(|value| !value.is_null())
    }
}
