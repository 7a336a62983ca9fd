//! A provider's own form: its fields as inputs, what was entered in them, and what is wrong.
//!
//! What always holds: what a provider calls secret is never written back into a page; fields that
//! the provider does not have are not read.

use keystead_broker::FieldFault;
use keystead_core::provider::{Field, Kind, Mode, Provider};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::say::Said;
use crate::pages::form::Form;
use crate::pages::language::Language;
use crate::pages::texts::fill;

/// Before the names of a credential's fields, and before those of settings.
const CREDENTIAL: &str = "c.";
const SETTING: &str = "s.";
/// The fields of a credential that is a file: chosen, or pasted.
const FILE: &str = "file";
const FILE_TEXT: &str = "file_text";
/// Of an app of one's own.
const APP: [&str; 2] = ["client_id", "client_secret"];
/// How it is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Line,
    Secret,
    Lines,
    Choice,
}

/// One input of a form.
pub(super) struct Input<'p> {
    pub(super) name: String,
    pub(super) label: Said,
    pub(super) asked: Asked,
    pub(super) secret: bool,
    pub(super) required: bool,
    pub(super) hint: Option<Said>,
    pub(super) example: Option<&'p str>,
    pub(super) options: &'p [String],
    pub(super) value: String,
    pub(super) fault: Option<Said>,
}

impl<'p> Input<'p> {
    fn of(field: &'p Field, prefix: &str, language: &Language) -> Input<'p> {
        let asked = match field.kind {
            Kind::Multiline | Kind::File => Asked::Lines,
            Kind::Select => Asked::Choice,
            _ if field.secret => Asked::Secret,
            _ => Asked::Line,
        };
        Input {
            name: format!("{prefix}{}", field.name),
            label: Said::english(capitalised(&field.label), language),
            asked,
            secret: field.secret,
            required: field.required && field.default.is_none(),
            hint: field
                .hint
                .as_ref()
                .map(|hint| Said::english(hint, language)),
            example: field.example.as_deref(),
            options: &field.options,
            value: field.default.clone().unwrap_or_default(),
            fault: None,
        }
    }

    /// An id that a label and a description can name.
    pub(super) fn id(&self) -> String {
        self.name.replace('.', "-")
    }
}

fn capitalised(label: &str) -> String {
    let mut letters = label.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

/// The inputs of one way to connect.
pub(super) struct Inputs<'p> {
    /// Whether the credential is one file.
    pub(super) file: bool,
    pub(super) file_fault: Option<Said>,
    pub(super) credential: Vec<Input<'p>>,
    /// Of an OAuth app of one's own.
    pub(super) app: Vec<Input<'p>>,
    pub(super) app_open: bool,
    /// Settings that have to be given.
    pub(super) settings: Vec<Input<'p>>,
    /// Settings that may be given.
    pub(super) more: Vec<Input<'p>>,
    /// Whether one of those is what is wrong, so that it is to be seen.
    pub(super) more_open: bool,
}

impl<'p> Inputs<'p> {
    /// Of a new integration.
    pub(super) fn of(provider: &'p Provider, mode: &'p Mode, language: &Language) -> Inputs<'p> {
        let settings = provider.config.iter();
        let (settings, more) = settings
            .map(|field| Input::of(field, SETTING, language))
            .partition(|input: &Input<'_>| input.required);
        let fields = mode.fields.iter().filter(|field| !field.granted);
        let of_app = |field: &&Field| mode.oauth.is_some() && APP.contains(&field.name.as_str());
        let (app, fields): (Vec<_>, Vec<_>) = fields.partition(of_app);
        Inputs {
            file: mode.json_file,
            file_fault: None,
            app: app
                .into_iter()
                .map(|field| Input::of(field, CREDENTIAL, language))
                .collect(),
            app_open: false,
            credential: fields
                .into_iter()
                .filter(|field| field.equals.is_none() && !mode.json_file)
                .map(|field| Input::of(field, CREDENTIAL, language))
                .collect(),
            settings,
            more,
            more_open: false,
        }
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Input<'p>> {
        let credential = self.credential.iter_mut();
        credential
            .chain(self.app.iter_mut())
            .chain(self.settings.iter_mut())
            .chain(self.more.iter_mut())
    }

    /// With the settings that there are.
    pub(super) fn with_config(mut self, config: &Map<String, Value>) -> Self {
        for input in self.settings.iter_mut().chain(&mut self.more) {
            let kept = config.get(input.name.trim_start_matches(SETTING));
            if let Some(text) = kept.and_then(Value::as_str) {
                text.clone_into(&mut input.value);
            }
        }
        self
    }

