//! A provider's form: for a new integration, and for a new credential of one that is there.

use askama::Template;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use keystead_broker::{
    Changes, ConnectSession, Error, FieldFault, Integration, NewIntegration, random,
};
use keystead_core::ids::IntegrationId;
use keystead_core::provider::{Mode, Provider};
use serde_json::Value;

use super::fields::{Asked, Inputs, entered_config, entered_credential};
use super::one::tried;
use super::provider_of;
use super::say::{Said, monogram};
use crate::pages::form::Form;
use crate::pages::page::{Page, on_to};
use crate::pages::texts::fill;
use crate::pages::visit::Visit;
use crate::problem::Fault;

#[derive(Template)]
#[template(path = "connect/add.html")]
struct Add<'a> {
    page: &'a Page,
    title: String,
    monogram: String,
    provider: &'a Provider,
    /// The page's own address, and where its form goes.
    to: String,
    sends: String,
    /// What is said where the way leads through the provider's own page.
    consent: Option<Consent>,
    /// Where one gets back to without it.
    back: String,
    /// The ways to connect, where there are several: which, what it says, whether it is this one.
    ways: Vec<(&'a str, &'a str, bool)>,
    mode: &'a Mode,
    help: Option<Said>,
    inputs: Inputs<'a>,
    /// The name to be given; `None` where there is one already.
    name: Option<String>,
    name_fault: Option<Said>,
    /// Faults of no input; a form that is not taken says so above it all.
    faults: Option<Vec<Said>>,
    /// Makes a form that is sent twice one request.
    once: String,
    /// What the language of provider files is, where it is not the page's.
    english: bool,
}

/// What is said of a way that leads through the provider's own page.
struct Consent {
    lead: String,
    button: String,
    app_lead: String,
    /// What an app of one's own has to be registered with.
    callback: String,
    /// Where there is no app of this installation's.
    no_app: Option<String>,
}

impl Consent {
    fn of(visit: &Visit, provider: &Provider) -> Consent {
        let t = visit.page.t();
        let broker = &visit.shared.broker;
        let name = [("provider", provider.name.as_str())];
        Consent {
            lead: fill(t.add_oauth_lead, &name),
            button: fill(t.add_oauth_button, &name),
            app_lead: fill(t.add_own_app_lead, &name),
            callback: broker.oauth_callback(&provider.id).unwrap_or_default(),
            no_app: (!broker.has_oauth_app(&provider.id)).then(|| fill(t.add_no_app, &name)),
        }
    }
}

/// What a form that was not taken held.
pub(super) struct Again<'f> {
    form: &'f Form,
    faults: Vec<FieldFault>,
    status: StatusCode,
}

/// Whether a person can enter a credential of it.
pub(super) fn offers_key(provider: &Provider) -> bool {
    provider.modes.iter().any(|mode| mode.oauth.is_none())
}

/// The way that is asked for, else the first that can be gone.
fn mode_of<'p>(
    visit: &Visit,
    provider: &'p Provider,
    id: &str,
    key_only: bool,
) -> Result<&'p Mode, Fault> {
    let broker = &visit.shared.broker;
    let mut modes = provider
        .modes
        .iter()
        .filter(|mode| !key_only || mode.oauth.is_none());
    let open = |mode: &&Mode| mode.oauth.is_none() || broker.has_oauth_app(&provider.id);
    let found = match id {
        "" => modes.clone().find(open).or_else(|| modes.next()),
        id => modes.find(|mode| mode.id == id),
    };
    found.ok_or_else(|| Error::NotFound { what: "mode" }.into())
}

/// The form of a new integration.
pub(super) async fn ask(mut visit: Visit) -> Result<Response, Fault> {
    let session = visit.session().await?;
    let provider = provider_of(&visit, &session, &visit.after("/add/")).await?;
    let mode = mode_of(
        &visit,
        &provider,
        &visit.query("mode").unwrap_or_default(),
        false,
    )?;
    show(&mut visit, &provider, mode, None, None)
}

/// The form of a new credential.
pub(super) async fn ask_again(mut visit: Visit) -> Result<Response, Fault> {
    let (_, integration, provider) = of_path(&mut visit, None).await?;
    let mode = mode_of(
        &visit,
        &provider,
        &visit.query("mode").unwrap_or_default(),
        true,
    )?;
    show(&mut visit, &provider, mode, Some(&integration), None)
}

