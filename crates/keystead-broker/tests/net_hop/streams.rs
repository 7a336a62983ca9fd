//! Bodies on their way: unbuffered, bounded, timed, cut; and connections that become WebSockets.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use keystead_broker::net::{
    BodyFault, Client, Destination, Hop, HopLimits, NetError, ProxyBody, Waited,
    certificates_from_pem, forward,
};
use keystead_testkit::upstream::{RawUpstream, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::rig::*;

async fn next(body: &mut ProxyBody) -> Option<Result<Bytes, BodyFault>> {
    let frame = timeout(PATIENCE, body.frame())
        .await
        .expect("a frame or an end within the time");
    frame.map(|frame| frame.map(|frame| frame.into_data().unwrap()))
}

type Feed = mpsc::Sender<Result<Frame<Bytes>, Infallible>>;

/// A request body that is fed by the test.
fn fed() -> (
    Feed,
    impl Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
) {
    let (feed, rows) = mpsc::channel(1);
    let rows = stream::unfold(rows, |mut rows| async { Some((rows.recv().await?, rows)) });
    (feed, StreamBody::new(Box::pin(rows)))
}

#[tokio::test]
async fn an_event_arrives_before_the_next_one_is_sent() {
    let upstream = Upstream::start(KEY).await;
    let to = destination(&upstream.url());
    let mut body = pass(hop(&to, "/gated"), get()).await.unwrap().into_body();
    for number in 1..=3 {
        upstream.release();
        assert_eq!(
            next(&mut body).await,
            Some(Ok(Bytes::from(format!("data: {number}\n\n"))))
        );
    }
    assert_eq!(next(&mut body).await, None);
}

#[tokio::test]
async fn a_request_goes_up_while_its_answer_comes_down() {
    let upstream = Upstream::start(KEY).await;
    let to = destination(&upstream.url());
    let (feed, body) = fed();
    feed.send(Ok(Frame::data(Bytes::from_static(b"first"))))
        .await
        .unwrap();
    let request = Request::post("/").body(body).unwrap();
    let response = forward(&client(), hop(&to, "/mirror"), request, place)
        .await
        .unwrap();
    let mut down = response.into_body();
    assert_eq!(
        next(&mut down).await,
        Some(Ok(Bytes::from_static(b"first")))
    );
    feed.send(Ok(Frame::data(Bytes::from_static(b"second"))))
        .await
        .unwrap();
    assert_eq!(
        next(&mut down).await,
        Some(Ok(Bytes::from_static(b"second")))
    );
    drop(feed);
    assert_eq!(next(&mut down).await, None);
}

#[tokio::test]
async fn a_large_answer_passes_through_whole() {
    let upstream = Upstream::start(KEY).await;
    let to = destination(&upstream.url());
    let hop = Hop {
        query: Some("bytes=9000001"),
        ..hop(&to, "/big")
    };
    assert_eq!(text(pass(hop, get()).await.unwrap()).await.len(), 9_000_001);
}

#[tokio::test]
async fn a_request_body_over_the_limit_is_refused_before_or_while_it_is_sent() {
    let upstream = Upstream::start(KEY).await;
    let to = destination(&upstream.url());
    let limits = HopLimits {
        request_body: 8,
        ..HopLimits::default()
    };
    let announced = Request::post("/").body(Full::from("123456789")).unwrap();
    let error = pass(
        Hop {
            limits,
            ..hop(&to, "/echo")
        },
        announced,
    )
    .await
    .err()
    .unwrap();
    assert_eq!(
        (&error, error.status()),
        (&NetError::RequestTooLarge, StatusCode::PAYLOAD_TOO_LARGE)
    );
    assert!(upstream.seen().is_empty());

    let (feed, body) = fed();
    let feeding = tokio::spawn(async move {
        for _ in 0..3 {
            let _ = feed
                .send(Ok(Frame::data(Bytes::from_static(b"1234"))))
                .await;
        }
    });
    let request = Request::post("/").body(body).unwrap();
    let sent = forward(
        &client(),
        Hop {
            limits,
            ..hop(&to, "/echo")
        },
        request,
        place,
    )
    .await;
    assert_eq!(sent.err(), Some(NetError::RequestTooLarge));
    feeding.await.unwrap();
}

#[tokio::test]
async fn whoever_is_silent_too_long_is_named() {
    let upstream = Upstream::start(KEY).await;
    let to = destination(&upstream.url());
    let brief = Duration::from_millis(100);
    let limits = HopLimits {
        head: brief,
        ..HopLimits::default()
    };
    let error = pass(
        Hop {
            limits,
            ..hop(&to, "/hang")
        },
        get(),
    )
    .await
    .err()
    .unwrap();
    assert_eq!(
        (&error, error.status()),
        (
            &NetError::Timeout(Waited::Head),
            StatusCode::GATEWAY_TIMEOUT
        )
    );

    let (feed, body) = fed();
    feed.send(Ok(Frame::data(Bytes::from_static(b"first"))))
        .await
        .unwrap();
    let request = Request::post("/").body(body).unwrap();
    let error = forward(
        &client(),
        Hop {
            limits,
            ..hop(&to, "/echo")
        },
        request,
        place,
    )
    .await
    .err();
    assert_eq!(error, Some(NetError::Timeout(Waited::Caller)));

    let limits = HopLimits {
        idle: brief,
        ..HopLimits::default()
    };
    let mut body = pass(
        Hop {
            limits,
            ..hop(&to, "/stall")
        },
        get(),
    )
    .await
    .unwrap()
    .into_body();
    assert_eq!(next(&mut body).await, Some(Err(BodyFault::Idle)));
    assert_eq!(next(&mut body).await, None);
}

#[tokio::test]
async fn a_slow_stream_that_keeps_moving_outlives_the_idle_limit() {
    let upstream = Upstream::start(KEY).await;
    let to = destination(&upstream.url());
    let limits = HopLimits {
        idle: Duration::from_secs(1),
        ..HopLimits::default()
    };
    let hop = Hop {
        limits,
        query: Some("ms=100"),
        ..hop(&to, "/drip")
    };
    let mut body = pass(hop, get()).await.unwrap().into_body();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1500) {
        assert_eq!(next(&mut body).await, Some(Ok(Bytes::from_static(b"."))));
    }
}

