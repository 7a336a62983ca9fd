//! Integrations: a tenant's named connections to providers, and the credentials' versions.
//!
//! What always holds: names are unique in a tenant; `revision` grows with each change that a
//! caller makes (never by bookkeeping); credential versions are 1, 2, 3 … without a gap.

use keystead_core::ids::{IntegrationId, SealKeyId, TenantId};
use keystead_core::time::Time;

use crate::effect::Step;
use crate::value::{Row, Scope, query, stored_words};
use crate::{Error, Store};

stored_words! {
    /// What is known of an integration's credential.
    Status, "an integration's status" {
        /// Not known yet.
        Verifying = "verifying",
        /// It works.
        Connected = "connected",
        /// It does not.
        Error = "error",
        /// The user has to connect again.
        Reauthorize = "reauthorize",
    }
}

/// An integration, without its credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntegrationRow {
    /// Whose.
    pub tenant: TenantId,
    /// Its id.
    pub id: IntegrationId,
    /// As its tenant calls it.
    pub name: String,
    /// The provider's id.
    pub provider: String,
    /// What is known of its credential.
    pub status: Status,
    /// Its settings, JSON.
    pub config: String,
    /// The last characters of the credential, where it is long enough.
    pub hint: Option<String>,
    /// The current version of the credential.
    pub credential_version: u64,
    /// Switched off by the tenant.
    pub disabled: bool,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: Time,
    /// Last changed by a caller.
    pub updated_at: Time,
    /// Last used, to within the interval of the notes.
    pub last_used_at: Option<Time>,
    /// Last tried at the provider.
    pub last_verified_at: Option<Time>,
    /// Why the status is what it is.
    pub error_message: Option<String>,
    /// Grows with each change that a caller makes.
    pub revision: u64,
}

/// One version of a credential, sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialRow {
    /// Whose.
    pub tenant: TenantId,
    /// Of which integration.
    pub integration: IntegrationId,
    /// Which version.
    pub version: u64,
    /// The key that sealed it.
    pub key_id: SealKeyId,
    /// The sealed bytes.
    pub sealed: Vec<u8>,
    /// Since when.
    pub created_at: Time,
}

/// What a caller changes of an integration; `None` leaves a thing as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntegrationChange {
    /// A new name.
    pub name: Option<String>,
    /// New settings, JSON.
    pub config: Option<String>,
    /// Switch off or on.
    pub disabled: Option<bool>,
    /// A new status; the error message goes with it.
    pub status: Option<Status>,
}

/// Puts an integration out of use: nothing of it is left to use it with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokeIntegration {
    /// The revision that was seen.
    pub expected_revision: u64,
    /// The next version, with which nothing can be done; those before are destroyed.
    pub credential: CredentialRow,
    /// The version and the fence of its tokens, where it has any.
    pub tokens: Option<(u64, u64)>,
    /// Why, as the integration tells people.
    pub error_message: String,
    /// When.
    pub at: Time,
}

/// Which integrations to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntegrationFilter {
    /// Of this provider.
    pub provider: Option<String>,
    /// In this status.
    pub status: Option<Status>,
    /// Switched off, or not.
    pub disabled: Option<bool>,
    /// After this id.
    pub after: Option<IntegrationId>,
    /// At most so many.
    pub limit: u32,
}

/// Which integrations' grants to take back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevocationSelector {
    /// Of this tenant; `None`: of all.
    pub tenant: Option<TenantId>,
    /// Of this provider.
    pub provider: Option<String>,
}

/// Tenants whose ids are read at once, where all are gone through.
const TENANTS: u32 = 500;

const FIND: &str = "SELECT tenant_id, integration_id, name, provider, status, config, hint, credential_version, disabled, \
     created_by, created_at, updated_at, last_used_at, last_verified_at, error_message, revision FROM integration \
     WHERE tenant_id = $1 AND integration_id = $2";
const FIND_BY_NAME: &str = "SELECT tenant_id, integration_id, name, provider, status, config, hint, credential_version, disabled, \
     created_by, created_at, updated_at, last_used_at, last_verified_at, error_message, revision FROM integration \
     WHERE tenant_id = $1 AND name = $2";
