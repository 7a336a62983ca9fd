//! One hop: an authorised request goes up with its credential, the response comes down without it.
//!
//! What always holds here: the credential is placed last, on a head built anew, and goes to the
//! origin that the hop names and nowhere else; bodies stream both ways; a request that was taken
//! back while it runs is cut within [`CUT_CHECK`] or at its next byte.
//!
//! Deliberately not here: whether the caller may ([`Hop`] is made after that), and opening.

use std::pin::pin;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri};
use hyper::body::{Body, Incoming};
use keystead_core::egress::BaseUrl;
use keystead_core::path;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::body::{CUT_CHECK, Progress, ProxyBody, RequestBody, Watch};
use super::redact::{OnRedacted, Scanner, Secret};
use super::{BoxError, Client, NetError, Waited, headers, upgrade};

/// An origin, parsed once.
#[derive(Clone, Debug)]
pub struct Destination {
    scheme: Scheme,
    authority: Authority,
    origin: Box<str>,
}

impl Destination {
    /// The origin of `url`; its path is the caller's to put in front of [`Hop::path`].
    ///
    /// # Errors
    /// None is known; the types cannot say so.
    pub fn new(url: &BaseUrl) -> Result<Self, NetError> {
        Ok(Self {
            scheme: if url.is_https() {
                Scheme::HTTPS
            } else {
                Scheme::HTTP
            },
            authority: url.authority().parse().map_err(|_| NetError::Malformed)?,
            origin: url.origin().into(),
        })
    }

    /// `host` or `host:port`, as the `Host` header says it.
    pub fn authority(&self) -> &str {
        self.authority.as_str()
    }
}

/// Bounds of one hop.
#[derive(Clone, Copy, Debug)]
pub struct HopLimits {
    /// From the last byte that went up until the head of the response.
    pub head: Duration,
    /// Between two bytes of the response, and of an upgraded connection.
    pub idle: Duration,
    /// The longest request body.
    pub request_body: u64,
}

impl Default for HopLimits {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(60),
            idle: Duration::from_secs(300),
            request_body: 64 << 20,
        }
    }
}

/// Where an authorised request goes, and within what.
pub struct Hop<'a> {
    /// The origin to dial.
    pub to: &'a Destination,
    /// The raw path at the upstream. Checked again here; sent byte for byte.
    pub path: &'a str,
    /// The raw query.
    pub query: Option<&'a str>,
    /// Headers that the provider's placements fill, or that the caller's token came in.
    pub strip_headers: &'a [HeaderName],
    /// Likewise, parameters of the query.
    pub strip_query: &'a [String],
    /// Time and size.
    pub limits: HopLimits,
    /// Whether bodies are searched for the credential too. Then the upstream is asked for them whole
    /// and not compressed.
    pub redact_bodies: bool,
    /// What the caller's path has in front of the upstream's, for a `Location` within its origin.
    pub location_prefix: Option<&'a str>,
    /// Becomes true when the right to this call is taken back.
    pub cut: Option<watch::Receiver<bool>>,
    /// To be told when the upstream sent the credential back.
    pub on_redacted: Option<OnRedacted>,
}

/// The head of the request as it will be sent, for the credential to be placed on.
pub struct Head<'a> {
    /// Fixed.
    pub method: &'a Method,
    /// Fixed; what the `Host` header will say.
    pub authority: &'a str,
    /// Fixed: the raw path.
    pub path: &'a str,
    /// The raw query, without the parameters that the hop strips.
    pub query: Option<String>,
    /// Without `Host`, which is the authority.
    pub headers: HeaderMap,
}

