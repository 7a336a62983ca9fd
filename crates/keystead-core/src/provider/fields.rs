//! A credential, taken apart.
//!
//! ```text
//! stored message = {"access_key_id":"…","secret_access_key":"…"}
//! ```
//!
//! JSON with the names in byte order, no white space, and only the escapes that are needed: one
//! spelling for one credential. The values live in memory that is wiped on drop; the type cannot
//! be printed, copied or compared.

use std::collections::BTreeMap;
use std::io;

use serde_json::Value;
use zeroize::Zeroizing;

use super::model::{Field, Kind, Mode, Provider};
use super::{FieldFault, Warning, body, member_path, nearest};

/// The most bytes that a credential may have, as it comes in. The caller checks it.
pub const MAX_CREDENTIAL: usize = 64 * 1024;

/// The parts of a credential by name.
pub struct Fields(BTreeMap<String, Zeroizing<String>>);

impl Fields {
    /// Reads the `credentials` member of an integration: text, or an object of text.
    pub fn parse(
        provider: &Provider,
        value: Value,
    ) -> Result<(Fields, Vec<Warning>), Vec<FieldFault>> {
        let given = match value {
            Value::String(text) => from_text(provider, Zeroizing::new(text))?,
            Value::Object(members) => from_object(members)?,
            other => {
                drop(take_text(other));
                return Err(vec![fault(
                    "credentials".to_owned(),
                    "must be text or an object",
                )]);
            }
        };
        let mode = likely_mode(provider, &given);
        let (mut fields, mut warnings, mut faults) = (BTreeMap::new(), Vec::new(), Vec::new());
        for (name, value) in given {
            let path = member_path("credentials", &name);
            let Some(field) = mode.field(&name) else {
                if !mode.ignored.contains(&name) {
                    faults.push(fault(path, unknown(provider, mode, &name)));
                }
                continue;
            };
            match value {
                _ if field.granted => faults.push(fault(
                    path,
                    "is granted by the provider; authorise the integration instead of giving it",
                )),
                None => faults.push(fault(path, "must be text")),
                Some(value) if value.is_empty() => {}
                Some(value) => match check(field, &value) {
                    Err(message) => faults.push(fault(path, message)),
                    Ok(warning) => {
                        warnings.extend(warning.map(|message| Warning { path, message }));
                        fields.insert(name, value);
                    }
                },
            }
        }
        if mode.oauth.is_some() {
            faults.extend(half_an_app(mode, &fields));
        }
        for field in &mode.fields {
            let path = format!("credentials.{}", field.name);
            let missing = field.required && !fields.contains_key(&field.name);
            if missing && !faults.iter().any(|fault| fault.path == path) {
                faults.push(fault(path, "is required"));
            }
        }
        if faults.is_empty() {
            Ok((Fields(fields), warnings))
        } else {
            Err(faults)
        }
    }

    /// Parts by name, later ones in the place of earlier ones.
    pub(super) fn from_parts(
        parts: impl IntoIterator<Item = (&'static str, Zeroizing<String>)>,
    ) -> Fields {
        let named = |(name, value): (&str, _)| (name.to_owned(), value);
        Fields(parts.into_iter().map(named).collect())
    }

    /// The others, without the part of that name.
    pub fn without(mut self, name: &str) -> Fields {
        self.0.remove(name);
        self
    }

    /// These parts and those, which stand in the place of equal names.
    pub fn with(mut self, those: Fields) -> Fields {
        self.0.extend(those.0);
        self
    }

    /// The parts of these names alone.
    pub fn keep(mut self, names: &[&str]) -> Fields {
        self.0.retain(|name, _| names.contains(&name.as_str()));
        self
    }

    /// These parts, and the others as they are.
    pub(super) fn with_parts(
        &self,
        parts: impl IntoIterator<Item = (String, Zeroizing<String>)>,
    ) -> Fields {
        let mut all = self.0.clone();
        all.extend(parts);
        Fields(all)
    }

    /// What may be handed out of it.
    pub fn for_others(mut self, provider: &Provider) -> Fields {
        if let Some(mode) = self.mode(provider) {
            let withheld = |name: &str| mode.field(name).is_some_and(|field| field.withheld);
            self.0.retain(|name, _| !withheld(name));
        }
        self
    }

    /// The part of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.as_str())
    }

    /// The part, where there is just one.
    pub fn only(&self) -> Option<&str> {
        let mut parts = self.0.values();
        parts
            .next()
            .filter(|_| parts.next().is_none())
            .map(|part| part.as_str())
    }