/// The integration that the path names, and its provider.
async fn of_path(
    visit: &mut Visit,
    session: Option<ConnectSession>,
) -> Result<(ConnectSession, Integration, std::sync::Arc<Provider>), Fault> {
    let session = match session {
        Some(session) => session,
        None => visit.session().await?,
    };
    let id: Result<IntegrationId, _> = visit.after("/at/").parse();
    let id = id.map_err(|_| Error::NotFound {
        what: "integration",
    })?;
    let integration = visit.shared.broker.integration(&session.ctx, id).await?;
    let provider = provider_of(visit, &session, &integration.type_).await?;
    Ok((session, integration, provider))
}

pub(super) fn show(
    visit: &mut Visit,
    provider: &Provider,
    mode: &Mode,
    of: Option<&Integration>,
    again: Option<Again<'_>>,
) -> Result<Response, Fault> {
    let consent = mode.oauth.is_some().then(|| Consent::of(visit, provider));
    let page = &visit.page;
    let (language, t) = (page.language, page.t());
    let mut inputs = Inputs::of(provider, mode, language);
    if let Some(of) = of {
        inputs = inputs.with_config(&of.config);
    }
    let (mut status, mut faults, mut name_fault) = (StatusCode::OK, None, None);
    let mut name = of.is_none().then(|| provider.name.clone());
    if let Some(again) = &again {
        status = again.status;
        let with = inputs
            .with_entered(again.form)
            .with_faults(&again.faults, language);
        inputs = with.0;
        faults = Some(with.1);
        name = name.map(|_| again.form.text("name").to_owned());
        let of_name = again.faults.iter().find(|fault| fault.path == "name");
        name_fault = of_name.map(|_| match status {
            StatusCode::CONFLICT => Said::own(t.fault_duplicate),
            _ => Said::own(t.fault_name),
        });
    }
    let key_only = of.is_some();
    let ways: Vec<_> = provider
        .modes
        .iter()
        .filter(|one| !key_only || one.oauth.is_none())
        .map(|one| (one.id.as_str(), one.label.as_str(), one.id == mode.id))
        .collect();
    let base = page.base;
    let body = Add {
        page,
        title: match of {
            Some(of) => fill(t.replace_title, &[("name", &of.name)]),
            None => fill(t.add_title, &[("provider", &provider.name)]),
        },
        monogram: monogram(&provider.name),
        to: match of {
            Some(of) => format!("{base}/at/{}/replace", of.id),
            None => format!("{base}/add/{}", provider.id),
        },
        sends: match (of, &consent) {
            (Some(of), _) => format!("{base}/at/{}/replace", of.id),
            (None, Some(_)) => format!("{base}/authorise/{}", provider.id),
            (None, None) => format!("{base}/add/{}", provider.id),
        },
        consent,
        back: of.map_or_else(|| base.to_owned(), |of| format!("{base}/at/{}", of.id)),
        ways: if ways.len() > 1 { ways } else { Vec::new() },
        help: provider
            .help_of(mode)
            .map(|help| Said::english(help, language)),
        inputs,
        name,
        name_fault,
        faults,
        once: URL_SAFE_NO_PAD.encode(random::<16>()?),
        english: language.code != "en",
        mode,
        provider,
    };
    page.show(status, &body)
}

/// Makes the integration.
pub(super) async fn save(mut visit: Visit) -> Result<Response, Fault> {
    let (session, form) = visit.session_form().await?;
    let provider = provider_of(&visit, &session, &visit.after("/add/")).await?;
    let mode = mode_of(&visit, &provider, form.text("mode"), false)?;
    let key = once(&form)?;
    let credentials = match entered_credential(mode, &form) {
        Ok(given) => given.unwrap_or_else(|| Value::Object(serde_json::Map::new())),
        Err(fault) => {
            let again = Again::of(&form, vec![fault]);
            return show(&mut visit, &provider, mode, None, Some(again));
        }
    };
    let new = NewIntegration {
        name: form.text("name").trim().to_owned(),
        type_: provider.id.clone(),
        credentials,
        config: entered_config(&provider, &form),
    };
    let broker = visit.shared.broker.clone();
    let made = match broker
        .create_integration(&session.ctx, new, Some(key))
        .await
    {
        Ok(made) => made,
        Err(fault) => {
            let again = Again::after(&form, fault)?;
            return show(&mut visit, &provider, mode, None, Some(again));
        }
    };
    let id = made.integration.id;
    if !made.replayed {
        tried(&broker, &session, id).await;
    }
    let odd = odd(&provider, mode, &made.warnings);
    on_to(&format!("{}/at/{id}?did=added{odd}", visit.page.base))
}

