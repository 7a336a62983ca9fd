//! The way out: a one-time state, and the address at the provider.
//!
//! What always holds: the redirect URI is this installation's own or one that is configured, to
//! the letter; the state is random, kept as a keyed hash, and good for ten minutes; PKCE by S256
//! wherever the provider takes it, with a verifier that is kept sealed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keystead_core::ids::{AuthorizationId, TenantId};
use keystead_core::provider::oauth::{self, Ask};
use keystead_core::seal::{Kind, Place};
use keystead_store::{AuthorizationRow, Effect};
use zeroize::Zeroizing;

use super::app::Target;
use super::model::{Begin, Started, Way};
use crate::actor::Actor;
use crate::broker::Broker;
use crate::clock;
use crate::context::Context;
use crate::error::Error;
use crate::open::{self, OF_KEY, OF_PERSON, OF_TENANT};

/// So long a state may be brought back.
const STATE_SECONDS: i64 = 600;
/// Whoever brings it is the caller that began.
pub(super) const BOUND_TO_CALLER: &str = "caller";

/// Where the verifier, or the device code, stands in the seal.
pub(super) fn place(tenant: TenantId, id: AuthorizationId) -> Place {
    Place {
        tenant: *tenant.bytes(),
        kind: Kind::Authorization,
        record: *id.bytes(),
        field: 0,
        version: 1,
    }
}

impl Broker {
    /// Where that provider sends browsers back to, where it is known.
    pub fn oauth_callback(&self, provider: &str) -> Option<String> {
        let known = self.catalogue().get(provider);
        let id = known.map_or(provider, |provider| &provider.id);
        self.settings().oauth.callback(id)
    }

    /// Whether browsers reach this installation over TLS.
    pub fn is_https(&self) -> bool {
        self.settings().oauth.is_https()
    }

    /// Begins to connect an account: gives the address at the provider where its owner consents.
    ///
    /// # Errors
    /// `Conflict` where there is no app, no OAuth, or no address to come back to; `Invalid`.
    pub async fn begin_authorization(
        &self,
        ctx: &Context,
        begin: Begin,
        way: Way,
    ) -> Result<Started, Error> {
        let (decided, target) = self.oauth_target(ctx, &begin).await?;
        if let Err(fault) = self.room_for_consent(ctx, target.on.tenant).await {
            return Err(decided.fail(fault).await);
        }
        let redirect_uri = match self.redirect_uri(&way, &target.provider.id) {
            Ok(uri) => uri,
            Err(fault) => return Err(decided.fail(fault).await),
        };
        let (decided, opened) = self.oauth_opened(ctx, decided, &target).await?;
        let own = opened.as_ref().map(|(fields, _)| fields);
        let state = Zeroizing::new(URL_SAFE_NO_PAD.encode(clock::random::<32>()?));
        let made = self.address(&target, own, &redirect_uri, &state);
        let (url, verifier) = match made {
            Ok(made) => made,
            Err(fault) => return Err(decided.fail(fault).await),
        };
        let bound_to = match &way {
            Way::Browser(cookie) => self.bound_to_browser(cookie),
            Way::Caller(_) => BOUND_TO_CALLER.to_owned(),
        };
        let kept = Kept {
            state_hash: self.keyring().lookup_hash(state.as_bytes()),
            bound_to,
            redirect_uri,
            secret: verifier,
            seconds: STATE_SECONDS,
        };
        let row = match self.authorization(ctx, &begin, &target, kept).await {
            Ok(row) => row,
            Err(fault) => return Err(decided.fail(fault).await),
        };
        let expires_at = row.expires_at;
        decided
            .because("authorisation begun")
            .carry_out(vec![Effect::InsertAuthorization(Box::new(row))])
            .await?;
        Ok(Started {
            url,
            state: state.to_string(),
            expires_at,
        })
    }

    /// How a browser is named in rows: by a keyed hash of its cookie.
    pub(super) fn bound_to_browser(&self, cookie: &str) -> String {
        let hash = self.keyring().lookup_hash(cookie.as_bytes());
        format!("browser:{}", URL_SAFE_NO_PAD.encode(hash))
    }

