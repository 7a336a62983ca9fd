//! Minting: a credential that never travels buys a token that does.
//!
//! What always holds: the token endpoint is the provider file's, never the credential's (a hostile
//! key file could point elsewhere); a token lasts from 30 seconds to a year, whatever the answer
//! claims.

mod model;

use aws_lc_rs::rsa;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::json;
use zeroize::{Zeroize, Zeroizing};

use super::config::Config;
use super::destination::Destination;
use super::fields::Fields;
use super::model::Provider;
use super::oauth::{ClientAuth, basic};
use super::template::{self, Into};
use super::test_call::{ResultClass, TestCall, classify, filling};
use super::{body, endpoint};
use crate::time::Time;

pub use model::{Mint, Scope};

const LEAST_LIFE: i64 = 30;
const MOST_LIFE: i64 = 366 * 86_400;
/// What is assumed of a token whose answer does not say.
const SILENT_LIFE: i64 = 300;

/// A POST to a token endpoint.
pub struct TokenRequest {
    /// Where to.
    pub destination: Destination,
    /// The path there.
    pub path: String,
    /// All headers but `Host` and the length.
    pub headers: HeaderMap,
    /// The form; it holds the credential, or a proof of it.
    pub body: Zeroizing<Vec<u8>>,
}

/// A token, and until when to use it.
pub struct MintedToken {
    token: Zeroizing<String>,
    /// When the provider will refuse it.
    pub expires_at: Time,
}

/// Why there is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// The credential is none of this provider's that mints.
    #[error("the credential is not one that tokens are made from")]
    Credential,
    /// The private key is not an RSA key in PEM.
    #[error("the private key is not an RSA key in PEM; give the whole file as it was downloaded")]
    PrivateKey,
    /// No scope is known for the host.
    #[error("no token is made for that host with these settings; check the integration's settings")]
    Scope,
    /// A part of the credential does not fit into the token endpoint's address.
    #[error("the token endpoint cannot be named with this credential")]
    Endpoint,
}

impl MintedToken {
    /// The token's text.
    pub fn expose(&self) -> &str {
        &self.token
    }

    /// The bytes to seal: the expiry in eight bytes, big endian, then the text.
    pub fn to_message(&self) -> Vec<u8> {
        let mut message = Vec::with_capacity(8 + self.token.len());
        message.extend_from_slice(&self.expires_at.0.to_be_bytes());
        message.extend_from_slice(self.token.as_bytes());
        message
    }

    /// Reads what [`MintedToken::to_message`] wrote.
    pub fn from_message(message: &[u8]) -> Option<MintedToken> {
        let (expiry, token) = message.split_first_chunk::<8>()?;
        Some(MintedToken {
            token: Zeroizing::new(std::str::from_utf8(token).ok()?.to_owned()),
            expires_at: Time(i64::from_be_bytes(*expiry)),
        })
    }
}

impl Provider {
    /// The scope that a token for the host has; two hosts with one scope can share a token.
    /// `None` where no token is made from the credential, or none for that host.
    pub fn token_scope(&self, fields: &Fields, config: &Config, host: &str) -> Option<String> {
        fields
            .mode(self)?
            .mint
            .as_ref()?
            .scopes()
            .iter()
            .find(|scope| scope.host.matches(host))
            .and_then(|scope| config.fill(self, &scope.scope, Into::Plain).ok())
    }
}

/// The request that buys a token for the host.
pub fn mint_request(
    provider: &Provider,
    fields: &Fields,
    config: &Config,
    host: &str,
    now: Time,
) -> Result<TokenRequest, MintError> {
    let mode = fields.mode(provider).ok_or(MintError::Credential)?;
    mode.mint.as_ref().ok_or(MintError::Credential)?;
    let scope = provider
        .token_scope(fields, config, host)
        .ok_or(MintError::Scope)?;
    let subject = config.value(provider, "subject");
    mint_scoped(provider, fields, config, &scope, subject, now)
}

/// The request that buys a token of that scope, to act for `subject` where one is named.
pub fn mint_scoped(
    provider: &Provider,
    fields: &Fields,
    config: &Config,
    scope: &str,
    subject: Option<&str>,
    now: Time,
) -> Result<TokenRequest, MintError> {
    let mode = fields.mode(provider).ok_or(MintError::Credential)?;
    let mint = mode.mint.as_ref().ok_or(MintError::Credential)?;
    let field = |name: &str| fields.get(name).ok_or(MintError::Credential);
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    // Some refuse whoever does not say what he is.
    headers.insert(USER_AGENT, HeaderValue::from_static("keystead"));
    let form = match mint {
        Mint::JwtBearer { token_url, .. } => {
            let mut claims = json!({
                "aud": token_url,
                "exp": now.seconds() + 3600,
                "iat": now.seconds(),
                "iss": field("client_email")?,
                "scope": scope,
            });
            if let Some(subject) = subject {
                claims["sub"] = subject.into();
            }
            let header = json!({
                "alg": "RS256", "kid": field("private_key_id")?, "typ": "JWT",
            });
            let assertion = sign_rs256(field("private_key")?, &header, &claims)?;
            body::form(&[
                ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
                ("assertion", &assertion),
            ])
        }
        Mint::ClientCredentials {
            client_id,
            client_secret,
            client_auth,
            grant_type,
            form,
            ..
        } => {
            let (id, secret) = (field(client_id)?, field(client_secret)?);
            let mut pairs = vec![("grant_type", grant_type.as_str())];
            match client_auth {
                ClientAuth::Basic => {
                    let value = basic(id, secret).map_err(|_| MintError::Credential)?;
                    headers.insert(AUTHORIZATION, value);
                }
                ClientAuth::Body => pairs.extend([("client_id", id), ("client_secret", secret)]),
                ClientAuth::None => pairs.push(("client_id", id)),
            }
            if !scope.is_empty() {
                pairs.push(("scope", scope));
            }
            let further: Vec<(&str, String)> = form
                .iter()
                .map(|(name, value)| {
                    let value = template::fill(value, Into::Plain, |name| {
                        filling(provider, mode, fields, config, name)
                    });
                    Ok((name.as_str(), value.map_err(|_| MintError::Endpoint)?))
                })
                .collect::<Result<_, MintError>>()?;
            pairs.extend(further.iter().map(|(name, value)| (*name, value.as_str())));
            body::form(&pairs)
        }
        Mint::GithubApp { .. } => {
            let jwt = app_token(fields, now)?;
            let mut bearer =
                Zeroizing::new(String::with_capacity("Bearer ".len() + jwt.token.len()));
            bearer.push_str("Bearer ");
            bearer.push_str(&jwt.token);
            let mut value = HeaderValue::from_str(&bearer).map_err(|_| MintError::PrivateKey)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
            Zeroizing::default()
        }
    };
    let (home, path) = endpoint::fill(provider, config, mint.token_url(), |name| {
        filling(provider, mode, fields, config, name)
    })
    .ok_or(MintError::Endpoint)?;
    if !form.is_empty() {
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, kind);
    }
    Ok(TokenRequest {
        destination: provider.dialled(home),
        path,
        headers,
        body: form,
    })
}

