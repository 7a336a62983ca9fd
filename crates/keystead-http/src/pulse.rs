//! What a connection is doing, and when it has done nothing for too long.
//!
//! hyper's own time limit for heads also limits how long a connection may rest between requests,
//! and covers neither the first byte nor HTTP/2. Here the socket and the service note what happens
//! as atomics, and the connection's task looks at them now and then: no timer per request.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use hyper::body::{Frame, SizeHint};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use crate::serve::Limits;

/// What to do with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing.
    Fine,
    /// It rests: end it in good order.
    Finish,
    /// It stalls: drop it.
    Cut,
}

/// The state of one connection. Moments are milliseconds since it began, plus one; 0 is never.
pub(crate) struct Pulse {
    began: Instant,
    active: AtomicU32,
    /// Since when a head is awaited of which bytes have come, or the very first one.
    head_since: AtomicU64,
    idle_since: AtomicU64,
    /// Since when the peer takes no bytes.
    stalled_since: AtomicU64,
    http2: AtomicBool,
}

impl Pulse {
    pub(crate) fn new() -> Arc<Pulse> {
        Arc::new(Pulse {
            began: Instant::now(),
            active: AtomicU32::new(0),
            head_since: AtomicU64::new(1),
            idle_since: AtomicU64::new(1),
            stalled_since: AtomicU64::new(0),
            http2: AtomicBool::new(false),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    /// A request's head is complete.
    pub(crate) fn begin(self: &Arc<Self>, http2: bool) -> InFlight {
        self.active.fetch_add(1, Relaxed);
        self.head_since.store(0, Relaxed);
        if http2 {
            self.http2.store(true, Relaxed);
        }
        InFlight(self.clone())
    }

    fn received(&self) {
        // Between requests of HTTP/2 there are frames that begin no request.
        if self.active.load(Relaxed) == 0
            && self.head_since.load(Relaxed) == 0
            && !self.http2.load(Relaxed)
        {
            self.head_since.store(self.now(), Relaxed);
        }
    }

    /// Judges the connection by the limits.
    pub(crate) fn judge(&self, limits: &Limits) -> Verdict {
        let now = self.now();
        let passed = |since: u64| {
            Duration::from_millis(if since == 0 {
                0
            } else {
                now.saturating_sub(since)
            })
        };
        if passed(self.stalled_since.load(Relaxed)) >= limits.write_stall {
            return Verdict::Cut;
        }
        if self.active.load(Relaxed) > 0 {
            return Verdict::Fine;
        }
        let idle = passed(self.idle_since.load(Relaxed));
        if passed(self.head_since.load(Relaxed)) >= limits.head || idle >= limits.idle + limits.head
        {
            return Verdict::Cut;
        }
        if idle >= limits.idle {
            Verdict::Finish
        } else {
            Verdict::Fine
        }
    }
}

/// A request that is being served, until its answer's last byte.
pub(crate) struct InFlight(Arc<Pulse>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.now(), Relaxed);
        self.0.active.fetch_sub(1, Relaxed);
    }
}

/// An answer's body, which keeps its request in flight.
pub(crate) struct Answering {
    pub(crate) body: Body,
    pub(crate) _request: InFlight,
}

impl hyper::body::Body for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The socket, watched. Holds the connection's place among those that may be open, also when the
/// connection was upgraded and hyper is done with it.
pub(crate) struct Watched {
    pub(crate) io: TokioIo<TcpStream>,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) _place: OwnedSemaphorePermit,
}

impl Watched {
    fn wrote(&self, result: Poll<std::io::Result<usize>>) -> Poll<std::io::Result<usize>> {
        let since = &self.pulse.stalled_since;
        if result.is_ready() {
            if since.load(Relaxed) != 0 {
                since.store(0, Relaxed);
            }
        } else if since.load(Relaxed) == 0 {
            since.store(self.pulse.now(), Relaxed);
        }
        result
    }
}

impl Read for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        self.pulse.received();
        Poll::Ready(Ok(()))
    }
}

impl Write for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
