//! Consents under way: the one-time state that a provider brings back.
//!
//! What always holds: a state is found by its keyed hash, and taken once; it is its tenant's, and goes
//! with the integration or the session that it is for.
//!
//! Deliberately not here: whether it has expired, and whose browser may bring it back (broker).

use keystead_core::ids::{AuthorizationId, IntegrationId, SealKeyId, SessionId, TenantId};
use keystead_core::time::Time;

use crate::connect_session::{Open, read_open};
use crate::effect::Step;
use crate::value::{Row, Scope, query};
use crate::{Error, Store};

/// A consent under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationRow {
    /// Whose.
    pub tenant: TenantId,
    /// Its id.
    pub id: AuthorizationId,
    /// The keyed hash of the state.
    pub state_hash: [u8; 32],
    /// Who may bring it back.
    pub bound_to: String,
    /// Who began it, as entries name callers.
    pub caller: String,
    /// The provider's id.
    pub provider: String,
    /// The integration that it renews; `None`: it makes a new one.
    pub integration: Option<IntegrationId>,
    /// The new integration's name.
    pub name: Option<String>,
    /// The new integration's settings, JSON.
    pub config: String,
    /// The redirect URI that the provider was given.
    pub redirect_uri: String,
    /// The session of the connect page that it began in.
    pub session: Option<SessionId>,
    /// The key that sealed what is kept for the exchange.
    pub key_id: SealKeyId,
    /// The sealed bytes.
    pub sealed: Vec<u8>,
    /// No longer good from then on.
    pub expires_at: Time,
    /// When it began.
    pub created_at: Time,
}

const FIND: &str = "SELECT tenant_id, authorization_id, state_hash, bound_to, caller, provider, integration_id, name, config, \
     redirect_uri, session_id, key_id, sealed, expires_at, created_at FROM pending_authorization \
     WHERE tenant_id = $1 AND authorization_id = $2";
const FIND_BY_STATE: &str = "SELECT tenant_id, authorization_id, state_hash, bound_to, caller, provider, integration_id, name, config, \
     redirect_uri, session_id, key_id, sealed, expires_at, created_at FROM pending_authorization WHERE state_hash = $1";
const INSERT: &str = "INSERT INTO pending_authorization (tenant_id, authorization_id, state_hash, bound_to, caller, provider, \
     integration_id, name, config, redirect_uri, session_id, key_id, sealed, expires_at, created_at) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";
const TAKE: &str =
    "DELETE FROM pending_authorization WHERE tenant_id = $1 AND authorization_id = $2";
const OPEN: &str = "SELECT count(*), min(expires_at) FROM pending_authorization WHERE tenant_id = $1 AND expires_at > $2";
const OPEN_OF: &str = "SELECT count(*), min(expires_at) FROM pending_authorization WHERE tenant_id = $1 AND expires_at > $2 AND caller = $3";
pub(crate) const EXPIRED: &str =
    "SELECT DISTINCT tenant_id FROM pending_authorization WHERE expires_at < $1 LIMIT $2";
pub(crate) const FORGET: &str =
    "DELETE FROM pending_authorization WHERE tenant_id = $1 AND expires_at < $2";

fn read(mut row: Row) -> Result<AuthorizationRow, Error> {
    Ok(AuthorizationRow {
        tenant: row.take()?,
        id: row.take()?,
        state_hash: row.take()?,
        bound_to: row.take()?,
        caller: row.take()?,
        provider: row.take()?,
        integration: row.take()?,
        name: row.take()?,
        config: row.take()?,
        redirect_uri: row.take()?,
        session: row.take()?,
        key_id: row.take()?,
        sealed: row.take()?,
        expires_at: row.take()?,
        created_at: row.take()?,
    })
}

pub(crate) fn insert(row: &AuthorizationRow) -> Vec<Step> {
    let row = row.clone();
    vec![Step::insert(
        "authorization",
        query!(
            INSERT,
            row.tenant,
            row.id,
            row.state_hash,
            row.bound_to,
            row.caller,
            row.provider,
            row.integration,
            row.name,
            row.config,
            row.redirect_uri,
            row.session,
            row.key_id,
            row.sealed,
            row.expires_at,
            row.created_at
        ),
    )]
}

pub(crate) fn take(tenant: TenantId, id: AuthorizationId) -> Vec<Step> {
    vec![Step::exists("authorization", query!(TAKE, tenant, id))]
}

impl Store {
    /// A consent under way by id, expired ones included.
    pub async fn find_authorization(
        &self,
        tenant: TenantId,
        id: AuthorizationId,
    ) -> Result<Option<AuthorizationRow>, Error> {
        self.opt(Scope::Tenant(tenant), query!(FIND, tenant, id))
            .await?
            .map(read)
            .transpose()
    }

    /// The tenant's consents under way that have not expired, of all callers or of one.
    pub async fn open_authorizations(
        &self,
        tenant: TenantId,
        caller: Option<&str>,
        now: Time,
    ) -> Result<Open, Error> {
        let open = match caller {
            Some(caller) => query!(OPEN_OF, tenant, now, caller),
            None => query!(OPEN, tenant, now),
        };
        read_open(self.opt(Scope::Tenant(tenant), open).await?)
    }

    /// The consent under way whose state has this hash, of whatever tenant, expired ones included.
    pub async fn find_authorization_by_state(
        &self,
        hash: [u8; 32],
    ) -> Result<Option<AuthorizationRow>, Error> {
        self.opt(Scope::System, query!(FIND_BY_STATE, hash))
            .await?
            .map(read)
            .transpose()
    }
}
