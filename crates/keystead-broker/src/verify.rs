//! Trying a credential at its provider, and what the answer says about the integration.
//!
//! What always holds: a trial opens the credential under a permit like any other use; its result
//! is written only while that version is the current one; what proves nothing changes nothing that
//! was proven before.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use keystead_core::action::{Action, Outcome};
use keystead_core::ids::{IntegrationId, TenantId};
use keystead_core::placement::{self, Head, Material};
use keystead_core::provider::{Fields, ResultClass, classify};
use keystead_core::renew::Want;
use keystead_store::{Effect, Status as RowStatus};
use tokio::time::Instant;

use crate::broker::Broker;
use crate::context::Context;
use crate::error::Error;
use crate::hash::sha256;
use crate::integrations::{Integration, Loaded, Status};
use crate::keyring::TenantKeys;
use crate::mint::Made;
use crate::net::FetchLimits;
use crate::permit::{Decided, Permit, Test};

/// What a trial found.
#[derive(Clone, Debug)]
pub struct TestReport {
    /// The class of the answer.
    pub result: ResultClass,
    /// The integration's status now.
    pub status: Status,
    /// What to do about it, for a person.
    pub message: Option<String>,
    /// How long the provider took.
    pub latency_ms: u64,
}

/// Trials in the background wait so long between attempts that prove nothing.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(8),
];

/// Why a credential that nothing tries is taken as it is.
const UNTESTABLE: &str = "taken untried: no call that would try this credential is set up (for a generic provider, the setting test_path names one)";

/// What an answer says about the credential: the status, if it says anything at all.
fn status_after(class: ResultClass) -> Option<RowStatus> {
    match class {
        // Genuine, and what it lacks for the test call it may not need for the calls it is for.
        ResultClass::Ok | ResultClass::NoPerm | ResultClass::Rate => Some(RowStatus::Connected),
        ResultClass::BadKey | ResultClass::Expired | ResultClass::Quota => Some(RowStatus::Error),
        ResultClass::Down | ResultClass::Indeterminate => None,
    }
}

/// What it says of the credential that there is no token to try, and whether the grant has ended;
/// `None` for what says nothing of it.
fn without_token(fault: &Error) -> Option<(ResultClass, bool)> {
    match fault {
        Error::Conflict {
            code: "reauthorize",
            ..
        } => Some((ResultClass::Expired, true)),
        Error::Upstream { .. } | Error::Limited { .. } | Error::Credential { .. } => {
            Some((ResultClass::Down, false))
        }
        _ => None,
    }
}

impl Broker {
    /// Tries the credential now.
    ///
    /// # Errors
    /// `NotFound`, `Denied`; a provider that cannot be reached is a result, not an error.
    pub async fn test_integration(
        &self,
        ctx: &Context,
        id: IntegrationId,
    ) -> Result<TestReport, Error> {
        let loaded = self.load(ctx, Action::Test, id).await?;
        let decided = self.decide(ctx, Action::Test, &loaded.on()).await?;
        if loaded.row.disabled {
            return Err(decided.fail(Error::disabled()).await);
        }
        let (broker, ctx) = (self.clone(), ctx.clone());
        // On its own task: a caller who hangs up must not lose the result.
        tokio::spawn(async move { broker.try_once(&ctx, decided, &loaded, true).await })
            .await
            .map_err(|_| Error::internal("a trial ended early"))?
    }

    /// Tries an integration's credential in the background, a few times where that proves nothing.
    pub(crate) fn verify_later(&self, tenant: TenantId, id: IntegrationId) {
        let broker = self.clone();
        tokio::spawn(async move {
            let mut ctx = Context::anonymous(broker.new_request_id(), None);
            ctx.tenant = Some(tenant);
            for (attempt, pause) in PAUSES.iter().enumerate() {
                let last = attempt + 1 == PAUSES.len();
                let loaded = match broker.find_loaded(tenant, id).await {
                    Ok(Some(loaded)) if !loaded.row.disabled => loaded,
                    Ok(_) => return,
                    Err(fault) => {
                        tracing::warn!(?fault, integration = %id, "an integration could not be read to be tried");
                        tokio::time::sleep(*pause).await;
                        continue;
                    }
                };
                let decided = broker.decide_for_system(&ctx, Action::Test, &loaded.on());
                match broker.try_once(&ctx, decided, &loaded, last).await {
                    Ok(report) if last || report.status != Status::Verifying => return,
                    Ok(_) => {}
                    // It opens no better later; whoever looks is told.
                    Err(Error::Corrupt { .. }) => return broker.give_up(&ctx, &loaded).await,
                    Err(fault) => {
                        tracing::warn!(?fault, integration = %id, "an integration could not be tried")
                    }
                }
                tokio::time::sleep(*pause).await;
            }
        });
    }

