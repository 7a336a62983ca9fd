//! One run of core's machine: its steps are done here, with rows, permits and the endpoint.
//!
//! What always holds: each change of the row is an entry too, in one transaction; the refresh token is
//! opened under the permit that the taking of the lease gives; a reply that holds tokens stays in this
//! task until it is stored or the row has gone on without it.

use std::sync::Arc;
use std::time::Duration;

use keystead_core::action::{Action, Outcome};
use keystead_core::provider::Config;
use keystead_core::renew::{
    Change, End, Event, Holder, Pause, Reply, Rules, Run, Step, Want, is_hopeless,
};
use keystead_core::time::Time;
use keystead_store::{
    Effect, IntegrationChange, MarkReauthorize, ReleaseRenewal, Status as RowStatus, StoreTokens,
    TakeRenewal, TokenSetRow, TokenState,
};
use tokio::sync::OwnedSemaphorePermit;

use super::call::{Came, Renewed};
use super::time::Reading;
use super::{
    AUTHORISE_AGAIN, CLIENT_CHANGED, Ended, Grant, IN_DOUBT, client_refused, count, jitter, seen,
};
use crate::broker::Broker;
use crate::clock;
use crate::context::Context;
use crate::error::Error;
use crate::integrations::Loaded;
use crate::oauth::with_host;
use crate::permit::{Permit, Renew};

/// How often a row is read whose lease another has.
const WATCH: Duration = Duration::from_millis(22);
/// How long a store that does not answer is left alone, growing up to the second.
const STORE_PAUSE: Duration = Duration::from_millis(50);
const STORE_PAUSE_MOST: Duration = Duration::from_millis(800);

/// A holder as rows name it.
fn write_holder(holder: Holder) -> String {
    format!("{:032x}", holder.0)
}

/// Reads what `write_holder` wrote.
pub(super) fn read_holder(text: &str) -> Option<Holder> {
    u128::from_str_radix(text, 16).ok().map(Holder)
}

/// What a run has in hand.
struct Hand {
    ctx: Context,
    grant: Grant,
    want: Want,
    holder: Holder,
    reading: Option<Reading>,
    row: Option<Arc<TokenSetRow>>,
    loaded: Option<Arc<Loaded>>,
    permit: Option<Permit<Renew>>,
    room: Option<OwnedSemaphorePermit>,
    tokens: Option<Renewed>,
    problem: Option<String>,
    store_pause: Duration,
}

impl Broker {
    /// Goes through a run.
    pub(super) async fn run(&self, grant: Grant, want: Want) -> Ended {
        let (Ok(id), Ok(jitter)) = (clock::new_uuid(self.clock().now()), jitter()) else {
            return Ended::Unavailable;
        };
        let holder = Holder(id.as_u128());
        let mut ctx = Context::anonymous(self.new_request_id(), None);
        ctx.tenant = Some(grant.0);
        let mut hand = Hand {
            ctx,
            grant,
            want,
            holder,
            reading: None,
            row: None,
            loaded: None,
            permit: None,
            room: None,
            tokens: None,
            problem: None,
            store_pause: STORE_PAUSE,
        };
        let mut run = Run::new(want, holder, Rules::with_jitter(jitter));
        let mut step = run.next(self.store_time(), Event::Begin);
        loop {
            let event = match step {
                Step::Read => {
                    let event = self.read_tokens_row(&mut hand).await;
                    let problem = hand.row.as_ref().and_then(|row| row.problem.as_deref());
                    run.asked_to_wait(problem.is_some_and(|problem| problem.starts_with("rate:")));
                    event
                }
                Step::Write(change) => match self.make(&mut hand, &run, change).await {
                    Ok(event) => event,
                    Err(ended) => return ended,
                },
                Step::Call => self.call_in(&mut hand, &run).await,
                Step::Wait(pause) => {
                    tokio::time::sleep(hand.pause(pause)).await;
                    Event::Waited
                }
                Step::Done(end) => return hand.end(end),
            };
            let now = hand
                .reading
                .map_or_else(|| self.store_time(), |it| it.now());
            step = run.next(now, event);
        }
    }

    async fn read_tokens_row(&self, hand: &mut Hand) -> Event {
        let Ok(reading) = self.fresh_store_clock().await else {
            return Event::Unknown;
        };
        hand.reading = Some(reading);
        let (tenant, integration) = hand.grant;
        match self.store().find_token_set(tenant, integration).await {
            Ok(row) => {
                let known = row.as_ref().map(seen);
                if let Some(row) = row {
                    hand.row = Some(Arc::new(row));
                }
                Event::Row(known)
            }
            Err(_) => Event::Unknown,
        }
    }

