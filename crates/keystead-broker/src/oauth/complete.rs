//! The way back: the state is taken, and its code becomes tokens.
//!
//! What always holds: whoever brings a state that is unknown, used, expired or another's learns
//! the same; whoever began is asked again what they may; the exchange is in a task of its own, as
//! a code works once and its answer comes once; a provider's reason reaches the log as a code.

use bytes::Bytes;
use http::Response;
use keystead_core::action::{Action, Outcome, TargetKind};
use keystead_core::ids::TenantId;
use keystead_core::provider::oauth::{self, Answer, Means, OAuth, Refusal, Tokens};
use keystead_core::provider::{Provider, TokenRequest};
use keystead_store::{AuthorizationRow, Effect};
use serde_json::Value;
use url::Url;
use zeroize::Zeroizing;

use super::app::{Opened, Target};
use super::begin::{BOUND_TO_CALLER, place, unusable};
use super::model::{Back, Begin, Completed, ConnectPage, Incomplete};
use crate::actor::Actor;
use crate::broker::Broker;
use crate::context::Context;
use crate::error::Error;
use crate::mint::token_request;
use crate::net::FetchLimits;
use crate::permit::On;

impl Broker {
    /// Ends what [`Broker::begin_authorization`] began: takes the state, exchanges the code, and
    /// makes the integration, or authorises it anew.
    ///
    /// # Errors
    /// Whatever keeps it from being connected; all of it is on record, and nothing that was there
    /// before is changed.
    pub async fn complete_authorization(
        &self,
        ctx: &Context,
        back: Back,
    ) -> Result<Completed, Incomplete> {
        let (broker, ctx) = (self.clone(), ctx.clone());
        // On its own task: a browser that is closed must not lose a code that was used.
        tokio::spawn(async move { broker.bring(&ctx, back).await })
            .await
            .unwrap_or_else(|_| Err(Error::internal("a consent ended early").into()))
    }

    async fn bring(&self, ctx: &Context, back: Back) -> Result<Completed, Incomplete> {
        let row = self.find_begun(ctx, &back).await?;
        let (ctx, page) = self.again(ctx, &row).await?;
        let done = self.complete_begun(&ctx, &row, back).await;
        done.map(|done| Completed { page, ..done })
            .map_err(|error| Incomplete { error, page })
    }

    /// The consent of that state, if this is who began it.
    async fn find_begun(&self, ctx: &Context, back: &Back) -> Result<AuthorizationRow, Error> {
        let hash = self.keyring().lookup_hash(back.state.as_bytes());
        let Some(row) = self.store().find_authorization_by_state(hash).await? else {
            return Err(self.not_begun(ctx, "state unknown").await);
        };
        let bound_to = match &back.browser {
            Some(cookie) => self.bound_to_browser(cookie),
            None => BOUND_TO_CALLER.to_owned(),
        };
        if row.bound_to != bound_to {
            return Err(self.not_begun(ctx, "state of another browser or way").await);
        }
        let came_by = self.settings().oauth.came_by(back.own.as_deref());
        if back.browser.is_some() && came_by.as_ref() != Some(&row.redirect_uri) {
            return Err(self.not_begun(ctx, "state of another callback").await);
        }
        if back.browser.is_none() && !began(&row, ctx) {
            return Err(self.not_begun(ctx, "state of another caller").await);
        }
        if row.expires_at <= self.clock().now() {
            return Err(self.not_begun(ctx, "state expired").await);
        }
        Ok(row)
    }

    /// Records why; outside, all reasons are alike.
    pub(super) async fn not_begun(&self, ctx: &Context, why: &'static str) -> Error {
        let fault = Error::conflict(
            "authorization_unknown",
            "this authorisation is not under way, here: it was used, is older than ten minutes, or was begun by another browser or caller. Begin again",
        );
        let on = On::kind(
            TargetKind::Integration,
            ctx.tenant.unwrap_or(TenantId::PLATFORM),
        );
        match ctx.caller {
            Some(_) => match self.deny(ctx, Action::Put, &on, why).await {
                Ok(()) => fault,
                Err(unrecorded) => unrecorded,
            },
            // Anybody can send these: they count against their address.
            None => self.unproven(ctx, &on, why.into(), fault).await,
        }
    }

