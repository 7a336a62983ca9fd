//! A session's life: found by its link, claimed by a browser, opened by that browser's secret.
//!
//! What always holds: what a session rests on is looked at each time it is opened; a secret that
//! opens none looks like every other failure to prove anybody, is on record and counts against
//! its address.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keystead_core::action::{Action, Outcome, Role, TargetKind};
use keystead_core::caller::{Caller, Filter, Scope};
use keystead_core::ids::{IntegrationId, RequestId, SessionId, TenantId};
use keystead_core::time::Time;
use keystead_store::{ConnectSessionRow, Effect};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{PAGE_ACTIONS, SessionUser};
use crate::actor::Actor;
use crate::broker::Broker;
use crate::clock;
use crate::context::{Basis, Context, Proof};
use crate::error::Error;
use crate::limits::Subject;
use crate::permit::On;

/// Whose a session is: a column's JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Acting {
    /// Who made it: it may never do more, and ends with them.
    pub(super) maker: Actor,
    /// For whom a service made it.
    pub(super) user: Option<SessionUser>,
    pub(super) integration: Option<IntegrationId>,
    pub(super) embed: bool,
    pub(super) until: Option<Time>,
    /// The session that this is a tab of: it goes on while that one does, and counts as it.
    #[serde(default)]
    pub(super) parent: Option<SessionId>,
}

impl Acting {
    /// As the page calls the person.
    fn name(&self) -> Option<String> {
        match (&self.maker, &self.user) {
            (Actor::User { subject, .. }, _) => Some(subject.clone()),
            (_, Some(user)) => Some(user.name.as_ref().unwrap_or(&user.id).clone()),
            (_, None) => None,
        }
    }
}

/// A session that goes on.
struct Standing {
    row: ConnectSessionRow,
    acting: Acting,
    caller: Caller,
    tenant_name: String,
}

/// What a link leads to, before it is claimed.
#[derive(Clone, Debug)]
pub struct ConnectLink {
    /// For whom, as the page calls them.
    pub user: Option<String>,
    /// The tenant, as people call it.
    pub tenant_name: String,
    /// Whether a browser has it already.
    pub claimed: bool,
    /// Whether its page is shown in a frame.
    pub embed: bool,
    /// When it ends, at the latest.
    pub expires_at: Time,
}

/// What the browser that claimed a session holds from then on.
pub struct Claimed {
    secret: Zeroizing<String>,
    /// In how many seconds the session ends, at the latest.
    pub seconds: u64,
}

impl Claimed {
    /// The browser's secret, for its cookie alone.
    pub fn secret(&self) -> &str {
        &self.secret
    }
}

/// An open session: who acts, and what the page may offer.
#[derive(Clone)]
pub struct ConnectSession {
    /// The request, as every use case takes it.
    pub ctx: Context,
    /// The session.
    pub id: SessionId,
    /// The tenant acted in.
    pub tenant: TenantId,
    /// The tenant, as people call it.
    pub tenant_name: String,
    /// For whom, as the page calls them.
    pub user: Option<String>,
    /// The role that it acts with.
    pub role: Role,
    /// The providers it is for.
    pub providers: Filter<String>,
    /// The only integration it is for, where it is for one.
    pub integration: Option<IntegrationId>,
    /// Where the page leads back to.
    pub return_url: Option<String>,
    /// Whether the page is shown in a frame.
    pub embed: bool,
    /// What a form of this session's pages carries.
    pub csrf: String,
    /// When it ends, at the latest.
    pub expires_at: Time,
    /// In how many seconds that is.
    pub seconds_left: u64,
    pub(super) acting: Acting,
}

const WHAT: &str = "connect session";

fn gone() -> Error {
    Error::NotFound { what: WHAT }
}

impl Broker {
    /// What a link leads to. Looking changes nothing, so that previews and scanners may.
    ///
    /// # Errors
    /// `NotFound` for one that is unknown, over or closed, all alike; `Limited`.
    pub async fn find_connect_link(
        &self,
        request: RequestId,
        address: Option<IpAddr>,
        secret: &str,
    ) -> Result<ConnectLink, Error> {
        let found = self.linked(request, address, secret).await?;
        Ok(ConnectLink {
            user: found.acting.name(),
            tenant_name: found.tenant_name,
            claimed: found.row.browser_hash.is_some(),
            embed: found.acting.embed,
            expires_at: found.row.expires_at,
        })
    }

