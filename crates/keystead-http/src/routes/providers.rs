//! The catalogue.

use keystead_core::action::{Action, TargetKind};

use super::ok;
use crate::call::{Call, Doing};
use crate::openapi::Reading;
use crate::problem::Answer;
use crate::wire;

/// The providers that integrations can be of.
#[utoipa::path(get, path = "/api/providers", tag = "providers",
    responses((status = 200, description = "All providers, by id", body = wire::Page<wire::Provider>), Reading))]
pub(crate) async fn list_providers(mut call: Call) -> Answer {
    call.no_query(Doing(Action::List, TargetKind::Provider))
        .await?;
    let all = call.shared.broker.list_providers(&call.ctx).await?;
    Ok(ok(wire::Page::all(all, |provider| {
        wire::Provider::from(&*provider)
    })))
}

/// One provider, with the fields of its forms.
#[utoipa::path(get, path = "/api/providers/{id}", tag = "providers",
    params(("id" = String, Path, description = "The provider's id")),
    responses((status = 200, description = "The provider", body = wire::Provider), Reading))]
pub(crate) async fn find_provider(mut call: Call) -> Answer {
    call.no_query(Doing(Action::Info, TargetKind::Provider))
        .await?;
    let id = call.path_text("id").await;
    let provider = call.shared.broker.find_provider(&call.ctx, &id).await?;
    Ok(ok(wire::Provider::from(&*provider)))
}
