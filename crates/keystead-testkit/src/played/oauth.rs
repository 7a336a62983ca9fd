//! The endpoints of an OAuth mode: consent, token, device.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use keystead_core::provider::Mode;
use keystead_core::provider::oauth::{ClientAuth, Means, OAuth, RefreshClass, RequestBody};
use serde_json::{Map, Value, json};
use url::form_urlencoded;

use super::fill::escaped;
use super::grants::{Code, Device, Grant};
use super::judge::one;
use super::mint::form;
use super::rules::{Terms, decides, put, replies_that};
use super::{Door, Heard, Outcome, Part, Reply, Served, Stage, refused, sealed};

/// Where a browser is sent back to: the one that the app has registered.
pub const REDIRECT_URI: &str = "https://keystead.test/oauth/callback";

const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// The client that a played provider knows.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its id.
    pub id: String,
    /// Its secret; none of a public client.
    pub secret: Option<String>,
    /// The redirect URIs that it registered.
    pub redirect_uris: Vec<String>,
}

/// How replies are shaped where the definition leaves a choice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shape {
    /// Which of a pointer's alternatives is used.
    pub alternative: usize,
    /// Whether `expires_in` is left out.
    pub silent: bool,
    /// In how many seconds a token ends, by its reply.
    pub life: Option<i64>,
}

impl Part {
    /// The mode that is connected by consent.
    pub fn oauth(&self) -> Option<(&Mode, &OAuth)> {
        let mut modes = self.provider.modes.iter();
        modes.find_map(|mode| Some((mode, mode.oauth.as_ref()?)))
    }

    /// A client for the provider; its secret needs every kind of escaping.
    pub(super) fn client(&self) -> Client {
        let public = self
            .oauth()
            .is_some_and(|(_, o)| o.client_auth == ClientAuth::None);
        let id = format!("canary-app.{}", self.provider.id);
        let secret = format!("canary+secret/of=%{}:&", self.provider.id);
        Client {
            id,
            secret: (!public).then_some(secret),
            redirect_uris: vec![REDIRECT_URI.to_owned()],
        }
    }

    fn scope(&self, oauth: &OAuth) -> String {
        let words = match self.setting("scopes") {
            Some((own, _)) => own.split_whitespace().map(str::to_owned).collect(),
            None => oauth.scopes.clone(),
        };
        words.join(&oauth.scope_separator)
    }

    fn extra(&self, params: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let filled = params.iter();
        filled
            .filter_map(|(name, value)| Some((name.clone(), self.filled(value)?)))
            .collect()
    }

    /// A host that a reply may name as the API's.
    pub fn api_host(&self) -> String {
        let choices = self
            .provider
            .host_choices
            .iter()
            .chain(&self.provider.hosts);
        let mut filled = choices.filter_map(|rule| self.filled(&rule.text));
        filled.next().unwrap_or_default().replace('*', "canary")
    }

    fn is_at(&self, mode: &Mode, url: &str, heard: &Heard) -> bool {
        self.endpoint_path(mode, url).as_deref() == Some(heard.path())
    }
}

impl Stage {
    /// `None` where the call is for none of the endpoints.
    pub(super) fn consented(&self, heard: &Heard) -> Option<Outcome> {
        let (mode, oauth) = self.part.oauth()?;
        let post = heard.method == Method::POST;
        let at = |url: &str| self.part.is_at(mode, url, heard);
        let (door, reply) = if heard.method == Method::GET && at(&oauth.authorize_url) {
            (Door::Authorize, self.consent(oauth, heard))
        } else if post && oauth.device_url.as_ref().is_some_and(|url| at(url)) {
            (Door::Device, self.device(oauth, heard))
        } else if post
            && at(&oauth.token_url)
            && let Some(kind) = grant_type(heard)
        {
            let renews = kind == "refresh_token";
            let door = if renews { Door::Renew } else { Door::Token };
            (door, self.token(oauth, heard))
        } else {
            return None;
        };
        Some(match reply {
            Ok(reply) => Outcome {
                reply,
                served: Served {
                    mode: Some(mode.id.clone()),
                    ..Served::right(door, heard.clone())
                },
            },
            Err(Wrong { error, reason }) => {
                let mut outcome = refused(door, 400, reason, heard.clone());
                if door != Door::Authorize {
                    outcome.reply = refusal(oauth, error);
                }
                outcome
            }
        })
    }

