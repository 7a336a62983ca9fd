//! The tokens of an OAuth integration, and the lease on renewing them.
//!
//! What always holds: `token_version` only grows, by a renewal or a new consent alone; every step of
//! a renewal names the version and the fence that it began with, so a holder whose lease was taken
//! over changes nothing; a lease is taken only after the one before has ended by the database's
//! clock.
//!
//! Deliberately not here: when to renew, and what the provider's answer means (core, broker).

use keystead_core::ids::{IntegrationId, SealKeyId, TenantId};
use keystead_core::time::Time;

use crate::effect::Step;
use crate::integration;
use crate::value::{Row, Scope, query, stored_words};
use crate::{Error, Store};

stored_words! {
    /// Whether a grant can still be renewed.
    TokenState, "a token set's state" {
        /// As far as is known.
        Live = "live",
        /// The user has to authorise anew.
        Reauthorize = "reauthorize",
    }
}

/// The tokens of an integration, sealed, and how their renewal stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSetRow {
    /// Whose.
    pub tenant: TenantId,
    /// Of which integration.
    pub integration: IntegrationId,
    /// The version of the credential that they were authorised with.
    pub credential_version: u64,
    /// Their own version.
    pub token_version: u64,
    /// Whether they can still be renewed.
    pub state: TokenState,
    /// The key that sealed them.
    pub key_id: SealKeyId,
    /// The sealed bytes.
    pub sealed: Vec<u8>,
    /// The access token's end, where it is known.
    pub expires_at: Option<Time>,
    /// The refresh token's end, where it is known.
    pub refresh_expires_at: Option<Time>,
    /// When to renew them ahead of use; `None`: not by the clock.
    pub renew_at: Option<Time>,
    /// Who renews them now.
    pub holder: Option<String>,
    /// Grows with each lease.
    pub fence: u64,
    /// The lease's end by the database's clock.
    pub lease_until: Option<Time>,
    /// A call to the provider was about to be made, and its answer is not stored.
    pub intent: bool,
    /// Renewals that failed since the last that did not.
    pub failures: u64,
    /// Since when they fail.
    pub failing_since: Option<Time>,
    /// Why the last one failed, as a code.
    pub problem: Option<String>,
    /// Last changed.
    pub updated_at: Time,
}

/// Takes the lease on a renewal, and records the intent to call the provider. Conflict: the version
/// or the fence is another, the lease has not ended, there is nothing left to renew, or the tokens
/// were granted to a credential that was replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakeRenewal {
    /// Whose.
    pub tenant: TenantId,
    /// Of which integration.
    pub integration: IntegrationId,
    /// The version that was seen.
    pub token_version: u64,
    /// The fence that was seen; the lease's own is one higher.
    pub seen_fence: u64,
    /// Who takes it.
    pub holder: String,
    /// The lease's end by the database's clock.
    pub until: Time,
}

/// Stores what a renewal brought, and frees the lease. Conflict: the version is not the next one,
/// the fence is another, or the tokens were given up meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreTokens {
    /// Whose.
    pub tenant: TenantId,
    /// Of which integration.
    pub integration: IntegrationId,
    /// The new version: one higher than the one that was seen.
    pub token_version: u64,
    /// The lease's fence.
    pub fence: u64,
    /// The key that sealed them.
    pub key_id: SealKeyId,
    /// The sealed bytes.
    pub sealed: Vec<u8>,
    /// The access token's end, where it is known.
    pub expires_at: Option<Time>,
    /// The refresh token's end, where it is known.
    pub refresh_expires_at: Option<Time>,
    /// When to renew them next.
    pub renew_at: Option<Time>,
    /// The integration's status was `error` or `reauthorize` for want of this: it is `connected` again.
    pub restore_status: bool,
    /// When.
    pub at: Time,
}

/// Frees the lease of a renewal that brought nothing. Conflict: as for [`StoreTokens`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseRenewal {
    /// Whose.
    pub tenant: TenantId,
    /// Of which integration.
    pub integration: IntegrationId,
    /// The version that was seen.
    pub token_version: u64,
    /// The lease's fence.
    pub fence: u64,
    /// The call may have been made, and nobody knows what came of it.
    pub keep_intent: bool,
    /// When to try again.
    pub renew_at: Option<Time>,
    /// Failures in a row, this one included.
    pub failures: u64,
    /// Since when they fail.
    pub failing_since: Option<Time>,
    /// Why, as a code.
    pub problem: Option<String>,
    /// When.
    pub at: Time,
}

