//! All integrations of the session, and what can be added.

use askama::Template;
use axum::response::Response;
use http::StatusCode;
use keystead_broker::{Broker, ConnectSession, Integration, IntegrationFilter};
use keystead_core::action::Role;
use keystead_core::caller::Filter;
use keystead_core::provider::Provider;
use std::sync::Arc;

use super::say::{Card, host_of, monogram};
use crate::pages::page::{Page, on_to};
use crate::pages::texts::fill;
use crate::pages::visit::Visit;
use crate::problem::Fault;

/// So many are shown at a time.
const SHOWN: usize = 50;
/// With more providers than this, one can be looked for.
const MANY: usize = 12;
/// The most that are read to be shown.
const READ_MOST: usize = 1000;

/// The link, before it is claimed.
#[derive(Template)]
#[template(path = "connect/start.html")]
pub(super) struct Start<'a> {
    pub(super) page: &'a Page,
    pub(super) go_on: &'a str,
    pub(super) lead: &'a str,
    pub(super) once: &'a str,
}

#[derive(Template)]
#[template(path = "connect/home.html")]
struct Home<'a> {
    page: &'a Page,
    whose: String,
    minutes: String,
    notice: Option<&'static str>,
    cards: Vec<Card>,
    more: Option<String>,
    may_add: bool,
    may_not: String,
    choices: Vec<Choice<'a>>,
    find: Option<String>,
    /// Whether the choices are shown when asked for: they would be most of a page of connections.
    folded: bool,
    /// Where the page leads back to, and what it says.
    back: Option<(&'a str, String)>,
}

struct Choice<'a> {
    id: &'a str,
    name: &'a str,
    monogram: String,
}

/// The page.
pub(super) async fn home(mut visit: Visit) -> Result<Response, Fault> {
    let session = visit.session().await?;
    if let Some(id) = session.integration {
        let did = match notice(&visit) {
            Some(_) => format!("?did={}", visit.query("did").unwrap_or_default()),
            None => String::new(),
        };
        return on_to(&format!("{}/at/{id}{did}", visit.page.base));
    }
    let broker = &visit.shared.broker;
    let providers = offered(broker, &session).await?;
    let mut all = listed(broker, &session).await?;
    all.sort_by_key(|one| (one.name.to_lowercase(), one.id));
    let language = visit.page.language;
    let t = visit.page.t();
    let number = visit.query("page").and_then(|text| text.parse().ok());
    let number = number.unwrap_or(0_usize).min(all.len() / SHOWN);
    let known = |id: &str| providers.iter().find(|one| one.id == id).map(|one| &**one);
    let shown = all.iter().skip(number * SHOWN).take(SHOWN);
    let cards: Vec<_> = shown
        .map(|one| Card::of(one, known(&one.type_), language))
        .collect();
    let find = visit.query("find").filter(|text| !text.trim().is_empty());
    let wanted = find.as_deref().unwrap_or_default().trim().to_lowercase();
    let choices = providers
        .iter()
        .filter(|one| one.name.to_lowercase().contains(&wanted) || one.id.contains(&wanted))
        .map(|one| Choice {
            id: &one.id,
            name: &one.name,
            monogram: monogram(&one.name),
        })
        .collect();
    let tenant = ("tenant", session.tenant_name.as_str());
    let whose = match &session.user {
        Some(user) => format!("{user} · {}", session.tenant_name),
        None => session.tenant_name.clone(),
    };
    let page = &visit.page;
    let body = Home {
        page,
        whose,
        minutes: fill(t.home_minutes, &[("minutes", &minutes_left(&session))]),
        notice: notice(&visit),
        more: (all.len() > (number + 1) * SHOWN)
            .then(|| format!("{}?page={}", page.base, number + 1)),
        folded: !cards.is_empty() && providers.len() > MANY && find.is_none(),
        cards,
        may_add: session.role >= Role::Admin,
        may_not: fill(t.home_none_to_add, &[tenant]),
        choices,
        find: (providers.len() > MANY || find.is_some()).then(|| find.unwrap_or_default()),
        back: session
            .return_url
            .as_deref()
            .map(|url| (url, fill(t.home_back_to, &[("host", &host_of(url))]))),
    };
    page.show(StatusCode::OK, &body)
}

fn minutes_left(session: &ConnectSession) -> String {
    session.seconds_left.div_ceil(60).to_string()
}

/// What the form before this page did, by a word of ours in the address.
pub(super) fn notice(visit: &Visit) -> Option<&'static str> {
    let t = visit.page.t();
    match visit.query("did")?.as_str() {
        "added" => Some(t.did_added),
        "replaced" => Some(t.did_replaced),
        "renamed" => Some(t.did_renamed),
        "disabled" => Some(t.did_disabled),
        "enabled" => Some(t.did_enabled),
        "removed" => Some(t.did_removed),
        "revoked" => Some(t.did_revoked),
        "connected" => Some(t.did_connected),
        _ => None,
    }
}

/// The providers that the session is for.
async fn offered(broker: &Broker, session: &ConnectSession) -> Result<Vec<Arc<Provider>>, Fault> {
    let mut all = broker.list_providers(&session.ctx).await?;
    all.retain(|provider| session.providers.covers(Some(&provider.id)));
    all.sort_by_key(|provider| provider.name.to_lowercase());
    Ok(all)
}

/// The integrations that the session is for: those of each of its providers.
async fn listed(broker: &Broker, session: &ConnectSession) -> Result<Vec<Integration>, Fault> {
    let types = match &session.providers {
        Filter::Any => vec![None],
        Filter::Only(those) => those.iter().cloned().map(Some).collect(),
    };
    let lists = types.into_iter().map(|type_| async move {
        let mut filter = IntegrationFilter {
            type_,
            status: None,
            limit: 200,
            after: None,
        };
        let mut all = Vec::new();
        loop {
            let page = broker
                .list_integrations(&session.ctx, filter.clone())
                .await?;
            all.extend(page.data);
            match page.next {
                Some(next) if all.len() < READ_MOST => filter.after = Some(next),
                _ => return Ok::<_, Fault>(all),
            }
        }
    });
    let lists = futures_util::future::try_join_all(lists).await?;
    Ok(lists.into_iter().flatten().collect())
}
