//! AWS Signature Version 4: the canonical form of a request, and signing it.
//!
//! ```text
//! canonical = METHOD \n path \n query \n headers \n \n signed names \n hash of the body
//! to sign   = "AWS4-HMAC-SHA256" \n time \n date/region/service/aws4_request \n SHA-256(canonical)
//! key       = HMAC(HMAC(HMAC(HMAC("AWS4" secret, date), region), service), "aws4_request")
//! ```
//!
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>
//!
//! What always holds: `host` and every `x-amz-*` header are signed. A presigned query, and a body
//! of chunks that somebody else signed, are refused.

mod scope;

use std::fmt::Write as _;

use aws_lc_rs::{digest, hmac};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use crate::placement::{Head, PlaceError, set};
use crate::provider::template::push_encoded;
use crate::time::Time;

pub use scope::{Scope, scope_of};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const CONTENT: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
/// Chunks with a checksum behind them, none of them signed.
const TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
/// What only a presigned query holds, in versions 4 and 2.
const PRESIGNED: [&str; 6] = [
    "x-amz-signature",
    "x-amz-credential",
    "x-amz-algorithm",
    "x-amz-security-token",
    "awsaccesskeyid",
    "signature",
];

/// An access key.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    /// Its id, which is not secret.
    pub access_key_id: &'a str,
    /// What signs.
    pub secret_access_key: &'a str,
    /// The token of temporary credentials.
    pub session_token: Option<&'a str>,
}

/// What the signature is over, beside the body.
#[derive(Clone, Copy)]
pub struct Parts<'a> {
    /// The method.
    pub method: &'a str,
    /// The path, as it is sent.
    pub path: &'a str,
    /// The query, as it is sent.
    pub query: &'a str,
    /// The `Host` header.
    pub host: &'a str,
    /// All other headers.
    pub headers: &'a HeaderMap,
}

/// Signs the head for the service and region that its logical host names. Without a hash of the
/// body only S3 can be called, which takes an unsigned one. Returns the signature as it is sent.
pub fn sign(
    head: &mut Head,
    credentials: &Credentials<'_>,
    body_sha256: Option<[u8; 32]>,
    now: Time,
) -> Result<Zeroizing<String>, PlaceError> {
    if is_presigned(head.query.as_deref().unwrap_or_default()) {
        return Err(PlaceError::Presigned);
    }
    let scope = scope_of(&head.logical_host).ok_or(PlaceError::Host)?;
    let s3 = scope.service == "s3";
    let sent = head.headers.remove(&CONTENT);
    let sent = sent.as_ref().and_then(|value| value.to_str().ok());
    let content = match (sent, body_sha256) {
        (Some(TRAILER), _) if s3 => TRAILER.to_owned(),
        (Some(chunks), _) if chunks.starts_with("STREAMING-") => {
            return Err(PlaceError::SignedChunks);
        }
        (_, Some(hash)) => hex(&hash),
        (_, None) if s3 => UNSIGNED.to_owned(),
        (_, None) => return Err(PlaceError::BodyHash),
    };
    let time = amz_time(now).ok_or(PlaceError::Header)?;
    let value = |text: &str| HeaderValue::from_str(text).map_err(|_| PlaceError::Header);
    head.headers.remove(&TOKEN);
    head.headers.insert(DATE, value(&time)?);
    if s3 {
        head.headers.insert(CONTENT, value(&content)?);
    }
    if let Some(token) = credentials.session_token {
        set(head, TOKEN, &[token])?;
    }
    let signed = signed_names(&head.headers);
    let parts = Parts {
        method: head.method.as_str(),
        path: &head.path,
        query: head.query.as_deref().unwrap_or_default(),
        host: &head.host_header,
        headers: &head.headers,
    };
    let canonical = canonical_request(&parts, &signed, &content, s3);
    let date = &time[..8];
    let place = format!("{date}/{}/{}/aws4_request", scope.region, scope.service);
    let signature = signature(
        credentials.secret_access_key,
        &scope,
        &time,
        canonical.as_bytes(),
    );
    let signature = Zeroizing::new(hex(&signature));
    let unsigned = format!(
        "{ALGORITHM} Credential={}/{place}, SignedHeaders={}, Signature=",
        credentials.access_key_id,
        signed.join(";"),
    );
    let done = set(head, AUTHORIZATION, &[&unsigned, &signature]);
    if done.is_err() {
        head.headers.remove(&TOKEN);
    }
    done.map(|()| signature)
}

