//! What a grant is good for at its provider, and credentials for it: fetched now, returned once.
//!
//! What always holds: the decision is on record, with the resource and the kind, before the
//! credential is opened and anybody is called; what comes back is in buffers that are wiped, goes
//! into one answer, and is kept nowhere, not even sealed. No part of it is in an entry or a log.
//!
//! Not here: which calls a vendor wants, and how its answers are read (core's `provider::resources`).

use std::sync::Arc;
use std::time::Duration;

use keystead_core::action::Action;
use keystead_core::ids::IntegrationId;
use keystead_core::provider::resources::{
    Answer, Ask, Asking, Errand, Issued, Resource, ResourceFault, ResourcesKind, Wanted, issuing,
    listing,
};
use keystead_core::provider::{Fields, ProviderRequest};
use keystead_core::renew::Want;
use tokio::time::Instant;

use crate::ask::request;
use crate::broker::Broker;
use crate::context::Context;
use crate::error::Error;
use crate::integrations::Loaded;
use crate::limits::Subject;
use crate::net::FetchLimits;
use crate::page::Page;
use crate::permit::{Decided, Look, Opening, Reveal};

/// For all calls of one errand together; each has its own limit besides.
const ERRAND: Duration = Duration::from_secs(30);

impl Broker {
    /// What the provider has for this integration's grant. Nothing of it is secret.
    ///
    /// # Errors
    /// `NotFound`, `Denied`, `Conflict` (disabled; nothing of the kind; not permitted there),
    /// `Invalid`, `Limited`, `Credential`, `Upstream`, `UpstreamTimeout`.
    pub async fn list_resources(
        &self,
        ctx: &Context,
        id: IntegrationId,
        after: Option<&str>,
    ) -> Result<Page<Resource>, Error> {
        let loaded = self.load(ctx, Action::Info, id).await?;
        let decided = self.decide(ctx, Action::Info, &loaded.on()).await?;
        let begun = with_resources(&loaded).and_then(|kind| {
            let errand = listing(&loaded.provider, &loaded.config, kind, after);
            errand.map_err(told)
        });
        let errand = match begun {
            Ok(errand) => errand,
            Err(fault) => return Err(decided.fail(fault).await),
        };
        let decided = decided.because("resources");
        let listed = self
            .send_out::<Look, _>(ctx, &loaded, decided, errand)
            .await?;
        Ok(Page {
            data: listed.data,
            next: listed.next,
        })
    }

    /// Has credentials for a resource made, and hands them out.
    ///
    /// # Errors
    /// `Denied` for every user of whatever role, unless an operator opened it to owners; else as
    /// [`Broker::list_resources`].
    pub async fn fetch_resource_credentials(
        &self,
        ctx: &Context,
        id: IntegrationId,
        key: &str,
        wanted: Wanted,
    ) -> Result<Issued, Error> {
        let loaded = self.load(ctx, Action::Reveal, id).await?;
        let decided = self.decide(ctx, Action::Reveal, &loaded.on()).await?;
        let read = with_resources(&loaded).and_then(|kind| {
            let ask = Ask::read(&loaded.provider, &loaded.config, kind, key, wanted);
            ask.map_err(told)
        });
        let ask = match read {
            Ok(ask) => ask,
            Err(fault) => return Err(decided.fail(fault).await),
        };
        let decided = decided.because(ask.clause());
        // The provider's own trail names the request that our entry names.
        let errand = issuing(ask, ctx.request.to_string());
        self.send_out::<Reveal, _>(ctx, &loaded, decided, errand)
            .await
    }

    /// Records the decision, opens the credential, and runs the errand with it.
    async fn send_out<A: Opening, G>(
        &self,
        ctx: &Context,
        loaded: &Arc<Loaded>,
        decided: Decided,
        errand: Box<dyn Errand<Gives = G>>,
    ) -> Result<G, Error> {
        let on = loaded.on();
        if let Some(rate) = self.settings().limits.integration.get(&loaded.provider.id) {
            let subject = Subject(b'i', *loaded.row.id.bytes());
            self.admit(ctx, A::ACTION, &on, subject, *rate).await?;
        }
        let keys = match self.keyring().tenant(loaded.row.tenant).await {
            Ok(keys) => keys,
            Err(fault) => return Err(decided.fail(fault).await),
        };
        let permit = decided.permit::<A>(loaded.row.credential_version).await?;
        let live = self
            .live_fields(ctx, permit, &keys, loaded, Want::Live)
            .await?;
        self.mark_used(loaded.row.tenant, loaded.row.id);
        let done = self.carry_errand(loaded, &live.fields, errand).await;
        if let Err(fault) = &done {
            self.record_failure(ctx, A::ACTION, &on, fault.word()).await;
        }
        done
    }

    async fn carry_errand<G>(
        &self,
        loaded: &Loaded,
        fields: &Fields,
        mut errand: Box<dyn Errand<Gives = G>>,
    ) -> Result<G, Error> {
        let mode = fields.mode(&loaded.provider);
        if mode.is_none_or(|mode| mode.resources.is_none()) {
            return Err(without_resources());
        }
        let asking = || Asking {
            provider: &loaded.provider,
            config: &loaded.config,
            fields,
            now: self.clock().now(),
        };
        let until = Instant::now() + ERRAND;
        while let Some(call) = errand.next(&asking()).map_err(told)? {
            let answer = self.call_within(call, until).await?;
            let answer = Answer {
                status: answer.status().as_u16(),
                headers: answer.headers(),
                body: answer.body(),
            };
            errand.take(&asking(), &answer).map_err(told)?;
        }
        errand.finish(&asking()).map_err(told)
    }

    /// One call. Its answer is wiped when it is dropped.
    async fn call_within(
        &self,
        mut call: ProviderRequest,
        until: Instant,
    ) -> Result<http::Response<bytes::Bytes>, Error> {
        let limits = FetchLimits::default();
        let left = until.saturating_duration_since(Instant::now());
        let limits = FetchLimits {
            total: limits.total.min(left),
            ..limits
        };
        Ok(self.client().fetch(request(&mut call)?, limits).await?)
    }
}

/// Whose resources an integration has that may be used.
fn with_resources(loaded: &Loaded) -> Result<ResourcesKind, Error> {
    if loaded.row.disabled {
        return Err(Error::disabled());
    }
    loaded.provider.resources().ok_or_else(without_resources)
}

fn without_resources() -> Error {
    Error::conflict(
        "no_resources",
        "nothing is known that this integration's credential is good for beside calls: see which providers have resources in the documentation",
    )
}

/// The fault as the caller is told.
fn told(fault: ResourceFault) -> Error {
    match fault {
        ResourceFault::Invalid(faults) => {
            Error::Invalid(faults.into_iter().map(Into::into).collect())
        }
        ResourceFault::NotFound => Error::NotFound { what: "resource" },
        ResourceFault::State(code, message) => Error::conflict(code, message),
        ResourceFault::NoPermission(needs) => Error::conflict(
            "no_perm",
            format!(
                "the provider does not let this credential do it: what it lacks is {needs}; grant that at the provider, connect again where it was an OAuth app, and repeat"
            ),
        ),
        ResourceFault::Refused(reason) => Error::Credential {
            reason: reason.into(),
        },
        ResourceFault::Rate(seconds) => Error::Limited {
            retry_after: seconds.into(),
        },
        ResourceFault::Down(status) => Error::Upstream {
            reason: format!("it answers with status {status}").into(),
        },
        ResourceFault::Unclear(reason) => Error::Upstream {
            reason: reason.into(),
        },
    }
}
