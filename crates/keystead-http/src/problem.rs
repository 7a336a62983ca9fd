//! Faults on the wire: `application/problem+json` (RFC 9457), from one exhaustive table.
//!
//! What always holds: status, code and text come from the fault alone; what a fault says for the
//! log is never in the answer; all 401 answers are the same but for the request id. Beside the
//! proxy's problems stands what provider SDKs read: `error: {message, type, code}`, and the header
//! `Keystead-Error`, by which they can be told from the provider's own.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{
    CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, StatusCode};
use keystead_broker::Error;
use keystead_core::ids::RequestId;
use serde::Serialize;
use utoipa::ToSchema;

/// Set on the proxy's own errors, and on nothing that a provider answered.
pub(crate) const KEYSTEAD_ERROR: HeaderName = HeaderName::from_static("keystead-error");
/// Tells the SDKs of several providers whether to repeat by themselves.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Why a request was not served.
#[derive(Debug)]
pub(crate) enum Fault {
    /// A use case did not succeed.
    Broker(Error),
    /// The route exists, with other methods.
    Method,
    /// The body is not declared as JSON.
    MediaType,
    /// The body did not arrive in time.
    SlowBody,
    /// A form that no page of this session sent.
    Forged,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault::Broker(error)
    }
}

/// A handler's answer.
pub(crate) type Answer = Result<Response, Fault>;

/// Rides on an empty response until the face, which knows the request, writes the body.
#[derive(Clone)]
pub(crate) struct Failed(pub(crate) Arc<Fault>);

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = row(&self).status;
        response.extensions_mut().insert(Failed(Arc::new(self)));
        response
    }
}

/// One line of the table.
pub(crate) struct Row {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) detail: Cow<'static, str>,
    pub(crate) retry_after: Option<u64>,
}

/// The table.
pub(crate) fn row(fault: &Fault) -> Row {
    use StatusCode as S;
    let error = match fault {
        Fault::Broker(error) => error,
        Fault::Forged => {
            return Row::new(
                S::FORBIDDEN,
                "forged",
                "The form does not come from a page of this session: reload the page and send it again.",
            );
        }
        Fault::Method => {
            return Row::new(
                S::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "This route takes other methods: see the Allow header and /openapi.json.",
            );
        }
        Fault::MediaType => {
            return Row::new(
                S::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "Send the body as JSON, with the header Content-Type: application/json.",
            );
        }
        Fault::SlowBody => {
            return Row::new(
                S::REQUEST_TIMEOUT,
                "request_timeout",
                "The request's body did not arrive in time: repeat the request.",
            );
        }
    };
    match error {
        Error::Unauthenticated => Row::new(
            S::UNAUTHORIZED,
            "unauthenticated",
            "Send one valid token, as `Authorization: Bearer <token>`: sign in again, or check the key.",
        ),
        Error::Denied { action, message } => Row::new(
            S::FORBIDDEN,
            "denied",
            format!("Not allowed to {action} this: {message}."),
        ),
        Error::NotFound { what } => Row::new(
            S::NOT_FOUND,
            "not_found",
            format!(
                "There is no such {what}, or not for this caller: check the id or the type, and which tenant the token is for."
            ),
        ),
        Error::Conflict { code, message, .. } => Row::new(S::CONFLICT, code, message.clone()),
        Error::Precondition => Row::new(
            S::PRECONDITION_FAILED,
            "precondition_failed",
            "It was changed since it was read: read it again, and repeat the change with the new ETag.",
        ),
        Error::Malformed(reason) => Row::new(
            S::BAD_REQUEST,
            "malformed",
            format!("The request cannot be read: {reason}."),
        ),
        Error::Invalid(_) => Row::new(
            S::UNPROCESSABLE_ENTITY,
            "invalid",
            "Some fields are wrong: see `errors`, correct them and send the request again.",
        ),
        Error::TooLarge { most } => Row::new(
            S::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("At most {most} bytes are taken here: send less."),
        ),
        Error::Limited { retry_after } => Row::new(
            S::TOO_MANY_REQUESTS,
            "limited",
            format!("Too many requests: wait {retry_after} s, then repeat."),
        )
        .retry_after(*retry_after),
        Error::Unavailable { what, .. } => Row::new(
            S::SERVICE_UNAVAILABLE,
            "unavailable",
            format!("Keystead cannot do this now: {what} is not available. Repeat it in a moment."),
        )
        .retry_after(1),
        Error::Upstream { reason } => Row::new(
            S::BAD_GATEWAY,
            "upstream_unreachable",
            format!(
                "The provider could not be reached: {reason}. Check the integration's settings and the provider's status, then repeat."
            ),
        ),
        Error::UpstreamTimeout => Row::new(
            S::GATEWAY_TIMEOUT,
            "upstream_timeout",
            "The provider did not answer in time: repeat later, and see the provider's status page.",
        ),
        Error::Provider { code, message } => Row::new(S::BAD_GATEWAY, code, message.clone()),
        Error::Credential { reason } => Row::new(
            S::CONFLICT,
            "credential_unusable",
            format!(
                "The credential does not work for this call: {reason}. Put a new one into the integration."
            ),
        ),
        Error::Corrupt { .. } => Row::new(
            S::INTERNAL_SERVER_ERROR,
            "corrupt",
            "A stored value is damaged and was not used: tell the operator, with this request_id.",
        ),
        Error::Internal { .. } => Row::new(
            S::INTERNAL_SERVER_ERROR,
            "internal",
            "Something went wrong inside Keystead: tell the operator, with this request_id.",
        ),
    }
}

