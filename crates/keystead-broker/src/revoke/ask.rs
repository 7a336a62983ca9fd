//! Asking for revocations, and looking at them.
//!
//! What always holds: whoever asks may delete all that is selected: a selection that goes beyond a
//! key's scope is refused as a whole. A batch is its tenant's; the operator's own are the platform's.

use keystead_core::caller::Caller;
use keystead_core::ids::{BatchId, IntegrationId, TenantId};
use keystead_core::time::Time;
use keystead_store::{BatchRow, Effect, IntegrationRow};

use super::model::{
    Batch, BatchPage, Candidate, NewRevocation, Preview, Revocation, Selection, check,
};
use super::take::Take;
use super::{ACTION, KIND};
use crate::broker::Broker;
use crate::clock;
use crate::context::Context;
use crate::error::Error;
use crate::integrations::{expected_revision, matches};
use crate::page::Page;
use crate::permit::{Decided, On};

/// More than that have to be named with their tenant.
const UNPLACED_MOST: usize = 20;
/// How many a preview names.
const PREVIEWED: usize = 200;

/// What was asked for, and may be.
struct Asked {
    decided: Decided,
    /// Whose the batch is.
    owner: TenantId,
    selection: Selection,
}

fn is_operator(ctx: &Context) -> bool {
    matches!(ctx.caller.as_deref(), Some(Caller::Operator { .. }))
}

/// What a batch is about, for a decision.
fn on_of(tenant: TenantId, selection: &Selection) -> On {
    let mut on = On::kind(KIND, tenant);
    on.provider = selection.provider.clone();
    if let [only] = selection.integrations.as_slice() {
        on.integration = Some(*only);
    }
    on
}

impl Broker {
    /// What a revocation would take back; nothing is changed.
    ///
    /// # Errors
    /// As for [`Broker::create_revocation`].
    pub async fn preview_revocation(
        &self,
        ctx: &Context,
        new: NewRevocation,
    ) -> Result<Preview, Error> {
        let asked = self.asked(ctx, new).await?;
        asked.decided.because("only looked at").record().await?;
        let (mut seen, mut first) = (std::collections::BTreeSet::new(), Vec::new());
        let mut place = Some(self.begin(&asked.selection).await?);
        while let Some(here) = place {
            let (rows, next) = self.next_page(&asked.selection, here).await?;
            place = next;
            for row in rows {
                // Only what is out of use anyway can have been taken back before.
                let before = row.disabled && self.is_revoked(&row).await?;
                if before || !seen.insert((row.tenant, row.id)) {
                    continue;
                }
                if first.len() < PREVIEWED {
                    first.push(Candidate {
                        integration: row.id,
                        name: row.name,
                        tenant: row.tenant,
                        provider: row.provider,
                        last_used_at: row.last_used_at,
                    });
                }
            }
        }
        let total = seen.len() as u64;
        Ok(Preview { total, first })
    }

    /// Puts what is selected out of use and takes the grants back, in the background.
    ///
    /// # Errors
    /// `Invalid`; `NotFound` for a tenant or an integration that is not the caller's; `Denied` for a
    /// selection that is not within what the caller may delete.
    pub async fn create_revocation(
        &self,
        ctx: &Context,
        new: NewRevocation,
    ) -> Result<Batch, Error> {
        let asked = self.asked(ctx, new).await?;
        let at = self.clock().now();
        let batch = self.new_batch(ctx, asked.owner, &asked.selection, None, at)?;
        asked
            .decided
            .because(format!("revocation {}", batch.id))
            .carry_out(vec![Effect::InsertBatch(Box::new(batch.clone()))])
            .await?;
        self.work_later(batch.clone());
        Batch::read(&batch, Default::default())
    }

