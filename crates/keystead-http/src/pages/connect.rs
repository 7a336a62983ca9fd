//! The connect page: what a person does with their integrations by a link of half an hour.
//!
//! ```text
//! /connect/start/{secret}   the link: says for whom, and is claimed by a press of its button
//! /connect                  all of them, and what can be added
//! /connect/add/{provider}   the provider's own form
//! /connect/at/{id}…         one of them: test, rename, replace, disable, remove
//! ```
//!
//! What always holds: looking changes nothing; what changes something is a form, and ends on
//! another page; in a frame of the product the same pages are under `/embed`.

mod add;
mod consent;
mod fields;
mod home;
mod one;
mod say;

use axum::Router;
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, get, on};
use http::StatusCode;
use keystead_broker::{ConnectLink, ConnectSession, Context, Error, MadeConnectSession};
use keystead_core::action::TargetKind;
use keystead_core::provider::Provider;
use std::sync::Arc;
use tower::util::MapResponseLayer;

use super::oops::Message;
use super::page::on_to;
use super::texts::fill;
use super::visit::{FRAMED, TOP, Visit, keep, session_cookie, start_cookie};
use crate::face::{Route, Shared};
use crate::problem::Fault;

/// So long the page of a link is good for a press of its button.
const START_SECONDS: u32 = 30 * 60;

/// The link to a session that was made.
pub(crate) fn link_url(shared: &Shared, made: &MadeConnectSession) -> Option<String> {
    let origin = shared.broker.connect_settings().origin()?;
    let base = if made.embed { FRAMED } else { TOP };
    Some(format!("{origin}{base}/start/{}", made.secret()))
}

/// The routes, of pages by themselves and of framed ones.
pub(super) fn router() -> Router<Shared> {
    let mut router = Router::new();
    for (path, method) in routes() {
        let named = MapResponseLayer::new(move |mut answer: Response| {
            answer.extensions_mut().insert(Route(path));
            answer
        });
        let method = method.layer(named);
        let framed = path.replacen(TOP, FRAMED, 1);
        router = router.route(&framed, method.clone()).route(path, method);
    }
    router
}

