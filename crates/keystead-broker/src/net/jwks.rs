//! Fetching an issuer's keys over the guarded client.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, StatusCode, header};

use super::{Client, FetchLimits};
use crate::callers::{FetchFailed, JwksFetch, MAX_JWKS};

impl JwksFetch for Client {
    fn fetch<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Vec<u8>, FetchFailed>> {
        Box::pin(async move {
            let failed = |why: String| FetchFailed(why);
            let request = Request::get(url)
                .header(header::ACCEPT, "application/json")
                .header(header::USER_AGENT, "keystead")
                .body(Bytes::new())
                .map_err(|_| failed("the URL is malformed".to_owned()))?;
            let limits = FetchLimits {
                max_body: MAX_JWKS,
                ..FetchLimits::default()
            };
            let answer = Client::fetch(self, request, limits)
                .await
                .map_err(|fault| failed(fault.to_string()))?;
            if answer.status() != StatusCode::OK {
                return Err(failed(format!("the answer was {}", answer.status())));
            }
            Ok(answer.into_body().to_vec())
        })
    }
}
