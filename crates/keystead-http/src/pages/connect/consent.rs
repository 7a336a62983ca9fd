//! Through the provider's own page: there by a form and a page that goes on, and back by
//! `/oauth/callback`.
//!
//! What always holds: the browser is bound to what it began by a cookie of its own, as everywhere;
//! a framed page does not leave its frame, since providers refuse to be framed: it makes a link for
//! a tab of its own, which says for whom it is before it goes on.

use askama::Template;
use axum::response::Response;
use http::StatusCode;
use keystead_broker::{Begin, ConnectSession, Error, NewIntegration, Way};
use keystead_core::ids::IntegrationId;
use keystead_core::provider::Provider;
use serde_json::Map;

use super::add::{Again, once, show};
use super::fields::{entered_config, entered_credential};
use super::{link_url, provider_of};
use crate::pages::oops::Message;
use crate::pages::page::Page;
use crate::pages::texts::fill;
use crate::pages::visit::{FRAMED, Visit};
use crate::problem::Fault;
use crate::routes::oauth::{bind, binding};

#[derive(Template)]
#[template(path = "connect/tab.html")]
struct Tab<'a> {
    page: &'a Page,
    text: String,
    url: String,
    go: String,
}

/// A new integration, by consent.
pub(super) async fn authorise(mut visit: Visit) -> Result<Response, Fault> {
    let (session, form) = visit.session_form().await?;
    let provider = provider_of(&visit, &session, &visit.after("/authorise/")).await?;
    let mode = provider.oauth_mode();
    let mode = mode.ok_or(Error::NotFound { what: "mode" })?;
    let name = form.text("name").trim().to_owned();
    let config = entered_config(&provider, &form);
    let broker = visit.shared.broker.clone();
    let given = entered_credential(mode, &form).ok().flatten();
    let begun = match given {
        // An app of one's own is kept with the integration, so that comes first.
        Some(credentials) => {
            let new = NewIntegration {
                name,
                type_: provider.id.clone(),
                credentials,
                config,
            };
            let key = Some(once(&form)?);
            match broker.create_integration(&session.ctx, new, key).await {
                Ok(made) => {
                    let id = Some(made.integration.id);
                    begin(&visit, &session, &provider, id, None, Map::new()).await
                }
                Err(fault) => Err(fault.into()),
            }
        }
        None => begin(&visit, &session, &provider, None, Some(name), config).await,
    };
    match begun {
        Err(Fault::Broker(fault @ (Error::Invalid(_) | Error::Conflict { .. }))) => {
            let again = match fault {
                // The form says what is missing.
                Error::Conflict {
                    code: "oauth_app_missing",
                    ..
                } => Again::of(&form, Vec::new()),
                fault => Again::after(&form, fault)?,
            };
            show(&mut visit, &provider, mode, None, Some(again))
        }
        begun => begun,
    }
}

/// Consent anew, for one that is there.
pub(super) async fn reconnect(mut visit: Visit) -> Result<Response, Fault> {
    let (session, _) = visit.session_form().await?;
    let id: Result<IntegrationId, _> = visit.after("/at/").parse();
    let id = id.map_err(|_| Error::NotFound {
        what: "integration",
    })?;
    let integration = visit.shared.broker.integration(&session.ctx, id).await?;
    let provider = provider_of(&visit, &session, &integration.type_).await?;
    begin(&visit, &session, &provider, Some(id), None, Map::new()).await
}

async fn begin(
    visit: &Visit,
    session: &ConnectSession,
    provider: &Provider,
    integration: Option<IntegrationId>,
    name: Option<String>,
    config: Map<String, serde_json::Value>,
) -> Result<Response, Fault> {
    let (shared, page) = (&visit.shared, &visit.page);
    if page.base == FRAMED {
        let made = shared
            .broker
            .create_connect_tab(session, &provider.id, integration)
            .await?;
        let called = [("provider", provider.name.as_str())];
        let t = page.t();
        let tab = Tab {
            page,
            text: fill(t.tab_text, &called),
            url: link_url(shared, &made).ok_or_else(|| Error::internal("no public URL"))?,
            go: fill(t.tab_go, &called),
        };
        return page.show(StatusCode::OK, &tab);
    }
    let secret = binding(shared, visit.headers())?;
    let begin = Begin {
        type_: provider.id.clone(),
        integration,
        name,
        config,
        session: Some(session.id),
    };
    let way = Way::Browser(secret.clone());
    let started = shared
        .broker
        .begin_authorization(&session.ctx, begin, way)
        .await?;
    // A page in between: a form that led there itself would have to be allowed to lead anywhere, as
    // through which hosts a provider sends people to sign in is its to say.
    let page = &Page {
        here: String::new(),
        ..page.clone()
    };
    let t = page.t();
    let called = [("provider", provider.name.as_str())];
    let go = fill(t.add_oauth_button, &called);
    let message = Message {
        page,
        title: t.return_title,
        text: &fill(t.away_text, &called),
        way: Some((started.url.as_str(), go.as_str())),
        detail: None,
        request: None,
        at_once: true,
    };
    Ok(bind(shared, page.show(StatusCode::OK, &message)?, &secret))
}
