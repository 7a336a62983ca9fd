//! One integration: what is known of it, and what can be done with it.

use std::time::Duration;

use askama::Template;
use axum::response::Response;
use http::StatusCode;
use keystead_broker::{Broker, Changes, ConnectSession, Error, Integration, Status};
use keystead_core::action::Role;
use keystead_core::ids::IntegrationId;
use keystead_core::provider::Provider;

use super::add::{add_odd, offers_key};
use super::fields::fault_text;
use super::home::notice;
use super::say::{Card, Said, class_named, date_time, of_class};
use crate::pages::page::{Page, on_to};
use crate::pages::texts::fill;
use crate::pages::visit::Visit;
use crate::problem::Fault;

#[derive(Template)]
#[template(path = "connect/one.html")]
struct One<'a> {
    page: &'a Page,
    card: Card,
    notices: Vec<String>,
    hint: Option<String>,
    made: String,
    verified: Option<String>,
    used: Option<String>,
    may_test: bool,
    may_put: bool,
    may_replace: bool,
    may_reconnect: bool,
    disabled: bool,
    verifying: bool,
    /// The new name that was not taken, and why.
    rename: Option<(String, Said)>,
    /// Whether this is the only one that the session is for.
    alone: bool,
}

#[derive(Template)]
#[template(path = "connect/remove.html")]
struct Remove<'a> {
    page: &'a Page,
    card: Card,
    title: String,
    /// What is said of taking the grant back too, where that can be done from here.
    revoke: Option<[String; 2]>,
    /// The page where a person can do it, and what is said of it.
    by_hand: Option<(String, String)>,
}

/// The integration that the path names.
fn id(visit: &Visit) -> Result<IntegrationId, Fault> {
    let id = visit.after("/at/").parse();
    id.map_err(|_| {
        Error::NotFound {
            what: "integration",
        }
        .into()
    })
}

/// Its page.
fn url(visit: &Visit, id: IntegrationId, did: &str) -> String {
    let base = visit.page.base;
    if did.is_empty() {
        format!("{base}/at/{id}")
    } else {
        format!("{base}/at/{id}?did={did}")
    }
}

async fn provider(
    visit: &Visit,
    session: &ConnectSession,
    type_: &str,
) -> Option<std::sync::Arc<Provider>> {
    // One that is not in the catalogue any more is shown by its id.
    let broker = &visit.shared.broker;
    broker.find_provider(&session.ctx, type_).await.ok()
}

/// The page of one integration.
pub(super) async fn one(mut visit: Visit) -> Result<Response, Fault> {
    let session = visit.session().await?;
    let id = id(&visit)?;
    let broker = visit.shared.broker.clone();
    let integration = broker.integration(&session.ctx, id).await?;
    show(&mut visit, &session, &integration, StatusCode::OK, None).await
}

async fn show(
    visit: &mut Visit,
    session: &ConnectSession,
    integration: &Integration,
    status: StatusCode,
    rename: Option<(String, Said)>,
) -> Result<Response, Fault> {
    let provider = provider(visit, session, &integration.type_).await;
    let provider = provider.as_deref();
    let page = &visit.page;
    let t = page.t();
    let card = Card::of(integration, provider, page.language);
    let mut notices: Vec<String> = notice(visit).map(str::to_owned).into_iter().collect();
    if let Some(class) = visit.query("tested").and_then(|word| class_named(&word)) {
        let came = fill(of_class(t, class), &[("provider", &card.provider)]);
        notices.push(format!("{} {came}", t.tested));
    }
    if let Some(provider) = provider {
        add_odd(visit, provider, &mut notices);
    }
    let body = One {
        page,
        notices,
        hint: integration
            .hint
            .as_ref()
            .map(|hint| fill(t.one_key_hint, &[("hint", hint)])),
        made: date_time(integration.created_at),
        verified: integration.last_verified_at.map(date_time),
        used: integration.last_used_at.map(date_time),
        may_test: session.role >= Role::Member,
        may_put: session.role >= Role::Admin,
        // What was granted has no hint, as nobody entered it.
        may_reconnect: provider.is_some_and(|one| one.oauth_mode().is_some())
            && integration.hint.is_none(),
        may_replace: provider.is_some_and(offers_key),
        disabled: integration.status == Status::Disabled,
        verifying: integration.status == Status::Verifying,
        rename,
        alone: session.integration.is_some(),
        card,
    };
    page.show(status, &body)
}

/// What is only sent, asked for again.
pub(super) async fn back(visit: Visit) -> Result<Response, Fault> {
    let id = id(&visit)?;
    on_to(&url(&visit, id, ""))
}