fn routes() -> [(&'static str, MethodRouter<Shared>); 16] {
    [
        ("/connect", show(home::home)),
        ("/connect/start/{secret}", form(start, claim)),
        ("/connect/return", show(come_back)),
        ("/connect/close", form(home, close)),
        ("/connect/add/{provider}", form(add::ask, add::save)),
        (
            "/connect/authorise/{provider}",
            form(home, consent::authorise),
        ),
        ("/connect/at/{id}", show(one::one)),
        (
            "/connect/at/{id}/reconnect",
            form(one::back, consent::reconnect),
        ),
        (
            "/connect/at/{id}/replace",
            form(add::ask_again, add::replace),
        ),
        ("/connect/at/{id}/test", form(one::back, one::test)),
        ("/connect/at/{id}/rename", form(one::back, one::rename)),
        ("/connect/at/{id}/disable", form(one::back, one::disable)),
        ("/connect/at/{id}/enable", form(one::back, one::enable)),
        (
            "/connect/at/{id}/remove",
            form(one::ask_remove, one::remove),
        ),
        ("/connect/{*rest}", show(nowhere)),
        ("/connect/", show(home)),
    ]
}

fn show<F, R>(handler: F) -> MethodRouter<Shared>
where
    F: FnOnce(Visit) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<Response, Fault>> + Send,
{
    get(move |visit: Visit| visit.serve(handler))
}

/// A page, and the form on it.
fn form<F, R, G, S>(page: F, act: G) -> MethodRouter<Shared>
where
    F: FnOnce(Visit) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<Response, Fault>> + Send,
    G: FnOnce(Visit) -> S + Clone + Send + Sync + 'static,
    S: Future<Output = Result<Response, Fault>> + Send,
{
    let act = on(MethodFilter::POST, move |visit: Visit| visit.serve(act));
    show(page).merge(act)
}

/// What the link of the path leads to, if it belongs in this place.
async fn link(visit: &mut Visit) -> Result<(String, ConnectLink), Fault> {
    let secret = visit.after("/start/");
    let (broker, arrival) = (&visit.shared.broker, visit.arrival);
    let link = broker
        .find_connect_link(arrival.request, Some(arrival.address), &secret)
        .await?;
    if link.embed != (visit.page.base == FRAMED) {
        return Err(Error::NotFound {
            what: "connect session",
        }
        .into());
    }
    visit.page.tenant = Some(link.tenant_name.clone());
    Ok((secret, link))
}

/// The link. Looking at it changes nothing: previews and scanners look too.
async fn start(mut visit: Visit) -> Result<Response, Fault> {
    let (secret, link) = link(&mut visit).await?;
    if link.claimed {
        return used(&visit, StatusCode::OK);
    }
    let cookie = start_cookie(&visit.shared, visit.page.base);
    let browser = cookie.known_or_new(visit.headers())?;
    let broker = &visit.shared.broker;
    visit.page.csrf = broker.connect_start_token(&secret, &browser);
    let t = visit.page.t();
    let tenant = [("tenant", link.tenant_name.as_str())];
    let go_on = match &link.user {
        Some(user) => fill(t.start_as, &[("user", user.as_str()), tenant[0]]),
        None => fill(t.start_for, &tenant),
    };
    let lead = fill(t.start_lead, &tenant);
    let until = say::clock_time(link.expires_at);
    let once = fill(t.start_once, &[("time", &until)]);
    let page = &visit.page;
    let body = home::Start {
        page,
        go_on: &go_on,
        lead: &lead,
        once: &once,
    };
    let mut answer = page.show(StatusCode::OK, &body)?;
    keep(&mut answer, cookie, &browser, START_SECONDS);
    Ok(answer)
}

/// A link that a browser has already, this one or another.
fn used(visit: &Visit, status: StatusCode) -> Result<Response, Fault> {
    let page = &visit.page;
    let t = page.t();
    let message = Message {
        page,
        title: t.used_title,
        text: t.used_text,
        way: Some((page.base, t.used_go_on)),
        detail: None,
        request: None,
        at_once: false,
    };
    page.show(status, &message)
}

/// The first browser that presses the button has the session from then on; it was shown the page.
async fn claim(mut visit: Visit) -> Result<Response, Fault> {
    let (broker, arrival) = (visit.shared.broker.clone(), visit.arrival);
    let (secret, link) = link(&mut visit).await?;
    if !link.claimed {
        let browser = start_cookie(&visit.shared, visit.page.base).read(visit.headers());
        let browser = browser.unwrap_or_default();
        let token = broker.connect_start_token(&secret, &browser);
        if let Err(fault) = visit.form(&token).await {
            let ctx = Context::anonymous(arrival.request, Some(arrival.address));
            let error = Error::Malformed("forged".into());
            let refused = broker.refuse_nobody(&ctx, TargetKind::Request, error);
            return Err(match refused.await {
                Error::Malformed(_) => fault,
                worse => worse.into(),
            });
        }
    }
    let claimed = broker
        .claim_connect_session(arrival.request, Some(arrival.address), &secret)
        .await;
    let claimed = match claimed {
        Err(Error::Conflict { .. }) => return used(&visit, StatusCode::CONFLICT),
        claimed => claimed?,
    };
    let base = visit.page.base;
    let mut answer = on_to(base)?;
    let cookie = session_cookie(&visit.shared, base);
    let seconds = u32::try_from(claimed.seconds).unwrap_or(0);
    keep(&mut answer, cookie, claimed.secret(), seconds);
    Ok(answer)
}

/// From a provider's site a browser brings no strict cookie; from this page it does.
async fn come_back(visit: Visit) -> Result<Response, Fault> {
    let page = &visit.page;
    let t = page.t();
    let connected = format!("{}?did=connected", page.base);
    let to = match home::notice(&visit) {
        Some(_) => connected.as_str(),
        None => page.base,
    };
    let message = Message {
        page,
        title: t.return_title,
        text: t.return_text,
        way: Some((to, t.return_go)),
        detail: None,
        request: None,
        at_once: true,
    };
    page.show(StatusCode::OK, &message)
}

/// Ends the session.
async fn close(mut visit: Visit) -> Result<Response, Fault> {
    let (session, _) = visit.session_form().await?;
    visit.shared.broker.close_connect_session(&session).await?;
    let page = &visit.page;
    let t = page.t();
    let back = session.return_url.as_deref();
    let words = back.map(|url| fill(t.bye_back, &[("host", &say::host_of(url))]));
    let message = Message {
        page,
        title: t.bye_title,
        text: t.bye_text,
        way: back.zip(words.as_deref()),
        detail: None,
        request: None,
        at_once: false,
    };
    let mut answer = page.show(StatusCode::OK, &message)?;
    let cookie = session_cookie(&visit.shared, page.base);
    keep(&mut answer, cookie, "", 0);
    Ok(answer)
}

/// What is only sent, asked for again: back to where it was sent from.
async fn home(visit: Visit) -> Result<Response, Fault> {
    on_to(visit.page.base)
}

async fn nowhere(_: Visit) -> Result<Response, Fault> {
    Err(Error::NotFound { what: "page" }.into())
}

/// A provider that the session is for.
async fn provider_of(
    visit: &Visit,
    session: &ConnectSession,
    id: &str,
) -> Result<Arc<Provider>, Fault> {
    if !session.providers.covers(Some(&id.to_owned())) {
        return Err(Error::NotFound { what: "provider" }.into());
    }
    Ok(visit.shared.broker.find_provider(&session.ctx, id).await?)
}
