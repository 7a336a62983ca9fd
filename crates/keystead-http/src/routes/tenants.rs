//! Tenants: for operators, and for owners who delete their own.

use keystead_core::action::{Action, TargetKind};
use keystead_core::ids::TenantId;

use super::{created, ok};
use crate::call::{Call, Doing};
use crate::openapi::{Changing, Reading, Writing};
use crate::problem::Answer;
use crate::wire;

const fn doing(action: Action) -> Doing {
    Doing(action, TargetKind::Tenant)
}

/// All tenants, oldest first.
#[utoipa::path(get, path = "/api/tenants", tag = "tenants",
    params(
        ("limit" = Option<u32>, Query, description = "At most so many: 1 to 200, 50 if not given"),
        ("after" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, description = "A page of tenants", body = wire::Page<wire::Tenant>), Reading))]
pub(crate) async fn list_tenants(mut call: Call) -> Answer {
    let (limit, after) = call
        .query(doing(Action::List), &["limit", "after"], |query| {
            Ok((query.limit()?, query.text("after")))
        })
        .await?;
    let page = call
        .shared
        .broker
        .list_tenants(&call.ctx, limit, after)
        .await?;
    Ok(ok(wire::Page::of(page, wire::Tenant::from)))
}

/// Makes a tenant, with a key of its own.
#[utoipa::path(post, path = "/api/tenants", tag = "tenants",
    request_body = wire::NewTenant,
    responses((status = 201, description = "The new tenant", body = wire::Tenant,
        headers(("Location" = String, description = "Where it is"))), Writing))]
pub(crate) async fn create_tenant(mut call: Call) -> Answer {
    call.no_query(doing(Action::Put)).await?;
    let new: wire::NewTenant = call.body(doing(Action::Put)).await?;
    let made = call
        .shared
        .broker
        .create_tenant(&call.ctx, new.name, new.issuer, new.external)
        .await?;
    Ok(created(
        format!("/api/tenants/{}", made.id),
        wire::Tenant::from(made),
    ))
}

/// Destroys a tenant, its key, and all that is sealed under it.
#[utoipa::path(delete, path = "/api/tenants/{id}", tag = "tenants",
    params(("id" = String, Path, description = "The tenant's id")),
    responses((status = 204, description = "It is gone"), Changing))]
pub(crate) async fn delete_tenant(mut call: Call) -> Answer {
    call.no_query(doing(Action::Delete)).await?;
    let id: TenantId = call.id(doing(Action::Delete), "tenant").await?;
    call.shared.broker.delete_tenant(&call.ctx, id).await?;
    Ok(super::no_content())
}
