//! Tokens that are made from a credential (a service account's, a service principal's).
//!
//! What always holds: a made token is kept sealed under the tenant's key, like every secret; it is
//! used for the scope and under the settings that it was made for, and dropped a minute before it
//! ends; requests that need one at once make one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{Method, Request};
use keystead_core::provider::{
    Config, Fields, MintedToken, ProviderRequest, ResultClass, TokenRequest, mint_request,
    read_token_response,
};
use keystead_core::seal::{Kind, Place};
use keystead_core::time::Time;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::ask::request;
use crate::broker::Broker;
use crate::error::Error;
use crate::integrations::Loaded;
use crate::keyring::TenantKeys;
use crate::net::FetchLimits;

/// The made token of one credential version: who needs one waits here for whoever makes it.
#[derive(Default)]
pub(crate) struct Minted {
    attempts: AtomicU64,
    last: Mutex<Last>,
}

/// What the last attempt came to.
#[derive(Default)]
enum Last {
    #[default]
    None,
    Token(Kept),
    Refused(ResultClass, String),
    Fault(String),
}

/// A made token, sealed.
struct Kept {
    sealed: Vec<u8>,
    until: Time,
    scope: String,
    /// The settings may say whose token it is: a shop, an organization, a user to act for.
    config: Config,
}

/// What making a token came to.
pub(crate) enum Made {
    /// A token.
    Token(MintedToken),
    /// The provider refuses the credential, or cannot say.
    Refused { class: ResultClass, message: String },
}

const SPARE_SECONDS: i64 = 60;

fn place(loaded: &Loaded) -> Place {
    Place {
        tenant: *loaded.row.tenant.bytes(),
        kind: Kind::MintedToken,
        record: *loaded.row.id.bytes(),
        field: 0,
        version: loaded.row.credential_version,
    }
}

impl Broker {
    /// A token for the host: the kept one, or a new one.
    pub(crate) async fn token(
        &self,
        loaded: &Loaded,
        keys: &TenantKeys,
        fields: &Fields,
        host: &str,
    ) -> Result<Made, Error> {
        let unusable = |reason: &'static str| Error::Credential {
            reason: reason.into(),
        };
        let scope = loaded
            .provider
            .token_scope(fields, &loaded.config, host)
            .ok_or_else(|| {
                unusable(
                    "no token is made for that host with these settings; check the integration's \
                     settings",
                )
            })?;
        let key = (
            loaded.row.tenant,
            loaded.row.id,
            loaded.row.credential_version,
        );
        let minted = match self.minted().get(&key) {
            Some(minted) => minted,
            None => self
                .minted()
                .get_or_insert_with(&key, || Ok::<_, Error>(Arc::default()))?,
        };
        let seen = minted.attempts.load(Ordering::Acquire);
        let mut last = minted.last.lock().await;
        let now = self.clock().now();
        if let Last::Token(kept) = &*last
            && kept.until > now
            && kept.scope == scope
            && kept.config == loaded.config
        {
            let opened = keys.open(&place(loaded), &kept.sealed);
            if let Some(token) =
                opened.and_then(|opened| MintedToken::from_message(opened.expose()))
            {
                return Ok(Made::Token(token));
            }
        }
        // Whoever waited while another asked and failed takes that answer, and does not ask again.
        if minted.attempts.load(Ordering::Acquire) != seen {
            match &*last {
                Last::Refused(class, message) => {
                    let (class, message) = (*class, message.clone());
                    return Ok(Made::Refused { class, message });
                }
                Last::Fault(reason) => {
                    return Err(Error::Upstream {
                        reason: reason.clone().into(),
                    });
                }
                Last::None | Last::Token(_) => {}
            }
        }
        let made = self.make_token(loaded, fields, host, now).await;
        *last = match &made {
            Ok(Made::Token(token)) => {
                let message = Zeroizing::new(token.to_message());
                let (_, sealed) = keys.seal(&place(loaded), &message)?;
                let until = token.expires_at.plus_seconds(-SPARE_SECONDS);
                Last::Token(Kept {
                    sealed,
                    until,
                    scope,
                    config: loaded.config.clone(),
                })
            }
            Ok(Made::Refused { class, message }) => Last::Refused(*class, message.clone()),
            Err(Error::Upstream { reason }) => Last::Fault(reason.to_string()),
            Err(fault) => Last::Fault(fault.to_string()),
        };
        minted.attempts.fetch_add(1, Ordering::Release);
        made
    }

    /// Asks the provider's token endpoint.
    pub(crate) async fn make_token(
        &self,
        loaded: &Loaded,
        fields: &Fields,
        host: &str,
        now: Time,
    ) -> Result<Made, Error> {
        let ask =
            mint_request(&loaded.provider, fields, &loaded.config, host, now).map_err(|fault| {
                Error::Credential {
                    reason: fault.to_string().into(),
                }
            })?;
        let test = fields
            .mode(&loaded.provider)
            .and_then(|mode| loaded.provider.test_of(mode))
            .ok_or_else(|| Error::internal("a provider that makes tokens has no test"))?;
        let answer = self
            .client()
            .fetch(token_request(ask)?, FetchLimits::default())
            .await?;
        // The answer holds a token, and is wiped with its buffer.
        let status = answer.status().as_u16();
        Ok(
            match read_token_response(test, status, answer.body(), self.clock().now()) {
                Ok(token) => Made::Token(token),
                Err((class, message)) => Made::Refused {
                    class,
                    message: message.to_owned(),
                },
            },
        )
    }
}

pub(crate) fn token_request(ask: TokenRequest) -> Result<Request<Bytes>, Error> {
    let TokenRequest {
        destination,
        path,
        headers,
        body,
    } = ask;
    request(&mut ProviderRequest {
        destination,
        method: Method::POST,
        path,
        headers,
        body,
    })
}
