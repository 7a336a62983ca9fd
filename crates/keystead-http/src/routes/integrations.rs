//! Integrations: a tenant's named connections to providers.

use axum::response::Response;
use http::header::{ETAG, HeaderName};
use keystead_broker::{IntegrationFilter, Status};
use keystead_core::action::{Action, TargetKind};
use keystead_core::ids::IntegrationId;

use super::revocations::accepted;
use super::{created, ok, with};
use crate::call::{Call, Doing};
use crate::face::plain;
use crate::openapi::{Changing, Reading, Writing};
use crate::problem::Answer;
use crate::wire;

const INTEGRATION: &str = "integration";

const fn doing(action: Action) -> Doing {
    Doing(action, TargetKind::Integration)
}

/// The tenant's integrations, oldest first.
#[utoipa::path(get, path = "/api/integrations", tag = "integrations",
    params(
        ("type" = Option<String>, Query, description = "Only of this provider"),
        ("status" = Option<String>, Query, description = "Only with this status"),
        ("limit" = Option<u32>, Query, description = "At most so many: 1 to 200, 50 if not given"),
        ("after" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, description = "A page of integrations", body = wire::Page<wire::Integration>), Reading))]
pub(crate) async fn list_integrations(mut call: Call) -> Answer {
    let filter = call
        .query(
            doing(Action::List),
            &["type", "status", "limit", "after"],
            |query| {
                Ok(IntegrationFilter {
                    type_: query.text("type"),
                    status: query.map(
                        "status",
                        "verifying, connected, error, reauthorize or disabled",
                        Status::parse,
                    )?,
                    limit: query.limit()?,
                    after: query.text("after"),
                })
            },
        )
        .await?;
    let page = call
        .shared
        .broker
        .list_integrations(&call.ctx, filter)
        .await?;
    Ok(ok(wire::Page::of(page, wire::Integration::from)))
}

/// Connects a provider: seals the credential, which is then tried in the background.
#[utoipa::path(post, path = "/api/integrations", tag = "integrations",
    params(("Idempotency-Key" = Option<String>, Header, description = "A repeated request with the same key is the same request")),
    request_body = wire::NewIntegration,
    responses((status = 201, description = "The new integration", body = wire::CreatedIntegration,
        headers(("Location" = String, description = "Where it is"), ("ETag" = String, description = "Its revision"))), Writing))]
pub(crate) async fn create_integration(mut call: Call) -> Answer {
    call.no_query(doing(Action::Put)).await?;
    let key = call.idempotency_key(doing(Action::Put)).await?;
    let new: wire::NewIntegration = call.body(doing(Action::Put)).await?;
    let made = call
        .shared
        .broker
        .create_integration(&call.ctx, new.into(), key)
        .await?;
    let location = format!("/api/integrations/{}", made.integration.id);
    let integration = wire::Integration::from(made.integration);
    let etag = integration.etag.clone();
    let answer = tagged(
        created(
            location,
            wire::CreatedIntegration {
                integration,
                warnings: made.warnings,
            },
        ),
        &etag,
    );
    Ok(if made.replayed {
        with(
            answer,
            HeaderName::from_static("idempotency-replayed"),
            "true",
        )
    } else {
        answer
    })
}

/// One integration.
#[utoipa::path(get, path = "/api/integrations/{id}", tag = "integrations",
    params(("id" = String, Path, description = "The integration's id")),
    responses((status = 200, description = "The integration", body = wire::Integration,
        headers(("ETag" = String, description = "Its revision"))), Reading))]
pub(crate) async fn find_integration(mut call: Call) -> Answer {
    call.no_query(doing(Action::Info)).await?;
    let id: IntegrationId = call.id(doing(Action::Info), INTEGRATION).await?;
    let found = call.shared.broker.integration(&call.ctx, id).await?;
    Ok(one(found.into()))
}

