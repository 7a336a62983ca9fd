//! Trying a credential: the call that shows whether it works, and how its answer is read.
//!
//! What always holds: a credential is called bad only where the provider said so. What no rule
//! covers falls to the status, and what the status leaves open is `indeterminate`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::Config;
use super::fields::Fields;
use super::model::{Mode, Provider, method};
use super::template::{self, Into};
use crate::time::Time;

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResultClass {
    /// It works.
    Ok,
    /// The provider does not know it, or not any more.
    BadKey,
    /// Its time is over.
    Expired,
    /// It is genuine, but may not do this.
    NoPerm,
    /// Too many calls; nothing was learnt.
    Rate,
    /// It is genuine; its quota or balance is used up.
    Quota,
    /// The provider has trouble; nothing was learnt.
    Down,
    /// The answer proves nothing.
    Indeterminate,
}

impl ResultClass {
    /// As the API and entries say it.
    pub const fn as_str(self) -> &'static str {
        match self {
            ResultClass::Ok => "ok",
            ResultClass::BadKey => "bad_key",
            ResultClass::Expired => "expired",
            ResultClass::NoPerm => "no_perm",
            ResultClass::Rate => "rate",
            ResultClass::Quota => "quota",
            ResultClass::Down => "down",
            ResultClass::Indeterminate => "indeterminate",
        }
    }

    /// What it means, for a person, where a rule does not say it better.
    pub const fn message(self) -> &'static str {
        match self {
            ResultClass::Ok => "The credential works.",
            ResultClass::BadKey => "The provider does not accept this credential.",
            ResultClass::Expired => "The credential has expired.",
            ResultClass::NoPerm => "The credential is genuine, but lacks a permission.",
            ResultClass::Rate => "The provider asks for fewer calls; try again later.",
            ResultClass::Quota => "The credential is genuine, but its quota is used up.",
            ResultClass::Down => "The provider has trouble; try again later.",
            ResultClass::Indeterminate => "The answer does not show whether the credential works.",
        }
    }
}

/// A call that shows whether a credential works.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestCall {
    /// Whether minting a token is the test; then there is no call of its own.
    #[serde(default)]
    pub mint: bool,
    /// GET unless said otherwise.
    #[serde(default = "get", deserialize_with = "method")]
    pub method: Method,
    /// Which of the provider's hosts, where it is not that of `base_url`; a template over the
    /// config.
    #[serde(default)]
    pub host: Option<String>,
    /// The path and query; a template.
    #[serde(default)]
    pub path: Option<String>,
    /// Headers beside the provider's own.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body.
    #[serde(default)]
    pub body: String,
    /// How to read the answer; the first that fits decides.
    #[serde(default, rename = "rule")]
    pub rules: Vec<Rule>,
}

/// A way to read an answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// When it is meant.
    #[serde(flatten)]
    pub when: Conditions,
    /// What it means.
    pub result: ResultClass,
    /// What it means, for a person.
    #[serde(default)]
    pub message: Option<String>,
}

/// What is asked of an answer; all that are given must hold. Unknown keys are refused by the rule
/// that they are a part of.
#[derive(Clone, Debug, Deserialize)]
pub struct Conditions {
    /// Which status.
    #[serde(default)]
    pub status: Option<Status>,
    /// Where to look in a JSON body (RFC 6901; a segment `*` means any element).
    #[serde(default)]
    pub pointer: Option<String>,
    /// What stands there: this.
    #[serde(default)]
    pub equals: Option<Value>,
    /// What stands there: one of these.
    #[serde(default)]
    pub any_of: Option<Vec<Value>>,
    /// What stands there: text that holds this, letter case ignored.
    #[serde(default)]
    pub contains: Option<String>,
    /// What stands there: a number from the first to the last.
    #[serde(default)]
    pub between: Option<[i64; 2]>,
    /// Text that the body holds anywhere, letter case ignored.
    #[serde(default)]
    pub text: Option<String>,
    /// A header that must be there.
    #[serde(default)]
    pub header: Option<String>,
}

/// Which statuses: one, several, or a class such as `5xx`.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Status {
    /// This one.
    One(u16),
    /// One of these.
    Many(Vec<u16>),
    /// `2xx` to `5xx`.
    Class(String),
}

/// A test call, ready but for the credential.
#[derive(Clone, Debug)]
pub struct TestRequest {
    /// GET or POST.
    pub method: Method,
    /// Which of the provider's hosts, where it is not that of the base URL.
    pub host: Option<String>,
    /// The path there.
    pub path: String,
    /// What follows the question mark.
    pub query: Option<String>,
    /// Headers beside the provider's own.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

fn get() -> Method {
    Method::GET
}

impl Provider {
    /// How a mode's credential is tried.
    pub fn test_of<'p>(&'p self, mode: &'p Mode) -> Option<&'p TestCall> {
        mode.test.as_ref().or(self.test.as_ref())
    }

    /// The call that tries the credential; `None` where minting a token is the test, or where a
    /// setting that the call needs is not given: then it cannot be tried.
    pub fn test_request(&self, fields: &Fields, config: &Config, now: Time) -> Option<TestRequest> {
        let mode = fields.mode(self)?;
        let test = self.test_of(mode)?;
        let millis = now.0.div_euclid(1000);
        let target = template::fill(test.path.as_deref()?, Into::Path, |name| match name {
            "now_ms" => Some((millis.to_string().into(), false)),
            "day_ago_ms" => Some(((millis - 86_400_000).to_string().into(), false)),
            _ => filling(self, mode, fields, config, name),
        });
        let target = target.ok()?;
        let host = match &test.host {
            Some(host) => Some(config.fill(self, host, Into::Host).ok()?),
            None => None,
        };
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
            None => (target, None),
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &test.headers {
            headers.insert(
                HeaderName::from_lowercase(name.as_bytes()).ok()?,
                HeaderValue::from_str(value).ok()?,
            );
        }
        Some(TestRequest {
            method: test.method.clone(),
            host,
            path,
            query,
            headers,
            body: test.body.clone().into_bytes(),
        })
    }
}

/// A setting, or a field that is not secret.
pub(super) fn filling<'a>(
    provider: &'a Provider,
    mode: &Mode,
    fields: &'a Fields,
    config: &'a Config,
    name: &str,
) -> Option<(Cow<'a, str>, bool)> {
    config.filling(provider, name).or_else(|| {
        let open = mode.field(name).is_some_and(|field| !field.secret);
        let value = open.then(|| fields.get(name)).flatten()?;
        Some((Cow::Borrowed(value), false))
    })
}

