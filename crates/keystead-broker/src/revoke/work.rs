//! Asking providers in the background: at once by the node that took the grants out, then by
//! whoever has the duty, for a week.
//!
//! What always holds: whoever asks has claimed the revocation, for longer than asking can take; a
//! claim that nobody followed up is asked again.

use futures_util::StreamExt as _;
use futures_util::stream;
use keystead_core::action::Outcome;
use keystead_core::ids::{RevocationId, TenantId};
use keystead_core::time::Time;
use keystead_store::{BatchRow, Effect, RevocationRow, RevocationState, SettleRevocation};

use super::ACTION;
use super::answer::Verdict;
use crate::broker::Broker;
use crate::clock;
use crate::context::Context;
use crate::error::Error;
use crate::permit::{On, Revoke};

/// For so long nobody else asks. All of a provider's calls end before.
pub(super) const CLAIM_SECONDS: i64 = 120;
/// How long a batch is its worker's without being prolonged.
const HELD_SECONDS: u32 = 60;
/// Calls under way at once, of this node.
const AT_ONCE: usize = 16;
const FIRST_PAUSE: i64 = 60;
const LONGEST_PAUSE: i64 = 12 * 3600;
const GIVEN_UP_AFTER: i64 = 7 * 24 * 3600;
const PAGE: u32 = 200;
/// Pages of what is due in one go: a store that fails does not keep anybody here.
const PAGES: u32 = 50;

/// When to ask again after so many attempts: `jitter` from 0 to 255 spreads it by a fifth.
fn pause(attempts: u64, jitter: u8) -> i64 {
    let doubled = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
    let pause = FIRST_PAUSE
        .saturating_mul(1_i64.checked_shl(doubled.min(20)).unwrap_or(i64::MAX))
        .min(LONGEST_PAUSE);
    pause + pause * (i64::from(jitter) - 128) / 640
}

/// When the next attempt is; `None` where it was the last.
fn next_attempt(
    row: &RevocationRow,
    now: Time,
    retry_after: Option<u32>,
    jitter: u8,
) -> Option<Time> {
    let end = row.created_at.plus_seconds(GIVEN_UP_AFTER);
    if now >= end {
        return None;
    }
    let pause = pause(row.attempts + 1, jitter).max(retry_after.map_or(0, i64::from));
    // Once more at the end, however long the provider wants to be left alone.
    Some(now.plus_seconds(pause).min(end))
}

/// A batch that this worker holds, so that two nodes do not both work on it.
pub(super) struct Held<'a> {
    broker: &'a Broker,
    duty: String,
    holder: String,
}

impl Held<'_> {
    /// Whether it is still, or again, this worker's.
    pub(super) async fn prolong(&self) -> Result<bool, Error> {
        let store = self.broker.store();
        let fence = store.take_duty(&self.duty, &self.holder, HELD_SECONDS);
        Ok(fence.await?.is_some())
    }
}

impl Broker {
    /// Works on a batch in the background, as far as it can be done now.
    pub(super) fn work_later(&self, batch: BatchRow) {
        let broker = self.clone();
        tokio::spawn(async move {
            if let Err(fault) = broker.work_on(&batch).await {
                tracing::warn!(?fault, batch = %batch.id, "a revocation is taken up again later");
            }
        });
    }

    /// Takes out what a batch selects, asks the providers a first time, and closes it if that was all.
    pub(super) async fn work_on(&self, batch: &BatchRow) -> Result<(), Error> {
        let held = Held {
            broker: self,
            duty: batch.id.to_string(),
            holder: self.new_request_id().to_string(),
        };
        if !held.prolong().await? {
            return Ok(());
        }
        if batch.total.is_none() {
            self.select(batch, &held).await?;
        }
        let mut after = None;
        loop {
            if !held.prolong().await? {
                return Ok(());
            }
            let page = self
                .store()
                .list_revocations(batch.tenant, batch.id, after, PAGE)
                .await?;
            after = page.last().map(|row| row.id);
            let full = page.len() == PAGE as usize;
            let first = page.into_iter().filter(|row| row.attempts == 0);
            self.attempt_all(first.collect()).await;
            if !full {
                break;
            }
        }
        self.close(batch.tenant, batch.id).await
    }

    /// What is due by now, of all batches: the duty of one node at a time, and harmless on several.
    ///
    /// # Errors
    /// `Unavailable` where the store is away; the rest is done again when it is due.
    pub async fn due_revocations(&self) -> Result<(), Error> {
        for _ in 0..PAGES {
            let due = self
                .store()
                .due_revocations(self.clock().now(), PAGE)
                .await?;
            let full = due.len() == PAGE as usize;
            self.attempt_all(due).await;
            if !full {
                break;
            }
        }
        let mut after = None;
        loop {
            let open = self.store().open_batches(after, PAGE).await?;
            for batch in &open {
                let done = match batch.total {
                    None => self.work_on(batch).await,
                    Some(_) => self.close(batch.tenant, batch.id).await,
                };
                if let Err(fault) = done {
                    tracing::warn!(?fault, batch = %batch.id, "a revocation is taken up again later");
                }
            }
            after = open.last().map(|batch| batch.id);
            if open.len() < PAGE as usize {
                return Ok(());
            }
        }
    }

