//! Tokens that are fresh when they are used.
//!
//! ```text
//! use ─ fresh? ─ open
//!         └ no ─ one flight for each grant on this node ─ run (core::renew) ─ rows, endpoint
//! ```
//!
//! What always holds: whoever needs a token waits for the flight, and carries none of its work; a
//! flight goes on when all who wait have gone; on this node at most one is under way for a grant, and
//! over all nodes the lease in its row sees to that.

mod call;
mod endpoints;
mod run;
mod time;

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keystead_core::ids::{IntegrationId, TenantId};
use keystead_core::provider::oauth::{ISSUED_TO, RefreshClass, Tokens};
use keystead_core::provider::{Fields, Provider};
use keystead_core::renew::{Row, Want, ahead_of};
use keystead_core::time::Time;
use keystead_store::{Effect, TokenSetRow, TokenState};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use crate::broker::Broker;
use crate::clock;
use crate::context::Context;
use crate::error::Error;
use crate::integrations::Loaded;
use crate::keyring::TenantKeys;
use crate::permit::{Opening, Permit, tokens_place};
use endpoints::Endpoints;
pub(crate) use time::StoreClock;

/// How tokens are renewed.
#[derive(Clone, Copy, Debug)]
pub struct RenewSettings {
    /// How long a caller waits for a renewal: a lease of a node that died, and a call.
    pub patience: Duration,
    /// Whether this node takes part in what is done ahead of need.
    pub upkeep: bool,
    /// Renewals ahead of need that are under way at once, over the whole installation.
    pub at_once: usize,
}

impl Default for RenewSettings {
    fn default() -> Self {
        RenewSettings {
            patience: Duration::from_secs(45),
            upkeep: true,
            at_once: 32,
        }
    }
}

/// A token set's place.
pub(crate) type Grant = (TenantId, IntegrationId);

/// How a flight ended.
#[derive(Clone)]
pub(crate) enum Ended {
    Live(Arc<TokenSetRow>),
    Reauthorize,
    /// It failed; with the code, and when it is tried again.
    Failing(Option<String>, Option<Time>),
    Busy,
    /// There is nothing to renew any more: it was deleted, disabled or given another credential.
    Gone,
    Unavailable,
}

type Flight = watch::Receiver<Option<Ended>>;

/// Numbers of renewals since the start, by outcome.
#[derive(Default)]
pub struct RenewalCounters {
    /// New tokens were stored.
    pub renewed: AtomicU64,
    /// The provider has ended the grant.
    pub reauthorize: AtomicU64,
    /// The provider refuses the client.
    pub client: AtomicU64,
    /// The provider asked to wait.
    pub rate: AtomicU64,
    /// The provider was away, or its answer was lost.
    pub down: AtomicU64,
    /// The provider's answer was not understood.
    pub unclear: AtomicU64,
    /// New tokens could not be stored: another had taken over.
    pub overtaken: AtomicU64,
    /// Calls to token endpoints.
    pub calls: AtomicU64,
    /// For how long tokens were in memory alone, from the last byte of the reply to the commit; summed
    /// up, in microseconds.
    pub exposed_micros: AtomicU64,
    /// The longest of these times.
    pub exposed_most_micros: AtomicU64,
}

/// What is under way on this node.
#[derive(Default)]
pub(crate) struct Renewals {
    flights: Mutex<HashMap<Grant, Flight>>,
    endpoints: Endpoints,
    /// Whether it was looked what was refused for the app, since the start.
    looked: AtomicBool,
    pub(crate) counters: RenewalCounters,
}

impl Renewals {
    fn flights(&self) -> MutexGuard<'_, HashMap<Grant, Flight>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody asked this before.
    pub(crate) fn is_first_look(&self) -> bool {
        !self.looked.swap(true, Ordering::Relaxed)
    }

    /// Has it asked once more.
    pub(crate) fn look_again(&self) {
        self.looked.store(false, Ordering::Relaxed);
    }

    /// Whether one is under way.
    pub(crate) fn flies(&self, grant: &Grant) -> bool {
        self.flights().contains_key(grant)
    }

    /// How many are.
    fn under_way(&self) -> usize {
        self.flights().len()
    }
}

