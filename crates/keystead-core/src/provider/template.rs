//! Templates: text with `{name}` for a setting or a field that is not secret.
//!
//! How a value is written in depends on where: a value can never leave the label, segment or
//! header value that it stands in.

use std::borrow::Cow;

/// Where the text ends up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Into {
    /// A host: letters, digits and hyphens, else nothing fits.
    Host,
    /// A path or query: everything but unreserved characters is percent-encoded.
    Path,
    /// As it is: headers, scopes, and settings that were checked when they came in.
    Plain,
}

/// Why a template gave no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfilled {
    /// A placeholder has no value.
    Missing,
    /// A value may not stand there.
    Unfit,
}

/// The names of the placeholders, in order; `Err` where braces do not pair.
pub(crate) fn names(template: &str) -> Result<Vec<&str>, ()> {
    let mut names = Vec::new();
    let mut rest = template;
    while let Some(open) = rest.find(['{', '}']) {
        let tail = rest[open..].strip_prefix('{').ok_or(())?;
        let close = tail.find(['{', '}']).ok_or(())?;
        if tail.as_bytes()[close] != b'}' || close == 0 {
            return Err(());
        }
        names.push(&tail[..close]);
        rest = &tail[close + 1..];
    }
    Ok(names)
}

/// Fills the template in. `value` says what a name stands for, and whether it is written as it is.
pub(crate) fn fill<'v>(
    template: &str,
    into: Into,
    value: impl Fn(&str) -> Option<(Cow<'v, str>, bool)>,
) -> Result<String, Unfilled> {
    let mut text = String::with_capacity(template.len() + 32);
    let mut rest = template;
    while let Some((before, tail)) = rest.split_once('{') {
        text.push_str(before);
        let (name, after) = tail.split_once('}').ok_or(Unfilled::Missing)?;
        let (filling, raw) = value(name).ok_or(Unfilled::Missing)?;
        match into {
            Into::Host if raw => text.push_str(&filling),
            Into::Host => {
                let label = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
                if filling.is_empty() || filling.len() > 63 || !filling.bytes().all(label) {
                    return Err(Unfilled::Unfit);
                }
                text.push_str(&filling.to_ascii_lowercase());
            }
            Into::Path if raw => text.push_str(&filling),
            Into::Path => push_encoded(&mut text, filling.as_bytes()),
            Into::Plain => text.push_str(&filling),
        }
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

/// Percent-encodes all but RFC 3986's unreserved characters.
pub(crate) fn push_encoded(text: &mut String, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(byte as char);
        } else {
            text.push('%');
            text.push(HEX[usize::from(byte >> 4)] as char);
            text.push(HEX[usize::from(byte & 15)] as char);
        }
    }
}
