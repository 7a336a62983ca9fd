//! Where a call goes: which host is meant, and which address is dialled for it.

use super::config::Config;
use super::model::{HostRule, Provider};
use super::template::Into;

/// Scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Whether it is `https`.
    pub https: bool,
    /// In lower case; an IPv6 address in brackets.
    pub host: String,
    /// The port, the scheme's own where none was written.
    pub port: u16,
}

/// Where a call goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The provider's host that is meant: what policy, entries and signature scopes go by.
    pub logical_host: String,
    /// What is dialled: that host, or where an operator moved the provider.
    pub dial: Origin,
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

impl Origin {
    /// Reads `http(s)://host[:port]`, with at most one slash behind. Anything that a URL parser
    /// would rewrite (other spellings of an address, user names, escapes) is refused.
    pub fn parse(text: &str) -> Result<Origin, DestinationError> {
        let fault = DestinationError::BaseUrl;
        let bare = text.strip_suffix('/').unwrap_or(text);
        let url = url::Url::parse(bare).map_err(|_| fault)?;
        let https = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(fault),
        };
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err(fault);
        };
        let origin = Origin {
            https,
            host: host.to_owned(),
            port,
        };
        let scheme = url.scheme();
        if bare == format!("{scheme}://{}", origin.authority())
            || bare == format!("{scheme}://{host}:{port}")
        {
            Ok(origin)
        } else {
            Err(fault)
        }
    }

    /// `host`, or `host:port` where the port is not the scheme's own.
    pub fn authority(&self) -> String {
        if self.port == if self.https { 443 } else { 80 } {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// `https` or `http`.
    pub fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }
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
        let within = |prefix: &String| {
            path.starts_with(prefix.as_str()) || prefix.strip_suffix('/') == Some(path)
        };
        if !self.path_prefixes.iter().any(within) {
            return Err(DestinationError::Path);
        }
        self.destination_of(config, host)
    }

    /// As [`Provider::destination`], for calls that Keystead itself makes.
    pub(super) fn destination_of(
        &self,
        config: &Config,
        host: Option<&str>,
    ) -> Result<Destination, DestinationError> {
        let base = self.base(config)?;
        let home = match host {
            None => base,
            Some(named) => {
                let named = named.to_ascii_lowercase();
                if named == base.host {
                    base
                } else if is_plain_host(&named) && self.has_host(config, &named) {
                    Origin {
                        https: true,
                        host: named,
                        port: 443,
                    }
                } else {
                    return Err(DestinationError::Host);
                }
            }
        };
        Ok(self.dialled(home))
    }

    /// The destination of a host that is known to be the provider's.
    pub(super) fn dialled(&self, home: Origin) -> Destination {
        let logical_host = home.host.clone();
        let dial = self.dial.clone().unwrap_or(home);
        Destination {
            logical_host,
            host_header: dial.authority(),
            dial,
        }
    }

    /// The base URL under these settings, which lies within the provider's hosts.
    pub(super) fn base(&self, config: &Config) -> Result<Origin, DestinationError> {
        let url = config
            .fill(self, &self.base_url, Into::Host)
            .map_err(|_| DestinationError::Settings)?;
        let base = Origin::parse(&url)?;
        if self.hosts.is_empty() {
            // The base URL is a setting that was compared with what the operator approved.
            if self.approved.contains(&base) {
                return Ok(base);
            }
        } else if base.https && base.port == 443 && self.has_host(config, &base.host) {
            return Ok(base);
        }
        Err(DestinationError::Settings)
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
        self.dial = Some(Origin::parse(url)?);
        Ok(self)
    }

    /// This provider, with the base URLs that integrations may choose.
    pub fn with_approved<'a>(
        mut self,
        urls: impl IntoIterator<Item = &'a str>,
    ) -> Result<Provider, DestinationError> {
        self.approved = urls
            .into_iter()
            .map(Origin::parse)
            .collect::<Result<_, _>>()?;
        Ok(self)
    }
}

/// A host name in lower case, of letters, digits, hyphens and dots between labels.
pub(super) fn is_plain_host(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    host.len() <= 253 && host.split('.').all(label)
}