/// Ends a flight's place, however the flight ends.
struct Place<'b>(&'b Broker, Grant);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.renewals().flights().remove(&self.1);
    }
}

/// What a credential is used by: its own parts, or tokens that were granted.
pub(crate) struct Live {
    pub(crate) fields: Fields,
    /// Whether it was given as one text.
    pub(crate) as_text: bool,
    /// The tokens' version, and their end where it is known.
    pub(crate) tokens: Option<(u64, Option<Time>)>,
    /// Whether there is something to renew them with.
    pub(crate) renewable: bool,
}

impl Live {
    /// The version of tokens that can be renewed, and of which nobody knows how long they last.
    pub(crate) fn of_unknown_end(&self) -> Option<u64> {
        match self.tokens {
            Some((version, None)) if self.renewable => Some(version),
            _ => None,
        }
    }
}

/// Tokens that are refused are renewed at most so often: a refusal has other reasons too.
const BETWEEN_REFUSALS_SECONDS: i64 = 60;
/// Tokens of one client are not renewed as another: in the settings there is another one now, or the
/// integration brings another one along.
const CLIENT_CHANGED: &str = "client_id_changed";
const OWN_CLIENT_CHANGED: &str = "own_client_id_changed";
/// What is written to the log of whoever runs this, and told to whoever waits.
const AUTHORISE_AGAIN: &str = "the provider no longer honours this connection: authorise it again";
/// The kind of a problem that was found when a call had been begun whose end nobody wrote down.
const IN_DOUBT: &str = "in_doubt";
/// A pause that nobody sits out.
const LONG_SECONDS: u64 = 1800;
/// Flights that a caller waits for, one after the other, at most.
const FLIGHTS_MOST: usize = 4;

/// A row as renewal goes by it.
pub(crate) fn seen(row: &TokenSetRow) -> Row {
    Row {
        token_version: row.token_version,
        fence: row.fence,
        dead: row.state == TokenState::Reauthorize,
        expires_at: row.expires_at,
        renew_at: row.renew_at,
        holder: row.holder.as_deref().and_then(run::read_holder),
        lease_until: row.lease_until,
        intent: row.intent,
        failures: row.failures,
        failing_since: row.failing_since,
    }
}

/// Whether the provider may have given newer tokens than these.
pub(crate) fn is_in_doubt(row: &TokenSetRow) -> bool {
    let kind = row.problem.as_deref().and_then(|it| it.split(':').next());
    row.intent || (row.state == TokenState::Reauthorize && kind == Some(IN_DOUBT))
}

fn jitter() -> Result<u16, Error> {
    Ok(u16::from_be_bytes(clock::random()?))
}

impl Broker {
    /// What the credential is used by, opened under this permit. Tokens that have ended are renewed
    /// first. What fails is on record.
    pub(crate) async fn live_fields<A: Opening>(
        &self,
        ctx: &Context,
        permit: Permit<A>,
        keys: &TenantKeys,
        loaded: &Loaded,
        want: Want,
    ) -> Result<Live, Error> {
        let Some(known) = &loaded.tokens else {
            let (fields, as_text) = self.open(ctx, permit, keys, loaded).await?;
            let mode = fields.mode(&loaded.provider);
            if mode.is_some_and(|mode| mode.oauth.is_some()) {
                let fault =
                    Error::conflict("reauthorize", "it is not connected yet: authorise it first");
                self.record_failure(ctx, A::ACTION, &loaded.on(), fault.word())
                    .await;
                return Err(fault);
            }
            return Ok(Live {
                fields,
                as_text,
                tokens: None,
                renewable: false,
            });
        };
        let on = loaded.on();
        let enough = match want {
            Want::Later(version) => known.token_version > version,
            _ => true,
        };
        let row = if enough && seen(known).usable(self.store_time()) {
            Cow::Borrowed(known)
        } else {
            let grant = (loaded.row.tenant, loaded.row.id);
            match Box::pin(self.renewed_for(loaded, grant, want)).await {
                Ok(row) => Cow::Owned(row.as_ref().clone()),
                Err(fault) => {
                    self.record_failure(ctx, A::ACTION, &on, fault.word()).await;
                    return Err(fault);
                }
            }
        };
        let opened = self.open_tokens(ctx, &permit, keys, &on, &row).await?;
        Ok(Live {
            renewable: renews(&loaded.provider) && opened.get("refresh_token").is_some(),
            fields: opened.without("refresh_token").without(ISSUED_TO),
            as_text: false,
            tokens: Some((row.token_version, row.expires_at)),
        })
    }

