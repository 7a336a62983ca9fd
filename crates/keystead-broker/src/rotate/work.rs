//! Taking a step up: whose turn it is, and what is written when it is done.
//!
//! What always holds: a claim is written before the step, for longer than it can take; what a step
//! found out is written only by who still has the claim.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use keystead_core::action::Outcome;
use keystead_core::ids::{IntegrationId, TenantId};
use keystead_core::provider::Fields;
use keystead_core::provider::rotation::{State, Step, pause};
use keystead_core::time::Time;
use keystead_store::{Effect, RotationRow};

use super::{ACTION, DAY, GRACE_SECONDS, page_of, step_of};
use crate::broker::Broker;
use crate::context::Context;
use crate::error::Error;
use crate::integrations::Loaded;
use crate::keyring::TenantKeys;
use crate::permit::{On, Rotate, rotation_place};

/// For so long nobody else takes the step up; all of its calls end before.
const CLAIM_SECONDS: i64 = 120;
/// What is switched off is looked at again after so long.
const DISABLED_SECONDS: i64 = 600;
/// Rotations taken up at once, of this node.
const AT_ONCE: usize = 8;
const PAGE: u32 = 64;
/// Steps in one go; the rest is left to the next look.
const STEPS: usize = 8;
/// What could not be ended by then is left to a person.
pub(super) const GIVEN_UP_AFTER: i64 = 7 * DAY;

/// What time it is, where nothing else is asked of a broker.
#[derive(Clone, Copy)]
pub(super) struct Now(pub(super) Time);

/// A step that was claimed, and what it needs.
pub(super) struct Job {
    pub(super) ctx: Context,
    pub(super) row: RotationRow,
    pub(super) loaded: Arc<Loaded>,
    pub(super) keys: Arc<TenantKeys>,
    pub(super) state: State,
    /// The credential that calls are made with.
    pub(super) fields: Arc<Fields>,
    /// Whether it was given as one text.
    pub(super) as_text: bool,
}

/// A row before anything was asked.
pub(super) fn new_row(loaded: &Loaded, now: Time) -> RotationRow {
    RotationRow {
        tenant: loaded.row.tenant,
        integration: loaded.row.id,
        step: Step::Idle.as_str().to_owned(),
        credential_version: loaded.row.credential_version,
        every_seconds: None,
        grace_seconds: GRACE_SECONDS,
        rotated_at: None,
        next_at: None,
        key_id: None,
        sealed: None,
        attempts: 0,
        detail: None,
        started_at: None,
        revision: 1,
        updated_at: now,
    }
}

pub(super) fn put_effect(row: &RotationRow, expected_revision: Option<u64>) -> Effect {
    Effect::PutRotation {
        row: Box::new(row.clone()),
        expected_revision,
    }
}

pub(super) fn seal_state(
    keys: &TenantKeys,
    row: &mut RotationRow,
    state: &State,
) -> Result<(), Error> {
    let started_at = row.started_at.unwrap_or(row.updated_at);
    let place = rotation_place(row.tenant, row.integration, started_at);
    let (key_id, sealed) = keys.seal(&place, &state.to_message())?;
    (row.key_id, row.sealed) = (Some(key_id), Some(sealed));
    Ok(())
}

impl Broker {
    /// Takes up what is due.
    pub(crate) async fn due_rotations(&self) {
        let now = self.clock().now();
        let due = match self.store().due_rotations(now, PAGE).await {
            Ok(due) => due,
            Err(fault) => {
                tracing::debug!(?fault, "due rotations were not found");
                return;
            }
        };
        let steps = stream::iter(due)
            .map(|row| async move { self.advance_rotation(row.tenant, row.integration).await });
        steps.buffer_unordered(AT_ONCE).collect::<()>().await;
    }

    /// Takes step after step, until there is something to wait for.
    pub(super) async fn advance_rotation(&self, tenant: TenantId, id: IntegrationId) {
        for _ in 0..STEPS {
            let row = match self.store().find_rotation(tenant, id).await {
                Ok(Some(row)) => row,
                Ok(None) => return,
                Err(fault) => {
                    tracing::debug!(?fault, integration = %id, "a rotation was not found");
                    return;
                }
            };
            let due = row.next_at.is_some_and(|at| at <= self.clock().now());
            if !due {
                return;
            }
            if let Err(fault) = Box::pin(self.take_step(row)).await {
                tracing::warn!(?fault, integration = %id, "a step of a rotation is taken up again later");
                return;
            }
        }
    }

