//! Calls that a provider file describes and Keystead makes itself, such as a revocation: their
//! templates, and the requests that become of them.
//!
//! What always holds: a secret stands in a header, a form or a JSON text, encoded for it, never in
//! an address; a call whose placeholder has no value is not made; what an answer does not clearly
//! confirm is not confirmed.

use std::borrow::Cow;
use std::collections::BTreeMap;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use zeroize::Zeroizing;

use super::config::Config;
use super::destination::Destination;
use super::fields::Fields;
use super::mint::MintedToken;
use super::model::{Mode, Provider};
use super::oauth::{App, Json, OAuthError, basic};
use super::parse::{Check, require};
use super::test_call::{Answer, Conditions};
use super::{body, endpoint, template};
use crate::placement::{Head, Material, PlaceError, place};
use crate::time::Time;

/// A call, as the file describes it. Its templates know the settings, the parts of the
/// credential, and in an OAuth mode `client_id` and `client_secret` of the app; `{a|b}` is the
/// first of them that there is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// The method.
    #[serde(deserialize_with = "method")]
    pub method: Method,
    /// Where to; a template without secrets.
    pub url: String,
    /// How it is authorised.
    pub auth: CallAuth,
    /// Further headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body, as a form: templates.
    #[serde(default)]
    pub form: Option<BTreeMap<String, String>>,
    /// The body, as the text of a JSON value whose texts are templates.
    #[serde(default, deserialize_with = "json")]
    pub json: Option<Value>,
    /// The statuses that confirm it.
    #[serde(default = "success")]
    pub ok: Vec<u16>,
    /// The statuses that say that there was nothing left to do.
    #[serde(default)]
    pub gone: Vec<u16>,
    /// Confirmed, it ended the whole grant, whichever of its tokens it was asked with.
    #[serde(default)]
    pub whole: bool,
    /// What its confirmation does not prove, for whoever reads the receipt.
    #[serde(default)]
    pub remark: Option<String>,
    /// What an answer means, before its status is looked at; the first that fits decides.
    #[serde(default, rename = "rule")]
    pub rules: Vec<OutcomeRule>,
}

/// How a call is authorised.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CallAuth {
    /// By the app's id and secret.
    AppBasic,
    /// By two fields, `Authorization: Basic`.
    Basic {
        /// The field with the user.
        user: String,
        /// The field with the password.
        password: String,
    },
    /// By a field of its own, `Authorization: Bearer`.
    Bearer(String),
    /// By the credential, as any call.
    Placed,
    /// By a token that is made from the credential.
    Token,
    /// Not at all.
    None,
}

/// What a call's templates know beside settings and fields, and what authorises it beside them.
#[derive(Clone, Copy, Default)]
pub(super) struct More<'a> {
    /// Names and values; none is secret.
    pub(super) texts: &'a [(&'static str, &'a str)],
    /// Lists that stand in a JSON body in the place of a text that is their name alone.
    pub(super) lists: &'a [(String, Vec<String>)],
    /// For [`CallAuth::Token`].
    pub(super) token: Option<&'a MintedToken>,
}

/// A way to read the answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutcomeRule {
    /// When it is meant.
    #[serde(flatten)]
    pub when: Conditions,
    /// What it means.
    pub means: Outcome,
}

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    Confirmed,
    /// There was nothing left to do.
    Gone,
    /// It was not done, or that cannot be told.
    Failed,
}

/// A call, ready to be made.
pub struct ProviderCall {
    /// What is sent.
    pub request: ProviderRequest,
    /// The statuses that confirm it.
    pub ok: Vec<u16>,
    /// The statuses that say that there was nothing left to do.
    pub gone: Vec<u16>,
    /// Confirmed, it ended the whole grant, whichever of its tokens it was asked with.
    pub whole: bool,
    /// What its confirmation does not prove.
    pub remark: Option<String>,
    /// What an answer means, before its status is looked at.
    pub rules: Vec<OutcomeRule>,
}

impl CallAuth {
    /// The fields that it names.
    pub(super) fn fields(&self) -> impl Iterator<Item = &str> {
        let (one, two) = match self {
            CallAuth::Basic { user, password } => (Some(user), Some(password)),
            CallAuth::Bearer(field) => (Some(field), None),
            _ => (None, None),
        };
        one.into_iter().chain(two).map(String::as_str)
    }
}

/// What is sent; it holds secrets.
pub struct ProviderRequest {
    /// Where to.
    pub destination: Destination,
    /// The method.
    pub method: Method,
    /// The path there, and the query where there is one.
    pub path: String,
    /// All headers but `Host` and the length.
    pub headers: HeaderMap,
    /// The body.
    pub body: Zeroizing<Vec<u8>>,
}

