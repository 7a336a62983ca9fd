//! Resources: what a grant is good for at its provider, and credentials for it.

use axum::response::Response;
use keystead_core::action::{Action, TargetKind};
use keystead_core::ids::IntegrationId;

use super::ok;
use crate::call::{Call, Doing};
use crate::face::plain;
use crate::openapi::{Asking, Exchanging};
use crate::problem::Answer;
use crate::wire;

const LOOK: Doing = Doing(Action::Info, TargetKind::Integration);
const REVEAL: Doing = Doing(Action::Reveal, TargetKind::Integration);
const INTEGRATION: &str = "integration";

/// What the provider has for this integration's grant, asked for now.
#[utoipa::path(get, path = "/api/integrations/{id}/resources", tag = "integrations",
    params(("id" = String, Path, description = "The integration's id"),
        ("after" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, description = "A page of resources", body = wire::Page<wire::Resource>), Asking))]
pub(crate) async fn list_resources(mut call: Call) -> Answer {
    let after = call
        .query(LOOK, &["after"], |query| Ok(query.text("after")))
        .await?;
    let id: IntegrationId = call.id(LOOK, INTEGRATION).await?;
    let broker = &call.shared.broker;
    let page = broker
        .list_resources(&call.ctx, id, after.as_deref())
        .await?;
    Ok(ok(wire::Page::of(page, wire::Resource::from)))
}

/// Has credentials for a resource made, and hands them out, once: to services, and to users only
/// where the operator opened it.
#[utoipa::path(post, path = "/api/integrations/{id}/resources/{key}/credentials", tag = "integrations",
    params(("id" = String, Path, description = "The integration's id"),
        ("key" = String, Path, description = "The resource's key, percent-encoded into one segment")),
    request_body = wire::WantedCredentials,
    responses((status = 200, description = "The credentials; they are stored nowhere", body = wire::ResourceCredentials), Exchanging))]
pub(crate) async fn fetch_resource_credentials(mut call: Call) -> Answer {
    call.no_query(REVEAL).await?;
    let id: IntegrationId = call.id(REVEAL, INTEGRATION).await?;
    let key = call.path_text("key").await;
    let wanted: wire::WantedCredentials = call.body(REVEAL).await?;
    let broker = &call.shared.broker;
    let issued = broker
        .fetch_resource_credentials(&call.ctx, id, &key, wanted.into())
        .await?;
    // Zeroised when the answer is written and dropped.
    let answer: Response = plain(
        "application/json",
        bytes::Bytes::from_owner(issued.into_json()),
    );
    Ok(answer)
}
