//! Where a call goes: which host is meant, and which address is dialled for it.

use serde_json::Value;

use super::config::Config;
use super::endpoint;
use super::mint::Mint;
use super::model::{Field, HostRule, Kind, Provider};
use super::oauth::API_HOST;
use super::rotation::Rotation;
use super::template::{self, Into};
use crate::egress::{BaseUrl, Schemes, canonical_host};

/// Where a call goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The provider's host that is meant: what policy, entries and signature scopes go by.
    pub logical_host: String,
    /// What is dialled: that host, or where an operator moved the provider.
    pub dial: BaseUrl,
    /// The `Host` header: the dialled host, with its port where it is not the scheme's own.
    pub host_header: String,
}

/// Why there is no destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    /// The text is no base URL.
    #[error("must be scheme and host only, such as https://api.example.com")]
    BaseUrl,
    /// A setting does not fit into the base URL, or is missing.
    #[error("the settings do not make up a host of this provider")]
    Settings,
    /// The host is not the provider's, or the integration did not choose it.
    #[error("the host is not one of this integration's")]
    Host,
    /// The path is outside of what may be called.
    #[error("the path is not one of this provider's")]
    Path,
}

/// Reads scheme and host. `http` is for what an operator names; a provider file says `https`.
pub(super) fn origin(text: &str) -> Result<BaseUrl, DestinationError> {
    BaseUrl::parse(text, Schemes::HttpToo)
        .ok()
        .filter(|url| url.path().is_empty())
        .ok_or(DestinationError::BaseUrl)
}

/// `https`, and its own port.
pub(super) fn is_plain_https(url: &BaseUrl) -> bool {
    url.is_https() && url.port() == 443
}

/// A setting among those that are given, or its default.
fn text_of<'a>(given: &'a Value, setting: &'a Field) -> Option<&'a str> {
    let text = given.get(&setting.name).and_then(Value::as_str);
    text.filter(|text| !text.is_empty())
        .or(setting.default.as_deref())
}

impl Provider {
    /// Where a call goes. `host` is the one that the caller names, if any; `path` is the path on
    /// that host, which has already been checked for ambiguity.
    pub fn destination(
        &self,
        config: &Config,
        host: Option<&str>,
        path: &str,
    ) -> Result<Destination, DestinationError> {
        if !self.takes_path(path) {
            return Err(DestinationError::Path);
        }
        self.destination_of(config, host)
    }

    /// Whether the path, which has already been checked for ambiguity, may be called.
    pub fn takes_path(&self, path: &str) -> bool {
        self.path_prefixes.iter().any(|prefix| {
            path.starts_with(prefix.as_str()) || prefix.strip_suffix('/') == Some(path)
        })
    }

    /// As [`Provider::destination`], for calls that Keystead itself makes.
    ///
    /// # Errors
    /// As there, but for the path.
    pub fn destination_of(
        &self,
        config: &Config,
        host: Option<&str>,
    ) -> Result<Destination, DestinationError> {
        let base = self.base(config)?;
        let home = match host {
            None => base,
            Some(named) => {
                let named = canonical_host(named).map_err(|_| DestinationError::Host)?;
                if *named == *base.host() {
                    base
                } else if self.has_host(config, &named) {
                    origin(&format!("https://{named}"))?
                } else {
                    return Err(DestinationError::Host);
                }
            }
        };
        Ok(self.dialled(home))
    }

    /// The destination of a host that is known to be the provider's.
    pub(super) fn dialled(&self, home: BaseUrl) -> Destination {
        let logical_host = home.host().to_owned();
        let dial = self.dial.clone().unwrap_or(home);
        Destination {
            logical_host,
            host_header: dial.authority().to_owned(),
            dial,
        }
    }

    /// The base URL under these settings, which lies within the provider's hosts.
    pub(super) fn base(&self, config: &Config) -> Result<BaseUrl, DestinationError> {
        let url = match config.value(self, API_HOST) {
            Some(named) => format!("https://{named}"),
            None => config
                .fill(self, &self.base_url, Into::Host)
                .map_err(|_| DestinationError::Settings)?,
        };
        let base = origin(&url)?;
        if self.hosts.is_empty() {
            // The base URL is a setting that was compared with what the operator approved.
            if self.approved.contains(&base) {
                return Ok(base);
            }
        } else if is_plain_https(&base) && self.has_host(config, base.host()) {
            return Ok(base);
        }
        Err(DestinationError::Settings)
    }

    /// Whether a provider's reply may name the host as its API's.
    pub(super) fn may_be_api_host(&self, config: &Config, host: &str) -> bool {
        self.host_choices.iter().any(|rule| rule.matches(host)) || self.has_host(config, host)
    }

    /// The settings that decide where a credential is sent, and differ: whoever may change settings,
    /// but not see the credential, could have it sent to themselves.
    pub fn moved_settings(&self, before: &Value, after: &Value) -> Vec<&str> {
        self.config
            .iter()
            .filter(|setting| setting.name != API_HOST && self.decides_where(setting))
            .filter(|setting| text_of(before, setting) != text_of(after, setting))
            .map(|setting| setting.name.as_str())
            .collect()
    }

    fn decides_where(&self, setting: &Field) -> bool {
        let endpoints = self.modes.iter().flat_map(|mode| {
            let oauth = mode.oauth.iter().flat_map(|oauth| {
                let device = oauth.device_url.as_deref();
                device.into_iter().chain([oauth.token_url.as_str()])
            });
            let revoke = mode.revoke.iter().flat_map(|revoke| &revoke.calls);
            let rotation = mode.rotation.iter().flat_map(Rotation::calls);
            oauth
                .chain(mode.mint.iter().map(Mint::token_url))
                .chain(revoke.chain(rotation).map(|call| call.url.as_str()))
        });
        let authorities = endpoints.filter_map(|url| Some(endpoint::split(url)?.0));
        let mut hosts = self.hosts.iter().map(|rule| rule.text.as_str());
        let named = |template: &str| {
            template::names(template).is_ok_and(|names| names.contains(&setting.name.as_str()))
        };
        matches!(setting.kind, Kind::Url | Kind::Hosts)
            || named(&self.base_url)
            || hosts.any(named)
            || { authorities }.any(named)
    }

    fn has_host(&self, config: &Config, host: &str) -> bool {
        let filled = |rule: &HostRule| {
            rule.is_template() && config.fill(self, &rule.text, Into::Host).as_deref() == Ok(host)
        };
        self.hosts
            .iter()
            .any(|rule| rule.matches(host) || filled(rule))
            || (config.names_host(self, host)
                && self.host_choices.iter().any(|rule| rule.matches(host)))
    }

    /// This provider, dialled elsewhere. Which hosts are meant stays as it is.
    pub fn with_base_url(mut self, url: &str) -> Result<Provider, DestinationError> {
        self.dial = Some(origin(url)?);
        Ok(self)
    }

    /// This provider, with the base URLs that integrations may choose.
    pub fn with_approved<'a>(
        mut self,
        urls: impl IntoIterator<Item = &'a str>,
    ) -> Result<Provider, DestinationError> {
        self.approved = urls.into_iter().map(origin).collect::<Result<_, _>>()?;
        Ok(self)
    }
}
