//! Revocations: grants to take back at their providers, and the batches that they were asked for in.
//!
//! What always holds: a revocation is its tenant's, also where its batch is the platform's; what is
//! sealed in it goes when it is settled; a settled one never changes. A batch that is closed has
//! nothing pending and takes nothing more, so its receipt stays true.
//!
//! Deliberately not here: the calls to providers, and what a receipt says (broker).

use keystead_core::ids::{BatchId, IntegrationId, RevocationId, SealKeyId, TenantId};
use keystead_core::time::Time;

use crate::effect::Step;
use crate::value::{Row, Scope, query, stored_words};
use crate::{Error, Store};

stored_words! {
    /// How a revocation stands.
    RevocationState, "a revocation's state" {
        /// The provider has not confirmed yet.
        Pending = "pending",
        /// It has.
        Confirmed = "confirmed",
        /// There is no call for it: a person has to do it.
        Unsupported = "unsupported",
        /// It was given up.
        Failed = "failed",
    }
}

/// Revocations that were asked for together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchRow {
    /// Whose: the platform's, where it goes across tenants.
    pub tenant: TenantId,
    /// Its id.
    pub id: BatchId,
    /// Who asked, as entries name callers.
    pub asked_by: String,
    /// What was asked for, JSON.
    pub selector: String,
    /// How many grants that is; `None` until all have been found.
    pub total: Option<u64>,
    /// When.
    pub created_at: Time,
    /// All of it is settled since.
    pub closed_at: Option<Time>,
    /// The signed list of what came of it.
    pub receipt: Option<String>,
}

/// How many revocations of a batch stand how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RevocationCounts {
    /// Not confirmed yet.
    pub pending: u64,
    /// Confirmed.
    pub confirmed: u64,
    /// Left to a person, as there is no call for it.
    pub unsupported: u64,
    /// Given up.
    pub failed: u64,
}

impl RevocationCounts {
    /// All of them.
    pub fn all(&self) -> u64 {
        self.pending + self.confirmed + self.unsupported + self.failed
    }
}

/// A grant to take back at its provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationRow {
    /// Whose.
    pub tenant: TenantId,
    /// Its id.
    pub id: RevocationId,
    /// The tenant of its batch.
    pub batch_tenant: TenantId,
    /// Its batch.
    pub batch: BatchId,
    /// The integration that it belonged to; may be gone.
    pub integration: IntegrationId,
    /// As its tenant called that.
    pub name: String,
    /// The provider's id.
    pub provider: String,
    /// The integration's settings, JSON.
    pub config: String,
    /// The provider's mode.
    pub mode: String,
    /// How it stands.
    pub state: RevocationState,
    /// The key that sealed what it is taken back with.
    pub key_id: Option<SealKeyId>,
    /// The sealed bytes; none once it is settled.
    pub sealed: Option<Vec<u8>>,
    /// Attempts so far.
    pub attempts: u64,
    /// When to try next; `None` once it is settled.
    pub next_at: Option<Time>,
    /// What came of the last attempt, for a person.
    pub detail: Option<String>,
    /// The page where a person can do it.
    pub manual_url: Option<String>,
    /// When it was asked for.
    pub created_at: Time,
    /// When it was settled.
    pub settled_at: Option<Time>,
    /// What of the grant may live on though the provider confirms, for a person.
    pub remark: Option<String>,
}

/// What came of an attempt. Settling destroys what was sealed. Conflict: it is settled already, or
/// another attempt was recorded in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettleRevocation {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub revocation: RevocationId,
    /// The attempts that were seen.
    pub seen_attempts: u64,
    /// How it stands now; `Pending`: it is tried again.
    pub state: RevocationState,
    /// What came of it, for a person.
    pub detail: Option<String>,
    /// Attempts so far, this one included.
    pub attempts: u64,
    /// When to try next, where it is pending.
    pub next_at: Option<Time>,
    /// When.
    pub at: Time,
}

