//! What goes up beside the credential, and what comes down.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use keystead_broker::net::{Hop, NetError, forward};
use keystead_testkit::upstream::{RawUpstream, Upstream};

use crate::rig::*;

fn with(headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let mut request = get();
    for (name, value) in headers {
        let name = HeaderName::try_from(*name).unwrap();
        request
            .headers_mut()
            .append(name, HeaderValue::from_str(value).unwrap());
    }
    request
}

#[tokio::test]
async fn the_credential_arrives_exactly_once_whatever_the_caller_sends() {
    let upstream = Upstream::start(KEY).await;
    let to = destination(&upstream.url());
    for tricks in [
        &[("authorization", "Bearer kss_canary")][..],
        &[
            ("authorization", "Bearer kss_canary"),
            ("authorization", "Basic canary"),
        ],
        &[
            ("connection", "authorization"),
            ("authorization", "Bearer kss_canary"),
        ],
        &[
            ("connection", "close, Authorization"),
            ("connection", "authorization"),
        ],
        &[
            ("connection", "keep-alive"),
            ("proxy-authorization", "Basic canary"),
        ],
    ] {
        let response = pass(hop(&to, "/v1/models"), with(tricks)).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{tricks:?}");
        let seen = upstream.last_seen();
        assert_eq!(
            seen.all("authorization"),
            [format!("Bearer {KEY}")],
            "{tricks:?}"
        );
        assert!(!format!("{:?}", seen.headers).contains("kss_canary"));
    }
}

