//! Putting a credential on the head of a request, and taking off what a caller put there.
//!
//! What always holds: whatever stood in a place that a credential travels in is removed first,
//! then exactly one credential is set; its header values are marked sensitive, so that no
//! printout of the headers shows them. On an error the head holds no credential of anybody's.
//!
//! Not here: which host may be called (`provider`), and the framing headers.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::json;
use zeroize::Zeroizing;

use crate::provider::template::{Into, push_encoded};
use crate::provider::{Config, Fields, MintedToken, Placement, Provider};
use crate::sigv4;
use crate::time::Time;

/// The head of a request on its way to a provider.
pub struct Head {
    /// The method.
    pub method: Method,
    /// The provider's host that is meant.
    pub logical_host: String,
    /// What is sent as `Host`.
    pub host_header: String,
    /// The path, as it is sent.
    pub path: String,
    /// What follows the question mark, as it is sent.
    pub query: Option<String>,
    /// All headers but `Host` and the framing.
    pub headers: HeaderMap,
}

/// What is placed.
#[derive(Clone, Copy)]
pub enum Material<'a> {
    /// The credential itself.
    Fields(&'a Fields),
    /// A token that was made from it.
    Token(&'a MintedToken),
}

/// What was made of a credential and placed instead of it: it must not come back either.
pub type Derived = Option<Zeroizing<String>>;

/// Why nothing was placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// The credential is none of the provider's.
    #[error("the credential does not fit the provider")]
    Credential,
    /// The credential is placed as a token, which has to be made first.
    #[error("a token has to be made from the credential first")]
    TokenNeeded,
    /// A value cannot stand in a header.
    #[error("the credential holds a character that no header can carry")]
    Header,
    /// The caller sent a query that is signed already.
    #[error("a presigned query is not taken")]
    Presigned,
    /// The caller sent a body whose parts are signed already.
    #[error("a body of signed chunks is not taken; send it plain")]
    SignedChunks,
    /// The signature covers the body, and its hash is not known.
    #[error("the hash of the body is needed")]
    BodyHash,
    /// The host does not say which service and region it is.
    #[error("the host is not one whose service and region are known")]
    Host,
}

/// Removes everything that a credential could travel in from what a caller sent.
pub fn strip(provider: &Provider, config: &Config, head: &mut Head) {
    for name in [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE] {
        head.headers.remove(name);
    }
    for name in provider
        .sdk_token_headers
        .iter()
        .chain(&provider.strip_headers)
    {
        head.headers.remove(name);
    }
    let mut parameters: Vec<&str> = provider.strip_query.iter().map(String::as_str).collect();
    for mode in &provider.modes {
        let under = mode.under.iter().map(|under| &under.placement);
        for placement in under.chain([&mode.placement]) {
            match placement {
                Placement::Header { name, .. } | Placement::Token { header: Some(name) } => {
                    if let Ok(name) = config.fill(provider, name, Into::Plain) {
                        head.headers.remove(name.as_str());
                    }
                }
                Placement::Headers { headers } => {
                    for header in headers {
                        head.headers.remove(header.name.as_str());
                    }
                }
                Placement::Query { name, .. } => parameters.push(name),
                _ => {}
            }
        }
    }
    if let Some(query) = &mut head.query {
        strip_query(query, &parameters);
        if query.is_empty() {
            head.query = None;
        }
    }
}

