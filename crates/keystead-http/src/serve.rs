//! The serving loop: accepts, limits, and ends connections. HTTP/1.1 and HTTP/2 with prior
//! knowledge, in clear: TLS is for a terminator in front, and the default listener is loopback.
//!
//! What always holds: a connection that is not served has a time limit in every state that it can
//! be in (first byte, head, rest between requests, a peer that takes no bytes); at the end no new
//! connection is taken, and requests that have begun are finished within the grace.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::face::Face;
use crate::pulse::{Answering, Pulse, Verdict, Watched};

/// What is taken of connections. The defaults are the documented ones.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at a time; more are answered 503 and closed.
    pub connections: usize,
    /// From a connection's beginning, or a head's first byte, to the head's end.
    pub head: Duration,
    /// Rest between requests.
    pub idle: Duration,
    /// How long a peer may take no bytes of an answer.
    pub write_stall: Duration,
    /// How long requests that have begun may go on after the end was asked for.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 10_000,
            head: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            write_stall: Duration::from_secs(60),
            grace: Duration::from_secs(20),
        }
    }
}

/// Bytes of a request's head. (Header lines are 100 at the most: hyper's default, and only with the
/// default it keeps them on the stack.)
const MAX_HEAD: usize = 64 * 1024;
/// Requests at a time on one connection of HTTP/2.
const MAX_STREAMS: u32 = 256;

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    Draining,
    Over,
}

/// Serves until `shutdown` is done, then finishes what has begun, for at most the grace.
pub async fn serve(
    listener: TcpListener,
    face: Face,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = pin!(shutdown);
    let places = Arc::new(Semaphore::new(limits.connections));
    let (phase, seen) = watch::channel(Phase::Serving);
    let builder = Arc::new(builder());
    let limits = Arc::new(limits);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(fault) => {
                // Out of file descriptors, most likely: what is open goes on, and gives some back.
                tracing::warn!(%fault, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            face.refused_connection();
            let _ = stream.try_write(FULL);
            continue;
        };
        let _ = stream.set_nodelay(true);
        let pulse = Pulse::new();
        let socket = Watched {
            io: TokioIo::new(stream),
            pulse: pulse.clone(),
            _place: place,
        };
        tokio::spawn(connection(
            builder.clone(),
            socket,
            pulse,
            peer.ip(),
            face.clone(),
            limits.clone(),
            seen.clone(),
        ));
    }
    drop(listener);
    let _ = phase.send(Phase::Draining);
    // Every socket holds its place until it is dropped, upgraded ones too.
    let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
    if tokio::time::timeout(limits.grace, places.acquire_many(all))
        .await
        .is_err()
    {
        let open = limits.connections - places.available_permits();
        tracing::warn!(open, "the grace is over: connections are cut");
    }
    let _ = phase.send(Phase::Over);
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // Also counts the rest between requests; `Pulse` tells the two apart.
        .header_read_timeout(None)
        .max_buf_size(MAX_HEAD)
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEAD as u32)
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

async fn connection(
    builder: Arc<auto::Builder<TokioExecutor>>,
    socket: Watched,
    pulse: Arc<Pulse>,
    peer: IpAddr,
    face: Face,
    limits: Arc<Limits>,
    mut phase: watch::Receiver<Phase>,
) {
    let _open = face.opened_connection();
    let service = service_fn(|request: Request<Incoming>| {
        let in_flight = pulse.begin(request.version() == http::Version::HTTP_2);
        let face = face.clone();
        async move {
            let answer = face.answer(request, peer).await;
            Ok::<_, Infallible>(answer.map(|body| Answering {
                body,
                _request: in_flight,
            }))
        }
    });
    let mut serving = pin!(builder.serve_connection_with_upgrades(socket, service));
    // Often enough to keep each limit within a quarter of it.
    let every =
        (limits.head.min(limits.idle).min(limits.write_stall) / 4).max(Duration::from_millis(5));
    let mut look = tokio::time::interval(every);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut finishing = false;
    loop {
        // A connection that is accepted just when the end is asked for sees the phase here.
        let now = *phase.borrow_and_update();
        if now == Phase::Over {
            return;
        }
        if now == Phase::Draining && !finishing {
            finishing = true;
            serving.as_mut().graceful_shutdown();
        }
        tokio::select! {
            ended = &mut serving => {
                if let Err(fault) = ended {
                    tracing::debug!(%fault, "a connection ended early");
                }
                return;
            }
            _ = phase.changed() => {}
            _ = look.tick() => match pulse.judge(&limits) {
                Verdict::Fine => {}
                Verdict::Finish if finishing => {}
                Verdict::Finish => {
                    finishing = true;
                    serving.as_mut().graceful_shutdown();
                }
                Verdict::Cut => return,
            },
        }
    }
}
