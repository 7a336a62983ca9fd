//! Asking the provider, and what its answer says.
//!
//! What always holds: what is written down of an answer is its status and the provider's own word
//! for it, never its text; a redirect is not followed; an answer that does not say that nothing was
//! done leaves it open.

use bytes::Bytes;
use keystead_core::provider::rotation::{
    Act, Asking, Key, Rotation as Calls, RotationFault, error_code,
};
use keystead_core::provider::{
    Fields, MintedToken, Mode, Outcome, ProviderCall, ResultClass, mint_scoped, read_token_response,
};

use crate::ask::request;
use crate::broker::Broker;
use crate::error::Error;
use crate::integrations::Loaded;
use crate::mint::token_request;
use crate::net::FetchLimits;

/// Pages of a list that are read.
const PAGES: usize = 5;

/// What came of a call.
pub(super) enum Said {
    /// It was done; what the answer holds.
    Done(Bytes),
    /// There was nothing left to do.
    Gone,
    /// It was not done, and will not be: why.
    Refused(String),
    /// Nobody knows, or it may be done later: why.
    Unknown(String),
}

/// A credential, ready to call with.
pub(super) struct Hand<'a> {
    loaded: &'a Loaded,
    pub(super) fields: &'a Fields,
    pub(super) mode: &'a Mode,
    pub(super) calls: &'a Calls,
    token: Option<MintedToken>,
}

impl Broker {
    /// Makes the credential ready, with a token of its own where the calls need one.
    pub(super) async fn hand<'a>(
        &self,
        loaded: &'a Loaded,
        fields: &'a Fields,
    ) -> Result<Hand<'a>, Said> {
        let unsupported = || Said::Refused("the provider's file has no rotation for it".to_owned());
        let mode = fields.mode(&loaded.provider).ok_or_else(unsupported)?;
        let calls = mode.rotation.as_ref().ok_or_else(unsupported)?;
        let token = match calls.token_scope() {
            Some(scope) => Some(self.token_for(loaded, fields, mode, scope).await?),
            None => None,
        };
        Ok(Hand {
            loaded,
            fields,
            mode,
            calls,
            token,
        })
    }

    async fn token_for(
        &self,
        loaded: &Loaded,
        fields: &Fields,
        mode: &Mode,
        scope: &str,
    ) -> Result<MintedToken, Said> {
        let (provider, now) = (&loaded.provider, self.clock().now());
        let refused = |why: String| Said::Refused(why);
        let ask = mint_scoped(provider, fields, &loaded.config, scope, None, now)
            .map_err(|fault| refused(fault.to_string()))?;
        let request = token_request(ask).map_err(|fault| refused(fault.to_string()))?;
        let answer = self.client().fetch(request, FetchLimits::default()).await;
        let answer = answer.map_err(|fault| Said::Unknown(Error::from(fault).to_string()))?;
        let test = provider
            .test_of(mode)
            .ok_or_else(|| refused("the provider's file has no test".to_owned()))?;
        let status = answer.status().as_u16();
        let now = self.clock().now();
        read_token_response(test, status, answer.body(), now).map_err(|(class, message)| {
            let why = format!("no token was given for it: {message}");
            match class {
                ResultClass::BadKey | ResultClass::Expired | ResultClass::NoPerm => refused(why),
                _ => Said::Unknown(why),
            }
        })
    }

    /// Makes a call.
    pub(super) async fn ask(
        &self,
        hand: &Hand<'_>,
        call: impl FnOnce(&Asking<'_>) -> Result<ProviderCall, RotationFault>,
    ) -> Said {
        let asking = Asking {
            provider: &hand.loaded.provider,
            mode: hand.mode,
            config: &hand.loaded.config,
            fields: hand.fields,
            token: hand.token.as_ref(),
            now: self.clock().now(),
        };
        let mut call = match call(&asking) {
            Ok(call) => call,
            Err(fault) => return Said::Refused(fault.to_string()),
        };
        let request = match request(&mut call.request) {
            Ok(request) => request,
            Err(fault) => return Said::Refused(fault.to_string()),
        };
        let answer = match self.client().fetch(request, FetchLimits::default()).await {
            Ok(answer) => answer,
            Err(fault) => return Said::Unknown(Error::from(fault).to_string()),
        };
        let status = answer.status().as_u16();
        let outcome = call.outcome(status, answer.headers(), answer.body());
        let said = || match error_code(answer.body()) {
            Some(code) => format!("the provider answered {status} {code}"),
            None => format!("the provider answered {status}"),
        };
        match outcome {
            Outcome::Confirmed => Said::Done(answer.into_body()),
            Outcome::Gone => Said::Gone,
            Outcome::Failed
                if matches!(status, 400..=499) && !matches!(status, 408 | 425 | 429) =>
            {
                Said::Refused(said())
            }
            Outcome::Failed => Said::Unknown(said()),
        }
    }

    /// All keys that there are.
    pub(super) async fn provider_keys(&self, hand: &Hand<'_>) -> Result<Vec<Key>, Said> {
        let mut keys: Vec<Key> = Vec::new();
        for _ in 0..PAGES {
            let after = keys.last().map(|key| key.id.clone());
            let page = self.ask(hand, |asking| {
                hand.calls.list_call(asking, after.as_deref())
            });
            let body = match page.await {
                Said::Done(body) => body,
                Said::Gone => return Err(Said::Refused("there is no list".to_owned())),
                said => return Err(said),
            };
            let page = hand.calls.read_list(&body);
            let page = page.ok_or_else(|| Said::Unknown("the list cannot be read".to_owned()))?;
            let more = page.more && !page.keys.is_empty();
            keys.extend(page.keys);
            if !more {
                return Ok(keys);
            }
        }
        Err(Said::Refused(
            "there are too many keys to look through".to_owned(),
        ))
    }

    /// Does something to a key.
    pub(super) async fn act(&self, hand: &Hand<'_>, act: Act, key: &str) -> Result<(), String> {
        match self
            .ask(hand, |asking| hand.calls.act_call(asking, act, key))
            .await
        {
            Said::Done(_) | Said::Gone => Ok(()),
            Said::Refused(why) | Said::Unknown(why) => Err(why),
        }
    }
}
