//! Requests that Keystead itself makes to providers, as they are sent.

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use keystead_core::provider::ProviderRequest;

use crate::error::Error;

/// The request. Its body, which may hold a secret, is not copied, and is wiped when it was sent.
pub(crate) fn request(ask: ProviderRequest) -> Result<Request<Bytes>, Error> {
    let dial = &ask.destination.dial;
    let uri = format!("{}://{}{}", dial.scheme(), dial.authority(), ask.path);
    let mut request = Request::builder()
        .method(ask.method)
        .uri(uri)
        .body(Bytes::from_owner(ask.body))
        .map_err(|_| Error::Credential {
            reason: "the endpoint cannot be named with this credential".into(),
        })?;
    *request.headers_mut() = ask.headers;
    let host = HeaderValue::from_str(&ask.destination.host_header)
        .map_err(|_| Error::internal("a host that is no header value"))?;
    request.headers_mut().insert(header::HOST, host);
    Ok(request)
}