impl ProviderCall {
    /// What the answer says.
    pub fn outcome(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> Outcome {
        if !self.rules.is_empty() {
            let answer = Answer::new(status, headers, body);
            if let Some(rule) = self.rules.iter().find(|rule| rule.when.fit(&answer)) {
                return rule.means;
            }
        }
        if self.ok.contains(&status) {
            Outcome::Confirmed
        } else if self.gone.contains(&status) {
            Outcome::Gone
        } else {
            Outcome::Failed
        }
    }
}

impl Call {
    /// The request; `None` where a placeholder has no value, or what authorises it is missing.
    pub(super) fn request(
        &self,
        known: &Known<'_>,
        now: Time,
    ) -> Result<Option<ProviderCall>, OAuthError> {
        let Known {
            provider,
            config,
            app,
            fields,
            ..
        } = *known;
        let open = |name: &str| Some((Cow::Borrowed(known.open(name)?), known.raw(name)));
        let Some((home, path)) = endpoint::fill(provider, config, &self.url, open) else {
            return Ok(None);
        };
        let Some((kind, body)) = self.body(known) else {
            return Ok(None);
        };
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static("keystead"));
        for (name, value) in &self.headers {
            let name = HeaderName::from_lowercase(name.as_bytes());
            headers.insert(
                name.map_err(|_| PlaceError::Header)?,
                HeaderValue::from_str(value).map_err(|_| PlaceError::Header)?,
            );
        }
        if let Some(kind) = kind {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        let mut request = ProviderRequest {
            destination: provider.dialled(home),
            method: self.method.clone(),
            path,
            headers,
            body,
        };
        match &self.auth {
            CallAuth::None => {}
            CallAuth::Basic { user, password } => {
                let (Some(user), Some(password)) = (fields.get(user), fields.get(password)) else {
                    return Ok(None);
                };
                let value = plain_basic(user, password)?;
                request.headers.insert(AUTHORIZATION, value);
            }
            CallAuth::Bearer(field) => {
                let Some(bearer) = fields.get(field) else {
                    return Ok(None);
                };
                request.headers.insert(AUTHORIZATION, as_bearer(bearer)?);
            }
            CallAuth::Token => {
                let Some(token) = known.more.token else {
                    return Ok(None);
                };
                let value = as_bearer(token.expose())?;
                request.headers.insert(AUTHORIZATION, value);
            }
            CallAuth::AppBasic => {
                let Some(App {
                    client_id,
                    client_secret: Some(secret),
                }) = app
                else {
                    return Ok(None);
                };
                let value = basic(client_id, secret)?;
                request.headers.insert(AUTHORIZATION, value);
            }
            CallAuth::Placed => request.place(provider, config, fields, now)?,
        }
        Ok(Some(ProviderCall {
            request,
            ok: self.ok.clone(),
            gone: self.gone.clone(),
            whole: self.whole,
            remark: self.remark.clone(),
            rules: self.rules.clone(),
        }))
    }

    /// The body and its type; `None` where a placeholder has no value.
    fn body(&self, known: &Known<'_>) -> Option<(Option<&'static str>, Zeroizing<Vec<u8>>)> {
        if let Some(form) = &self.form {
            let filled: Vec<(&str, Zeroizing<String>)> = form
                .iter()
                .map(|(name, value)| Some((name.as_str(), known.fill(value)?)))
                .collect::<Option<_>>()?;
            let pairs: Vec<(&str, &str)> = filled.iter().map(|(n, v)| (*n, v.as_str())).collect();
            let kind = "application/x-www-form-urlencoded";
            return Some((Some(kind), body::form(&pairs)));
        }
        match &self.json {
            Some(json) => {
                let filled = known.fill_json(json)?;
                Some((Some("application/json"), body::json(&filled)))
            }
            None => Some((None, Zeroizing::default())),
        }
    }
}

impl ProviderRequest {
    /// Puts the credential on it as on any call.
    fn place(
        &mut self,
        provider: &Provider,
        config: &Config,
        fields: &Fields,
        now: Time,
    ) -> Result<(), PlaceError> {
        let (path, query) = match self.path.split_once('?') {
            Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
            None => (self.path.clone(), None),
        };
        let mut head = Head {
            method: self.method.clone(),
            logical_host: self.destination.logical_host.clone(),
            host_header: self.destination.host_header.clone(),
            path,
            query,
            headers: std::mem::take(&mut self.headers),
        };
        let hash = digest::digest(&digest::SHA256, &self.body);
        let hash = hash.as_ref().try_into().ok();
        place(
            provider,
            Material::Fields(fields),
            config,
            &mut head,
            now,
            hash,
        )?;
        self.headers = head.headers;
        self.path = match head.query {
            Some(query) => format!("{}?{query}", head.path),
            None => head.path,
        };
        Ok(())
    }
}

/// What the placeholders of a call stand for.
pub(super) struct Known<'a> {
    pub(super) provider: &'a Provider,
    pub(super) mode: &'a Mode,
    pub(super) config: &'a Config,
    pub(super) app: Option<&'a App>,
    pub(super) fields: &'a Fields,
    pub(super) more: More<'a>,
}

