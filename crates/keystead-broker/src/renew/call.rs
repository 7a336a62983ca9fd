//! The call to a token endpoint: what is opened for it, and what its answer means.
//!
//! What always holds: it has ended before its deadline, which lies before the end of its lease; new
//! tokens are sealed before anything else is done with them; of a refusal only its code goes on.

use std::sync::atomic::Ordering;

use keystead_core::provider::Fields;
use keystead_core::provider::oauth::{
    App, ISSUED_TO, Means, OAuthError, Refusal, Tokens, read_tokens, refresh_request,
};
use keystead_core::renew::Reply;
use keystead_store::{StoreTokens, TokenSetRow};
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use super::{CLIENT_CHANGED, OWN_CLIENT_CHANGED, count, renew_at};
use crate::broker::Broker;
use crate::context::Context;
use crate::error::Error;
use crate::integrations::Loaded;
use crate::keyring::TenantKeys;
use crate::mint::token_request;
use crate::net::{FetchLimits, NetError, Waited};
use crate::permit::{Permit, Renew, tokens_place};

/// What came of a call.
pub(super) struct Came {
    pub(super) reply: Reply,
    /// Kind and code of what went wrong.
    pub(super) problem: Option<String>,
    /// The new tokens.
    pub(super) tokens: Option<Renewed>,
}

/// Tokens that are in memory alone.
pub(super) struct Renewed {
    /// As they are stored: sealed.
    pub(super) store: StoreTokens,
    /// When their last byte came.
    pub(super) came_at: Instant,
    /// The host of their API, where it is another than before.
    pub(super) host: Option<String>,
}

impl Came {
    pub(super) fn nothing(reply: Reply, code: &str) -> Came {
        let kind = match reply {
            Reply::Dead => "dead",
            Reply::Client => "client",
            Reply::Rate(_) => "rate",
            Reply::Unclear => "unclear",
            Reply::Tokens { .. } | Reply::Down | Reply::Lost | Reply::Unsent => "down",
        };
        Came {
            reply,
            problem: Some(format!("{kind}:{code}")),
            tokens: None,
        }
    }
}

/// What is opened for a call.
struct Opened {
    app: App,
    before: Fields,
}

impl Broker {
    /// Calls, under a lease with that fence.
    pub(super) async fn call_endpoint(
        &self,
        ctx: &Context,
        permit: Permit<Renew>,
        loaded: &Loaded,
        row: &TokenSetRow,
        fence: u64,
        until: Instant,
    ) -> Came {
        let Ok(keys) = timeout_at(until, self.keyring().tenant(row.tenant)).await else {
            return Came::nothing(Reply::Unsent, "key_service");
        };
        let keys = match keys {
            Ok(keys) => keys,
            Err(_) => return Came::nothing(Reply::Unsent, "key_service"),
        };
        let opened = match self.open_for_call(ctx, permit, &keys, loaded, row).await {
            Ok(opened) => opened,
            Err(came) => return came,
        };
        self.exchange(loaded, row, &keys, &opened, fence, until)
            .await
    }

    async fn open_for_call(
        &self,
        ctx: &Context,
        permit: Permit<Renew>,
        keys: &TenantKeys,
        loaded: &Loaded,
        row: &TokenSetRow,
    ) -> Result<Opened, Came> {
        let corrupt = |_: Error| Came::nothing(Reply::Client, "sealed_tokens");
        let on = loaded.on();
        let before = self.open_tokens(ctx, &permit, keys, &on, row).await;
        let before = before.map_err(corrupt)?;
        let (own, _) = self
            .open(ctx, permit, keys, loaded)
            .await
            .map_err(corrupt)?;
        let own = App::of(&own);
        let changed = match own {
            Some(_) => OWN_CLIENT_CHANGED,
            None => CLIENT_CHANGED,
        };
        let app = own.or_else(|| {
            let app = self.settings().oauth.apps.get(&loaded.provider.id)?;
            Some(App {
                client_id: app.client_id.clone(),
                client_secret: app.client_secret.clone(),
            })
        });
        let app = app.ok_or_else(|| Came::nothing(Reply::Client, "no_oauth_app"))?;
        // A provider says of another client's refresh token what it says of one that has ended.
        let issued_to = before.get(ISSUED_TO);
        if issued_to.is_some_and(|client| client != app.client_id) {
            return Err(Came::nothing(Reply::Client, changed));
        }
        Ok(Opened { app, before })
    }