    /// Gives the session to the browser that asks, if it is the first.
    ///
    /// # Errors
    /// As `find_connect_link`; `Conflict` where another was first.
    pub async fn claim_connect_session(
        &self,
        request: RequestId,
        address: Option<IpAddr>,
        secret: &str,
    ) -> Result<Claimed, Error> {
        let found = self.linked(request, address, secret).await?;
        let ctx = self.session_context(&found, request, address);
        let row = found.row;
        let own = Zeroizing::new(clock::random::<32>()?);
        let own = Zeroizing::new(URL_SAFE_NO_PAD.encode(own));
        let claim = Effect::ClaimConnectSession {
            tenant: row.tenant,
            session: row.id,
            browser_hash: self.browser_hash(&own),
        };
        let taken = || {
            let message = "this link was opened in another browser before: ask for a new one";
            Error::conflict("link_claimed", message)
        };
        if row.browser_hash.is_some() {
            let on = On::kind(TargetKind::Integration, row.tenant).named(row.id);
            // Whoever has the link can press as often as they like.
            return Err(self
                .unproven(&ctx, &on, "link claimed before".into(), taken())
                .await);
        }
        match self
            .note_session(&ctx, row.tenant, row.id, "connect session opened", claim)
            .await
        {
            Ok(()) => Ok(Claimed {
                secret: Zeroizing::new(format!("{}.{}.{}", row.tenant, row.id, own.as_str())),
                seconds: self.seconds_left(row.expires_at),
            }),
            Err(Error::Conflict { .. }) => Err(taken()),
            Err(fault) => Err(fault),
        }
    }

    /// The session that a browser's secret opens.
    ///
    /// # Errors
    /// `NotFound` for none, whatever the reason; `Limited`; `Unavailable`.
    pub async fn open_connect_session(
        &self,
        request: RequestId,
        address: Option<IpAddr>,
        secret: &str,
    ) -> Result<ConnectSession, Error> {
        let anonymous = Context::anonymous(request, address);
        let mut parts = secret.splitn(3, '.');
        let (tenant, id) = (
            parts.next().and_then(|text| text.parse::<TenantId>().ok()),
            parts.next().and_then(|text| text.parse::<SessionId>().ok()),
        );
        let (Some(tenant), Some(id), Some(own)) = (tenant, id, parts.next()) else {
            return Err(self.no_session(&anonymous, "unknown connect session").await);
        };
        let row = self.store().find_connect_session(tenant, id).await?;
        let row = row.filter(|row| row.browser_hash == Some(self.browser_hash(own)));
        let Some(row) = row else {
            return Err(self.no_session(&anonymous, "unknown connect session").await);
        };
        let found = self.standing(row, &anonymous).await?;
        let ctx = self.session_context(&found, request, address);
        self.admit_caller(&ctx).await?;
        let Standing {
            row,
            acting,
            caller,
            tenant_name,
        } = found;
        let csrf = Zeroizing::new(format!("connect csrf|{own}"));
        let csrf = self.keyring().lookup_hash(csrf.as_bytes());
        Ok(ConnectSession {
            ctx,
            id: row.id,
            tenant: row.tenant,
            tenant_name,
            user: acting.name(),
            role: match caller {
                Caller::User { role, .. } => role,
                _ => Role::Viewer,
            },
            providers: read_json(&row, &row.providers)?,
            integration: acting.integration,
            embed: acting.embed,
            csrf: URL_SAFE_NO_PAD.encode(csrf),
            expires_at: row.expires_at,
            seconds_left: self.seconds_left(row.expires_at),
            return_url: row.return_url,
            acting,
        })
    }

    /// A request in a session, of a browser that does not hold its secret: what a consent that
    /// began there ends in. Also says whether its page is shown in a frame.
    ///
    /// # Errors
    /// As `open_connect_session`.
    pub(crate) async fn session_again(
        &self,
        tenant: TenantId,
        id: SessionId,
        request: RequestId,
        address: Option<IpAddr>,
    ) -> Result<(Context, bool), Error> {
        let anonymous = Context::anonymous(request, address);
        let Some(row) = self.store().find_connect_session(tenant, id).await? else {
            return Err(self.no_session(&anonymous, "unknown connect session").await);
        };
        let found = self.standing(row, &anonymous).await?;
        let ctx = self.session_context(&found, request, address);
        Ok((ctx, found.acting.embed))
    }

    /// The session of a link.
    async fn linked(
        &self,
        request: RequestId,
        address: Option<IpAddr>,
        secret: &str,
    ) -> Result<Standing, Error> {
        let anonymous = Context::anonymous(request, address);
        let hash = self.link_hash(secret);
        match self.store().find_connect_session_by_hash(hash).await? {
            Some(row) => self.standing(row, &anonymous).await,
            None => Err(self.no_session(&anonymous, "unknown connect link").await),
        }
    }

