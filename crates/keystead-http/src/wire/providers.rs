//! The catalogue, as much of it as a form or a connect page needs.
//!
//! Deliberately not here: endpoints, hosts, and how answers are read.

use keystead_core::provider;
use keystead_core::provider::oauth::{API_HOST, RefreshClass};
use serde::Serialize;
use utoipa::ToSchema;

/// An upstream service, as much of it as a form needs.
#[derive(Serialize, ToSchema)]
pub(crate) struct Provider {
    /// What integrations give as `type`.
    id: String,
    /// For people.
    name: String,
    /// Where the vendor says how to get a credential.
    docs: String,
    /// The vendor's pages for people.
    links: ProviderLinks,
    /// Ways to authenticate, the preferred one first.
    modes: Vec<Mode>,
    /// Settings that are not secret.
    config: Vec<Field>,
}

/// The vendor's pages for people.
#[derive(Serialize, ToSchema)]
pub(crate) struct ProviderLinks {
    /// Where credentials are made.
    console: Option<String>,
    /// Where they are taken back by hand.
    revoke: Option<String>,
}

/// One way to authenticate.
#[derive(Serialize, ToSchema)]
pub(crate) struct Mode {
    id: String,
    /// For people.
    label: String,
    /// How a person gets the credential.
    help: Option<String>,
    /// What the credential consists of.
    fields: Vec<Field>,
    /// Where a person consents instead: what is asked for. Its fields are those of an own app.
    oauth: Option<ModeConsent>,
    /// How the credential is taken back at the provider.
    revoke: ModeRevocation,
}

/// What a person is asked to consent to.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModeConsent {
    /// The scopes where the integration's config names none.
    scopes: Vec<String>,
    /// Whether a device without a browser can begin it.
    device: bool,
    /// Whether its tokens are renewed without the person.
    renewed: bool,
}

/// How a credential is taken back at the provider.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModeRevocation {
    /// Whether Keystead can do it.
    by_call: bool,
    /// The page where a person can.
    page: Option<String>,
}

/// A field, and how to ask for it.
#[derive(Serialize, ToSchema)]
pub(crate) struct Field {
    name: String,
    /// For people.
    label: String,
    /// Whether it is never shown again.
    secret: bool,
    required: bool,
    /// Whether a credential that comes as text is this field.
    primary: bool,
    /// `text`, `multiline`, `file`, `select`, or what else it must be.
    input: &'static str,
    /// For `select`: what there is to choose from.
    options: Vec<String>,
    /// A regular expression that values usually fit; others are taken with a warning.
    pattern: Option<String>,
    /// An invented value.
    example: Option<String>,
    /// Where to find it.
    hint: Option<String>,
    /// What is taken where none is given.
    default: Option<String>,
}

impl From<&provider::Provider> for Provider {
    fn from(from: &provider::Provider) -> Provider {
        Provider {
            id: from.id.clone(),
            name: from.name.clone(),
            docs: from.docs.clone(),
            links: ProviderLinks {
                console: from.links.console.clone(),
                revoke: from.links.revoke.clone(),
            },
            modes: from
                .modes
                .iter()
                .map(|mode| Mode {
                    id: mode.id.clone(),
                    label: mode.label.clone(),
                    help: from.help_of(mode).map(str::to_owned),
                    fields: mode.given().map(Field::from).collect(),
                    oauth: mode.oauth.as_ref().map(|oauth| ModeConsent {
                        scopes: oauth.scopes.clone(),
                        device: oauth.device_url.is_some(),
                        renewed: oauth.refresh.class != RefreshClass::None,
                    }),
                    revoke: ModeRevocation {
                        by_call: mode.revoke.as_ref().is_some_and(|r| !r.calls.is_empty()),
                        page: from.manual_revocation_of(mode).map(str::to_owned),
                    },
                })
                .collect(),
            // The API's own host is the provider's to name.
            config: from
                .config
                .iter()
                .filter(|setting| setting.name != API_HOST)
                .map(Field::from)
                .collect(),
        }
    }
}

impl From<&provider::Field> for Field {
    fn from(from: &provider::Field) -> Field {
        use provider::Kind;
        Field {
            name: from.name.clone(),
            label: from.label.clone(),
            secret: from.secret,
            required: from.required,
            primary: from.primary,
            input: match from.kind {
                Kind::Text => "text",
                Kind::Multiline => "multiline",
                Kind::File => "file",
                Kind::Select => "select",
                Kind::Path => "path",
                Kind::HeaderName => "header_name",
                Kind::Url => "url",
                Kind::Hosts => "hosts",
            },
            options: from.options.clone(),
            pattern: from
                .pattern
                .as_ref()
                .map(|pattern| pattern.as_str().to_owned()),
            example: from.example.clone(),
            hint: from.hint.clone(),
            default: from.default.clone(),
        }
    }
}
