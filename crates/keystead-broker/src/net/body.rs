//! Bodies on their way through: counted and bounded up, timed, cut and redacted down.
//!
//! What always holds here: a frame is passed on as soon as it is there, except for bytes that may be
//! the beginning of a secret; no body is read ahead; and a body that ends in an error ends the
//! connection that it came from, since dropping it unread does.

use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until};

use super::headers;
use super::redact::{OnRedacted, Scanner};
use super::{BoxError, NetError};

/// How often a waiting stream looks whether it has been cut.
pub(super) const CUT_CHECK: Duration = Duration::from_secs(1);

/// The body of a request to the outside.
#[derive(Default)]
pub struct RequestBody(Up);

#[derive(Default)]
enum Up {
    #[default]
    Empty,
    Whole(Bytes),
    Stream(Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>),
}

impl From<Bytes> for RequestBody {
    fn from(bytes: Bytes) -> Self {
        Self(if bytes.is_empty() {
            Up::Empty
        } else {
            Up::Whole(bytes)
        })
    }
}

impl RequestBody {
    /// Passes `body` on, up to `limit` bytes; what happens to it can be followed.
    pub(super) fn stream<B>(body: B, limit: u64) -> (Self, Arc<Progress>)
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let progress = Arc::new(Progress::default());
        let upload = Upload {
            body,
            left: limit,
            progress: progress.clone(),
        };
        (Self(Up::Stream(Box::pin(upload))), progress)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Up::Empty => Poll::Ready(None),
            Up::Whole(bytes) => {
                let bytes = mem::take(bytes);
                self.0 = Up::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Up::Stream(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Up::Empty => true,
            Up::Whole(_) => false,
            Up::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Up::Empty => SizeHint::with_exact(0),
            Up::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Up::Stream(body) => body.size_hint(),
        }
    }
}

/// What has become of a streamed request body, for whoever waits for the answer to it.
#[derive(Default)]
pub(super) struct Progress {
    frames: AtomicU64,
    waits_for_caller: AtomicBool,
    broken: AtomicBool,
    too_large: AtomicBool,
}

impl Progress {
    pub(super) fn frames(&self) -> u64 {
        self.frames.load(Relaxed)
    }
    pub(super) fn waits_for_caller(&self) -> bool {
        self.waits_for_caller.load(Relaxed)
    }
    /// The fault of the body itself, if that is why the exchange failed.
    pub(super) fn fault(&self) -> Option<NetError> {
        if self.too_large.load(Relaxed) {
            Some(NetError::RequestTooLarge)
        } else {
            self.broken.load(Relaxed).then_some(NetError::Caller)
        }
    }
}

struct Upload<B> {
    body: B,
    left: u64,
    progress: Arc<Progress>,
}

impl<B> Body for Upload<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            this.progress.waits_for_caller.store(true, Relaxed);
            return Poll::Pending;
        };
        this.progress.waits_for_caller.store(false, Relaxed);
        this.progress.frames.fetch_add(1, Relaxed);
        Poll::Ready(match frame {
            None => None,
            Some(Err(error)) => {
                this.progress.broken.store(true, Relaxed);
                Some(Err(error.into()))
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => match this.left.checked_sub(data.len() as u64) {
                    Some(left) => {
                        this.left = left;
                        Some(Ok(Frame::data(data)))
                    }
                    None => {
                        this.progress.too_large.store(true, Relaxed);
                        Some(Err(Box::new(NetError::RequestTooLarge)))
                    }
                },
                // Trailers would be a second, unchecked set of headers; no provider wants them.
                Err(_) => None,
            },
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Why a response broke off after its head had been passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// The access was revoked.
    Cut,
    /// Nothing came for too long.
    Idle,
    /// The upstream broke off.
    Upstream,
}

impl fmt::Display for BodyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cut => "the access was revoked while the response was sent",
            Self::Idle => "the upstream sent nothing for too long",
            Self::Upstream => "the upstream broke off its response",
        })
    }
}

impl std::error::Error for BodyFault {}

/// The body of a response, passed through.
#[derive(Default)]
pub struct ProxyBody {
    upstream: Option<Incoming>,
    trailers: Option<HeaderMap>,
    watch: Watch,
    scanner: Option<Box<Scanner>>,
    /// Whether the scanner is for the body too, and not for its trailers alone.
    searched: bool,
    on_redacted: Option<OnRedacted>,
}