    /// The values that must not be shown: what to look for in an answer that echoes them.
    pub fn secrets<'a>(&'a self, provider: &'a Provider) -> impl Iterator<Item = &'a str> {
        let secret = |name: &str| {
            let field = self.mode(provider).and_then(|mode| mode.field(name));
            field.is_none_or(|field| field.secret)
        };
        self.0
            .iter()
            .filter(move |(name, _)| secret(name))
            .map(|(_, value)| value.as_str())
    }

    /// The mode that these parts make up; `None` where the provider has none such.
    pub fn mode<'p>(&self, provider: &'p Provider) -> Option<&'p Mode> {
        provider.modes.iter().find(|mode| {
            self.0.keys().all(|name| mode.field(name).is_some())
                && mode
                    .fields
                    .iter()
                    .all(|field| !field.required || self.0.contains_key(&field.name))
        })
    }

    /// The bytes to seal. The buffer is allocated once, so that no copy stays behind in the heap.
    pub fn to_message(&self) -> Vec<u8> {
        std::mem::take(&mut *body::written(|to| self.write(to)))
    }

    /// Reads what [`Fields::to_message`] wrote, and nothing else.
    pub fn from_message(message: &[u8]) -> Option<Fields> {
        let mut rest = std::str::from_utf8(message).ok()?.strip_prefix('{')?;
        let mut fields = BTreeMap::new();
        while rest != "}" {
            if !fields.is_empty() {
                rest = rest.strip_prefix(',')?;
            }
            let (name, after) = read_text(rest)?;
            let (value, after) = read_text(after.strip_prefix(':')?)?;
            if fields.insert(name.to_string(), value).is_some() {
                return None;
            }
            rest = after;
        }
        Some(Fields(fields))
    }

    /// At most the last four characters of what tells credentials apart; none of a short value.
    pub fn hint(&self, provider: &Provider) -> Option<String> {
        let mode = self.mode(provider)?;
        let name = match &mode.hint_field {
            Some(name) => name,
            None => &mode.primary()?.name,
        };
        let value = self.get(name)?;
        let (start, _) = value.char_indices().rev().nth(3)?;
        let tail = &value[start..];
        (value.chars().count() >= 16 && tail.bytes().all(|b| b.is_ascii_graphic()))
            .then(|| tail.to_owned())
    }

    fn write(&self, mut to: &mut dyn io::Write) -> io::Result<()> {
        let mut before = b"{";
        for (name, value) in &self.0 {
            to.write_all(before)?;
            serde_json::to_writer(&mut to, name)?;
            to.write_all(b":")?;
            serde_json::to_writer(&mut to, value.as_str())?;
            before = b",";
        }
        if self.0.is_empty() {
            to.write_all(before)?;
        }
        to.write_all(b"}")
    }
}

type Given = BTreeMap<String, Option<Zeroizing<String>>>;

fn fault(path: String, message: impl Into<String>) -> FieldFault {
    FieldFault {
        path,
        message: message.into(),
    }
}

/// A text is the primary field of a mode that needs no other, else the content of a JSON file,
/// else the primary field of a mode that will complain of what is missing.
fn from_text(provider: &Provider, text: Zeroizing<String>) -> Result<Given, Vec<FieldFault>> {
    let complete = |mode: &&Mode| {
        mode.primary().is_some()
            && mode
                .fields
                .iter()
                .all(|field| field.primary || !field.required)
    };
    if !provider.modes.iter().any(|mode| complete(&mode))
        && provider.modes.iter().any(|mode| mode.json_file)
    {
        return match serde_json::from_str::<Value>(&text) {
            Ok(Value::Object(members)) => from_object(members),
            Ok(other) => {
                drop(take_text(other));
                Err(vec![not_a_file()])
            }
            Err(_) => Err(vec![not_a_file()]),
        };
    }
    let primary = provider
        .modes
        .iter()
        .find(complete)
        .or_else(|| provider.modes.iter().find(|mode| mode.primary().is_some()))
        .and_then(Mode::primary);
    match primary {
        Some(primary) => Ok(BTreeMap::from([(primary.name.clone(), Some(text))])),
        None => Err(vec![fault("credentials".to_owned(), "must be an object")]),
    }
}

fn not_a_file() -> FieldFault {
    fault(
        "credentials".to_owned(),
        "must be the JSON file's object, or its text",
    )
}

/// Moves the texts out of the members; what is not text becomes `None`, null is left out.
fn from_object(members: serde_json::Map<String, Value>) -> Result<Given, Vec<FieldFault>> {
    let given: Given = members
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name, take_text(value)))
        .collect();
    Ok(given)
}

