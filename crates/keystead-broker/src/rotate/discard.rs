//! Ending a next key that did not come into use, so that none is left at the provider that nobody
//! knows of.

use std::sync::Arc;
use std::time::Duration;

use keystead_core::action::Outcome;
use keystead_core::provider::Fields;
use keystead_core::provider::rotation::{Act, State, Step};
use keystead_store::IntegrationRow;

use super::ask::Said;
use super::work::{GIVEN_UP_AFTER, Job};
use super::{ACTION, page_of, step_of};
use crate::broker::Broker;
use crate::context::Context;
use crate::error::Error;
use crate::integrations::Loaded;
use crate::permit::Rotate;

/// Between attempts to end what no row tells of any more.
const PAUSES: [Duration; 4] = [
    Duration::from_secs(2),
    Duration::from_secs(15),
    Duration::from_secs(60),
    Duration::from_secs(300),
];

/// A key without a row: the next one, or the one before.
pub(crate) struct Leftover {
    /// The one before is meant, as the next one is in its place.
    before: bool,
    ctx: Context,
    loaded: Arc<Loaded>,
    fields: Arc<Fields>,
    state: State,
}

impl Leftover {
    pub(super) fn of(job: Job) -> Leftover {
        Leftover {
            before: false,
            ctx: job.ctx,
            loaded: job.loaded,
            fields: job.fields,
            state: job.state,
        }
    }
}

impl Broker {
    /// Ends the next key.
    pub(super) async fn discard_next(&self, job: &mut Job) -> Result<(), Error> {
        let by_itself = job.row.attempts.is_multiple_of(2);
        let ended = self.end_next(&job.loaded, &job.fields, &job.state, by_itself);
        let ended = ended.await;
        let detail = job.row.detail.clone();
        // The key in use is known only if the credential is still the one that it began with.
        let same = job.loaded.row.credential_version == job.row.credential_version;
        let key = job.state.old.clone().filter(|_| same);
        let Err(why) = ended else {
            return self.finish(job, key, detail).await;
        };
        let since = job.state.asked_at.unwrap_or(job.row.updated_at);
        if self.clock().now() < since.plus_seconds(GIVEN_UP_AFTER) {
            return self
                .step_again(job, &format!("the unused new one is still there: {why}"))
                .await;
        }
        let left = self.left_behind(&job.loaded, &job.state, false);
        let detail = format!("{} {left}", detail.unwrap_or_default());
        self.finish(job, key, Some(detail.trim().to_owned())).await
    }

    fn left_behind(&self, loaded: &Loaded, state: &State, before: bool) -> String {
        let key = if before { &state.old } else { &state.new };
        let key = key.as_ref().unwrap_or(&state.marker);
        let page = page_of(&loaded.provider);
        let which = match before {
            true => "The key before this one",
            false => "A key that nothing uses",
        };
        format!("{which} ({key}) could not be ended: end it by hand ({page})")
    }

    /// With the credential that made it, or by the next one itself where that is refused.
    async fn end_next(
        &self,
        loaded: &Loaded,
        fields: &Fields,
        state: &State,
        by_itself: bool,
    ) -> Result<(), String> {
        let fields = state.next.as_ref().filter(|_| by_itself).unwrap_or(fields);
        let why = |said: Said| match said {
            Said::Refused(why) | Said::Unknown(why) => why,
            Said::Done(_) | Said::Gone => String::new(),
        };
        let hand = self.hand(loaded, fields).await.map_err(why)?;
        if let Some(new) = &state.new {
            return self.act(&hand, Act::Delete, new).await;
        }
        let keys = self.provider_keys(&hand).await.map_err(why)?;
        for key in hand.calls.made(&keys, state) {
            self.act(&hand, Act::Delete, &key).await?;
        }
        Ok(())
    }

    /// What an integration that is about to be deleted leaves at the provider; taken up again by
    /// [`Broker::discard_later`] when it is gone. Nothing of this keeps anybody from deleting.
    pub(crate) async fn leftover_of(
        &self,
        ctx: &Context,
        row: &IntegrationRow,
    ) -> Option<Leftover> {
        match self.find_leftover(ctx, row).await {
            // What others may hold yet is left to them.
            Ok(leftover) => leftover.filter(|leftover| !leftover.before),
            Err(fault) => {
                tracing::warn!(?fault, integration = %row.id, "what a rotation leaves behind could not be opened");
                None
            }
        }
    }

