//! Connect sessions: a link by which one person works on a tenant's integrations for half an hour,
//! without a login at Keystead.
//!
//! ```text
//! create → link (its secret is kept as a keyed hash) → claimed by the first browser that asks
//!        → the browser's own secret (kept as a keyed hash) opens the session, until it ends
//! ```
//!
//! What always holds: a session may never do more than whoever made it, then and now: it ends with
//! its maker's key or membership; it acts as a user through the ordinary operations, each decided
//! and on record; a link serves one browser. Not here: pages and cookies.

mod session;
mod settings;

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keystead_core::action::{Action, TargetKind};
use keystead_core::caller::{Caller, Filter};
use keystead_core::ids::{IntegrationId, SessionId, TenantId};
use keystead_core::time::Time;
use keystead_store::{ConnectSessionRow, Effect};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::actor::Actor;
use crate::broker::Broker;
use crate::clock;
use crate::context::Context;
use crate::error::{Error, FieldFault};
use crate::open::{self, OF_KEY, OF_PERSON, OF_TENANT};
use crate::permit::{Decided, On};
use crate::tenants::is_name;

use session::Acting;
pub use session::{Claimed, ConnectLink, ConnectSession};
pub use settings::{ConnectSettings, InvalidConnectSetting};

/// How long a session lasts, from its making.
const SESSION_SECONDS: i64 = 30 * 60;
/// The most providers that one session names.
const PROVIDERS_MOST: usize = 64;

/// What a session's own page does, and so what a service that makes one has to be allowed.
const PAGE_ACTIONS: [Action; 5] = [
    Action::List,
    Action::Info,
    Action::Test,
    Action::Delete,
    Action::Put,
];

/// For whom a service makes a session.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionUser {
    /// What the product calls them.
    pub id: String,
    /// As the page calls them.
    pub name: Option<String>,
}

/// A session to be made.
#[derive(Clone, Debug, Default)]
pub struct NewConnectSession {
    /// For whom; a user's own sessions are for that user.
    pub user: Option<SessionUser>,
    /// With which providers; `None`: all.
    pub providers: Option<Vec<String>>,
    /// With this integration alone: to connect it again.
    pub integration: Option<IntegrationId>,
    /// Where the page leads back to.
    pub return_url: Option<String>,
    /// Whether the page is shown in a frame of the product.
    pub embed: bool,
}

/// A session that was made. The link holds a secret and is shown once.
pub struct MadeConnectSession {
    secret: Zeroizing<String>,
    /// Whether the page is shown in a frame of the product.
    pub embed: bool,
    /// When it ends, at the latest.
    pub expires_at: Time,
}

impl MadeConnectSession {
    /// The secret of the link, for the link alone.
    pub fn secret(&self) -> &str {
        &self.secret
    }
}

impl Broker {
    /// What an operator says of connect sessions.
    pub fn connect_settings(&self) -> &ConnectSettings {
        &self.settings().connect
    }

    /// Whether this installation has an OAuth app at the provider of that id.
    pub fn has_oauth_app(&self, provider: &str) -> bool {
        self.settings().oauth.apps.contains_key(provider)
    }

