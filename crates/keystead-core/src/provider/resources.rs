//! What a provider has beside its API: the things that a grant is good for, and credentials for
//! them that are made at the moment and end by themselves.
//!
//! ```text
//! errand ─ next: a call ─ its reply ─ take ─┐
//!    └──────────────── until there is none ◄┘ ─ finish: resources, or credentials
//! ```
//!
//! What always holds: calls go to the provider's own host alone, whatever a reply says; nothing of
//! a [`Resource`] is secret; [`Issued`] is the only way out for what is, is written once, and
//! cannot be printed.
//!
//! Not here: calling anybody, and who may ask.

mod ask;
mod aws;
mod errand;
mod github;
mod google;
mod supabase;

use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::body;
use super::config::Config;
use super::mint::Mint;
use super::model::{Mode, Placement, Provider};
use super::oauth::Json;
use super::parse::{Check, require};
use super::{FieldFault, Fields};
use crate::time::Time;

pub use ask::{Ask, Wanted};
pub use errand::{Answer, Asking};

const UNCLEAR: ResourceFault = ResourceFault::Unclear("its answer was not understood");

/// `[mode.resources]` of a provider file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Whose they are.
    pub kind: ResourcesKind,
}

/// The vendors whose resources are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourcesKind {
    /// Projects: API keys, pooler settings, a database login.
    Supabase,
    /// Sessions and roles: temporary keys.
    Aws,
    /// Access tokens of a service account.
    Google,
    /// Installations and repositories: installation tokens.
    GithubApp,
}

/// A thing that a grant is good for. Nothing of it is secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// What it is asked for by.
    pub key: String,
    /// What it is.
    pub kind: &'static str,
    /// For people.
    pub name: String,
    /// In the vendor's word, or `available`.
    pub status: String,
    /// Where it is, where that is known.
    pub region: Option<String>,
    /// What else there is to know.
    pub details: Value,
}

/// A part of the list.
pub struct Listed {
    /// What is on it.
    pub data: Vec<Resource>,
    /// Where the next part begins; `None` at the end.
    pub next: Option<String>,
}

/// Credentials on their one way out.
pub struct Issued {
    kind: &'static str,
    credentials: Json,
    /// When they end, where that is known.
    pub expires_at: Option<Time>,
}

impl Issued {
    /// Writes `{"credentials", "expires_at", "kind"}` into a buffer that is made once, and wiped.
    pub fn into_json(self) -> Zeroizing<Vec<u8>> {
        let expires_at = match self.expires_at {
            Some(at) => Json::text(at.rfc3339()),
            None => Json::Null,
        };
        body::json(&Json::object([
            ("credentials", self.credentials),
            ("expires_at", expires_at),
            ("kind", Json::text(self.kind)),
        ]))
    }
}

