//! Making the next credential at the provider, and ending the one before: `[mode.rotation]`.
//!
//! ```text
//! list ─► copy ─► create ─► (tested, put in its place) ─► disable ─► delete
//! ```
//!
//! What always holds: every call is data of the provider file; what a call made is found again by
//! the name that it was given, or, where keys have none, by what was there before and when; a reply
//! is read strictly, and one that cannot be read made nothing that is used.
//!
//! Not here: calling anybody, and when (`state` has the steps, the broker takes them).

mod check;
mod read;
mod state;
mod xml;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::call::{Call, CallAuth, Known, More, ProviderCall};
use super::config::Config;
use super::fields::Fields;
use super::mint::MintedToken;
use super::model::{Mode, Provider};
use super::oauth::OAuthError;
use super::template;
use crate::time::Time;

pub use read::{Created, Key, Listing, error_code};
pub use state::{KEPT_SECONDS, State, Step, pause};

/// How a credential is followed by the next one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// How many keys the provider takes at once, where it says so.
    #[serde(default)]
    pub limit: Option<usize>,
    /// After so many seconds a new one is tried first.
    #[serde(default)]
    pub settle: u32,
    /// For so many seconds a new one that is refused may yet begin to work.
    #[serde(default = "patience")]
    pub patience: u32,
    /// The scope of the token, for calls whose `auth` is `token`.
    #[serde(default)]
    pub scope: Option<String>,
    /// Parts of a credential that cannot be rotated, such as those of temporary keys.
    #[serde(default)]
    pub unless: Vec<String>,
    /// What the calls need at the provider, for a person.
    pub needs: String,
    /// How the id of the key in use is known from the credential.
    #[serde(default)]
    pub own: Option<Own>,
    /// What keys there are.
    pub list: List,
    /// What of the key in use the next one takes over.
    #[serde(default)]
    pub copy: Option<CopyOver>,
    /// Makes the next one.
    pub create: Create,
    /// Puts a key out of use.
    #[serde(default)]
    pub disable: Option<Call>,
    /// Ends a key.
    pub delete: Call,
}

/// Where a credential says the id of its key.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Own {
    /// The field.
    pub field: String,
    /// What stands in it before and after the id; the whole field, if nothing is said.
    #[serde(default)]
    pub between: Option<[String; 2]>,
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// JSON.
    #[default]
    Json,
    /// XML, as AWS writes it.
    Xml,
}

/// Lists keys. Pointers but `items` and `more` lead from an item.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// The call.
    pub call: Call,
    /// How the answer is written.
    #[serde(default)]
    pub format: Format,
    /// Where the list is; empty where it is the whole answer.
    pub items: String,
    /// The key's id; of a path, its last segment.
    pub id: String,
    /// The name that it was given.
    #[serde(default)]
    pub name: Option<String>,
    /// When it was made: RFC 3339, or seconds since 1970.
    #[serde(default)]
    pub created: Option<String>,
    /// What shows of the key's text: its beginning, or beginning and end around stars or dots.
    #[serde(default)]
    pub mask: Option<String>,
    /// Further pages.
    #[serde(default)]
    pub next: Option<Next>,
}

/// How the next page of a list is had.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Next {
    /// Where `true` says that there is one.
    pub more: String,
    /// Its address; `{after}` is the last id of the page before.
    pub url: String,
}

/// Reads what the next key takes over: lists of texts, for the JSON of `create`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopyOver {
    /// The call; `{key}` is the key in use.
    pub call: Call,
    /// Names, and where their lists are.
    pub lists: BTreeMap<String, String>,
}

/// Makes a key.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// The call; `{marker}` is the name that the key is given.
    pub call: Call,
    /// How the answer is written.
    #[serde(default)]
    pub format: Format,
    /// Where the base64 text of a JSON is, into which the other pointers lead.
    #[serde(default)]
    pub inside: Option<String>,
    /// The new key's id; of a path, its last segment.
    pub id: String,
    /// The new parts of the credential; the others stay.
    pub fields: BTreeMap<String, String>,
}

/// Who calls: a credential, and what is known with it.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    /// The provider.
    pub provider: &'a Provider,
    /// The credential's mode.
    pub mode: &'a Mode,
    /// The integration's settings.
    pub config: &'a Config,
    /// The credential.
    pub fields: &'a Fields,
    /// What was made of it, where [`Rotation::token_scope`] asks for that.
    pub token: Option<&'a MintedToken>,
    /// What time it is.
    pub now: Time,
}

/// A call to a key, by what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Puts it out of use.
    Disable,
    /// Ends it.
    Delete,
}

/// Why there is no call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RotationFault {
    /// The provider has no such call.
    #[error("the provider has no such call")]
    NoCall,
    /// A part of the credential or a setting is not there.
    #[error("a part of the credential or a setting that the call needs is not there")]
    Missing,
    /// The credential does not fit.
    #[error(transparent)]
    Unfit(#[from] OAuthError),
}

impl Provider {
    /// Whether a credential of some mode can be rotated.
    pub fn can_rotate(&self) -> bool {
        self.modes.iter().any(|mode| mode.rotation.is_some())
    }
}

impl Rotation {
    /// The scope of the token that the calls need; `None` where they need none.
    pub fn token_scope(&self) -> Option<&str> {
        self.scope
            .as_deref()
            .filter(|_| self.calls().any(|call| call.auth == CallAuth::Token))
    }

    /// The call that lists keys; `after` is the last id of the page before.
    pub fn list_call(
        &self,
        asking: &Asking<'_>,
        after: Option<&str>,
    ) -> Result<ProviderCall, RotationFault> {
        let Some(after) = after else {
            return asking.make(&self.list.call, &[], &[]);
        };
        let next = self.list.next.as_ref().ok_or(RotationFault::NoCall)?;
        let call = Call {
            url: next.url.clone(),
            ..self.list.call.clone()
        };
        asking.make(&call, &[("after", after)], &[])
    }