    /// Makes a session: for a user, by a service that may do all that the page does; or by a user
    /// for themselves, with their own role.
    ///
    /// # Errors
    /// `Denied`; `NotFound` for an integration that is not the tenant's; `Invalid`.
    pub async fn create_connect_session(
        &self,
        ctx: &Context,
        new: NewConnectSession,
    ) -> Result<MadeConnectSession, Error> {
        let tenant = self
            .tenant_of(ctx, Action::Put, TargetKind::Integration)
            .await?;
        let mut faults = Vec::new();
        let providers = self.session_providers(new.providers.as_deref(), &mut faults);
        let things = match new.integration {
            Some(id) => {
                let row = self.find(ctx, Action::Put, id).await?;
                let on = On::integration(tenant, id, &row.provider);
                if matches!(&providers, Filter::Only(those) if !those.contains(&row.provider)) {
                    let message = "must hold the integration's provider, or be left out";
                    faults.push(FieldFault::new("providers", message));
                }
                vec![on]
            }
            None => of_providers(tenant, &providers),
        };
        let decided = self.decide_session(ctx, &things).await?;
        let return_url = new.return_url.as_deref().and_then(|text| {
            let url = self.connect_settings().return_url(text);
            if url.is_none() {
                let message = "must lie within one of `[connect] return_urls`, which whoever runs Keystead sets";
                faults.push(FieldFault::new("return_url", message));
            }
            url
        });
        if new.embed && self.connect_settings().frame_ancestors().is_empty() {
            let message =
                "nobody may frame the page: whoever runs Keystead sets `[connect] frame_ancestors`";
            faults.push(FieldFault::new("embed", message));
        }
        check_user(ctx, new.user.as_ref(), &mut faults);
        let Some(maker) = Actor::of(ctx) else {
            return Err(decided.fail(Error::Unauthenticated).await);
        };
        if !faults.is_empty() {
            return Err(decided.fail(Error::Invalid(faults)).await);
        }
        if self.connect_settings().origin().is_none() {
            let message = "links cannot be made before whoever runs Keystead says where browsers reach it, as `[server] public_url`";
            return Err(decided
                .fail(Error::conflict("no_public_url", message))
                .await);
        }
        let acting = Acting {
            maker,
            user: new.user,
            integration: new.integration,
            embed: new.embed,
            // What rests on a token, or on a key that ends, ends with it.
            until: ctx.proof.map(|proof| proof.until),
            parent: None,
        };
        self.insert_session(decided, tenant, acting, &providers, return_url)
            .await
    }

    /// Makes a further session of the same person, for a page of its own beside a framed one: it
    /// serves one provider, or one integration, ends when the first one does, however that ends, and
    /// counts as it.
    ///
    /// # Errors
    /// `Denied`, `NotFound`.
    pub async fn create_connect_tab(
        &self,
        session: &ConnectSession,
        provider: &str,
        integration: Option<IntegrationId>,
    ) -> Result<MadeConnectSession, Error> {
        let ctx = &session.ctx;
        let tenant = self
            .tenant_of(ctx, Action::Put, TargetKind::Integration)
            .await?;
        let mut on = On::kind(TargetKind::Integration, tenant);
        on.provider = Some(provider.to_owned());
        on.integration = integration;
        let decided = self.decide_session(ctx, &[on]).await?;
        let mut acting = session.acting.clone();
        acting.embed = false;
        acting.integration = integration;
        acting.until = Some(session.expires_at);
        acting.parent = Some(acting.parent.unwrap_or(session.id));
        let providers = Filter::Only(BTreeSet::from([provider.to_owned()]));
        self.insert_session(decided, tenant, acting, &providers, None)
            .await
    }

