//! What each provider of the catalogue has: a way to get, try, renew and take back its credential.

#![allow(clippy::unwrap_used)]

use std::sync::LazyLock;

use keystead_core::provider::oauth::{ClientAuth, RefreshClass, RequestBody};
use keystead_core::provider::{Catalogue, Field, Mode, Placement, Provider};

use ClientAuth::{Basic, Body};
use RefreshClass::{None as Never, Reusable, Rotating, SingleUse};
use RequestBody::{Form, Json};
use TakenBack::{ByCall, ByHand, Nowhere};

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| Catalogue::embedded().unwrap());

/// How the best mode of a provider is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TakenBack {
    /// A call of the provider's does it.
    ByCall,
    /// A person does it, on a page.
    ByHand,
    /// There is no vendor to name a page of.
    Nowhere,
}

/// Class, client authentication, body and PKCE of a provider's consent.
type Consent = Option<(RefreshClass, ClientAuth, RequestBody, bool)>;

/// The name that the service goes by elsewhere, the provider's id, its consent, its revocation.
#[rustfmt::skip]
const PROVIDERS: [(&str, &str, Consent, TakenBack); 51] = [
    ("airtable", "airtable", Some((SingleUse, Basic, Form, true)), ByHand),
    ("anthropic", "anthropic", None, ByHand),
    ("atlassian", "atlassian", Some((SingleUse, Body, Form, false)), ByHand),
    ("aws_access_key", "aws_access_key", None, ByCall),
    ("azure_service_principal", "azure_service_principal", None, ByHand),
    ("cloudflare", "cloudflare", None, ByHand),
    ("cohere", "cohere", None, ByHand),
    ("datadog", "datadog", None, ByHand),
    ("deepseek", "deepseek", None, ByHand),
    ("discord", "discord", Some((SingleUse, Body, Form, true)), ByCall),
    ("dropbox", "dropbox", Some((Reusable, Body, Form, true)), ByCall),
    ("elevenlabs", "elevenlabs", None, ByHand),
    ("fly", "fly", None, ByHand),
    ("gcp_service_account", "gcp_service_account", None, ByHand),
    ("generic_sms_bearer", "generic_bearer", None, Nowhere),
    ("github", "github", Some((SingleUse, Body, Form, true)), ByCall),
    ("google_gemini", "google_gemini", None, ByHand),
    ("google_oauth", "google_oauth", Some((Reusable, Body, Form, true)), ByCall),
    ("groq", "groq", None, ByHand),
    ("hubspot", "hubspot", Some((SingleUse, Body, Form, true)), ByCall),
    ("huggingface", "huggingface", Some((SingleUse, Body, Form, true)), ByHand),
    ("kling", "kling", None, ByHand),
    ("linear", "linear", Some((SingleUse, Body, Form, true)), ByCall),
    ("mailgun", "mailgun", None, ByHand),
    ("microsoft_graph", "microsoft_graph", Some((Rotating, Body, Form, true)), ByHand),
    ("mistral", "mistral", None, ByHand),
    ("netlify", "netlify", Some((Never, Body, Form, false)), ByHand),
    ("notion", "notion", Some((SingleUse, Basic, Json, false)), ByCall),
    ("openai", "openai", None, ByHand),
    ("openrouter", "openrouter", None, ByHand),
    ("pagerduty", "pagerduty", Some((SingleUse, Body, Form, true)), ByHand),
    ("perplexity", "perplexity", None, ByCall),
    ("postmark", "postmark", None, ByHand),
    ("replicate", "replicate", None, ByHand),
    ("resend", "resend", Some((SingleUse, Body, Form, true)), ByCall),
    ("salesforce", "salesforce", Some((SingleUse, Body, Form, true)), ByCall),
    ("sendgrid", "sendgrid", None, ByHand),
    ("sentry", "sentry", None, ByHand),
    ("shopify", "shopify", Some((SingleUse, Body, Form, false)), ByCall),
    ("slack", "slack", Some((SingleUse, Body, Form, false)), ByCall),
    ("smashrun", "smashrun", Some((SingleUse, Body, Form, false)), ByHand),
    ("stripe", "stripe", None, ByHand),
    ("supabase_mgmt_oauth", "supabase", Some((SingleUse, Basic, Form, true)), ByCall),
    ("supabase_project_key", "supabase_project_key", None, ByHand),
    ("together", "together", None, ByHand),
    ("twilio_sms", "twilio", None, ByHand),
    ("vercel", "vercel", None, ByCall),
    ("whatsapp_cloud", "whatsapp_cloud", None, ByHand),
    ("xai", "xai", None, ByHand),
    ("youtube", "youtube", Some((Reusable, Body, Form, true)), ByCall),
    ("zoom", "zoom", Some((SingleUse, Basic, Form, true)), ByCall),
];

