//! What the provider answers: tokens, a device's codes, or a refusal.
//!
//! What always holds: a token is visible ASCII of at most 16 KiB, ends in 30 seconds to a year where
//! its end is known, and its API host is one of the provider's. At a consent all of a reply is taken or
//! nothing; a renewal has used the old token up, so that good tokens are kept whatever comes with them. A refusal's code is a word of at most 64 letters, digits, `_`, `.`, `-`.

use http::HeaderMap;
use http::header::RETRY_AFTER;
use zeroize::Zeroizing;

use super::json::Json;
use super::model::{Means, OAuth, Reply};
use crate::egress::canonical_host;
use crate::provider::model::Provider;
use crate::provider::test_call::Answer;
use crate::provider::{Config, Fields};
use crate::time::Time;

const TOKEN_MOST: usize = 16 * 1024;
const SCOPE_MOST: usize = 4096;
const CODE_MOST: usize = 64;
const LEAST_LIFE: i64 = 30;
const MOST_LIFE: i64 = 366 * 86_400;
/// A refresh token may outlive what an access token may.
const MOST_REFRESH_LIFE: i64 = 10 * MOST_LIFE;
/// Beyond it (a century) a figure is a mistake, such as milliseconds or a date.
const ABSURD: f64 = 3.2e9;

/// What a provider granted.
pub struct Tokens {
    /// `access_token`, and where they are known `refresh_token`, `scope`, `host`.
    pub fields: Fields,
    /// When the access token ends, where that is known.
    pub expires_at: Option<Time>,
    /// When the refresh token ends, where this reply said so.
    pub refresh_expires_at: Option<Time>,
    /// What a renewal's reply says that cannot be, and that is not gone by: for operators.
    pub odd: Vec<&'static str>,
}

/// The part of a grant that says to which client it was issued.
pub const ISSUED_TO: &str = "issued_to";

impl Tokens {
    /// These, which were issued to that client: another one's refresh would be refused as if the grant
    /// had ended.
    pub fn issued_to(self, client_id: &str) -> Tokens {
        let to = Zeroizing::new(client_id.to_owned());
        Tokens {
            fields: self.fields.with(Fields::from_parts([(ISSUED_TO, to)])),
            ..self
        }
    }
}

/// Why there are no tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it means.
    pub means: Means,
    /// The provider's code, or ours for an answer that cannot be used: for operators.
    pub code: String,
    /// In how many seconds to ask again, where the provider says so.
    pub retry_after: Option<u32>,
}

/// What a device shows its person, and asks with (RFC 8628).
pub struct DeviceCode {
    /// What the device asks with.
    pub device_code: Zeroizing<String>,
    /// What the person types.
    pub user_code: String,
    /// Where.
    pub verification_uri: String,
    /// Where without typing.
    pub verification_uri_complete: Option<String>,
    /// Seconds between two questions.
    pub interval: u32,
    /// Seconds until both codes end.
    pub expires_in: u32,
}

impl Refusal {
    /// An answer that cannot be used: what became of the request is not known.
    fn unusable(code: &str) -> Refusal {
        Refusal {
            means: Means::Unclear,
            code: code.to_owned(),
            retry_after: None,
        }
    }
}