    async fn complete_begun(
        &self,
        ctx: &Context,
        row: &AuthorizationRow,
        back: Back,
    ) -> Result<Completed, Error> {
        let begin = begun(row)?;
        let (decided, target) = self.oauth_target(ctx, &begin).await?;
        let taken = Effect::TakeAuthorization {
            tenant: row.tenant,
            authorization: row.id,
        };
        let took = decided.because("consent came back").carry_out(vec![taken]);
        match took.await {
            Ok(()) => {}
            // Another request with the same state was first.
            Err(Error::NotFound { .. } | Error::Conflict { .. }) => {
                return Err(self.not_begun(ctx, "state used").await);
            }
            Err(fault) => return Err(fault),
        }
        if let Some(said) = &back.error {
            let code = oauth::error_code(said).to_owned();
            let fault = not_granted(&target, &code);
            return Err(self
                .unconnected(ctx, &target, format!("consent: {code}"), fault)
                .await);
        }
        let oauth = target.oauth()?;
        let iss = back.iss.as_deref();
        let of_another = oauth.issuer.is_none() && self.is_of_another(&target, iss);
        if of_another || oauth::check_iss(oauth, iss).is_err() {
            let fault = Error::conflict(
                "issuer_mismatch",
                "the answer does not come from the provider that was asked: nothing was connected. Begin again, and tell whoever runs Keystead if it happens twice",
            );
            return Err(self
                .unconnected(ctx, &target, "consent: iss".into(), fault)
                .await);
        }
        let Some(code) = back.code.as_ref().filter(|code| !code.is_empty()) else {
            let fault = Error::Malformed("the provider's answer has neither code nor error".into());
            return Err(self
                .unconnected(ctx, &target, "consent: no code".into(), fault)
                .await);
        };
        let decided = self.decide(ctx, Action::Put, &target.on).await?;
        let (_, opened) = self.oauth_opened(ctx, decided, &target).await?;
        let answer = Answer {
            query: back.query.as_ref().map(|query| query.as_str()),
            state: &back.state,
            code,
        };
        let exchanged = self
            .exchange_code(row, &target, opened.as_ref(), answer)
            .await;
        let tokens = match exchanged {
            Ok(tokens) => tokens,
            Err((why, fault)) => {
                return Err(self.unconnected(ctx, &target, why, fault).await);
            }
        };
        self.connected(ctx, row, &target, opened, tokens).await
    }

    /// Whether an answer says that it comes from another provider than was asked: by a host that is
    /// another's, and not that one's.
    fn is_of_another(&self, target: &Target, iss: Option<&str>) -> bool {
        let url = iss.and_then(|iss| Url::parse(iss).ok());
        let url = url.filter(|url| url.scheme() == "https");
        let Some(host) = url.as_ref().and_then(Url::host_str) else {
            return false;
        };
        let has = |provider: &Provider| {
            let mut hosts = provider.oauth().into_iter().flat_map(OAuth::hosts);
            hosts.any(|own| own == host)
        };
        !has(&target.provider) && self.catalogue().list().any(|other| has(other))
    }

    /// Whoever began, as they stand now, and on which page.
    async fn again(
        &self,
        ctx: &Context,
        row: &AuthorizationRow,
    ) -> Result<(Context, Option<ConnectPage>), Error> {
        let (request, address) = (ctx.request, ctx.address);
        if let Some(session) = row.session {
            let again = self.session_again(row.tenant, session, request, address);
            let (ctx, framed) = again.await?;
            let page = if framed {
                ConnectPage::Framed
            } else {
                ConnectPage::Top
            };
            return Ok((ctx, Some(page)));
        }
        if ctx.caller.is_some() {
            return Ok((ctx.clone(), None));
        }
        let actor = Actor::from_text(&row.caller).ok_or_else(|| corrupt(row))?;
        match self.act_again(&actor, row.tenant, request, address).await {
            Ok(ctx) => Ok((ctx, None)),
            Err(Error::Unauthenticated) => Err(self.not_begun(ctx, "its caller is gone").await),
            Err(fault) => Err(fault),
        }
    }

    /// The code, for tokens. A refusal comes with its reason for the log.
    async fn exchange_code(
        &self,
        row: &AuthorizationRow,
        target: &Target,
        opened: Option<&Opened>,
        answer: Answer<'_>,
    ) -> Result<Tokens, (String, Error)> {
        let plain = |fault: Error| (format!("exchange: {}", fault.word()), fault);
        let verifier = self.kept_secret(row).await.map_err(plain)?;
        let verifier = verifier.as_ref().map(|verifier| verifier.as_str());
        let app = self
            .oauth_app(target, opened.map(|(fields, _)| fields))
            .map_err(plain)?;
        let config = target.config().map_err(plain)?;
        oauth::check_callback(&target.provider, config, &app, answer).map_err(|why| {
            let fault = Error::conflict(
                "callback_unsigned",
                "the answer is not as the provider that was asked signs it: nothing was connected. Begin again, and tell whoever runs Keystead if it happens twice",
            );
            (format!("consent: {why}"), fault)
        })?;
        let (uri, code) = (&row.redirect_uri, answer.code);
        let request = oauth::code_request(&target.provider, config, &app, code, verifier, uri)
            .map_err(|fault| plain(unusable(fault)))?;
        let answer = self
            .ask_for_tokens(target, &app, request)
            .await
            .map_err(plain)?;
        answer.map_err(|refusal| {
            (
                format!("exchange: {}", refusal.code),
                refused(target, opened.is_some(), &refusal),
            )
        })
    }

