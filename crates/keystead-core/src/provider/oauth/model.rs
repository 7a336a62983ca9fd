//! `[mode.oauth]` of a provider file, and the fields and settings that it implies.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::provider::model::{Field, Kind, Provider, yes};
use crate::provider::test_call::Conditions;

/// The setting that holds the API host which the provider named in its reply. It is there where
/// [`Reply::host`] is, and whoever stores the tokens writes it from their field `host`.
pub const API_HOST: &str = "api_host";

/// How a person's consent becomes tokens.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OAuth {
    /// Where a person consents; a template over the config, like the other endpoints.
    pub authorize_url: String,
    /// Where a code or a refresh token becomes tokens.
    pub token_url: String,
    /// Where a device asks (RFC 8628).
    #[serde(default)]
    pub device_url: Option<String>,
    /// Who must have sent a callback that says who sent it (RFC 9207).
    #[serde(default)]
    pub issuer: Option<String>,
    /// Whether every callback says so.
    #[serde(default)]
    pub iss_required: bool,
    /// The parameter of a callback that signs the others: HMAC-SHA256 in hex, by the client secret,
    /// of them all, sorted, as a query.
    #[serde(default)]
    pub callback_hmac: Option<String>,
    /// What parameters of a callback have to be: templates over the config.
    #[serde(default)]
    pub callback_params: BTreeMap<String, String>,
    /// How the client proves itself.
    #[serde(default)]
    pub client_auth: ClientAuth,
    /// How a token request is written.
    #[serde(default)]
    pub request: RequestBody,
    /// Whether PKCE with S256 is taken.
    #[serde(default = "yes")]
    pub pkce: bool,
    /// What is asked for; the words of a setting `scopes` are asked for instead.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// The parameter that they go into.
    #[serde(default = "scope")]
    pub scope_param: String,
    /// What stands between them.
    #[serde(default = "space")]
    pub scope_separator: String,
    /// Further parameters of the authorisation: templates over the config, left out where a
    /// placeholder has no value.
    #[serde(default)]
    pub authorize_params: BTreeMap<String, String>,
    /// Further parameters of the exchange, likewise.
    #[serde(default)]
    pub token_params: BTreeMap<String, String>,
    /// Whether the exchange repeats the redirect URI.
    #[serde(default = "yes")]
    pub redirect_uri_in_exchange: bool,
    /// Where the reply says what.
    #[serde(default)]
    pub reply: Reply,
    /// What a refresh token is good for.
    #[serde(default)]
    pub refresh: Refresh,
    /// What a refusal means; the first that fits decides.
    #[serde(default, rename = "rule")]
    pub rules: Vec<MeansRule>,
}

/// How a client proves itself at the token endpoint. One without a secret only names itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// By `Authorization: Basic`.
    Basic,
    /// By parameters.
    #[default]
    Body,
    /// Not at all: a public client.
    None,
}

/// How a token request is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestBody {
    /// `application/x-www-form-urlencoded`.
    #[default]
    Form,
    /// JSON.
    Json,
}

/// Where a reply says what: JSON pointers (RFC 6901). An empty one: the reply does not say it.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reply {
    /// The statuses of a reply with tokens.
    pub success: Vec<u16>,
    /// What must be `true`.
    pub ok: Option<String>,
    /// The code of a refusal; there in a refusal alone, whatever the status.
    pub error: String,
    /// The access token.
    pub access_token: String,
    /// The refresh token.
    pub refresh_token: String,
    /// In how many seconds the access token ends.
    pub expires_in: String,
    /// In how many seconds the refresh token ends.
    pub refresh_expires_in: String,
    /// What was granted.
    pub scope: String,
    /// The token's type.
    pub token_type: String,
    /// The types that are taken, letter case ignored.
    pub token_types: Vec<String>,
    /// The host of the API for this grant, or its address.
    pub host: Option<String>,
}

impl Default for Reply {
    fn default() -> Reply {
        Reply {
            success: vec![200],
            ok: None,
            error: "/error".to_owned(),
            access_token: "/access_token".to_owned(),
            refresh_token: "/refresh_token".to_owned(),
            expires_in: "/expires_in".to_owned(),
            refresh_expires_in: "/refresh_token_expires_in".to_owned(),
            scope: "/scope".to_owned(),
            token_type: "/token_type".to_owned(),
            token_types: vec!["bearer".to_owned()],
            host: None,
        }
    }
}

