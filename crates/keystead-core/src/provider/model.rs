//! The shape of a provider file. Each struct is a table of the TOML; unknown keys are refused.

use std::fmt;

use http::{HeaderName, Method};
use serde::{Deserialize, Deserializer, Serialize};

use super::mint::Mint;
use super::oauth::OAuth;
use super::resources::Resources;
use super::revoke::Revoke;
use super::rotation::Rotation;
use super::test_call::TestCall;
use super::usage::{Price, Usage};
use crate::egress::{BaseUrl, HostPattern};

/// What is wrong with a provider file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {message}")]
pub struct ProviderFault {
    /// The file's name.
    pub file: String,
    /// Which key, and what about it.
    pub message: String,
}

/// A description of an upstream service.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// What integrations call it: `[a-z][a-z0-9_]*`.
    pub id: String,
    /// For people.
    pub name: String,
    /// Other ids that mean this provider.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Where the vendor says how to get a credential.
    pub docs: String,
    /// How a person gets one, in a sentence or two.
    #[serde(default)]
    pub help: Option<String>,
    /// The vendor's pages for people.
    #[serde(default)]
    pub links: Links,
    /// Hosts that the credential may go to. Empty: only the host of `base_url`.
    #[serde(default)]
    pub hosts: Vec<HostRule>,
    /// Hosts that it may go to where an integration's config names them in `hosts`.
    #[serde(default)]
    pub host_choices: Vec<HostRule>,
    /// Scheme and host of a call that names no other host; a template over the config.
    pub base_url: String,
    /// Paths that may be called, each ending in `/`.
    pub path_prefixes: Vec<String>,
    /// Where this provider's own SDK puts its key, so where a caller may put its token.
    #[serde(deserialize_with = "header_names")]
    pub sdk_token_headers: Vec<HeaderName>,
    /// Further headers that a credential could travel in; removed from a caller's request.
    #[serde(default, deserialize_with = "header_names")]
    pub strip_headers: Vec<HeaderName>,
    /// Query parameters that a credential could travel in; removed from a caller's request.
    #[serde(default)]
    pub strip_query: Vec<String>,
    /// Headers that calls need beside the credential.
    #[serde(default, rename = "header")]
    pub headers: Vec<HeaderRule>,
    /// Settings of an integration that are not secret.
    #[serde(default)]
    pub config: Vec<Field>,
    /// Ways to authenticate, the preferred one first.
    #[serde(rename = "mode")]
    pub modes: Vec<Mode>,
    /// How to try a credential, for modes that have no test of their own.
    #[serde(default)]
    pub test: Option<TestCall>,
    /// Where answers say what was used.
    #[serde(default)]
    pub usage: Vec<Usage>,
    /// What it costs.
    #[serde(default, rename = "price")]
    pub prices: Vec<Price>,
    /// Where to dial instead of the provider's hosts; an operator's setting.
    #[serde(skip)]
    pub dial: Option<BaseUrl>,
    /// Base URLs that an operator lets integrations choose; for `url` settings.
    #[serde(skip)]
    pub approved: Vec<BaseUrl>,
}

/// One way to authenticate.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mode {
    /// Its name among the modes.
    pub id: String,
    /// For people.
    pub label: String,
    /// How a person gets the credential, where it differs from the provider's `help`.
    #[serde(default)]
    pub help: Option<String>,
    /// What the credential consists of. In an OAuth mode, both what is given and what is granted.
    #[serde(default, rename = "field")]
    pub fields: Vec<Field>,
    /// Members of a credential that are taken and dropped, because a vendor's file holds them.
    #[serde(default)]
    pub ignored: Vec<String>,
    /// Whether a credential that comes as text is the text of a JSON object.
    #[serde(default)]
    pub json_file: bool,
    /// The field whose last characters are the hint; the primary one if not given.
    #[serde(default)]
    pub hint_field: Option<String>,
    /// Where the credential goes.
    pub placement: Placement,
    /// Paths where it goes elsewhere.
    #[serde(default, rename = "under")]
    pub under: Vec<Under>,
    /// How a token is made from the credential.
    #[serde(default)]
    pub mint: Option<Mint>,
    /// How to try it.
    #[serde(default)]
    pub test: Option<TestCall>,
    /// How a person's consent becomes tokens.
    #[serde(default)]
    pub oauth: Option<OAuth>,
    /// How it is taken back at the provider.
    #[serde(default)]
    pub revoke: Option<Revoke>,
    /// What it is good for beside calls.
    #[serde(default)]
    pub resources: Option<Resources>,
    /// How it is followed by the next one.
    #[serde(default)]
    pub rotation: Option<Rotation>,
}