fn consent(provider: &Provider) -> Consent {
    let oauth = provider.oauth_mode()?.oauth.as_ref()?;
    Some((
        oauth.refresh.class,
        oauth.client_auth,
        oauth.request,
        oauth.pkce,
    ))
}

fn taken_back(provider: &Provider) -> TakenBack {
    let modes = &provider.modes;
    if modes
        .iter()
        .any(|mode| mode.revoke.as_ref().is_some_and(|r| !r.calls.is_empty()))
    {
        ByCall
    } else if modes
        .iter()
        .all(|mode| provider.manual_revocation_of(mode).is_some())
    {
        ByHand
    } else {
        Nowhere
    }
}

#[test]
fn every_provider_has_the_consent_and_the_revocation_that_it_is_known_for() {
    let mut ids = Vec::new();
    for (name, id, expected, revocation) in PROVIDERS {
        let provider = CATALOGUE.get(name).unwrap();
        assert_eq!(provider.id, id);
        assert_eq!(consent(provider), expected, "{id}");
        assert_eq!(taken_back(provider), revocation, "{id}");
        ids.push(id);
    }
    ids.sort_unstable();
    let all: Vec<&str> = CATALOGUE.list().map(|p| p.id.as_str()).collect();
    assert_eq!(ids, all);
}

#[test]
fn a_person_is_told_where_each_credential_is_made_and_where_it_is_taken_back() {
    for provider in CATALOGUE.list() {
        if provider.id == "generic_bearer" {
            assert!(provider.help.is_some());
            continue;
        }
        assert!(provider.links.console.is_some(), "{}", provider.id);
        for mode in &provider.modes {
            let which = format!("{} {}", provider.id, mode.id);
            assert!(provider.manual_revocation_of(mode).is_some(), "{which}");
            // What two modes of a provider share may be said once.
            let told = provider.help_of(mode).is_some() || provider.modes.len() > 1;
            assert!(told, "{which}");
            if let Some(help) = provider.help_of(mode) {
                assert!(help.ends_with('.') && help.len() > 20, "{which}: {help}");
            }
        }
    }
}

#[test]
fn every_mode_can_be_tried() {
    for provider in CATALOGUE.list() {
        for mode in &provider.modes {
            let test = provider.test_of(mode).unwrap();
            assert!(
                test.mint || test.path.is_some(),
                "{} {}",
                provider.id,
                mode.id
            );
            assert_eq!(
                test.mint,
                matches!(mode.placement, Placement::Token { .. }),
                "{} {}: what is minted is tried by minting",
                provider.id,
                mode.id
            );
        }
    }
}

#[test]
fn what_a_person_is_asked_for_is_shown_by_an_example_that_fits() {
    for provider in CATALOGUE.list() {
        let given = provider.modes.iter().flat_map(Mode::given);
        for field in given.chain(&provider.config) {
            let which = format!("{} {}", provider.id, field.name);
            let Field {
                pattern: Some(pattern),
                example,
                ..
            } = field
            else {
                continue;
            };
            // Of keys in PEM, the first line says it all.
            if field.required && !pattern.as_str().contains("PRIVATE KEY") {
                let shown = example.as_ref().or(field.default.as_ref());
                assert!(shown.is_some_and(|value| pattern.fits(value)), "{which}");
            }
        }
    }
}

