//! Revocations: taking grants back at their providers, and the receipts of that.

use axum::Json;
use axum::response::IntoResponse;
use http::StatusCode;
use http::header::LOCATION;
use keystead_core::action::{Action, TargetKind};
use keystead_core::ids::BatchId;

use super::{ok, with};
use crate::call::{Call, Doing};
use crate::face::plain;
use crate::openapi::{Reading, Writing};
use crate::problem::Answer;
use crate::wire;

const REVOCATION: &str = "revocation";

const fn doing(action: Action) -> Doing {
    Doing(action, TargetKind::Integration)
}

/// 202 with JSON and where to look.
pub(super) fn accepted(id: &str, body: impl serde::Serialize) -> axum::response::Response {
    let answer = (StatusCode::ACCEPTED, Json(body)).into_response();
    with(answer, LOCATION, &format!("/api/revocations/{id}"))
}

/// Puts integrations out of use, and takes their grants back at the providers, in the background.
#[utoipa::path(post, path = "/api/revocations", tag = "revocations",
    request_body = wire::NewRevocation,
    responses(
        (status = 202, description = "It has begun", body = wire::Batch,
            headers(("Location" = String, description = "Where to see how far it is"))),
        (status = 200, description = "With `dry_run`: what would be taken back", body = wire::Preview), Writing))]
pub(crate) async fn create_revocation(mut call: Call) -> Answer {
    call.no_query(doing(Action::Delete)).await?;
    let new: wire::NewRevocation = call.body(doing(Action::Delete)).await?;
    let (new, dry_run) = call.check(doing(Action::Delete), new.read()).await?;
    if dry_run {
        let preview = call
            .shared
            .broker
            .preview_revocation(&call.ctx, new)
            .await?;
        return Ok(ok(wire::Preview::from(preview)));
    }
    let batch = call.shared.broker.create_revocation(&call.ctx, new).await?;
    let batch = wire::Batch::from(batch);
    Ok(accepted(&batch.id.clone(), batch))
}

/// The tenant's batches of revocations, newest first; for an operator without a tenant the platform's.
#[utoipa::path(get, path = "/api/revocations", tag = "revocations",
    params(
        ("limit" = Option<u32>, Query, description = "At most so many: 1 to 200, 50 if not given"),
        ("after" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, description = "A page of batches", body = wire::Page<wire::Batch>), Reading))]
pub(crate) async fn list_revocations(mut call: Call) -> Answer {
    let (limit, after) = call
        .query(doing(Action::List), &["limit", "after"], |query| {
            Ok((query.limit()?, query.text("after")))
        })
        .await?;
    let page = call
        .shared
        .broker
        .list_revocations(&call.ctx, limit, after)
        .await?;
    Ok(ok(wire::Page::of(page, wire::Batch::from)))
}

/// How far a batch is, and what became of each grant.
#[utoipa::path(get, path = "/api/revocations/{id}", tag = "revocations",
    params(("id" = String, Path, description = "The batch's id"),
        ("limit" = Option<u32>, Query, description = "At most so many grants: 1 to 200, 50 if not given"),
        ("after" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, description = "The batch, and a page of its grants", body = wire::BatchPage), Reading))]
pub(crate) async fn find_revocation(mut call: Call) -> Answer {
    let (limit, after) = call
        .query(doing(Action::Info), &["limit", "after"], |query| {
            Ok((query.limit()?, query.text("after")))
        })
        .await?;
    let id: BatchId = call.id(doing(Action::Info), REVOCATION).await?;
    let found = call
        .shared
        .broker
        .find_revocation(&call.ctx, id, limit, after)
        .await?;
    Ok(ok(wire::BatchPage::from(found)))
}

/// The signed receipt, once each grant has ended: 409 until then.
#[utoipa::path(get, path = "/api/revocations/{id}/receipt", tag = "revocations",
    params(("id" = String, Path, description = "The batch's id")),
    responses((status = 200, description = "A signed note by the log's key", body = String, content_type = "text/plain"),
        crate::openapi::Changing))]
pub(crate) async fn find_receipt(mut call: Call) -> Answer {
    call.no_query(doing(Action::Info)).await?;
    let id: BatchId = call.id(doing(Action::Info), REVOCATION).await?;
    let note = call.shared.broker.revocation_receipt(&call.ctx, id).await?;
    Ok(plain("text/plain; charset=utf-8", note))
}
