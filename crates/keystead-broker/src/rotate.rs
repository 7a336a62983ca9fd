//! Rotation: the next credential is made at the provider, tried, put in its place, and the one
//! before is ended, step by step.
//!
//! ```text
//! idle ─► create ─► test ─► [one write: new version, connected, grace] ─► disable ─► delete ─► idle
//! ```
//!
//! What always holds: each step is claimed by compare-and-swap, with its entry, before anything is
//! opened; what the next step needs is sealed in the row before it; the credential in use changes
//! only after the next one was seen to work; whatever fails leaves the one before working.
//!
//! Not here: what a provider has to be asked (its file, core's rotation).

mod ask;
mod begin;
mod create;
mod discard;
mod end;
mod prove;
mod work;

use keystead_core::action::Action;
use keystead_core::ids::IntegrationId;
use keystead_core::provider::Provider;
use keystead_core::provider::rotation::Step;
use keystead_core::time::Time;
use keystead_store::{Effect, RotationRow};

use crate::broker::Broker;
use crate::context::Context;
use crate::error::Error;
use crate::integrations::Loaded;
use crate::permit::Decided;

const ACTION: Action = Action::Rotate;
const DAY: i64 = 86_400;
/// What other systems hold of the credential before stays valid for so long, if nobody says.
const GRACE_SECONDS: u64 = 15 * 60;
const EVERY_DAYS: std::ops::RangeInclusive<u32> = 1..=366;
const GRACE_MINUTES_MOST: u32 = 7 * 24 * 60;

/// How a rotation stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// What is to be done next.
    pub step: Step,
    /// When the credential was last put in its place by a rotation.
    pub last: Option<Time>,
    /// When something is to be done.
    pub next: Option<Time>,
    /// How often it is rotated.
    pub every_days: Option<u64>,
    /// For how long the credential before stays valid.
    pub grace_minutes: u64,
    /// When the last one began.
    pub started_at: Option<Time>,
    /// What came of it, or why it waits; in words a person can act on.
    pub detail: Option<String>,
}

/// How often to rotate.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Every so many days.
    pub every_days: u32,
    /// For how long the credential before stays valid; as it was, if not given.
    pub grace_minutes: Option<u32>,
}

impl From<Option<&RotationRow>> for Rotation {
    fn from(row: Option<&RotationRow>) -> Rotation {
        Rotation {
            step: row.map_or(Step::Idle, step_of),
            last: row.and_then(|row| row.rotated_at),
            next: row.and_then(|row| row.next_at),
            every_days: row.and_then(|row| row.every_seconds.map(|every| every / DAY as u64)),
            grace_minutes: row.map_or(GRACE_SECONDS, |row| row.grace_seconds) / 60,
            started_at: row.and_then(|row| row.started_at),
            detail: row.and_then(|row| row.detail.clone()),
        }
    }
}

fn step_of(row: &RotationRow) -> Step {
    Step::parse(&row.step).unwrap_or(Step::Idle)
}

/// Where a person makes and ends such credentials.
fn page_of(provider: &Provider) -> &str {
    provider.links.console.as_deref().unwrap_or(&provider.docs)
}

impl Broker {
    /// Begins a rotation, or says how the one stands that is under way.
    ///
    /// # Errors
    /// `Denied`, `NotFound`; `Conflict` with what to do where the provider cannot, or the integration
    /// is disabled; `Invalid` for what is missing.
    pub async fn rotate_integration(
        &self,
        ctx: &Context,
        id: IntegrationId,
    ) -> Result<Rotation, Error> {
        let (loaded, decided) = self.rotating(ctx, id).await?;
        if loaded.row.disabled {
            return Err(decided.fail(Error::disabled()).await);
        }
        let row = self.store().find_rotation(loaded.row.tenant, id).await?;
        if row.as_ref().is_some_and(|row| step_of(row) != Step::Idle) {
            decided.because("a rotation is under way").record().await?;
            return Ok(Rotation::from(row.as_ref()));
        }
        let decided = decided.because("a rotation is asked for");
        let begun = match self.begin_rotation(ctx, decided, &loaded, row).await {
            Err(Error::Conflict {
                code: "conflict" | "duplicate",
                ..
            }) => self.store().find_rotation(loaded.row.tenant, id).await?,
            begun => Some(begun?),
        };
        let broker = self.clone();
        let tenant = loaded.row.tenant;
        tokio::spawn(async move { broker.advance_rotation(tenant, id).await });
        Ok(Rotation::from(begun.as_ref()))
    }