    /// Says of an integration that its sealed credential does not open.
    async fn give_up(&self, ctx: &Context, loaded: &Loaded) {
        let on = loaded.on();
        let mut entry = self.entry(ctx, Action::Test, &on, Outcome::Failed);
        entry.caller = "system";
        entry.reason = Some("given up".into());
        entry.version = Some(loaded.row.credential_version);
        let effect = Effect::SetVerified {
            tenant: loaded.row.tenant,
            integration: loaded.row.id,
            version: loaded.row.credential_version,
            status: RowStatus::Error,
            error_message: Some("the stored credential does not open: put it in again, and tell whoever runs Keystead".to_owned()),
            at: entry.at,
        };
        if let Err(fault) = self.append(entry, vec![effect]).await {
            tracing::warn!(?fault, integration = %loaded.row.id, "a trial that was given up is not on record");
        }
        self.epochs().move_tenant(loaded.row.tenant);
    }

    async fn try_once(
        &self,
        ctx: &Context,
        decided: Decided,
        loaded: &Loaded,
        last: bool,
    ) -> Result<TestReport, Error> {
        let keys = match self.keyring().tenant(loaded.row.tenant).await {
            Ok(keys) => keys,
            Err(fault) => return Err(decided.fail(fault).await),
        };
        let permit = decided
            .permit::<Test>(loaded.row.credential_version)
            .await?;
        let began = Instant::now();
        let (tried, ended) = match self.try_live(ctx, permit, &keys, loaded).await {
            Ok(tried) => tried,
            Err(fault) => match without_token(&fault) {
                Some((class, ended)) => (Some((class, fault.to_string())), ended),
                None => return Err(fault),
            },
        };
        let latency_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let testable = tried.is_some();
        let (class, message) =
            tried.unwrap_or_else(|| (ResultClass::Indeterminate, UNTESTABLE.to_owned()));
        let message = (class != ResultClass::Ok).then_some(message);
        let known = loaded.row.status;
        let status = match status_after(class) {
            Some(_) if ended => RowStatus::Reauthorize,
            Some(status) => status,
            // There is nothing to wait for: its use will show.
            None if !testable => RowStatus::Connected,
            // What proves nothing leaves what was proven; a first trial has to end somewhere.
            None if known == RowStatus::Verifying && last => RowStatus::Error,
            None => known,
        };
        let mut entry = self.entry(
            ctx,
            Action::Test,
            &loaded.on(),
            if class == ResultClass::Ok {
                Outcome::Allowed
            } else {
                Outcome::Failed
            },
        );
        if ctx.caller.is_none() {
            entry.caller = "system";
        }
        entry.reason = Some(class.as_str().into());
        entry.version = Some(loaded.row.credential_version);
        let effect = Effect::SetVerified {
            tenant: loaded.row.tenant,
            integration: loaded.row.id,
            version: loaded.row.credential_version,
            status,
            error_message: message.clone(),
            at: entry.at,
        };
        match self.append(entry, vec![effect]).await {
            // Replaced or removed meanwhile: the result is about a version that is gone.
            Ok(()) | Err(Error::Conflict { .. } | Error::NotFound { .. }) => {}
            Err(fault) => return Err(fault),
        }
        self.epochs().move_tenant(loaded.row.tenant);
        let mut row = loaded.row.clone();
        row.status = status;
        Ok(TestReport {
            result: class,
            status: Integration::from(&row).status,
            message,
            latency_ms,
        })
    }

    /// Tries what the credential is used by. Tokens that are refused before their time are renewed and
    /// tried once more: where the grant itself is dead, that is what shows it. Says too whether the grant
    /// has ended, as far as that can be seen.
    async fn try_live(
        &self,
        ctx: &Context,
        permit: Permit<Test>,
        keys: &TenantKeys,
        loaded: &Loaded,
    ) -> Result<(Option<(ResultClass, String)>, bool), Error> {
        let want = match ctx.caller {
            Some(_) => Want::Insisting,
            None => Want::Live,
        };
        let live = self.live_fields(ctx, permit, keys, loaded, want).await?;
        let tried = self.call(loaded, keys, &live.fields).await;
        let refused = matches!(tried, Some((ResultClass::BadKey | ResultClass::Expired, _)));
        let Some((version, end)) = live.tokens.filter(|_| refused) else {
            return Ok((tried, false));
        };
        if !live.renewable {
            // Nothing else will show it; a trial that goes well shows the contrary.
            return Ok((tried, true));
        }
        let grant = (loaded.row.tenant, loaded.row.id);
        // Before it is said for the first time that they are refused, they may be as new as they are,
        // unless this trial has renewed them.
        let known = loaded.tokens.as_ref().map(|row| row.token_version);
        let anew = end.is_none() && known == Some(version) && loaded.row.status != RowStatus::Error;
        if !anew && !self.may_renew_refused(loaded, version) {
            return Ok((tried, false));
        }
        self.renewed(grant, Want::Later(version)).await?;
        let decided = self.decide_for_system(ctx, Action::Test, &loaded.on());
        let decided = decided.because("repeated with renewed tokens");
        let permit = decided
            .permit::<Test>(loaded.row.credential_version)
            .await?;
        let want = Want::Later(version);
        // With the tokens, its API may have moved.
        let again = self.find_loaded(grant.0, grant.1).await?;
        let again = again.as_deref().unwrap_or(loaded);
        let live = self.live_fields(ctx, permit, keys, again, want).await?;
        Ok((self.call(again, keys, &live.fields).await, false))
    }