/// Tries it at the provider.
pub(super) async fn test(mut visit: Visit) -> Result<Response, Fault> {
    let (session, _) = visit.session_form().await?;
    let id = id(&visit)?;
    let broker = &visit.shared.broker;
    let report = broker.test_integration(&session.ctx, id).await?;
    on_to(&format!(
        "{}?tested={}",
        url(&visit, id, ""),
        report.result.as_str()
    ))
}

/// Another name.
pub(super) async fn rename(mut visit: Visit) -> Result<Response, Fault> {
    let (session, form) = visit.session_form().await?;
    let id = id(&visit)?;
    let broker = visit.shared.broker.clone();
    let name = form.text("name").trim().to_owned();
    let changes = Changes {
        name: Some(name.clone()),
        ..Changes::default()
    };
    let changed = broker
        .update_integration(&session.ctx, id, changes, None)
        .await;
    let language = visit.page.language;
    let (status, fault) = match changed {
        Ok(_) => return on_to(&url(&visit, id, "renamed")),
        Err(Error::Invalid(faults)) => {
            let message = faults.first().map_or("", |fault| fault.message.as_str());
            (
                StatusCode::UNPROCESSABLE_ENTITY,
                fault_text(language, "name", message),
            )
        }
        Err(Error::Conflict {
            code: "duplicate_name",
            ..
        }) => (
            StatusCode::CONFLICT,
            Said::own(language.texts.fault_duplicate),
        ),
        Err(fault) => return Err(fault.into()),
    };
    let integration = broker.integration(&session.ctx, id).await?;
    visit.page.here = url(&visit, id, "");
    show(
        &mut visit,
        &session,
        &integration,
        status,
        Some((name, fault)),
    )
    .await
}

/// Switches it off.
pub(super) async fn disable(visit: Visit) -> Result<Response, Fault> {
    switch(visit, true).await
}

/// Switches it on.
pub(super) async fn enable(visit: Visit) -> Result<Response, Fault> {
    switch(visit, false).await
}

async fn switch(mut visit: Visit, off: bool) -> Result<Response, Fault> {
    let (session, _) = visit.session_form().await?;
    let id = id(&visit)?;
    let changes = Changes {
        disabled: Some(off),
        ..Changes::default()
    };
    let broker = visit.shared.broker.clone();
    broker
        .update_integration(&session.ctx, id, changes, None)
        .await?;
    if !off {
        tried(&broker, &session, id).await;
    }
    on_to(&url(&visit, id, if off { "disabled" } else { "enabled" }))
}

/// Asks whether it is meant.
pub(super) async fn ask_remove(mut visit: Visit) -> Result<Response, Fault> {
    let session = visit.session().await?;
    let id = id(&visit)?;
    let integration = visit.shared.broker.integration(&session.ctx, id).await?;
    let provider = provider(&visit, &session, &integration.type_).await;
    let page = &visit.page;
    let t = page.t();
    let modes = || provider.iter().flat_map(|provider| &provider.modes);
    let called = provider.as_ref().map_or("", |provider| &provider.name);
    let said = |text| fill(text, &[("provider", called)]);
    let can = modes().any(|mode| {
        mode.revoke
            .as_ref()
            .is_some_and(|one| !one.calls.is_empty())
    });
    let manual = modes().find_map(|mode| provider.as_ref()?.manual_revocation_of(mode));
    let body = Remove {
        page,
        revoke: can.then(|| [t.remove_revoke, t.remove_revoke_hint].map(said)),
        by_hand: manual
            .filter(|_| !can)
            .map(|url| (url.to_owned(), said(t.remove_by_hand))),
        card: Card::of(&integration, provider.as_deref(), page.language),
        title: fill(t.remove_title, &[("name", &integration.name)]),
    };
    page.show(StatusCode::OK, &body)
}

/// Destroys it.
pub(super) async fn remove(mut visit: Visit) -> Result<Response, Fault> {
    let (session, form) = visit.session_form().await?;
    let id = id(&visit)?;
    let broker = &visit.shared.broker;
    let did = if form.ticked("revoke") {
        broker.revoke_integration(&session.ctx, id, None).await?;
        "revoked"
    } else {
        broker.delete_integration(&session.ctx, id, None).await?;
        "removed"
    };
    on_to(&format!("{}?did={did}", visit.page.base))
}

/// Waits a little for the first trial, so that the page that follows can mostly say what came of
/// it; without script it cannot change by itself.
pub(super) async fn tried(broker: &Broker, session: &ConnectSession, id: IntegrationId) {
    for pause in [300, 700, 1200] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        match broker.integration(&session.ctx, id).await {
            Ok(integration) if integration.status == Status::Verifying => {}
            _ => return,
        }
    }
}