/// The token that a GitHub App shows for itself.
pub(super) fn app_token(fields: &Fields, now: Time) -> Result<MintedToken, MintError> {
    let field = |name: &str| fields.get(name).ok_or(MintError::Credential);
    // Lives at most ten minutes; begins a minute ago, for a clock that is ahead.
    let expires_at = now.plus_seconds(540);
    let claims = json!({
        "exp": expires_at.seconds(),
        "iat": now.seconds() - 60,
        "iss": field("app_id")?,
    });
    let header = json!({"alg": "RS256", "typ": "JWT"});
    Ok(MintedToken {
        token: sign_rs256(field("private_key")?, &header, &claims)?,
        expires_at,
    })
}

/// Reads the answer: a token, or what the refusal says about the credential.
pub fn read_token_response<'t>(
    test: &'t TestCall,
    status: u16,
    body: &[u8],
    now: Time,
) -> Result<MintedToken, (ResultClass, &'t str)> {
    #[derive(Deserialize)]
    struct Answer {
        // GitHub has names of its own for both.
        #[serde(alias = "token")]
        access_token: String,
        #[serde(default)]
        expires_in: Option<serde_json::Value>,
        #[serde(default)]
        expires_at: Option<serde_json::Value>,
    }
    if !(200..300).contains(&status) {
        return Err(classify(test, status, &HeaderMap::new(), body));
    }
    let unread = (
        ResultClass::Indeterminate,
        ResultClass::Indeterminate.message(),
    );
    let answer: Answer = serde_json::from_slice(body).map_err(|_| unread)?;
    let token = Zeroizing::new(answer.access_token);
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(unread);
    }
    let life = match answer.expires_in {
        Some(serde_json::Value::Number(seconds)) => {
            seconds.as_i64().or(seconds.as_f64().map(|s| s as i64))
        }
        // Some endpoints quote the number.
        Some(serde_json::Value::String(seconds)) => seconds.parse().ok(),
        _ => answer
            .expires_at
            .as_ref()
            .and_then(|at| Time::parse_rfc3339(at.as_str()?))
            .map(|at| at.seconds().saturating_sub(now.seconds())),
    };
    let life = life.unwrap_or(SILENT_LIFE).clamp(LEAST_LIFE, MOST_LIFE);
    Ok(MintedToken {
        token,
        expires_at: now.plus_seconds(life),
    })
}

#[expect(
    clippy::disallowed_types,
    reason = "the interface asks for a generator; this padding is deterministic and uses none"
)]
fn sign_rs256(
    pem: &str,
    header: &serde_json::Value,
    claims: &serde_json::Value,
) -> Result<Zeroizing<String>, MintError> {
    let key = rsa_key(pem)?;
    let mut token = Zeroizing::new(String::with_capacity(2048));
    URL_SAFE_NO_PAD.encode_string(header.to_string(), &mut token);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut token);
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(
        &RSA_PKCS1_SHA256,
        &aws_lc_rs::rand::SystemRandom::new(),
        token.as_bytes(),
        &mut signature,
    )
    .map_err(|_| MintError::PrivateKey)?;
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(&signature, &mut token);
    Ok(token)
}

fn rsa_key(pem: &str) -> Result<RsaKeyPair, MintError> {
    let between = |begin: &str, end: &str| pem.trim().strip_prefix(begin)?.strip_suffix(end);
    let pkcs8 = between("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----");
    // As GitHub gives them out.
    let pkcs1 = between(
        "-----BEGIN RSA PRIVATE KEY-----",
        "-----END RSA PRIVATE KEY-----",
    );
    let body = pkcs8.or(pkcs1).ok_or(MintError::PrivateKey)?;
    let mut base64 = Zeroizing::new(String::with_capacity(body.len()));
    base64.extend(body.chars().filter(|c| !c.is_ascii_whitespace()));
    let mut der = Zeroizing::new(Vec::with_capacity(base64.len()));
    STANDARD
        .decode_vec(base64.as_bytes(), &mut der)
        .map_err(|_| MintError::PrivateKey)?;
    let key = match pkcs8 {
        Some(_) => rsa::KeyPair::from_pkcs8(&der),
        None => rsa::KeyPair::from_der(&der),
    };
    let key = key.map_err(|_| MintError::PrivateKey);
    der.zeroize();
    key
}
