//! What an operator says of connect sessions: what the outside calls this installation, where
//! people may be sent back to, and who may show the page in a frame.
//!
//! What always holds: an address that is compared with these was parsed as they were, so that
//! there is one spelling to compare; a frame's parent is an origin, never a pattern.

use url::Url;

/// The settings of connect sessions, checked.
#[derive(Clone, Debug, Default)]
pub struct ConnectSettings {
    public_url: Option<Url>,
    return_urls: Vec<Url>,
    frame_ancestors: Vec<String>,
}

/// Why a setting cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {text:?} {fault}")]
pub struct InvalidConnectSetting {
    setting: &'static str,
    text: String,
    fault: &'static str,
}

impl ConnectSettings {
    /// Reads them: what browsers call this installation (`None` where nobody said), the addresses to which a page may lead back, and the origins
    /// that may frame it.
    ///
    /// # Errors
    /// The first that is not of its form.
    pub fn new(
        public_url: Option<&str>,
        return_urls: &[String],
        frame_ancestors: &[String],
    ) -> Result<ConnectSettings, InvalidConnectSetting> {
        let wrong = |setting, text: &str, fault| InvalidConnectSetting {
            setting,
            text: text.to_owned(),
            fault,
        };
        let home = |text| {
            let url = Url::parse(text).ok().filter(is_web);
            url.filter(|url| url.path() == "/" && url.query().is_none() && url.fragment().is_none())
                .ok_or_else(|| {
                    let fault =
                        "must be scheme, host and port alone, e.g. https://keystead.example";
                    wrong("[server] public_url", text, fault)
                })
        };
        let mut settings = ConnectSettings {
            public_url: public_url.map(home).transpose()?,
            return_urls: Vec::new(),
            frame_ancestors: Vec::new(),
        };
        for text in return_urls {
            let url = Url::parse(text).ok().filter(is_web);
            let url = url.filter(|url| url.query().is_none() && url.fragment().is_none());
            settings.return_urls.push(url.ok_or_else(|| {
                let fault = "must be an http or https URL without query and fragment";
                wrong("[connect] return_urls", text, fault)
            })?);
        }
        for text in frame_ancestors {
            let url = Url::parse(text).ok().filter(is_web);
            let origin = url.map(|url| url.origin().ascii_serialization());
            settings.frame_ancestors.push(
                origin
                    .filter(|origin| origin == text && !text.contains('*'))
                    .ok_or_else(|| {
                        let fault =
                            "must be an origin, e.g. https://app.example, without a slash after it";
                        wrong("[connect] frame_ancestors", text, fault)
                    })?,
            );
        }
        Ok(settings)
    }

    /// Scheme, host and port by which browsers reach this installation, where that is known.
    pub fn origin(&self) -> Option<String> {
        let url = self.public_url.as_ref()?;
        Some(url.origin().ascii_serialization())
    }

    /// Whether browsers reach it over TLS.
    pub fn is_https(&self) -> bool {
        self.public_url
            .as_ref()
            .is_some_and(|url| url.scheme() == "https")
    }

    /// The origins that may show the page in a frame.
    pub fn frame_ancestors(&self) -> &[String] {
        &self.frame_ancestors
    }

    /// The address to lead back to, if it lies within one of those that are configured: the same
    /// origin, and the same path or one below it.
    pub(super) fn return_url(&self, text: &str) -> Option<String> {
        let asked = Url::parse(text).ok().filter(is_web)?;
        let within = |allowed: &Url| {
            let below = match asked.path().strip_prefix(allowed.path()) {
                Some(rest) => {
                    rest.is_empty() || allowed.path().ends_with('/') || rest.starts_with('/')
                }
                None => false,
            };
            asked.origin() == allowed.origin() && below
        };
        // An encoded dot segment or slash is one to some servers.
        let plain = !["%2e", "%2f", "%5c"]
            .iter()
            .any(|odd| asked.path().to_ascii_lowercase().contains(odd));
        (plain && self.return_urls.iter().any(within)).then(|| asked.into())
    }
}

/// A URL of the web that carries no user.
fn is_web(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(return_urls: &[&str]) -> ConnectSettings {
        let texts: Vec<_> = return_urls.iter().map(|text| (*text).to_owned()).collect();
        ConnectSettings::new(Some("https://keystead.example"), &texts, &[]).unwrap()
    }

    #[test]
    fn a_return_url_lies_within_one_that_is_configured() {
        let settings = settings(&["https://app.example/settings", "http://localhost:3000/"]);
        for good in [
            "https://app.example/settings",
            "https://app.example/settings?tab=keys#top",
            "https://app.example/settings/keys",
            "https://app.example:443/settings",
            "http://localhost:3000/anything",
        ] {
            assert!(settings.return_url(good).is_some(), "{good}");
        }
        for wrong in [
            "",
            "/settings",
            "//app.example/settings",
            "javascript:alert(1)",
            "data:text/html,x",
            "http://app.example/settings",
            "https://app.example/",
            "https://app.example/settingsx",
            "https://app.example/settings/../admin",
            "https://app.example/settings/%2e%2e/admin",
            "https://app.example/settings%2f..%2fadmin",
            "https://app.example.evil.example/settings",
            "https://app.example@evil.example/settings",
            "https://user@app.example/settings",
            "https://app.example:8443/settings",
        ] {
            assert_eq!(settings.return_url(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_frames_parent_is_an_origin_and_never_a_pattern() {
        let new = |origin: &str| {
            ConnectSettings::new(Some("https://keystead.example"), &[], &[origin.to_owned()])
        };
        assert!(new("https://app.example").is_ok());
        for wrong in [
            "*",
            "https://*.example",
            "https://app.example/",
            "https://app.example/x",
            "app.example",
            "https:",
            "https://app.example; script-src *",
            "'self'",
        ] {
            assert!(new(wrong).is_err(), "{wrong}");
        }
        for wrong in [
            "",
            "keystead.example",
            "https://keystead.example/x",
            "ftp://x",
        ] {
            assert!(
                ConnectSettings::new(Some(wrong), &[], &[]).is_err(),
                "{wrong}"
            );
        }
    }
}