    /// Makes a change of the row, with its entry.
    async fn make(&self, hand: &mut Hand, run: &Run, change: Change) -> Result<Event, Ended> {
        if let Change::Take {
            token_version,
            seen_fence,
            until,
            ..
        } = change
        {
            return self.take(hand, (token_version, seen_fence, until)).await;
        }
        let (Some(loaded), Some(row)) = (hand.loaded.clone(), hand.row.clone()) else {
            return Err(Ended::Gone);
        };
        let (tenant, integration) = hand.grant;
        let at = hand
            .reading
            .map_or_else(|| self.store_time(), |it| it.now());
        let problem = hand.problem.clone();
        let mut settings_at = None;
        let (word, outcome, effects) = match change {
            Change::Store { .. } => {
                let Some(new) = &hand.tokens else {
                    return Err(Ended::Unavailable);
                };
                let mut effects = vec![Effect::StoreTokens(Box::new(new.store.clone()))];
                let mut word = "renewed".to_owned();
                if let Some(host) = &new.host {
                    let moved = match self.moved_host(&loaded, &row, host, at).await {
                        Ok(moved) => moved,
                        Err(Error::Unavailable { .. }) => return Ok(Event::Unknown),
                        // The tokens are worth more than the host.
                        Err(_) => None,
                    };
                    if let Some((revision, moved)) = moved {
                        settings_at = Some(revision);
                        effects.push(moved);
                        word = format!("renewed, and its API is at {host} now");
                    }
                }
                (word, Outcome::Allowed, effects)
            }
            Change::Release {
                token_version,
                fence,
                keep_intent,
                renew_at,
                failures,
                failing_since,
            } => {
                let release = Effect::ReleaseRenewal(Box::new(ReleaseRenewal {
                    tenant,
                    integration,
                    token_version,
                    fence,
                    keep_intent,
                    renew_at,
                    failures,
                    failing_since,
                    problem: problem.clone(),
                    at,
                }));
                let mut effects = vec![release];
                let since = failing_since.unwrap_or(at);
                let hopeless = |kind: &str| is_hopeless(at, since, failures, kind == "unclear");
                let told = told(problem.as_deref(), hopeless);
                effects.extend(told.map(|message| Effect::SetVerified {
                    tenant,
                    integration,
                    version: row.credential_version,
                    status: RowStatus::Error,
                    error_message: Some(message),
                    at,
                }));
                (reason("renewal failed", &problem), Outcome::Failed, effects)
            }
            Change::Reauthorize {
                token_version,
                fence,
            } => {
                let code = problem.as_deref().and_then(|it| it.split_once(':'));
                let code = code.map_or("dead", |(_, code)| code);
                let mark = Effect::MarkReauthorize(Box::new(MarkReauthorize {
                    tenant,
                    integration,
                    token_version,
                    fence,
                    problem: match run.in_doubt() {
                        true => format!("{IN_DOUBT}:{code}"),
                        false => problem.clone().unwrap_or_default(),
                    },
                    error_message: if run.in_doubt() {
                        "an answer of the provider was lost while its tokens were renewed, and it honours the old ones no more: authorise it again".to_owned()
                    } else {
                        AUTHORISE_AGAIN.to_owned()
                    },
                    at,
                }));
                (
                    reason("renewal refused", &problem),
                    Outcome::Failed,
                    vec![mark],
                )
            }
            Change::Take { .. } | Change::Put { .. } => return Err(Ended::Unavailable),
        };
        let mut entry = self.entry(&hand.ctx, Action::Rotate, &loaded.on(), outcome);
        entry.caller = "system";
        entry.version = Some(row.credential_version);
        entry.reason = Some(word.into());
        let done = self.append(entry, effects).await;
        self.epochs().move_tenant(tenant);
        let event = written(done).map_err(|fault| hand.broken(&fault))?;
        if event == Event::Missed
            && let Some(revision) = settings_at
            && self.revision(hand.grant).await != Ok(Some(revision))
        {
            // Its settings were changed in between; the tokens are still to be stored.
            return Ok(Event::Unknown);
        }
        if event == Event::Written {
            hand.note(self, &row);
        } else if event == Event::Missed && hand.tokens.take().is_some() {
            count(&self.renewals().counters.overtaken);
            tracing::warn!(integration = %integration, "renewed tokens were not stored: their lease had run out and another went on, or their integration is gone");
        }
        Ok(event)
    }

