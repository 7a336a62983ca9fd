//! What came of a consent, to the person that a provider sends back.
//!
//! What always holds: nothing of the provider's own words, and nothing of what it sent, is shown.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use keystead_broker::{Completed, ConnectPage, Error, Incomplete};

use super::oops::{Message, Told, oops, words};
use super::page::on_to;
use super::texts::fill;
use super::visit::{TOP, Visit};
use crate::problem::{self, Fault};

/// The page of an account that is connected.
pub(crate) fn connected(visit: &mut Visit, completed: &Completed) -> Result<Response, Fault> {
    if completed.page == Some(ConnectPage::Top) {
        // A page of ours in between: the session's cookie does not come along from another site.
        return on_to(&format!("{TOP}/return?did=connected"));
    }
    visit.page.here.clear();
    let page = &visit.page;
    let t = page.t();
    let text = fill(
        t.consent_done_text,
        &[("name", &completed.integration.name)],
    );
    let message = Message {
        page,
        title: t.consent_done,
        text: &text,
        way: None,
        detail: None,
        request: None,
        at_once: false,
    };
    page.show(StatusCode::OK, &message)
}

/// The page of one that is not.
pub(crate) fn not_connected(visit: &mut Visit, incomplete: Incomplete) -> Result<Response, Fault> {
    visit.page.here.clear();
    let page = &visit.page;
    let t = page.t();
    let request = visit.arrival.request;
    let fault = Fault::from(incomplete.error);
    let own;
    let (text, detail) = match &fault {
        Fault::Broker(Error::NotFound { .. }) => return Ok(oops(page, fault, request)),
        Fault::Broker(Error::Conflict { code, message, .. }) => match *code {
            "authorization_unknown" => (t.consent_unknown, None),
            // With the code, for whoever runs this.
            "authorization_refused" => (t.consent_refused, Some(sentence(message))),
            _ => (t.consent_other, Some(sentence(message))),
        },
        Fault::Broker(Error::Malformed(_) | Error::Provider { .. }) => (t.consent_other, None),
        other => {
            own = words(t, other);
            (own.as_str(), None)
        }
    };
    let row = problem::row(&fault);
    let back = format!("{TOP}/return");
    let way = (incomplete.page == Some(ConnectPage::Top)).then_some((back.as_str(), t.back));
    let message = Message {
        page,
        title: t.consent_failed,
        text,
        way,
        detail,
        request: row.status.is_server_error().then(|| request.to_string()),
        at_once: false,
    };
    let mut answer = page.show(row.status, &message)?;
    answer.extensions_mut().insert(Told(Arc::new(fault)));
    Ok(answer)
}

/// With a capital, and a full stop.
fn sentence(text: &str) -> String {
    let mut rest = text.chars();
    let first = rest.next().map(|first| first.to_uppercase().to_string());
    let end = if text.ends_with('.') { "" } else { "." };
    format!("{}{}{end}", first.unwrap_or_default(), rest.as_str())
}

#[cfg(test)]
mod tests {
    use super::sentence;

    #[test]
    fn a_detail_is_a_sentence() {
        assert_eq!(sentence("begin again"), "Begin again.");
        assert_eq!(sentence("Begin again."), "Begin again.");
    }
}