impl<'a> Known<'a> {
    /// The first of the names that there is.
    fn value(&self, names: &str) -> Option<&'a str> {
        names.split('|').find_map(|name| {
            let app = self.app.filter(|_| self.mode.oauth.is_some());
            let app = match name {
                "client_id" => app.map(|app| app.client_id.as_str()),
                "client_secret" => {
                    app.and_then(|app| app.client_secret.as_ref().map(|s| s.as_str()))
                }
                _ => None,
            };
            let more = self.more.texts.iter().find(|(own, _)| *own == name);
            more.map(|(_, value)| *value)
                .or(app)
                .or_else(|| self.fields.get(name))
                .or_else(|| self.config.value(self.provider, name))
                .filter(|value| !value.is_empty())
        })
    }

    /// As [`Known::value`], where none of the names is a secret's.
    fn open(&self, names: &str) -> Option<&'a str> {
        let secret = |name| self.mode.field(name).is_some_and(|field| field.secret);
        self.value(names).filter(|_| !names.split('|').any(secret))
    }

    /// Whether the setting was checked as a path when it came in.
    fn raw(&self, name: &str) -> bool {
        let filling = self.config.filling(self.provider, name);
        filling.is_some_and(|(_, raw)| raw)
    }

    /// The template, filled in, in a buffer that never moved.
    fn fill(&self, text: &str) -> Option<Zeroizing<String>> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, tail)) = rest.split_once('{') {
            let (names, after) = tail.split_once('}')?;
            parts.extend([before, self.value(names)?]);
            rest = after;
        }
        parts.push(rest);
        let room = parts.iter().map(|part| part.len()).sum();
        let mut filled = Zeroizing::new(String::with_capacity(room));
        parts.iter().for_each(|part| filled.push_str(part));
        Some(filled)
    }

    /// The list that the whole text names.
    fn list(&self, text: &str) -> Option<Json> {
        let name = text.strip_prefix('{')?.strip_suffix('}')?;
        let (_, items) = self.more.lists.iter().find(|(own, _)| own == name)?;
        let text = |item: &String| Json::Text(Zeroizing::new(item.clone()));
        Some(Json::List(items.iter().map(text).collect()))
    }

    fn fill_json(&self, value: &Value) -> Option<Json> {
        Some(match value {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Number(value) => Json::Number(value.clone()),
            Value::String(text) => match self.list(text) {
                Some(list) => list,
                None => Json::Text(self.fill(text)?),
            },
            Value::Array(items) => {
                let items = items.iter().map(|item| self.fill_json(item));
                Json::List(items.collect::<Option<_>>()?)
            }
            Value::Object(members) => {
                let members = members
                    .iter()
                    .map(|(name, value)| Some((name.clone(), self.fill_json(value)?)));
                Json::Object(members.collect::<Option<_>>()?)
            }
        })
    }
}

