//! Consent on another device (RFC 8628): a code to type there, and a question to the provider
//! whenever the caller asks.
//!
//! What always holds: the device code is sealed and never leaves; only the caller that began may
//! ask; however often they ask, the provider is asked no more often than it said.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use keystead_core::action::{Action, TargetKind};
use keystead_core::ids::AuthorizationId;
use keystead_core::provider::oauth::{self, Means, Refusal};
use keystead_core::time::Time;
use keystead_store::{AuthorizationRow, Effect};
use zeroize::Zeroizing;

use super::app::{Opened, Target};
use super::begin::{Kept, unusable};
use super::complete::{began, begun, corrupt, not_granted, refused};
use super::model::{Begin, Device, DevicePoll};
use crate::broker::Broker;
use crate::clock;
use crate::context::Context;
use crate::error::Error;
use crate::permit::On;

const BOUND_TO_DEVICE: &str = "device";
/// RFC 8628 section 3.2 and 3.5.
const SLOWER_BY: u32 = 5;
/// No user code is good for longer, whatever the provider says.
const LONGEST_SECONDS: i64 = 1800;

/// When the provider may be asked again, by consent; on this node.
#[derive(Default)]
pub(crate) struct DevicePace(Mutex<BTreeMap<AuthorizationId, Pace>>);

#[derive(Clone, Copy)]
struct Pace {
    next: Time,
    interval: u32,
    until: Time,
}

impl DevicePace {
    /// Seconds to wait yet; `None`: ask now. The next time is after the interval.
    fn ask(&self, row: &AuthorizationRow, interval: u32, now: Time) -> Option<u32> {
        let mut paces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        paces.retain(|_, pace| pace.until > now);
        let pace = paces.entry(row.id).or_insert(Pace {
            next: now,
            interval,
            until: row.expires_at,
        });
        if pace.next > now {
            return Some(pace.interval);
        }
        pace.next = now.plus_seconds(i64::from(pace.interval));
        None
    }

    /// The provider wants to be asked less often.
    fn slow_down(&self, id: AuthorizationId, now: Time) -> u32 {
        let mut paces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        paces.get_mut(&id).map_or(SLOWER_BY, |pace| {
            pace.interval = pace.interval.saturating_add(SLOWER_BY);
            pace.next = now.plus_seconds(i64::from(pace.interval));
            pace.interval
        })
    }
}

impl Broker {
    /// Begins to connect an account by a code that its owner types on another device.
    ///
    /// # Errors
    /// `Conflict` where the provider has no such flow, or there is no app.
    pub async fn begin_device_authorization(
        &self,
        ctx: &Context,
        begin: Begin,
    ) -> Result<Device, Error> {
        let (broker, ctx) = (self.clone(), ctx.clone());
        tokio::spawn(async move { broker.begin_device(&ctx, begin).await })
            .await
            .map_err(|_| Error::internal("a device flow ended early"))?
    }

    async fn begin_device(&self, ctx: &Context, begin: Begin) -> Result<Device, Error> {
        let (decided, target) = self.oauth_target(ctx, &begin).await?;
        if !matches!(target.oauth(), Ok(oauth) if oauth.device_url.is_some()) {
            let fault = Error::conflict(
                "no_device_flow",
                "this provider has no device flow: open its page in a browser, GET /api/oauth/{type}/url",
            );
            return Err(decided.fail(fault).await);
        }
        if let Err(fault) = self.room_for_consent(ctx, target.on.tenant).await {
            return Err(decided.fail(fault).await);
        }
        let (decided, opened) = self.oauth_opened(ctx, decided, &target).await?;
        decided
            .because("device authorisation begun")
            .record()
            .await?;
        let own = opened.as_ref().map(|(fields, _)| fields);
        let ask = self.oauth_app(&target, own).and_then(|app| {
            oauth::device_request(&target.provider, target.config()?, &app).map_err(unusable)
        });
        let asked = match ask {
            Ok(ask) => self.ask_provider(ask).await,
            Err(fault) => Err(fault),
        };
        let answer = match asked {
            Ok(answer) => answer,
            Err(fault) => {
                let why = format!("device: {}", fault.word());
                return Err(self.unconnected(ctx, &target, why, fault).await);
            }
        };
        let device = match oauth::read_device(answer.status().as_u16(), answer.body()) {
            Ok(device) => device,
            Err(refusal) => {
                let why = format!("device: {}", refusal.code);
                let fault = refused(&target, opened.is_some(), &refusal);
                return Err(self.unconnected(ctx, &target, why, fault).await);
            }
        };
        let kept = Kept {
            // Found by its id alone.
            state_hash: clock::random()?,
            bound_to: BOUND_TO_DEVICE.to_owned(),
            redirect_uri: String::new(),
            secret: Some(Zeroizing::new(format!(
                "{} {}",
                device.interval,
                device.device_code.as_str()
            ))),
            seconds: i64::from(device.expires_in).min(LONGEST_SECONDS),
        };
        let row = self.authorization(ctx, &begin, &target, kept).await?;
        let (id, expires_at) = (row.id, row.expires_at);
        let decided = self.decide(ctx, Action::Put, &target.on).await?;
        decided
            .because("device code given")
            .carry_out(vec![Effect::InsertAuthorization(Box::new(row))])
            .await?;
        Ok(Device {
            id,
            user_code: device.user_code,
            verification_uri: device.verification_uri,
            verification_uri_complete: device.verification_uri_complete,
            expires_at,
            interval: device.interval,
        })
    }

