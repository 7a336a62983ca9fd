//! A fault as a page: what happened and what to do, in the reader's words. What it says for the
//! log goes there, and nothing of it here.

use std::sync::Arc;

use askama::Template;
use axum::response::{IntoResponse, Response};
use keystead_broker::Error;
use keystead_core::ids::RequestId;

use super::page::Page;
use super::texts::{Texts, fill};
use crate::call::MAX_BODY;
use crate::problem::{self, Fault};

/// Rides on a page about a fault, so that the face logs it.
#[derive(Clone)]
pub(crate) struct Told(pub(crate) Arc<Fault>);

/// A page of a few words and one way on.
#[derive(Template)]
#[template(path = "message.html")]
pub(super) struct Message<'a> {
    pub(super) page: &'a Page,
    pub(super) title: &'a str,
    pub(super) text: &'a str,
    /// Where to, and what it says.
    pub(super) way: Option<(&'a str, &'a str)>,
    /// More of it, in English.
    pub(super) detail: Option<String>,
    /// The request's number, where somebody may have to find it.
    pub(super) request: Option<String>,
    /// Whether the browser goes the way by itself.
    pub(super) at_once: bool,
}

/// The page about a fault.
pub(super) fn oops(page: &Page, fault: Fault, request: RequestId) -> Response {
    let t = page.t();
    let row = problem::row(&fault);
    let home = page.base;
    let gone = matches!(
        &fault,
        Fault::Broker(Error::NotFound {
            what: "connect session"
        })
    );
    let text = words(t, &fault);
    let message = if gone {
        Message {
            page,
            title: t.gone_title,
            text: t.gone_text,
            way: None,
            detail: None,
            request: None,
            at_once: false,
        }
    } else {
        Message {
            page,
            title: t.oops_title,
            text: &text,
            way: Some((home, t.back)),
            detail: None,
            request: row.status.is_server_error().then(|| request.to_string()),
            at_once: false,
        }
    };
    match page.show(row.status, &message) {
        Ok(mut answer) => {
            answer.extensions_mut().insert(Told(Arc::new(fault)));
            answer
        }
        Err(worse) => worse.into_response(),
    }
}

/// What to say of a fault.
pub(super) fn words(t: &Texts, fault: &Fault) -> String {
    let error = match fault {
        Fault::Method => return t.oops_method.to_owned(),
        Fault::MediaType | Fault::Forged => return t.oops_forged.to_owned(),
        Fault::SlowBody => return t.oops_slow.to_owned(),
        Fault::Broker(error) => error,
    };
    match error {
        Error::NotFound { .. } => t.oops_not_found.to_owned(),
        Error::Denied { .. } | Error::Unauthenticated => t.oops_denied.to_owned(),
        Error::Conflict { .. } | Error::Precondition => t.oops_clash.to_owned(),
        Error::Malformed(_) | Error::Invalid(_) => t.oops_forged.to_owned(),
        Error::TooLarge { most } => {
            let kib = (*most).min(MAX_BODY as u64) / 1024;
            fill(t.oops_too_large, &[("kib", &kib.to_string())])
        }
        Error::Limited { retry_after } => {
            fill(t.oops_limited, &[("seconds", &retry_after.to_string())])
        }
        Error::Unavailable { .. } => t.oops_unavailable.to_owned(),
        Error::Upstream { .. }
        | Error::UpstreamTimeout
        | Error::Provider { .. }
        | Error::Credential { .. } => t.oops_provider.to_owned(),
        Error::Corrupt { .. } | Error::Internal { .. } => t.oops_other.to_owned(),
    }
}