const FIND_BATCH: &str = "SELECT tenant_id, batch_id, asked_by, selector, total, created_at, closed_at, receipt FROM revocation_batch \
     WHERE tenant_id = $1 AND batch_id = $2";
const OPEN_BATCHES: &str = "SELECT tenant_id, batch_id, asked_by, selector, total, created_at, closed_at, receipt FROM revocation_batch \
     WHERE closed_at IS NULL AND batch_id > $1 ORDER BY batch_id LIMIT $2";
const INSERT_BATCH: &str = "INSERT INTO revocation_batch (tenant_id, batch_id, asked_by, selector, total, created_at, closed_at, receipt) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
const FIND_BATCH_OF_ANY: &str = "SELECT tenant_id FROM revocation_batch WHERE batch_id = $1";
const LIST_BATCHES: &str = "SELECT tenant_id, batch_id, asked_by, selector, total, created_at, closed_at, CAST(NULL AS TEXT) \
     FROM revocation_batch WHERE tenant_id = $1 AND batch_id < $2 ORDER BY batch_id DESC LIMIT $3";
const SELECTED: &str = "UPDATE revocation_batch SET total = (SELECT COUNT(*) FROM revocation WHERE batch_tenant = $1 AND batch_id = $2) \
     WHERE tenant_id = $1 AND batch_id = $2 AND total IS NULL AND closed_at IS NULL";
const COUNTS: &str = "SELECT state, COUNT(*) FROM revocation WHERE batch_tenant = $1 AND batch_id = $2 GROUP BY state";
const FIND: &str = "SELECT tenant_id, revocation_id, batch_tenant, batch_id, integration_id, name, provider, config, mode, state, \
     key_id, sealed, attempts, next_at, detail, manual_url, created_at, settled_at, remark FROM revocation \
     WHERE tenant_id = $1 AND revocation_id = $2";
const FIND_NEWEST: &str = "SELECT tenant_id, revocation_id, batch_tenant, batch_id, integration_id, name, provider, config, mode, state, \
     key_id, sealed, attempts, next_at, detail, manual_url, created_at, settled_at, remark FROM revocation \
     WHERE tenant_id = $1 AND integration_id = $2 ORDER BY created_at DESC, revocation_id DESC LIMIT 1";
const BATCH_EXISTS: &str = "SELECT 1 FROM revocation_batch WHERE tenant_id = $1 AND batch_id = $2";
const BATCH_IS_OPEN: &str =
    "SELECT 1 FROM revocation_batch WHERE tenant_id = $1 AND batch_id = $2 AND closed_at IS NULL";
const CLOSE_BATCH: &str = "UPDATE revocation_batch SET receipt = $1, closed_at = $2 \
     WHERE tenant_id = $3 AND batch_id = $4 AND closed_at IS NULL AND total IS NOT NULL AND NOT EXISTS \
     (SELECT 1 FROM revocation WHERE batch_tenant = $3 AND batch_id = $4 AND state = 'pending')";
const LIST: &str = "SELECT tenant_id, revocation_id, batch_tenant, batch_id, integration_id, name, provider, config, mode, state, \
     key_id, sealed, attempts, next_at, detail, manual_url, created_at, settled_at, remark FROM revocation \
     WHERE batch_tenant = $1 AND batch_id = $2 AND revocation_id > $3 ORDER BY revocation_id LIMIT $4";
const DUE: &str = "SELECT tenant_id, revocation_id, batch_tenant, batch_id, integration_id, name, provider, config, mode, state, \
     key_id, sealed, attempts, next_at, detail, manual_url, created_at, settled_at, remark FROM revocation \
     WHERE next_at <= $1 AND state = 'pending' ORDER BY next_at, revocation_id LIMIT $2";
const INSERT: &str = "INSERT INTO revocation (tenant_id, revocation_id, batch_tenant, batch_id, integration_id, name, provider, \
     config, mode, state, key_id, sealed, attempts, next_at, detail, manual_url, created_at, settled_at, remark) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)";