    /// Deletes an integration and takes its grant back, in the background.
    ///
    /// # Errors
    /// As for deleting; `Conflict` where its grant is being taken back already.
    pub async fn revoke_integration(
        &self,
        ctx: &Context,
        id: IntegrationId,
        if_match: Option<String>,
    ) -> Result<BatchPage, Error> {
        let row = self.find(ctx, ACTION, id).await?;
        let on = On::integration(row.tenant, id, &row.provider);
        let decided = self.decide(ctx, ACTION, &on).await?;
        if !matches(&row, if_match.as_deref()) {
            return Err(decided.fail(Error::Precondition).await);
        }
        if self.is_revoked(&row).await? {
            let fault = Error::conflict(
                "revoked",
                "its grant was taken back before: delete it without revoke",
            );
            return Err(decided.fail(fault).await);
        }
        drop(decided);
        let expected = expected_revision(&row, if_match.as_deref());
        let selection = Selection {
            tenant: Some(row.tenant),
            integrations: vec![id],
            deleted: true,
            ..Selection::default()
        };
        let at = self.clock().now();
        let batch = self.new_batch(ctx, row.tenant, &selection, Some(1), at)?;
        let (broker, own, made) = (self.clone(), ctx.clone(), batch.clone());
        // On its own task: it may wait for a renewal, and is not cut in two by whoever hangs up.
        let taken = tokio::spawn(async move {
            let take = Take {
                ctx: &own,
                batch: &made,
                delete: true,
            };
            let taken = broker.take_out(&take, row.tenant, id, expected).await?;
            if let Some(taken) = &taken {
                if taken.iter().all(|grant| grant.settled_at.is_some()) {
                    broker.close(made.tenant, made.id).await?;
                } else {
                    broker.work_later(made);
                }
            }
            Ok::<_, Error>(taken)
        });
        let taken = taken
            .await
            .map_err(|_| Error::internal("a revocation ended early"))??;
        let taken = taken.ok_or(Error::NotFound {
            what: "integration",
        })?;
        let counts = self
            .store()
            .count_revocations(batch.tenant, batch.id)
            .await?;
        let batch = BatchRow {
            total: Some(taken.len() as u64),
            ..batch
        };
        Ok(BatchPage {
            batch: Batch::read(&batch, counts)?,
            items: Page {
                data: taken.into_iter().map(Revocation::from).collect(),
                next: None,
            },
        })
    }

    /// The tenant's batches, newest first; for an operator without a tenant the platform's.
    ///
    /// # Errors
    /// `Invalid` for a place that is none.
    pub async fn list_revocations(
        &self,
        ctx: &Context,
        limit: u32,
        after: Option<String>,
    ) -> Result<Page<Batch>, Error> {
        let list = keystead_core::action::Action::List;
        let owner = self.owner(ctx, list).await?;
        let decided = self.decide(ctx, list, &On::kind(KIND, owner)).await?;
        let before = match Page::<BatchRow>::after(after.as_deref()) {
            Ok(before) => before,
            Err(fault) => return Err(decided.fail(fault).await),
        };
        decided.record().await?;
        let limit = Page::<BatchRow>::limit(limit);
        let rows = self.store().list_batches(owner, before, limit + 1).await?;
        let page = Page::of(rows, limit, |row| row.id.to_string());
        let mut data = Vec::with_capacity(page.data.len());
        for row in &page.data {
            let counts = self.store().count_revocations(row.tenant, row.id).await?;
            data.push(Batch::read(row, counts)?);
        }
        let next = page.next;
        Ok(Page { data, next })
    }

    /// A batch, and a page of what is in it.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for a place that is none.
    pub async fn find_revocation(
        &self,
        ctx: &Context,
        id: BatchId,
        limit: u32,
        after: Option<String>,
    ) -> Result<BatchPage, Error> {
        let (decided, row) = self.batch(ctx, id).await?;
        let after = match Page::<Revocation>::after(after.as_deref()) {
            Ok(after) => after,
            Err(fault) => return Err(decided.fail(fault).await),
        };
        decided.record().await?;
        let limit = Page::<Revocation>::limit(limit);
        let counts = self.store().count_revocations(row.tenant, id).await?;
        let rows = self
            .store()
            .list_revocations(row.tenant, id, after, limit + 1)
            .await?;
        Ok(BatchPage {
            batch: Batch::read(&row, counts)?,
            items: Page::of(rows, limit, |row| row.id.to_string()).map(Revocation::from),
        })
    }

    /// The receipt of a batch that is closed, as it was signed.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` while something is pending.
    pub async fn revocation_receipt(&self, ctx: &Context, id: BatchId) -> Result<String, Error> {
        let (decided, row) = self.batch(ctx, id).await?;
        match row.receipt {
            Some(receipt) => {
                decided.record().await?;
                Ok(receipt)
            }
            None => {
                let fault = Error::conflict(
                    "not_closed",
                    "its receipt is made when each grant has ended: /api/revocations/{id} says how far it is",
                );
                Err(decided.fail(fault).await)
            }
        }
    }

    /// Whose batches: an operator without a tenant has the platform's.
    async fn owner(
        &self,
        ctx: &Context,
        action: keystead_core::action::Action,
    ) -> Result<TenantId, Error> {
        if is_operator(ctx) {
            return Ok(ctx.tenant.unwrap_or(TenantId::PLATFORM));
        }
        self.tenant_of(ctx, action, KIND).await
    }

