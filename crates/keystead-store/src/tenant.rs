//! Tenants, the names that issuers know them by, and their keys.
//!
//! What always holds: a name of an issuer belongs to one tenant, whose own row says the same; a
//! deleted tenant keeps its row and nothing else.

use keystead_core::ids::{SealKeyId, TenantId};
use keystead_core::time::Time;

use crate::effect::Step;
use crate::value::{Row, Scope, query, stored_words};
use crate::{Error, Store};

stored_words! {
    /// Whether a tenant is still there.
    TenantState, "a tenant's state" {
        /// It is.
        Active = "active",
        /// All that it had is destroyed.
        Deleted = "deleted",
    }
}

stored_words! {
    /// What a generation of a tenant's key may still do.
    TenantKeyState, "a tenant key's state" {
        /// Seals and opens; exactly one per tenant.
        Active = "active",
        /// Opens only.
        DecryptOnly = "decrypt_only",
        /// No record is under it.
        Retired = "retired",
        /// Gone.
        Destroyed = "destroyed",
    }
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantRow {
    /// Its id.
    pub id: TenantId,
    /// As people call it.
    pub name: String,
    /// The configured issuer that names it; `None` for one that no issuer names.
    pub issuer: Option<String>,
    /// What that issuer calls it.
    pub external: Option<String>,
    /// Whether it is still there.
    pub state: TenantState,
    /// Since when.
    pub created_at: Time,
}

impl TenantRow {
    /// Whether it is still there.
    pub fn is_active(&self) -> bool {
        self.state == TenantState::Active
    }
}

/// One generation of a tenant's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantKeyRow {
    /// Whose.
    pub tenant: TenantId,
    /// Its id, as sealed records name it.
    pub id: SealKeyId,
    /// 1, 2, …
    pub generation: u64,
    /// What it may still do.
    pub state: TenantKeyState,
    /// The key, sealed under the root key; empty once destroyed.
    pub sealed: Vec<u8>,
    /// Its check value.
    pub check_value: [u8; 32],
    /// Since when.
    pub created_at: Time,
}

const FIND: &str =
    "SELECT tenant_id, name, issuer, external, state, created_at FROM tenant WHERE tenant_id = $1";
// The tenant has to agree: its row is changed under its signed context only, the name's is not.
const FIND_BY_EXTERNAL: &str = "SELECT t.tenant_id, t.name, t.issuer, t.external, t.state, t.created_at FROM tenant_name n \
     JOIN tenant t ON t.tenant_id = n.owner AND t.issuer = n.issuer AND t.external = n.external \
     WHERE n.issuer = $1 AND n.external = $2";
const LIST: &str = "SELECT tenant_id, name, issuer, external, state, created_at FROM tenant \
     WHERE tenant_id > $1 ORDER BY tenant_id LIMIT $2";
const INSERT: &str = "INSERT INTO tenant (tenant_id, name, issuer, external, state, created_at) VALUES ($1, $2, $3, $4, $5, $6)";
const INSERT_NAME: &str = "INSERT INTO tenant_name (issuer, external, owner) VALUES ($1, $2, $3)";
const DELETE: &str =
    "UPDATE tenant SET state = 'deleted' WHERE tenant_id = $1 AND state = 'active'";
const DELETE_NAMES: &str = "DELETE FROM tenant_name WHERE owner = $1";
const DELETE_INTEGRATIONS: &str = "DELETE FROM integration WHERE tenant_id = $1";
const DELETE_MEMBERS: &str = "DELETE FROM member WHERE tenant_id = $1";
const DELETE_KEYS: &str = "DELETE FROM api_key WHERE tenant_id = $1";
const DELETE_IDEMPOTENCY: &str = "DELETE FROM idempotency WHERE tenant_id = $1";
const DELETE_AUTHORIZATIONS: &str = "DELETE FROM pending_authorization WHERE tenant_id = $1";
const DELETE_SESSIONS: &str = "DELETE FROM connect_session WHERE tenant_id = $1";
const DELETE_REVOCATIONS: &str = "DELETE FROM revocation WHERE tenant_id = $1";
const DELETE_BATCHES: &str = "DELETE FROM revocation_batch WHERE tenant_id = $1";
const DESTROY_TENANT_KEYS: &str =
    "UPDATE tenant_key SET state = 'destroyed', sealed = $1 WHERE tenant_id = $2";