    fn redirect_uri(&self, way: &Way, provider: &str) -> Result<String, Error> {
        let settings = &self.settings().oauth;
        match way {
            Way::Browser(_) => settings.callback(provider).ok_or_else(|| {
                Error::conflict(
                    "no_public_url",
                    "it is not known where browsers reach this installation: whoever runs Keystead sets [server] public_url",
                )
            }),
            Way::Caller(uri) if settings.redirect_uris.contains(uri) => Ok(uri.clone()),
            Way::Caller(_) => Err(Error::field(
                "redirect_uri",
                "is not one that is configured: whoever runs Keystead adds it to [connect] redirect_uris, in full; without one, browsers come back to Keystead itself",
            )),
        }
    }

    /// The address at the provider, and the verifier whose challenge it holds.
    fn address(
        &self,
        target: &Target,
        own: Option<&keystead_core::provider::Fields>,
        redirect_uri: &str,
        state: &str,
    ) -> Result<(String, Option<Zeroizing<String>>), Error> {
        let oauth = target.oauth()?;
        let app = self.oauth_app(target, own)?;
        let pkce = if oauth.pkce {
            Some(oauth::pkce(clock::random()?))
        } else {
            None
        };
        let ask = Ask {
            redirect_uri,
            state,
            challenge: pkce.as_ref().map(|(_, challenge)| challenge.as_str()),
        };
        let url = oauth::authorize_url(&target.provider, target.config()?, &app, &ask)
            .map_err(unusable)?;
        Ok((url, pkce.map(|(verifier, _)| verifier)))
    }

    /// Refuses one more consent under way than there may be at once.
    pub(super) async fn room_for_consent(
        &self,
        ctx: &Context,
        tenant: TenantId,
    ) -> Result<(), Error> {
        let actor = Actor::of(ctx).ok_or(Error::Unauthenticated)?;
        let most = match actor {
            Actor::User { .. } => OF_PERSON,
            Actor::Service { .. } | Actor::Operator { .. } => OF_KEY,
        };
        let (store, now, caller) = (self.store(), self.clock().now(), actor.to_text());
        let own = store.open_authorizations(tenant, Some(&caller), now);
        open::room(own.await?, most, now)?;
        let all = store.open_authorizations(tenant, None, now);
        open::room(all.await?, OF_TENANT, now)
    }

    /// The row of a consent that is under way.
    pub(super) async fn authorization(
        &self,
        ctx: &Context,
        begin: &Begin,
        target: &Target,
        kept: Kept,
    ) -> Result<AuthorizationRow, Error> {
        let tenant = target.on.tenant;
        let actor = Actor::of(ctx).ok_or(Error::Unauthenticated)?;
        let now = self.clock().now();
        let id = AuthorizationId::from_uuid(clock::new_uuid(now)?);
        let keys = self.keyring().tenant(tenant).await?;
        let secret = kept.secret.as_ref().map_or("", |secret| secret.as_str());
        let (key_id, sealed) = keys.seal(&place(tenant, id), secret.as_bytes())?;
        Ok(AuthorizationRow {
            tenant,
            id,
            state_hash: kept.state_hash,
            bound_to: kept.bound_to,
            caller: actor.to_text(),
            provider: target.provider.id.clone(),
            integration: begin.integration,
            name: begin.name.clone(),
            config: target.settings.to_string(),
            redirect_uri: kept.redirect_uri,
            session: begin.session,
            key_id,
            sealed,
            expires_at: now.plus_seconds(kept.seconds),
            created_at: now,
        })
    }
}

/// What a row keeps of how a consent began.
pub(super) struct Kept {
    pub(super) state_hash: [u8; 32],
    pub(super) bound_to: String,
    pub(super) redirect_uri: String,
    /// The verifier, or the device code.
    pub(super) secret: Option<Zeroizing<String>>,
    pub(super) seconds: i64,
}

/// The provider's endpoint cannot be named with these settings.
pub(super) fn unusable(fault: oauth::OAuthError) -> Error {
    Error::conflict(
        "oauth_unusable",
        format!("{fault}: check the integration's settings"),
    )
}
