//! Service keys and operator keys.

use keystead_core::action::{Action, TargetKind};
use keystead_core::ids::KeyId;

use super::{created, ok};
use crate::call::{Call, Doing};
use crate::openapi::{Changing, Reading, Writing};
use crate::problem::Answer;
use crate::wire;

const fn doing(action: Action) -> Doing {
    Doing(action, TargetKind::Key)
}

/// All keys, revoked ones too, without their text.
#[utoipa::path(get, path = "/api/keys", tag = "keys",
    responses((status = 200, description = "All keys", body = wire::Page<wire::Key>), Reading))]
pub(crate) async fn list_keys(mut call: Call) -> Answer {
    call.no_query(doing(Action::List)).await?;
    let all = call.shared.broker.list_keys(&call.ctx).await?;
    Ok(ok(wire::Page::all(all, wire::Key::from)))
}

/// Makes a key. Its text is in the answer, this once.
#[utoipa::path(post, path = "/api/keys", tag = "keys",
    request_body = wire::NewKey,
    responses((status = 201, description = "The new key, with its text", body = wire::CreatedKey,
        headers(("Location" = String, description = "Where it is"))), Writing))]
pub(crate) async fn create_key(mut call: Call) -> Answer {
    call.no_query(doing(Action::Put)).await?;
    let new: wire::NewKey = call.body(doing(Action::Put)).await?;
    let new = call.check(doing(Action::Put), new.try_into()).await?;
    let made = call.shared.broker.create_key(&call.ctx, new).await?;
    let location = format!("/api/keys/{}", made.key.id);
    Ok(created(
        location,
        wire::CreatedKey {
            key: made.key.into(),
            text: made.text.expose().to_owned(),
        },
    ))
}

/// Revokes a key, at once.
#[utoipa::path(delete, path = "/api/keys/{id}", tag = "keys",
    params(("id" = String, Path, description = "The key's id")),
    responses((status = 204, description = "It is revoked"), Changing))]
pub(crate) async fn revoke_key(mut call: Call) -> Answer {
    call.no_query(doing(Action::Delete)).await?;
    let id: KeyId = call.id(doing(Action::Delete), "key").await?;
    call.shared.broker.revoke_key(&call.ctx, id).await?;
    Ok(super::no_content())
}