    /// A person who says yes at once.
    fn consent(&self, oauth: &OAuth, heard: &Heard) -> Result<Reply, Wrong> {
        let params = pairs(heard.query().as_bytes())?;
        let client = &self.client;
        let mut expected = self.part.extra(&oauth.authorize_params);
        expected.insert("response_type".to_owned(), "code".to_owned());
        expected.insert("client_id".to_owned(), client.id.clone());
        let scope = self.part.scope(oauth);
        if !scope.is_empty() {
            expected.insert(oauth.scope_param.clone(), scope);
        }
        let mut free = vec!["redirect_uri", "state"];
        if oauth.pkce {
            expected.insert("code_challenge_method".to_owned(), "S256".to_owned());
            free.push("code_challenge");
        }
        same(&params, &expected, &free)?;
        let redirect_uri = params["redirect_uri"].clone();
        if !client.redirect_uris.contains(&redirect_uri) {
            return Err(wrong(format!("`{redirect_uri}` is not registered")));
        }
        let challenge = params.get("code_challenge").cloned();
        if challenge.as_ref().is_some_and(|text| text.len() != 43) {
            return Err(wrong("that is no challenge of S256".to_owned()));
        }
        if params["state"].len() < 22 {
            return Err(wrong("that state could be guessed".to_owned()));
        }
        let mut state = self.state();
        let code = state.grants.fresh("code");
        let mut to = format!(
            "{redirect_uri}?code={code}&state={}",
            escaped(&params["state"])
        );
        if let Some(issuer) = &oauth.issuer {
            to.push_str(&format!("&iss={}", escaped(issuer)));
        }
        let to = self.signed(oauth, to);
        let waiting = Code {
            redirect_uri,
            challenge,
            used: false,
        };
        state.last_code.clone_from(&code);
        state.grants.codes.insert(code, waiting);
        Ok(Reply::text(302, "text/plain", "").with("location", &to))
    }

    /// The address with what the provider repeats in it, and signs of it.
    fn signed(&self, oauth: &OAuth, to: String) -> String {
        let mut to = url::Url::parse(&to).expect("an address of ours");
        for (name, value) in self.part.extra(&oauth.callback_params) {
            to.query_pairs_mut().append_pair(&name, &value);
        }
        if let Some(name) = &oauth.callback_hmac {
            let mut pairs: Vec<_> = to.query_pairs().into_owned().collect();
            pairs.sort();
            let text = form_urlencoded::Serializer::new(String::new())
                .extend_pairs(pairs)
                .finish();
            let secret = self.client.secret.clone().unwrap_or_default();
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
            let tag = hmac::sign(&key, text.as_bytes());
            let tag: String = tag.as_ref().iter().map(|b| format!("{b:02x}")).collect();
            to.query_pairs_mut().append_pair(name, &tag);
        }
        to.into()
    }

    fn device(&self, oauth: &OAuth, heard: &Heard) -> Result<Reply, Wrong> {
        let params = self.of_client(oauth, heard)?;
        let scope = self.part.scope(oauth);
        let scope = (!scope.is_empty()).then(|| (oauth.scope_param.clone(), scope));
        same(&params, &scope.into_iter().collect(), &[])?;
        let mut state = self.state();
        let code = state.grants.fresh("device");
        state
            .grants
            .devices
            .insert(code.clone(), Device { approved: false });
        Ok(Reply::json(
            200,
            &json!({
                "device_code": code, "user_code": "PLAY-0001", "interval": 5, "expires_in": 900,
                "verification_uri": "https://provider.test/device",
            }),
        ))
    }

