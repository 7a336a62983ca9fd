//! Work that one node of the installation does for all: what is due is looked for and done.
//!
//! What always holds: the duty is a row that one node holds, for seconds, by the database's clock; it
//! spares work, and nothing rests on it: each thing that is done moves by its own version or lease, so
//! that two nodes which both believe to have the duty do no harm.

use std::sync::Arc;
use std::time::Duration;

use keystead_core::action::{Action, Outcome};
use keystead_core::renew::Want;
use keystead_core::time::Time;
use keystead_store::{Effect, ReleaseRenewal, TokenSetRow};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::broker::Broker;
use crate::clock;
use crate::context::Context;
use crate::error::Error;
use crate::permit::On;

const DUTY: &str = "upkeep";
/// For how long the duty is taken.
const HELD_SECONDS: u32 = 15;
/// How often it is prolonged, or asked for.
const PROLONG_EVERY: Duration = Duration::from_secs(5);
/// How often it is looked what is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Renewals that are looked up at once.
const PAGE: u32 = 256;
/// What cannot be renewed, as its integration is switched off or its provider is gone, is looked at
/// again after so long.
const POSTPONED_SECONDS: i64 = 6 * 3600;
/// Tokens that live shorter are not renewed for ever for nobody.
const SHORT_LIFE_SECONDS: i64 = 300;
const EXPIRED_EVERY: Duration = Duration::from_secs(60);

/// One kind of due work, of which one round is under way at a time.
#[derive(Default)]
struct Round(Option<JoinHandle<()>>);

impl Round {
    fn begin(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        if self.0.as_ref().is_none_or(JoinHandle::is_finished) {
            self.0 = Some(tokio::spawn(work));
        }
    }
}

