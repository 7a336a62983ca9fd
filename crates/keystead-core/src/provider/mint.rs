//! Minting: a credential that never travels buys a token that does.
//!
//! What always holds: the token endpoint is the provider file's, never the credential's (a hostile
//! key file could point elsewhere); a token lasts from 30 seconds to a year, whatever the answer
//! claims.

use aws_lc_rs::rsa;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::json;
use zeroize::{Zeroize, Zeroizing};

use super::config::Config;
use super::destination::Destination;
use super::fields::Fields;
use super::model::{Mint, Provider};
use super::template::Into;
use super::test_call::{ResultClass, TestCall, classify, filling};
use super::{body, endpoint};
use crate::time::Time;

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
    /// The private key is not an RSA key in PKCS#8 PEM.
    #[error("the private key is not an RSA key in PKCS#8 PEM")]
    PrivateKey,
    /// No scope is known for the host.
    #[error("no scope is known for that host")]
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
    /// `None` where the host takes no minted token.
    pub fn token_scope(&self, config: &Config, host: &str) -> Option<String> {
        self.modes
            .iter()
            .find_map(|mode| mode.mint.as_ref())?
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
    let mint = mode.mint.as_ref().ok_or(MintError::Credential)?;
    let scope = provider.token_scope(config, host).ok_or(MintError::Scope)?;
    let field = |name: &str| fields.get(name).ok_or(MintError::Credential);
    let form = match mint {
        Mint::JwtBearer { token_url, .. } => {
            let mut claims = json!({
                "aud": token_url,
                "exp": now.seconds() + 3600,
                "iat": now.seconds(),
                "iss": field("client_email")?,
                "scope": scope,
            });
            if let Some(subject) = config.value(provider, "subject") {
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
        Mint::ClientCredentials { .. } => body::form(&[
            ("grant_type", "client_credentials"),
            ("client_id", field("client_id")?),
            ("client_secret", field("client_secret")?),
            ("scope", &scope),
        ]),
    };
    let (home, path) = endpoint::fill(provider, config, mint.token_url(), |name| {
        filling(provider, mode, fields, config, name)
    })
    .ok_or(MintError::Endpoint)?;
    let mut headers = HeaderMap::new();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    );
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    Ok(TokenRequest {
        destination: provider.dialled(home),
        path,
        headers,
        body: form,
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
        access_token: String,
        #[serde(default)]
        expires_in: Option<serde_json::Value>,
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
        _ => None,
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
    let body = pem
        .trim()
        .strip_prefix("-----BEGIN PRIVATE KEY-----")
        .and_then(|rest| rest.strip_suffix("-----END PRIVATE KEY-----"))
        .ok_or(MintError::PrivateKey)?;
    let mut base64 = Zeroizing::new(String::with_capacity(body.len()));
    base64.extend(body.chars().filter(|c| !c.is_ascii_whitespace()));
    let mut der = Zeroizing::new(Vec::with_capacity(base64.len()));
    STANDARD
        .decode_vec(base64.as_bytes(), &mut der)
        .map_err(|_| MintError::PrivateKey)?;
    let key = rsa::KeyPair::from_pkcs8(&der).map_err(|_| MintError::PrivateKey);
    der.zeroize();
    key
}
