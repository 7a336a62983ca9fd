//! Tenants and their members: made at first sight of a user, or by an operator.

use keystead_core::action::{Action, Outcome, Role, TargetKind};
use keystead_core::ids::{MemberId, TenantId};
use keystead_core::time::Time;
use keystead_store::{Effect, MemberRow, TenantRow, TenantState};

use crate::broker::Broker;
use crate::callers::VerifiedToken;
use crate::clock;
use crate::context::Context;
use crate::error::Error;
use crate::page::Page;
use crate::permit::On;

/// A tenant.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// What people call it.
    pub name: String,
    /// The configured issuer that names it; empty where an operator made it without one.
    pub issuer: Option<String>,
    /// That issuer's name for it.
    pub external: Option<String>,
    /// When it was made.
    pub created_at: Time,
}

impl From<TenantRow> for Tenant {
    fn from(row: TenantRow) -> Tenant {
        Tenant {
            id: row.id,
            name: row.name,
            issuer: row.issuer,
            external: row.external,
            created_at: row.created_at,
        }
    }
}

/// A user's place in a tenant.
#[derive(Clone, Debug)]
pub struct Member {
    /// The place's id.
    pub id: MemberId,
    /// The configured issuer's name.
    pub issuer: String,
    /// The issuer's `sub`.
    pub subject: String,
    /// The role.
    pub role: Role,
    /// When the user was put there.
    pub created_at: Time,
}

impl From<MemberRow> for Member {
    fn from(row: MemberRow) -> Member {
        Member {
            id: row.id,
            issuer: row.issuer,
            subject: row.subject,
            role: row.role,
            created_at: row.created_at,
        }
    }
}

const NAME_MOST: usize = 200;

/// Whether it can be the name of a tenant or a user.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_MOST && !text.chars().any(char::is_control)
}

fn checked_name(path: &str, name: &str) -> Result<(), Error> {
    if !is_name(name) {
        return Err(Error::field(
            path,
            format!("must be 1 to {NAME_MOST} bytes without control characters"),
        ));
    }
    Ok(())
}

impl Broker {
    fn new_tenant(
        &self,
        name: &str,
        issuer: &str,
        external: &str,
    ) -> Result<(TenantRow, Vec<Effect>), Error> {
        let at = self.clock().now();
        let row = TenantRow {
            id: TenantId::from_uuid(clock::new_uuid(at)?),
            name: name.to_owned(),
            issuer: Some(issuer.to_owned()),
            external: Some(external.to_owned()),
            state: TenantState::Active,
            created_at: at,
        };
        let key = self.keyring().new_tenant_key(row.id, at)?;
        Ok((row.clone(), vec![Effect::InsertTenant(row), key]))
    }

    pub(crate) async fn make_tenant_at_first_sight(
        &self,
        token: &VerifiedToken,
        external: &str,
        ctx: &Context,
    ) -> Result<TenantRow, Error> {
        let (row, effects) = self.new_tenant(external, &token.issuer, external)?;
        let mut entry = self.entry(
            ctx,
            Action::Put,
            &On::kind(TargetKind::Tenant, row.id).named(row.id),
            Outcome::Allowed,
        );
        entry.caller = "user";
        entry.by = Some(format!("{}|{}", token.issuer, token.subject));
        entry.reason = Some("first sight".into());
        match self.append(entry, effects).await {
            Ok(()) => Ok(row),
            // Another request of the same tenant was first.
            Err(Error::Conflict { .. }) => self
                .store()
                .find_tenant_by_external(&token.issuer, external)
                .await?
                .ok_or_else(|| Error::internal("a tenant that exists cannot be found")),
            Err(fault) => Err(fault),
        }
    }

    /// All tenants, by id.
    ///
    /// # Errors
    /// `Denied` for all but operators.
    pub async fn list_tenants(
        &self,
        ctx: &Context,
        limit: u32,
        after: Option<String>,
    ) -> Result<Page<Tenant>, Error> {
        let on = On::kind(TargetKind::Tenant, TenantId::PLATFORM);
        let decided = self.decide(ctx, Action::List, &on).await?;
        let after = match Page::<Tenant>::after(after.as_deref()) {
            Ok(after) => after,
            Err(fault) => return Err(decided.fail(fault).await),
        };
        decided.record().await?;
        let limit = Page::<Tenant>::limit(limit);
        let rows = self.store().list_tenants(after, limit + 1).await?;
        Ok(Page::of(rows, limit, |row| row.id.to_string()).map(Tenant::from))
    }