/// Changes an integration; a new credential is a new version and is tried again.
#[utoipa::path(put, path = "/api/integrations/{id}", tag = "integrations",
    params(("id" = String, Path, description = "The integration's id"),
        ("If-Match" = Option<String>, Header, description = "Only if it is still this revision")),
    request_body = wire::ChangedIntegration,
    responses((status = 200, description = "The integration as it is now", body = wire::Integration,
        headers(("ETag" = String, description = "Its revision"))), Writing))]
pub(crate) async fn update_integration(mut call: Call) -> Answer {
    call.no_query(doing(Action::Put)).await?;
    let id: IntegrationId = call.id(doing(Action::Put), INTEGRATION).await?;
    let changes: wire::ChangedIntegration = call.body(doing(Action::Put)).await?;
    let changed = call
        .shared
        .broker
        .update_integration(&call.ctx, id, changes.into(), call.if_match())
        .await?;
    Ok(one(changed.into()))
}

/// Destroys every version of the credential, and the integration.
#[utoipa::path(delete, path = "/api/integrations/{id}", tag = "integrations",
    params(("id" = String, Path, description = "The integration's id"),
        ("revoke" = Option<bool>, Query, description = "Also take the grant back at the provider"),
        ("If-Match" = Option<String>, Header, description = "Only if it is still this revision")),
    responses((status = 204, description = "It is gone"),
        (status = 202, description = "With `revoke`: it is gone, and the provider is being asked", body = wire::Revoked,
            headers(("Location" = String, description = "Where to see how far it is"))), Changing))]
pub(crate) async fn delete_integration(mut call: Call) -> Answer {
    let revoke = call
        .query(doing(Action::Delete), &["revoke"], |query| {
            Ok(query.read("revoke", "true or false")?.unwrap_or(false))
        })
        .await?;
    let id: IntegrationId = call.id(doing(Action::Delete), INTEGRATION).await?;
    if revoke {
        let begun = call
            .shared
            .broker
            .revoke_integration(&call.ctx, id, call.if_match())
            .await?;
        let revoked = wire::Revoked::from(begun);
        return Ok(accepted(&revoked.revocation.clone(), revoked));
    }
    call.shared
        .broker
        .delete_integration(&call.ctx, id, call.if_match())
        .await?;
    Ok(super::no_content())
}

/// Tries the credential at the provider, now.
#[utoipa::path(post, path = "/api/integrations/{id}/test", tag = "integrations",
    params(("id" = String, Path, description = "The integration's id")),
    responses((status = 200, description = "What came of it", body = wire::TestReport), Changing))]
pub(crate) async fn test_integration(mut call: Call) -> Answer {
    call.no_query(doing(Action::Test)).await?;
    let id: IntegrationId = call.id(doing(Action::Test), INTEGRATION).await?;
    let report = call.shared.broker.test_integration(&call.ctx, id).await?;
    Ok(ok(wire::TestReport::from(report)))
}

/// Hands the credential out: to services, and to users only where the operator opened it.
#[utoipa::path(post, path = "/api/integrations/{id}/reveal", tag = "integrations",
    params(("id" = String, Path, description = "The integration's id")),
    responses((status = 200, description = "The credential", body = wire::Revealed), Changing))]
pub(crate) async fn reveal_integration(mut call: Call) -> Answer {
    call.no_query(doing(Action::Reveal)).await?;
    let id: IntegrationId = call.id(doing(Action::Reveal), INTEGRATION).await?;
    let revealed = call.shared.broker.reveal_integration(&call.ctx, id).await?;
    // Zeroised when the answer is written and dropped.
    Ok(plain(
        "application/json",
        bytes::Bytes::from_owner(revealed.into_json()),
    ))
}

fn one(integration: wire::Integration) -> Response {
    let etag = integration.etag.clone();
    tagged(ok(integration), &etag)
}

fn tagged(answer: Response, etag: &str) -> Response {
    with(answer, ETAG, etag)
}