    async fn take_step(&self, row: RotationRow) -> Result<(), Error> {
        let mut ctx = Context::anonymous(self.new_request_id(), None);
        ctx.tenant = Some(row.tenant);
        let step = step_of(&row);
        let loaded = match self.find_loaded(row.tenant, row.integration).await {
            Ok(Some(loaded)) => loaded,
            // Gone, and the row with it; or replaced this moment.
            Ok(None) => return Ok(()),
            Err(fault @ Error::Unavailable { .. }) => return Err(fault),
            Err(fault) => return self.put_off(&ctx, row, &fault.to_string()).await,
        };
        let version = row.credential_version + u64::from(step.is_active());
        let replaced = step != Step::Idle && loaded.row.credential_version != version;
        // What nobody uses is ended also while the integration is out of use.
        if loaded.row.disabled && !replaced && step != Step::Discard {
            let why = "waits: the integration is disabled";
            return self.put_off(&ctx, row, why).await;
        }
        if step == Step::Idle {
            return self.begin_by_itself(&ctx, &loaded, row).await;
        }
        let Some(mut job) = self.claim(ctx, loaded, row).await? else {
            return Ok(());
        };
        if step != Step::Discard && replaced {
            return self.give_way(&mut job, step).await;
        }
        match step {
            Step::Idle => Ok(()),
            Step::Create => self.create_next(job).await,
            Step::Test => self.prove_next(&mut job).await,
            Step::Grace | Step::Disable => self.end_before(&mut job).await,
            Step::Delete => self.delete_before(&mut job).await,
            Step::Discard => self.discard_next(&mut job).await,
        }
    }

    async fn begin_by_itself(
        &self,
        ctx: &Context,
        loaded: &Loaded,
        row: RotationRow,
    ) -> Result<(), Error> {
        let on = loaded.on();
        let decided = self.decide_for_system(ctx, ACTION, &on);
        let decided = decided.because("a rotation is due");
        let begun = self.begin_rotation(ctx, decided, loaded, Some(row.clone()));
        match begun.await {
            Ok(_) => Ok(()),
            Err(fault @ Error::Unavailable { .. }) => Err(fault),
            Err(Error::Conflict {
                code: "conflict" | "duplicate",
                ..
            }) => Ok(()),
            Err(Error::Invalid(faults)) => {
                let fault = faults.first();
                let said = fault.map(|fault| format!("{} {}", fault.path, fault.message));
                self.put_off(ctx, row, &said.unwrap_or_default()).await
            }
            Err(fault) => self.put_off(ctx, row, &fault.to_string()).await,
        }
    }

    /// Writes the claim, opens what the step needs; `None` where somebody else was first.
    async fn claim(
        &self,
        ctx: Context,
        loaded: Arc<Loaded>,
        mut row: RotationRow,
    ) -> Result<Option<Job>, Error> {
        let keys = self.keyring().tenant(row.tenant).await?;
        let step = step_of(&row);
        // A next key that is given up is ended by what it was made with.
        let before = match step {
            Step::Discard if row.credential_version != loaded.row.credential_version => {
                let (tenant, id) = (row.tenant, row.integration);
                let version = row.credential_version;
                self.store().find_credential(tenant, id, version).await?
            }
            _ => None,
        };
        let credential = before.as_ref().unwrap_or(&loaded.credential);
        let now = self.clock().now();
        let expected = row.revision;
        row.attempts += 1;
        row.next_at = Some(now.plus_seconds(CLAIM_SECONDS));
        row.updated_at = now;
        let decided = self
            .decide_for_system(&ctx, ACTION, &loaded.on())
            .because(format!("rotation: {}", step.as_str()));
        let claimed = decided
            .permit_changing::<Rotate>(credential.version, vec![put_effect(&row, Some(expected))]);
        let permit = match claimed.await {
            Ok(permit) => permit,
            Err(Error::Conflict { .. } | Error::NotFound { .. }) => return Ok(None),
            Err(fault) => return Err(fault),
        };
        row.revision = expected + 1;
        let opened = permit
            .open_credential(&keys, credential)
            .and_then(|own| Ok((own, permit.open_rotation(&keys, &row)?)));
        let ((fields, as_text), state) = match opened {
            Ok(opened) => opened,
            Err(fault) => {
                tracing::error!(integration = %row.integration, "what a rotation needs does not open: its row was changed or moved");
                let why = "stopped: what was stored does not open; begin again, and tell whoever runs Keystead";
                row.step = Step::Idle.as_str().to_owned();
                (row.key_id, row.sealed) = (None, None);
                self.put_off(&ctx, row, why).await?;
                return Err(fault);
            }
        };
        Ok(Some(Job {
            ctx,
            row,
            loaded,
            keys,
            state,
            fields: Arc::new(fields),
            as_text,
        }))
    }

    /// Says why nothing is done now, and looks again later.
    async fn put_off(&self, ctx: &Context, mut row: RotationRow, why: &str) -> Result<(), Error> {
        let idle = step_of(&row) == Step::Idle;
        let now = self.clock().now();
        let wait = if idle { DAY } else { DISABLED_SECONDS };
        let scheduled = !idle || row.every_seconds.is_some();
        row.next_at = scheduled.then(|| now.plus_seconds(wait));
        row.detail = Some(why.to_owned());
        row.updated_at = now;
        let provider = self.store().find_integration(row.tenant, row.integration);
        let provider = provider.await?.map(|row| row.provider).unwrap_or_default();
        let on = On::integration(row.tenant, row.integration, &provider);
        let mut entry = self.entry(ctx, ACTION, &on, Outcome::Failed);
        entry.caller = "system";
        entry.reason = Some(format!("rotation put off: {why}").into());
        let put = put_effect(&row, Some(row.revision));
        self.unless_overtaken(self.append(entry, vec![put]).await)
            .map(|_| ())
    }

