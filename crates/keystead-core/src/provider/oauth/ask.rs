//! What goes to the provider: the address where a person consents, and token requests.

use std::borrow::Cow;
use std::collections::BTreeMap;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue};
use zeroize::Zeroizing;

use super::model::{ClientAuth, OAuth, RefreshClass, RequestBody};
use crate::placement::PlaceError;
use crate::provider::mint::TokenRequest;
use crate::provider::model::Provider;
use crate::provider::template::{Into, push_encoded};
use crate::provider::{Config, Destination, Fields, body, endpoint};

/// An OAuth app: the client that asks.
pub struct App {
    /// Its id.
    pub client_id: String,
    /// Its secret; a public client has none.
    pub client_secret: Option<Zeroizing<String>>,
}

impl App {
    /// The app that a credential brings along; `None` where it brings none.
    pub fn of(fields: &Fields) -> Option<App> {
        Some(App {
            client_id: fields.get("client_id")?.to_owned(),
            client_secret: fields
                .get("client_secret")
                .map(|secret| Zeroizing::new(secret.to_owned())),
        })
    }
}

/// What an authorisation is asked with.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// Where the answer goes.
    pub redirect_uri: &'a str,
    /// What ties the answer to the question.
    pub state: &'a str,
    /// PKCE's challenge; see [`pkce`].
    pub challenge: Option<&'a str>,
}

/// Why there is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OAuthError {
    /// The provider has no OAuth mode.
    #[error("the provider is not connected by OAuth")]
    NotOAuth,
    /// The settings do not make up an address of the provider's.
    #[error("the settings do not make up an address of this provider")]
    Endpoint,
    /// PKCE is part of the provider's flow, and its value is missing.
    #[error("the PKCE value is missing")]
    Pkce,
    /// The provider has no endpoint for devices.
    #[error("the provider has no device flow")]
    NoDevice,
    /// The provider's tokens are not renewed.
    #[error("the provider's tokens are not renewed")]
    NoRefresh,
    /// The mode has no revocation, or none for what is there.
    #[error("nothing that is there can be taken back by a call")]
    NoRevocation,
    /// The app or credential holds what no header can carry, or lacks a part.
    #[error(transparent)]
    Place(#[from] PlaceError),
}

/// Why a callback's issuer is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssFault {
    /// It always says who sent it, and does not.
    #[error("the answer does not say who sent it")]
    Missing,
    /// It was sent by somebody else.
    #[error("the answer was sent by another than the provider that was asked")]
    Other,
}

/// The address where a person consents.
pub fn authorize_url(
    provider: &Provider,
    config: &Config,
    app: &App,
    ask: &Ask<'_>,
) -> Result<String, OAuthError> {
    let oauth = provider.oauth().ok_or(OAuthError::NotOAuth)?;
    let (to, path) = place_of(provider, config, &oauth.authorize_url)?;
    let scope = oauth.scope(config, provider);
    let mut params: Vec<(&str, Cow<'_, str>)> = vec![
        ("response_type", "code".into()),
        ("client_id", app.client_id.as_str().into()),
        ("redirect_uri", ask.redirect_uri.into()),
        ("state", ask.state.into()),
    ];
    if !scope.is_empty() {
        params.push((&oauth.scope_param, scope.into()));
    }
    if oauth.pkce {
        let challenge = ask.challenge.ok_or(OAuthError::Pkce)?;
        params.push(("code_challenge", challenge.into()));
        params.push(("code_challenge_method", "S256".into()));
    }
    params.extend(extra(provider, config, &oauth.authorize_params));
    let mut url = format!("{}{path}", to.dial.as_str());
    let mut before = '?';
    for (name, value) in &params {
        url.push(before);
        push_encoded(&mut url, name.as_bytes());
        url.push('=');
        push_encoded(&mut url, value.as_bytes());
        before = '&';
    }
    Ok(url)
}

/// The request that exchanges a code for tokens.
pub fn code_request(
    provider: &Provider,
    config: &Config,
    app: &App,
    code: &str,
    verifier: Option<&str>,
    redirect_uri: &str,
) -> Result<TokenRequest, OAuthError> {
    let oauth = provider.oauth().ok_or(OAuthError::NotOAuth)?;
    let mut params = vec![
        ("grant_type", "authorization_code".into()),
        ("code", code.into()),
    ];
    if oauth.redirect_uri_in_exchange {
        params.push(("redirect_uri", redirect_uri.into()));
    }
    if oauth.pkce {
        let verifier = verifier.ok_or(OAuthError::Pkce)?;
        params.push(("code_verifier", verifier.into()));
    }
    params.extend(extra(provider, config, &oauth.token_params));
    request(provider, config, oauth, app, &oauth.token_url, params)
}

/// The request that exchanges a refresh token for newer tokens.
pub fn refresh_request(
    provider: &Provider,
    config: &Config,
    app: &App,
    refresh_token: &str,
) -> Result<TokenRequest, OAuthError> {
    let oauth = provider.oauth().ok_or(OAuthError::NotOAuth)?;
    if oauth.refresh.class == RefreshClass::None {
        return Err(OAuthError::NoRefresh);
    }
    let params = vec![
        ("grant_type", "refresh_token".into()),
        ("refresh_token", refresh_token.into()),
    ];
    request(provider, config, oauth, app, &oauth.token_url, params)
}