    /// A token that is fresh enough, for a use that was permitted before it was waited for: whether it
    /// may still be made is asked again.
    async fn renewed_for(
        &self,
        loaded: &Loaded,
        grant: Grant,
        want: Want,
    ) -> Result<Arc<TokenSetRow>, Error> {
        let row = self.renewed(grant, want).await?;
        let now = self.find_loaded(grant.0, grant.1).await?;
        let version = loaded.row.credential_version;
        let stands =
            now.is_some_and(|now| !now.row.disabled && now.row.credential_version == version);
        if !stands || row.credential_version != version {
            return Err(changed_meanwhile());
        }
        Ok(row)
    }

    /// A token that is fresh enough: waits for a flight.
    pub(crate) async fn renewed(
        &self,
        grant: Grant,
        want: Want,
    ) -> Result<Arc<TokenSetRow>, Error> {
        let until = Instant::now() + self.settings().renew.patience;
        for _ in 0..FLIGHTS_MOST {
            let mut flight = self.fly(grant, want);
            let ended = match timeout_at(until, flight.wait_for(Option::is_some)).await {
                Ok(Ok(ended)) => ended.clone(),
                // It ended early: another is begun.
                Ok(Err(_)) => continue,
                Err(_) => return Err(still_renewing()),
            };
            match ended {
                Some(Ended::Live(row)) if serves(&row, want, self.store_time()) => return Ok(row),
                // It was begun for something else.
                Some(Ended::Live(_) | Ended::Busy) | None => {}
                Some(Ended::Reauthorize) => {
                    return Err(Error::conflict("reauthorize", AUTHORISE_AGAIN));
                }
                Some(Ended::Failing(problem, again)) => {
                    return Err(self.failing(problem.as_deref(), again));
                }
                Some(Ended::Gone) => return Err(changed_meanwhile()),
                Some(Ended::Unavailable) => return Err(still_renewing()),
            }
        }
        Err(still_renewing())
    }

    /// The flight that is under way for the grant, or a new one.
    pub(crate) fn fly(&self, grant: Grant, want: Want) -> Flight {
        let mut flights = self.renewals().flights();
        match flights.entry(grant) {
            Slot::Occupied(flying) => flying.get().clone(),
            Slot::Vacant(place) => {
                let (tell, flight) = watch::channel(None);
                place.insert(flight.clone());
                let broker = self.clone();
                tokio::spawn(async move {
                    let place = Place(&broker, grant);
                    let ended = Box::pin(broker.run(grant, want)).await;
                    // Whoever comes after the end begins anew.
                    drop(place);
                    let _ = tell.send(Some(ended));
                });
                flight
            }
        }
    }

    /// Whether tokens of this version, which their API refused, may be renewed for it: not where they
    /// are quite new, or came in the course of this use.
    pub(crate) fn may_renew_refused(&self, loaded: &Loaded, version: u64) -> bool {
        let now = self.store_time();
        loaded.tokens.as_ref().is_some_and(|tokens| {
            tokens.token_version == version
                && tokens.updated_at.plus_seconds(BETWEEN_REFUSALS_SECONDS) <= now
        })
    }

    /// Why there is no token, to whoever needs one.
    fn failing(&self, problem: Option<&str>, again: Option<Time>) -> Error {
        let (kind, code) = problem
            .and_then(|problem| problem.split_once(':'))
            .unwrap_or(("down", "unknown"));
        let seconds = again.map(|at| (at.0 - self.store_time().0).max(0) as u64 / 1_000_000 + 1);
        match (kind, seconds) {
            ("rate", Some(retry_after)) => Error::Limited { retry_after },
            ("client", _) => Error::Credential {
                reason: client_refused(code).into(),
            },
            (_, Some(seconds)) if seconds > LONG_SECONDS => Error::Upstream {
                reason: format!("its tokens could not be renewed ({code}): it is tried again later; test the integration to try once more, or authorise it again").into(),
            },
            (_, Some(seconds)) => Error::Upstream {
                reason: format!("its tokens could not be renewed ({code}): repeat in {seconds} s").into(),
            },
            (_, None) => Error::Credential {
                reason: format!("its tokens could not be renewed for a long time ({code}): test the integration to try once more, or authorise it again").into(),
            },
        }
    }

