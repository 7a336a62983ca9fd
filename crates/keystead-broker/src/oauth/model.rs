//! What is asked and answered when an account is connected. Codes and verifiers are wiped; what
//! holds one cannot be printed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use keystead_core::ids::{AuthorizationId, IntegrationId, SessionId};
use keystead_core::time::Time;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::integrations::Integration;

/// How accounts at providers are connected.
#[derive(Clone, Debug, Default)]
pub struct OAuthSettings {
    /// Where browsers reach this installation: scheme and host. `None` where nobody said.
    pub public_url: Option<String>,
    /// This installation's apps, by provider.
    pub apps: BTreeMap<String, Arc<OAuthApp>>,
    /// Providers, by id, that send browsers back to a callback of their own.
    pub own_callbacks: BTreeSet<String>,
    /// Redirect URIs of clients that hand the provider's answer in themselves.
    pub redirect_uris: Vec<String>,
}

impl OAuthSettings {
    /// Where providers send browsers back to: one that has it, to its own.
    pub(super) fn callback(&self, provider: &str) -> Option<String> {
        let own = self.own_callbacks.contains(provider).then_some(provider);
        self.came_by(own)
    }

    /// The callback by which a browser came: the shared one, or a provider's.
    pub(super) fn came_by(&self, own: Option<&str>) -> Option<String> {
        let home = self.public_url.as_ref()?;
        Some(match own {
            Some(provider) => format!("{home}/oauth/callback/{provider}"),
            None => format!("{home}/oauth/callback"),
        })
    }

    /// Whether browsers reach this installation over TLS.
    pub(super) fn is_https(&self) -> bool {
        self.public_url
            .as_ref()
            .is_some_and(|url| url.starts_with("https://"))
    }
}

/// An app that is registered at a provider.
pub struct OAuthApp {
    /// Its public name there.
    pub client_id: String,
    /// What proves it, where it has that.
    pub client_secret: Option<Zeroizing<String>>,
}

impl fmt::Debug for OAuthApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("OAuthApp");
        shown.field("client_id", &self.client_id);
        shown.finish_non_exhaustive()
    }
}

/// An account that is to be connected.
#[derive(Clone, Debug)]
pub struct Begin {
    /// The provider's id, or another name for it.
    pub type_: String,
    /// The integration that is authorised anew; else a new one is made.
    pub integration: Option<IntegrationId>,
    /// What to call a new one; the provider's name where none is given.
    pub name: Option<String>,
    /// Settings of a new one.
    pub config: Map<String, Value>,
    /// The connect session that this is part of.
    pub session: Option<SessionId>,
}

/// Which way the provider's answer comes back, and so who may bring it.
pub enum Way {
    /// To `{public_url}/oauth/callback`, in the browser that holds this cookie.
    Browser(Zeroizing<String>),
    /// To this redirect URI of a client, which hands it in as the caller that began.
    Caller(String),
}

/// A consent that is under way.
pub struct Started {
    /// Where to send the browser.
    pub url: String,
    /// What the provider will bring back.
    pub state: String,
    /// Until when it may.
    pub expires_at: Time,
}

/// What the provider sent back by the browser.
pub struct Back {
    /// The one-time state.
    pub state: String,
    /// The code, if there was consent.
    pub code: Option<Zeroizing<String>>,
    /// Who says so.
    pub iss: Option<String>,
    /// Why there was none.
    pub error: Option<String>,
    /// The cookie of the browser that brings it; `None`: the caller does.
    pub browser: Option<Zeroizing<String>>,
    /// The whole query in which it came, for providers that sign it.
    pub query: Option<Zeroizing<String>>,
    /// The provider to whose own callback the browser came; `None`: to the shared one.
    pub own: Option<String>,
}

/// An account that is connected.
#[derive(Debug)]
pub struct Completed {
    /// The integration; its tokens are tried in the background.
    pub integration: Integration,
    /// Whether it is new.
    pub created: bool,
    /// Where it began, if that was a connect page.
    pub page: Option<ConnectPage>,
}

/// An account that is not connected.
#[derive(Debug)]
pub struct Incomplete {
    /// Why.
    pub error: Error,
    /// Where it began, if that was a connect page and whoever brought the answer may know.
    pub page: Option<ConnectPage>,
}

/// The connect page in which a consent began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectPage {
    /// In a frame of the product, so that the consent was in another tab.
    Framed,
    /// By itself, in the browser that comes back.
    Top,
}

impl From<Error> for Incomplete {
    fn from(error: Error) -> Incomplete {
        Incomplete { error, page: None }
    }
}

/// A consent that is given on another device.
#[derive(Debug)]
pub struct Device {
    /// What to ask for.
    pub id: AuthorizationId,
    /// What to type there.
    pub user_code: String,
    /// Where.
    pub verification_uri: String,
    /// The same with the code in it.
    pub verification_uri_complete: Option<String>,
    /// Until when.
    pub expires_at: Time,
    /// Seconds between two questions.
    pub interval: u32,
}

/// What became of it.
#[derive(Debug)]
pub enum DevicePoll {
    /// Nothing yet: ask again after so many seconds.
    Pending(u32),
    /// Asked too often: from now on leave so many seconds between.
    SlowDown(u32),
    /// It was given.
    Completed(Box<Completed>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_is_printed_without_its_secret() {
        let app = OAuthApp {
            client_id: "app".into(),
            client_secret: Some(Zeroizing::new("canary".into())),
        };
        let shown = format!("{app:?}");
        assert!(
            shown.contains("app") && !shown.contains("canary"),
            "{shown}"
        );
    }
}