/// Whether the query carries a signature or an access key already.
pub fn is_presigned(query: &str) -> bool {
    query.split(['&', ';']).any(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        let name = decoded(name, true).to_ascii_lowercase();
        PRESIGNED.iter().any(|known| known.as_bytes() == name)
    })
}

/// The names that are signed, in order: `host`, what says how to read the body, and `x-amz-*`.
/// Others may change on the way.
pub fn signed_names(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<&str> = headers
        .keys()
        .map(HeaderName::as_str)
        .filter(|name| {
            name.starts_with("x-amz-") || matches!(*name, "content-type" | "content-md5")
        })
        .chain(["host"])
        .collect();
    names.sort_unstable();
    names
}

/// The canonical request. S3 takes the path as it is meant; all others take it escaped once more,
/// and without dot segments.
pub fn canonical_request(parts: &Parts<'_>, signed: &[&str], content: &str, s3: bool) -> String {
    let mut text = String::with_capacity(512);
    text.push_str(parts.method);
    text.push('\n');
    push_path(&mut text, parts.path, s3);
    text.push('\n');
    push_query(&mut text, parts.query);
    text.push('\n');
    for name in signed {
        text.push_str(name);
        text.push(':');
        if *name == "host" {
            text.push_str(parts.host);
        } else {
            for (index, value) in parts.headers.get_all(*name).iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                push_value(&mut text, value);
            }
        }
        text.push('\n');
    }
    text.push('\n');
    text.push_str(&signed.join(";"));
    text.push('\n');
    text.push_str(content);
    text
}

/// The signature of a canonical request; `time` is the value of `x-amz-date`.
pub fn signature(secret: &str, scope: &Scope, time: &str, canonical: &[u8]) -> [u8; 32] {
    let date = time.get(..8).unwrap_or_default();
    let to_sign = format!(
        "{ALGORITHM}\n{time}\n{date}/{}/{}/aws4_request\n{}",
        scope.region,
        scope.service,
        hex(digest::digest(&digest::SHA256, canonical).as_ref()),
    );
    let mut first = Zeroizing::new(String::with_capacity(4 + secret.len()));
    first.push_str("AWS4");
    first.push_str(secret);
    let mut key = Zeroizing::new(hmac_sha256(first.as_bytes(), date.as_bytes()));
    for step in [&scope.region, &scope.service, "aws4_request"] {
        key = Zeroizing::new(hmac_sha256(&*key, step.as_bytes()));
    }
    hmac_sha256(&*key, to_sign.as_bytes())
}

fn hmac_sha256(key: &[u8], data: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(tag.as_ref());
    bytes
}

/// `20261120T141500Z`
fn amz_time(now: Time) -> Option<String> {
    let stamp = jiff::Timestamp::from_second(now.seconds()).ok()?;
    Some(stamp.strftime("%Y%m%dT%H%M%SZ").to_string())
}

fn push_path(text: &mut String, path: &str, s3: bool) {
    if s3 {
        let path = if path.is_empty() { "/" } else { path };
        for (index, segment) in path.split('/').enumerate() {
            if index > 0 {
                text.push('/');
            }
            push_encoded(text, &decoded(segment, false));
        }
        return;
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    for segment in &segments {
        text.push('/');
        push_encoded(text, segment.as_bytes());
    }
    let open = ["/", "/.", "/.."].iter().any(|end| path.ends_with(end));
    if segments.is_empty() || open {
        text.push('/');
    }
}

fn push_query(text: &mut String, query: &str) {
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (mut encoded_name, mut encoded_value) = (String::new(), String::new());
            push_encoded(&mut encoded_name, &decoded(name, true));
            push_encoded(&mut encoded_value, &decoded(value, true));
            (encoded_name, encoded_value)
        })
        .collect();
    pairs.sort_unstable();
    for (index, (name, value)) in pairs.iter().enumerate() {
        if index > 0 {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        text.push_str(value);
    }
}

/// Without white space at the ends, and with one space for each run of it.
fn push_value(text: &mut String, value: &HeaderValue) {
    let value = String::from_utf8_lossy(value.as_bytes());
    for (index, word) in value.split_ascii_whitespace().enumerate() {
        if index > 0 {
            text.push(' ');
        }
        text.push_str(word);
    }
}

/// Undoes percent-encoding; an escape that is none stays as it is.
pub(crate) fn decoded(text: &str, plus_is_space: bool) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = bytes
            .get(at + 1..at + 3)
            .filter(|hex| bytes[at] == b'%' && hex.iter().all(u8::is_ascii_hexdigit))
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match escape {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(match bytes[at] {
                    b'+' if plus_is_space => b' ',
                    other => other,
                });
                at += 1;
            }
        }
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