/// Pages of the vendor's, for people.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Links {
    /// Where credentials are made.
    #[serde(default)]
    pub console: Option<String>,
    /// Where they are taken back by hand.
    #[serde(default)]
    pub revoke: Option<String>,
}

/// A placement for paths that begin so.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Under {
    /// What the path begins with.
    pub path: String,
    /// Where the credential goes there.
    pub placement: Placement,
}

/// A part of a credential, or a setting.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// Its name in JSON.
    pub name: String,
    /// For people.
    pub label: String,
    /// Whether it must not be shown again.
    #[serde(default)]
    pub secret: bool,
    /// Whether a credential that comes as text is this field.
    #[serde(default)]
    pub primary: bool,
    /// Whether it must be there.
    #[serde(default = "yes")]
    pub required: bool,
    /// How to ask for it, and what it may hold.
    #[serde(default)]
    pub kind: Kind,
    /// What it looks like at the vendor's, as far as known; a mismatch warns and never blocks.
    #[serde(default)]
    pub pattern: Option<Pattern>,
    /// A pattern that is accepted but on its way out, and what to say.
    #[serde(default)]
    pub outdated: Option<Outdated>,
    /// The only value that is accepted.
    #[serde(default)]
    pub equals: Option<String>,
    /// The values that are accepted, for `select`.
    #[serde(default)]
    pub options: Vec<String>,
    /// What one looks like, invented.
    #[serde(default)]
    pub example: Option<String>,
    /// Where to find it.
    #[serde(default)]
    pub hint: Option<String>,
    /// Whether it stays here where the credential is handed out: Keystead alone uses it.
    #[serde(default)]
    pub withheld: bool,
    /// What holds where it is not given.
    #[serde(default)]
    pub default: Option<String>,
    /// Whether the provider grants it in the course of OAuth; nobody gives it.
    #[serde(skip)]
    pub granted: bool,
}

/// A format that the vendor is about to drop.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outdated {
    /// What it looks like.
    pub pattern: Pattern,
    /// What to tell.
    pub message: String,
}

/// How a field is asked for, and what it may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One line.
    #[default]
    Text,
    /// Several lines.
    Multiline,
    /// The content of a file.
    File,
    /// One of `options`.
    Select,
    /// An absolute path with an optional query (settings only).
    Path,
    /// The name of a header (settings only).
    HeaderName,
    /// Scheme and host, one of those that the operator approved (settings only).
    Url,
    /// Hosts out of `host_choices`, separated by spaces (settings only).
    Hosts,
}

/// Where a credential goes on a request.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Placement {
    /// `Authorization: Bearer <field>`.
    Bearer {
        /// The field.
        field: String,
    },
    /// A header of the given name: prefix, then the field.
    Header {
        /// The header's name; a template over the config.
        name: String,
        /// What stands before the field; a template over the config.
        #[serde(default)]
        prefix: String,
        /// The field.
        field: String,
    },
    /// Several headers at once. One whose field is not given is left out.
    Headers {
        /// The headers.
        headers: Vec<PlacedHeader>,
    },
    /// `Authorization: <scheme> <field>`, where the scheme goes by how the value begins. One that
    /// the value brings along is taken off first.
    Scheme {
        /// The field; it may be several values, separated by commas.
        field: String,
        /// What one of its values begins with for `scheme`.
        begins: Vec<String>,
        /// The scheme for those.
        scheme: String,
        /// The scheme for others.
        otherwise: String,
    },
    /// `Authorization: Basic base64(user:password)`.
    Basic {
        /// The field with the user.
        #[serde(default)]
        user: Option<String>,
        /// The user, where all credentials have the same.
        #[serde(default)]
        user_name: Option<String>,
        /// The field with the password.
        password: String,
    },
    /// A query parameter. No embedded provider uses it: URLs end up in logs.
    Query {
        /// The parameter's name.
        name: String,
        /// The field.
        field: String,
    },
    /// AWS Signature Version 4.
    SigV4 {
        /// The field with the key's id.
        access_key_id: String,
        /// The field with the signing key.
        secret_access_key: String,
        /// The field with the token of temporary credentials.
        session_token: String,
    },
    /// A bearer JWT that lasts minutes, made for the request: `iss`, `exp`, `nbf`, HS256.
    JwtHs256 {
        /// The field that is `iss`.
        issuer: String,
        /// The field whose bytes are the key.
        key: String,
        /// `exp` is so many seconds from now.
        lifetime: i64,
        /// `nbf` is so many seconds ago.
        backdate: i64,
    },
    /// A token that is minted first; see [`Mint`].
    Token {
        /// The header that carries it; without one, it is a bearer.
        #[serde(default)]
        header: Option<String>,
    },
}

