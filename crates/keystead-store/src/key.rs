//! Service keys and operator keys: the records, found by a keyed hash of what is presented.
//!
//! What always holds: the key itself is not here, and a hash belongs to one record.

use keystead_core::ids::{KeyId, TenantId};
use keystead_core::time::Time;

use crate::effect::Step;
use crate::value::{Row, Scope, query, stored_words};
use crate::{Error, Store};

stored_words! {
    /// What kind of caller a key makes.
    KeyKind, "a key's kind" {
        /// A product's backend.
        Service = "service",
        /// Whoever runs the installation.
        Operator = "operator",
    }
}

/// A service or operator key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// The tenant whose row it is: the platform's, for keys that operators make.
    pub tenant: TenantId,
    /// Its id.
    pub id: KeyId,
    /// What kind of caller it makes.
    pub kind: KeyKind,
    /// The keyed hash of the key.
    pub hash: [u8; 32],
    /// As people call it.
    pub name: String,
    /// Its scopes, JSON.
    pub scopes: String,
    /// The address ranges it may come from, JSON.
    pub addresses: String,
    /// The only tenant it may act in; `None`: any, named per request.
    pub bound: Option<TenantId>,
    /// No longer valid from then on; `None`: no end.
    pub expires_at: Option<Time>,
    /// Last used, to within the interval of the notes.
    pub last_used_at: Option<Time>,
    /// Revoked since.
    pub revoked_at: Option<Time>,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: Time,
}

const FIND_BY_HASH: &str = "SELECT tenant_id, key_id, kind, hash, name, scopes, addresses, bound, expires_at, \
     last_used_at, revoked_at, created_by, created_at FROM api_key WHERE hash = $1";
const FIND: &str = "SELECT tenant_id, key_id, kind, hash, name, scopes, addresses, bound, expires_at, \
     last_used_at, revoked_at, created_by, created_at FROM api_key WHERE key_id = $1";
const LIST: &str = "SELECT tenant_id, key_id, kind, hash, name, scopes, addresses, bound, expires_at, \
     last_used_at, revoked_at, created_by, created_at FROM api_key WHERE key_id > $1 ORDER BY key_id LIMIT $2";
const INSERT: &str = "INSERT INTO api_key (tenant_id, key_id, kind, hash, name, scopes, addresses, bound, expires_at, \
     last_used_at, revoked_at, created_by, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
const EXISTS: &str = "SELECT 1 FROM api_key WHERE tenant_id = $1 AND key_id = $2";
const REVOKE: &str = "UPDATE api_key SET revoked_at = $1 WHERE tenant_id = $2 AND key_id = $3 AND revoked_at IS NULL";
pub(crate) const USED: &str = "UPDATE api_key SET last_used_at = $1 WHERE tenant_id = $2 AND key_id = $3 \
     AND (last_used_at IS NULL OR last_used_at < $1)";

fn read(mut row: Row) -> Result<KeyRow, Error> {
    Ok(KeyRow {
        tenant: row.take()?,
        id: row.take()?,
        kind: row.take()?,
        hash: row.take()?,
        name: row.take()?,
        scopes: row.take()?,
        addresses: row.take()?,
        bound: row.take()?,
        expires_at: row.take()?,
        last_used_at: row.take()?,
        revoked_at: row.take()?,
        created_by: row.take()?,
        created_at: row.take()?,
    })
}

pub(crate) fn insert(row: &KeyRow) -> Vec<Step> {
    let row = row.clone();
    vec![Step::insert(
        "key",
        query!(
            INSERT,
            row.tenant,
            row.id,
            row.kind,
            row.hash,
            row.name,
            row.scopes,
            row.addresses,
            row.bound,
            row.expires_at,
            row.last_used_at,
            row.revoked_at,
            row.created_by,
            row.created_at
        ),
    )]
}

pub(crate) fn revoke(tenant: TenantId, id: KeyId, at: Time) -> Vec<Step> {
    vec![
        Step::exists("key", query!(EXISTS, tenant, id)),
        Step::unchanged("key", query!(REVOKE, at, tenant, id)),
    ]
}

impl Store {
    /// The key with this hash, revoked and expired ones included.
    pub async fn find_key_by_hash(&self, hash: [u8; 32]) -> Result<Option<KeyRow>, Error> {
        self.opt(Scope::System, query!(FIND_BY_HASH, hash))
            .await?
            .map(read)
            .transpose()
    }

    /// The key of that id.
    pub async fn find_key(&self, key: KeyId) -> Result<Option<KeyRow>, Error> {
        self.opt(Scope::System, query!(FIND, key))
            .await?
            .map(read)
            .transpose()
    }

    /// Keys by id, from after the given one, revoked and expired ones included.
    pub async fn list_keys(&self, after: Option<KeyId>, limit: u32) -> Result<Vec<KeyRow>, Error> {
        let after = after.map_or(String::new(), |id| id.to_string());
        self.all(Scope::System, query!(LIST, after, i64::from(limit)), read)
            .await
    }
}
