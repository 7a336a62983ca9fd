//! Requests that Keystead itself makes to providers, as they are sent.

use std::mem;

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use keystead_core::provider::ProviderRequest;

use crate::error::Error;

/// The request. Its headers and its body, which may hold a secret, are taken and not copied; the
/// body is wiped when it was sent.
pub(crate) fn request(ask: &mut ProviderRequest) -> Result<Request<Bytes>, Error> {
    let dial = &ask.destination.dial;
    let uri = format!("{}://{}{}", dial.scheme(), dial.authority(), ask.path);
    let mut request = Request::builder()
        .method(ask.method.clone())
        .uri(uri)
        .body(Bytes::from_owner(mem::take(&mut ask.body)))
        .map_err(|_| Error::Credential {
            reason: "the endpoint cannot be named with this credential".into(),
        })?;
    *request.headers_mut() = mem::take(&mut ask.headers);
    let host = HeaderValue::from_str(&ask.destination.host_header)
        .map_err(|_| Error::internal("a host that is no header value"))?;
    request.headers_mut().insert(header::HOST, host);
    Ok(request)
}