    async fn attempt_all(&self, rows: Vec<RevocationRow>) {
        let attempts = stream::iter(rows).map(|row| async move {
            if let Err(fault) = self.attempt(row.tenant, row.id).await {
                tracing::warn!(?fault, revocation = %row.id, "a revocation is taken up again later");
            }
        });
        attempts.buffer_unordered(AT_ONCE).collect::<()>().await;
    }

    /// Asks the provider, unless somebody else does.
    pub(super) async fn attempt(&self, tenant: TenantId, id: RevocationId) -> Result<(), Error> {
        let Some(row) = self.store().find_revocation(tenant, id).await? else {
            return Ok(());
        };
        let now = self.clock().now();
        let claimed = row.attempts > 0 && row.next_at.is_some_and(|at| at > now);
        if row.state != RevocationState::Pending || claimed {
            return Ok(());
        }
        let ctx = self.own_context(tenant);
        let on = On::integration(tenant, row.integration, &row.provider);
        let claim = Effect::SettleRevocation(SettleRevocation {
            tenant,
            revocation: id,
            seen_attempts: row.attempts,
            state: RevocationState::Pending,
            detail: row.detail.clone(),
            attempts: row.attempts + 1,
            next_at: Some(now.plus_seconds(CLAIM_SECONDS)),
            at: now,
        });
        let decided = self
            .decide_for_system(&ctx, ACTION, &on)
            .because(format!("the provider is asked, {}", row.batch));
        let permit = match decided.permit_changing::<Revoke>(0, vec![claim]).await {
            Ok(permit) => permit,
            // Somebody else asks, or the tenant is gone.
            Err(Error::Conflict { .. } | Error::NotFound { .. }) => return Ok(()),
            Err(fault) => return Err(fault),
        };
        let keys = self.keyring().tenant(tenant).await?;
        let verdict = match permit.open_revocation(&keys, &row) {
            Ok(fields) => self.ask_to_revoke(&row, &fields).await,
            Err(fault) => {
                tracing::error!(revocation = %id, "what a revocation keeps does not open: its row was changed or moved");
                Verdict::Again {
                    detail: fault.word().to_owned(),
                    retry_after: None,
                }
            }
        };
        self.record(&ctx, &on, &row, verdict).await
    }

    async fn record(
        &self,
        ctx: &Context,
        on: &On,
        row: &RevocationRow,
        verdict: Verdict,
    ) -> Result<(), Error> {
        let now = self.clock().now();
        let [jitter] = clock::random()?;
        let remarked = |said: String| match &row.remark {
            Some(remark) => format!("{said}. {remark}"),
            None => said,
        };
        let (state, detail, next_at) = match verdict {
            // Of the grant, that was not all.
            Verdict::Confirmed {
                remark,
                whole: false,
            } if row.remark.is_some() => {
                let said = remark.unwrap_or_else(|| "the provider confirmed it".to_owned());
                (RevocationState::Failed, Some(remarked(said)), None)
            }
            Verdict::Gone(detail) if row.remark.is_some() => {
                (RevocationState::Failed, Some(remarked(detail)), None)
            }
            Verdict::Confirmed { remark, .. } => (RevocationState::Confirmed, remark, None),
            Verdict::Gone(detail) => (RevocationState::Confirmed, Some(detail), None),
            Verdict::Unsupported(detail) => {
                (RevocationState::Unsupported, Some(remarked(detail)), None)
            }
            Verdict::Again {
                detail,
                retry_after,
            } => match next_attempt(row, now, retry_after, jitter) {
                Some(at) => (RevocationState::Pending, Some(detail), Some(at)),
                None => (RevocationState::Failed, Some(remarked(detail)), None),
            },
        };
        let confirmed = state == RevocationState::Confirmed;
        let outcome = if confirmed {
            Outcome::Allowed
        } else {
            Outcome::Failed
        };
        let mut entry = self.entry(ctx, ACTION, on, outcome);
        entry.caller = "system";
        let said = detail.as_deref().unwrap_or("the provider confirmed it");
        entry.reason = Some(format!("{}, {}: {said}", state.as_str(), row.batch).into());
        let settled = Effect::SettleRevocation(SettleRevocation {
            tenant: row.tenant,
            revocation: row.id,
            seen_attempts: row.attempts + 1,
            state,
            detail,
            attempts: row.attempts + 1,
            next_at,
            at: now,
        });
        match self.append(entry, vec![settled]).await {
            // Somebody asked again after a claim that took too long: theirs is on record.
            Ok(()) | Err(Error::Conflict { .. } | Error::NotFound { .. }) => Ok(()),
            Err(fault) => Err(fault),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_a_minute_to_half_a_day_and_are_spread() {
        let middle: Vec<i64> = (1..=12).map(|attempts| pause(attempts, 128)).collect();
        assert_eq!(
            middle,
            [
                60, 120, 240, 480, 960, 1920, 3840, 7680, 15360, 30720, 43200, 43200
            ]
        );
        assert_eq!(pause(u64::MAX, 128), LONGEST_PAUSE);
        for attempts in 1..20 {
            let (least, most) = (pause(attempts, 0), pause(attempts, 255));
            let middle = pause(attempts, 128);
            assert!(least < middle && middle < most);
            assert!(least >= middle * 8 / 10 && most <= middle * 12 / 10);
        }
    }
}