/// Sends `request` over `hop`. `place` puts the credential on the head and says which values must
/// not come back; it is called once, just before the request is sent.
///
/// # Errors
/// Those of `place`, and [`NetError`] as the caller's own error.
pub async fn forward<B, P, E>(
    client: &Client,
    hop: Hop<'_>,
    mut request: Request<B>,
    place: P,
) -> Result<Response<ProxyBody>, E>
where
    B: Body<Data = bytes::Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
    P: FnOnce(&mut Head<'_>) -> Result<Vec<Secret>, E>,
    E: From<NetError>,
{
    // TRACK is what some servers call TRACE: both say the request back, with the credential.
    let method = request.method();
    if matches!(*method, Method::TRACE | Method::CONNECT)
        || method.as_str().eq_ignore_ascii_case("TRACK")
    {
        return Err(NetError::Method("TRACE, TRACK and CONNECT are not carried").into());
    }
    path::check(hop.path).map_err(NetError::Path)?;
    if request.body().size_hint().lower() > hop.limits.request_body {
        return Err(NetError::RequestTooLarge.into());
    }
    let down = headers::is_websocket(&request).then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let mut head = Head {
        method: &parts.method,
        authority: hop.to.authority(),
        path: hop.path,
        query: match hop.query {
            Some(query) if hop.strip_query.is_empty() => Some(query.to_owned()),
            Some(query) => headers::strip_query(query, hop.strip_query),
            None => None,
        },
        headers: headers::upward(
            parts.headers,
            hop.strip_headers,
            hop.redact_bodies,
            down.is_some(),
        ),
    };
    let secrets = place(&mut head)?;
    let (body, progress) = if body.is_end_stream() {
        if matches!(*head.method, Method::POST | Method::PUT | Method::PATCH) {
            // Some servers ask for a length where there is no body.
            head.headers
                .insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        (RequestBody::default(), None)
    } else {
        let (body, progress) = RequestBody::stream(body, hop.limits.request_body);
        (body, Some(progress))
    };
    let uri = uri(hop.to, hop.path, head.query.as_deref())?;
    let headers = head.headers;
    let mut up = Request::new(body);
    *up.method_mut() = parts.method;
    *up.uri_mut() = uri;
    *up.headers_mut() = headers;

    let response = exchange(client, &hop, up, down.is_some(), progress.as_deref()).await?;
    Ok(pass_down(hop, response, &secrets, down)?)
}

fn uri(to: &Destination, path: &str, query: Option<&str>) -> Result<Uri, NetError> {
    let path_and_query = match query {
        None => PathAndQuery::try_from(path),
        Some(query) => {
            let mut text = String::with_capacity(path.len() + 1 + query.len());
            text.push_str(path);
            text.push('?');
            text.push_str(query);
            PathAndQuery::from_maybe_shared(bytes::Bytes::from(text))
        }
    };
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(to.scheme.clone());
    parts.authority = Some(to.authority.clone());
    parts.path_and_query = Some(path_and_query.map_err(|_| NetError::Malformed)?);
    Uri::from_parts(parts).map_err(|_| NetError::Malformed)
}

/// Waits for the head of the response, as long as something moves up and nobody cuts it.
async fn exchange(
    client: &Client,
    hop: &Hop<'_>,
    request: Request<RequestBody>,
    upgrade: bool,
    progress: Option<&Progress>,
) -> Result<Response<Incoming>, NetError> {
    let is_cut = || hop.cut.as_ref().is_some_and(|cut| *cut.borrow());
    let tick = if hop.cut.is_some() {
        CUT_CHECK.min(hop.limits.head)
    } else {
        hop.limits.head
    };
    let frames = || progress.map_or(0, Progress::frames);
    let mut answer = pin!(client.pool(upgrade).request(request));
    let mut until = Instant::now() + hop.limits.head;
    let mut timer = pin!(sleep_until(until.min(Instant::now() + tick)));
    let mut seen = 0;
    loop {
        tokio::select! {
            biased;
            answered = &mut answer => {
                return answered.map_err(|error| {
                    progress.and_then(Progress::fault).unwrap_or_else(|| NetError::from_client(&error))
                });
            }
            () = &mut timer => {}
        }
        let now = Instant::now();
        if is_cut() {
            return Err(NetError::Cut);
        }
        if frames() != seen {
            seen = frames();
            until = now + hop.limits.head;
        }
        if now >= until {
            let caller_is_slow = progress.is_some_and(Progress::waits_for_caller);
            let waited = if caller_is_slow {
                Waited::Caller
            } else {
                Waited::Head
            };
            return Err(NetError::Timeout(waited));
        }
        timer.as_mut().reset(until.min(now + tick));
    }
}

fn pass_down(
    hop: Hop<'_>,
    mut response: Response<Incoming>,
    secrets: &[Secret],
    down: Option<hyper::upgrade::OnUpgrade>,
) -> Result<Response<ProxyBody>, NetError> {
    let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let ends = match (down, upgraded) {
        (Some(down), true) => Some((down, hyper::upgrade::on(&mut response))),
        // An upgrade nobody asked for.
        (None, true) => return Err(NetError::Closed),
        (_, false) => None,
    };
    let (parts, body) = response.into_parts();
    let mut headers =
        headers::downward(parts.headers, &hop.to.origin, hop.location_prefix, upgraded);
    let mut scanner = Scanner::new(secrets);
    let mut on_redacted = hop.on_redacted;
    if let Some(scanner) = &mut scanner {
        scanner.redact_headers(&mut headers);
        if scanner.has_redacted()
            && let Some(tell) = on_redacted.take()
        {
            tell();
        }
    }
    let watch = Watch::new(hop.limits.idle, hop.cut);
    let body = match ends {
        Some((down, up)) => {
            tokio::spawn(upgrade::tunnel(down, up, watch));
            ProxyBody::default()
        }
        None => {
            let searched = hop.redact_bodies && is_text(&headers);
            ProxyBody::new(body, watch, scanner, searched, on_redacted)
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = parts.status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// Whether a body can be searched: uncompressed, and of a type that could show an echo.
fn is_text(headers: &HeaderMap) -> bool {
    let encoded = headers.get(header::CONTENT_ENCODING);
    if encoded.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return false;
    }
    let Some(kind) = headers.get(header::CONTENT_TYPE) else {
        return true;
    };
    let kind = kind
        .as_bytes()
        .split(|&b| b == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    let kind = kind.to_ascii_lowercase();
    let binary = [&b"image/"[..], b"audio/", b"video/", b"font/"];
    let opaque = [
        &b"application/octet-stream"[..],
        b"application/zip",
        b"application/pdf",
    ];
    // `image/svg+xml` is text, and so is whatever has no known binary type.
    kind.ends_with(b"+xml")
        || !(binary.iter().any(|b| kind.starts_with(b)) || opaque.contains(&&*kind))
}
