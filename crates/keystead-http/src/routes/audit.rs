//! The audit log: entries, signed heads, proofs, and the whole of it for an offline verifier.

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use keystead_broker::{EntryFilter, Error, ProofAsk};
use keystead_core::action::{Action, TargetKind};

use super::ok;
use crate::call::{Call, Doing};
use crate::face::plain;
use crate::openapi::Reading;
use crate::problem::Answer;
use crate::wire;

const AUDIT: Doing = Doing(Action::Audit, TargetKind::Audit);

/// The tenant's entries, newest first; for an operator the platform's.
#[utoipa::path(get, path = "/api/audit", tag = "audit",
    params(
        ("action" = Option<String>, Query, description = "Only this action"),
        ("on" = Option<String>, Query, description = "Only on this kind of thing"),
        ("outcome" = Option<String>, Query, description = "`allowed`, `denied` or `failed`"),
        ("target" = Option<String>, Query, description = "Only on the thing of this id"),
        ("limit" = Option<u32>, Query, description = "At most so many: 1 to 200, 50 if not given"),
        ("after" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, description = "A page of entries", body = wire::Page<wire::Entry>), Reading))]
pub(crate) async fn list_entries(mut call: Call) -> Answer {
    let filter = call
        .query(
            AUDIT,
            &["action", "on", "outcome", "target", "limit", "after"],
            |query| {
                Ok(EntryFilter {
                    action: query.read("action", "an action, such as use or reveal")?,
                    on: query.read("on", "a kind of thing, such as integration or key")?,
                    outcome: query.read("outcome", "allowed, denied or failed")?,
                    target: query.text("target"),
                    limit: query.limit()?,
                    after: query.text("after"),
                })
            },
        )
        .await?;
    let page = call.shared.broker.list_entries(&call.ctx, filter).await?;
    let data = page
        .data
        .iter()
        .map(|leaf| wire::Entry::read(leaf))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(ok(wire::Page {
        data,
        next: page.next,
    }))
}

/// The signed head of the log, as a C2SP checkpoint.
#[utoipa::path(get, path = "/api/audit/checkpoint", tag = "audit",
    responses((status = 200, description = "A signed note", body = String, content_type = "text/plain"), Reading))]
pub(crate) async fn find_checkpoint(mut call: Call) -> Answer {
    call.no_query(AUDIT).await?;
    let note = call.shared.broker.checkpoint(&call.ctx).await?;
    Ok(plain("text/plain; charset=utf-8", note))
}

/// Proves that an entry is in the log, or that an older head is the beginning of the present one.
#[utoipa::path(get, path = "/api/audit/proof", tag = "audit",
    params(
        ("seq" = Option<u64>, Query, description = "The entry to prove"),
        ("from" = Option<u64>, Query, description = "The size of the older head"),
        ("size" = Option<u64>, Query, description = "The size of the tree; the present one if not given")),
    responses((status = 200, description = "The proof", body = wire::Proof), Reading))]
pub(crate) async fn find_proof(mut call: Call) -> Answer {
    let ask = call
        .query(AUDIT, &["seq", "from", "size"], |query| {
            let number = |name| query.read(name, "a whole number");
            Ok(ProofAsk {
                seq: number("seq")?,
                from: number("from")?,
                size: number("size")?,
            })
        })
        .await?;
    let proof = call.shared.broker.proof(&call.ctx, ask).await?;
    Ok(ok(wire::Proof::from(proof)))
}

/// Every leaf of the log from a place on, one a line, for operators.
#[utoipa::path(get, path = "/api/audit/export", tag = "audit",
    params(("from" = Option<u64>, Query, description = "The first entry; 0 if not given")),
    responses((status = 200, description = "Leaves, as they are hashed", body = String, content_type = "application/x-ndjson"), Reading))]
pub(crate) async fn export_entries(mut call: Call) -> Answer {
    let from = call
        .query(AUDIT, &["from"], |query| {
            Ok(query.read("from", "a whole number")?.unwrap_or(0))
        })
        .await?;
    let (shared, ctx) = (call.shared, call.ctx);
    // Each piece leaves an entry of its own, before it is read: a piece that holds one of this
    // request's entries has reached the end that there was when the export began.
    let own = format!(r#""request":"{}""#, ctx.request);
    let first = shared.broker.export(&ctx, from).await?;
    let pieces = stream::try_unfold(Some((first, from)), move |state| {
        let (shared, ctx, own) = (shared.clone(), ctx.clone(), own.clone());
        async move {
            let Some((piece, from)) = state else {
                return Ok::<_, Error>(None);
            };
            let next = from + piece.len() as u64;
            let over = piece.is_empty() || piece.iter().any(|leaf| leaf.contains(&own));
            let lines: String = piece
                .into_iter()
                .flat_map(|leaf| [leaf, "\n".to_owned()])
                .collect();
            let after = if over {
                None
            } else {
                Some((shared.broker.export(&ctx, next).await?, next))
            };
            Ok(Some((Bytes::from(lines), after)))
        }
    });
    Ok(plain("application/x-ndjson", Body::from_stream(pieces)))
}

/// The key that heads are signed with, as a C2SP verifier key.
#[utoipa::path(get, path = "/api/audit/key", tag = "audit",
    responses((status = 200, description = "A verifier key", body = String, content_type = "text/plain"), Reading))]
pub(crate) async fn find_verifier_key(mut call: Call) -> Answer {
    call.no_query(AUDIT).await?;
    Ok(plain(
        "text/plain; charset=utf-8",
        call.shared.broker.verifier_key(),
    ))
}