    fn token(&self, oauth: &OAuth, heard: &Heard) -> Result<Reply, Wrong> {
        let mut params = self.of_client(oauth, heard)?;
        let kind = params.remove("grant_type").unwrap_or_default();
        match kind.as_str() {
            "authorization_code" => self.exchange(oauth, &params),
            "refresh_token" => self.renew(oauth, &params),
            DEVICE_GRANT if oauth.device_url.is_some() => self.poll(oauth, &params),
            _ => Err(wrong(format!("`{kind}` is no grant of this provider"))),
        }
    }

    fn exchange(&self, oauth: &OAuth, params: &Params) -> Result<Reply, Wrong> {
        let mut free = vec!["code"];
        if oauth.redirect_uri_in_exchange {
            free.push("redirect_uri");
        }
        if oauth.pkce {
            free.push("code_verifier");
        }
        same(params, &self.part.extra(&oauth.token_params), &free)?;
        let told = self.is_told(Door::Token);
        let mut state = self.state();
        let Some(waiting) = state.grants.codes.get_mut(&params["code"]) else {
            return Err(wrong("the code was never given out".to_owned()));
        };
        if told {
            return Ok(dead(oauth));
        }
        if std::mem::replace(&mut waiting.used, true) {
            return Ok(dead(oauth));
        }
        if oauth.redirect_uri_in_exchange && params["redirect_uri"] != waiting.redirect_uri {
            return Err(wrong("the redirect URI is another".to_owned()));
        }
        if let Some(challenge) = &waiting.challenge {
            let hash = digest(&SHA256, params["code_verifier"].as_bytes());
            if URL_SAFE_NO_PAD.encode(hash) != *challenge {
                return Err(wrong("the verifier is not the challenge's".to_owned()));
            }
        }
        let mut grant = Grant::default();
        let access = state.grants.fresh("access");
        grant.access.push(access.clone());
        let refresh = (oauth.refresh.class != RefreshClass::None).then(|| {
            let token = state.grants.fresh("refresh");
            grant.refresh.push(token.clone());
            token
        });
        state.grants.all.push(grant);
        Ok(self.granted(oauth, state.shape, &access, refresh.as_deref()))
    }

    fn renew(&self, oauth: &OAuth, params: &Params) -> Result<Reply, Wrong> {
        same(params, &Params::new(), &["refresh_token"])?;
        let token = &params["refresh_token"];
        let told = self.is_told(Door::Renew);
        let mut state = self.state();
        let (access, fresh) = (state.grants.fresh("access"), state.grants.fresh("refresh"));
        let shape = state.shape;
        let knows =
            |grant: &&mut Grant| grant.refresh.contains(token) || grant.spent.contains(token);
        let Some(grant) = state.grants.all.iter_mut().find(knows) else {
            return Err(wrong("the refresh token was never given out".to_owned()));
        };
        if told {
            return Ok(dead(oauth));
        }
        if grant.spent.contains(token) {
            if !grant.revoked {
                grant.replayed = true;
                grant.kill();
            }
            return Ok(dead(oauth));
        }
        grant.renewals += 1;
        let next = match oauth.refresh.class {
            RefreshClass::None | RefreshClass::Reusable => None,
            RefreshClass::Rotating => Some(fresh),
            RefreshClass::SingleUse => {
                // The old access token ends with it.
                grant.ended.append(&mut grant.access);
                grant.spent.append(&mut grant.refresh);
                Some(fresh)
            }
        };
        grant.access.push(access.clone());
        grant.refresh.extend(next.clone());
        Ok(self.granted(oauth, shape, &access, next.as_deref()))
    }

    fn poll(&self, oauth: &OAuth, params: &Params) -> Result<Reply, Wrong> {
        same(
            params,
            &self.part.extra(&oauth.token_params),
            &["device_code"],
        )?;
        let mut state = self.state();
        let Some(device) = state.grants.devices.get(&params["device_code"]) else {
            return Err(wrong("the device is unknown, or was served".to_owned()));
        };
        if !device.approved {
            return Ok(refusal(oauth, "authorization_pending"));
        }
        state.grants.devices.remove(&params["device_code"]);
        let (access, refresh) = (state.grants.fresh("access"), state.grants.fresh("refresh"));
        let with = oauth.refresh.class != RefreshClass::None;
        state.grants.all.push(Grant {
            access: vec![access.clone()],
            refresh: with.then(|| refresh.clone()).into_iter().collect(),
            ..Grant::default()
        });
        Ok(self.granted(
            oauth,
            state.shape,
            &access,
            with.then_some(refresh.as_str()),
        ))
    }

