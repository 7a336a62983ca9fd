//! Sessions of the connect page: a link for one person and a short while.
//!
//! What always holds: a session is found by a keyed hash of what its link holds; the first browser
//! claims it, and no other does after that.
//!
//! Deliberately not here: whether it has expired, and what may be done in it (broker).

use keystead_core::ids::{SessionId, TenantId};
use keystead_core::time::Time;

use crate::effect::Step;
use crate::value::{Row, Scope, query};
use crate::{Error, Store};

/// A session of the connect page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectSessionRow {
    /// Whose.
    pub tenant: TenantId,
    /// Its id.
    pub id: SessionId,
    /// The keyed hash of what its link holds.
    pub hash: [u8; 32],
    /// The keyed hash of what the browser holds that claimed it.
    pub browser_hash: Option<[u8; 32]>,
    /// Who acts in it, JSON.
    pub actor: String,
    /// The providers to choose from, JSON.
    pub providers: String,
    /// Where to send the person in the end.
    pub return_url: Option<String>,
    /// No longer good from then on.
    pub expires_at: Time,
    /// When it was made.
    pub created_at: Time,
    /// Ended before that.
    pub closed_at: Option<Time>,
}

const FIND: &str = "SELECT tenant_id, session_id, hash, browser_hash, actor, providers, return_url, expires_at, created_at, closed_at \
     FROM connect_session WHERE tenant_id = $1 AND session_id = $2";
const FIND_BY_HASH: &str = "SELECT tenant_id, session_id, hash, browser_hash, actor, providers, return_url, expires_at, created_at, closed_at \
     FROM connect_session WHERE hash = $1";
const INSERT: &str = "INSERT INTO connect_session (tenant_id, session_id, hash, browser_hash, actor, providers, return_url, expires_at, \
     created_at, closed_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
const EXISTS: &str = "SELECT 1 FROM connect_session WHERE tenant_id = $1 AND session_id = $2";
const CLAIM: &str = "UPDATE connect_session SET browser_hash = $1 WHERE tenant_id = $2 AND session_id = $3 \
     AND browser_hash IS NULL AND closed_at IS NULL";
const CLOSE: &str = "UPDATE connect_session SET closed_at = $1 WHERE tenant_id = $2 AND session_id = $3 AND closed_at IS NULL";
const OPEN: &str = "SELECT count(*), min(expires_at) FROM connect_session WHERE tenant_id = $1 AND expires_at > $2 \
     AND substr(actor, 1, length(CAST($3 AS TEXT))) = CAST($3 AS TEXT)";
pub(crate) const EXPIRED: &str =
    "SELECT DISTINCT tenant_id FROM connect_session WHERE expires_at < $1 LIMIT $2";
pub(crate) const FORGET: &str =
    "DELETE FROM connect_session WHERE tenant_id = $1 AND expires_at < $2";

/// How many rows have not expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// So many.
    pub count: u64,
    /// When the next of them does.
    pub next_end: Option<Time>,
}

pub(crate) fn read_open(row: Option<Row>) -> Result<Open, Error> {
    let mut row = row.ok_or(Error::Corrupt { what: "a count" })?;
    Ok(Open {
        count: row.take()?,
        next_end: row.take()?,
    })
}

fn read(mut row: Row) -> Result<ConnectSessionRow, Error> {
    Ok(ConnectSessionRow {
        tenant: row.take()?,
        id: row.take()?,
        hash: row.take()?,
        browser_hash: row.take()?,
        actor: row.take()?,
        providers: row.take()?,
        return_url: row.take()?,
        expires_at: row.take()?,
        created_at: row.take()?,
        closed_at: row.take()?,
    })
}

pub(crate) fn insert(row: &ConnectSessionRow) -> Vec<Step> {
    let row = row.clone();
    vec![Step::insert(
        "session",
        query!(
            INSERT,
            row.tenant,
            row.id,
            row.hash,
            row.browser_hash,
            row.actor,
            row.providers,
            row.return_url,
            row.expires_at,
            row.created_at,
            row.closed_at
        ),
    )]
}

pub(crate) fn claim(tenant: TenantId, id: SessionId, browser_hash: [u8; 32]) -> Vec<Step> {
    vec![
        Step::exists("session", query!(EXISTS, tenant, id)),
        Step::unchanged("session", query!(CLAIM, browser_hash, tenant, id)),
    ]
}

pub(crate) fn close(tenant: TenantId, id: SessionId, at: Time) -> Vec<Step> {
    vec![
        Step::exists("session", query!(EXISTS, tenant, id)),
        Step::unchanged("session", query!(CLOSE, at, tenant, id)),
    ]
}

impl Store {
    /// A session of the connect page by id, closed and expired ones included.
    pub async fn find_connect_session(
        &self,
        tenant: TenantId,
        id: SessionId,
    ) -> Result<Option<ConnectSessionRow>, Error> {
        self.opt(Scope::Tenant(tenant), query!(FIND, tenant, id))
            .await?
            .map(read)
            .transpose()
    }

    /// The tenant's sessions that have not expired, closed ones included, whose actor begins so.
    pub async fn open_connect_sessions(
        &self,
        tenant: TenantId,
        actor: &str,
        now: Time,
    ) -> Result<Open, Error> {
        let open = query!(OPEN, tenant, now, actor);
        read_open(self.opt(Scope::Tenant(tenant), open).await?)
    }

    /// The session whose link has this hash, of whatever tenant, closed and expired ones included.
    pub async fn find_connect_session_by_hash(
        &self,
        hash: [u8; 32],
    ) -> Result<Option<ConnectSessionRow>, Error> {
        self.opt(Scope::System, query!(FIND_BY_HASH, hash))
            .await?
            .map(read)
            .transpose()
    }
}
