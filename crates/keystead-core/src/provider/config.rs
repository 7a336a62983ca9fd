//! An integration's settings: what is not secret.

use std::borrow::Cow;
use std::collections::BTreeMap;

use http::HeaderName;
use serde_json::Value;

use super::destination::origin;
use super::model::{Field, Kind, Provider};
use super::oauth::API_HOST;
use super::template::{self, Into, Unfilled};
use super::{FieldFault, Warning, member_path, nearest};

/// Headers that a setting may not name: they carry the framing, the route, the address or another
/// identity, or steer how an answer is kept, cut or encoded.
const FORBIDDEN_HEADERS: [&str; 28] = [
    "accept",
    "accept-encoding",
    "cache-control",
    "cf-connecting-ip",
    "client-ip",
    "connection",
    "cookie",
    "cookie2",
    "expect",
    "fastly-client-ip",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "pragma",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "true-client-ip",
    "upgrade",
    "via",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-host",
    "x-method-override",
    "x-real-ip",
    "x-rewrite-url",
];
/// Likewise, by how they begin.
const FORBIDDEN_FAMILIES: [&str; 9] = [
    "content-",
    "if-",
    "keystead-",
    "proxy-",
    "sec-",
    "x-forwarded",
    "x-http-host",
    "x-http-method",
    "x-original-",
];

fn may_carry_a_credential(name: &HeaderName) -> bool {
    let name = name.as_str();
    // `X_Api_Key` is `X-Api-Key` to servers that hand headers on as variables.
    !name.contains('_')
        && !FORBIDDEN_HEADERS.contains(&name)
        && !FORBIDDEN_FAMILIES
            .iter()
            .any(|family| name.starts_with(family))
}

/// Settings that were checked against their provider; they hold no secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config(BTreeMap<String, String>);

impl Config {
    /// Reads the `config` member of an integration: an object of text, or null. Settings are
    /// checked at every use, so that one which an operator no longer approves stops working.
    pub fn parse(
        provider: &Provider,
        value: &Value,
    ) -> Result<(Config, Vec<Warning>), Vec<FieldFault>> {
        let mut config = Config::default();
        let (mut warnings, mut faults) = (Vec::new(), Vec::new());
        let empty = serde_json::Map::new();
        let members = match value {
            Value::Null => &empty,
            Value::Object(members) => members,
            _ => {
                return Err(vec![FieldFault {
                    path: "config".to_owned(),
                    message: "must be an object".to_owned(),
                }]);
            }
        };
        for (name, value) in members {
            let path = member_path("config", name);
            let fault = match (provider.setting(name), value) {
                (None, _) => Some(match nearest(name, provider.settings()).first() {
                    Some(near) => format!("no such setting; did you mean `{near}`?"),
                    None => "no such setting".to_owned(),
                }),
                (Some(_), Value::Null) => None,
                (Some(setting), Value::String(text)) if text.is_empty() && !setting.required => {
                    None
                }
                (Some(setting), Value::String(text)) => match check(provider, setting, text) {
                    Ok(()) => {
                        if setting.pattern.as_ref().is_some_and(|p| !p.fits(text)) {
                            warnings.push(Warning {
                                path: path.clone(),
                                message: format!("does not look like a {}", setting.label),
                            });
                        }
                        config.0.insert(name.clone(), text.clone());
                        None
                    }
                    Err(message) => Some(message),
                },
                (Some(_), _) => Some("must be text".to_owned()),
            };
            faults.extend(fault.map(|message| FieldFault { path, message }));
        }
        for setting in &provider.config {
            let missing = setting.required
                && setting.default.is_none()
                && !members.contains_key(&setting.name);
            if missing {
                faults.push(FieldFault {
                    path: format!("config.{}", setting.name),
                    message: "is required".to_owned(),
                });
            }
        }
        if faults.is_empty()
            && let Err(message) = provider.base(&config)
        {
            faults.push(FieldFault {
                path: "config".to_owned(),
                message: message.to_string(),
            });
        }
        if faults.is_empty() {
            Ok((config, warnings))
        } else {
            Err(faults)
        }
    }