    /// Asks the provider whether consent was given, no more often than it said.
    ///
    /// # Errors
    /// `Conflict` where it was refused, or is not under way.
    pub async fn poll_device_authorization(
        &self,
        ctx: &Context,
        id: AuthorizationId,
    ) -> Result<DevicePoll, Error> {
        let (broker, ctx) = (self.clone(), ctx.clone());
        // On its own task: the answer with the tokens comes once.
        tokio::spawn(async move { broker.poll_device(&ctx, id).await })
            .await
            .map_err(|_| Error::internal("a device flow ended early"))?
    }

    async fn poll_device(&self, ctx: &Context, id: AuthorizationId) -> Result<DevicePoll, Error> {
        let tenant = ctx.tenant()?;
        let now = self.clock().now();
        let found = self.store().find_authorization(tenant, id).await?;
        let own = |row: &AuthorizationRow| row.bound_to == BOUND_TO_DEVICE && began(row, ctx);
        let on = On::kind(TargetKind::Integration, tenant);
        let Some(row) = found.filter(own) else {
            self.deny(ctx, Action::Put, &on, "device code unknown")
                .await?;
            return Err(Error::NotFound {
                what: "device authorisation",
            });
        };
        if row.expires_at <= now {
            self.deny(ctx, Action::Put, &on, "device code expired")
                .await?;
            return Err(Error::conflict(
                "authorization_expired",
                "the code was not typed in time: begin again",
            ));
        }
        let odd = || corrupt(&row);
        let kept = self.kept_secret(&row).await?.ok_or_else(odd)?;
        let (interval, code) = kept.split_once(' ').ok_or_else(odd)?;
        let interval = interval.parse().map_err(|_| odd())?;
        if let Some(wait) = self.device_pace().ask(&row, interval, now) {
            return Ok(DevicePoll::Pending(wait));
        }
        let begin = begun(&row)?;
        let (decided, target) = self.oauth_target(ctx, &begin).await?;
        let (decided, opened) = self.oauth_opened(ctx, decided, &target).await?;
        match self.device_tokens(code, &target, opened.as_ref()).await {
            Ok(tokens) => {
                let took = decided
                    .because("consent was given")
                    .carry_out(vec![taken(&row)]);
                took.await?;
                let done = self.connected(ctx, &row, &target, opened, tokens).await?;
                Ok(DevicePoll::Completed(Box::new(done)))
            }
            Err(Refused::ByProvider(refusal)) if refusal.means == Means::Pending => {
                Ok(DevicePoll::Pending(interval))
            }
            Err(Refused::ByProvider(refusal)) if refusal.means == Means::SlowDown => {
                Ok(DevicePoll::SlowDown(self.device_pace().slow_down(id, now)))
            }
            Err(Refused::ByProvider(refusal)) => {
                let why = format!("device: {}", refusal.code);
                let denied = refusal.code == "access_denied";
                let fault = if denied {
                    not_granted(&target, &refusal.code)
                } else {
                    refused(&target, opened.is_some(), &refusal)
                };
                if denied || matches!(refusal.means, Means::Dead | Means::Client) {
                    decided
                        .because("consent was not given")
                        .carry_out(vec![taken(&row)])
                        .await?;
                }
                Err(self.unconnected(ctx, &target, why, fault).await)
            }
            Err(Refused::Here(fault)) => {
                let why = format!("device: {}", fault.word());
                Err(self.unconnected(ctx, &target, why, fault).await)
            }
        }
    }

    async fn device_tokens(
        &self,
        code: &str,
        target: &Target,
        opened: Option<&Opened>,
    ) -> Result<oauth::Tokens, Refused> {
        let app = self.oauth_app(target, opened.map(|(fields, _)| fields))?;
        let config = target.config()?;
        let ask =
            oauth::device_poll_request(&target.provider, config, &app, code).map_err(unusable)?;
        let answer = self.ask_for_tokens(target, &app, ask).await?;
        answer.map_err(Refused::ByProvider)
    }
}

fn taken(row: &AuthorizationRow) -> Effect {
    Effect::TakeAuthorization {
        tenant: row.tenant,
        authorization: row.id,
    }
}

/// Why there are no tokens.
enum Refused {
    ByProvider(Refusal),
    Here(Error),
}

impl From<Error> for Refused {
    fn from(fault: Error) -> Refused {
        Refused::Here(fault)
    }
}