/// Why there are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResourceFault {
    /// What was asked for cannot be.
    Invalid(Vec<FieldFault>),
    /// There is no such resource.
    NotFound,
    /// The resource is not in a state for it: a word, and what to do.
    State(&'static str, String),
    /// The credential is genuine, and lacks this permission.
    NoPermission(&'static str),
    /// The provider refuses the credential: why, for people.
    Refused(String),
    /// The provider wants to be asked again after so many seconds.
    Rate(u32),
    /// The provider answers with this status.
    Down(u16),
    /// The provider's answer is none that is understood: why, for people.
    Unclear(&'static str),
}

impl ResourceFault {
    fn field(path: &str, message: impl Into<String>) -> ResourceFault {
        ResourceFault::Invalid(vec![FieldFault {
            path: path.to_owned(),
            message: message.into(),
        }])
    }
}

/// Calls after one another, each by what the ones before came to.
pub trait Errand: Send {
    /// What they come to.
    type Gives;

    /// The next call; `None` where there is none left.
    ///
    /// # Errors
    /// [`ResourceFault`].
    fn next(
        &mut self,
        asking: &Asking<'_>,
    ) -> Result<Option<super::ProviderRequest>, ResourceFault>;

    /// Takes the answer to the call.
    ///
    /// # Errors
    /// [`ResourceFault`].
    fn take(&mut self, asking: &Asking<'_>, answer: &Answer<'_>) -> Result<(), ResourceFault>;

    /// What they came to.
    ///
    /// # Errors
    /// [`ResourceFault`].
    fn finish(self: Box<Self>, asking: &Asking<'_>) -> Result<Self::Gives, ResourceFault>;
}

/// The errand that lists what there is. `after` is where a part before ended.
///
/// # Errors
/// `Invalid` where no part ended there.
pub fn listing(
    provider: &Provider,
    config: &Config,
    kind: ResourcesKind,
    after: Option<&str>,
) -> Result<Box<dyn Errand<Gives = Listed>>, ResourceFault> {
    let page = match (kind, after) {
        (_, None) => Some(1),
        (ResourcesKind::GithubApp, Some(after)) => after.parse().ok(),
        (_, Some(_)) => None,
    };
    let page = page.filter(|page| (1..=github::PAGES_MOST).contains(page));
    let page = page.ok_or_else(|| {
        let message = "is not a place in this list: use `next` of the page before";
        ResourceFault::field("after", message)
    })?;
    Ok(match kind {
        ResourcesKind::Supabase => Box::new(supabase::Listing::default()),
        ResourcesKind::Aws => Box::new(aws::Listing),
        ResourcesKind::Google => Box::new(google::Listing),
        ResourcesKind::GithubApp => Box::new(github::Listing::new(provider, config, page)),
    })
}

/// The errand that has credentials made. `mark` is what the provider may note of who asked.
pub fn issuing(ask: Ask, mark: String) -> Box<dyn Errand<Gives = Issued>> {
    match ask {
        Ask::Supabase(ask) => Box::new(supabase::Issuing::new(ask)),
        Ask::Aws(ask) => Box::new(aws::Issuing::new(ask, mark)),
        Ask::Google { scopes } => Box::new(google::Issuing::new(scopes)),
        Ask::Github(ask) => Box::new(github::Issuing::new(ask)),
    }
}

impl Provider {
    /// Whose resources it has; all its modes that have any have the same.
    pub fn resources(&self) -> Option<ResourcesKind> {
        let mut all = self.modes.iter().filter_map(|m| m.resources.as_ref());
        all.next().map(|resources| resources.kind)
    }

    pub(super) fn check_resources(&self, key: &str, mode: &Mode) -> Check {
        let Some(Resources { kind }) = mode.resources else {
            return Ok(());
        };
        let key = format!("{key}.resources");
        require(
            self.resources() == Some(kind),
            &format!("{key}.kind: is another than an earlier mode's"),
        )?;
        let fits = match kind {
            ResourcesKind::Supabase => mode.mint.is_none(),
            ResourcesKind::Aws => matches!(mode.placement, Placement::SigV4 { .. }),
            ResourcesKind::Google => matches!(mode.mint, Some(Mint::JwtBearer { .. })),
            ResourcesKind::GithubApp => matches!(mode.mint, Some(Mint::GithubApp { .. })),
        };
        require(
            fits,
            &format!("{key}.kind: is not for credentials that are placed or minted like this one"),
        )?;
        let setting = match kind {
            ResourcesKind::Google => "scopes",
            ResourcesKind::GithubApp => "installation_id",
            ResourcesKind::Supabase | ResourcesKind::Aws => return Ok(()),
        };
        require(
            self.setting(setting).is_some(),
            &format!("{key}.kind: goes by a setting `{setting}`"),
        )
    }
}

/// Words of a setting.
fn words<'c>(provider: &'c Provider, config: &'c Config, name: &str) -> Vec<&'c str> {
    let text = config.value(provider, name).unwrap_or_default();
    text.split_ascii_whitespace().collect()
}

/// A part of the credential that is not secret.
fn open_field<'f>(asking: &Asking<'f>, name: &str) -> Option<&'f str> {
    let fields: &Fields = asking.fields;
    let field = fields.mode(asking.provider)?.field(name)?;
    fields.get(name).filter(|_| !field.secret)
}
