//! A connection that has become a WebSocket: bytes both ways until an end, a silence or a cut.
//!
//! What always holds here: nothing in it is read or redacted (frames to the upstream are masked,
//! and holding back a byte of a frame would delay the message).

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};

use super::body::Watch;

/// Joins the two ends. Both upgrades complete once the 101 has gone down.
pub(super) async fn tunnel(down: OnUpgrade, up: OnUpgrade, mut watch: Watch) {
    let moved = AtomicBool::new(false);
    let joined = async {
        let (down, up) = tokio::try_join!(down, up).map_err(io::Error::other)?;
        let mut down = Noted {
            io: TokioIo::new(down),
            moved: &moved,
        };
        let mut up = Noted {
            io: TokioIo::new(up),
            moved: &moved,
        };
        copy_bidirectional(&mut down, &mut up).await
    };
    let mut joined = pin!(joined);
    let ended = poll_fn(|cx| {
        if watch.is_cut() {
            return Poll::Ready("cut");
        }
        if let Poll::Ready(_copied) = joined.as_mut().poll(cx) {
            return Poll::Ready("closed");
        }
        if moved.swap(false, Relaxed) {
            watch.moved();
        }
        watch.poll_fault(cx).map(|_| "cut or idle")
    })
    .await;
    tracing::debug!(ended, "an upgraded connection ended");
}

/// Notes that bytes came.
struct Noted<'a> {
    io: TokioIo<Upgraded>,
    moved: &'a AtomicBool,
}

impl AsyncRead for Noted<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if read.is_ready() {
            self.moved.store(true, Relaxed);
        }
        read
    }
}

impl AsyncWrite for Noted<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