/// What an answer means, and how to say it to a person.
pub fn classify<'t>(
    test: &'t TestCall,
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
) -> (ResultClass, &'t str) {
    let answer = Answer::new(status, headers, body);
    let rule = test.rules.iter().find(|rule| rule.when.fit(&answer));
    match rule {
        Some(rule) => (
            rule.result,
            rule.message.as_deref().unwrap_or(rule.result.message()),
        ),
        None => {
            let result = by_status(status);
            (result, result.message())
        }
    }
}

fn by_status(status: u16) -> ResultClass {
    match status {
        200..=299 => ResultClass::Ok,
        401 => ResultClass::BadKey,
        402 => ResultClass::Quota,
        403 => ResultClass::NoPerm,
        429 => ResultClass::Rate,
        500..=599 => ResultClass::Down,
        _ => ResultClass::Indeterminate,
    }
}

/// An answer, made ready for conditions.
pub(super) struct Answer<'a> {
    status: u16,
    headers: &'a HeaderMap,
    json: Option<Value>,
    text: String,
}

impl<'a> Answer<'a> {
    pub(super) fn new(status: u16, headers: &'a HeaderMap, body: &[u8]) -> Answer<'a> {
        Answer {
            status,
            headers,
            json: serde_json::from_slice(body).ok(),
            text: String::from_utf8_lossy(body).to_ascii_lowercase(),
        }
    }
}

impl Rule {
    pub(super) fn check(&self) -> Result<(), String> {
        self.when.check()?;
        let success = self.when.status.as_ref().is_some_and(Status::is_success);
        if self.result == ResultClass::Ok && !success {
            return Err("result: only an answer of 2xx can be ok".to_owned());
        }
        Ok(())
    }
}

impl Conditions {
    pub(super) fn fit(&self, answer: &Answer<'_>) -> bool {
        self.status.as_ref().is_none_or(|s| s.fits(answer.status))
            && self
                .header
                .as_ref()
                .is_none_or(|h| answer.headers.contains_key(h))
            && self
                .text
                .as_ref()
                .is_none_or(|t| answer.text.contains(&t.to_ascii_lowercase()))
            && self.pointer.as_ref().is_none_or(|pointer| {
                answer.json.as_ref().is_some_and(|json| {
                    let path = pointer.strip_prefix('/').unwrap_or_default();
                    any_at(json, path, &|value| self.holds(value))
                })
            })
    }

    fn holds(&self, value: &Value) -> bool {
        let text = || value.as_str().unwrap_or_default().to_ascii_lowercase();
        self.equals.as_ref().is_none_or(|other| other == value)
            && self.any_of.as_ref().is_none_or(|all| all.contains(value))
            && self
                .contains
                .as_ref()
                .is_none_or(|part| text().contains(&part.to_ascii_lowercase()))
            && self.between.is_none_or(|[first, last]| {
                value.as_i64().is_some_and(|n| (first..=last).contains(&n))
            })
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let on_value = self.equals.is_some()
            || self.any_of.is_some()
            || self.contains.is_some()
            || self.between.is_some();
        match &self.pointer {
            Some(pointer) if !pointer.starts_with('/') => {
                return Err("pointer: must begin with a slash".to_owned());
            }
            None if on_value => return Err("a condition on a value needs `pointer`".to_owned()),
            Some(_) | None => {}
        }
        if let Some(Status::Class(class)) = &self.status
            && !["2xx", "3xx", "4xx", "5xx"].contains(&class.as_str())
        {
            return Err(format!("status: `{class}` is none of 2xx 3xx 4xx 5xx"));
        }
        Ok(())
    }
}

impl Status {
    fn fits(&self, status: u16) -> bool {
        match self {
            Status::One(one) => *one == status,
            Status::Many(many) => many.contains(&status),
            Status::Class(class) => {
                class.as_bytes().first().copied() == Some(b'0' + (status / 100) as u8)
            }
        }
    }

    fn is_success(&self) -> bool {
        match self {
            Status::One(one) => (200..300).contains(one),
            Status::Many(many) => many.iter().all(|one| (200..300).contains(one)),
            Status::Class(class) => class == "2xx",
        }
    }
}

/// Whether the test holds for a value at the path, whose `*` stands for every element.
fn any_at(value: &Value, path: &str, test: &dyn Fn(&Value) -> bool) -> bool {
    let (segment, rest) = match path.split_once('/') {
        Some((segment, rest)) => (segment, Some(rest)),
        None => (path, None),
    };
    let below = |value: &Value| match rest {
        Some(rest) => any_at(value, rest, test),
        None => test(value),
    };
    match value {
        Value::Array(items) if segment == "*" => items.iter().any(below),
        Value::Array(items) => segment
            .parse::<usize>()
            .ok()
            .and_then(|index| items.get(index))
            .is_some_and(below),
        Value::Object(members) => members.get(segment).is_some_and(below),
        _ => false,
    }
}