    /// The reply with tokens, shaped as the definition says.
    pub(super) fn granted(
        &self,
        oauth: &OAuth,
        shape: Shape,
        access: &str,
        refresh: Option<&str>,
    ) -> Reply {
        let reply = &oauth.reply;
        let mut body = json!({});
        let mut say = |pointer: &str, value: Value| {
            let all: Vec<&str> = pointer.split('|').collect();
            let pointer = all[shape.alternative.min(all.len() - 1)];
            if !pointer.is_empty() {
                put(&mut body, pointer, value);
            }
        };
        if let Some(ok) = &reply.ok {
            say(ok, json!(true));
        }
        say(&reply.access_token, json!(access));
        if let Some(refresh) = refresh {
            say(&reply.refresh_token, json!(refresh));
            say(&reply.refresh_expires_in, json!(86_400 * 30));
        }
        if !shape.silent {
            say(&reply.expires_in, json!(shape.life.unwrap_or(3600)));
        }
        say(&reply.scope, json!(self.part.scope(oauth)));
        if let Some(kind) = reply.token_types.first() {
            let (first, rest) = kind.split_at(1);
            say(
                &reply.token_type,
                json!(format!("{}{rest}", first.to_uppercase())),
            );
        }
        if let Some(host) = &reply.host {
            say(host, json!(format!("https://{}", self.part.api_host())));
        }
        Reply::json(reply.success[0], &body)
    }

    /// The parameters of a request whose client has proven itself in exactly one way.
    fn of_client(&self, oauth: &OAuth, heard: &Heard) -> Result<Params, Wrong> {
        let mut params = match oauth.request {
            RequestBody::Form => form(heard).map_err(wrong)?,
            RequestBody::Json => object(heard)?,
        };
        let accepts = one(&heard.headers, "accept").map_err(wrong)?;
        if !accepts.contains("application/json") {
            return Err(wrong("JSON is not asked for".to_owned()));
        }
        let client = &self.client;
        let basic = heard.headers.contains_key("authorization");
        let id = params.remove("client_id");
        let secret = params.remove("client_secret");
        let known = match (oauth.client_auth, &client.secret) {
            (ClientAuth::Basic, Some(_)) => {
                id.is_none() && secret.is_none() && self.is_basic(heard)
            }
            (ClientAuth::Body, Some(own)) => {
                !basic && id.as_ref() == Some(&client.id) && secret.as_ref() == Some(own)
            }
            (ClientAuth::None, _) | (_, None) => {
                !basic && id.as_ref() == Some(&client.id) && secret.is_none()
            }
        };
        if known {
            Ok(params)
        } else {
            Err(Wrong {
                error: "invalid_client",
                reason: "the client is not proven in the one way that is defined".to_owned(),
            })
        }
    }

    /// Whether the app proves itself by `Authorization`.
    pub(super) fn is_basic(&self, heard: &Heard) -> bool {
        let client = &self.client;
        let secret = client.secret.as_ref();
        secret.is_some_and(|secret| sealed::is_basic(heard, &client.id, secret))
    }
}

type Params = BTreeMap<String, String>;

/// What is wrong with a request, and the code for it.
struct Wrong {
    error: &'static str,
    reason: String,
}

fn wrong(reason: String) -> Wrong {
    Wrong {
        error: "invalid_request",
        reason,
    }
}

/// The kind of a request that is one of this flow; others may share the address.
fn grant_type(heard: &Heard) -> Option<String> {
    let form = form(heard).or_else(|_| object(heard).map_err(|wrong| wrong.reason));
    let kind = form.ok()?.remove("grant_type")?;
    let kinds = ["authorization_code", "refresh_token", DEVICE_GRANT];
    kinds.contains(&kind.as_str()).then_some(kind)
}

