//! How the token endpoints of providers fare, on this node.
//!
//! What always holds: at most [`AT_ONCE`] calls to one provider are in flight; an endpoint that asked
//! to wait is not called before, by whichever grant of the same app; one that has not answered several
//! times is tried by one call at a time, so that it takes up no room of others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keystead_core::renew::Reply;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Calls to one provider.
pub(crate) const AT_ONCE: usize = 32;
/// So many in a row that brought no answer: it is away.
const STRIKES: u32 = 5;
const LONGEST_QUIET: Duration = Duration::from_secs(30);
const LONGEST_ASKED: Duration = Duration::from_secs(24 * 3600);
/// What an endpoint is left alone that gives no time with its refusal.
const UNASKED_QUIET: Duration = Duration::from_secs(1);
/// Apps that are remembered to have been asked to wait.
const KEPT: usize = 10_000;

/// A provider's endpoint as one app, and the host that is dialled: limits are an app's, and a host may be
/// a tenant's own.
pub(crate) type Endpoint = (String, String, String);

#[derive(Default)]
struct State {
    /// It asked to be left alone; this ends by time alone.
    asked_until: Option<Instant>,
    /// It did not answer several times; this ends with the first answer.
    away_until: Option<Instant>,
    strikes: u32,
    /// A call is under way that finds out whether it is back.
    trying: bool,
}

impl State {
    fn is_of_use(&self, now: Instant) -> bool {
        let waits = |until: Option<Instant>| until.is_some_and(|until| now < until);
        self.strikes > 0 || self.trying || waits(self.asked_until)
    }
}

/// All of them.
#[derive(Default)]
pub(crate) struct Endpoints {
    rooms: Mutex<HashMap<String, Arc<Semaphore>>>,
    states: Mutex<HashMap<Endpoint, State>>,
}

impl Endpoints {
    /// The room for calls to a provider.
    pub(crate) fn room(&self, provider: &str) -> Arc<Semaphore> {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Semaphore::new(AT_ONCE));
        rooms.entry(provider.to_owned()).or_insert_with(new).clone()
    }

    fn states(&self) -> MutexGuard<'_, HashMap<Endpoint, State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it may be called now; else what to say instead of calling.
    pub(crate) fn admit(&self, endpoint: Endpoint) -> Result<Admitted<'_>, Reply> {
        let mut states = self.states();
        let mut trying = false;
        if let Some(state) = states.get_mut(&endpoint) {
            let now = Instant::now();
            let left = |until: Option<Instant>| {
                let left = until?.saturating_duration_since(now);
                (!left.is_zero()).then_some(left)
            };
            if let Some(left) = left(state.asked_until) {
                return Err(Reply::Rate(u32::try_from(left.as_secs() + 1).ok()));
            }
            trying = state.strikes >= STRIKES;
            if trying && (state.trying || left(state.away_until).is_some()) {
                return Err(Reply::Unsent);
            }
            state.trying |= trying;
        }
        Ok(Admitted {
            endpoints: self,
            endpoint,
            trying,
        })
    }

    /// Hears what a call came to.
    fn settle(&self, endpoint: &Endpoint, reply: Reply) {
        let (mut states, now) = (self.states(), Instant::now());
        if states.len() >= KEPT {
            states.retain(|_, state| state.is_of_use(now));
        }
        let state = states.entry(endpoint.clone()).or_default();
        match reply {
            // It may have been sent before others were asked to wait.
            Reply::Tokens { .. } | Reply::Dead => {
                state.strikes = 0;
                state.away_until = None;
            }
            Reply::Rate(asked) => {
                let asked = asked.map_or(UNASKED_QUIET, |it| Duration::from_secs(it.into()));
                let until = now + asked.min(LONGEST_ASKED);
                state.asked_until = state.asked_until.max(Some(until));
            }
            Reply::Down | Reply::Lost | Reply::Unsent => {
                state.strikes = state.strikes.saturating_add(1);
                if let Some(over) = state.strikes.checked_sub(STRIKES) {
                    let doubled = Duration::from_secs(1 << over.min(5));
                    state.away_until = Some(now + doubled.min(LONGEST_QUIET));
                }
            }
            Reply::Client | Reply::Unclear => {}
        }
        if !state.is_of_use(now) {
            states.remove(endpoint);
        }
    }
}