    /// Tokens of a new consent, sealed, as the effect that stores them. They take the place of what
    /// is there where both numbers are greater.
    pub(crate) async fn put_tokens_effect(
        &self,
        tenant: TenantId,
        integration: IntegrationId,
        credential_version: u64,
        token_version: u64,
        fence: u64,
        tokens: &Tokens,
    ) -> Result<Effect, Error> {
        let keys = self.keyring().tenant(tenant).await?;
        let now = self.fresh_store_clock().await?.now();
        let message = Zeroizing::new(tokens.fields.to_message());
        let place = tokens_place(tenant, integration, token_version);
        let (key_id, sealed) = keys.seal(&place, &message)?;
        let can_renew = tokens.fields.get("refresh_token").is_some();
        Ok(Effect::PutTokenSet(Box::new(TokenSetRow {
            tenant,
            integration,
            credential_version,
            token_version,
            state: TokenState::Live,
            key_id,
            sealed,
            expires_at: tokens.expires_at,
            refresh_expires_at: tokens.refresh_expires_at,
            renew_at: renew_at(now, tokens.expires_at, can_renew)?,
            holder: None,
            fence,
            lease_until: None,
            intent: false,
            failures: 0,
            failing_since: None,
            problem: None,
            updated_at: now,
        })))
    }

    /// How renewals fared.
    pub fn renewal_counters(&self) -> &RenewalCounters {
        &self.renewals().counters
    }

    /// Waits for the renewals under way, as they may hold tokens that are nowhere else: at a stop.
    pub async fn finish_renewals(&self, within: Duration) {
        let until = Instant::now() + within;
        while self.renewals().under_way() > 0 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Whether this provider's tokens are renewed at all.
pub(crate) fn renews(provider: &Provider) -> bool {
    let class = provider.oauth().map(|oauth| oauth.refresh.class);
    class.is_some_and(|class| class != RefreshClass::None)
}

/// When tokens of that end are renewed ahead of it; what has no refresh token is not.
fn renew_at(now: Time, expires_at: Option<Time>, can_renew: bool) -> Result<Option<Time>, Error> {
    let jitter = jitter()?;
    let at = expires_at.filter(|_| can_renew);
    Ok(at.map(|at| ahead_of(now, at, jitter)))
}

/// Why there are no tokens where it is our app that is at fault.
fn client_refused(code: &str) -> String {
    match code {
        CLIENT_CHANGED => "its tokens cannot be renewed, as they were granted to another OAuth app than the one that is set up now: whoever runs Keystead sets client_id and client_secret of this provider's [oauth] back, or the account is authorised again".to_owned(),
        OWN_CLIENT_CHANGED => "its tokens cannot be renewed, as they were granted to another OAuth app than its own of now: put the client_id and client_secret in again that it had, or authorise it again".to_owned(),
        _ => format!("its tokens cannot be renewed, as the provider refuses the OAuth app ({code}): whoever set the app up has to correct its client id and secret"),
    }
}

/// Whether this is what was waited for.
fn serves(row: &TokenSetRow, want: Want, now: Time) -> bool {
    let usable = seen(row).usable(now);
    match want {
        Want::Later(version) => usable && row.token_version > version,
        Want::Ahead => true,
        Want::Live | Want::Insisting | Want::Last => usable,
    }
}

fn changed_meanwhile() -> Error {
    Error::conflict(
        "conflict",
        "the integration was changed while its tokens were renewed: repeat the call",
    )
}

fn still_renewing() -> Error {
    Error::Unavailable {
        what: "a fresh token of this integration",
        context: "its renewal has not ended in time".to_owned(),
    }
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