    /// The change of the settings by which the API's host is this from now on, and the revision that it
    /// changes; `None` where there is nothing to change, or where it may not be that host.
    async fn moved_host(
        &self,
        loaded: &Loaded,
        row: &TokenSetRow,
        host: &str,
        at: Time,
    ) -> Result<Option<(u64, Effect)>, Error> {
        let (tenant, integration) = (row.tenant, row.integration);
        let Some(known) = self.store().find_integration(tenant, integration).await? else {
            return Ok(None);
        };
        let settings = serde_json::from_str(&known.config).unwrap_or_default();
        let hosted = with_host(&settings, Some(host));
        if known.credential_version != row.credential_version
            || hosted == settings
            || Config::parse(&loaded.provider, &hosted).is_err()
        {
            return Ok(None);
        }
        let change = IntegrationChange {
            config: Some(hosted.to_string()),
            ..IntegrationChange::default()
        };
        let update = Effect::UpdateIntegration {
            tenant,
            integration,
            expected_revision: Some(known.revision),
            change,
            at,
        };
        Ok(Some((known.revision, update)))
    }

    async fn revision(&self, (tenant, integration): Grant) -> Result<Option<u64>, ()> {
        let found = self.store().find_integration(tenant, integration).await;
        let found = found.map_err(drop)?;
        Ok(found.map(|row| row.revision))
    }

    /// Takes the lease: the entry of that is the permit to open the refresh token.
    async fn take(
        &self,
        hand: &mut Hand,
        (token_version, seen_fence, until): (u64, u64, Time),
    ) -> Result<Event, Ended> {
        let (tenant, integration) = hand.grant;
        let loaded = match self.find_loaded(tenant, integration).await {
            Ok(Some(loaded)) => loaded,
            Ok(None) => return Err(Ended::Gone),
            Err(Error::Unavailable { .. }) => return Ok(Event::Unknown),
            Err(fault) => {
                return Err(Ended::Failing(
                    Some(format!("client:{}", fault.word())),
                    None,
                ));
            }
        };
        let granted = hand.row.as_ref().map(|row| row.credential_version);
        let out_of_use = loaded.row.disabled && hand.want != Want::Last;
        if out_of_use || granted != Some(loaded.row.credential_version) {
            return Err(Ended::Gone);
        }
        if hand.room.is_none() {
            let room = self.renewals().endpoints.room(&loaded.provider.id);
            match room.clone().try_acquire_owned() {
                Ok(permit) => hand.room = Some(permit),
                Err(_) => {
                    hand.room = room.acquire_owned().await.ok();
                    // That took time: what was seen may be old.
                    return Ok(Event::Missed);
                }
            }
        }
        let credential_version = loaded.row.credential_version;
        let decided = self
            .decide_for_system(&hand.ctx, Action::Rotate, &loaded.on())
            .because("renewal begun");
        hand.loaded = Some(loaded);
        let take = Effect::TakeRenewal(TakeRenewal {
            tenant,
            integration,
            token_version,
            seen_fence,
            holder: write_holder(hand.holder),
            until,
        });
        let permit = decided
            .permit_changing::<Renew>(credential_version, vec![take])
            .await;
        self.epochs().move_tenant(tenant);
        Ok(match permit {
            Ok(permit) => {
                hand.permit = Some(permit);
                Event::Written
            }
            Err(fault) => written(Err(fault)).map_err(|fault| hand.broken(&fault))?,
        })
    }

    async fn call_in(&self, hand: &mut Hand, run: &Run) -> Event {
        let (Some(reading), Some(loaded), Some(row)) =
            (hand.reading, hand.loaded.clone(), hand.row.clone())
        else {
            return Event::Answered(Reply::Unsent);
        };
        let until = reading.moment(run.call_until(reading.now()));
        let permit = match hand.permit.take() {
            Some(permit) => permit,
            // Whether the lease was taken had to be read off its row; its entry is there.
            None => {
                let decided = self.decide_for_system(&hand.ctx, Action::Rotate, &loaded.on());
                let decided = decided.because("renewal goes on");
                match decided.permit(row.credential_version).await {
                    Ok(permit) => permit,
                    Err(_) => return Event::Answered(Reply::Unsent),
                }
            }
        };
        let fence = run.fence();
        let called = self.call_endpoint(&hand.ctx, permit, &loaded, &row, fence, until);
        let Came {
            reply,
            problem,
            tokens,
        } = Box::pin(called).await;
        hand.problem = problem;
        hand.tokens = tokens;
        hand.tell(&loaded, reply);
        Event::Answered(reply)
    }
}

impl Hand {
    /// Ends a run whose write the store refuses, as it will the next time.
    fn broken(&self, fault: &Error) -> Ended {
        let lost = self.tokens.is_some();
        tracing::error!(?fault, integration = %self.grant.1, renewed_tokens_lost = lost, "a renewal could not be written down, and was ended");
        Ended::Unavailable
    }