const LIST: &str = "SELECT tenant_id, integration_id, name, provider, status, config, hint, credential_version, disabled, \
     created_by, created_at, updated_at, last_used_at, last_verified_at, error_message, revision FROM integration \
     WHERE tenant_id = $1 AND integration_id > $2 AND (CAST($3 AS TEXT) IS NULL OR provider = $3) \
     AND (CAST($4 AS TEXT) IS NULL OR status = $4) AND (CAST($5 AS BIGINT) IS NULL OR disabled = $5) \
     ORDER BY integration_id LIMIT $6";
const INSERT: &str = "INSERT INTO integration (tenant_id, integration_id, name, provider, status, config, hint, \
     credential_version, disabled, created_by, created_at, updated_at, last_used_at, last_verified_at, error_message, \
     revision) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";
const EXISTS: &str = "SELECT 1 FROM integration WHERE tenant_id = $1 AND integration_id = $2";
const UPDATE: &str = "UPDATE integration SET name = COALESCE(CAST($1 AS TEXT), name), config = COALESCE(CAST($2 AS TEXT), config), \
     disabled = COALESCE(CAST($3 AS BIGINT), disabled), status = COALESCE(CAST($4 AS TEXT), status), \
     error_message = CASE WHEN $4 IS NULL THEN error_message ELSE NULL END, \
     updated_at = $5, revision = revision + 1 WHERE tenant_id = $6 AND integration_id = $7 \
     AND (CAST($8 AS BIGINT) IS NULL OR revision = $8)";
const NEXT_VERSION: &str = "UPDATE integration SET credential_version = $1, hint = $2, status = 'verifying', error_message = NULL, \
     updated_at = $3, revision = revision + 1 WHERE tenant_id = $4 AND integration_id = $5 \
     AND credential_version = CAST($1 AS BIGINT) - 1 AND (CAST($6 AS BIGINT) IS NULL OR revision = $6)";
const VERIFIED: &str = "UPDATE integration SET status = $1, error_message = $2, last_verified_at = $3 \
     WHERE tenant_id = $4 AND integration_id = $5 AND credential_version = $6";
const REVOKED: &str = "UPDATE integration SET credential_version = $1, disabled = 1, status = 'reauthorize', hint = NULL, \
     error_message = $2, updated_at = $3, revision = revision + 1 WHERE tenant_id = $4 AND integration_id = $5 \
     AND credential_version = CAST($1 AS BIGINT) - 1 AND revision = $6";
const DESTROY_CREDENTIALS: &str =
    "DELETE FROM credential WHERE tenant_id = $1 AND integration_id = $2";
const DESTROY_TOKENS: &str = "DELETE FROM token_set WHERE tenant_id = $1 AND integration_id = $2 \
     AND token_version = $3 AND fence = $4";
const DESTROY_ROTATION: &str = "DELETE FROM rotation WHERE tenant_id = $1 AND integration_id = $2";
const DELETE: &str = "DELETE FROM integration WHERE tenant_id = $1 AND integration_id = $2 \
     AND (CAST($3 AS BIGINT) IS NULL OR revision = $3)";
const NEEDS_CONSENT: &str = "UPDATE integration SET status = 'reauthorize', error_message = $1 \
     WHERE tenant_id = $2 AND integration_id = $3 AND credential_version = (SELECT credential_version FROM token_set \
         WHERE token_set.tenant_id = integration.tenant_id AND token_set.integration_id = integration.integration_id)";
const WORKS_AGAIN: &str = "UPDATE integration SET status = 'connected', error_message = NULL \
     WHERE tenant_id = $1 AND integration_id = $2 AND status IN ('error', 'reauthorize') \
     AND credential_version = (SELECT credential_version FROM token_set \
         WHERE token_set.tenant_id = integration.tenant_id AND token_set.integration_id = integration.integration_id)";
// The log says when it was used; the time on the row is the last one only, and may be lost.
const LIST_FOR_REVOCATION: &str = "SELECT tenant_id, integration_id, name, provider, status, config, hint, credential_version, disabled, \
     created_by, created_at, updated_at, last_used_at, last_verified_at, error_message, revision FROM integration \
     WHERE tenant_id = $1 AND integration_id > $2 AND (CAST($3 AS TEXT) IS NULL OR provider = $3) \
     ORDER BY integration_id LIMIT $4";
pub(crate) const USED: &str = "UPDATE integration SET last_used_at = $1 WHERE tenant_id = $2 AND integration_id = $3 \
     AND (last_used_at IS NULL OR last_used_at < $1)";