    /// With what was entered, but for what is secret.
    pub(super) fn with_entered(mut self, form: &Form) -> Self {
        for input in self.all().filter(|input| !input.secret) {
            form.text(&input.name).clone_into(&mut input.value);
        }
        self
    }

    /// With what is wrong; gives back what belongs to no input.
    pub(super) fn with_faults(
        mut self,
        faults: &[FieldFault],
        language: &'static Language,
    ) -> (Self, Vec<Said>) {
        let mut rest = Vec::new();
        for fault in faults {
            let said = fault_text(language, &fault.path, &fault.message);
            let name = match fault.path.split_once('.') {
                Some(("credentials", name)) => format!("{CREDENTIAL}{name}"),
                Some(("config", name)) => format!("{SETTING}{name}"),
                _ => String::new(),
            };
            if let Some(input) = self.all().find(|input| input.name == name) {
                input.fault = Some(said);
            } else if self.file && fault.path.starts_with("credentials") {
                self.file_fault = Some(Said::own(language.texts.fault_file));
            } else if fault.path != "name" {
                rest.push(said);
            }
        }
        self.app_open = self.app.iter().any(|input| input.fault.is_some());
        self.more_open = self.more.iter().any(|input| input.fault.is_some());
        (self, rest)
    }
}

/// The credential that was entered, as the broker takes it; `None` where nothing was.
///
/// # Errors
/// Where a file is not one of JSON.
pub(super) fn entered_credential(mode: &Mode, form: &Form) -> Result<Option<Value>, FieldFault> {
    if mode.json_file {
        let chosen = [FILE, FILE_TEXT].map(|name| form.text(name).trim());
        let Some(text) = chosen.into_iter().find(|text| !text.is_empty()) else {
            return Ok(None);
        };
        return match serde_json::from_str(text) {
            Ok(members @ Value::Object(_)) => Ok(Some(members)),
            _ => Err(FieldFault::new(
                "credentials",
                "is not the content of the file",
            )),
        };
    }
    let mut members = Map::new();
    for field in mode.fields.iter().filter(|field| !field.granted) {
        let text = form.text(&format!("{CREDENTIAL}{}", field.name));
        if !text.trim().is_empty() {
            let text = entered(field, text).to_string();
            members.insert(field.name.clone(), Value::String(text));
        }
    }
    if members.is_empty() {
        return Ok(None);
    }
    for field in &mode.fields {
        if let Some(only) = &field.equals {
            members.insert(field.name.clone(), Value::String(only.clone()));
        }
    }
    Ok(Some(Value::Object(members)))
}

/// The settings that were entered.
pub(super) fn entered_config(provider: &Provider, form: &Form) -> Map<String, Value> {
    let mut config = Map::new();
    for field in &provider.config {
        let text = entered(field, form.text(&format!("{SETTING}{}", field.name)));
        // What is as it would be anyway is not written down: the provider's file may change.
        if !text.is_empty() && field.default.as_deref() != Some(text.as_str()) {
            config.insert(field.name.clone(), Value::String(text.to_string()));
        }
    }
    config
}

/// As it was meant: a browser ends lines its own way, and a copied line brings spaces along.
/// A setting such as a prefix may end in a space on purpose.
fn entered(field: &Field, text: &str) -> Zeroizing<String> {
    Zeroizing::new(match field.kind {
        Kind::Multiline | Kind::File => text.replace("\r\n", "\n"),
        _ if field.secret || field.default.is_none() => text.trim().to_owned(),
        _ => text.to_owned(),
    })
}

/// What is wrong with a field: in the reader's words where it is one of the usual faults.
pub(super) fn fault_text(language: &'static Language, path: &str, message: &str) -> Said {
    let t = language.texts;
    if path == "name" {
        return Said::own(t.fault_name);
    }
    if let Some(list) = message.strip_prefix("must be one of: ") {
        return Said::own(fill(t.fault_one_of, &[("list", list)]));
    }
    if let Some(value) = message.strip_prefix("must be `") {
        let value = value.trim_end_matches('`');
        return Said::own(fill(t.fault_is, &[("value", value)]));
    }
    match message {
        "is required" => Said::own(t.fault_required),
        "begins or ends with white space or a line break; remove it" => {
            Said::own(t.fault_white_space)
        }
        "holds a line break or another control character" => Said::own(t.fault_control),
        other => Said::english(other, language),
    }
}