/// Reads the answer to a token request. `before` is what there was, for a renewal: there an odd end is
/// taken for the earliest, and an odd host for none.
pub fn read_tokens(
    provider: &Provider,
    config: &Config,
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    now: Time,
    before: Option<&Fields>,
) -> Result<Tokens, Refusal> {
    let oauth = provider
        .oauth()
        .ok_or_else(|| Refusal::unusable("no_oauth"))?;
    let reply = &oauth.reply;
    let json = Json::read(body);
    if !reply.success.contains(&status) {
        return Err(refusal(oauth, status, headers, body, json.as_ref(), now));
    }
    let json = json.ok_or_else(|| Refusal::unusable("reply_not_json"))?;
    let not_ok = |pointer: &String| !matches!(json.at(pointer), Some(Json::Bool(true)));
    if reply.ok.as_ref().is_some_and(not_ok) || json.at(&reply.error).is_some() {
        return Err(refusal(oauth, status, headers, body, Some(&json), now));
    }
    check_type(reply, &json)?;
    let access = token(&json, &reply.access_token)?
        .ok_or_else(|| Refusal::unusable("reply_without_token"))?;
    // A reply without one leaves the old one in force (RFC 6749 section 6), whatever is known of
    // the provider: some replace it only where the app is set up so.
    let refresh = token(&json, &reply.refresh_token)?.or_else(|| kept(before, "refresh_token"));
    let mut odd = Vec::new();
    let mut forgive = |name| match before {
        Some(_) => {
            odd.push(name);
            Ok(())
        }
        None => Err(Refusal::unusable(name)),
    };
    let life = match seconds(json.at(&reply.expires_in)) {
        Ok(life) => life.or(oauth.refresh.lifetime),
        Err(()) => forgive("expires_in").map(|()| Some(LEAST_LIFE))?,
    }
    .map(|life| life.clamp(LEAST_LIFE, MOST_LIFE));
    let refresh_life = match seconds(json.at(&reply.refresh_expires_in)) {
        Ok(life) => life,
        Err(()) => forgive("refresh_expires_in").map(|()| None)?,
    }
    // Where it ends at no time, some say nought.
    .filter(|life| *life > 0)
    .map(|life| life.clamp(LEAST_LIFE, MOST_REFRESH_LIFE));
    let scope = scope(json.at(&reply.scope)).or_else(|| kept(before, "scope"));
    let named = reply.host.as_ref().and_then(|pointer| json.at(pointer));
    let host = match named.map(|named| api_host(provider, config, named)) {
        Some(Some(host)) => Some(host),
        Some(None) => forgive("host").map(|()| kept(before, "host"))?,
        None => kept(before, "host"),
    };
    let parts = [
        ("access_token", Some(access)),
        ("refresh_token", refresh),
        ("scope", scope),
        ("host", host),
    ];
    let there = parts.into_iter().filter_map(|(n, part)| Some((n, part?)));
    Ok(Tokens {
        fields: Fields::from_parts(there),
        expires_at: life.map(|life| now.plus_seconds(life)),
        refresh_expires_at: refresh_life.map(|life| now.plus_seconds(life)),
        odd,
    })
}