#[tokio::test]
async fn a_revoked_call_is_cut_at_its_next_byte_and_in_silence() {
    let upstream = Upstream::start(KEY).await;
    let to = destination(&upstream.url());
    let (revoke, cut) = watch::channel(false);
    let open = |path| Hop {
        cut: Some(cut.clone()),
        ..hop(&to, path)
    };
    let mut moving = pass(open("/gated"), get()).await.unwrap().into_body();
    upstream.release();
    assert!(matches!(next(&mut moving).await, Some(Ok(_))));
    let mut busy = pass(open("/big"), get()).await.unwrap().into_body();
    assert!(matches!(next(&mut busy).await, Some(Ok(_))));
    let mut silent = pass(open("/stall"), get()).await.unwrap().into_body();
    let waiting = tokio::spawn(async move { next(&mut silent).await });
    let (waiting_client, waiting_cut, waiting_to) = (client(), cut.clone(), to.clone());
    let unanswered = tokio::spawn(async move {
        let hop = Hop {
            cut: Some(waiting_cut),
            ..hop(&waiting_to, "/hang")
        };
        forward(&waiting_client, hop, get(), place).await.err()
    });
    // So that all four are under way: the last as soon as the upstream has seen it.
    while upstream.seen().len() < 4 {
        tokio::task::yield_now().await;
    }

    let revoked = Instant::now();
    revoke.send(true).unwrap();
    upstream.release();
    // Its next bytes have long been there.
    assert_eq!(next(&mut busy).await, Some(Err(BodyFault::Cut)));
    assert_eq!(next(&mut moving).await, Some(Err(BodyFault::Cut)));
    assert_eq!(waiting.await.unwrap(), Some(Err(BodyFault::Cut)));
    assert_eq!(unanswered.await.unwrap(), Some(NetError::Cut));
    assert!(revoked.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_request_that_reached_a_socket_is_not_sent_again() {
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let upstream = RawUpstream::start(vec![ok, b""]).await;
    let to = destination(&upstream.url());
    let client = client();
    let response = forward(&client, hop(&to, "/"), get(), place).await.unwrap();
    assert_eq!(text(response).await, "ok");
    // The same connection: its second request is read, and never answered.
    let error = forward(&client, hop(&to, "/"), get(), place).await.err();
    assert_eq!(error, Some(NetError::Closed));
    assert_eq!(upstream.heads(), 2);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_taken_for_whole() {
    let upstream =
        RawUpstream::start(vec![b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart"]).await;
    let to = destination(&upstream.url());
    let mut body = pass(hop(&to, "/"), get()).await.unwrap().into_body();
    assert_eq!(next(&mut body).await, Some(Ok(Bytes::from_static(b"part"))));
    assert_eq!(next(&mut body).await, Some(Err(BodyFault::Upstream)));
}

/// A server that forwards everything, as the proxy's face does.
async fn front(client: Client, to: Destination, cut: watch::Receiver<bool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = move |request: Request<Incoming>| {
        let (client, to, cut) = (client.clone(), to.clone(), cut.clone());
        async move {
            let path = request.uri().path().to_owned();
            let answer = forward(
                &client,
                Hop {
                    cut: Some(cut),
                    ..hop(&to, &path)
                },
                request,
                place,
            )
            .await;
            Ok::<_, Infallible>(answer.unwrap_or_else(|error| {
                let mut response = Response::new(ProxyBody::default());
                *response.status_mut() = error.status();
                response
            }))
        }
    };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let serving = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(service.clone()))
                .with_upgrades();
            tokio::spawn(serving);
        }
    });
    address
}

#[tokio::test]
async fn a_websocket_passes_through_and_is_cut_when_revoked() {
    let plain = Upstream::start(KEY).await;
    let encrypted = Upstream::start_tls(KEY).await;
    for upstream in [plain, encrypted] {
        let mut config = config();
        config.resolver = Scripted::new(&[&["127.0.0.1"]]);
        if let Some(certificate) = upstream.certificate() {
            let folder = tempfile::tempdir().unwrap();
            let pem = folder.path().join("extra.pem");
            std::fs::write(&pem, certificate).unwrap();
            config.extra_roots = certificates_from_pem(&pem).unwrap();
        }
        let (revoke, cut) = watch::channel(false);
        let client = Client::new(config).unwrap();
        let address = front(client, destination(&upstream.url()), cut).await;

        let stream = TcpStream::connect(address).await.unwrap();
        let url = format!("ws://{address}/ws");
        let (mut socket, answer) = tokio_tungstenite::client_async(url, stream).await.unwrap();
        assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
        for said in ["one", "two"] {
            socket.send(Message::text(said)).await.unwrap();
            let heard = timeout(PATIENCE, socket.next())
                .await
                .unwrap()
                .unwrap()
                .unwrap();
            assert_eq!(heard, Message::text(said));
        }
        let seen = upstream.last_seen();
        assert_eq!(seen.version, Version::HTTP_11);
        assert_eq!(seen.all("authorization"), [format!("Bearer {KEY}")]);
        assert_eq!(
            (seen.all("upgrade"), seen.all("connection")),
            (vec!["websocket"], vec!["upgrade"])
        );

        let revoked = Instant::now();
        revoke.send(true).unwrap();
        let end = timeout(PATIENCE, socket.next()).await.unwrap();
        assert!(end.is_none_or(|message| message.is_err()));
        assert!(revoked.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn a_caller_who_waits_for_leave_to_send_its_body_gets_it() {
    let upstream = Upstream::start(KEY).await;
    let (_revoke, cut) = watch::channel(false);
    let address = front(client(), destination(&upstream.url()), cut).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head =
        "POST /echo HTTP/1.1\r\nHost: k\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut leave = [0; 25];
    timeout(PATIENCE, stream.read_exact(&mut leave))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&leave, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"body").await.unwrap();
    let mut answer = [0; 15];
    timeout(PATIENCE, stream.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    assert!(upstream.last_seen().all("expect").is_empty());
}

#[tokio::test]
async fn a_request_with_two_lengths_smuggles_no_second_one() {
    for (name, lengths) in [
        (
            "both",
            "Content-Length: 60\r\nTransfer-Encoding: chunked\r\n",
        ),
        (
            "both, the other way round",
            "Transfer-Encoding: chunked\r\nContent-Length: 60\r\n",
        ),
        (
            "two that differ",
            "Content-Length: 5\r\nContent-Length: 60\r\n",
        ),
        (
            "a coding that is not last",
            "Transfer-Encoding: chunked, identity\r\n",
        ),
    ] {
        let upstream = Upstream::start(KEY).await;
        let (_revoke, cut) = watch::channel(false);
        let address = front(client(), destination(&upstream.url()), cut).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let text = format!(
            "POST /echo HTTP/1.1\r\nHost: k\r\n{lengths}\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: k\r\n\r\n"
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        // Whatever is made of the first, the connection ends with it.
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .expect(name);
        let answer = String::from_utf8_lossy(&answer);
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{name}: {answer}");
        for seen in upstream.seen() {
            assert_eq!(seen.target, "/echo", "{name}");
            let framings = seen.all("content-length").len() + seen.all("transfer-encoding").len();
            assert_eq!(framings, 1, "{name}");
        }
    }
}

#[tokio::test]
async fn an_upgrade_that_is_not_a_websocket_is_an_ordinary_request() {
    let upstream = Upstream::start(KEY).await;
    let (_revoke, cut) = watch::channel(false);
    let address = front(client(), destination(&upstream.url()), cut).await;
    let url = format!("http://{address}/echo");
    let request = Request::get(url)
        .header("connection", "upgrade, http2-settings")
        .header("upgrade", "h2c")
        .header("http2-settings", "AAMAAABkAARAAAAAAAIAAAAA")
        .body(Bytes::new())
        .unwrap();
    let answer = client().fetch(request, Default::default()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let seen = upstream.last_seen();
    assert!(seen.all("upgrade").is_empty() && seen.all("http2-settings").is_empty());
}
