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

/// A provider's endpoint as one app: limits are an app's.
pub(crate) type Endpoint = (String, String);

#[derive(Default)]
struct State {
    quiet_until: Option<Instant>,
    strikes: u32,
    trying: bool,
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
    pub(crate) fn admit(&self, endpoint: &Endpoint) -> Result<(), Reply> {
        let mut states = self.states();
        let Some(state) = states.get_mut(endpoint) else {
            return Ok(());
        };
        let left = state
            .quiet_until
            .map(|until| until.saturating_duration_since(Instant::now()))
            .filter(|left| !left.is_zero());
        match left {
            Some(_) if state.strikes >= STRIKES => Err(Reply::Unsent),
            Some(left) => Err(Reply::Rate(u32::try_from(left.as_secs() + 1).ok())),
            None if state.strikes >= STRIKES && state.trying => Err(Reply::Unsent),
            None => {
                state.trying = true;
                Ok(())
            }
        }
    }

    /// Hears what a call came to.
    pub(crate) fn settle(&self, endpoint: Endpoint, reply: Reply) {
        let mut states = self.states();
        if matches!(reply, Reply::Tokens { .. } | Reply::Dead) {
            states.remove(&endpoint);
            return;
        }
        if states.len() >= KEPT {
            let now = Instant::now();
            states.retain(|_, state| state.quiet_until.is_some_and(|until| now < until));
        }
        let state = states.entry(endpoint).or_default();
        state.trying = false;
        let quiet = match reply {
            Reply::Rate(Some(seconds)) => {
                Duration::from_secs(u64::from(seconds)).min(LONGEST_ASKED)
            }
            Reply::Rate(None) => UNASKED_QUIET,
            Reply::Down | Reply::Lost | Reply::Unsent => {
                state.strikes = state.strikes.saturating_add(1);
                if state.strikes < STRIKES {
                    return;
                }
                let doubled = 1_u64 << (state.strikes - STRIKES).min(5);
                Duration::from_secs(doubled).min(LONGEST_QUIET)
            }
            _ => return,
        };
        state.quiet_until = Some(Instant::now() + quiet);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(app: &str) -> Endpoint {
        ("sample".to_owned(), app.to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn an_app_that_was_asked_to_wait_waits_and_others_do_not() {
        let endpoints = Endpoints::default();
        endpoints.settle(endpoint("one"), Reply::Rate(Some(7)));
        assert_eq!(endpoints.admit(&endpoint("one")), Err(Reply::Rate(Some(8))));
        assert_eq!(endpoints.admit(&endpoint("two")), Ok(()));
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(endpoints.admit(&endpoint("one")), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_is_away_is_tried_by_one_call_at_a_time() {
        let endpoints = Endpoints::default();
        for strike in 0..STRIKES {
            assert_eq!(endpoints.admit(&endpoint("one")), Ok(()), "{strike}");
            endpoints.settle(endpoint("one"), Reply::Lost);
        }
        assert_eq!(endpoints.admit(&endpoint("one")), Err(Reply::Unsent));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(endpoints.admit(&endpoint("one")), Ok(()));
        assert_eq!(endpoints.admit(&endpoint("one")), Err(Reply::Unsent));
        let tokens = Reply::Tokens {
            expires_at: None,
            renew_at: None,
        };
        endpoints.settle(endpoint("one"), tokens);
        assert_eq!(endpoints.admit(&endpoint("one")), Ok(()));
        assert_eq!(endpoints.admit(&endpoint("one")), Ok(()));
    }
}