/// The text of a value; what is inside of other values is wiped.
fn take_text(value: Value) -> Option<Zeroizing<String>> {
    match value {
        Value::String(text) => return Some(Zeroizing::new(text)),
        Value::Array(items) => items.into_iter().for_each(|item| drop(take_text(item))),
        Value::Object(members) => members
            .into_iter()
            .for_each(|(_, member)| drop(take_text(member))),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    None
}

/// An own OAuth app is its id and, where the mode has one, its secret.
fn half_an_app(mode: &Mode, fields: &BTreeMap<String, Zeroizing<String>>) -> Option<FieldFault> {
    let app = ["client_id", "client_secret"];
    let mut known = app.iter().filter(|name| mode.field(name).is_some());
    let missing = known.clone().find(|name| !fields.contains_key(**name))?;
    let there = known.find(|name| fields.contains_key(**name))?;
    Some(fault(
        format!("credentials.{missing}"),
        format!("is required beside `{there}`; give both for an app of your own, or neither"),
    ))
}

/// The mode that the names fit best: fewest unknown, then fewest missing, then the first.
fn likely_mode<'p>(provider: &'p Provider, given: &Given) -> &'p Mode {
    let misfit = |mode: &&Mode| {
        let unknown = given
            .keys()
            .filter(|name| mode.field(name).is_none() && !mode.ignored.contains(name))
            .count();
        let missing = mode
            .fields
            .iter()
            .filter(|field| field.required && !given.contains_key(&field.name))
            .count();
        (unknown, missing)
    };
    // A provider has at least one mode; the parser saw to it.
    provider
        .modes
        .iter()
        .min_by_key(misfit)
        .unwrap_or(&provider.modes[0])
}

fn unknown(provider: &Provider, mode: &Mode, name: &str) -> String {
    let elsewhere = provider
        .modes
        .iter()
        .find(|other| other.field(name).is_some());
    if let Some(other) = elsewhere {
        return format!("belongs to `{}`, the rest to `{}`", other.id, mode.id);
    }
    let known = mode.given().map(|field| field.name.as_str());
    match nearest(name, known.clone()).first() {
        Some(near) => format!("no such field; did you mean `{near}`?"),
        None => format!(
            "no such field; known: {}",
            known.collect::<Vec<_>>().join(", ")
        ),
    }
}

impl Field {
    /// Whether it can hold the value at all.
    pub(super) fn takes(&self, value: &str) -> bool {
        check(self, value).is_ok()
    }
}

/// Refuses what can never be right; warns of what looks wrong.
fn check(field: &Field, value: &str) -> Result<Option<String>, String> {
    if !matches!(field.kind, Kind::Multiline | Kind::File) {
        if value.trim().len() != value.len() {
            return Err("begins or ends with white space or a line break; remove it".to_owned());
        }
        if value.chars().any(char::is_control) {
            return Err("holds a line break or another control character".to_owned());
        }
    }
    if let Some(only) = &field.equals
        && only != value
    {
        return Err(format!("must be `{only}`"));
    }
    if field.kind == Kind::Select && !field.options.iter().any(|option| option == value) {
        return Err(format!("must be one of: {}", field.options.join(", ")));
    }
    if let Some(outdated) = &field.outdated
        && outdated.pattern.fits(value)
    {
        return Ok(Some(outdated.message.clone()));
    }
    let odd = field.pattern.as_ref().is_some_and(|p| !p.fits(value));
    Ok(odd.then(|| format!("does not look like a {} as we know it", field.label)))
}

/// One JSON string as serde_json writes it, and what follows it.
fn read_text(input: &str) -> Option<(Zeroizing<String>, &str)> {
    let body = input.strip_prefix('"')?;
    let mut end = 0;
    while *body.as_bytes().get(end)? != b'"' {
        end += if body.as_bytes()[end] == b'\\' { 2 } else { 1 };
    }
    let mut text = Zeroizing::new(String::with_capacity(end));
    let mut rest = body.get(..end)?;
    while let Some((plain, escape)) = rest.split_once('\\') {
        text.push_str(plain);
        let mut skip = 1;
        text.push(match escape.as_bytes().first()? {
            b'"' => '"',
            b'\\' => '\\',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                skip = 5;
                char::from_u32(u32::from_str_radix(escape.get(1..5)?, 16).ok()?)?
            }
            _ => return None,
        });
        rest = &escape[skip..];
    }
    text.push_str(rest);
    Some((text, &body[end + 1..]))
}