/// Puts the credential on the head. `body_sha256` is needed where
/// [`Provider::needs_body_hash`] says so. Returns what is on it that is no part of the credential,
/// and does as well.
pub fn place(
    provider: &Provider,
    material: Material<'_>,
    config: &Config,
    head: &mut Head,
    now: Time,
    body_sha256: Option<[u8; 32]>,
) -> Result<Derived, PlaceError> {
    strip(provider, config, head);
    for rule in &provider.headers {
        if !rule.force && head.headers.contains_key(&rule.name) {
            continue;
        }
        if let Ok(value) = config.fill(provider, &rule.value, Into::Plain) {
            let value = HeaderValue::from_str(&value).map_err(|_| PlaceError::Header)?;
            head.headers.insert(rule.name.clone(), value);
        }
    }
    let fields = match material {
        Material::Token(token) => {
            match token_header(provider) {
                Some(name) => {
                    let name = HeaderName::from_bytes(name.as_bytes());
                    set(
                        head,
                        name.map_err(|_| PlaceError::Header)?,
                        &[token.expose()],
                    )?;
                }
                None => set(head, AUTHORIZATION, &["Bearer ", token.expose()])?,
            }
            return Ok(None);
        }
        Material::Fields(fields) => fields,
    };
    let mode = fields.mode(provider).ok_or(PlaceError::Credential)?;
    let field = |name: &str| fields.get(name).ok_or(PlaceError::Credential);
    match mode.placement_at(&head.path) {
        Placement::Bearer { field: name } => {
            set(head, AUTHORIZATION, &["Bearer ", field(name)?])?;
            Ok(None)
        }
        Placement::Header {
            name,
            prefix,
            field: secret,
        } => {
            let fill = |template: &str| {
                config
                    .fill(provider, template, Into::Plain)
                    .map_err(|_| PlaceError::Header)
            };
            let name =
                HeaderName::from_bytes(fill(name)?.as_bytes()).map_err(|_| PlaceError::Header)?;
            set(head, name, &[&fill(prefix)?, field(secret)?])?;
            Ok(None)
        }
        Placement::Headers { headers } => {
            for header in headers {
                // One that is not required and was not given.
                let Some(secret) = fields.get(&header.field) else {
                    continue;
                };
                let name = HeaderName::from_bytes(header.name.as_bytes());
                let name = name.map_err(|_| PlaceError::Header)?;
                set(head, name, &[&header.prefix, secret])?;
            }
            Ok(None)
        }
        Placement::Scheme {
            field: name,
            begins,
            scheme,
            otherwise,
        } => {
            let value = field(name)?;
            let bare = [scheme, otherwise]
                .iter()
                .find_map(|own| value.strip_prefix(own.as_str())?.strip_prefix(' '))
                .unwrap_or(value);
            let special = bare
                .split(',')
                .any(|part| begins.iter().any(|begin| part.starts_with(begin.as_str())));
            let scheme = if special { scheme } else { otherwise };
            set(head, AUTHORIZATION, &[scheme, " ", bare])?;
            // Without the scheme it came with, it is a text of its own.
            Ok((bare != value).then(|| Zeroizing::new(bare.to_owned())))
        }
        Placement::Basic {
            user,
            user_name,
            password,
        } => {
            let user = match (user, user_name) {
                (Some(name), _) => field(name)?,
                (None, Some(same)) => same,
                (None, None) => return Err(PlaceError::Credential),
            };
            let password = field(password)?;
            let pair = joined(&[user, ":", password]);
            let mut encoded = Zeroizing::new(String::with_capacity(pair.len() * 4 / 3 + 4));
            STANDARD.encode_string(pair.as_bytes(), &mut encoded);
            set(head, AUTHORIZATION, &["Basic ", &encoded])?;
            Ok(Some(encoded))
        }
        Placement::Query {
            name,
            field: secret,
        } => {
            let secret = field(secret)?;
            let query = head.query.get_or_insert_default();
            query.reserve_exact(name.len() + 3 * secret.len() + 2);
            if !query.is_empty() {
                query.push('&');
            }
            push_encoded(query, name.as_bytes());
            query.push('=');
            push_encoded(query, secret.as_bytes());
            Ok(None)
        }
        Placement::SigV4 {
            access_key_id,
            secret_access_key,
            session_token,
        } => {
            let credentials = sigv4::Credentials {
                access_key_id: field(access_key_id)?,
                secret_access_key: field(secret_access_key)?,
                session_token: fields.get(session_token),
            };
            sigv4::sign(head, &credentials, body_sha256, now).map(Some)
        }
        Placement::JwtHs256 {
            issuer,
            key,
            lifetime,
            backdate,
        } => {
            let claims = json!({
                "exp": now.seconds() + lifetime,
                "iss": field(issuer)?,
                "nbf": now.seconds() - backdate,
            });
            let token = sign_hs256(field(key)?, &claims);
            set(head, AUTHORIZATION, &["Bearer ", &token])?;
            Ok(Some(token))
        }
        Placement::Token { .. } => Err(PlaceError::TokenNeeded),
    }
}

/// The header that a minted token of the provider's goes into, where it is no bearer.
fn token_header(provider: &Provider) -> Option<&str> {
    provider
        .modes
        .iter()
        .find_map(|mode| match &mode.placement {
            Placement::Token { header } => header.as_deref(),
            _ => None,
        })
}

/// Sets one sensitive header.
pub(crate) fn set(head: &mut Head, name: HeaderName, parts: &[&str]) -> Result<(), PlaceError> {
    let mut value =
        HeaderValue::from_bytes(joined(parts).as_bytes()).map_err(|_| PlaceError::Header)?;
    value.set_sensitive(true);
    head.headers.insert(name, value);
    Ok(())
}

/// The parts in one buffer that is allocated once and wiped on drop.
fn joined(parts: &[&str]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(
        parts.iter().map(|part| part.len()).sum(),
    ));
    parts.iter().for_each(|part| text.push_str(part));
    text
}

fn sign_hs256(key: &str, claims: &serde_json::Value) -> Zeroizing<String> {
    let mut token = Zeroizing::new(String::with_capacity(512));
    URL_SAFE_NO_PAD.encode_string(r#"{"alg":"HS256","typ":"JWT"}"#, &mut token);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut token);
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    let tag = hmac::sign(&key, token.as_bytes());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(tag, &mut token);
    token
}

/// Drops the parameters of these names, however their names are escaped; the rest stays as it is.
fn strip_query(query: &mut String, names: &[&str]) {
    let travels = |pair: &&str| {
        // Some servers take a semicolon for an ampersand.
        pair.split(';').any(|part| {
            let name = part.split('=').next().unwrap_or_default();
            let name = sigv4::decoded(name, true).to_ascii_lowercase();
            names.iter().any(|other| other.as_bytes() == name)
        })
    };
    if query.split('&').any(|pair| travels(&pair)) {
        let kept: Vec<&str> = query.split('&').filter(|pair| !travels(pair)).collect();
        *query = kept.join("&");
    }
}
