//! Which headers go up, and which come down.
//!
//! What always holds here: the set that goes up is built anew, without whatever concerns one
//! connection (RFC 9110 §7.6.1), the caller's identity, or Keystead's and the proxies' own headers,
//! and before the credential is placed, so a `Connection: authorization` takes nothing away. What
//! comes down cannot act on the origin that it is served from.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request};
use keystead_core::path;

/// Named by a `Connection` header: for the other end of that connection only.
fn nominated(headers: &HeaderMap) -> Vec<Box<str>> {
    let values = headers.get_all(header::CONNECTION);
    values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        // Options that every client sends, and that are dropped anyway.
        .filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("keep-alive"))
        .map(|name| name.to_ascii_lowercase().into_boxed_str())
        .collect()
}

/// Registered subprotocols are shorter by far, tokens longer.
const LONGEST_PROTOCOL: usize = 60;

fn is_of_the_connection(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    ) || name.starts_with("proxy-")
}

/// What a caller sends that no provider may see, whatever the provider.
fn is_the_callers_own(name: &str) -> bool {
    match name.as_bytes()[0] {
        b'a' => name == "authorization",
        b'c' => matches!(
            name,
            "client-ip" | "cookie" | "cookie2" | "cf-connecting-ip" | "content-length"
        ),
        b'e' => name == "expect",
        b'f' => name == "forwarded" || name == "fastly-client-ip",
        b'h' => name == "host",
        b'k' => name.starts_with("keystead-"),
        b't' => name == "true-client-ip",
        b'v' => name == "via",
        b'x' => {
            name.starts_with("x-forwarded")
                || matches!(
                    name,
                    "x-client-ip"
                        | "x-cluster-client-ip"
                        | "x-host"
                        | "x-http-host-override"
                        | "x-http-method"
                        | "x-http-method-override"
                        | "x-method-override"
                        | "x-original-forwarded-for"
                        | "x-original-host"
                        | "x-original-uri"
                        | "x-original-url"
                        | "x-real-ip"
                        | "x-rewrite-url"
                )
        }
        _ => false,
    }
}

/// What would have the upstream send a body in which a credential is not found: compressed, or in
/// pieces of which each holds a part of it.
fn hinders_search(name: &HeaderName) -> bool {
    [header::ACCEPT_ENCODING, header::RANGE, header::IF_RANGE].contains(name)
}