/// A second press of the button is the same request.
pub(super) fn once(form: &Form) -> Result<String, Fault> {
    let once = form.text("once");
    if (16..=64).contains(&once.len()) {
        Ok(format!("connect-{once}"))
    } else {
        Err(Fault::Forged)
    }
}

/// Puts a new credential in the place of the old one.
pub(super) async fn replace(mut visit: Visit) -> Result<Response, Fault> {
    let (session, form) = visit.session_form().await?;
    let (session, integration, provider) = of_path(&mut visit, Some(session)).await?;
    let mode = mode_of(&visit, &provider, form.text("mode"), true)?;
    let credentials = match entered_credential(mode, &form) {
        Ok(given) => given,
        Err(fault) => {
            let again = Again::of(&form, vec![fault]);
            return show(&mut visit, &provider, mode, Some(&integration), Some(again));
        }
    };
    let config = entered_config(&provider, &form);
    let changes = Changes {
        // Nothing entered is a credential that lacks everything, and is refused as one.
        credentials: Some(credentials.unwrap_or_else(|| Value::Object(serde_json::Map::new()))),
        config: (config != integration.config).then_some(config),
        ..Changes::default()
    };
    let broker = visit.shared.broker.clone();
    let id = integration.id;
    if let Err(fault) = broker
        .update_integration(&session.ctx, id, changes, None)
        .await
    {
        let again = Again::after(&form, fault)?;
        return show(&mut visit, &provider, mode, Some(&integration), Some(again));
    }
    tried(&broker, &session, id).await;
    on_to(&format!("{}/at/{id}?did=replaced", visit.page.base))
}

impl<'f> Again<'f> {
    pub(super) fn of(form: &'f Form, faults: Vec<FieldFault>) -> Again<'f> {
        Again {
            form,
            faults,
            status: StatusCode::UNPROCESSABLE_ENTITY,
        }
    }

    /// The form again, where it can be corrected; what cannot is passed on.
    pub(super) fn after(form: &'f Form, fault: Error) -> Result<Again<'f>, Fault> {
        match fault {
            Error::Invalid(faults) => Ok(Again::of(form, faults)),
            Error::Conflict {
                code: "duplicate_name",
                ..
            } => {
                let faults = vec![FieldFault::new("name", "")];
                let status = StatusCode::CONFLICT;
                Ok(Again {
                    form,
                    faults,
                    status,
                })
            }
            other => Err(other.into()),
        }
    }
}

/// Which fields looked odd, for the address of the page that follows: names out of the provider's
/// file, no values.
fn odd(provider: &Provider, mode: &Mode, warnings: &[String]) -> String {
    let mut address = String::new();
    let fields = mode.fields.iter().map(|field| ("credentials", field));
    for (place, field) in fields.chain(provider.config.iter().map(|field| ("config", field))) {
        let start = format!("{place}.{}: ", field.name);
        if let Some(said) = warnings.iter().find_map(|said| said.strip_prefix(&start)) {
            let old = field
                .outdated
                .as_ref()
                .is_some_and(|old| old.message == said);
            address.push_str(if old { "&old=" } else { "&odd=" });
            address.push_str(&field.name);
        }
    }
    address
}

/// The notices to that address.
pub(super) fn add_odd(visit: &Visit, provider: &Provider, notices: &mut Vec<String>) {
    let t = visit.page.t();
    for (word, text) in [("odd", t.odd_field), ("old", t.old_field)] {
        let Some(name) = visit.query(word) else {
            continue;
        };
        let fields = provider.modes.iter().flat_map(|mode| &mode.fields);
        let field = fields
            .chain(&provider.config)
            .find(|field| field.name == name);
        if let Some(field) = field {
            let values = [
                ("field", field.label.as_str()),
                ("provider", &provider.name),
            ];
            notices.push(fill(text, &values));
        }
    }
}