    /// Ends a session, for every browser and at once.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn close_connect_session(&self, session: &ConnectSession) -> Result<(), Error> {
        let at = self.clock().now();
        let close = Effect::CloseConnectSession {
            tenant: session.tenant,
            session: session.id,
            at,
        };
        match self
            .note_session(
                &session.ctx,
                session.tenant,
                session.id,
                "connect session closed",
                close,
            )
            .await
        {
            // Closed already: that is what was wanted.
            Err(Error::Conflict { .. } | Error::NotFound { .. }) => Ok(()),
            done => done,
        }
    }

    /// Whether the caller may do on all of these what the page does: a service, all of it; a user,
    /// at the least see them.
    async fn decide_session(&self, ctx: &Context, things: &[On]) -> Result<Decided, Error> {
        let needed = match ctx.caller.as_deref() {
            Some(Caller::User { .. }) => &PAGE_ACTIONS[..2],
            Some(Caller::Operator { .. }) => {
                for on in things.iter().take(1) {
                    self.deny(ctx, Action::Put, on, "kind of caller").await?;
                }
                return Err(Error::Denied {
                    action: Action::Put,
                    message: "connect sessions are made by a product's service key, or by a user for themselves",
                });
            }
            _ => &PAGE_ACTIONS[..],
        };
        let mut last = None;
        for on in things {
            for action in needed {
                last = Some(self.decide(ctx, *action, on).await?);
            }
        }
        last.ok_or_else(|| Error::internal("a connect session with nothing"))
    }

    /// The providers by their ids, each known.
    fn session_providers(
        &self,
        named: Option<&[String]>,
        faults: &mut Vec<FieldFault>,
    ) -> Filter<String> {
        let Some(named) = named else {
            return Filter::Any;
        };
        if named.is_empty() || named.len() > PROVIDERS_MOST {
            let message = format!("name 1 to {PROVIDERS_MOST} providers, or leave it out for all");
            faults.push(FieldFault::new("providers", message));
        }
        let mut those = BTreeSet::new();
        for (at, name) in named.iter().take(PROVIDERS_MOST).enumerate() {
            match self.catalogue().get(name) {
                Some(provider) => {
                    those.insert(provider.id.clone());
                }
                None => {
                    let message = "is no provider here: GET /api/providers lists them";
                    faults.push(FieldFault::new(format!("providers.{at}"), message));
                    // Whether the caller may is asked of what was named.
                    those.insert(name.clone());
                }
            }
        }
        if those.is_empty() {
            return Filter::Any;
        }
        Filter::Only(those)
    }

    /// Refuses one more than may be open at once. What is closed counts until it would have ended,
    /// as its row is there until then.
    async fn room_for_session(
        &self,
        tenant: TenantId,
        acting: &Acting,
        now: Time,
    ) -> Result<(), Error> {
        let store = self.store();
        let one_person = acting.user.is_some() || matches!(acting.maker, Actor::User { .. });
        let most = if one_person { OF_PERSON } else { OF_KEY };
        let whose = begins(acting)?;
        open::room(
            store.open_connect_sessions(tenant, &whose, now).await?,
            most,
            now,
        )?;
        open::room(
            store.open_connect_sessions(tenant, "", now).await?,
            OF_TENANT,
            now,
        )
    }

    async fn insert_session(
        &self,
        decided: Decided,
        tenant: TenantId,
        acting: Acting,
        providers: &Filter<String>,
        return_url: Option<String>,
    ) -> Result<MadeConnectSession, Error> {
        let at = self.clock().now();
        if let Err(fault) = self.room_for_session(tenant, &acting, at).await {
            return Err(decided.fail(fault).await);
        }
        let id = SessionId::from_uuid(clock::new_uuid(at)?);
        let secret = Zeroizing::new(clock::random::<32>()?);
        let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(secret));
        let latest = at.plus_seconds(SESSION_SECONDS);
        let expires_at = acting.until.map_or(latest, |until| until.min(latest));
        let text = |value: serde_json::Result<String>| {
            value.map_err(|_| Error::internal("a connect session that is no JSON"))
        };
        let row = ConnectSessionRow {
            tenant,
            id,
            hash: self.link_hash(&secret),
            browser_hash: None,
            actor: text(serde_json::to_string(&acting))?,
            providers: text(serde_json::to_string(providers))?,
            return_url,
            expires_at,
            created_at: at,
            closed_at: None,
        };
        decided
            .because(format!("connect session {id}"))
            .carry_out(vec![Effect::InsertConnectSession(Box::new(row))])
            .await?;
        Ok(MadeConnectSession {
            secret,
            embed: acting.embed,
            expires_at,
        })
    }
}

/// How the rows of that person's sessions begin, however else they differ.
fn begins(acting: &Acting) -> Result<String, Error> {
    let whose = serde_json::to_string(&acting.maker).and_then(|maker| {
        serde_json::to_string(&acting.user)
            .map(|user| format!("{{\"maker\":{maker},\"user\":{user},"))
    });
    whose.map_err(|_| Error::internal("a connect session that is no JSON"))
}

/// Whether it is said, by whoever may say it, for whom a session is.
fn check_user(ctx: &Context, user: Option<&SessionUser>, faults: &mut Vec<FieldFault>) {
    let Some(user) = user else {
        return;
    };
    if !matches!(ctx.caller.as_deref(), Some(Caller::Service { .. })) {
        let message = "is for services to say: a user's own session is that user's";
        faults.push(FieldFault::new("user", message));
    }
    for (path, text) in [
        ("user.id", Some(&user.id)),
        ("user.name", user.name.as_ref()),
    ] {
        if text.is_some_and(|text| !is_name(text)) {
            let message = "must be 1 to 200 bytes without control characters";
            faults.push(FieldFault::new(path, message));
        }
    }
}

/// What a session is about, for the decision whether it may be.
fn of_providers(tenant: TenantId, providers: &Filter<String>) -> Vec<On> {
    let any = On::kind(TargetKind::Integration, tenant);
    match providers {
        Filter::Any => vec![any],
        Filter::Only(those) => those
            .iter()
            .map(|id| On {
                provider: Some(id.clone()),
                ..any.clone()
            })
            .collect(),
    }
}
