//! Members: users' places in a tenant.

use keystead_core::action::{Action, TargetKind};
use keystead_core::ids::MemberId;

use super::ok;
use crate::call::{Call, Doing};
use crate::openapi::{Changing, Reading, Writing};
use crate::problem::Answer;
use crate::wire;

const LIST: Doing = Doing(Action::List, TargetKind::Member);
const GRANT: Doing = Doing(Action::Grant, TargetKind::Member);

/// The tenant's members.
#[utoipa::path(get, path = "/api/members", tag = "members",
    responses((status = 200, description = "All members", body = wire::Page<wire::Member>), Reading))]
pub(crate) async fn list_members(mut call: Call) -> Answer {
    call.no_query(LIST).await?;
    let all = call.shared.broker.list_members(&call.ctx).await?;
    Ok(ok(wire::Page::all(all, wire::Member::from)))
}

/// Gives a user a role in the tenant, in place of the one it has.
#[utoipa::path(put, path = "/api/members", tag = "members",
    request_body = wire::NewMember,
    responses((status = 200, description = "The member", body = wire::Member), Writing))]
pub(crate) async fn put_member(mut call: Call) -> Answer {
    call.no_query(GRANT).await?;
    let new: wire::NewMember = call.body(GRANT).await?;
    let member = call
        .shared
        .broker
        .put_member(&call.ctx, new.issuer, new.subject, new.role)
        .await?;
    Ok(ok(wire::Member::from(member)))
}

/// Takes a user out of the tenant.
#[utoipa::path(delete, path = "/api/members/{id}", tag = "members",
    params(("id" = String, Path, description = "The member's id")),
    responses((status = 204, description = "The member is gone"), Changing))]
pub(crate) async fn delete_member(mut call: Call) -> Answer {
    call.no_query(GRANT).await?;
    let id: MemberId = call.id(GRANT, "member").await?;
    call.shared.broker.delete_member(&call.ctx, id).await?;
    Ok(super::no_content())
}