impl Provider {
    /// `more`: names that its templates know beside.
    pub(super) fn check_call(&self, key: &str, mode: &Mode, call: &Call, more: &[&str]) -> Check {
        let known = |name: &str| {
            mode.field(name).is_some() || self.setting(name).is_some() || more.contains(&name)
        };
        let secret = |name: &str| mode.field(name).is_some_and(|field| field.secret);
        let check = |key: &str, text: &str, open: bool| -> Check {
            for names in template::names(text).map_err(|()| format!("{key}: braces do not pair"))? {
                for name in names.split('|') {
                    require(
                        known(name),
                        &format!("{key}: `{{{name}}}` is no setting and no field"),
                    )?;
                    require(
                        !open || !secret(name),
                        &format!("{key}: `{{{name}}}` is secret, and addresses are written down"),
                    )?;
                }
            }
            Ok(())
        };
        check(&format!("{key}.url"), &call.url, true)?;
        self.check_endpoint(&format!("{key}.url"), &call.url)?;
        require(
            !call.url.contains('#'),
            &format!("{key}.url: has no fragment"),
        )?;
        for (name, value) in &call.headers {
            require(
                HeaderName::from_lowercase(name.as_bytes()).is_ok()
                    && HeaderValue::from_str(value).is_ok(),
                &format!("{key}.headers: `{name}` is no header"),
            )?;
        }
        require(
            call.form.is_none() || call.json.is_none(),
            &format!("{key}: `form` or `json`, not both"),
        )?;
        require(
            call.method != Method::GET || (call.form.is_none() && call.json.is_none()),
            &format!("{key}: GET has no body"),
        )?;
        for (name, value) in call.form.iter().flatten() {
            check(&format!("{key}.form.{name}"), value, false)?;
        }
        let mut texts = Vec::new();
        call.json.iter().for_each(|json| collect(json, &mut texts));
        for text in texts {
            check(&format!("{key}.json"), text, false)?;
        }
        require(
            call.auth != CallAuth::AppBasic || mode.oauth.is_some(),
            &format!("{key}.auth: only an OAuth mode has an app"),
        )?;
        require(
            !call.whole || mode.oauth.is_some(),
            &format!("{key}.whole: only an OAuth mode has grants"),
        )?;
        require(
            call.auth != CallAuth::Placed || mode.mint.is_none(),
            &format!("{key}.auth: a credential that tokens are made from is not placed"),
        )?;
        require(
            call.auth != CallAuth::Token || mode.mint.is_some(),
            &format!("{key}.auth: no token is made from this credential"),
        )?;
        for field in call.auth.fields() {
            require(
                mode.field(field).is_some(),
                &format!("{key}.auth: the mode has no field `{field}`"),
            )?;
        }
        let status = |status: &u16| (200..600).contains(status);
        require(
            call.ok.iter().chain(&call.gone).all(status),
            &format!("{key}: `ok` and `gone` are statuses"),
        )?;
        let confirms = |rule: &OutcomeRule| rule.means == Outcome::Confirmed;
        require(
            !call.ok.is_empty() || call.rules.iter().any(confirms),
            &format!("{key}.ok: nothing would confirm it"),
        )?;
        for (index, rule) in call.rules.iter().enumerate() {
            rule.when
                .check()
                .map_err(|message| format!("{key}.rule number {}: {message}", index + 1))?;
        }
        Ok(())
    }
}

impl Call {
    /// All templates of its body.
    pub(super) fn texts(&self) -> Vec<&str> {
        let mut texts: Vec<&str> = Vec::new();
        self.json.iter().for_each(|json| collect(json, &mut texts));
        texts.extend(
            self.form
                .iter()
                .flat_map(BTreeMap::values)
                .map(String::as_str),
        );
        texts
    }
}

/// The texts of a value.
fn collect<'v>(value: &'v Value, texts: &mut Vec<&'v str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(items) => items.iter().for_each(|item| collect(item, texts)),
        Value::Object(members) => members.values().for_each(|member| collect(member, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// As RFC 7617 has it; an app's id and secret are percent-encoded first, these are not.
fn plain_basic(user: &str, password: &str) -> Result<HeaderValue, PlaceError> {
    let mut pair = Zeroizing::new(String::with_capacity(user.len() + password.len() + 1));
    [user, ":", password]
        .iter()
        .for_each(|part| pair.push_str(part));
    let mut text = Zeroizing::new(String::with_capacity(pair.len() * 4 / 3 + 16));
    text.push_str("Basic ");
    STANDARD.encode_string(pair.as_bytes(), &mut text);
    sensitive(&text)
}

fn sensitive(text: &str) -> Result<HeaderValue, PlaceError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| PlaceError::Header)?;
    value.set_sensitive(true);
    Ok(value)
}

fn as_bearer(token: &str) -> Result<HeaderValue, PlaceError> {
    let mut text = Zeroizing::new(String::with_capacity("Bearer ".len() + token.len()));
    text.push_str("Bearer ");
    text.push_str(token);
    sensitive(&text)
}

fn success() -> Vec<u16> {
    vec![200, 204]
}

fn method<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Method, D::Error> {
    let text = String::deserialize(deserializer)?;
    [
        Method::DELETE,
        Method::GET,
        Method::PATCH,
        Method::POST,
        Method::PUT,
    ]
    .into_iter()
    .find(|method| method.as_str() == text)
    .ok_or_else(|| serde::de::Error::custom(format!("`{text}` is no method of a call")))
}

fn json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    let text = String::deserialize(deserializer)?;
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|fault| serde::de::Error::custom(format!("json: {fault}")))
}
