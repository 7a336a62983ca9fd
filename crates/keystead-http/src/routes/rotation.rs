//! Rotation: putting the next credential in an integration's place, at the provider too.

use axum::Json;
use axum::response::IntoResponse;
use http::StatusCode;
use keystead_core::action::{Action, TargetKind};
use keystead_core::ids::IntegrationId;

use super::{no_content, ok};
use crate::call::{Call, Doing};
use crate::openapi::{Changing, Reading, Writing};
use crate::problem::Answer;
use crate::wire;

const INTEGRATION: &str = "integration";
const ROTATING: Doing = Doing(Action::Rotate, TargetKind::Integration);

/// Begins a rotation, which goes on in the background; one that is under way goes on.
#[utoipa::path(post, path = "/api/integrations/{id}/rotate", tag = "integrations",
    params(("id" = String, Path, description = "The integration's id")),
    responses((status = 202, description = "How it stands", body = wire::Rotation), Changing))]
pub(crate) async fn rotate_integration(mut call: Call) -> Answer {
    call.no_query(ROTATING).await?;
    let id: IntegrationId = call.id(ROTATING, INTEGRATION).await?;
    let broker = &call.shared.broker;
    let stands = broker.rotate_integration(&call.ctx, id).await?;
    let body = Json(wire::Rotation::from(stands));
    Ok((StatusCode::ACCEPTED, body).into_response())
}

/// How the rotation of an integration stands.
#[utoipa::path(get, path = "/api/integrations/{id}/rotation", tag = "integrations",
    params(("id" = String, Path, description = "The integration's id")),
    responses((status = 200, description = "How it stands", body = wire::Rotation), Reading))]
pub(crate) async fn find_rotation(mut call: Call) -> Answer {
    let doing = Doing(Action::Info, TargetKind::Integration);
    call.no_query(doing).await?;
    let id: IntegrationId = call.id(doing, INTEGRATION).await?;
    let stands = call.shared.broker.rotation(&call.ctx, id).await?;
    Ok(ok(wire::Rotation::from(stands)))
}

/// Rotates every so many days from now on.
#[utoipa::path(put, path = "/api/integrations/{id}/rotation", tag = "integrations",
    params(("id" = String, Path, description = "The integration's id")),
    request_body = wire::RotationSchedule,
    responses((status = 200, description = "How it stands", body = wire::Rotation), Writing))]
pub(crate) async fn put_rotation(mut call: Call) -> Answer {
    call.no_query(ROTATING).await?;
    let id: IntegrationId = call.id(ROTATING, INTEGRATION).await?;
    let schedule: wire::RotationSchedule = call.body(ROTATING).await?;
    let broker = &call.shared.broker;
    let stands = broker
        .schedule_rotation(&call.ctx, id, schedule.into())
        .await?;
    Ok(ok(wire::Rotation::from(stands)))
}

/// Rotates no more by itself; one that is under way goes on to its end.
#[utoipa::path(delete, path = "/api/integrations/{id}/rotation", tag = "integrations",
    params(("id" = String, Path, description = "The integration's id")),
    responses((status = 204, description = "There is no schedule any more"), Changing))]
pub(crate) async fn delete_rotation(mut call: Call) -> Answer {
    call.no_query(ROTATING).await?;
    let id: IntegrationId = call.id(ROTATING, INTEGRATION).await?;
    call.shared.broker.stop_rotation(&call.ctx, id).await?;
    Ok(no_content())
}