    fn pause(&mut self, pause: Pause) -> Duration {
        match pause {
            Pause::Lease => WATCH,
            Pause::Store => {
                let now = self.store_pause;
                self.store_pause = (2 * now).min(STORE_PAUSE_MOST);
                now
            }
        }
    }

    /// Tells whoever runs this what a provider said: the code, and no more.
    fn tell(&self, loaded: &Loaded, reply: Reply) {
        let (integration, provider) = (loaded.row.id, &loaded.provider.id);
        let code = self.problem.as_deref().unwrap_or_default();
        match reply {
            Reply::Tokens { .. } => {}
            Reply::Client if code.ends_with(CLIENT_CHANGED) => {
                tracing::error!(%integration, provider, code, "tokens were granted to another client_id than the one that is set up now, and were left alone: set it back in [oauth], or in the integration's own app where the code says own, or authorise again");
            }
            Reply::Client => {
                tracing::error!(%integration, provider, code, "a provider refuses the OAuth app: check [oauth] or the integration's own app");
            }
            _ => tracing::warn!(%integration, provider, code, "tokens were not renewed"),
        }
    }

    /// Notes what was written.
    fn note(&mut self, broker: &Broker, row: &TokenSetRow) {
        let counters = &broker.renewals().counters;
        if let Some(new) = self.tokens.take() {
            broker.note_exposed(new.came_at);
            count(&counters.renewed);
            self.row = Some(Arc::new(stored(row, new.store)));
            return;
        }
        let kind = self.problem.as_deref().and_then(|it| it.split(':').next());
        count(match kind {
            Some("dead") => &counters.reauthorize,
            Some("client") => &counters.client,
            Some("rate") => &counters.rate,
            Some("unclear") => &counters.unclear,
            _ => &counters.down,
        });
    }

    fn end(self, end: End) -> Ended {
        match (end, self.row) {
            (End::Live, Some(row)) => Ended::Live(row),
            (End::Live | End::Gone, _) => Ended::Gone,
            (End::Reauthorize, _) => Ended::Reauthorize,
            (End::Failing(again), row) => {
                let before = row.and_then(|row| row.problem.clone());
                Ended::Failing(self.problem.or(before), again)
            }
            (End::Busy, _) => Ended::Busy,
            (End::Unavailable, _) => Ended::Unavailable,
        }
    }
}

/// The row as it is once these tokens are stored.
fn stored(row: &TokenSetRow, tokens: StoreTokens) -> TokenSetRow {
    TokenSetRow {
        token_version: tokens.token_version,
        state: TokenState::Live,
        key_id: tokens.key_id,
        sealed: tokens.sealed,
        expires_at: tokens.expires_at,
        refresh_expires_at: tokens.refresh_expires_at,
        renew_at: tokens.renew_at,
        holder: None,
        fence: tokens.fence,
        lease_until: None,
        intent: false,
        failures: 0,
        failing_since: None,
        problem: None,
        updated_at: tokens.at,
        ..row.clone()
    }
}

/// What came of a write. A fault that no waiting mends is given back.
fn written(done: Result<(), Error>) -> Result<Event, Error> {
    match done {
        Ok(()) => Ok(Event::Written),
        Err(Error::Conflict { .. } | Error::NotFound { .. }) => Ok(Event::Missed),
        Err(Error::Unavailable { .. }) => Ok(Event::Unknown),
        Err(fault) => Err(fault),
    }
}

fn reason(what: &str, problem: &Option<String>) -> String {
    match problem {
        Some(problem) => format!("{what}: {problem}"),
        None => what.to_owned(),
    }
}

/// What the integration says from now on; `None` where what it says may stay.
fn told(problem: Option<&str>, hopeless: impl Fn(&str) -> bool) -> Option<String> {
    let (kind, code) = problem?.split_once(':')?;
    if kind == "client" {
        return Some(client_refused(code));
    }
    let given_up = format!(
        "its tokens could not be renewed for a long time ({code}), and are tried now and then only: test it to try once more, or authorise it again"
    );
    hopeless(kind).then_some(given_up)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_store_that_is_away_is_asked_again() {
        let away = Error::Unavailable {
            what: "the store",
            context: String::new(),
        };
        assert!(matches!(written(Err(away)), Ok(Event::Unknown)));
        let corrupt = Error::Corrupt {
            record: "a row".to_owned(),
        };
        for fault in [Error::internal("refused"), corrupt] {
            written(Err(fault)).unwrap_err();
        }
    }
}
