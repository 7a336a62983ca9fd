//! Reading what a provider answers to the calls of a rotation.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::super::fields::Fields;
use super::super::model::Mode;
use super::super::oauth::Json;
use super::{Format, Rotation, xml};
use crate::time::Time;

/// The most bytes of a new part of a credential.
const MOST: usize = 16 * 1024;

/// A key of the provider's list.
pub struct Key {
    /// Its id.
    pub id: String,
    /// The name that it was given.
    pub name: Option<String>,
    /// When it was made.
    pub created: Option<Time>,
    pub(super) mask: Option<Zeroizing<String>>,
}

/// A page of the list.
pub struct Listing {
    /// The keys on it.
    pub keys: Vec<Key>,
    /// Whether there is a page after it.
    pub more: bool,
}

/// What was made.
pub struct Created {
    /// The new key's id.
    pub id: String,
    /// The credential with its new parts.
    pub fields: Fields,
}

impl Rotation {
    /// The list; `None` where the answer is none.
    pub fn read_list(&self, body: &[u8]) -> Option<Listing> {
        let list = &self.list;
        let whole = read(list.format, body)?;
        let empty = Vec::new();
        let place = if list.items.is_empty() {
            &whole
        } else {
            whole.at(&list.items)?
        };
        let items = match place {
            Json::List(items) => items,
            // An element without any content.
            Json::Text(text) if list.format == Format::Xml && text.is_empty() => &empty,
            _ => return None,
        };
        let keys = items.iter().map(|item| {
            let text = |pointer: &Option<String>| item.at(pointer.as_deref()?)?.as_text();
            Some(Key {
                id: id_of(item.at(&list.id)?)?,
                name: text(&list.name).map(str::to_owned),
                created: list.created.as_deref().and_then(|p| time_of(item.at(p)?)),
                mask: text(&list.mask).map(|text| Zeroizing::new(text.to_owned())),
            })
        });
        let more = list.next.as_ref();
        let more = more.is_some_and(|next| matches!(whole.at(&next.more), Some(Json::Bool(true))));
        Some(Listing {
            keys: keys.collect::<Option<_>>()?,
            more,
        })
    }

    /// The lists that the next key takes over.
    pub fn read_copy(&self, body: &[u8]) -> Option<Vec<(String, Vec<String>)>> {
        let whole = Json::read(body)?;
        let lists = self.copy.as_ref()?.lists.iter();
        let read = lists.map(|(name, pointer)| {
            let Json::List(items) = whole.at(pointer)? else {
                return None;
            };
            let items = items.iter().map(|item| Some(item.as_text()?.to_owned()));
            Some((name.clone(), items.collect::<Option<_>>()?))
        });
        read.collect()
    }

    /// The new key, and the credential with it; `None` where the answer does not hold all of it.
    pub fn read_created(&self, mode: &Mode, body: &[u8], before: &Fields) -> Option<Created> {
        let create = &self.create;
        let mut whole = read(create.format, body)?;
        if let Some(inside) = &create.inside {
            let text = whole.at(inside)?.as_text()?;
            let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
            STANDARD.decode_vec(text, &mut bytes).ok()?;
            whole = Json::read(&bytes)?;
        }
        let id = id_of(whole.at(&create.id)?)?;
        let new = create.fields.iter().map(|(name, pointer)| {
            let text = whole.at(pointer)?.as_text()?;
            let fits = !text.is_empty() && text.len() <= MOST && mode.field(name)?.takes(text);
            fits.then(|| (name.clone(), Zeroizing::new(text.to_owned())))
        });
        Some(Created {
            id,
            fields: before.with_parts(new.collect::<Option<Vec<_>>>()?),
        })
    }
}

/// The word by which the provider says why it refuses, if it looks like one.
pub fn error_code(body: &[u8]) -> Option<String> {
    const WHERE: &str = "/error/code|/error/status|/error|/code|/name|/ErrorResponse/Error/Code";
    let whole = Json::read(body).or_else(|| xml::read(body))?;
    let word = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let fits = |text: &str| (1..=64).contains(&text.len()) && text.bytes().all(word);
    WHERE
        .split('|')
        .find_map(|pointer| match whole.at(pointer)? {
            Json::Text(text) if fits(text) => Some(text.to_string()),
            Json::Number(number) => Some(number.to_string()),
            _ => None,
        })
}

/// Whether what is shown of a key can be this one: its beginning, or beginning and end.
pub(super) fn shows(mask: &str, secret: &str) -> bool {
    let hides = |c: char| matches!(c, '*' | '.' | '•' | '…');
    let hidden = ["***", "...", "•••", "…"];
    let hidden = hidden.iter().filter_map(|run| mask.find(run)).min();
    let Some(from) = hidden else {
        return mask.len() >= 3 && secret.starts_with(mask);
    };
    let (before, rest) = mask.split_at(from);
    let after = rest.trim_start_matches(hides);
    before.len() + after.len() >= 6
        && secret.len() > before.len() + after.len()
        && secret.starts_with(before)
        && secret.ends_with(after)
}

fn read(format: Format, body: &[u8]) -> Option<Json> {
    match format {
        Format::Json => Json::read(body),
        Format::Xml => xml::read(body),
    }
}

/// An id: of a path, the last segment.
fn id_of(value: &Json) -> Option<String> {
    let text = value.as_text()?;
    let id = text.rsplit('/').next()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    ((1..=128).contains(&id.len()) && id.bytes().all(plain)).then(|| id.to_owned())
}

fn time_of(value: &Json) -> Option<Time> {
    match value {
        Json::Text(text) => Time::parse_rfc3339(text),
        Json::Number(seconds) => seconds.as_i64().map(Time::from_seconds),
        _ => None,
    }
}