#[test]
fn no_credential_of_the_catalogue_goes_into_an_address() {
    for provider in CATALOGUE.list() {
        for mode in &provider.modes {
            let places = mode.under.iter().map(|under| &under.placement);
            for place in places.chain([&mode.placement]) {
                assert!(
                    !matches!(place, Placement::Query { .. }),
                    "{} {}",
                    provider.id,
                    mode.id
                );
            }
            let secret: Vec<String> = mode
                .fields
                .iter()
                .filter(|field| field.secret)
                .map(|field| field.name.clone())
                .collect();
            let mut addresses: Vec<&str> = Vec::new();
            addresses.extend(provider.test_of(mode).and_then(|t| t.path.as_deref()));
            if let Some(oauth) = &mode.oauth {
                addresses.extend([oauth.authorize_url.as_str(), oauth.token_url.as_str()]);
                addresses.extend(oauth.device_url.as_deref());
                addresses.extend(oauth.authorize_params.values().map(String::as_str));
            }
            if let Some(revoke) = &mode.revoke {
                addresses.extend(revoke.calls.iter().map(|call| call.url.as_str()));
            }
            for address in addresses {
                for name in &secret {
                    let named = [
                        format!("{{{name}}}"),
                        format!("{{{name}|"),
                        format!("|{name}}}"),
                    ];
                    assert!(
                        !named.iter().any(|named| address.contains(named)),
                        "{}: {address}",
                        provider.id
                    );
                }
            }
        }
    }
}

/// Vendors take keys in these places of an address, too; what a caller puts there is dropped.
#[test]
fn a_callers_key_in_the_address_is_dropped_where_the_vendor_would_take_it() {
    for (id, name) in [
        ("google_gemini", "key"),
        ("youtube", "key"),
        ("youtube", "access_token"),
        ("google_oauth", "access_token"),
        ("whatsapp_cloud", "access_token"),
        ("whatsapp_cloud", "input_token"),
        ("smashrun", "access_token"),
        ("hubspot", "hapikey"),
        ("slack", "token"),
    ] {
        let provider = CATALOGUE.get(id).unwrap();
        assert!(
            provider.strip_query.iter().any(|n| n == name),
            "{id} {name}"
        );
    }
}

#[test]
fn headers_without_which_a_vendor_refuses_are_set() {
    for (id, name) in [
        ("anthropic", "anthropic-version"),
        ("discord", "user-agent"),
        ("github", "user-agent"),
        ("notion", "notion-version"),
        ("pagerduty", "accept"),
        ("postmark", "accept"),
        ("resend", "user-agent"),
    ] {
        let provider = CATALOGUE.get(id).unwrap();
        assert!(
            provider.headers.iter().any(|h| h.name == name),
            "{id} {name}"
        );
    }
}

#[test]
fn prices_are_dated_and_stand_beside_the_paths_that_count() {
    let mut prices = 0;
    for provider in CATALOGUE.list() {
        let mut models = std::collections::BTreeSet::new();
        for price in &provider.prices {
            assert!(models.insert(&price.model), "{}: twice", price.model);
            let day: jiff::civil::Date = price.as_of.parse().unwrap();
            assert!((2025..=2026).contains(&day.year()), "{}", price.model);
            // Reading from a cache is never dearer, and long requests never cheaper.
            assert!(price.cached.is_none_or(|cached| cached <= price.input));
            if let Some(above) = &price.above {
                assert!(above.input > price.input && above.tokens >= 100_000);
            }
            prices += 1;
        }
        assert!(
            provider.prices.is_empty() || !provider.usage.is_empty(),
            "{}",
            provider.id
        );
    }
    assert!(prices > 70, "{prices}");
}