/// Gives the tokens up, frees the lease, and has the integration say so, unless its credential is
/// another by now. Conflict: as for [`StoreTokens`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkReauthorize {
    /// Whose.
    pub tenant: TenantId,
    /// Of which integration.
    pub integration: IntegrationId,
    /// The version that was seen.
    pub token_version: u64,
    /// The lease's fence.
    pub fence: u64,
    /// Why, as a code.
    pub problem: String,
    /// Why, as the integration tells people.
    pub error_message: String,
    /// When.
    pub at: Time,
}

const FIND: &str = "SELECT tenant_id, integration_id, credential_version, token_version, state, key_id, sealed, expires_at, \
     refresh_expires_at, renew_at, holder, fence, lease_until, intent, failures, failing_since, problem, updated_at \
     FROM token_set WHERE tenant_id = $1 AND integration_id = $2";
const DUE: &str = "SELECT tenant_id, integration_id, credential_version, token_version, state, key_id, sealed, expires_at, \
     refresh_expires_at, renew_at, holder, fence, lease_until, intent, failures, failing_since, problem, updated_at \
     FROM token_set WHERE renew_at <= $1 AND state = 'live' AND (lease_until IS NULL OR lease_until <= $1) \
     ORDER BY renew_at, integration_id LIMIT $2";
const REFUSED_CLIENTS: &str = "SELECT tenant_id, integration_id, credential_version, token_version, state, key_id, sealed, expires_at, \
     refresh_expires_at, renew_at, holder, fence, lease_until, intent, failures, failing_since, problem, updated_at \
     FROM token_set WHERE problem LIKE 'client:%' AND state = 'live' AND integration_id > $1 \
     ORDER BY integration_id LIMIT $2";
const PUT: &str = "INSERT INTO token_set (tenant_id, integration_id, credential_version, token_version, state, key_id, sealed, \
     expires_at, refresh_expires_at, renew_at, holder, fence, lease_until, intent, failures, failing_since, problem, \
     updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18) \
     ON CONFLICT (tenant_id, integration_id) DO UPDATE SET credential_version = excluded.credential_version, \
     token_version = excluded.token_version, state = excluded.state, key_id = excluded.key_id, sealed = excluded.sealed, \
     expires_at = excluded.expires_at, refresh_expires_at = excluded.refresh_expires_at, renew_at = excluded.renew_at, \
     holder = excluded.holder, fence = excluded.fence, lease_until = excluded.lease_until, intent = excluded.intent, \
     failures = excluded.failures, failing_since = excluded.failing_since, problem = excluded.problem, \
     updated_at = excluded.updated_at \
     WHERE excluded.token_version > token_set.token_version AND excluded.fence > token_set.fence";
const EXISTS: &str = "SELECT 1 FROM token_set WHERE tenant_id = $1 AND integration_id = $2";
const TAKE: &str = "UPDATE token_set SET holder = $1, lease_until = $2, fence = fence + 1, intent = 1, \
     updated_at = CAST(unixepoch('now', 'subsec') * 1000000 AS BIGINT) \
     WHERE tenant_id = $3 AND integration_id = $4 AND token_version = $5 AND fence = $6 AND state = 'live' \
     AND (lease_until IS NULL OR lease_until <= CAST(unixepoch('now', 'subsec') * 1000000 AS BIGINT)) \
     AND credential_version = (SELECT credential_version FROM integration \
         WHERE integration.tenant_id = token_set.tenant_id AND integration.integration_id = token_set.integration_id)";
const STORE: &str = "UPDATE token_set SET token_version = $1, key_id = $2, sealed = $3, expires_at = $4, \
     refresh_expires_at = $5, renew_at = $6, holder = NULL, lease_until = NULL, intent = 0, failures = 0, \
     failing_since = NULL, problem = NULL, updated_at = $7 WHERE tenant_id = $8 AND integration_id = $9 \
     AND token_version = CAST($1 AS BIGINT) - 1 AND fence = $10 AND state = 'live'";
const RELEASE: &str = "UPDATE token_set SET holder = NULL, lease_until = NULL, intent = intent * $1, renew_at = $2, failures = $3, \
     failing_since = $4, problem = $5, updated_at = $6 WHERE tenant_id = $7 AND integration_id = $8 \
     AND token_version = $9 AND fence = $10 AND state = 'live'";
const GIVE_UP: &str = "UPDATE token_set SET state = 'reauthorize', holder = NULL, lease_until = NULL, intent = 0, renew_at = NULL, \
     problem = $1, updated_at = $2 WHERE tenant_id = $3 AND integration_id = $4 \
     AND token_version = $5 AND fence = $6 AND state = 'live'";
const CLOCK: &str = "SELECT CAST(unixepoch('now', 'subsec') * 1000000 AS BIGINT)";