/// When to stop waiting.
#[derive(Default)]
pub(super) struct Watch {
    idle: Duration,
    cut: Option<watch::Receiver<bool>>,
    waiting_until: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Watch {
    pub(super) fn new(idle: Duration, cut: Option<watch::Receiver<bool>>) -> Self {
        Self {
            idle,
            cut,
            waiting_until: None,
            timer: None,
        }
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.as_ref().is_some_and(|cut| *cut.borrow())
    }

    /// To be told whenever something moved.
    pub(super) fn moved(&mut self) {
        self.waiting_until = None;
    }

    /// To be polled when nothing moves: ready once it is time to give up.
    pub(super) fn poll_fault(&mut self, cx: &mut Context<'_>) -> Poll<BodyFault> {
        loop {
            let now = Instant::now();
            let until = *self.waiting_until.get_or_insert(now + self.idle);
            if self.is_cut() {
                return Poll::Ready(BodyFault::Cut);
            }
            if now >= until {
                return Poll::Ready(BodyFault::Idle);
            }
            let next = if self.cut.is_some() {
                until.min(now + CUT_CHECK)
            } else {
                until
            };
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(sleep_until(next)));
            // A timer that is already set for the future is left alone: it only asks again earlier.
            if timer.is_elapsed() || timer.deadline() > next {
                timer.as_mut().reset(next);
            }
            ready!(timer.as_mut().poll(cx));
        }
    }
}

impl ProxyBody {
    pub(super) fn new(
        upstream: Incoming,
        watch: Watch,
        scanner: Option<Box<Scanner>>,
        searched: bool,
        on_redacted: Option<OnRedacted>,
    ) -> Self {
        Self {
            upstream: Some(upstream),
            trailers: None,
            watch,
            scanner,
            searched,
            on_redacted,
        }
    }

    fn scan(&mut self, data: Bytes) -> Bytes {
        let Some(scanner) = self.scanner.as_mut().filter(|_| self.searched) else {
            return data;
        };
        let data = scanner.scan(data);
        self.tell();
        data
    }

    /// Says that something was redacted, once.
    fn tell(&mut self) {
        let redacted = self.scanner.as_ref().is_some_and(|it| it.has_redacted());
        if redacted && let Some(tell) = self.on_redacted.take() {
            tell();
        }
    }

    fn held(&self) -> usize {
        self.scanner.as_ref().map_or(0, |scanner| scanner.held())
    }

    fn fail(&mut self, fault: BodyFault) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        *self = Self::default();
        Poll::Ready(Some(Err(fault)))
    }
}

impl Body for ProxyBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let this = &mut *self;
        loop {
            if let Some(trailers) = this.trailers.take() {
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            let Some(upstream) = &mut this.upstream else {
                return Poll::Ready(None);
            };
            if this.watch.is_cut() {
                return this.fail(BodyFault::Cut);
            }
            let frame = match Pin::new(upstream).poll_frame(cx) {
                Poll::Pending => {
                    let fault = ready!(this.watch.poll_fault(cx));
                    return this.fail(fault);
                }
                Poll::Ready(Some(Err(_))) => return this.fail(BodyFault::Upstream),
                Poll::Ready(Some(Ok(frame))) => Some(frame),
                Poll::Ready(None) => None,
            };
            this.watch.moved();
            match frame.map(Frame::into_data) {
                Some(Ok(data)) => {
                    let data = this.scan(data);
                    // All of it may be held back.
                    if !data.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                }
                Some(Err(frame)) => {
                    this.upstream = None;
                    this.trailers = frame.into_trailers().ok().map(headers::trailers);
                    if let (Some(trailers), Some(scanner)) = (&mut this.trailers, &mut this.scanner)
                    {
                        scanner.redact_headers(trailers);
                    }
                    this.tell();
                }
                None => this.upstream = None,
            }
            if this.upstream.is_none()
                && let Some(rest) = this.scanner.as_mut().and_then(|scanner| scanner.finish())
            {
                this.tell();
                return Poll::Ready(Some(Ok(Frame::data(rest))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.trailers.is_none()
            && self.held() == 0
            && self.upstream.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        // A redacted secret keeps its length, so the length of the whole is the upstream's.
        let held = self.held() as u64;
        let inner = self
            .upstream
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + held);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + held);
        }
        hint
    }
}
