//! Members: a user's place in a tenant.
//!
//! What always holds: a subject of an issuer is at most once in a tenant.

use keystead_core::action::Role;
use keystead_core::ids::{MemberId, TenantId};
use keystead_core::time::Time;

use crate::effect::Step;
use crate::value::{Row, Scope, query};
use crate::{Error, Store};

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRow {
    /// Of which tenant.
    pub tenant: TenantId,
    /// Its id.
    pub id: MemberId,
    /// The configured issuer that proves them.
    pub issuer: String,
    /// That issuer's `sub`.
    pub subject: String,
    /// What they may do.
    pub role: Role,
    /// Since when.
    pub created_at: Time,
    /// Last changed.
    pub updated_at: Time,
}

const FIND: &str = "SELECT tenant_id, member_id, issuer, subject, role, created_at, updated_at FROM member \
     WHERE tenant_id = $1 AND issuer = $2 AND subject = $3";
const LIST: &str = "SELECT tenant_id, member_id, issuer, subject, role, created_at, updated_at FROM member \
     WHERE tenant_id = $1 ORDER BY member_id";
const INSERT: &str = "INSERT INTO member (tenant_id, member_id, issuer, subject, role, created_at, updated_at) \
     VALUES ($1, $2, $3, $4, $5, $6, $7)";
const UPDATE: &str =
    "UPDATE member SET role = $1, updated_at = $2 WHERE tenant_id = $3 AND member_id = $4";
const DELETE: &str = "DELETE FROM member WHERE tenant_id = $1 AND member_id = $2";

fn read(mut row: Row) -> Result<MemberRow, Error> {
    Ok(MemberRow {
        tenant: row.take()?,
        id: row.take()?,
        issuer: row.take()?,
        subject: row.take()?,
        role: row.take()?,
        created_at: row.take()?,
        updated_at: row.take()?,
    })
}

pub(crate) fn insert(row: &MemberRow) -> Vec<Step> {
    let row = row.clone();
    vec![Step::insert(
        "member",
        query!(
            INSERT,
            row.tenant,
            row.id,
            row.issuer,
            row.subject,
            row.role,
            row.created_at,
            row.updated_at
        ),
    )]
}

pub(crate) fn update(tenant: TenantId, id: MemberId, role: Role, at: Time) -> Vec<Step> {
    vec![Step::exists("member", query!(UPDATE, role, at, tenant, id))]
}

pub(crate) fn delete(tenant: TenantId, id: MemberId) -> Vec<Step> {
    vec![Step::exists("member", query!(DELETE, tenant, id))]
}

impl Store {
    /// A subject's place in a tenant.
    pub async fn find_member(
        &self,
        tenant: TenantId,
        issuer: &str,
        subject: &str,
    ) -> Result<Option<MemberRow>, Error> {
        self.opt(Scope::Tenant(tenant), query!(FIND, tenant, issuer, subject))
            .await?
            .map(read)
            .transpose()
    }

    /// All members of a tenant, oldest first.
    pub async fn list_members(&self, tenant: TenantId) -> Result<Vec<MemberRow>, Error> {
        self.all(Scope::Tenant(tenant), query!(LIST, tenant), read)
            .await
    }
}