    /// The call that reads what the next key takes over.
    pub fn copy_call(&self, asking: &Asking<'_>, key: &str) -> Result<ProviderCall, RotationFault> {
        let copy = self.copy.as_ref().ok_or(RotationFault::NoCall)?;
        asking.make(&copy.call, &[("key", key)], &[])
    }

    /// The call that makes a key of that name.
    pub fn create_call(
        &self,
        asking: &Asking<'_>,
        marker: &str,
        lists: &[(String, Vec<String>)],
    ) -> Result<ProviderCall, RotationFault> {
        asking.make(&self.create.call, &[("marker", marker)], lists)
    }

    /// A call to the key with that id.
    pub fn act_call(
        &self,
        asking: &Asking<'_>,
        act: Act,
        key: &str,
    ) -> Result<ProviderCall, RotationFault> {
        let call = match act {
            Act::Disable => self.disable.as_ref(),
            Act::Delete => Some(&self.delete),
        };
        let call = call.ok_or(RotationFault::NoCall)?;
        asking.make(call, &[("key", key)], &[])
    }

    /// The id of the key that the credential is; `None` where the credential does not say it.
    pub fn own_id<'f>(&self, fields: &'f Fields) -> Option<&'f str> {
        let own = self.own.as_ref()?;
        let value = fields.get(&own.field)?;
        let id = match &own.between {
            None => value,
            Some([before, after]) => value.strip_prefix(before.as_str())?.split_once(after)?.0,
        };
        (!id.is_empty()).then_some(id)
    }

    /// The key of the list that the credential is: the one that it says, or that shows its text, or
    /// the only one there is. `None` where several could be meant.
    pub fn own_key<'k>(
        &self,
        mode: &Mode,
        fields: &Fields,
        listing: &'k [Key],
        known: Option<&str>,
    ) -> Option<&'k str> {
        let said = known.or_else(|| self.own_id(fields));
        if let Some(said) = said {
            let own = listing.iter().find(|key| key.id == said);
            return own.map(|key| key.id.as_str());
        }
        let secret = fields.get(&mode.primary()?.name)?;
        let shows = |key: &&Key| key.mask.as_deref().is_some_and(|m| read::shows(m, secret));
        let mut own: Vec<&Key> = listing.iter().filter(shows).collect();
        if self.list.mask.is_none() {
            own = listing.iter().collect();
        }
        match own.as_slice() {
            [only] => Some(&only.id),
            _ => None,
        }
    }

    /// The keys of the list that were made under this name since `before` was seen; where keys have
    /// no names, those that were made at about the time of the call.
    pub fn made(&self, listing: &[Key], state: &State) -> Vec<String> {
        /// How far the provider's clock may be from ours, and how long a call may be under way.
        const WITHIN: i64 = 300;
        let new = |key: &&Key| !state.before.iter().flatten().any(|known| *known == key.id);
        let ours = |key: &&Key| match (&self.list.name, key.created, state.asked_at) {
            (Some(_), ..) => key.name.as_deref() == Some(&state.marker),
            (None, Some(created), Some(asked)) => {
                created >= asked.plus_seconds(-WITHIN) && created <= asked.plus_seconds(WITHIN)
            }
            (None, ..) => false,
        };
        let made = listing.iter().filter(new).filter(ours);
        made.map(|key| key.id.clone()).collect()
    }

    /// The fields and settings that the calls need and that are not there, as paths of an
    /// integration.
    pub fn missing(
        &self,
        provider: &Provider,
        mode: &Mode,
        config: &Config,
        fields: &Fields,
    ) -> Vec<String> {
        let there = |name: &str| {
            fields.get(name).is_some()
                || config
                    .value(provider, name)
                    .is_some_and(|value| !value.is_empty())
        };
        let mut missing = BTreeSet::new();
        for call in self.calls() {
            let url = template::names(&call.url).unwrap_or_default();
            let texts = call.texts();
            let texts = texts.iter().filter_map(|text| template::names(text).ok());
            for names in url.into_iter().chain(texts.flatten()) {
                if !MORE.contains(&names)
                    && !names
                        .split('|')
                        .any(|name| self.copies(name) || there(name))
                {
                    missing.insert(names.to_owned());
                }
            }
            missing.extend(call.auth.fields().filter(|f| !there(f)).map(str::to_owned));
        }
        let path = |name: String| match mode.field(&name) {
            Some(_) => format!("credentials.{name}"),
            None => format!("config.{name}"),
        };
        missing.into_iter().map(path).collect()
    }

    fn copies(&self, name: &str) -> bool {
        self.copy
            .as_ref()
            .is_some_and(|copy| copy.lists.contains_key(name))
    }

    pub(super) fn calls(&self) -> impl Iterator<Item = &Call> {
        [&self.list.call, &self.create.call, &self.delete]
            .into_iter()
            .chain(self.copy.as_ref().map(|copy| &copy.call))
            .chain(&self.disable)
    }
}

/// What templates of these calls know beside settings and fields.
const MORE: [&str; 3] = ["key", "marker", "after"];

impl Asking<'_> {
    fn make(
        &self,
        call: &Call,
        texts: &[(&'static str, &str)],
        lists: &[(String, Vec<String>)],
    ) -> Result<ProviderCall, RotationFault> {
        let known = Known {
            provider: self.provider,
            mode: self.mode,
            config: self.config,
            app: None,
            fields: self.fields,
            more: More {
                texts,
                lists,
                token: self.token,
            },
        };
        call.request(&known, self.now)?
            .ok_or(RotationFault::Missing)
    }
}

fn patience() -> u32 {
    300
}