    /// The session, if it goes on, and as whom it acts by now.
    async fn standing(
        &self,
        row: ConnectSessionRow,
        anonymous: &Context,
    ) -> Result<Standing, Error> {
        if row.closed_at.is_some() {
            return Err(self.no_session(anonymous, "closed connect session").await);
        }
        if row.expires_at <= self.clock().now() {
            return Err(self.no_session(anonymous, "expired connect session").await);
        }
        let why = "connect session whose maker was taken back";
        let acting: Acting = read_json(&row, &row.actor)?;
        if let Some(parent) = acting.parent {
            let parent = self
                .store()
                .find_connect_session(row.tenant, parent)
                .await?;
            if parent.is_none_or(|parent| parent.closed_at.is_some()) {
                return Err(self
                    .no_session(anonymous, "tab of a closed connect session")
                    .await);
            }
        }
        let (request, address) = (anonymous.request, anonymous.address);
        let maker = match self
            .act_again(&acting.maker, row.tenant, request, address)
            .await
        {
            Ok(maker) => maker,
            Err(Error::Unauthenticated) => return Err(self.no_session(anonymous, why).await),
            Err(fault) => return Err(fault),
        };
        let caller = match maker.caller.as_deref() {
            Some(user @ Caller::User { .. }) => Some(user.clone()),
            // Who vouches for the user stands where an issuer's name would.
            Some(Caller::Service { key, .. }) => Some(Caller::User {
                issuer: key.to_string(),
                subject: match &acting.user {
                    Some(user) => user.id.clone(),
                    None => row.id.to_string(),
                },
                tenant: row.tenant,
                role: Role::Admin,
            }),
            _ => None,
        };
        let tenant = self.store().find_tenant(row.tenant).await?;
        let tenant = tenant.filter(|tenant| tenant.is_active());
        let (Some(caller), Some(tenant)) = (caller, tenant) else {
            return Err(self.no_session(anonymous, why).await);
        };
        Ok(Standing {
            row,
            acting,
            caller,
            tenant_name: tenant.name,
        })
    }

    async fn no_session(&self, anonymous: &Context, why: &'static str) -> Error {
        let on = On::kind(TargetKind::Request, TenantId::PLATFORM);
        self.unproven(anonymous, &on, why.into(), gone()).await
    }

    fn session_context(
        &self,
        found: &Standing,
        request: RequestId,
        address: Option<IpAddr>,
    ) -> Context {
        let (row, acting) = (&found.row, &found.acting);
        let integrations = match acting.integration {
            Some(id) => Filter::Only([id].into()),
            None => Filter::Any,
        };
        // What does not read covers nothing.
        let providers =
            serde_json::from_str(&row.providers).unwrap_or_else(|_| Filter::Only([].into()));
        let within = Scope {
            actions: PAGE_ACTIONS.into(),
            providers,
            integrations,
        };
        Context {
            caller: Some(Arc::new(found.caller.clone())),
            tenant: Some(row.tenant),
            within: Some(Arc::new(within)),
            subject: Some(Subject(b's', *acting.parent.unwrap_or(row.id).bytes())),
            proof: Some(Proof {
                epoch: self.epochs().of_callers(),
                basis: Basis::Stated,
                until: row.expires_at,
            }),
            ..Context::anonymous(request, address)
        }
    }

    fn seconds_left(&self, until: Time) -> u64 {
        let left = until.seconds() - self.clock().now().seconds();
        u64::try_from(left).unwrap_or(0)
    }

    /// Records a step of a session's life, with what it changes.
    pub(super) async fn note_session(
        &self,
        ctx: &Context,
        tenant: TenantId,
        id: SessionId,
        what: &'static str,
        effect: Effect,
    ) -> Result<(), Error> {
        let on = On::kind(TargetKind::Integration, tenant).named(id);
        let mut entry = self.entry(ctx, Action::Info, &on, Outcome::Allowed);
        entry.reason = Some(what.into());
        self.append(entry, vec![effect]).await
    }

    pub(super) fn link_hash(&self, secret: &str) -> [u8; 32] {
        let text = Zeroizing::new(format!("connect link|{secret}"));
        self.keyring().lookup_hash(text.as_bytes())
    }

    /// What the form behind a link carries, for the browser that was shown it and no other.
    pub fn connect_start_token(&self, link: &str, browser: &str) -> String {
        let text = Zeroizing::new(format!("connect start|{browser}|{link}"));
        URL_SAFE_NO_PAD.encode(self.keyring().lookup_hash(text.as_bytes()))
    }

    fn browser_hash(&self, secret: &str) -> [u8; 32] {
        let text = Zeroizing::new(format!("connect browser|{secret}"));
        self.keyring().lookup_hash(text.as_bytes())
    }
}

fn read_json<T: serde::de::DeserializeOwned>(
    row: &ConnectSessionRow,
    text: &str,
) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|_| Error::Corrupt {
        record: row.id.to_string(),
    })
}