fn read(mut row: Row) -> Result<TokenSetRow, Error> {
    Ok(TokenSetRow {
        tenant: row.take()?,
        integration: row.take()?,
        credential_version: row.take()?,
        token_version: row.take()?,
        state: row.take()?,
        key_id: row.take()?,
        sealed: row.take()?,
        expires_at: row.take()?,
        refresh_expires_at: row.take()?,
        renew_at: row.take()?,
        holder: row.take()?,
        fence: row.take()?,
        lease_until: row.take()?,
        intent: row.take()?,
        failures: row.take()?,
        failing_since: row.take()?,
        problem: row.take()?,
        updated_at: row.take()?,
    })
}

fn exists(tenant: TenantId, integration: IntegrationId) -> Step {
    Step::exists("token set", query!(EXISTS, tenant, integration))
}

pub(crate) fn put(row: &TokenSetRow) -> Vec<Step> {
    let row = row.clone();
    let put = query!(
        PUT,
        row.tenant,
        row.integration,
        row.credential_version,
        row.token_version,
        row.state,
        row.key_id,
        row.sealed,
        row.expires_at,
        row.refresh_expires_at,
        row.renew_at,
        row.holder,
        row.fence,
        row.lease_until,
        row.intent,
        row.failures,
        row.failing_since,
        row.problem,
        row.updated_at
    );
    vec![
        integration::exists(row.tenant, row.integration),
        Step::unchanged("token set", put),
    ]
}

pub(crate) fn take(lease: &TakeRenewal) -> Vec<Step> {
    let lease = lease.clone();
    let take = query!(
        TAKE,
        lease.holder,
        lease.until,
        lease.tenant,
        lease.integration,
        lease.token_version,
        lease.seen_fence
    );
    vec![
        exists(lease.tenant, lease.integration),
        Step::unchanged("token set", take),
    ]
}

pub(crate) fn store(tokens: &StoreTokens) -> Vec<Step> {
    let tokens = tokens.clone();
    let store = query!(
        STORE,
        tokens.token_version,
        tokens.key_id,
        tokens.sealed,
        tokens.expires_at,
        tokens.refresh_expires_at,
        tokens.renew_at,
        tokens.at,
        tokens.tenant,
        tokens.integration,
        tokens.fence
    );
    let mut steps = vec![
        exists(tokens.tenant, tokens.integration),
        Step::unchanged("token set", store),
    ];
    if tokens.restore_status {
        steps.push(integration::works_again(tokens.tenant, tokens.integration));
    }
    steps
}

pub(crate) fn release(lease: &ReleaseRenewal) -> Vec<Step> {
    let lease = lease.clone();
    let release = query!(
        RELEASE,
        lease.keep_intent,
        lease.renew_at,
        lease.failures,
        lease.failing_since,
        lease.problem,
        lease.at,
        lease.tenant,
        lease.integration,
        lease.token_version,
        lease.fence
    );
    vec![
        exists(lease.tenant, lease.integration),
        Step::unchanged("token set", release),
    ]
}

pub(crate) fn give_up(mark: &MarkReauthorize) -> Vec<Step> {
    let mark = mark.clone();
    let (tenant, integration) = (mark.tenant, mark.integration);
    let give_up = query!(
        GIVE_UP,
        mark.problem,
        mark.at,
        tenant,
        integration,
        mark.token_version,
        mark.fence
    );
    vec![
        exists(tenant, integration),
        Step::unchanged("token set", give_up),
        integration::needs_consent(tenant, integration, mark.error_message),
    ]
}

impl Store {
    /// The tokens of an integration, sealed.
    pub async fn find_token_set(
        &self,
        tenant: TenantId,
        integration: IntegrationId,
    ) -> Result<Option<TokenSetRow>, Error> {
        self.opt(Scope::Tenant(tenant), query!(FIND, tenant, integration))
            .await?
            .map(read)
            .transpose()
    }

    /// Tokens of all tenants that are to be renewed by now and that nobody renews, the longest due
    /// first.
    pub async fn due_token_sets(&self, now: Time, limit: u32) -> Result<Vec<TokenSetRow>, Error> {
        self.all(Scope::System, query!(DUE, now, i64::from(limit)), read)
            .await
    }

    /// Tokens of all tenants that were last refused for the app, in the order of their integrations, after
    /// that one.
    pub async fn list_refused_clients(
        &self,
        after: Option<IntegrationId>,
        limit: u32,
    ) -> Result<Vec<TokenSetRow>, Error> {
        let after = after.map_or(String::new(), |id| id.to_string());
        let query = query!(REFUSED_CLIENTS, after, i64::from(limit));
        self.all(Scope::System, query, read).await
    }

    /// The database's clock, which leases are judged by.
    pub async fn clock(&self) -> Result<Time, Error> {
        self.one(Scope::System, query!(CLOCK)).await?.take()
    }
}