const FIND_CREDENTIAL: &str = "SELECT tenant_id, integration_id, version, key_id, sealed, created_at FROM credential \
     WHERE tenant_id = $1 AND integration_id = $2 AND version = $3";
const INSERT_CREDENTIAL: &str = "INSERT INTO credential (tenant_id, integration_id, version, key_id, sealed, created_at) \
     VALUES ($1, $2, $3, $4, $5, $6)";

fn read(mut row: Row) -> Result<IntegrationRow, Error> {
    Ok(IntegrationRow {
        tenant: row.take()?,
        id: row.take()?,
        name: row.take()?,
        provider: row.take()?,
        status: row.take()?,
        config: row.take()?,
        hint: row.take()?,
        credential_version: row.take()?,
        disabled: row.take()?,
        created_by: row.take()?,
        created_at: row.take()?,
        updated_at: row.take()?,
        last_used_at: row.take()?,
        last_verified_at: row.take()?,
        error_message: row.take()?,
        revision: row.take()?,
    })
}

fn read_credential(mut row: Row) -> Result<CredentialRow, Error> {
    Ok(CredentialRow {
        tenant: row.take()?,
        integration: row.take()?,
        version: row.take()?,
        key_id: row.take()?,
        sealed: row.take()?,
        created_at: row.take()?,
    })
}

fn insert_credential(row: &CredentialRow) -> Step {
    Step::insert(
        "credential",
        query!(
            INSERT_CREDENTIAL,
            row.tenant,
            row.integration,
            row.version,
            row.key_id,
            row.sealed.clone(),
            row.created_at
        ),
    )
}

pub(crate) fn exists(tenant: TenantId, id: IntegrationId) -> Step {
    Step::exists("integration", query!(EXISTS, tenant, id))
}

/// Changes nothing where its tokens were granted to a credential that was replaced.
pub(crate) fn needs_consent(tenant: TenantId, id: IntegrationId, error_message: String) -> Step {
    let update = query!(NEEDS_CONSENT, error_message, tenant, id);
    Step::any("integration", update)
}

/// Changes nothing where its status says something else, or its credential is another by now.
pub(crate) fn works_again(tenant: TenantId, id: IntegrationId) -> Step {
    Step::any("integration", query!(WORKS_AGAIN, tenant, id))
}

pub(crate) fn insert(row: &IntegrationRow, credential: &CredentialRow) -> Vec<Step> {
    let row = row.clone();
    let insert = query!(
        INSERT,
        row.tenant,
        row.id,
        row.name,
        row.provider,
        row.status,
        row.config,
        row.hint,
        row.credential_version,
        row.disabled,
        row.created_by,
        row.created_at,
        row.updated_at,
        row.last_used_at,
        row.last_verified_at,
        row.error_message,
        row.revision
    );
    vec![
        Step::insert("integration", insert),
        insert_credential(credential),
    ]
}

pub(crate) fn replace_credential(
    credential: &CredentialRow,
    hint: Option<&str>,
    expected_revision: Option<u64>,
) -> Vec<Step> {
    let (tenant, id) = (credential.tenant, credential.integration);
    let next = query!(
        NEXT_VERSION,
        credential.version,
        hint,
        credential.created_at,
        tenant,
        id,
        expected_revision
    );
    vec![
        exists(tenant, id),
        Step::unchanged("integration", next),
        insert_credential(credential),
    ]
}

pub(crate) fn update(
    tenant: TenantId,
    id: IntegrationId,
    expected_revision: Option<u64>,
    change: &IntegrationChange,
    at: Time,
) -> Vec<Step> {
    let change = change.clone();
    let update = query!(
        UPDATE,
        change.name,
        change.config,
        change.disabled,
        change.status,
        at,
        tenant,
        id,
        expected_revision
    );
    vec![exists(tenant, id), Step::unchanged("integration", update)]
}

pub(crate) fn set_verified(
    tenant: TenantId,
    id: IntegrationId,
    version: u64,
    status: Status,
    error_message: Option<&str>,
    at: Time,
) -> Vec<Step> {
    let verified = query!(VERIFIED, status, error_message, at, tenant, id, version);
    vec![exists(tenant, id), Step::unchanged("integration", verified)]
}

