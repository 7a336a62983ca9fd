//! Connecting an account at a provider: from the consent of whoever owns it to tokens, sealed.
//!
//! ```text
//! begin     decided, on record; a one-time state, bound to who may bring it back → URL
//! complete  state taken → code exchanged, in a task of its own → integration and tokens, one write
//! ```
//!
//! What always holds: a state is taken before its code is exchanged, and once; it is taken by
//! whoever began, and by nobody else; what is refused leaves everything as it was, and an entry
//! that says why.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

/// How accounts at providers are connected.
#[derive(Clone, Debug, Default)]
pub struct OAuthSettings {
    /// Where browsers reach this installation: scheme and host. `None` where nobody said.
    pub public_url: Option<String>,
    /// This installation's apps, by provider.
    pub apps: BTreeMap<String, Arc<OAuthApp>>,
    /// Redirect URIs of clients that hand the provider's answer in themselves.
    pub redirect_uris: Vec<String>,
}

/// An app that is registered at a provider.
pub struct OAuthApp {
    /// Its public name there.
    pub client_id: String,
    /// What proves it, where it has that.
    pub client_secret: Option<Zeroizing<String>>,
    /// What it asks for, instead of the scopes of the provider's file.
    pub scopes: Option<Vec<String>>,
}

impl fmt::Debug for OAuthApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("OAuthApp");
        shown.field("client_id", &self.client_id);
        shown.finish_non_exhaustive()
    }
}