/// Exactly the expected parameters, and the free ones with any value.
fn same(given: &Params, expected: &Params, free: &[&str]) -> Result<(), Wrong> {
    for (name, value) in expected {
        if given.get(name) != Some(value) {
            return Err(wrong(format!("`{name}` must be `{value}`")));
        }
    }
    for name in free {
        if given.get(*name).is_none_or(String::is_empty) {
            return Err(wrong(format!("`{name}` is missing")));
        }
    }
    let known = |name: &&String| expected.contains_key(*name) || free.contains(&name.as_str());
    match given.keys().find(|name| !known(name)) {
        Some(name) => Err(wrong(format!("`{name}` is nothing for this endpoint"))),
        None => Ok(()),
    }
}

fn pairs(text: &[u8]) -> Result<Params, Wrong> {
    let mut params = Params::new();
    for (name, value) in form_urlencoded::parse(text).into_owned() {
        if params.insert(name.clone(), value).is_some() {
            return Err(wrong(format!("`{name}` is there twice")));
        }
    }
    Ok(params)
}

fn object(heard: &Heard) -> Result<Params, Wrong> {
    let kind = one(&heard.headers, "content-type").map_err(wrong)?;
    if kind != "application/json" {
        return Err(wrong(format!("JSON, and no `{kind}`")));
    }
    let members: Map<String, Value> =
        serde_json::from_slice(&heard.body).map_err(|fault| wrong(fault.to_string()))?;
    let text = |(name, value): (String, Value)| match value {
        Value::String(text) => Ok((name, text)),
        _ => Err(wrong(format!("`{name}` is no text"))),
    };
    members.into_iter().map(text).collect()
}

/// A refusal by the standard's code.
pub fn refusal(oauth: &OAuth, error: &str) -> Reply {
    let mut body = json!({});
    let pointer = oauth.reply.error.split('|').next().unwrap_or_default();
    put(&mut body, pointer, json!(error));
    let status = if error == "invalid_client" { 401 } else { 400 };
    Reply::json(status, &body)
}

/// How the provider says that a grant is over: by its own rule, else by the standard's.
pub fn dead(oauth: &OAuth) -> Reply {
    let rules: Vec<Terms> = oauth.rules.iter().map(|rule| (&rule.when).into()).collect();
    let own = (0..rules.len()).filter(|number| oauth.rules[*number].means == Means::Dead);
    let is_dead = |reply: &Reply| refused_as(oauth, reply) == Some(Means::Dead);
    let mut own = own.flat_map(|number| replies_that(&rules, number, is_dead));
    own.next()
        .unwrap_or_else(|| refusal(oauth, "invalid_grant"))
}

/// What an answer of the token endpoint means; `None` where it is no refusal but a reply that has
/// to hold tokens.
pub fn refused_as(oauth: &OAuth, reply: &Reply) -> Option<Means> {
    let body: Option<Value> = serde_json::from_slice(&reply.body).ok();
    let at = |pointers: &str| {
        let mut all = pointers.split('|').filter(|pointer| !pointer.is_empty());
        let body = body.as_ref()?;
        all.find_map(|pointer| body.pointer(pointer).filter(|value| !value.is_null()))
    };
    let error = at(&oauth.reply.error);
    let not_ok = oauth
        .reply
        .ok
        .as_ref()
        .is_some_and(|ok| at(ok) != Some(&Value::Bool(true)));
    if oauth.reply.success.contains(&reply.status) && !not_ok && error.is_none() {
        return None;
    }
    // Without JSON there is nothing to say yes or no.
    if oauth.reply.success.contains(&reply.status) && body.is_none() {
        return None;
    }
    let rules: Vec<Terms> = oauth.rules.iter().map(|rule| (&rule.when).into()).collect();
    if let Some(number) = decides(&rules, reply) {
        return Some(oauth.rules[number].means);
    }
    Some(match (error.and_then(Value::as_str), reply.status) {
        (Some("invalid_grant"), _) => Means::Dead,
        (Some("invalid_client" | "unauthorized_client"), _) => Means::Client,
        (Some("authorization_pending"), _) => Means::Pending,
        (_, 429) => Means::Rate,
        (_, 500..=599) => Means::Down,
        _ => Means::Unclear,
    })
}
