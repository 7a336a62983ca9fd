//! What is connected to, and what is not.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Version};
use keystead_broker::net::{
    Client, ClientConfig, FetchLimits, NetError, Waited, certificates_from_pem, forward,
};
use keystead_core::egress::Guard;
use keystead_testkit::upstream::{RawUpstream, Upstream};
use tokio::net::TcpListener;

use crate::rig::*;

fn request(url: String) -> Request<Bytes> {
    Request::get(url).body(Bytes::new()).unwrap()
}

#[tokio::test]
async fn a_name_that_is_bound_anew_is_checked_anew_and_looked_up_once_per_connection() {
    let upstream = Upstream::start(KEY).await;
    let port = upstream.address().port();
    let victim = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let resolver = Scripted::new(&[&["127.0.0.1"], &["127.0.0.2"]]);
    let mut config = config();
    config.resolver = resolver.clone();
    // Nothing is kept, so the second request has to connect, and to look up, again.
    config.pool_idle = Duration::ZERO;
    let client = Client::new(config).unwrap();
    let url = format!("http://rebinding.example:{port}/status/204");

    let answer = client
        .fetch(request(url.clone()), FetchLimits::default())
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert_eq!(resolver.lookups.load(SeqCst), 1);

    let refused = client
        .fetch(request(url), FetchLimits::default())
        .await
        .unwrap_err();
    assert!(matches!(refused, NetError::Address(refusal) if refusal.range == "loopback"));
    assert_eq!(resolver.lookups.load(SeqCst), 2);
    assert_eq!(upstream.seen().len(), 1);
    let untouched = tokio::time::timeout(Duration::from_millis(50), victim.accept()).await;
    assert!(untouched.is_err(), "the refused address was connected to");
}

#[tokio::test]
async fn one_refused_address_among_permitted_ones_refuses_the_name() {
    let upstream = Upstream::start(KEY).await;
    for answer in [
        ["127.0.0.1", "10.0.0.1"],
        ["10.0.0.1", "127.0.0.1"],
        ["127.0.0.1", "::1"],
    ] {
        let mut config = config();
        config.resolver = Scripted::new(&[&answer]);
        let client = Client::new(config).unwrap();
        let url = format!("http://mixed.example:{}/", upstream.address().port());
        let refused = client
            .fetch(request(url), FetchLimits::default())
            .await
            .unwrap_err();
        assert!(
            matches!(refused, NetError::Address(_)),
            "{answer:?}: {refused}"
        );
    }
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn no_way_of_writing_a_private_address_is_dialled() {
    let upstream = Upstream::start(KEY).await;
    let client = Client::new(ClientConfig::new(Guard::default())).unwrap();
    let port = upstream.address().port();
    // The last ones are names to the URL, and addresses to the system's resolver.
    for host in [
        "127.0.0.1",
        "0.0.0.0",
        "169.254.169.254",
        "10.0.0.1",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[fec0::1]",
        "localhost",
        "2130706433",
        "0x7f000001",
        "127.1",
        "0177.0.0.1",
    ] {
        let url = format!("http://{host}:{port}/");
        let refused = client
            .fetch(request(url), FetchLimits::default())
            .await
            .unwrap_err();
        assert!(matches!(refused, NetError::Address(_)), "{host}: {refused}");
        assert_eq!(refused.status(), StatusCode::BAD_GATEWAY);
    }
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn what_cannot_be_reached_says_why() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", free.local_addr().unwrap());
    drop(free);
    let error = client()
        .fetch(request(url), FetchLimits::default())
        .await
        .unwrap_err();
    assert_eq!(
        error,
        NetError::Connect(std::io::ErrorKind::ConnectionRefused)
    );
    assert_eq!(error.status(), StatusCode::BAD_GATEWAY);

    let broken = RawUpstream::start(vec![b"HTTP/1.1 200 OK\r\nContent-Le"]).await;
    let error = client()
        .fetch(request(broken.url()), FetchLimits::default())
        .await
        .unwrap_err();
    assert_eq!(error, NetError::Closed);
    let garbage = RawUpstream::start(vec![b"SSH-2.0-canary\r\n\r\n"]).await;
    let error = client()
        .fetch(request(garbage.url()), FetchLimits::default())
        .await
        .unwrap_err();
    assert_eq!(
        (&error, error.to_string().contains("canary")),
        (&NetError::Closed, false)
    );
}

#[tokio::test]
async fn an_encrypted_upstream_is_spoken_to_in_http_2_if_its_authority_is_trusted() {
    let upstream = Upstream::start_tls(KEY).await;
    let folder = tempfile::tempdir().unwrap();
    let pem = folder.path().join("extra.pem");
    std::fs::write(&pem, upstream.certificate().unwrap()).unwrap();
    let to = destination(&upstream.url());

    let mut distrusting = config();
    distrusting.resolver = Scripted::new(&[&["127.0.0.1"]]);
    let client = Client::new(distrusting).unwrap();
    let error = forward(&client, hop(&to, "/v1/models"), get(), place)
        .await
        .err()
        .unwrap();
    assert!(matches!(error, NetError::Tls(_)), "{error}");
    assert!(upstream.seen().is_empty());

    let mut trusting = config();
    trusting.resolver = Scripted::new(&[&["127.0.0.1"]]);
    trusting.extra_roots = certificates_from_pem(&pem).unwrap();
    let client = Client::new(trusting).unwrap();
    for _ in 0..2 {
        let response = forward(&client, hop(&to, "/v1/models"), get(), place)
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert!(text(response).await.contains("gpt-4o-mini"));
    }
    assert!(
        upstream
            .seen()
            .iter()
            .all(|seen| seen.version == Version::HTTP_2)
    );
}

#[tokio::test]
async fn a_call_of_our_own_follows_no_redirect_and_reads_no_more_than_its_cap() {
    let upstream = Upstream::start(KEY).await;
    let victim = Upstream::start(KEY).await;
    let limits = FetchLimits::default();
    let url = format!("{}/redirect?to={}/v1/models", upstream.url(), victim.url());
    let answer = client().fetch(request(url), limits).await.unwrap();
    assert_eq!(answer.status(), StatusCode::FOUND);
    assert!(victim.seen().is_empty());

    let url = format!("{}/big?bytes=1048576", upstream.url());
    assert_eq!(
        client()
            .fetch(request(url), limits)
            .await
            .unwrap()
            .body()
            .len(),
        1 << 20
    );
    let url = format!("{}/big?bytes=1048577", upstream.url());
    assert_eq!(
        client().fetch(request(url), limits).await.err(),
        Some(NetError::ResponseTooLarge)
    );

    let limits = FetchLimits {
        total: Duration::from_millis(200),
        ..limits
    };
    for path in ["/drip", "/hang", "/stall"] {
        let url = format!("{}{path}", upstream.url());
        let error = client().fetch(request(url), limits).await.unwrap_err();
        assert_eq!(error, NetError::Timeout(Waited::Whole), "{path}");
    }
}
