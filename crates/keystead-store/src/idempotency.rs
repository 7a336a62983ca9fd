//! Answers kept for callers who repeat a request.
//!
//! What always holds: a key of a caller stands for one request; answers are sealed.

use keystead_core::ids::TenantId;
use keystead_core::time::Time;

use crate::effect::Step;
use crate::value::{Row, Scope, query};
use crate::{Error, Store};

/// A kept answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyRow {
    /// In which tenant.
    pub tenant: TenantId,
    /// Whose key it is, as entries name callers.
    pub caller: String,
    /// The caller's `Idempotency-Key`.
    pub key: String,
    /// Hash of the request that it stands for.
    pub request_hash: [u8; 32],
    /// The sealed answer.
    pub response: Vec<u8>,
    /// Its status code.
    pub status: u64,
    /// Since when.
    pub created_at: Time,
}

const FIND: &str = "SELECT tenant_id, caller, idem_key, request_hash, response, status, created_at FROM idempotency \
     WHERE tenant_id = $1 AND caller = $2 AND idem_key = $3";
const INSERT: &str = "INSERT INTO idempotency (tenant_id, caller, idem_key, request_hash, response, status, created_at) \
     VALUES ($1, $2, $3, $4, $5, $6, $7)";
const EXPIRE: &str = "DELETE FROM idempotency WHERE tenant_id = $1 AND created_at < $2";

/// Expiry rides on the next answer of the same tenant, so that no role needs to reach across
/// tenants for it.
pub(crate) fn put(row: &IdempotencyRow, expire_before: Time) -> Vec<Step> {
    let row = row.clone();
    vec![
        Step::any("idempotency key", query!(EXPIRE, row.tenant, expire_before)),
        Step::insert(
            "idempotency key",
            query!(
                INSERT,
                row.tenant,
                row.caller,
                row.key,
                row.request_hash,
                row.response,
                row.status,
                row.created_at
            ),
        ),
    ]
}

fn read(mut row: Row) -> Result<IdempotencyRow, Error> {
    Ok(IdempotencyRow {
        tenant: row.take()?,
        caller: row.take()?,
        key: row.take()?,
        request_hash: row.take()?,
        response: row.take()?,
        status: row.take()?,
        created_at: row.take()?,
    })
}

impl Store {
    /// The answer kept for a caller's key; may be older than the caller wants to honour.
    pub async fn find_idempotency(
        &self,
        tenant: TenantId,
        caller: &str,
        key: &str,
    ) -> Result<Option<IdempotencyRow>, Error> {
        self.opt(Scope::Tenant(tenant), query!(FIND, tenant, caller, key))
            .await?
            .map(read)
            .transpose()
    }
}