/// The right to one call. However it ends, the next may be tried.
pub(crate) struct Admitted<'e> {
    endpoints: &'e Endpoints,
    endpoint: Endpoint,
    trying: bool,
}

impl Admitted<'_> {
    /// Says what the call came to.
    pub(crate) fn settle(self, reply: Reply) {
        self.endpoints.settle(&self.endpoint, reply);
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        if self.trying
            && let Some(state) = self.endpoints.states().get_mut(&self.endpoint)
        {
            state.trying = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENS: Reply = Reply::Tokens {
        expires_at: None,
        renew_at: None,
    };

    fn endpoint(app: &str) -> Endpoint {
        let host = "sample.example".to_owned();
        ("sample".to_owned(), app.to_owned(), host)
    }

    /// Whether it is admitted, and hears nothing more.
    fn admits(endpoints: &Endpoints, endpoint: Endpoint) -> Result<(), Reply> {
        endpoints.admit(endpoint).map(drop)
    }

    fn settles(endpoints: &Endpoints, endpoint: Endpoint, reply: Reply) {
        endpoints.admit(endpoint).ok().unwrap().settle(reply);
    }

    #[tokio::test(start_paused = true)]
    async fn an_app_that_was_asked_to_wait_waits_and_others_do_not() {
        let endpoints = Endpoints::default();
        settles(&endpoints, endpoint("one"), Reply::Rate(Some(7)));
        let refused = admits(&endpoints, endpoint("one"));
        assert_eq!(refused, Err(Reply::Rate(Some(8))));
        assert_eq!(admits(&endpoints, endpoint("two")), Ok(()));
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(admits(&endpoints, endpoint("one")), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_to_what_was_sent_before_does_not_end_the_wait_that_was_asked_for() {
        for answer in [TOKENS, Reply::Dead, Reply::Down, Reply::Rate(Some(1))] {
            let endpoints = Endpoints::default();
            let earlier = endpoints.admit(endpoint("one")).ok().unwrap();
            settles(&endpoints, endpoint("one"), Reply::Rate(Some(60)));
            earlier.settle(answer);
            let refused = admits(&endpoints, endpoint("one"));
            assert_eq!(refused, Err(Reply::Rate(Some(61))), "{answer:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_is_away_or_asks_to_wait_stalls_no_other_host_of_the_app() {
        let endpoints = Endpoints::default();
        let mut misspelt = endpoint("one");
        misspelt.2 = "smaple.example".to_owned();
        for _ in 0..STRIKES {
            settles(&endpoints, misspelt.clone(), Reply::Unsent);
        }
        assert_eq!(admits(&endpoints, misspelt), Err(Reply::Unsent));
        assert_eq!(admits(&endpoints, endpoint("one")), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_is_away_is_tried_by_one_call_at_a_time() {
        let endpoints = Endpoints::default();
        for _ in 0..STRIKES {
            settles(&endpoints, endpoint("one"), Reply::Lost);
        }
        assert_eq!(admits(&endpoints, endpoint("one")), Err(Reply::Unsent));
        tokio::time::advance(Duration::from_secs(1)).await;
        let trying = endpoints.admit(endpoint("one")).ok().unwrap();
        assert_eq!(admits(&endpoints, endpoint("one")), Err(Reply::Unsent));
        trying.settle(TOKENS);
        let both = [(); 2].map(|()| endpoints.admit(endpoint("one")).is_ok());
        assert_eq!(both, [true, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_that_is_dropped_in_its_middle_leaves_room_for_the_next() {
        let endpoints = Endpoints::default();
        for _ in 0..STRIKES {
            settles(&endpoints, endpoint("one"), Reply::Lost);
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        drop(endpoints.admit(endpoint("one")).ok().unwrap());
        assert_eq!(admits(&endpoints, endpoint("one")), Ok(()));
    }
}