const KEYS: &str = "SELECT tenant_id, key_id, generation, state, sealed, check_value, created_at FROM tenant_key \
     WHERE tenant_id = $1 ORDER BY generation";
const INSERT_KEY: &str = "INSERT INTO tenant_key (tenant_id, key_id, generation, state, sealed, check_value, created_at) \
     VALUES ($1, $2, $3, $4, $5, $6, $7)";

fn read(mut row: Row) -> Result<TenantRow, Error> {
    Ok(TenantRow {
        id: row.take()?,
        name: row.take()?,
        issuer: row.take()?,
        external: row.take()?,
        state: row.take()?,
        created_at: row.take()?,
    })
}

fn read_key(mut row: Row) -> Result<TenantKeyRow, Error> {
    Ok(TenantKeyRow {
        tenant: row.take()?,
        id: row.take()?,
        generation: row.take()?,
        state: row.take()?,
        sealed: row.take()?,
        check_value: row.take()?,
        created_at: row.take()?,
    })
}

pub(crate) fn insert(row: &TenantRow) -> Vec<Step> {
    let row = row.clone();
    let mut steps = Vec::new();
    if let (Some(issuer), Some(external)) = (&row.issuer, &row.external) {
        let name = query!(INSERT_NAME, issuer.as_str(), external.as_str(), row.id);
        steps.push(Step::insert("tenant", name));
    }
    steps.push(Step::insert(
        "tenant",
        query!(
            INSERT,
            row.id,
            row.name,
            row.issuer,
            row.external,
            row.state,
            row.created_at
        ),
    ));
    steps
}

pub(crate) fn delete(tenant: TenantId) -> Vec<Step> {
    vec![
        Step::exists("tenant", query!(DELETE, tenant)),
        Step::any("tenant", query!(DELETE_NAMES, tenant)),
        Step::any("tenant", query!(DELETE_INTEGRATIONS, tenant)),
        Step::any("tenant", query!(DELETE_MEMBERS, tenant)),
        Step::any("tenant", query!(DELETE_KEYS, tenant)),
        Step::any("tenant", query!(DELETE_IDEMPOTENCY, tenant)),
        Step::any("tenant", query!(DELETE_AUTHORIZATIONS, tenant)),
        Step::any("tenant", query!(DELETE_SESSIONS, tenant)),
        Step::any("tenant", query!(DELETE_REVOCATIONS, tenant)),
        Step::any("tenant", query!(DELETE_BATCHES, tenant)),
        Step::any(
            "tenant",
            query!(DESTROY_TENANT_KEYS, Vec::<u8>::new(), tenant),
        ),
    ]
}

pub(crate) fn insert_key(row: &TenantKeyRow) -> Vec<Step> {
    let row = row.clone();
    vec![Step::insert(
        "tenant key",
        query!(
            INSERT_KEY,
            row.tenant,
            row.id,
            row.generation,
            row.state,
            row.sealed,
            row.check_value,
            row.created_at
        ),
    )]
}

impl Store {
    /// A tenant by id, deleted ones included.
    pub async fn find_tenant(&self, id: TenantId) -> Result<Option<TenantRow>, Error> {
        self.opt(Scope::System, query!(FIND, id))
            .await?
            .map(read)
            .transpose()
    }

    /// The tenant that an issuer calls by this name.
    pub async fn find_tenant_by_external(
        &self,
        issuer: &str,
        external: &str,
    ) -> Result<Option<TenantRow>, Error> {
        self.opt(Scope::System, query!(FIND_BY_EXTERNAL, issuer, external))
            .await?
            .map(read)
            .transpose()
    }

    /// Tenants by id, from after the given one.
    pub async fn list_tenants(
        &self,
        after: Option<TenantId>,
        limit: u32,
    ) -> Result<Vec<TenantRow>, Error> {
        let after = after.map_or(String::new(), |id| id.to_string());
        self.all(Scope::System, query!(LIST, after, i64::from(limit)), read)
            .await
    }

    /// All generations of a tenant's key, oldest first.
    pub async fn tenant_keys(&self, tenant: TenantId) -> Result<Vec<TenantKeyRow>, Error> {
        self.all(Scope::System, query!(KEYS, tenant), read_key)
            .await
    }
}