impl Broker {
    /// Holds the duty whenever it can be had, and does what is due meanwhile.
    pub(crate) async fn follow_duties(self) {
        let Ok(holder) = clock::new_uuid(self.clock().now()) else {
            return;
        };
        let holder = holder.simple().to_string();
        let mut asked: Option<Instant> = None;
        let mut until = Instant::now();
        let mut renewals = Round::default();
        let mut revocations = Round::default();
        let mut rotations = Round::default();
        let mut expired = Round::default();
        let mut forgotten: Option<Instant> = None;
        loop {
            if asked.is_none_or(|asked| asked.elapsed() >= PROLONG_EVERY) {
                let now = Instant::now();
                asked = Some(now);
                let taken = self.store().take_duty(DUTY, &holder, HELD_SECONDS).await;
                until = match taken {
                    Ok(Some(_)) => now + Duration::from_secs(u64::from(HELD_SECONDS)),
                    Ok(None) => now,
                    // It is held for as long as it was taken for.
                    Err(_) => until,
                };
            }
            if Instant::now() < until {
                let broker = self.clone();
                renewals.begin(async move { broker.due_renewals().await });
                let broker = self.clone();
                revocations.begin(async move {
                    if let Err(fault) = broker.due_revocations().await {
                        tracing::debug!(?fault, "due revocations were not found");
                    }
                });
                let broker = self.clone();
                rotations.begin(async move { broker.due_rotations().await });
                if forgotten.is_none_or(|at| at.elapsed() >= EXPIRED_EVERY) {
                    forgotten = Some(Instant::now());
                    let broker = self.clone();
                    expired.begin(async move { broker.forget_expired().await });
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Does once what is due, whoever has the duty; returns when the renewals have ended.
    pub async fn upkeep(&self) {
        self.due_renewals().await;
        self.due_rotations().await;
        self.forget_expired().await;
        let all = u32::try_from(self.settings().renew.at_once).unwrap_or(u32::MAX);
        let _ = self.ahead().acquire_many(all).await;
    }

    async fn forget_expired(&self) {
        let forgotten = async {
            let now = self.fresh_store_clock().await?.now();
            Ok::<(), Error>(self.store().forget_expired(now).await?)
        };
        if let Err(fault) = forgotten.await {
            tracing::debug!(?fault, "what had expired was not removed");
        }
    }

    /// What was refused for the app is tried again once: whoever started this node may have set up
    /// another.
    async fn retry_refused_clients(&self) -> Result<(), Error> {
        let mut after = None;
        loop {
            let rows = self.store().list_refused_clients(after, PAGE).await?;
            let Some(last) = rows.last() else {
                return Ok(());
            };
            after = Some(last.integration);
            let now = self.fresh_store_clock().await?.now();
            for row in rows {
                if row.lease_until.is_none_or(|until| until <= now) {
                    let why = "renewal to be tried again: a node has started";
                    self.postpone(row, Some(now), why).await;
                }
            }
        }
    }

    /// Begins the renewal of all tokens that are due, some at a time.
    async fn due_renewals(&self) {
        if self.renewals().is_first_look() && self.retry_refused_clients().await.is_err() {
            self.renewals().look_again();
        }
        let mut begun = usize::MAX;
        while begun > 0 {
            let found = async {
                let now = self.fresh_store_clock().await?.now();
                Ok::<_, Error>(self.store().due_token_sets(now, PAGE).await?)
            };
            let due = match found.await {
                Ok(due) => due,
                Err(fault) => {
                    tracing::debug!(?fault, "due renewals were not found");
                    return;
                }
            };
            begun = 0;
            for row in due {
                let grant = (row.tenant, row.integration);
                if self.renewals().flies(&grant) {
                    continue;
                }
                let ahead: &Arc<Semaphore> = self.ahead();
                let Ok(room) = ahead.clone().acquire_owned().await else {
                    return;
                };
                begun += 1;
                let broker = self.clone();
                tokio::spawn(async move {
                    let _room = room;
                    Box::pin(broker.renew_ahead(row)).await;
                });
            }
        }
    }

    async fn renew_ahead(&self, row: TokenSetRow) {
        let grant = (row.tenant, row.integration);
        let loaded = match self.find_loaded(row.tenant, row.integration).await {
            Ok(loaded) => loaded,
            Err(Error::Unavailable { .. }) => return,
            Err(_) => None,
        };
        let can_be_used = loaded
            .as_ref()
            .is_some_and(|loaded| !loaded.row.disabled && loaded.tokens.is_some());
        let newer = loaded.map(|loaded| loaded.row.credential_version);
        if newer.is_some_and(|newer| row.credential_version < newer) {
            // Versions never go back: these are there to be taken back, and for nothing else.
            let why = "not renewed: its credential was replaced";
            self.postpone(row, None, why).await;
        } else if !can_be_used {
            let later = self.store_time().plus_seconds(POSTPONED_SECONDS);
            let why = "renewal postponed: not in use";
            self.postpone(row, Some(later), why).await;
        } else if self.is_idle(&row).await {
            let why = "renewal left to the next use: these tokens live for minutes";
            self.postpone(row, None, why).await;
        } else {
            let mut flight = self.fly(grant, Want::Ahead);
            let _ = flight.wait_for(Option::is_some).await;
        }
    }

    /// Whether these are tokens of a short life that nobody used since they came.
    async fn is_idle(&self, row: &TokenSetRow) -> bool {
        let life = row.expires_at.map(|end| end.0 - row.updated_at.0);
        // Where it has no end, or one before it came (it was brought along), that says nothing.
        let short = life.is_some_and(|life| (1..SHORT_LIFE_SECONDS * 1_000_000).contains(&life));
        if !short || row.failures > 0 {
            return false;
        }
        let (tenant, id) = (row.tenant, row.integration);
        let found = self.store().find_integration(tenant, id).await;
        let known = found.ok().flatten();
        known.is_some_and(|known| known.last_used_at.is_none_or(|at| at < row.updated_at))
    }

    /// Has tokens renewed at another time, or at their next use.
    async fn postpone(&self, row: TokenSetRow, renew_at: Option<Time>, why: &'static str) {
        let mut on = On::kind(keystead_core::action::TargetKind::Integration, row.tenant);
        on.name = Some(row.integration.to_string());
        let ctx = Context::anonymous(self.new_request_id(), None);
        let mut entry = self.entry(&ctx, Action::Rotate, &on, Outcome::Failed);
        entry.caller = "system";
        entry.reason = Some(why.into());
        entry.version = Some(row.credential_version);
        let later = Effect::ReleaseRenewal(Box::new(ReleaseRenewal {
            tenant: row.tenant,
            integration: row.integration,
            token_version: row.token_version,
            fence: row.fence,
            keep_intent: true,
            renew_at,
            failures: row.failures,
            failing_since: row.failing_since,
            problem: row.problem,
            at: row.updated_at,
        }));
        match self.append(entry, vec![later]).await {
            Ok(()) | Err(Error::Conflict { .. } | Error::NotFound { .. }) => {}
            Err(fault) => tracing::debug!(?fault, "a renewal was not postponed"),
        }
    }
}