    async fn find_leftover(
        &self,
        ctx: &Context,
        row: &IntegrationRow,
    ) -> Result<Option<Leftover>, Error> {
        let Some(rotation) = self.store().find_rotation(row.tenant, row.id).await? else {
            return Ok(None);
        };
        let step = step_of(&rotation);
        if step == Step::Idle {
            return Ok(None);
        }
        let before = step.is_active();
        let Some(loaded) = self.find_loaded(row.tenant, row.id).await? else {
            return Ok(None);
        };
        let version = match before {
            true => row.credential_version,
            false => rotation.credential_version,
        };
        let (tenant, id) = (row.tenant, row.id);
        let Some(credential) = self.store().find_credential(tenant, id, version).await? else {
            return Ok(None);
        };
        let keys = self.keyring().tenant(tenant).await?;
        let permit = self
            .decide_for_system(ctx, ACTION, &loaded.on())
            .because("rotation: what it made is to go with the integration")
            .permit::<Rotate>(version)
            .await?;
        let (fields, _) = permit.open_credential(&keys, &credential)?;
        let state = permit.open_rotation(&keys, &rotation)?;
        let is_there = match before {
            true => state.old.is_some(),
            false => state.asked_at.is_some(),
        };
        Ok(is_there.then_some(Leftover {
            before,
            ctx: ctx.clone(),
            loaded,
            fields: Arc::new(fields),
            state,
        }))
    }

    /// Ends the other key of a rotation that is under way, before the credential is taken back that
    /// can do that. Names it where that fails.
    pub(crate) async fn end_other_key(
        &self,
        ctx: &Context,
        row: &IntegrationRow,
    ) -> Result<Option<(Leftover, String)>, Error> {
        let Some(leftover) = self.find_leftover(ctx, row).await? else {
            return Ok(None);
        };
        let mut ended = self.end_leftover(&leftover, false).await;
        if ended.is_err() && leftover.state.next.is_some() {
            ended = self.end_leftover(&leftover, true).await;
        }
        Ok(ended.err().map(|_| {
            let left = self.left_behind(&leftover.loaded, &leftover.state, leftover.before);
            (leftover, left)
        }))
    }

    async fn end_leftover(&self, leftover: &Leftover, by_itself: bool) -> Result<(), String> {
        let Leftover {
            loaded,
            fields,
            state,
            ..
        } = leftover;
        if !leftover.before {
            return self.end_next(loaded, fields, state, by_itself).await;
        }
        let Some(old) = &state.old else {
            return Ok(());
        };
        match self.hand(loaded, fields).await {
            Ok(hand) => self.act(&hand, Act::Delete, old).await,
            Err(Said::Refused(why) | Said::Unknown(why)) => Err(why),
            Err(Said::Done(_) | Said::Gone) => Ok(()),
        }
    }

    /// Ends it in the background, as long as this process lives.
    pub(crate) fn discard_later(&self, leftover: Leftover) {
        let broker = self.clone();
        tokio::spawn(async move {
            let (ctx, loaded) = (&leftover.ctx, &leftover.loaded);
            let mut said = String::new();
            for (attempt, pause) in PAUSES.iter().enumerate() {
                let by_itself = attempt % 2 == 1;
                match broker.end_leftover(&leftover, by_itself).await {
                    Ok(()) => {
                        let said = match leftover.before {
                            true => "rotation: the one before was ended",
                            false => "rotation: the unused new one was ended",
                        };
                        return broker
                            .note_discard(ctx, loaded, Outcome::Allowed, said)
                            .await;
                    }
                    Err(why) => said = why,
                }
                tokio::time::sleep(*pause).await;
            }
            let left = broker.left_behind(loaded, &leftover.state, leftover.before);
            tracing::warn!(integration = %loaded.row.id, %said, %left, "a rotation left a key behind");
            let left = format!("rotation: {left}");
            broker
                .note_discard(ctx, loaded, Outcome::Failed, &left)
                .await;
        });
    }

    async fn note_discard(&self, ctx: &Context, loaded: &Loaded, outcome: Outcome, said: &str) {
        let mut entry = self.entry(ctx, ACTION, &loaded.on(), outcome);
        entry.caller = "system";
        entry.reason = Some(said.to_owned().into());
        if let Err(fault) = self.append(entry, Vec::new()).await {
            tracing::warn!(?fault, integration = %loaded.row.id, "the end of an unused key is not on record");
        }
    }
}
