//! Trying the next credential, and putting it in its place.
//!
//! What always holds: it is put in its place only after it was seen to work at least as the one
//! before; the new version, its status and the next step are one write.

use keystead_core::provider::ResultClass;
use keystead_core::provider::rotation::{Step, pause};
use keystead_store::{CredentialRow, Effect, Status};

use super::DAY;
use super::work::Job;
use crate::broker::Broker;
use crate::error::Error;
use crate::integrations::write_message;
use crate::permit::credential_place;

/// A provider that cannot say for so long makes the next one be given up.
const SILENT_SECONDS: i64 = DAY;

impl Broker {
    /// Tries the next credential.
    pub(super) async fn prove_next(&self, job: &mut Job) -> Result<(), Error> {
        let Some(next) = &job.state.next else {
            return self
                .finish(
                    job,
                    None,
                    Some("stopped: the new one is not there".to_owned()),
                )
                .await;
        };
        let tried = self.call(&job.loaded, &job.keys, next).await;
        let (class, message) =
            tried.unwrap_or((ResultClass::Indeterminate, "it cannot be tried".to_owned()));
        let proven = match class {
            ResultClass::Ok => true,
            // Genuine; whether it may do less than the one before shows by that one.
            ResultClass::NoPerm | ResultClass::Quota => {
                let before = self.call(&job.loaded, &job.keys, &job.fields).await;
                before.is_some_and(|(before, _)| before == class)
            }
            _ => false,
        };
        if proven {
            return self.put_in_place(job).await;
        }
        let now = self.clock().now();
        let waited = now.seconds() - job.state.made_at.unwrap_or(now).seconds();
        let mode = job.fields.mode(&job.loaded.provider);
        let calls = mode.and_then(|mode| mode.rotation.as_ref());
        let patience = match class {
            ResultClass::Down | ResultClass::Rate | ResultClass::Indeterminate => SILENT_SECONDS,
            _ => calls.map_or(0, |calls| i64::from(calls.patience)),
        };
        if waited <= patience {
            let why = format!(
                "the new one does not work yet: {}, {message}",
                class.as_str()
            );
            return self.step_again(job, &why).await;
        }
        let why = format!(
            "the new one did not begin to work: {}, {message} The one before stays in use.",
            class.as_str()
        );
        job.row.detail = Some(why.clone());
        self.go_on(job, Step::Discard, 0, &why).await.map(|_| ())
    }

    async fn put_in_place(&self, job: &mut Job) -> Result<(), Error> {
        let Some(next) = job.state.next.take() else {
            return Ok(());
        };
        let (tenant, integration) = (job.row.tenant, job.row.integration);
        let now = self.clock().now();
        let version = job.row.credential_version + 1;
        let as_text = job.as_text && next.only().is_some();
        let place = credential_place(tenant, integration, version);
        let (key_id, sealed) = job.keys.seal(&place, &write_message(&next, as_text))?;
        let effects = vec![
            Effect::ReplaceCredential {
                credential: CredentialRow {
                    tenant,
                    integration,
                    version,
                    key_id,
                    sealed,
                    created_at: now,
                },
                hint: next.hint(&job.loaded.provider),
                expected_revision: Some(job.loaded.row.revision),
            },
            Effect::SetVerified {
                tenant,
                integration,
                version,
                status: Status::Connected,
                error_message: None,
                at: now,
            },
        ];
        let before = job.row.clone();
        let grace = i64::try_from(job.row.grace_seconds).unwrap_or(i64::MAX);
        let made_at = job.state.made_at.take();
        job.state.version = Some(version);
        job.row.step = Step::Grace.as_str().to_owned();
        job.row.rotated_at = Some(now);
        job.row.attempts = 0;
        job.row.next_at = Some(now.plus_seconds(grace));
        job.row.detail = None;
        if self
            .put(job, "the new one is in use", false, effects)
            .await?
        {
            // A token that was made from the one before would outlive it.
            self.minted().remove(&(tenant, integration, version - 1));
            return Ok(());
        }
        // The integration was changed this moment, or is gone: it is looked at anew.
        job.row = before;
        job.state.version = None;
        job.state.made_at = made_at;
        job.state.next = Some(next);
        job.row.next_at = Some(now.plus_seconds(pause(Step::Test, 1)));
        let why = "the integration was changed at the same time";
        self.put(job, why, true, Vec::new()).await.map(|_| ())
    }
}