    /// How the rotation of an integration stands.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn rotation(&self, ctx: &Context, id: IntegrationId) -> Result<Rotation, Error> {
        let loaded = self.load(ctx, Action::Info, id).await?;
        let decided = self.decide(ctx, Action::Info, &loaded.on()).await?;
        decided.record().await?;
        let row = self.store().find_rotation(loaded.row.tenant, id).await?;
        Ok(Rotation::from(row.as_ref()))
    }

    /// Rotates every so many days from now on.
    ///
    /// # Errors
    /// As [`Broker::rotate_integration`]; `Invalid` for numbers out of their range.
    pub async fn schedule_rotation(
        &self,
        ctx: &Context,
        id: IntegrationId,
        schedule: Schedule,
    ) -> Result<Rotation, Error> {
        let (loaded, decided) = self.rotating(ctx, id).await?;
        let out_of_range = if !EVERY_DAYS.contains(&schedule.every_days) {
            Some(("every_days", "must be 1 to 366"))
        } else if schedule
            .grace_minutes
            .is_some_and(|m| m > GRACE_MINUTES_MOST)
        {
            Some(("grace_minutes", "must be 0 to 10080"))
        } else {
            None
        };
        if let Some((path, message)) = out_of_range {
            return Err(decided.fail(Error::field(path, message)).await);
        }
        let seen = self.store().find_rotation(loaded.row.tenant, id).await?;
        let now = self.clock().now();
        let every = i64::from(schedule.every_days) * DAY;
        let mut row = seen.clone().unwrap_or_else(|| work::new_row(&loaded, now));
        row.every_seconds = Some(every.unsigned_abs());
        if let Some(minutes) = schedule.grace_minutes {
            row.grace_seconds = u64::from(minutes) * 60;
        }
        if step_of(&row) == Step::Idle {
            row.next_at = Some(now.plus_seconds(every));
        }
        row.updated_at = now;
        let put = work::put_effect(&row, seen.as_ref().map(|seen| seen.revision));
        let decided = decided.because(format!("every {} days", schedule.every_days));
        decided.carry_out(vec![put]).await?;
        Ok(Rotation::from(Some(&row)))
    }

    /// Rotates no more by itself; one that is under way goes on to its end.
    ///
    /// # Errors
    /// `NotFound` where there is no schedule.
    pub async fn stop_rotation(&self, ctx: &Context, id: IntegrationId) -> Result<(), Error> {
        let loaded = self.load(ctx, ACTION, id).await?;
        let decided = self.decide(ctx, ACTION, &loaded.on()).await?;
        let row = self.store().find_rotation(loaded.row.tenant, id).await?;
        let Some(mut row) = row.filter(|row| row.every_seconds.is_some()) else {
            let fault = Error::NotFound {
                what: "schedule of rotations",
            };
            return Err(decided.fail(fault).await);
        };
        row.every_seconds = None;
        if step_of(&row) == Step::Idle {
            row.next_at = None;
        }
        row.updated_at = self.clock().now();
        let put: Effect = work::put_effect(&row, Some(row.revision));
        decided
            .because("no rotation by itself any more")
            .carry_out(vec![put])
            .await
    }

    /// The integration, and the decision that it may be rotated, where its provider can.
    async fn rotating(
        &self,
        ctx: &Context,
        id: IntegrationId,
    ) -> Result<(std::sync::Arc<Loaded>, Decided), Error> {
        let loaded = self.load(ctx, ACTION, id).await?;
        let decided = self.decide(ctx, ACTION, &loaded.on()).await?;
        if loaded.provider.can_rotate() {
            return Ok((loaded, decided));
        }
        Err(decided.fail(begin::unsupported(&loaded.provider)).await)
    }
}
