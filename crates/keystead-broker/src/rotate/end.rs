//! Ending the key before.
//!
//! What always holds: before a key is put out of use, or ended, the one in its place is seen to
//! work.

use keystead_core::provider::ResultClass;
use keystead_core::provider::rotation::{Act, KEPT_SECONDS, Step};

use super::ask::Said;
use super::page_of;
use super::work::{GIVEN_UP_AFTER, Job};
use crate::broker::Broker;
use crate::error::Error;

impl Broker {
    /// Puts the key before out of use, where the provider can; else ends it.
    pub(super) async fn end_before(&self, job: &mut Job) -> Result<(), Error> {
        job.row.step = Step::Disable.as_str().to_owned();
        let key = job.state.new.clone();
        let Some(old) = job.state.old.clone() else {
            let page = page_of(&job.loaded.provider);
            let detail = format!(
                "the new one is in use; which of the provider's was the old one cannot be told: take it back by hand ({page})"
            );
            return self.finish(job, key, Some(detail)).await;
        };
        match self.works(job).await {
            Ok(()) => {}
            Err(why) => {
                let why = format!(
                    "the old one ({old}) is left working, as the new one was not seen to work: {why}"
                );
                return self.end_later(job, &old, &why).await;
            }
        }
        let mode = job.fields.mode(&job.loaded.provider);
        let calls = mode.and_then(|mode| mode.rotation.as_ref());
        let disables = calls.is_some_and(|calls| calls.disable.is_some());
        let act = if disables { Act::Disable } else { Act::Delete };
        match self.act_by_own(job, act, &old).await {
            Ok(()) if disables => {
                job.row.detail = Some(format!(
                    "the old one ({old}) is out of use, and ended in a day"
                ));
                self.go_on(job, Step::Delete, KEPT_SECONDS, "the old one is out of use")
                    .await
                    .map(|_| ())
            }
            Ok(()) => self.finish(job, key, None).await,
            Err(why) => {
                let why = format!("the old one ({old}) still works: {why}");
                self.end_later(job, &old, &why).await
            }
        }
    }

    /// Ends the key before, which is out of use.
    pub(super) async fn delete_before(&self, job: &mut Job) -> Result<(), Error> {
        let key = job.state.new.clone();
        let Some(old) = job.state.old.clone() else {
            return self.finish(job, key, None).await;
        };
        match self.works(job).await {
            Ok(()) => match self.act_by_own(job, Act::Delete, &old).await {
                Ok(()) => self.finish(job, key, None).await,
                Err(why) => {
                    let why = format!("the old one ({old}) is out of use, and still there: {why}");
                    self.end_later(job, &old, &why).await
                }
            },
            Err(why) => {
                let why = format!(
                    "the old one ({old}) is out of use, and kept until the new one is seen to work: {why}"
                );
                self.end_later(job, &old, &why).await
            }
        }
    }

    /// Whether the credential in use is seen to work; else why not.
    async fn works(&self, job: &Job) -> Result<(), String> {
        match self.call(&job.loaded, &job.keys, &job.fields).await {
            Some((ResultClass::Ok | ResultClass::NoPerm | ResultClass::Quota, _)) => Ok(()),
            Some((_, why)) => Err(why),
            None => Err("it cannot be tried".to_owned()),
        }
    }

    async fn act_by_own(&self, job: &Job, act: Act, key: &str) -> Result<(), String> {
        match self.hand(&job.loaded, &job.fields).await {
            Ok(hand) => self.act(&hand, act, key).await,
            Err(Said::Refused(why) | Said::Unknown(why)) => Err(why),
            Err(Said::Done(_) | Said::Gone) => Ok(()),
        }
    }

    /// Tries again later; after a week it is a person's.
    async fn end_later(&self, job: &mut Job, old: &str, why: &str) -> Result<(), Error> {
        let since = job.row.rotated_at.unwrap_or(job.row.updated_at);
        if self.clock().now() < since.plus_seconds(GIVEN_UP_AFTER) {
            return self.step_again(job, why).await;
        }
        let page = page_of(&job.loaded.provider);
        let detail = format!("{why}. It was given up: end {old} by hand ({page})");
        let key = job.state.new.clone();
        self.finish(job, key, Some(detail)).await
    }
}