/// The headers to send up, before the credential is placed. `strip` is what the provider's
/// placements fill and what the caller's own token came in; `searched` is whether the answer's body
/// is searched for the credential.
pub(super) fn upward(
    headers: HeaderMap,
    strip: &[HeaderName],
    searched: bool,
    upgrade: bool,
) -> HeaderMap {
    let nominated = nominated(&headers);
    let takes_trailers = headers.get_all(header::TE).iter().any(|value| {
        value
            .as_bytes()
            .split(|&b| b == b',')
            .any(|v| v.trim_ascii() == b"trailers")
    });
    let mut kept = HeaderMap::with_capacity(headers.len() + 4);
    let mut current = None;
    for (name, value) in headers {
        // A repeated header comes without its name.
        if let Some(name) = name {
            let text = name.as_str();
            let dropped = is_of_the_connection(text)
                || is_the_callers_own(text)
                // `X_Api_Key` is `X-Api-Key` to servers that hand headers on as variables.
                || text.contains('_')
                || strip.contains(&name)
                || nominated.iter().any(|nominated| **nominated == *text)
                || (searched && hinders_search(&name));
            current = (!dropped).then_some(name);
        }
        if let Some(name) = &current {
            kept.append(name.clone(), value);
        }
    }
    keep_harmless_protocols(&mut kept);
    if searched {
        kept.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
    }
    if takes_trailers {
        kept.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if upgrade {
        kept.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        kept.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    kept
}

/// A browser can set no header on a WebSocket, so SDKs put keys among the subprotocols
/// (`openai-insecure-api-key.<token>`). What reads like one is taken out: the caller's must not go
/// up, and no other credential may be smuggled in.
fn keep_harmless_protocols(headers: &mut HeaderMap) {
    let name = header::SEC_WEBSOCKET_PROTOCOL;
    if !headers.contains_key(&name) {
        return;
    }
    let carries_token = |protocol: &str| {
        let lower = protocol.to_ascii_lowercase();
        let is_key = [
            "kss_", "kso_", "ksa_", "api-key", "apikey", "token", "eyj", "bearer",
        ]
        .iter()
        .any(|mark| lower.contains(mark));
        is_key || protocol.len() > LONGEST_PROTOCOL
    };
    let harmless: Vec<String> = headers
        .get_all(&name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|protocol| !protocol.is_empty() && !carries_token(protocol))
        .map(str::to_owned)
        .collect();
    headers.remove(&name);
    if let Ok(value) = HeaderValue::from_str(&harmless.join(", "))
        && !harmless.is_empty()
    {
        headers.insert(name, value);
    }
}

/// Whether the request wants to become a WebSocket (RFC 6455 §4.1); no other upgrade is carried.
pub(super) fn is_websocket<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    request.method() == Method::GET
        && headers
            .get(header::UPGRADE)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && headers.get_all(header::CONNECTION).iter().any(|value| {
            let mut names = value.as_bytes().split(|&b| b == b',');
            names.any(|name| name.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
        })
}

/// What an upstream may not say on Keystead's origin.
fn acts_on_the_origin(name: &str) -> bool {
    match name.as_bytes()[0] {
        b'a' => name.starts_with("access-control-") || name == "alt-svc",
        b'c' => name.starts_with("content-security-policy") || name == "clear-site-data",
        b'k' => name.starts_with("keystead-"),
        b'n' => name == "nel",
        b'o' => name == "origin-agent-cluster",
        b'p' => name.starts_with("public-key-pins"),
        b'r' => matches!(name, "refresh" | "report-to" | "reporting-endpoints"),
        b's' => matches!(
            name,
            "service-worker-allowed"
                | "set-cookie"
                | "set-cookie2"
                | "sourcemap"
                | "strict-transport-security"
        ),
        b'x' => matches!(name, "x-content-type-options" | "x-sourcemap"),
        _ => false,
    }
}

/// The headers to send down. A `Location` within the upstream's own origin moves under
/// `location_prefix`, where the caller finds it; any other is removed.
pub(super) fn downward(
    headers: HeaderMap,
    origin: &str,
    location_prefix: Option<&str>,
    upgraded: bool,
) -> HeaderMap {
    let nominated = nominated(&headers);
    let mut kept = HeaderMap::with_capacity(headers.len() + 2);
    let mut current = None;
    for (name, mut value) in headers {
        if let Some(name) = name {
            let text = name.as_str();
            let dropped = is_of_the_connection(text)
                || acts_on_the_origin(text)
                || nominated.iter().any(|nominated| **nominated == *text);
            current = (!dropped).then_some(name);
        }
        let Some(name) = &current else { continue };
        if name == header::LOCATION {
            match location_prefix.and_then(|prefix| relocated(&value, origin, prefix)) {
                Some(moved) => value = moved,
                None => continue,
            }
        }
        kept.append(name.clone(), value);
    }
    kept.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("sandbox"),
    );
    kept.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if upgraded {
        kept.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        kept.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    kept
}

fn relocated(value: &HeaderValue, origin: &str, prefix: &str) -> Option<HeaderValue> {
    let target = value.to_str().ok()?;
    let local = target.strip_prefix(origin).unwrap_or(target);
    let path = &local[..local.find(['?', '#']).unwrap_or(local.len())];
    // `//host` and `/\host` name another host to a browser; the check refuses both.
    path::check(path).ok()?;
    HeaderValue::from_str(&format!("{prefix}{local}")).ok()
}

/// The trailers to send down.
pub(super) fn trailers(trailers: HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(trailers.len());
    let mut current = None;
    for (name, value) in trailers {
        if let Some(name) = name {
            let text = name.as_str();
            let dropped =
                is_of_the_connection(text) || acts_on_the_origin(text) || name == header::LOCATION;
            current = (!dropped).then_some(name);
        }
        if let Some(name) = &current {
            kept.append(name.clone(), value);
        }
    }
    kept
}

/// Removes the parameters `names` from a raw query; the others keep their bytes and their order.
pub(super) fn strip_query(query: &str, names: &[String]) -> Option<String> {
    let named = |piece: &str| {
        let key = piece.split('=').next().unwrap_or(piece);
        names.iter().any(|name| reads_as(key, name))
    };
    // Some servers take `;` as a separator too, so a name may hide behind one.
    let kept: Vec<&str> = query
        .split('&')
        .filter(|piece| !piece.split(';').any(named))
        .collect();
    (!kept.is_empty()).then(|| kept.join("&"))
}

/// Whether the percent-encoded `key` is read as `name` by a server, in whatever case.
fn reads_as(key: &str, name: &str) -> bool {
    let hex = |b: u8| char::from(b).to_digit(16);
    let key = key.as_bytes();
    let mut wanted = name.bytes();
    let mut at = 0;
    while at < key.len() {
        let encoded = match key.get(at..at + 3) {
            Some(&[b'%', high, low]) => hex(high).zip(hex(low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        let byte = match encoded {
            Some(byte) => u8::try_from(byte).unwrap_or(b'%'),
            None if key[at] == b'+' => b' ',
            None => key[at],
        };
        at += if encoded.is_some() { 3 } else { 1 };
        if !wanted
            .next()
            .is_some_and(|wanted| wanted.eq_ignore_ascii_case(&byte))
        {
            return false;
        }
    }
    wanted.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_loses_the_named_parameters_and_nothing_else() {
        let names = ["key".to_owned(), "access token".to_owned()];
        for (query, kept) in [
            ("a=1&b=%20+%2B", Some("a=1&b=%20+%2B")),
            ("key=canary", None),
            ("a=1&key=canary&b=2", Some("a=1&b=2")),
            ("a=1&KEY=canary&%6bey=canary&k%65y&b", Some("a=1&b")),
            ("a=1;key=canary&b=2", Some("b=2")),
            ("access+token=canary&access%20token=canary&b=2", Some("b=2")),
            ("keys=1&ke=2&a=key", Some("keys=1&ke=2&a=key")),
            ("&&a=%&%k", Some("&&a=%&%k")),
        ] {
            assert_eq!(strip_query(query, &names).as_deref(), kept, "{query}");
        }
    }

    #[test]
    fn a_subprotocol_that_carries_a_token_does_not_go_up() {
        let jwt = "eyJhbGciOiJFUzI1NiJ9.eyJjYW5hcnkiOjF9.c2lnbmF0dXJl";
        for (sent, kept) in [
            (
                vec!["realtime, openai-beta.realtime-v1"],
                Some("realtime, openai-beta.realtime-v1"),
            ),
            (
                vec![
                    "realtime",
                    "openai-insecure-api-key.kss_canary",
                    "openai-beta.realtime-v1",
                ],
                Some("realtime, openai-beta.realtime-v1"),
            ),
            (
                vec!["realtime,openai-insecure-api-key.sk-canary"],
                Some("realtime"),
            ),
            (vec![jwt], None),
            (vec!["base64url.bearer.authorization.k8s.io.Y2FuYXJ5"], None),
            (vec!["KSS_canary"], None),
            (vec!["v10.stomp, mqtt"], Some("v10.stomp, mqtt")),
        ] {
            let mut headers = HeaderMap::new();
            for value in &sent {
                headers.append(
                    header::SEC_WEBSOCKET_PROTOCOL,
                    HeaderValue::from_static(value),
                );
            }
            let up = upward(headers, &[], false, true);
            let found = up.get(header::SEC_WEBSOCKET_PROTOCOL);
            assert_eq!(found.and_then(|v| v.to_str().ok()), kept, "{sent:?}");
            assert!(up.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().count() <= 1);
        }
    }

    #[test]
    fn a_location_stays_under_the_proxy_or_goes() {
        let origin = "https://api.example.com";
        for (location, moved) in [
            (
                "https://api.example.com/v1/x?y=1#z",
                Some("/proxy/@e/v1/x?y=1#z"),
            ),
            ("/v1/x", Some("/proxy/@e/v1/x")),
            ("https://api.example.com.evil.example/v1", None),
            ("https://api.example.com@evil.example/v1", None),
            ("https://api.example.com:8443/v1", None),
            ("http://api.example.com/v1", None),
            ("//evil.example/v1", None),
            ("/\\evil.example/v1", None),
            ("/../../api/integrations", None),
            ("https://evil.example/", None),
            ("v1/x", None),
        ] {
            let value = HeaderValue::from_static(location);
            let found = relocated(&value, origin, "/proxy/@e");
            assert_eq!(
                found.as_ref().and_then(|v| v.to_str().ok()),
                moved,
                "{location}"
            );
        }
    }
}
