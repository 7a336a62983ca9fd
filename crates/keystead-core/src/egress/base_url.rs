//! Base URLs that an operator or a tenant supplies.
//!
//! What always holds here: the text is taken only if the WHATWG parser, printing what it
//! understood, prints the same text. So `\`, tabs, decimal and hexadecimal addresses, upper-case or
//! percent-encoded hosts and default ports are refused instead of being understood twice.

use std::fmt;

use url::Url;

use super::host::{HostFault, canonical_host};
use crate::path::{self, PathFault};

/// Which schemes a base URL may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schemes {
    /// `https` only.
    Https,
    /// `https`, and `http` because a setting of the operator says so.
    HttpToo,
}

/// Why a text is not a base URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlFault {
    /// Not a URL at all.
    #[error("not an absolute URL")]
    Syntax,
    /// Not `https`.
    #[error("the scheme must be https")]
    Scheme,
    /// A user name or a password.
    #[error("a URL here has no user name or password")]
    UserInfo,
    /// A query or a fragment.
    #[error("a URL here has no query and no fragment")]
    Suffix,
    /// Reads as something other than what is written.
    #[error("the URL is not written in its canonical form")]
    NotCanonical,
    /// The host is not one.
    #[error("{0}")]
    Host(#[from] HostFault),
    /// The path is ambiguous.
    #[error("{0}")]
    Path(#[from] PathFault),
}

/// `https://host[:port][/path]`, checked. Whether its address may be dialled is [`super::Guard`]'s.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BaseUrl {
    text: Box<str>,
    https: bool,
    host_end: usize,
    path_start: usize,
    port: u16,
}

impl BaseUrl {
    /// Reads a base URL; a single trailing slash is dropped.
    ///
    /// # Errors
    /// [`UrlFault`], which never repeats the text.
    pub fn parse(text: &str, schemes: Schemes) -> Result<Self, UrlFault> {
        let url = Url::parse(text).map_err(|_| UrlFault::Syntax)?;
        let https = match (url.scheme(), schemes) {
            ("https", _) => true,
            ("http", Schemes::HttpToo) => false,
            _ => return Err(UrlFault::Scheme),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlFault::UserInfo);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(UrlFault::Suffix);
        }
        let read = url.as_str();
        if read != text && read.strip_suffix('/') != Some(text) {
            return Err(UrlFault::NotCanonical);
        }
        let host = url.host_str().ok_or(UrlFault::Syntax)?;
        if *canonical_host(host)? != *host {
            return Err(UrlFault::NotCanonical);
        }
        path::check(url.path())?;
        let port = url.port_or_known_default().ok_or(UrlFault::Syntax)?;
        let host_start = url.scheme().len() + 3;
        let authority = host.len() + url.port().map_or(0, |port| format!(":{port}").len());
        Ok(Self {
            https,
            port,
            host_end: host_start + host.len(),
            path_start: host_start + authority,
            text: read.strip_suffix('/').unwrap_or(read).into(),
        })
    }

    fn host_start(&self) -> usize {
        if self.https { 8 } else { 7 }
    }
    /// `https` or `http`.
    pub fn scheme(&self) -> &str {
        if self.https { "https" } else { "http" }
    }
    /// Whether the connection is to be encrypted.
    pub fn is_https(&self) -> bool {
        self.https
    }
    /// The host in canonical form; IPv6 in brackets.
    pub fn host(&self) -> &str {
        &self.text[self.host_start()..self.host_end]
    }
    /// The port, the scheme's own if none was written.
    pub fn port(&self) -> u16 {
        self.port
    }
    /// What the `Host` header says: `host`, or `host:port`.
    pub fn authority(&self) -> &str {
        &self.text[self.host_start()..self.path_start]
    }
    /// `scheme://authority`.
    pub fn origin(&self) -> &str {
        &self.text[..self.path_start]
    }
    /// The path without a trailing slash; empty for the root.
    pub fn path(&self) -> &str {
        &self.text[self.path_start..]
    }
    /// The whole, without a trailing slash.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Vectors {
        accepted: Vec<String>,
        refused: Vec<String>,
    }

    #[test]
    fn the_url_vectors_hold() {
        let text = include_str!("../../../../vectors/hosts/base_urls.json");
        let vectors: Vectors = serde_json::from_str(text).unwrap();
        for text in vectors.accepted {
            assert!(
                BaseUrl::parse(&text, Schemes::Https).is_ok(),
                "{text:?} must be accepted"
            );
        }
        for text in vectors.refused {
            assert!(
                BaseUrl::parse(&text, Schemes::Https).is_err(),
                "{text:?} must be refused"
            );
        }
    }

    #[test]
    fn the_parts_of_a_base_url_are_those_written() {
        let url = BaseUrl::parse("http://[::1]:9000/v1/", Schemes::HttpToo).unwrap();
        assert_eq!(
            (url.scheme(), url.host(), url.port()),
            ("http", "[::1]", 9000)
        );
        assert_eq!((url.authority(), url.path()), ("[::1]:9000", "/v1"));
        assert_eq!(
            (url.origin(), url.as_str()),
            ("http://[::1]:9000", "http://[::1]:9000/v1")
        );
        let url = BaseUrl::parse("https://api.openai.com", Schemes::Https).unwrap();
        assert_eq!(
            (url.host(), url.port(), url.path()),
            ("api.openai.com", 443, "")
        );
        assert_eq!(url.authority(), "api.openai.com");
    }

    #[test]
    fn http_needs_the_operators_word() {
        let text = "http://127.0.0.1:9000";
        assert_eq!(BaseUrl::parse(text, Schemes::Https), Err(UrlFault::Scheme));
        assert!(BaseUrl::parse(text, Schemes::HttpToo).is_ok());
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_what_was_written(text in "(https://)?[a-zA-Z0-9.@:\\\\/%#?\t\\[\\]-]{0,24}") {
            if let Ok(url) = BaseUrl::parse(&text, Schemes::Https) {
                prop_assert_eq!(url.as_str(), text.strip_suffix('/').unwrap_or(&text));
                let after = &text["https://".len()..];
                prop_assert!(after.starts_with(url.authority()));
                let rest = &after[url.authority().len()..];
                prop_assert!(rest.is_empty() || rest.starts_with('/'));
            }
        }
    }
}
