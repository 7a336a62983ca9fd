//! Rotations: a credential on its way to the next one, and how often that is done.
//!
//! What always holds: a step is recorded by compare-and-swap on the row's own revision, so of two
//! nodes that take one up, one goes on.
//!
//! Deliberately not here: what the steps are (core), and what is done in them (broker).

use keystead_core::ids::{IntegrationId, SealKeyId, TenantId};
use keystead_core::time::Time;

use crate::effect::Step;
use crate::integration;
use crate::value::{Row, Scope, query};
use crate::{Error, Store};

/// The rotation of an integration's credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotationRow {
    /// Whose.
    pub tenant: TenantId,
    /// Of which integration.
    pub integration: IntegrationId,
    /// The step that is next.
    pub step: String,
    /// The version of the credential that it began with.
    pub credential_version: u64,
    /// How often; `None`: when it is asked for.
    pub every_seconds: Option<u64>,
    /// For so long the credential before stays valid.
    pub grace_seconds: u64,
    /// When a rotation last put a new credential in its place.
    pub rotated_at: Option<Time>,
    /// When something is to be done next.
    pub next_at: Option<Time>,
    /// The key that sealed what is kept between the steps.
    pub key_id: Option<SealKeyId>,
    /// The sealed bytes.
    pub sealed: Option<Vec<u8>>,
    /// Attempts at the step.
    pub attempts: u64,
    /// What came of the last one.
    pub detail: Option<String>,
    /// Since when it is under way.
    pub started_at: Option<Time>,
    /// 1 at first; the store counts it up with each change.
    pub revision: u64,
    /// Last changed.
    pub updated_at: Time,
}

const FIND: &str = "SELECT tenant_id, integration_id, step, credential_version, every_seconds, grace_seconds, rotated_at, next_at, key_id, sealed, attempts, \
     detail, started_at, revision, updated_at FROM rotation WHERE tenant_id = $1 AND integration_id = $2";
const DUE: &str = "SELECT tenant_id, integration_id, step, credential_version, every_seconds, grace_seconds, rotated_at, next_at, key_id, sealed, attempts, \
     detail, started_at, revision, updated_at FROM rotation WHERE next_at <= $1 ORDER BY next_at, integration_id LIMIT $2";
const INSERT: &str = "INSERT INTO rotation (tenant_id, integration_id, step, credential_version, every_seconds, grace_seconds, rotated_at, next_at, key_id, \
     sealed, attempts, detail, started_at, revision, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";
const EXISTS: &str = "SELECT 1 FROM rotation WHERE tenant_id = $1 AND integration_id = $2";
const UPDATE: &str = "UPDATE rotation SET step = $1, credential_version = $2, every_seconds = $3, grace_seconds = $4, rotated_at = $5, \
     next_at = $6, key_id = $7, sealed = $8, attempts = $9, detail = $10, started_at = $11, revision = revision + 1, \
     updated_at = $12 WHERE tenant_id = $13 AND integration_id = $14 AND revision = $15";
const DELETE: &str = "DELETE FROM rotation WHERE tenant_id = $1 AND integration_id = $2";

fn read(mut row: Row) -> Result<RotationRow, Error> {
    Ok(RotationRow {
        tenant: row.take()?,
        integration: row.take()?,
        step: row.take()?,
        credential_version: row.take()?,
        every_seconds: row.take()?,
        grace_seconds: row.take()?,
        rotated_at: row.take()?,
        next_at: row.take()?,
        key_id: row.take()?,
        sealed: row.take()?,
        attempts: row.take()?,
        detail: row.take()?,
        started_at: row.take()?,
        revision: row.take()?,
        updated_at: row.take()?,
    })
}

pub(crate) fn put(row: &RotationRow, expected_revision: Option<u64>) -> Vec<Step> {
    let row = row.clone();
    let (tenant, integration) = (row.tenant, row.integration);
    let Some(expected) = expected_revision else {
        let insert = query!(
            INSERT,
            tenant,
            integration,
            row.step,
            row.credential_version,
            row.every_seconds,
            row.grace_seconds,
            row.rotated_at,
            row.next_at,
            row.key_id,
            row.sealed,
            row.attempts,
            row.detail,
            row.started_at,
            row.revision,
            row.updated_at
        );
        return vec![
            integration::exists(tenant, integration),
            Step::insert("rotation", insert),
        ];
    };
    let update = query!(
        UPDATE,
        row.step,
        row.credential_version,
        row.every_seconds,
        row.grace_seconds,
        row.rotated_at,
        row.next_at,
        row.key_id,
        row.sealed,
        row.attempts,
        row.detail,
        row.started_at,
        row.updated_at,
        tenant,
        integration,
        expected
    );
    vec![
        Step::exists("rotation", query!(EXISTS, tenant, integration)),
        Step::unchanged("rotation", update),
    ]
}

pub(crate) fn delete(tenant: TenantId, integration: IntegrationId) -> Vec<Step> {
    vec![Step::exists(
        "rotation",
        query!(DELETE, tenant, integration),
    )]
}

impl Store {
    /// The rotation of an integration's credential.
    pub async fn find_rotation(
        &self,
        tenant: TenantId,
        integration: IntegrationId,
    ) -> Result<Option<RotationRow>, Error> {
        self.opt(Scope::Tenant(tenant), query!(FIND, tenant, integration))
            .await?
            .map(read)
            .transpose()
    }

    /// Rotations of all tenants with something to do by now, the longest due first.
    pub async fn due_rotations(&self, now: Time, limit: u32) -> Result<Vec<RotationRow>, Error> {
        self.all(Scope::System, query!(DUE, now, i64::from(limit)), read)
            .await
    }
}
