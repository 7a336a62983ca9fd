//! The API's handlers, one file a resource. A handler reads the request, calls one use case, and
//! writes the answer; its name is the operation's id.

pub(crate) mod audit;
pub(crate) mod connect;
pub(crate) mod integrations;
pub(crate) mod keys;
pub(crate) mod members;
pub(crate) mod oauth;
pub(crate) mod providers;
pub(crate) mod resources;
pub(crate) mod revocations;
pub(crate) mod rotation;
pub(crate) mod system;
pub(crate) mod tenants;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{HeaderName, HeaderValue, LOCATION};
use keystead_broker::Error;
use serde::Serialize;

use crate::call::{Call, DOOR};
use crate::problem::{Answer, Fault};

/// 200 with JSON.
fn ok(body: impl Serialize) -> Response {
    Json(body).into_response()
}

/// 201 with JSON and where it is.
fn created(location: String, body: impl Serialize) -> Response {
    with(
        (StatusCode::CREATED, Json(body)).into_response(),
        LOCATION,
        &location,
    )
}

/// 204.
fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// The answer with a header more.
fn with(mut answer: Response, name: HeaderName, value: &str) -> Response {
    // Values are ids and revisions of ours, which are header text.
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
    answer
}

/// A route that there is not.
pub(crate) async fn no_route(mut call: Call) -> Fault {
    let target = call.path().to_owned();
    let fault = Error::NotFound { what: "route" }.into();
    call.refuse(DOOR, Some(&target), fault).await
}

/// A route that there is with other methods.
pub(crate) async fn no_method(mut call: Call) -> Answer {
    let target = call.path().to_owned();
    Err(call.refuse(DOOR, Some(&target), Fault::Method).await)
}

/// Outside `/api` there is nobody to ask who they are.
pub(crate) async fn outside() -> Fault {
    Error::NotFound { what: "page" }.into()
}
