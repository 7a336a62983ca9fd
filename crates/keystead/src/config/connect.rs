//! How accounts at providers are connected: this installation's OAuth apps, and where browsers may
//! come back to.

use anyhow::{Context, bail};
use keystead_core::egress::{BaseUrl, Schemes};
use serde::Deserialize;

use super::{Secret, Server};

/// This installation's app at one provider.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct OAuthApp {
    pub(crate) client_id: String,
    pub(crate) client_secret: Option<Secret>,
    #[serde(default)]
    pub(crate) scopes: Option<Vec<String>>,
    /// Whether the provider sends browsers back to a callback of its own.
    #[serde(default)]
    pub(crate) own_callback: bool,
}

/// Where browsers may come back to, and who may show the connect page.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Connect {
    pub(crate) redirect_uris: Vec<String>,
    pub(crate) frame_ancestors: Vec<String>,
    pub(crate) return_urls: Vec<String>,
}

impl Connect {
    /// Says which of the redirect URIs could be taken over on its way.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        for uri in &self.redirect_uris {
            if !is_redirect_uri(uri) {
                bail!(
                    "[connect] redirect_uris: {uri:?} is not taken: write https://…, http://127.0.0.1:…, or an app's own com.example.app:/… in full, without #"
                );
            }
        }
        Ok(())
    }
}

impl Server {
    /// Where browsers reach this installation.
    pub(crate) fn checked_home(&self) -> anyhow::Result<Option<String>> {
        let Some(home) = self.home() else {
            return Ok(None);
        };
        let url = BaseUrl::parse(&home, Schemes::HttpToo)
            .with_context(|| format!("[server] public_url = {home:?}"))?;
        if !url.path().is_empty() {
            bail!("[server] public_url = {home:?}: write scheme and host only");
        }
        if !url.is_https() && !is_loopback(url.host()) {
            tracing::warn!(public_url = %home, "browsers reach this address without TLS: accounts cannot be connected there");
        }
        Ok(Some(home))
    }
}

/// RFC 9700 section 4.1: TLS, or what does not leave the machine (RFC 8252 section 7).
fn is_redirect_uri(uri: &str) -> bool {
    let plain = uri.bytes().all(|byte| byte.is_ascii_graphic()) && !uri.contains('#');
    let Some((scheme, rest)) = uri.split_once(':') else {
        return false;
    };
    let host = || {
        let authority = rest.strip_prefix("//")?.split(['/', '?']).next()?;
        let base = format!("{scheme}://{authority}");
        BaseUrl::parse(&base, Schemes::HttpToo).ok()
    };
    plain
        && match scheme {
            "https" => host().is_some(),
            "http" => host().is_some_and(|base| is_loopback(base.host())),
            own => {
                // A domain turned around, so that no other app has it by chance.
                let word = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
                own.contains('.') && own.chars().all(word) && rest.starts_with('/')
            }
        }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_uri_is_one_that_nobody_on_the_way_can_read() {
        for good in [
            "https://app.example.com/oauth/done",
            "https://app.example.com/done?from=keystead",
            "http://127.0.0.1:3000/done",
            "http://[::1]:3000/done",
            "com.example.app:/oauth",
        ] {
            assert!(is_redirect_uri(good), "{good}");
        }
        for bad in [
            "http://app.example.com/done",
            "https://",
            "https://app.example.com/done#here",
            "javascript:alert(1)",
            "myapp:/done",
            "/done",
            "https://app.example.com/a b",
            "https://user@app.example.com/done",
            "",
        ] {
            assert!(!is_redirect_uri(bad), "{bad}");
        }
    }

    #[test]
    fn on_loopback_the_address_is_what_browsers_call_it() {
        let mut server = Server::default();
        assert_eq!(server.home().as_deref(), Some("http://127.0.0.1:8200"));
        server.listen = ([0, 0, 0, 0], 8200).into();
        assert_eq!(server.home(), None);
        server.public_url = Some("https://keystead.example/".into());
        assert_eq!(server.home().as_deref(), Some("https://keystead.example"));
        assert!(server.checked_home().is_ok());
        server.public_url = Some("https://keystead.example/below".into());
        assert!(server.checked_home().is_err());
    }
}