/// One of several headers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlacedHeader {
    /// The header's name.
    pub name: String,
    /// What stands before the field.
    #[serde(default)]
    pub prefix: String,
    /// The field.
    pub field: String,
}

/// A header that calls need beside the credential.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderRule {
    /// Its name.
    #[serde(deserialize_with = "header_name")]
    pub name: HeaderName,
    /// Its value; a template over the config. Left out where a placeholder has no value.
    pub value: String,
    /// Whether it replaces what the caller sent.
    #[serde(default)]
    pub force: bool,
}

/// A host pattern of a provider file, or a template over the config that becomes one host.
#[derive(Clone, Debug)]
pub struct HostRule {
    /// As written.
    pub text: String,
    /// `None` for a template.
    pattern: Option<HostPattern>,
}

impl HostRule {
    /// Whether the pattern means the host; never so for a template.
    pub fn matches(&self, host: &str) -> bool {
        self.pattern
            .as_ref()
            .is_some_and(|pattern| pattern.matches(host))
    }

    pub(super) fn is_template(&self) -> bool {
        self.pattern.is_none()
    }
}

impl<'de> Deserialize<'de> for HostRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.contains('{') {
            return Ok(HostRule {
                text,
                pattern: None,
            });
        }
        match HostPattern::parse(&text) {
            Ok(pattern) => Ok(HostRule {
                text,
                pattern: Some(pattern),
            }),
            Err(fault) => Err(serde::de::Error::custom(format!(
                "host pattern `{text}`: {fault}"
            ))),
        }
    }
}

/// A regular expression over a whole value.
#[derive(Clone)]
pub struct Pattern(regex_lite::Regex);

impl Pattern {
    /// Whether the value fits.
    pub fn fits(&self, value: &str) -> bool {
        self.0.is_match(value)
    }

    /// The expression.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        regex_lite::Regex::new(&text)
            .map(Pattern)
            .map_err(|fault| serde::de::Error::custom(format!("pattern `{text}`: {fault}")))
    }
}

pub(super) fn yes() -> bool {
    true
}

fn header_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HeaderName, D::Error> {
    let text = String::deserialize(deserializer)?;
    HeaderName::from_lowercase(text.as_bytes())
        .map_err(|_| serde::de::Error::custom(format!("`{text}` is no lower-case header name")))
}

fn header_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<HeaderName>, D::Error> {
    #[derive(Deserialize)]
    struct Name(#[serde(deserialize_with = "header_name")] HeaderName);
    Ok(Vec::<Name>::deserialize(deserializer)?
        .into_iter()
        .map(|name| name.0)
        .collect())
}

pub(super) fn method<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Method, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "GET" => Ok(Method::GET),
        "POST" => Ok(Method::POST),
        other => Err(serde::de::Error::custom(format!(
            "`{other}` is neither GET nor POST"
        ))),
    }
}

impl Provider {
    /// The mode of that id.
    pub fn mode(&self, id: &str) -> Option<&Mode> {
        self.modes.iter().find(|mode| mode.id == id)
    }

    /// The mode in which a person connects by consent.
    pub fn oauth_mode(&self) -> Option<&Mode> {
        self.modes.iter().find(|mode| mode.oauth.is_some())
    }

    /// How a person gets a credential of the mode.
    pub fn help_of<'p>(&'p self, mode: &'p Mode) -> Option<&'p str> {
        mode.help.as_deref().or(self.help.as_deref())
    }

    /// The page where a person can take a credential of the mode back.
    pub fn manual_revocation_of<'p>(&'p self, mode: &'p Mode) -> Option<&'p str> {
        let own = mode.revoke.as_ref().and_then(|r| r.manual.as_deref());
        own.or(self.links.revoke.as_deref())
    }

    /// Whether requests to that host are signed over the hash of their body.
    pub fn needs_body_hash(&self, host: &str) -> bool {
        self.modes
            .iter()
            .any(|mode| matches!(mode.placement, Placement::SigV4 { .. }))
            && crate::sigv4::scope_of(host).is_none_or(|scope| scope.service != "s3")
    }
}

impl Mode {
    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The fields that a person gives; the others are granted.
    pub fn given(&self) -> impl Iterator<Item = &Field> + Clone {
        self.fields.iter().filter(|field| !field.granted)
    }

    /// The field that a credential given as text is.
    pub fn primary(&self) -> Option<&Field> {
        self.fields.iter().find(|field| field.primary)
    }

    /// Where the credential goes on a request with that path.
    pub fn placement_at(&self, path: &str) -> &Placement {
        self.under
            .iter()
            .find(|under| path.starts_with(&under.path))
            .map_or(&self.placement, |under| &under.placement)
    }
}