    /// A batch that the caller may see.
    async fn batch(&self, ctx: &Context, id: BatchId) -> Result<(Decided, BatchRow), Error> {
        let info = keystead_core::action::Action::Info;
        let owner = match ctx.tenant {
            None if is_operator(ctx) => self.store().find_tenant_of_batch(id).await?,
            _ => Some(self.owner(ctx, info).await?),
        };
        let row = match owner {
            Some(owner) => self.store().find_batch(owner, id).await?,
            None => None,
        };
        let Some(row) = row else {
            let tenant = ctx.tenant.unwrap_or(TenantId::PLATFORM);
            let on = On::kind(KIND, tenant).named(id);
            self.deny(ctx, info, &on, "not found").await?;
            return Err(Error::NotFound { what: "revocation" });
        };
        let on = on_of(row.tenant, &Selection::read(&row)?).named(id);
        Ok((self.decide(ctx, info, &on).await?, row))
    }

    fn new_batch(
        &self,
        ctx: &Context,
        owner: TenantId,
        selection: &Selection,
        total: Option<u64>,
        at: Time,
    ) -> Result<BatchRow, Error> {
        Ok(BatchRow {
            tenant: owner,
            id: BatchId::from_uuid(clock::new_uuid(at)?),
            asked_by: ctx.caller.as_deref().map(Caller::name).unwrap_or_default(),
            selector: selection.to_text()?,
            total,
            created_at: at,
            closed_at: None,
            receipt: None,
        })
    }

    /// Reads what is asked for, and decides.
    async fn asked(&self, ctx: &Context, new: NewRevocation) -> Result<Asked, Error> {
        let owner = self.owner(ctx, ACTION).await?;
        // Where the caller acts in a tenant, there is no other for it.
        let within = ctx.tenant;
        let tenant = match &new.tenant {
            None => within,
            Some(text) => {
                let named = self.named_tenant(text).await?;
                let own = named.filter(|named| within.is_none_or(|within| within == *named));
                if own.is_none() {
                    let on = On::kind(KIND, owner).named(text);
                    self.deny(ctx, ACTION, &on, "other tenant").await?;
                    return Err(Error::NotFound { what: "tenant" });
                }
                own
            }
        };
        let provider = new.provider.as_ref().map(|id| {
            let known = self.catalogue().get(id);
            known.map_or_else(|| id.clone(), |provider| provider.id.clone())
        });
        let selection = Selection {
            tenant,
            provider,
            integrations: new.integrations.clone(),
            used_from: new.used_between.map(|(from, _)| from.rfc3339()),
            used_until: new.used_between.map(|(_, until)| until.rfc3339()),
            reason: new.reason.clone(),
            deleted: false,
        };
        let decided = match (tenant, selection.integrations.as_slice()) {
            (Some(tenant), ids) if !ids.is_empty() => self.decide_each(ctx, tenant, ids).await?,
            _ => self.decide(ctx, ACTION, &on_of(owner, &selection)).await?,
        };
        let mut faults = check(&new);
        if tenant.is_none() && selection.integrations.len() > UNPLACED_MOST {
            let message = format!("more than {UNPLACED_MOST} have to be named with their tenant");
            faults.push(crate::error::FieldFault::new("tenant", message));
        }
        if !faults.is_empty() {
            return Err(decided.fail(Error::Invalid(faults)).await);
        }
        if let Some(id) = selection.provider.as_ref()
            && self.catalogue().get(id).is_none()
        {
            return Err(decided.fail(self.unknown_type("provider", id)).await);
        }
        Ok(Asked {
            decided,
            owner,
            selection,
        })
    }

    /// Decides on each integration that is named; one that is not there, or not the caller's to
    /// delete, refuses all.
    async fn decide_each(
        &self,
        ctx: &Context,
        tenant: TenantId,
        ids: &[IntegrationId],
    ) -> Result<Decided, Error> {
        let mut last = None;
        for id in ids.iter().take(super::model::IDS_MOST) {
            let found = self.store().find_integration(tenant, *id).await?;
            let Some(row): Option<IntegrationRow> = found else {
                let on = On::kind(KIND, tenant).named(id);
                self.deny(ctx, ACTION, &on, "not found").await?;
                return Err(Error::NotFound {
                    what: "integration",
                });
            };
            let on = On::integration(tenant, *id, &row.provider);
            last = Some(self.decide(ctx, ACTION, &on).await?);
        }
        last.ok_or_else(|| Error::internal("no integration is named"))
    }
}