const EXISTS: &str = "SELECT 1 FROM revocation WHERE tenant_id = $1 AND revocation_id = $2";
const TRY_AGAIN: &str = "UPDATE revocation SET detail = $1, attempts = $2, next_at = $3 \
     WHERE tenant_id = $4 AND revocation_id = $5 AND state = 'pending' AND attempts = $6";
const SETTLE: &str = "UPDATE revocation SET state = $1, detail = $2, attempts = $3, settled_at = $4, next_at = NULL, \
     key_id = NULL, sealed = NULL WHERE tenant_id = $5 AND revocation_id = $6 AND state = 'pending' AND attempts = $7";

fn read_batch(mut row: Row) -> Result<BatchRow, Error> {
    Ok(BatchRow {
        tenant: row.take()?,
        id: row.take()?,
        asked_by: row.take()?,
        selector: row.take()?,
        total: row.take()?,
        created_at: row.take()?,
        closed_at: row.take()?,
        receipt: row.take()?,
    })
}

fn read(mut row: Row) -> Result<RevocationRow, Error> {
    Ok(RevocationRow {
        tenant: row.take()?,
        id: row.take()?,
        batch_tenant: row.take()?,
        batch: row.take()?,
        integration: row.take()?,
        name: row.take()?,
        provider: row.take()?,
        config: row.take()?,
        mode: row.take()?,
        state: row.take()?,
        key_id: row.take()?,
        sealed: row.take()?,
        attempts: row.take()?,
        next_at: row.take()?,
        detail: row.take()?,
        manual_url: row.take()?,
        created_at: row.take()?,
        settled_at: row.take()?,
        remark: row.take()?,
    })
}

pub(crate) fn insert_batch(row: &BatchRow) -> Vec<Step> {
    let row = row.clone();
    vec![Step::insert(
        "batch",
        query!(
            INSERT_BATCH,
            row.tenant,
            row.id,
            row.asked_by,
            row.selector,
            row.total,
            row.created_at,
            row.closed_at,
            row.receipt
        ),
    )]
}

pub(crate) fn selected(tenant: TenantId, id: BatchId) -> Vec<Step> {
    vec![
        Step::exists("batch", query!(BATCH_EXISTS, tenant, id)),
        Step::unchanged("batch", query!(SELECTED, tenant, id)),
    ]
}

pub(crate) fn close_batch(tenant: TenantId, id: BatchId, receipt: &str, at: Time) -> Vec<Step> {
    vec![
        Step::exists("batch", query!(BATCH_EXISTS, tenant, id)),
        Step::unchanged("batch", query!(CLOSE_BATCH, receipt, at, tenant, id)),
    ]
}

pub(crate) fn insert(row: &RevocationRow) -> Vec<Step> {
    let row = row.clone();
    let is_open = query!(BATCH_IS_OPEN, row.batch_tenant, row.batch);
    let insert = query!(
        INSERT,
        row.tenant,
        row.id,
        row.batch_tenant,
        row.batch,
        row.integration,
        row.name,
        row.provider,
        row.config,
        row.mode,
        row.state,
        row.key_id,
        row.sealed,
        row.attempts,
        row.next_at,
        row.detail,
        row.manual_url,
        row.created_at,
        row.settled_at,
        row.remark
    );
    vec![
        Step::exists("batch", query!(BATCH_EXISTS, row.batch_tenant, row.batch)),
        Step::unchanged("batch", is_open),
        Step::insert("revocation", insert),
    ]
}

pub(crate) fn settle(settled: &SettleRevocation) -> Vec<Step> {
    let settled = settled.clone();
    let (tenant, id) = (settled.tenant, settled.revocation);
    let change = match settled.state {
        RevocationState::Pending => query!(
            TRY_AGAIN,
            settled.detail,
            settled.attempts,
            settled.next_at,
            tenant,
            id,
            settled.seen_attempts
        ),
        state => query!(
            SETTLE,
            state,
            settled.detail,
            settled.attempts,
            settled.at,
            tenant,
            id,
            settled.seen_attempts
        ),
    };
    vec![
        Step::exists("revocation", query!(EXISTS, tenant, id)),
        Step::unchanged("revocation", change),
    ]
}

