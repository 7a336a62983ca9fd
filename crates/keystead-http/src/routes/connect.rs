//! Connect sessions: links by which people work on their integrations without a login here.

use axum::response::Response;
use http::StatusCode;
use keystead_broker::Error;
use keystead_core::action::{Action, TargetKind};

use crate::call::{Call, Doing};
use crate::openapi::Writing;
use crate::pages::link_url;
use crate::problem::Answer;
use crate::wire;

const PUT: Doing = Doing(Action::Put, TargetKind::Integration);

/// Makes a link to the connect page, for one person and half an hour.
#[utoipa::path(post, path = "/api/connect-sessions", tag = "integrations",
    request_body = wire::NewConnectSession,
    responses((status = 201, description = "The link; it is shown once", body = wire::ConnectSession), Writing))]
pub(crate) async fn create_connect_session(mut call: Call) -> Answer {
    call.no_query(PUT).await?;
    let new: wire::NewConnectSession = call.body(PUT).await?;
    let broker = &call.shared.broker;
    let made = broker.create_connect_session(&call.ctx, new.into()).await?;
    let url = link_url(&call.shared, &made)
        .ok_or_else(|| Error::internal("a connect session without a public URL"))?;
    let mut answer: Response = super::ok(wire::ConnectSession {
        url,
        expires_at: made.expires_at.rfc3339(),
    });
    *answer.status_mut() = StatusCode::CREATED;
    Ok(answer)
}