    /// The provider's test call, and what its answer means; `None` where there is no such call.
    pub(crate) async fn call(
        &self,
        loaded: &Loaded,
        keys: &TenantKeys,
        fields: &Fields,
    ) -> Option<(ResultClass, String)> {
        match self.try_call(loaded, keys, fields).await {
            Ok(result) => result,
            Err(Error::Upstream { reason }) => Some((
                ResultClass::Down,
                format!("the provider could not be reached: {reason}"),
            )),
            Err(Error::UpstreamTimeout) => Some((
                ResultClass::Down,
                "the provider did not answer in time".to_owned(),
            )),
            Err(fault) => Some((ResultClass::Indeterminate, fault.to_string())),
        }
    }

    async fn try_call(
        &self,
        loaded: &Loaded,
        keys: &TenantKeys,
        fields: &Fields,
    ) -> Result<Option<(ResultClass, String)>, Error> {
        let provider = &loaded.provider;
        let unusable = |reason: String| Error::Credential {
            reason: reason.into(),
        };
        let now = self.clock().now();
        let mode = fields.mode(provider).ok_or_else(|| {
            unusable("its parts do not make up a credential of this provider".to_owned())
        })?;
        let Some(test) = provider.test_of(mode) else {
            return Ok(None);
        };
        if test.mint {
            let destination = provider.destination_of(&loaded.config, None).ok();
            let host = destination
                .map(|destination| destination.logical_host)
                .unwrap_or_default();
            return Ok(Some(
                match self.make_token(loaded, fields, &host, now).await? {
                    Made::Token(_) => (ResultClass::Ok, String::new()),
                    Made::Refused { class, message, .. } => (class, message),
                },
            ));
        }
        let Some(call) = provider.test_request(fields, &loaded.config, now) else {
            return Ok(None);
        };
        let destination = provider
            .destination_of(&loaded.config, call.host.as_deref())
            .map_err(|fault| unusable(fault.to_string()))?;
        let mut head = Head {
            method: call.method,
            logical_host: destination.logical_host.clone(),
            host_header: destination.host_header.clone(),
            path: call.path,
            query: call.query,
            headers: call.headers,
        };
        let token = match &mode.mint {
            Some(_) => match self
                .token(loaded, keys, fields, &destination.logical_host)
                .await?
            {
                Made::Token(token) => Some(token),
                Made::Refused { class, message, .. } => return Ok(Some((class, message))),
            },
            None => None,
        };
        let material = token
            .as_ref()
            .map_or(Material::Fields(fields), Material::Token);
        let body_sha256 = Some(sha256(&[&call.body]));
        placement::place(
            provider,
            material,
            &loaded.config,
            &mut head,
            now,
            body_sha256,
        )
        .map_err(|fault| unusable(fault.to_string()))?;
        let query = head
            .query
            .as_ref()
            .map(|query| format!("?{query}"))
            .unwrap_or_default();
        let uri = format!(
            "{}://{}{}{query}",
            destination.dial.scheme(),
            destination.dial.authority(),
            head.path
        );
        let mut request = Request::builder()
            .method(head.method)
            .uri(uri)
            .body(Bytes::from(call.body))
            .map_err(|_| {
                unusable("the provider's test call cannot be written with it".to_owned())
            })?;
        *request.headers_mut() = head.headers;
        let host = HeaderValue::from_str(&head.host_header)
            .map_err(|_| Error::internal("a host that is no header value"))?;
        request.headers_mut().insert(header::HOST, host);
        if !request.headers().contains_key(header::USER_AGENT) {
            request
                .headers_mut()
                .insert(header::USER_AGENT, HeaderValue::from_static("keystead"));
        }
        let answer = self.client().fetch(request, FetchLimits::default()).await?;
        let (class, message) = classify(
            test,
            answer.status().as_u16(),
            answer.headers(),
            answer.body(),
        );
        Ok(Some((class, message.to_owned())))
    }
}