impl Row {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Row {
        Row {
            status,
            code,
            detail: detail.into(),
            retry_after: None,
        }
    }

    fn retry_after(mut self, seconds: u64) -> Row {
        self.retry_after = Some(seconds.max(1));
        self
    }
}

/// An error, as RFC 9457 has it.
#[derive(Serialize, ToSchema)]
pub(crate) struct Problem<'a> {
    /// Always `about:blank`: the title says what the status says, and `code` says more.
    #[serde(rename = "type")]
    type_: &'static str,
    /// The status in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What is wrong and what to do, for people.
    detail: &'a str,
    /// What is wrong, for programs.
    code: &'static str,
    /// The request, as logs and audit entries name it.
    #[schema(value_type = String)]
    request_id: RequestId,
    /// The fields that are wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldProblem<'a>>,
    /// The ids among which to choose, where one was asked for and there are several.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    among: &'a [String],
    /// The same once more in the form that provider SDKs read; on proxied requests only.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<SdkError<'a>>,
}

/// One wrong field.
#[derive(Serialize, ToSchema)]
pub(crate) struct FieldProblem<'a> {
    /// Where, as a dotted path from the body's root, or the query parameter's name.
    path: &'a str,
    /// What is wrong and what to do.
    message: &'a str,
}

/// What an SDK shows of an error.
#[derive(Serialize, ToSchema)]
pub(crate) struct SdkError<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    type_: &'static str,
    code: &'static str,
}