impl Store {
    /// A batch of revocations.
    pub async fn find_batch(
        &self,
        tenant: TenantId,
        id: BatchId,
    ) -> Result<Option<BatchRow>, Error> {
        self.opt(Scope::Tenant(tenant), query!(FIND_BATCH, tenant, id))
            .await?
            .map(read_batch)
            .transpose()
    }

    /// Whose batch that is.
    pub async fn find_tenant_of_batch(&self, id: BatchId) -> Result<Option<TenantId>, Error> {
        let row = self
            .opt(Scope::System, query!(FIND_BATCH_OF_ANY, id))
            .await?;
        row.map(|mut row| row.take()).transpose()
    }

    /// A tenant's batches, newest first, without their receipts.
    pub async fn list_batches(
        &self,
        tenant: TenantId,
        before: Option<BatchId>,
        limit: u32,
    ) -> Result<Vec<BatchRow>, Error> {
        // Behind every id.
        let before = before.map_or("rvc".to_owned(), |id| id.to_string());
        let list = query!(LIST_BATCHES, tenant, before, i64::from(limit));
        self.all(Scope::Tenant(tenant), list, read_batch).await
    }

    /// How many revocations of a batch stand how.
    pub async fn count_revocations(
        &self,
        tenant: TenantId,
        batch: BatchId,
    ) -> Result<RevocationCounts, Error> {
        let read = |mut row: Row| Ok((row.take()?, row.take()?));
        let counted: Vec<(RevocationState, u64)> = self
            .all(Scope::System, query!(COUNTS, tenant, batch), read)
            .await?;
        let mut counts = RevocationCounts::default();
        for (state, count) in counted {
            match state {
                RevocationState::Pending => counts.pending = count,
                RevocationState::Confirmed => counts.confirmed = count,
                RevocationState::Unsupported => counts.unsupported = count,
                RevocationState::Failed => counts.failed = count,
            }
        }
        Ok(counts)
    }

    /// A revocation.
    pub async fn find_revocation(
        &self,
        tenant: TenantId,
        id: RevocationId,
    ) -> Result<Option<RevocationRow>, Error> {
        self.opt(Scope::System, query!(FIND, tenant, id))
            .await?
            .map(read)
            .transpose()
    }

    /// The last revocation of an integration's grant.
    pub async fn find_newest_revocation(
        &self,
        tenant: TenantId,
        integration: IntegrationId,
    ) -> Result<Option<RevocationRow>, Error> {
        let find = query!(FIND_NEWEST, tenant, integration);
        self.opt(Scope::System, find).await?.map(read).transpose()
    }

    /// Batches of all tenants that are not closed, oldest first, from after the given one.
    pub async fn open_batches(
        &self,
        after: Option<BatchId>,
        limit: u32,
    ) -> Result<Vec<BatchRow>, Error> {
        let after = after.map_or(String::new(), |id| id.to_string());
        let open = query!(OPEN_BATCHES, after, i64::from(limit));
        self.all(Scope::System, open, read_batch).await
    }

    /// The revocations of a batch, of whatever tenants they are, oldest first.
    pub async fn list_revocations(
        &self,
        tenant: TenantId,
        batch: BatchId,
        after: Option<RevocationId>,
        limit: u32,
    ) -> Result<Vec<RevocationRow>, Error> {
        let after = after.map_or(String::new(), |id| id.to_string());
        let list = query!(LIST, tenant, batch, after, i64::from(limit));
        self.all(Scope::System, list, read).await
    }

    /// Revocations of all tenants that are to be tried by now, the longest due first.
    pub async fn due_revocations(
        &self,
        now: Time,
        limit: u32,
    ) -> Result<Vec<RevocationRow>, Error> {
        self.all(Scope::System, query!(DUE, now, i64::from(limit)), read)
            .await
    }
}
