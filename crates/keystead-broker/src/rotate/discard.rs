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

/// A next key without a row.
pub(crate) struct Leftover {
    ctx: Context,
    loaded: Arc<Loaded>,
    fields: Arc<Fields>,
    state: State,
}

impl Leftover {
    pub(super) fn of(job: Job) -> Leftover {
        Leftover {
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
        let left = self.left_behind(&job.loaded, &job.state);
        let detail = format!("{} {left}", detail.unwrap_or_default());
        self.finish(job, key, Some(detail.trim().to_owned())).await
    }

    fn left_behind(&self, loaded: &Loaded, state: &State) -> String {
        let key = state.new.as_ref().unwrap_or(&state.marker);
        let page = page_of(&loaded.provider);
        format!("A key that nothing uses ({key}) could not be ended: end it by hand ({page})")
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
            Ok(leftover) => leftover,
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
        if !matches!(
            step_of(&rotation),
            Step::Create | Step::Test | Step::Discard
        ) {
            return Ok(None);
        }
        let Some(loaded) = self.find_loaded(row.tenant, row.id).await? else {
            return Ok(None);
        };
        let version = rotation.credential_version;
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
        let asked = state.asked_at.is_some();
        Ok(asked.then_some(Leftover {
            ctx: ctx.clone(),
            loaded,
            fields: Arc::new(fields),
            state,
        }))
    }

    /// Ends it in the background, as long as this process lives.
    pub(crate) fn discard_later(&self, leftover: Leftover) {
        let broker = self.clone();
        tokio::spawn(async move {
            let Leftover {
                ctx,
                loaded,
                fields,
                state,
            } = leftover;
            let mut said = String::new();
            for (attempt, pause) in PAUSES.iter().enumerate() {
                let by_itself = attempt % 2 == 1;
                match broker.end_next(&loaded, &fields, &state, by_itself).await {
                    Ok(()) => {
                        let said = "rotation: the unused new one was ended";
                        return broker
                            .note_discard(&ctx, &loaded, Outcome::Allowed, said)
                            .await;
                    }
                    Err(why) => said = why,
                }
                tokio::time::sleep(*pause).await;
            }
            let left = broker.left_behind(&loaded, &state);
            tracing::warn!(integration = %loaded.row.id, %said, %left, "a rotation left a key behind");
            let left = format!("rotation: {left}");
            broker
                .note_discard(&ctx, &loaded, Outcome::Failed, &left)
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