/// The request that a device begins with (RFC 8628).
pub fn device_request(
    provider: &Provider,
    config: &Config,
    app: &App,
) -> Result<TokenRequest, OAuthError> {
    let oauth = provider.oauth().ok_or(OAuthError::NotOAuth)?;
    let url = oauth.device_url.as_deref().ok_or(OAuthError::NoDevice)?;
    let scope = oauth.scope(config, provider);
    let mut params = Vec::new();
    if !scope.is_empty() {
        params.push((oauth.scope_param.as_str(), scope.into()));
    }
    request(provider, config, oauth, app, url, params)
}

/// The request by which a device asks whether the person has consented.
pub fn device_poll_request(
    provider: &Provider,
    config: &Config,
    app: &App,
    device_code: &str,
) -> Result<TokenRequest, OAuthError> {
    let oauth = provider.oauth().ok_or(OAuthError::NotOAuth)?;
    oauth.device_url.as_ref().ok_or(OAuthError::NoDevice)?;
    let grant = "urn:ietf:params:oauth:grant-type:device_code";
    let mut params = vec![
        ("grant_type", grant.into()),
        ("device_code", device_code.into()),
    ];
    params.extend(extra(provider, config, &oauth.token_params));
    request(provider, config, oauth, app, &oauth.token_url, params)
}

/// PKCE's verifier and its S256 challenge (RFC 7636), from random bytes.
pub fn pkce(verifier_bytes: [u8; 32]) -> (Zeroizing<String>, String) {
    let bytes = Zeroizing::new(verifier_bytes);
    // 43 characters; a buffer that grows would leave copies behind.
    let mut verifier = Zeroizing::new(String::with_capacity(44));
    URL_SAFE_NO_PAD.encode_string(bytes.as_slice(), &mut verifier);
    let challenge = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()));
    (verifier, challenge)
}

/// Whether a callback comes from whom was asked (RFC 9207): where the provider file names an
/// issuer, one that is given must be that one to the letter.
pub fn check_iss(oauth: &OAuth, iss: Option<&str>) -> Result<(), IssFault> {
    match (&oauth.issuer, iss) {
        (Some(issuer), Some(iss)) if issuer != iss => Err(IssFault::Other),
        (Some(_), None) if oauth.iss_required => Err(IssFault::Missing),
        _ => Ok(()),
    }
}

/// Where an endpoint is dialled, and its path.
fn place_of(
    provider: &Provider,
    config: &Config,
    url: &str,
) -> Result<(Destination, String), OAuthError> {
    let (home, path) = endpoint::fill(provider, config, url, |name| config.filling(provider, name))
        .ok_or(OAuthError::Endpoint)?;
    Ok((provider.dialled(home), path))
}

/// The file's further parameters; one whose placeholder has no value is left out.
fn extra<'a>(
    provider: &Provider,
    config: &Config,
    params: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = (&'a str, Cow<'a, str>)> {
    params.iter().filter_map(move |(name, value)| {
        let value = config.fill(provider, value, Into::Plain).ok()?;
        Some((name.as_str(), value.into()))
    })
}

fn request<'a>(
    provider: &Provider,
    config: &Config,
    oauth: &OAuth,
    app: &'a App,
    url: &str,
    mut params: Vec<(&'a str, Cow<'a, str>)>,
) -> Result<TokenRequest, OAuthError> {
    let (destination, path) = place_of(provider, config, url)?;
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    // Some refuse whoever does not say what he is.
    headers.insert(USER_AGENT, HeaderValue::from_static("keystead"));
    match (oauth.client_auth, &app.client_secret) {
        (ClientAuth::Basic, Some(secret)) => {
            headers.insert(AUTHORIZATION, basic(&app.client_id, secret)?);
        }
        (ClientAuth::Body, Some(secret)) => {
            params.push(("client_id", app.client_id.as_str().into()));
            params.push(("client_secret", secret.as_str().into()));
        }
        (ClientAuth::None, _) | (_, None) => {
            params.push(("client_id", app.client_id.as_str().into()));
        }
    }
    let params: Vec<(&str, &str)> = params.iter().map(|(n, v)| (*n, v.as_ref())).collect();
    let (kind, body) = match oauth.request {
        RequestBody::Form => ("application/x-www-form-urlencoded", body::form(&params)),
        RequestBody::Json => {
            let object: BTreeMap<&str, &str> = params.into_iter().collect();
            ("application/json", body::json(&object))
        }
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(TokenRequest {
        destination,
        path,
        headers,
        body,
    })
}

/// `Basic`, with both parts form-encoded first (RFC 6749 section 2.3.1): a colon in the id would
/// else move the border between them.
pub(in crate::provider) fn basic(id: &str, secret: &str) -> Result<HeaderValue, PlaceError> {
    let mut pair = Zeroizing::new(String::with_capacity(3 * (id.len() + secret.len()) + 1));
    push_encoded(&mut pair, id.as_bytes());
    pair.push(':');
    push_encoded(&mut pair, secret.as_bytes());
    let mut text = Zeroizing::new(String::with_capacity(pair.len() * 4 / 3 + 16));
    text.push_str("Basic ");
    STANDARD.encode_string(pair.as_bytes(), &mut text);
    let mut value = HeaderValue::from_str(&text).map_err(|_| PlaceError::Header)?;
    value.set_sensitive(true);
    Ok(value)
}
