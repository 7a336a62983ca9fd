//! Signatures and signed tokens, verified by other people's code: aws-sigv4 and jsonwebtoken.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::Value;
use url::form_urlencoded;

use super::Heard;
use super::invent::KEY;
use super::judge::one;

/// Verifies by signing anew. Returns region and service.
pub(super) fn sigv4(
    heard: &Heard,
    authorization: &str,
    id: &str,
    secret: &str,
    session: Option<&str>,
) -> Result<String, String> {
    let rest = authorization
        .strip_prefix("AWS4-HMAC-SHA256 Credential=")
        .ok_or("no signature of version 4")?;
    let parts: Vec<&str> = rest.split(", ").collect();
    let [credential, signed, _] = parts[..] else {
        return Err("the signature has other parts".to_owned());
    };
    let scope: Vec<&str> = credential.split('/').collect();
    let [given_id, date, region, service, "aws4_request"] = scope[..] else {
        return Err("the signature has another scope".to_owned());
    };
    if given_id != id {
        return Err("the access key id is another".to_owned());
    }
    let time = one(&heard.headers, "x-amz-date")?;
    let at = jiff::fmt::strtime::parse("%Y%m%dT%H%M%S", time.trim_end_matches('Z'))
        .and_then(|parsed| parsed.to_datetime())
        .and_then(|civil| civil.to_zoned(jiff::tz::TimeZone::UTC))
        .map_err(|fault| format!("`{time}`: {fault}"))?
        .timestamp()
        .as_second();
    if !time.starts_with(date) || (at - now_seconds()).abs() > 300 {
        return Err(format!("`{time}` is not now"));
    }
    let signed = signed.strip_prefix("SignedHeaders=").unwrap_or_default();
    let signed: Vec<&str> = signed.split(';').collect();
    for name in heard.headers.keys().map(http::HeaderName::as_str) {
        if (name == "host" || name.starts_with("x-amz-")) && !signed.contains(&name) {
            return Err(format!("`{name}` is not signed"));
        }
    }
    // What aws-sigv4 adds by itself.
    let own = ["host", "x-amz-date", "x-amz-security-token"];
    let mut headers = Vec::new();
    for name in signed.iter().filter(|name| !own.contains(name)) {
        headers.push((*name, one(&heard.headers, name)?));
    }
    let identity = Credentials::new(id, secret, session.map(str::to_owned), None, "played").into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(UNIX_EPOCH + Duration::from_secs(at.unsigned_abs()))
        .settings(SigningSettings::default())
        .build()
        .map_err(|fault| fault.to_string())?
        .into();
    let uri = format!("http://{}{}", one(&heard.headers, "host")?, heard.target);
    let content = heard.headers.get("x-amz-content-sha256");
    let body = match content.map(|content| content == "UNSIGNED-PAYLOAD") {
        Some(true) if service == "s3" => SignableBody::UnsignedPayload,
        _ => SignableBody::Bytes(&heard.body),
    };
    let request = SignableRequest::new(heard.method.as_str(), uri, headers.into_iter(), body)
        .map_err(|fault| fault.to_string())?;
    let (signing, _) = sign(request, &params)
        .map_err(|fault| fault.to_string())?
        .into_parts();
    let theirs = signing.headers().find(|(name, _)| *name == "authorization");
    match theirs {
        Some((_, theirs)) if theirs == authorization => Ok(format!("{region}/{service}")),
        _ => Err("the signature does not match".to_owned()),
    }
}

/// Verifies a bearer JWT that was made for the call.
pub(super) fn hs256(token: &str, issuer: &str, key: &str, life: i64) -> Result<(), String> {
    let mut rules = Validation::new(Algorithm::HS256);
    rules.set_issuer(&[issuer]);
    rules.set_required_spec_claims(&["exp", "nbf", "iss"]);
    rules.validate_nbf = true;
    rules.validate_aud = false;
    rules.leeway = 0;
    let key = DecodingKey::from_secret(key.as_bytes());
    let claims: Value = decode(token, &key, &rules)
        .map_err(|fault| fault.to_string())?
        .claims;
    let at = |name: &str| claims[name].as_i64().unwrap_or_default();
    if at("exp") - at("nbf") != life {
        return Err("the token lasts for another time".to_owned());
    }
    Ok(())
}

/// What an assertion has to say.
pub(super) struct Assertion<'a> {
    pub(super) issuer: &'a str,
    pub(super) key_id: Option<&'a str>,
    pub(super) audience: Option<&'a str>,
    pub(super) subject: Option<&'a str>,
    /// How long it may last.
    pub(super) life: i64,
}

/// Verifies a JWT that the one RSA key signed. Returns its claims.
pub(super) fn rs256(jwt: &str, expected: &Assertion<'_>) -> Result<Value, String> {
    let header = decode_header(jwt).map_err(|fault| fault.to_string())?;
    if header.kid.as_deref() != expected.key_id {
        return Err("the assertion names another key".to_owned());
    }
    let mut rules = Validation::new(Algorithm::RS256);
    rules.set_issuer(&[expected.issuer]);
    rules.set_required_spec_claims(&["exp", "iss"]);
    match expected.audience {
        Some(audience) => rules.set_audience(&[audience]),
        None => rules.validate_aud = false,
    }
    let key = DecodingKey::from_rsa_der(&KEY.public_der);
    let claims: Value = decode(jwt, &key, &rules)
        .map_err(|fault| fault.to_string())?
        .claims;
    let at = |name: &str| claims[name].as_i64().unwrap_or_default();
    if at("exp") - at("iat") > expected.life || (at("iat") - now_seconds()).abs() > 120 {
        return Err("the assertion is for another time".to_owned());
    }
    if expected.audience.is_some() && claims["aud"].as_str() != expected.audience {
        return Err("the assertion is for somebody else".to_owned());
    }
    if claims["sub"].as_str() != expected.subject {
        return Err("the assertion is for another user".to_owned());
    }
    Ok(claims)
}

/// Whether id and secret stand in `Authorization`, form-encoded (RFC 6749, 2.3.1).
pub(super) fn is_basic(heard: &Heard, id: &str, secret: &str) -> bool {
    let given = one(&heard.headers, "authorization").ok();
    let given = given.and_then(|value| value.strip_prefix("Basic "));
    let given = given.and_then(|text| STANDARD.decode(text).ok());
    let decoded = |part: &[u8]| {
        let pair = [b"x=", part].concat();
        let text = form_urlencoded::parse(&pair).next();
        text.map(|(_, value)| value.into_owned())
    };
    given.is_some_and(|pair| {
        let mut parts = pair.splitn(2, |byte| *byte == b':');
        let (user, password) = (parts.next(), parts.next());
        user.and_then(decoded).as_deref() == Some(id)
            && password.and_then(decoded).as_deref() == Some(secret)
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "a provider has a clock of its own"
)]
pub(super) fn now_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs().cast_signed())
}