    /// Whether it was written; somebody who was first is no fault.
    fn unless_overtaken(&self, done: Result<(), Error>) -> Result<bool, Error> {
        match done {
            Ok(()) => Ok(true),
            Err(Error::Conflict { .. } | Error::NotFound { .. }) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Writes what the step came to, with what changes beside it; whether the claim still held.
    pub(super) async fn put(
        &self,
        job: &mut Job,
        said: &str,
        failed: bool,
        mut effects: Vec<Effect>,
    ) -> Result<bool, Error> {
        let now = self.clock().now();
        job.row.updated_at = now;
        seal_state(&job.keys, &mut job.row, &job.state)?;
        let outcome = if failed {
            Outcome::Failed
        } else {
            Outcome::Allowed
        };
        let mut entry = self.entry(&job.ctx, ACTION, &job.loaded.on(), outcome);
        entry.caller = "system";
        entry.reason = Some(format!("rotation: {said}").into());
        let new = effects.iter().find_map(|effect| match effect {
            Effect::ReplaceCredential { credential, .. } => Some(credential.version),
            _ => None,
        });
        entry.version = Some(new.unwrap_or(job.loaded.row.credential_version));
        effects.push(put_effect(&job.row, Some(job.row.revision)));
        let written = self.append(entry, effects).await;
        if new.is_some() {
            self.epochs().move_tenant(job.row.tenant);
        }
        let written = self.unless_overtaken(written)?;
        job.row.revision += u64::from(written);
        Ok(written)
    }

    /// Goes on with that step, now or in so many seconds.
    pub(super) async fn go_on(
        &self,
        job: &mut Job,
        step: Step,
        seconds: i64,
        said: &str,
    ) -> Result<bool, Error> {
        job.row.step = step.as_str().to_owned();
        job.row.attempts = 0;
        job.row.next_at = Some(self.clock().now().plus_seconds(seconds));
        self.put(job, said, false, Vec::new()).await
    }

    /// Tries the same step again later, and says why.
    pub(super) async fn step_again(&self, job: &mut Job, why: &str) -> Result<(), Error> {
        let step = step_of(&job.row);
        let wait = pause(step, job.row.attempts);
        job.row.next_at = Some(self.clock().now().plus_seconds(wait));
        // What a next key is given up for is what a person has to know, until it is gone.
        if step != Step::Discard {
            job.row.detail = Some(why.to_owned());
        }
        self.put(job, why, true, Vec::new()).await.map(|_| ())
    }

    /// Ends the rotation: `detail` where a person has something to know. `key` is the one in use.
    pub(super) async fn finish(
        &self,
        job: &mut Job,
        key: Option<String>,
        detail: Option<String>,
    ) -> Result<(), Error> {
        let now = self.clock().now();
        let rotated = step_of(&job.row).is_active();
        let every = job.row.every_seconds.and_then(|s| i64::try_from(s).ok());
        // What failed is not left for a month.
        let every = every.map(|every| if rotated { every } else { every.min(DAY) });
        job.row.step = Step::Idle.as_str().to_owned();
        job.row.attempts = 0;
        job.row.next_at = every.map(|every| now.plus_seconds(every));
        job.state = State {
            version: key.as_ref().map(|_| job.loaded.row.credential_version),
            new: key,
            ..State::default()
        };
        let said = detail.clone().unwrap_or_else(|| "done".to_owned());
        job.row.detail = detail;
        self.put(job, &said, !rotated, Vec::new()).await.map(|_| ())
    }

    /// A person replaced the credential: the rotation gives way.
    async fn give_way(&self, job: &mut Job, step: Step) -> Result<(), Error> {
        let replaced = "gave way: the credential was replaced by hand in the meantime";
        let asked = job.state.before.is_some();
        if step.is_active() {
            let page = page_of(&job.loaded.provider);
            let keys = [job.state.old.clone(), job.state.new.clone()];
            let keys: Vec<String> = keys.into_iter().flatten().collect();
            let left = format!(
                "{replaced}; what it worked on was left as it is ({}): end there what is not needed ({page})",
                keys.join(", ")
            );
            return self.finish(job, None, Some(left)).await;
        }
        if step == Step::Create && !asked {
            return self.finish(job, None, Some(replaced.to_owned())).await;
        }
        job.row.detail = Some(replaced.to_owned());
        self.go_on(job, Step::Discard, 0, replaced)
            .await
            .map(|_| ())
    }
}