    async fn exchange(
        &self,
        loaded: &Loaded,
        row: &TokenSetRow,
        keys: &TenantKeys,
        opened: &Opened,
        fence: u64,
        until: Instant,
    ) -> Came {
        let Some(refresh_token) = opened.before.get("refresh_token") else {
            return Came::nothing(Reply::Dead, "no_refresh_token");
        };
        let provider = &loaded.provider;
        let ask = refresh_request(provider, &loaded.config, &opened.app, refresh_token);
        let request = match ask.map(token_request) {
            Ok(Ok(request)) => request,
            Err(OAuthError::NoRefresh) => return Came::nothing(Reply::Dead, "no_renewal"),
            Ok(Err(_)) | Err(_) => return Came::nothing(Reply::Client, "no_request"),
        };
        let host = request.uri().authority().map(ToString::to_string);
        let client = opened.app.client_id.clone();
        let endpoint = (provider.id.clone(), client, host.unwrap_or_default());
        // From before the call: what the answer gives for a time may have run for that long.
        let now = self.store_time();
        // The last look before it goes out.
        let limits = FetchLimits {
            total: until.saturating_duration_since(Instant::now()),
            ..FetchLimits::default()
        };
        if limits.total.is_zero() {
            return Came::nothing(Reply::Unsent, "too_late");
        }
        let admitted = match self.renewals().endpoints.admit(endpoint) {
            Ok(admitted) => admitted,
            Err(reply) => return Came::nothing(reply, "endpoint_paused"),
        };
        count(&self.renewals().counters.calls);
        let answer = match self.client().fetch(request, limits).await {
            Ok(answer) => answer,
            Err(fault) => {
                let came = unanswered(&fault);
                admitted.settle(came.reply);
                return came;
            }
        };
        let came_at = Instant::now();
        let issued = |tokens: Tokens| tokens.issued_to(&opened.app.client_id);
        let read = read_tokens(
            provider,
            &loaded.config,
            answer.status().as_u16(),
            answer.headers(),
            answer.body(),
            now,
            Some(&opened.before),
        );
        let came = match read {
            Ok(tokens) => {
                if !tokens.odd.is_empty() {
                    let (integration, odd) = (row.integration, tokens.odd.join(" "));
                    tracing::warn!(%integration, provider = provider.id, odd, "renewed tokens came with what cannot be, and were kept without that: an odd expires_in has them renewed soon");
                }
                let host = tokens.fields.get("host");
                let moved = host.filter(|host| opened.before.get("host") != Some(host));
                let host = moved.map(str::to_owned);
                match self.seal_renewed(row, keys, issued(tokens), fence, now) {
                    Ok(store) => Came {
                        reply: Reply::Tokens {
                            expires_at: store.expires_at,
                            renew_at: store.renew_at,
                        },
                        problem: None,
                        tokens: Some(Renewed {
                            store,
                            came_at,
                            host,
                        }),
                    },
                    Err(_) => Came::nothing(Reply::Lost, "not_sealed"),
                }
            }
            Err(refusal) => refused(&refusal),
        };
        admitted.settle(came.reply);
        came
    }

    fn seal_renewed(
        &self,
        row: &TokenSetRow,
        keys: &TenantKeys,
        tokens: Tokens,
        fence: u64,
        now: keystead_core::time::Time,
    ) -> Result<StoreTokens, Error> {
        let token_version = row.token_version + 1;
        let place = tokens_place(row.tenant, row.integration, token_version);
        let message = Zeroizing::new(tokens.fields.to_message());
        let (key_id, sealed) = keys.seal(&place, &message)?;
        let can_renew = tokens.fields.get("refresh_token").is_some();
        Ok(StoreTokens {
            tenant: row.tenant,
            integration: row.integration,
            token_version,
            fence,
            key_id,
            sealed,
            expires_at: tokens.expires_at,
            refresh_expires_at: tokens.refresh_expires_at.or(row.refresh_expires_at),
            renew_at: renew_at(now, tokens.expires_at, can_renew)?,
            restore_status: row.failures > 0,
            at: now,
        })
    }

    /// Notes for how long tokens were in memory alone.
    pub(super) fn note_exposed(&self, since: Instant) {
        let micros = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        let counters = &self.renewals().counters;
        counters.exposed_micros.fetch_add(micros, Ordering::Relaxed);
        counters
            .exposed_most_micros
            .fetch_max(micros, Ordering::Relaxed);
    }
}

/// Whether a call that failed can have been carried out.
fn unanswered(fault: &NetError) -> Came {
    match fault {
        NetError::Timeout(Waited::Connect) => Came::nothing(Reply::Unsent, "connect_timeout"),
        NetError::Address(_) | NetError::Connect(_) | NetError::Resolve | NetError::Tls(_) => {
            Came::nothing(Reply::Unsent, "unreachable")
        }
        NetError::Malformed | NetError::Method(_) | NetError::Path(_) => {
            Came::nothing(Reply::Client, "no_request")
        }
        NetError::ResponseTooLarge => Came::nothing(Reply::Unclear, "reply_too_large"),
        NetError::Timeout(_) => Came::nothing(Reply::Lost, "timeout"),
        NetError::Caller | NetError::Closed | NetError::Cut | NetError::RequestTooLarge => {
            Came::nothing(Reply::Lost, "connection_closed")
        }
    }
}

fn refused(refusal: &Refusal) -> Came {
    let reply = match refusal.means {
        Means::Dead => Reply::Dead,
        Means::Client => Reply::Client,
        Means::Rate | Means::SlowDown => Reply::Rate(refusal.retry_after),
        // It knows how long it will be away.
        Means::Down if refusal.retry_after.is_some() => Reply::Rate(refusal.retry_after),
        Means::Down => Reply::Down,
        Means::Unclear | Means::Pending => Reply::Unclear,
    };
    Came::nothing(reply, &refusal.code)
}