#[tokio::test]
async fn what_is_the_callers_own_or_the_connections_does_not_go_up() {
    let upstream = Upstream::start(KEY).await;
    let to = destination(&upstream.url());
    let gone = [
        "cookie",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-real-ip",
        "x-original-url",
        "x-rewrite-url",
        "x-http-method-override",
        "via",
        "keystead-tenant",
        "proxy-connection",
        "keep-alive",
        "trailer",
        "upgrade",
        "expect",
        "x-api-key",
        "x_api_key",
        "x-nominated",
        "http2-settings",
        // Of a body in pieces, none holds the whole credential.
        "range",
        "if-range",
    ];
    let mut request = with(&gone.map(|name| (name, "canary")));
    for (name, value) in [
        ("host", "keystead.example"),
        ("connection", "x-nominated, upgrade"),
        ("te", "gzip, trailers"),
        ("accept-encoding", "gzip, br"),
        ("user-agent", "OpenAI/Python 1.0"),
        ("x-stainless-lang", "python"),
    ] {
        request
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    let strip = [HeaderName::from_static("x-api-key")];
    pass(
        Hop {
            strip_headers: &strip,
            ..hop(&to, "/v1/models")
        },
        request,
    )
    .await
    .unwrap();
    let seen = upstream.last_seen();
    for name in gone {
        assert!(seen.all(name).is_empty(), "{name} went up");
    }
    assert!(seen.all("connection").is_empty());
    assert_eq!(seen.all("te"), ["trailers"]);
    assert_eq!(seen.all("host"), [to.authority()]);
    assert_eq!(seen.all("accept-encoding"), ["identity"]);
    assert_eq!(seen.all("user-agent"), ["OpenAI/Python 1.0"]);
    assert_eq!(seen.all("x-stainless-lang"), ["python"]);

    let unread = Hop {
        redact_bodies: false,
        ..hop(&to, "/v1/models")
    };
    let sent = [("accept-encoding", "gzip, br"), ("range", "bytes=0-9")];
    pass(unread, with(&sent)).await.unwrap();
    for (name, value) in sent {
        assert_eq!(upstream.last_seen().all(name), [value]);
    }
}

#[tokio::test]
async fn path_and_query_go_up_byte_for_byte_without_the_stripped_parameters() {
    let upstream = Upstream::start(KEY).await;
    let to = destination(&upstream.url());
    let strip = ["key".to_owned()];
    let path = "/v1beta/models/ft%3Agemini%20x:generateContent";
    let query = Some("alt=sse&%6bey=kss_canary&q=%2F%2e+%zz&key=kss_canary");
    pass(
        Hop {
            query,
            strip_query: &strip,
            ..hop(&to, path)
        },
        get(),
    )
    .await
    .unwrap();
    assert_eq!(
        upstream.last_seen().target,
        format!("{path}?alt=sse&q=%2F%2e+%zz")
    );
    pass(
        Hop {
            query: Some("key=a"),
            strip_query: &strip,
            ..hop(&to, path)
        },
        get(),
    )
    .await
    .unwrap();
    assert_eq!(upstream.last_seen().target, path);
}

#[tokio::test]
async fn ambiguous_paths_and_unsafe_methods_go_nowhere() {
    let upstream = Upstream::start(KEY).await;
    let to = destination(&upstream.url());
    for path in [
        "/v1/../admin",
        "/v1/%2e%2e/admin",
        "/v1/%252e%252e/admin",
        "/v1%2fadmin",
        "//x",
        "/v1\\x",
        "*",
    ] {
        let error = pass(hop(&to, path), get()).await.err().unwrap();
        assert!(matches!(error, NetError::Path(_)), "{path}: {error}");
        assert_eq!(error.status(), StatusCode::BAD_REQUEST);
    }
    for method in [Method::TRACE, Method::CONNECT] {
        let mut request = get();
        *request.method_mut() = method;
        let error = pass(hop(&to, "/v1/models"), request).await.err().unwrap();
        assert_eq!(error.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn what_would_act_on_our_origin_does_not_come_down() {
    let upstream = Upstream::start(KEY).await;
    let response = pass(hop(&destination(&upstream.url()), "/cookies"), get())
        .await
        .unwrap();
    let headers = response.headers();
    for name in [
        "set-cookie",
        "clear-site-data",
        "service-worker-allowed",
        "access-control-allow-origin",
        "access-control-allow-credentials",
        "refresh",
        "strict-transport-security",
        "alt-svc",
        "public-key-pins",
        "keystead-tenant",
        "proxy-authenticate",
    ] {
        assert!(!headers.contains_key(name), "{name} came down");
    }
    assert_eq!(
        headers
            .get_all(header::CONTENT_SECURITY_POLICY)
            .iter()
            .count(),
        1
    );
    assert_eq!(headers[header::CONTENT_SECURITY_POLICY], "sandbox");
    assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert_eq!(headers["x-request-id"], "req_1");
}

#[tokio::test]
async fn a_redirect_is_passed_on_unfollowed_and_leads_nowhere_else() {
    let upstream = Upstream::start(KEY).await;
    let victim = Upstream::start(KEY).await;
    let to = destination(&upstream.url());
    let prefix = Some("/proxy/@openai");
    let own = format!("to={}/v1/models?x=1", upstream.url());
    let others = format!("to={}/v1/models", victim.url());
    for (query, prefix, location) in [
        (&others, prefix, None),
        (&own, None, None),
        (&own, prefix, Some("/proxy/@openai/v1/models?x=1")),
    ] {
        let hop = Hop {
            query: Some(query),
            location_prefix: prefix,
            ..hop(&to, "/redirect")
        };
        let response = pass(hop, get()).await.unwrap();
        assert_eq!(response.status(), StatusCode::FOUND);
        let found = response
            .headers()
            .get(header::LOCATION)
            .map(|value| value.to_str().unwrap());
        assert_eq!(found, location);
    }
    assert_eq!((upstream.seen().len(), victim.seen().len()), (3, 0));
}

#[tokio::test]
async fn an_echoed_credential_is_masked_in_headers_and_bodies_and_told_once() {
    let upstream = Upstream::start(KEY).await;
    let to = destination(&upstream.url());
    // In one piece, and cut in the middle of the credential in every possible way.
    for chunk in [None, Some(1), Some(3), Some(7), Some(64)] {
        let told = Arc::new(AtomicUsize::new(0));
        let counter = told.clone();
        let query = chunk.map(|size| format!("chunk={size}"));
        let hop = Hop {
            query: query.as_deref(),
            on_redacted: Some(Arc::new(move || {
                counter.fetch_add(1, SeqCst);
            })),
            ..hop(&to, "/echo")
        };
        let response = pass(hop, with(&[("x-mine", "stays")])).await.unwrap();
        assert!(
            response.headers()["x-echo"]
                .to_str()
                .unwrap()
                .starts_with("Bearer [redacted]*")
        );
        let length = response.headers().get(header::CONTENT_LENGTH).cloned();
        let body = text(response).await;
        assert!(
            body.contains("authorization: Bearer [redacted]***"),
            "{chunk:?}: {body}"
        );
        assert!(
            !body.contains("canary") && body.contains("x-mine: stays"),
            "{chunk:?}: {body}"
        );
        if let Some(length) = length {
            assert_eq!(length.to_str().unwrap(), body.len().to_string());
        }
        assert_eq!(told.load(SeqCst), 1, "{chunk:?}");
    }
    let unread = Hop {
        redact_bodies: false,
        ..hop(&to, "/echo")
    };
    let response = pass(unread, get()).await.unwrap();
    assert!(!format!("{:?}", response.headers()).contains("canary"));
    assert!(text(response).await.contains(KEY));
}

#[tokio::test]
async fn trailers_are_masked_whether_or_not_the_body_is_searched() {
    let answer = concat!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\n",
        "transfer-encoding: chunked\r\ntrailer: x-late\r\n\r\n3\r\nabc\r\n0\r\n",
        "x-late: sk-proj-canary-0123456789abcdef\r\n\r\n"
    );
    let upstream = RawUpstream::start(vec![answer.as_bytes()]).await;
    let to = destination(&upstream.url());
    for redact_bodies in [true, false] {
        let told = Arc::new(AtomicUsize::new(0));
        let counter = told.clone();
        let hop = Hop {
            redact_bodies,
            on_redacted: Some(Arc::new(move || {
                counter.fetch_add(1, SeqCst);
            })),
            ..hop(&to, "/")
        };
        let response = pass(hop, get()).await.unwrap();
        let whole = response.into_body().collect().await.unwrap();
        let late = whole.trailers().unwrap()["x-late"].to_str().unwrap();
        assert!(late.starts_with("[redacted]*"), "{late}");
        assert_eq!(told.load(SeqCst), 1);
        assert_eq!(whole.to_bytes(), "abc");
    }
}

#[tokio::test]
async fn lengths_are_kept_and_an_answer_is_passed_on_whatever_it_says() {
    let upstream = Upstream::start(KEY).await;
    let to = destination(&upstream.url());
    let mut empty = get();
    *empty.method_mut() = Method::POST;
    let response = pass(hop(&to, "/echo"), empty).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(upstream.last_seen().all("content-length"), ["0"]);

    let body = br#"{"model": "gpt-4o-mini", "messages": []}"#;
    let mut chat = Request::post("/").body(Full::from(&body[..])).unwrap();
    chat.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    chat.headers_mut().insert(
        header::TRANSFER_ENCODING,
        HeaderValue::from_static("chunked"),
    );
    chat.headers_mut()
        .insert(header::CONTENT_LENGTH, HeaderValue::from_static("3"));
    let response = pass(hop(&to, "/v1/chat/completions"), chat).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(text(response).await.contains("Hello from the upstream"));
    assert_eq!(
        upstream.last_seen().all("content-length"),
        [body.len().to_string()]
    );
    assert!(upstream.last_seen().all("transfer-encoding").is_empty());

    for status in [401_u16, 404, 429, 500, 503] {
        let path = format!("/status/{status}");
        let response = pass(hop(&to, &path), get()).await.unwrap();
        assert_eq!(response.status().as_u16(), status);
        assert!(text(response).await.contains("as asked"));
    }
}

#[tokio::test]
async fn nothing_is_sent_if_the_credential_cannot_be_placed() {
    let upstream = Upstream::start(KEY).await;
    let to = destination(&upstream.url());
    let refuse = |_: &mut keystead_broker::net::Head<'_>| Err(NetError::Malformed);
    let error = forward(&client(), hop(&to, "/v1/models"), get(), refuse)
        .await
        .err()
        .unwrap();
    assert_eq!(error, NetError::Malformed);
    assert!(upstream.seen().is_empty());
}
