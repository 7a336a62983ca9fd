//! Why a request to the outside failed.
//!
//! What always holds here: the text can be shown to a caller. It names the fault and never holds a
//! header, a query, a body, or what the other side said, but for the names on a certificate.

use std::error::Error;
use std::io;

use http::StatusCode;
use keystead_core::egress::Refusal;
use keystead_core::path::PathFault;

/// What was waited for when the time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// The caller's request body.
    Caller,
    /// A connection: name, TCP and TLS together.
    Connect,
    /// The head of the response.
    Head,
    /// The whole answer of a call of Keystead's own.
    Whole,
}

/// Why there is no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetError {
    /// The guard does not permit the address. Any refused address refuses the whole name.
    #[error("the upstream's address is refused: {0}")]
    Address(Refusal),
    /// The caller's body broke off.
    #[error("the request body ended early")]
    Caller,
    /// The upstream closed the connection or broke the protocol before a response was complete.
    #[error("the upstream closed the connection without a complete answer")]
    Closed,
    /// No connection.
    #[error("the upstream cannot be reached: {0}")]
    Connect(io::ErrorKind),
    /// The right to this call was taken back while it ran.
    #[error("the access was revoked while the call ran")]
    Cut,
    /// A method or an upgrade which Keystead does not carry.
    #[error("{0}")]
    Method(&'static str),
    /// The path is ambiguous.
    #[error("{0}")]
    Path(#[from] PathFault),
    /// The request body is longer than the limit.
    #[error("the request body is too large")]
    RequestTooLarge,
    /// The name does not resolve.
    #[error("the upstream's name does not resolve")]
    Resolve,
    /// The answer to a call of Keystead's own is longer than its cap.
    #[error("the upstream's answer is too large")]
    ResponseTooLarge,
    /// No trust in the other side's certificate, or no common protocol.
    #[error("no secure connection to the upstream: {0}")]
    Tls(String),
    /// Too late.
    #[error("{}", match .0 {
        Waited::Caller => "the request body did not arrive in time",
        Waited::Connect => "the upstream cannot be reached in time",
        Waited::Head => "the upstream did not answer in time",
        Waited::Whole => "the upstream did not finish its answer in time",
    })]
    Timeout(Waited),
    /// The request cannot be written down (a header or a path that is none).
    #[error("the request is malformed")]
    Malformed,
}

impl NetError {
    /// The status that tells a caller of the proxy whose fault it was.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Caller | Self::Malformed | Self::Path(_) => StatusCode::BAD_REQUEST,
            Self::Cut => StatusCode::FORBIDDEN,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Timeout(Waited::Caller) => StatusCode::REQUEST_TIMEOUT,
            Self::Timeout(Waited::Head | Waited::Whole) => StatusCode::GATEWAY_TIMEOUT,
            Self::Address(_)
            | Self::Closed
            | Self::Connect(_)
            | Self::Resolve
            | Self::ResponseTooLarge
            | Self::Timeout(Waited::Connect)
            | Self::Tls(_) => StatusCode::BAD_GATEWAY,
        }
    }

    /// Finds what the dialler said in an error of the pooled client.
    pub(super) fn from_client(error: &(dyn Error + 'static)) -> Self {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(known) = error.downcast_ref::<Self>() {
                return known.clone();
            }
            cause = error.source();
        }
        Self::Closed
    }

    /// What the TLS layer said: rustls's own words name certificates and alerts, nothing of ours.
    pub(super) fn from_dial(error: &(dyn Error + 'static)) -> Self {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(known) = error.downcast_ref::<Self>() {
                return known.clone();
            }
            if let Some(tls) = error.downcast_ref::<rustls::Error>() {
                return Self::Tls(tls.to_string());
            }
            if let Some(io) = error.downcast_ref::<io::Error>() {
                // `io::Error::source` skips the error that it wraps.
                match io.get_ref() {
                    Some(inner) => {
                        cause = Some(inner);
                        continue;
                    }
                    None => return Self::Connect(io.kind()),
                }
            }
            cause = error.source();
        }
        Self::Connect(io::ErrorKind::Other)
    }
}