pub(crate) fn revoke(revoke: &RevokeIntegration) -> Vec<Step> {
    let (tenant, id) = (revoke.credential.tenant, revoke.credential.integration);
    let revoked = query!(
        REVOKED,
        revoke.credential.version,
        revoke.error_message.clone(),
        revoke.at,
        tenant,
        id,
        revoke.expected_revision
    );
    let mut steps = vec![
        Step::exists("integration", query!(EXISTS, tenant, id)),
        Step::unchanged("integration", revoked),
    ];
    if let Some((version, fence)) = revoke.tokens {
        let destroy = query!(DESTROY_TOKENS, tenant, id, version, fence);
        steps.push(Step::unchanged("tokens", destroy));
    }
    let destroy = query!(DESTROY_CREDENTIALS, tenant, id);
    steps.push(Step::any("credential", destroy));
    steps.push(insert_credential(&revoke.credential));
    let destroy = query!(DESTROY_ROTATION, tenant, id);
    steps.push(Step::any("rotation", destroy));
    steps
}

pub(crate) fn delete(
    tenant: TenantId,
    id: IntegrationId,
    expected_revision: Option<u64>,
) -> Vec<Step> {
    vec![
        exists(tenant, id),
        Step::unchanged("integration", query!(DELETE, tenant, id, expected_revision)),
    ]
}

impl Store {
    /// An integration of the tenant by id.
    pub async fn find_integration(
        &self,
        tenant: TenantId,
        id: IntegrationId,
    ) -> Result<Option<IntegrationRow>, Error> {
        self.opt(Scope::Tenant(tenant), query!(FIND, tenant, id))
            .await?
            .map(read)
            .transpose()
    }

    /// An integration of the tenant by name.
    pub async fn find_integration_by_name(
        &self,
        tenant: TenantId,
        name: &str,
    ) -> Result<Option<IntegrationRow>, Error> {
        self.opt(Scope::Tenant(tenant), query!(FIND_BY_NAME, tenant, name))
            .await?
            .map(read)
            .transpose()
    }

    /// Integrations of the tenant, oldest first.
    pub async fn list_integrations(
        &self,
        tenant: TenantId,
        filter: &IntegrationFilter,
    ) -> Result<Vec<IntegrationRow>, Error> {
        let after = filter.after.map_or(String::new(), |id| id.to_string());
        let list = query!(
            LIST,
            tenant,
            after,
            filter.provider.clone(),
            filter.status,
            filter.disabled,
            i64::from(filter.limit)
        );
        self.all(Scope::Tenant(tenant), list, read).await
    }

    /// Integrations by tenant and id, from after the given one, of all tenants where none is named:
    /// each is asked under its own context, because nothing shows integrations across tenants.
    pub async fn list_integrations_for_revocation(
        &self,
        selector: &RevocationSelector,
        after: Option<(TenantId, IntegrationId)>,
        limit: u32,
    ) -> Result<Vec<IntegrationRow>, Error> {
        let first = selector.tenant.or(after.map(|(tenant, _)| tenant));
        let mut tenants: Vec<TenantId> = first.into_iter().collect();
        let (mut found, mut last) = (Vec::new(), None);
        loop {
            for tenant in tenants {
                let seen = after.filter(|(of, _)| *of == tenant);
                let seen = seen.map_or(String::new(), |(_, id)| id.to_string());
                let room = i64::from(limit) - found.len() as i64;
                let provider = selector.provider.clone();
                let list = query!(LIST_FOR_REVOCATION, tenant, seen, provider, room);
                found.extend(self.all(Scope::Tenant(tenant), list, read).await?);
                if found.len() >= limit as usize {
                    return Ok(found);
                }
                last = Some(tenant);
            }
            let more = match selector.tenant {
                Some(_) => Vec::new(),
                None => self.list_tenants(last, TENANTS).await?,
            };
            if more.is_empty() {
                return Ok(found);
            }
            tenants = more.into_iter().map(|tenant| tenant.id).collect();
        }
    }

    /// One version of an integration's credential, sealed.
    pub async fn find_credential(
        &self,
        tenant: TenantId,
        integration: IntegrationId,
        version: u64,
    ) -> Result<Option<CredentialRow>, Error> {
        let find = query!(FIND_CREDENTIAL, tenant, integration, version);
        self.opt(Scope::Tenant(tenant), find)
            .await?
            .map(read_credential)
            .transpose()
    }
}
