//! The code under test against one played provider, without a broker: requests as core builds them,
//! sent by the broker's client, and answers as core reads them.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request};
use keystead_broker::Clock;
use keystead_broker::net::{Client, ClientConfig, FetchLimits};
use keystead_core::egress::Guard;
use keystead_core::provider::oauth::{
    App, Ask, Means, OAuth, Refusal, Tokens, authorize_url, check_iss, code_request, pkce,
    read_tokens, refresh_request,
};
use keystead_core::provider::{
    Config, Destination, Fields, Mode, Outcome, Provider, TokenRequest, revoke_calls,
};
use keystead_core::time::Time;
use keystead_testkit::client;
use keystead_testkit::played::REDIRECT_URI;
use serde_json::json;

use crate::cases::Case;
use crate::house;

pub(crate) const NOW: Time = house::NOON;
const STATE: &str = "state-0123456789abcdefghij";

/// What the code under test knows of a case: the provider as it is dialled, its settings, the app.
pub(crate) struct Known {
    pub(crate) provider: Provider,
    pub(crate) config: Config,
    pub(crate) app: App,
    http: Client,
}

impl Known {
    pub(crate) fn of(case: &Case) -> Known {
        let provider = Provider::clone(&case.provider);
        let provider = provider.with_base_url(case.played.url()).unwrap();
        let config = json!(case.played.part().config);
        let config = Config::parse(&provider, &config).unwrap().0;
        let client = case.played.client();
        let guard = Guard::new(vec!["127.0.0.1/32".parse().unwrap()]);
        Known {
            provider,
            config,
            app: App {
                client_id: client.id,
                client_secret: client.secret.map(Into::into),
            },
            http: Client::new(ClientConfig::new(guard)).unwrap(),
        }
    }

    async fn fetch(
        &self,
        method: Method,
        to: (&Destination, &str),
        headers: &HeaderMap,
        body: &[u8],
        total: Duration,
    ) -> Result<http::Response<Bytes>, String> {
        let (destination, path) = to;
        let mut request = Request::new(Bytes::copy_from_slice(body));
        *request.method_mut() = method;
        let url = format!("{}{path}", destination.dial.as_str());
        *request.uri_mut() = url.parse().unwrap();
        *request.headers_mut() = headers.clone();
        let host = HeaderValue::from_str(&destination.host_header).unwrap();
        request.headers_mut().insert("host", host);
        let limits = FetchLimits {
            total,
            ..FetchLimits::default()
        };
        let answer = self.http.fetch(request, limits).await;
        answer.map_err(|fault| format!("{fault:?}"))
    }

    pub(crate) async fn post(
        &self,
        request: TokenRequest,
    ) -> Result<http::Response<Bytes>, String> {
        self.post_within(request, Duration::from_secs(10)).await
    }

    pub(crate) async fn post_within(
        &self,
        request: TokenRequest,
        total: Duration,
    ) -> Result<http::Response<Bytes>, String> {
        let to = (&request.destination, request.path.as_str());
        self.fetch(Method::POST, to, &request.headers, &request.body, total)
            .await
    }

    /// Makes one of the mode's revocation calls.
    pub(crate) async fn takes_back(
        &self,
        mode: &Mode,
        number: usize,
        fields: &Fields,
    ) -> Result<Outcome, String> {
        let (app, now) = (Some(&self.app), Clock::default().now());
        let calls = revoke_calls(&self.provider, mode, &self.config, app, fields, now);
        let calls = calls.map_err(|fault| fault.to_string())?;
        let due = mode.revoke.as_ref().map_or(0, |revoke| revoke.calls.len());
        if calls.len() != due {
            return Err(format!("{} of {due} calls are left out", due - calls.len()));
        }
        let call = &calls[number];
        let request = &call.request;
        let to = (&request.destination, request.path.as_str());
        let total = Duration::from_secs(10);
        let method = request.method.clone();
        let answer = self.fetch(method, to, &request.headers, &request.body, total);
        let answer = answer.await?;
        Ok(call.outcome(answer.status().as_u16(), answer.headers(), answer.body()))
    }

    pub(crate) fn read(
        &self,
        answer: &http::Response<Bytes>,
        before: Option<&Fields>,
    ) -> Result<Tokens, Refusal> {
        let status = answer.status().as_u16();
        read_tokens(
            &self.provider,
            &self.config,
            status,
            answer.headers(),
            answer.body(),
            NOW,
            before,
        )
    }

    /// Sends a person to consent, and exchanges the code.
    pub(crate) async fn consent(&self, case: &Case, oauth: &OAuth) -> Result<Tokens, String> {
        let (verifier, challenge) = pkce([7; 32]);
        let (verifier, challenge) = if oauth.pkce {
            (Some(verifier.as_str()), Some(challenge.as_str()))
        } else {
            (None, None)
        };
        let ask = Ask {
            redirect_uri: REDIRECT_URI,
            state: STATE,
            challenge,
        };
        let url = authorize_url(&self.provider, &self.config, &self.app, &ask);
        let url = url.map_err(|fault| fault.to_string())?;
        let target = url.strip_prefix(case.played.url()).ok_or("another host")?;
        let answer = client::Client::new(case.played.url()).get(target).await;
        if answer.status != 302 {
            return Err(format!("no consent: {}", case.refused()));
        }
        let back = url::Url::parse(answer.headers["location"].to_str().unwrap()).unwrap();
        let given = |name: &str| {
            let found = back.query_pairs().find(|(other, _)| other == name);
            found.map(|(_, value)| value.into_owned())
        };
        if given("state").as_deref() != Some(STATE) {
            return Err("the state is another".to_owned());
        }
        check_iss(oauth, given("iss").as_deref()).map_err(|fault| fault.to_string())?;
        let code = given("code").unwrap();
        let exchange = || {
            code_request(
                &self.provider,
                &self.config,
                &self.app,
                &code,
                verifier,
                REDIRECT_URI,
            )
            .unwrap()
        };
        let answer = self.post(exchange()).await?;
        let tokens = self.read(&answer, None);
        let tokens = tokens.map_err(|r| format!("no tokens: {r:?}; {}", case.refused()))?;
        let again = self.post(exchange()).await?;
        if self.read(&again, None).is_ok() {
            return Err("a code is good for two exchanges".to_owned());
        }
        Ok(tokens)
    }

    pub(crate) async fn renew(&self, before: &Fields) -> Result<Result<Tokens, Means>, String> {
        let token = before.get("refresh_token").ok_or("no refresh token")?;
        let request = refresh_request(&self.provider, &self.config, &self.app, token);
        let request = request.map_err(|fault| fault.to_string())?;
        let answer = self.post(request).await?;
        Ok(self
            .read(&answer, Some(before))
            .map_err(|refusal| refusal.means))
    }
}