    /// The setting, or its default.
    pub fn value<'a>(&'a self, provider: &'a Provider, name: &str) -> Option<&'a str> {
        let setting = provider.setting(name)?;
        self.0
            .get(name)
            .map(String::as_str)
            .or(setting.default.as_deref())
    }

    /// Fills a template in over the settings alone.
    pub(crate) fn fill(
        &self,
        provider: &Provider,
        template: &str,
        into: Into,
    ) -> Result<String, Unfilled> {
        template::fill(template, into, |name| self.filling(provider, name))
    }

    /// A setting as a template takes it.
    pub(super) fn filling<'a>(
        &'a self,
        provider: &'a Provider,
        name: &str,
    ) -> Option<(Cow<'a, str>, bool)> {
        let kind = provider.setting(name)?.kind;
        let value = self.value(provider, name)?;
        let raw = matches!(kind, Kind::Path | Kind::Url | Kind::Select);
        Some((Cow::Borrowed(value), raw))
    }

    /// Whether the integration names the host among its own.
    pub(super) fn names_host(&self, provider: &Provider, host: &str) -> bool {
        provider
            .config
            .iter()
            .filter(|setting| setting.kind == Kind::Hosts)
            .filter_map(|setting| self.value(provider, &setting.name))
            .any(|hosts| hosts.split(' ').any(|own| own == host))
    }
}

impl Provider {
    /// The setting of that name.
    pub fn setting(&self, name: &str) -> Option<&Field> {
        self.config.iter().find(|setting| setting.name == name)
    }

    fn settings(&self) -> impl Iterator<Item = &str> {
        self.config.iter().map(|setting| setting.name.as_str())
    }
}

fn check(provider: &Provider, setting: &Field, text: &str) -> Result<(), String> {
    if text.len() > 1024 || text.chars().any(char::is_control) {
        return Err("must be at most 1024 bytes without control characters".to_owned());
    }
    match setting.kind {
        Kind::Select if !setting.options.iter().any(|option| option == text) => {
            Err(format!("must be one of: {}", setting.options.join(", ")))
        }
        Kind::Path => {
            let (path, query) = text.split_once('?').unwrap_or((text, ""));
            let visible = |b: u8| b.is_ascii_graphic() && b != b'#';
            if crate::path::check(path).is_ok() && query.bytes().all(visible) {
                Ok(())
            } else {
                Err("must be a plain absolute path, such as /v1/ping".to_owned())
            }
        }
        Kind::HeaderName => match HeaderName::from_bytes(text.as_bytes()) {
            Ok(name) if may_carry_a_credential(&name) => Ok(()),
            _ => Err("is no name of a header that can carry a credential".to_owned()),
        },
        Kind::Url => match origin(text) {
            Ok(url) if provider.approved.contains(&url) => Ok(()),
            Ok(_) => Err("is not among the base URLs that the operator approved".to_owned()),
            Err(fault) => Err(fault.to_string()),
        },
        Kind::Hosts => {
            // The API's own host makes up the base URL, and is checked with that.
            let choice = |host: &str| {
                setting.name == API_HOST
                    || provider.host_choices.iter().any(|rule| rule.matches(host))
            };
            match text.split(' ').find(|host| !choice(host)) {
                None => Ok(()),
                Some(_) => Err(format!(
                    "must be hosts out of {}, separated by single spaces",
                    provider
                        .host_choices
                        .iter()
                        .map(|rule| rule.text.as_str())
                        .collect::<Vec<_>>()
                        .join(", ")
                )),
            }
        }
        Kind::Text | Kind::Multiline | Kind::File | Kind::Select => match &setting.equals {
            Some(only) if only != text => Err(format!("must be `{only}`")),
            _ => Ok(()),
        },
    }
}