/// Writes the answer. Headers that stand on `headers` already (such as `Allow`) are kept.
pub(crate) fn write(
    fault: &Fault,
    request_id: RequestId,
    proxied: bool,
    mut headers: HeaderMap,
) -> Response {
    let row = row(fault);
    let (errors, among): (&[_], &[_]) = match fault {
        Fault::Broker(Error::Invalid(errors)) => (errors, &[]),
        Fault::Broker(Error::Conflict { among, .. }) => (&[], among),
        _ => (&[], &[]),
    };
    let problem = Problem {
        type_: "about:blank",
        title: row.status.canonical_reason().unwrap_or("Error"),
        status: row.status.as_u16(),
        detail: &row.detail,
        code: row.code,
        request_id,
        errors: errors
            .iter()
            .map(|fault| FieldProblem {
                path: &fault.path,
                message: &fault.message,
            })
            .collect(),
        among,
        error: proxied.then_some(SdkError {
            message: &row.detail,
            type_: "keystead_error",
            code: row.code,
        }),
    };
    // The router has counted the empty body that stood here.
    headers.remove(CONTENT_LENGTH);
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    if row.status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(seconds) = row.retry_after {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    if proxied {
        headers.insert(KEYSTEAD_ERROR, HeaderValue::from_static(row.code));
        let again = row.retry_after.is_some() || row.status.is_server_error();
        headers.insert(
            SHOULD_RETRY,
            HeaderValue::from_static(if again { "true" } else { "false" }),
        );
    }
    // A struct of plain fields cannot fail to serialise.
    let mut response = Response::new(Body::from(serde_json::to_vec(&problem).unwrap_or_default()));
    *response.status_mut() = row.status;
    *response.headers_mut() = headers;
    response
}

#[cfg(test)]
mod tests {
    use keystead_broker::FieldFault;
    use keystead_core::action::Action;

    use super::*;

    #[test]
    fn every_fault_has_its_status_and_code_and_no_context() {
        let cases: Vec<(Fault, u16, &str)> = vec![
            (Error::Unauthenticated.into(), 401, "unauthenticated"),
            (
                Error::Denied {
                    action: Action::Use,
                    message: "ask",
                }
                .into(),
                403,
                "denied",
            ),
            (
                Error::NotFound {
                    what: "integration",
                }
                .into(),
                404,
                "not_found",
            ),
            (
                Error::Conflict {
                    code: "name_taken",
                    message: "taken".into(),
                    among: vec!["int_1".into()],
                }
                .into(),
                409,
                "name_taken",
            ),
            (Error::Precondition.into(), 412, "precondition_failed"),
            (Error::Malformed("no".into()).into(), 400, "malformed"),
            (
                Error::Invalid(vec![FieldFault::new("name", "no")]).into(),
                422,
                "invalid",
            ),
            (Error::TooLarge { most: 1 }.into(), 413, "too_large"),
            (Error::Limited { retry_after: 0 }.into(), 429, "limited"),
            (
                Error::Unavailable {
                    what: "store",
                    context: "canary".into(),
                }
                .into(),
                503,
                "unavailable",
            ),
            (
                Error::Upstream {
                    reason: "refused".into(),
                }
                .into(),
                502,
                "upstream_unreachable",
            ),
            (Error::UpstreamTimeout.into(), 504, "upstream_timeout"),
            (
                Error::Provider {
                    code: "provider_busy",
                    message: "begin again later".into(),
                }
                .into(),
                502,
                "provider_busy",
            ),
            (
                Error::Credential {
                    reason: "empty".into(),
                }
                .into(),
                409,
                "credential_unusable",
            ),
            (
                Error::Corrupt {
                    record: "canary".into(),
                }
                .into(),
                500,
                "corrupt",
            ),
            (Error::internal("canary").into(), 500, "internal"),
            (Fault::Method, 405, "method_not_allowed"),
            (Fault::MediaType, 415, "unsupported_media_type"),
            (Fault::SlowBody, 408, "request_timeout"),
        ];
        for (fault, status, code) in cases {
            let row = row(&fault);
            assert_eq!((row.status.as_u16(), row.code), (status, code));
            assert!(!row.detail.contains("canary"), "{}", row.detail);
            assert!(
                row.detail.len() > 3 && status != 429 && status != 503
                    || row.retry_after.is_some_and(|after| after > 0),
                "{code}"
            );
            let request = RequestId::from_uuid(Default::default());
            let answer = write(&fault, request, true, HeaderMap::new());
            assert_eq!(answer.headers()[KEYSTEAD_ERROR], code);
            let again = [429, 500, 502, 503, 504].contains(&status);
            assert_eq!(answer.headers()[SHOULD_RETRY] == "true", again, "{code}");
            assert_eq!(
                answer.headers().contains_key(WWW_AUTHENTICATE),
                status == 401
            );
            assert_eq!(
                answer.headers().contains_key(RETRY_AFTER),
                status == 429 || status == 503
            );
            assert!(
                !write(&fault, request, false, HeaderMap::new())
                    .headers()
                    .contains_key(KEYSTEAD_ERROR)
            );
        }
    }
}