    /// Makes a tenant before any of its users was seen.
    ///
    /// # Errors
    /// `Conflict` where that issuer's name is taken.
    pub async fn create_tenant(
        &self,
        ctx: &Context,
        name: String,
        issuer: Option<String>,
        external: Option<String>,
    ) -> Result<Tenant, Error> {
        let on = On::kind(TargetKind::Tenant, TenantId::PLATFORM);
        let decided = self.decide(ctx, Action::Put, &on).await?;
        let external = external.unwrap_or_else(|| name.clone());
        let issuer = issuer.unwrap_or_default();
        let checked = checked_name("name", &name)
            .and_then(|()| checked_name("external", &external))
            .and_then(|()| {
                if issuer.is_empty() || self.callers().issuer_names().any(|known| known == issuer) {
                    Ok(())
                } else {
                    Err(Error::field("issuer", "is no configured issuer's name"))
                }
            });
        if let Err(fault) = checked {
            return Err(decided.fail(fault).await);
        }
        let (row, effects) = self.new_tenant(&name, &issuer, &external)?;
        decided
            .because(row.id.to_string())
            .carry_out(effects)
            .await
            .map_err(|fault| match fault {
                Error::Conflict { .. } => Error::conflict(
                    "duplicate_tenant",
                    "that issuer already has a tenant of this name: list the tenants to find it",
                ),
                other => other,
            })?;
        Ok(row.into())
    }

    /// Deletes a tenant: its integrations, members and keys are destroyed, its entries stay.
    ///
    /// # Errors
    /// `NotFound` where there is none, or it is not the caller's.
    pub async fn delete_tenant(&self, ctx: &Context, id: TenantId) -> Result<(), Error> {
        let on = On::kind(TargetKind::Tenant, id).named(id);
        let decided = self.decide(ctx, Action::Delete, &on).await?;
        let exists = self
            .store()
            .find_tenant(id)
            .await?
            .is_some_and(|row| row.is_active());
        if !exists || id == TenantId::PLATFORM {
            return Err(decided.fail(Error::NotFound { what: "tenant" }).await);
        }
        decided
            .carry_out(vec![Effect::DeleteTenant { tenant: id }])
            .await?;
        self.keyring().forget(id);
        self.epochs().move_callers();
        Ok(())
    }

    /// The members of the tenant that were put there.
    ///
    /// # Errors
    /// As decided.
    pub async fn list_members(&self, ctx: &Context) -> Result<Vec<Member>, Error> {
        let tenant = self
            .tenant_of(ctx, Action::List, TargetKind::Member)
            .await?;
        self.decide(ctx, Action::List, &On::kind(TargetKind::Member, tenant))
            .await?
            .record()
            .await?;
        Ok(self
            .store()
            .list_members(tenant)
            .await?
            .into_iter()
            .map(Member::from)
            .collect())
    }

    /// Gives a user a role in the tenant.
    ///
    /// # Errors
    /// `Invalid` for an issuer that is not configured.
    pub async fn put_member(
        &self,
        ctx: &Context,
        issuer: String,
        subject: String,
        role: Role,
    ) -> Result<Member, Error> {
        let tenant = self
            .tenant_of(ctx, Action::Grant, TargetKind::Member)
            .await?;
        let on = On::kind(TargetKind::Member, tenant).named(format!("{issuer}|{subject}"));
        let decided = self.decide(ctx, Action::Grant, &on).await?;
        if !self.callers().issuer_names().any(|known| known == issuer) {
            return Err(decided
                .fail(Error::field("issuer", "is no configured issuer's name"))
                .await);
        }
        if let Err(fault) = checked_name("subject", &subject) {
            return Err(decided.fail(fault).await);
        }
        let now = self.clock().now();
        let present = self.store().find_member(tenant, &issuer, &subject).await?;
        let (row, effect) = match present {
            Some(present) => {
                let row = MemberRow { role, ..present };
                (
                    row.clone(),
                    Effect::UpdateMember {
                        tenant,
                        member: row.id,
                        role,
                        at: now,
                    },
                )
            }
            None => {
                let id = MemberId::from_uuid(clock::new_uuid(now)?);
                let row = MemberRow {
                    tenant,
                    id,
                    issuer,
                    subject,
                    role,
                    created_at: now,
                    updated_at: now,
                };
                (row.clone(), Effect::InsertMember(row))
            }
        };
        decided
            .because(role.as_str())
            .carry_out(vec![effect])
            .await?;
        self.epochs().move_callers();
        Ok(row.into())
    }

    /// Takes a user's place in the tenant away.
    ///
    /// # Errors
    /// `NotFound` where there is none.
    pub async fn delete_member(&self, ctx: &Context, id: MemberId) -> Result<(), Error> {
        let tenant = self
            .tenant_of(ctx, Action::Grant, TargetKind::Member)
            .await?;
        let decided = self
            .decide(
                ctx,
                Action::Grant,
                &On::kind(TargetKind::Member, tenant).named(id),
            )
            .await?;
        let done = decided
            .because("removed")
            .carry_out(vec![Effect::DeleteMember { tenant, member: id }])
            .await;
        self.epochs().move_callers();
        done.map_err(|fault| match fault {
            Error::Conflict { .. } => Error::NotFound { what: "member" },
            other => other,
        })
    }
}
