//! Finding the integrations that are meant, a page at a time, and taking them out.
//!
//! What always holds: what was used in a time is found in the log, by each use and not by the last;
//! a selection that is begun again goes over what was taken out before, and finds the same.

use std::collections::BTreeSet;

use futures_util::stream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use keystead_core::ids::{IntegrationId, TenantId};
use keystead_core::time::Time;
use keystead_store::{BatchRow, Effect, IntegrationRow, RevocationSelector};

use super::model::Selection;
use super::take::Take;
use super::work::Held;
use crate::broker::Broker;
use crate::error::Error;
use crate::permit::On;

const PAGE: u32 = 200;
/// Integrations that are taken out at once.
const AT_ONCE: usize = 16;
/// Entries of the log that are looked through in one statement.
const WINDOW: u64 = 50_000;
/// Entries stand in the order in which they were written, and carry the time at which they were
/// begun, by the clock of their node. So far those clocks may be wrong.
const APART_SECONDS: i64 = 24 * 3600;

/// Where a selection goes on.
pub(super) enum Place {
    /// These, by tenant.
    Named(Vec<(TenantId, IntegrationId)>),
    /// Those that entries name, from this number on to before that.
    Used { from: u64, to: u64 },
    /// All, behind this one.
    All(Option<(TenantId, IntegrationId)>),
}

impl Broker {
    /// Where a selection begins.
    pub(super) async fn begin(&self, selection: &Selection) -> Result<Place, Error> {
        if let Some((since, until)) = selection.used_between() {
            let from = self.first_at(since.plus_seconds(-APART_SECONDS)).await?;
            let to = self.first_at(until.plus_seconds(APART_SECONDS)).await?;
            return Ok(Place::Used { from, to });
        }
        if selection.integrations.is_empty() {
            return Ok(Place::All(None));
        }
        let mut named = Vec::new();
        if let Some(tenant) = selection.tenant {
            named.extend(selection.integrations.iter().map(|id| (tenant, *id)));
            return Ok(Place::Named(named));
        }
        // Nothing shows integrations across tenants: each is asked for.
        let mut after = None;
        loop {
            let tenants = self.store().list_tenants(after, PAGE).await?;
            for tenant in tenants.iter().filter(|tenant| tenant.is_active()) {
                for id in &selection.integrations {
                    if self
                        .store()
                        .find_integration(tenant.id, *id)
                        .await?
                        .is_some()
                    {
                        named.push((tenant.id, *id));
                    }
                }
            }
            after = tenants.last().map(|tenant| tenant.id);
            if tenants.len() < PAGE as usize {
                return Ok(Place::Named(named));
            }
        }
    }

    /// The number of the first entry that was made then or later.
    async fn first_at(&self, at: Time) -> Result<u64, Error> {
        let (mut low, mut high) = (0, self.store().head().await?.size);
        while low < high {
            let middle = low + (high - low) / 2;
            let before = self.store().entry_time(middle).await?;
            if before.is_some_and(|before| before < at) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// The next page, and where it goes on from there; some may come more than once.
    pub(super) async fn next_page(
        &self,
        selection: &Selection,
        place: Place,
    ) -> Result<(Vec<IntegrationRow>, Option<Place>), Error> {
        let (mut rows, next) = match place {
            Place::Named(mut ids) => {
                let rest = ids.split_off(ids.len().min(PAGE as usize));
                let next = (!rest.is_empty()).then_some(Place::Named(rest));
                (self.rows(ids).await?, next)
            }
            Place::Used { from, to } => {
                let end = to.min(from.saturating_add(WINDOW));
                let between = selection.used_between().unwrap_or((Time(0), Time(0)));
                let used = self
                    .store()
                    .used_integrations(selection.tenant, (from, end), between)
                    .await?;
                let next = (end < to).then_some(Place::Used { from: end, to });
                let named: BTreeSet<_> = selection.integrations.iter().collect();
                let meant = |id: &IntegrationId| named.is_empty() || named.contains(id);
                let ids = used.into_iter().filter(|(_, id)| meant(id)).collect();
                (self.rows(ids).await?, next)
            }
            Place::All(after) => {
                let selector = RevocationSelector {
                    tenant: selection.tenant,
                    provider: selection.provider.clone(),
                };
                let rows = self
                    .store()
                    .list_integrations_for_revocation(&selector, after, PAGE)
                    .await?;
                let last = rows.last().map(|row| (row.tenant, row.id));
                let full = rows.len() == PAGE as usize;
                (
                    rows,
                    last.filter(|_| full).map(|last| Place::All(Some(last))),
                )
            }
        };
        let provider = selection.provider.as_ref();
        rows.retain(|row| provider.is_none_or(|provider| row.provider == *provider));
        Ok((rows, next))
    }

    async fn rows(
        &self,
        ids: Vec<(TenantId, IntegrationId)>,
    ) -> Result<Vec<IntegrationRow>, Error> {
        let found = stream::iter(ids).map(|(tenant, id)| self.store().find_integration(tenant, id));
        let rows: Vec<_> = found.buffered(AT_ONCE).try_collect().await?;
        Ok(rows.into_iter().flatten().collect())
    }

    /// Takes out all that a batch selects, and says that this is all.
    pub(super) async fn select(&self, batch: &BatchRow, held: &Held<'_>) -> Result<(), Error> {
        let selection = Selection::read(batch)?;
        let mut place = Some(self.begin(&selection).await?);
        while let Some(here) = place {
            if !held.prolong().await? {
                return Ok(());
            }
            let (rows, next) = self.next_page(&selection, here).await?;
            place = next;
            let taken = stream::iter(rows).map(|row| async move {
                let ctx = self.own_context(row.tenant);
                let take = Take {
                    ctx: &ctx,
                    batch,
                    delete: false,
                };
                self.take_out(&take, row.tenant, row.id, None).await
            });
            let mut taken = taken.buffer_unordered(AT_ONCE);
            while let Some(done) = taken.next().await {
                done?;
            }
        }
        let ctx = self.own_context(batch.tenant);
        let on = On::kind(super::KIND, batch.tenant).named(batch.id);
        let selected = Effect::SelectedBatch {
            tenant: batch.tenant,
            batch: batch.id,
        };
        self.decide_for_system(&ctx, super::ACTION, &on)
            .because("all that it selects is out of use")
            .carry_out(vec![selected])
            .await
    }
}