/// Reads the answer to a device's first request.
pub fn read_device(status: u16, body: &[u8]) -> Result<DeviceCode, Refusal> {
    let json = Json::read(body);
    if !(200..300).contains(&status) {
        return Err(plain_refusal(status, json.as_ref(), "/error"));
    }
    let json = json.ok_or_else(|| Refusal::unusable("reply_not_json"))?;
    if json.at("/error").is_some() {
        return Err(plain_refusal(status, Some(&json), "/error"));
    }
    let text = |pointer: &str| json.at(pointer).and_then(Json::as_text);
    let page = |pointer: &str| text(pointer).filter(|url| is_page(url)).map(str::to_owned);
    let short = |text: &&str| {
        (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
    };
    let whole = |pointer: &str, silent: i64, code: &str| match seconds(json.at(pointer)) {
        Ok(given) => Ok(given.unwrap_or(silent)),
        Err(()) => Err(Refusal::unusable(code)),
    };
    Ok(DeviceCode {
        device_code: token(&json, "/device_code")?
            .ok_or_else(|| Refusal::unusable("reply_without_token"))?,
        user_code: text("/user_code")
            .filter(short)
            .ok_or_else(|| Refusal::unusable("user_code"))?
            .to_owned(),
        verification_uri: page("/verification_uri")
            // The name before it was a standard.
            .or_else(|| page("/verification_url"))
            .ok_or_else(|| Refusal::unusable("verification_uri"))?,
        verification_uri_complete: page("/verification_uri_complete"),
        interval: whole("/interval", 5, "interval")?.clamp(1, 60) as u32,
        expires_in: whole("/expires_in", 600, "expires_in")?.clamp(30, 3600) as u32,
    })
}

/// A page that a person may be sent to.
fn is_page(url: &str) -> bool {
    url.len() <= 2048
        && url.bytes().all(|b| b.is_ascii_graphic())
        && url::Url::parse(url).is_ok_and(|url| {
            url.scheme() == "https" && url.username().is_empty() && url.password().is_none()
        })
}

fn check_type(reply: &Reply, json: &Json) -> Result<(), Refusal> {
    let Some(kind) = json.at(&reply.token_type) else {
        return Ok(());
    };
    let kind = kind.as_text().unwrap_or_default();
    if reply
        .token_types
        .iter()
        .any(|t| t.eq_ignore_ascii_case(kind))
    {
        Ok(())
    } else {
        Err(Refusal::unusable("token_type"))
    }
}

/// The token there; `None` where there is none.
fn token(json: &Json, pointer: &str) -> Result<Option<Zeroizing<String>>, Refusal> {
    let Some(value) = json.at(pointer) else {
        return Ok(None);
    };
    let text = value.as_text().unwrap_or_default();
    if is_token(text) {
        Ok(Some(Zeroizing::new(text.to_owned())))
    } else {
        Err(Refusal::unusable("token_form"))
    }
}

pub(super) fn is_token(text: &str) -> bool {
    (1..=TOKEN_MOST).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

fn kept(before: Option<&Fields>, name: &str) -> Option<Zeroizing<String>> {
    Some(Zeroizing::new(before?.get(name)?.to_owned()))
}

/// A number of seconds, also where it is quoted or has a fraction.
fn seconds(value: Option<&Json>) -> Result<Option<i64>, ()> {
    let number = match value {
        None => return Ok(None),
        Some(Json::Number(number)) => number.as_f64(),
        Some(Json::Text(text)) => text.parse::<f64>().ok(),
        Some(_) => None,
    };
    match number {
        Some(number) if (0.0..=ABSURD).contains(&number) => Ok(Some(number as i64)),
        _ => Err(()),
    }
}

/// What was granted: text, or a list of it. What is neither is not worth the tokens.
fn scope(value: Option<&Json>) -> Option<Zeroizing<String>> {
    let words: Vec<&str> = match value? {
        Json::Text(text) => vec![text],
        Json::List(items) => items.iter().filter_map(Json::as_text).collect(),
        _ => return None,
    };
    let text = words.join(" ");
    let fits = !text.is_empty()
        && text.len() <= SCOPE_MOST
        && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    fits.then(|| Zeroizing::new(text))
}

/// The host, or the host of the address. Where the credential goes is the provider file's to
/// permit, whoever answered.
fn api_host(provider: &Provider, config: &Config, value: &Json) -> Option<Zeroizing<String>> {
    let text = value.as_text().unwrap_or_default();
    let host = text.strip_prefix("https://").unwrap_or(text);
    let host = host.strip_suffix('/').unwrap_or(host);
    let host = canonical_host(host).ok()?;
    let may_be = provider.may_be_api_host(config, &host);
    may_be.then(|| Zeroizing::new(host.into_owned()))
}

fn refusal(
    oauth: &OAuth,
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    json: Option<&Json>,
    now: Time,
) -> Refusal {
    let mut refusal = plain_refusal(status, json, &oauth.reply.error);
    refusal.retry_after = retry_after(headers, now);
    if !oauth.rules.is_empty() {
        let answer = Answer::new(status, headers, body);
        if let Some(rule) = oauth.rules.iter().find(|rule| rule.when.fit(&answer)) {
            refusal.means = rule.means;
        }
    }
    refusal
}

/// What the standards say of a refusal.
fn plain_refusal(status: u16, json: Option<&Json>, error: &str) -> Refusal {
    let code = json
        .and_then(|json| json.at(error))
        .and_then(Json::as_text)
        .filter(|code| is_code(code));
    let means = match (code, status) {
        (Some("invalid_grant" | "expired_token"), _) => Means::Dead,
        (Some("invalid_client" | "unauthorized_client"), _) => Means::Client,
        (Some("authorization_pending"), _) => Means::Pending,
        (Some("slow_down"), _) => Means::SlowDown,
        (_, 429) => Means::Rate,
        (Some("server_error" | "temporarily_unavailable"), _) | (_, 500..=599) => Means::Down,
        _ => Means::Unclear,
    };
    Refusal {
        means,
        code: code.map_or_else(|| format!("http_{status}"), str::to_owned),
        retry_after: None,
    }
}

/// The code of a refusal, as far as it is one.
pub fn error_code(text: &str) -> &str {
    if is_code(text) { text } else { "unreadable" }
}

/// Whether it is a word, which can be written down: a sentence could hold anything.
fn is_code(code: &str) -> bool {
    (1..=CODE_MOST).contains(&code.len())
        && code
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// How many seconds to wait, by `Retry-After`: a number or a date (RFC 9110 section 10.2.3).
pub fn retry_after(headers: &HeaderMap, now: Time) -> Option<u32> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Some(text.parse().unwrap_or(u32::MAX));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let seconds = date.as_second().saturating_sub(now.seconds()).max(0);
    Some(u32::try_from(seconds).unwrap_or(u32::MAX))
}