/// What a refresh token is good for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    /// What becomes of one that was used.
    pub class: RefreshClass,
    /// How many seconds an access token lasts whose reply does not say. Without it, nobody knows.
    #[serde(default)]
    pub lifetime: Option<i64>,
}

/// What becomes of a refresh token that was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefreshClass {
    /// There is none.
    #[default]
    None,
    /// It stays; a reply without one leaves the old one in force.
    Reusable,
    /// A new one comes, and the old one still works.
    Rotating,
    /// A new one comes, and the old one is dead.
    SingleUse,
}

/// A way to read a refusal.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeansRule {
    /// When it is meant.
    #[serde(flatten)]
    pub when: Conditions,
    /// What it means.
    pub means: Means,
}

/// What a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Means {
    /// The grant is dead; only a new consent helps.
    Dead,
    /// Our client is not accepted; the grant may well live.
    Client,
    /// Too many calls.
    Rate,
    /// The provider has trouble.
    Down,
    /// Nothing was learnt.
    Unclear,
    /// The person has not decided yet (RFC 8628).
    #[serde(skip_deserializing)]
    Pending,
    /// As [`Means::Pending`], and ask five seconds less often.
    #[serde(skip_deserializing)]
    SlowDown,
}

fn scope() -> String {
    "scope".to_owned()
}

fn space() -> String {
    " ".to_owned()
}

/// Name, label, whether it is secret, whether the provider grants it.
const IMPLIED: [(&str, &str, bool, bool); 6] = [
    ("client_id", "client id of your own app", false, false),
    (
        "client_secret",
        "client secret of your own app",
        true,
        false,
    ),
    ("access_token", "access token", true, true),
    ("refresh_token", "refresh token", true, true),
    ("scope", "granted scopes", false, true),
    ("host", "API host", false, true),
];

/// Adds the fields of OAuth modes, and the setting of the API host. A file may name a field
/// itself, to say more of it; what it is stays as it is here.
pub(in crate::provider) fn imply(provider: &mut Provider) {
    let mut names_host = false;
    for mode in &mut provider.modes {
        let Some(oauth) = &mode.oauth else {
            continue;
        };
        names_host |= oauth.reply.host.is_some();
        for (name, label, secret, granted) in IMPLIED {
            if name == "client_secret" && oauth.client_auth == ClientAuth::None {
                continue;
            }
            let own = mode.fields.iter_mut().find(|field| field.name == name);
            let field = match own {
                Some(own) => own,
                None => {
                    mode.fields.push(implied(name, label, Kind::Text));
                    let last = mode.fields.len() - 1;
                    &mut mode.fields[last]
                }
            };
            (field.secret, field.granted, field.required) = (secret, granted, false);
        }
    }
    let names_host = names_host && !provider.host_choices.is_empty();
    if names_host && provider.setting(API_HOST).is_none() {
        let mut setting = implied(API_HOST, "API host", Kind::Hosts);
        setting.hint = Some("Filled in when the integration is authorised.".to_owned());
        provider.config.push(setting);
    }
}

fn implied(name: &str, label: &str, kind: Kind) -> Field {
    Field {
        name: name.to_owned(),
        label: label.to_owned(),
        secret: false,
        primary: false,
        required: false,
        kind,
        pattern: None,
        outdated: None,
        equals: None,
        options: Vec::new(),
        example: None,
        hint: None,
        default: None,
        withheld: false,
        granted: false,
    }
}

impl OAuth {
    /// The hosts at which a person consents, tokens are made, and that its issuer names; but for
    /// those that a setting is part of.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        let urls = [
            Some(&self.authorize_url),
            Some(&self.token_url),
            self.issuer.as_ref(),
        ];
        let rest = urls.into_iter().flatten();
        let rest = rest.filter_map(|url| url.strip_prefix("https://"));
        rest.filter_map(|rest| rest.split('/').next())
            .filter(|host| !host.contains('{'))
    }

    pub(super) fn scope(&self, config: &crate::provider::Config, provider: &Provider) -> String {
        match config.value(provider, "scopes") {
            Some(own) => own
                .split_ascii_whitespace()
                .collect::<Vec<_>>()
                .join(&self.scope_separator),
            None => self.scopes.join(&self.scope_separator),
        }
    }
}

impl Provider {
    /// How a person's consent becomes tokens, where that is a way to connect.
    pub fn oauth(&self) -> Option<&OAuth> {
        self.oauth_mode()?.oauth.as_ref()
    }
}