    /// Asks the token endpoint; what it grants is marked as this app's.
    pub(super) async fn ask_for_tokens(
        &self,
        target: &Target,
        app: &oauth::App,
        ask: TokenRequest,
    ) -> Result<Result<Tokens, Refusal>, Error> {
        // From before the call, as what is granted for a time may have run for that long.
        let now = self.store_time();
        let answer = self.ask_provider(ask).await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers());
        let (provider, config) = (&target.provider, target.config()?);
        let read = oauth::read_tokens(provider, config, status, headers, answer.body(), now, None);
        Ok(read.map(|tokens| tokens.issued_to(&app.client_id)))
    }

    /// What was sealed when it began; `None` where there was nothing to keep.
    pub(super) async fn kept_secret(
        &self,
        row: &AuthorizationRow,
    ) -> Result<Option<Zeroizing<String>>, Error> {
        let keys = self.keyring().tenant(row.tenant).await?;
        let opened = keys.open(&place(row.tenant, row.id), &row.sealed);
        let opened = opened.ok_or_else(|| corrupt(row))?;
        let text = std::str::from_utf8(opened.expose()).map_err(|_| corrupt(row))?;
        Ok((!text.is_empty()).then(|| Zeroizing::new(text.to_owned())))
    }

    /// One call to an endpoint of a provider's, within ten seconds; a redirect is an answer.
    pub(super) async fn ask_provider(&self, ask: TokenRequest) -> Result<Response<Bytes>, Error> {
        let request = token_request(ask)?;
        Ok(self.client().fetch(request, FetchLimits::default()).await?)
    }

    /// Records why an account was not connected, and tells the operator.
    pub(super) async fn unconnected(
        &self,
        ctx: &Context,
        target: &Target,
        why: String,
        fault: Error,
    ) -> Error {
        let provider = &target.provider.id;
        let integration = target.on.integration.map(|id| id.to_string());
        tracing::warn!(request = %ctx.request, %provider, integration, why, "an account was not connected");
        let mut entry = self.entry(ctx, Action::Put, &target.on, Outcome::Failed);
        entry.reason = Some(why.into());
        match self.append(entry, Vec::new()).await {
            Ok(()) => fault,
            Err(unrecorded) => unrecorded,
        }
    }
}

/// What was wanted.
pub(super) fn begun(row: &AuthorizationRow) -> Result<Begin, Error> {
    let config = match serde_json::from_str(&row.config) {
        Ok(Value::Object(config)) => config,
        Ok(Value::Null) => serde_json::Map::new(),
        _ => return Err(corrupt(row)),
    };
    Ok(Begin {
        type_: row.provider.clone(),
        integration: row.integration,
        // Taken meanwhile or not: the account is connected, under another name if need be.
        name: None,
        config,
        session: row.session,
    })
}

pub(super) fn corrupt(row: &AuthorizationRow) -> Error {
    Error::Corrupt {
        record: row.id.to_string(),
    }
}

/// Whether this request is by the caller that began, in the same tenant.
pub(super) fn began(row: &AuthorizationRow, ctx: &Context) -> bool {
    let same = Actor::from_text(&row.caller)
        .zip(Actor::of(ctx))
        .is_some_and(|(began, asks)| began.is(&asks));
    same && ctx.tenant == Some(row.tenant)
}

/// The provider sent the browser back without a code.
pub(super) fn not_granted(target: &Target, code: &str) -> Error {
    let name = &target.provider.name;
    let text = match code {
        "access_denied" => format!(
            "access to {name} was not granted: nothing was connected. Begin again and agree to it there, if you want it connected"
        ),
        "temporarily_unavailable" | "server_error" => {
            format!("{name} could not do it now ({code}): nothing was connected. Begin again later")
        }
        _ => format!(
            "{name} ended it ({code}): nothing was connected. Begin again, and tell whoever runs Keystead if it happens twice"
        ),
    };
    Error::conflict("authorization_refused", text)
}

/// What a refusal of the token endpoint means to whoever wanted to connect.
pub(super) fn refused(target: &Target, own_app: bool, refusal: &Refusal) -> Error {
    let (name, code) = (&target.provider.name, &refusal.code);
    match refusal.means {
        Means::Dead => Error::conflict(
            "authorization_refused",
            format!(
                "{name} does not take the authorisation ({code}): it was used, or is too old. Nothing was connected. Begin again"
            ),
        ),
        Means::Client => Error::conflict(
            "oauth_app_refused",
            if own_app {
                format!("{name} does not take the OAuth app ({code}): check its client_id and client_secret, and begin again")
            } else {
                format!("{name} does not take this installation's OAuth app ({code}): whoever runs Keystead checks [oauth.{}]", target.provider.id)
            },
        ),
        Means::Rate => Error::Provider {
            code: "provider_busy",
            message: format!("{name} has had too many requests ({code}): nothing was connected. Begin again in some minutes").into(),
        },
        Means::Down | Means::Unclear | Means::Pending | Means::SlowDown => Error::Provider {
            code: "provider_answer_unusable",
            message: format!("{name} did not answer with tokens ({code}): nothing was connected. Begin again later, and tell whoever runs Keystead if it happens twice").into(),
        },
    }
}
