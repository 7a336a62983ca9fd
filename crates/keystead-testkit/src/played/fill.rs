//! Templates, read anew: `{name}`, or `{a|b}` for the first of them that has a value.
//!
//! Written from what provider files are documented to mean, not from the code that is under test.

use keystead_core::provider::{Kind, Mode, Provider};

use super::Part;

/// Where the text ends up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Spot {
    /// In a host, a header or a scope: as it is.
    Plain,
    /// In a path or a query: escaped, but for settings that are paths or one of a few choices.
    Path,
}

/// Fills a template in; `None` where a placeholder has no value.
pub(super) fn fill(
    template: &str,
    spot: Spot,
    value: impl Fn(&str) -> Option<(String, bool)>,
) -> Option<String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, tail)) = rest.split_once('{') {
        text.push_str(before);
        let (names, after) = tail.split_once('}')?;
        let (value, raw) = names.split('|').find_map(&value)?;
        match spot {
            Spot::Path if !raw => text.push_str(&escaped(&value)),
            Spot::Path | Spot::Plain => text.push_str(&value),
        }
        rest = after;
    }
    text.push_str(rest);
    Some(text)
}

/// Everything but RFC 3986's unreserved characters as `%XX`.
pub(super) fn escaped(value: &str) -> String {
    value
        .bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

impl Part {
    /// A setting: what was given, else its default; and whether it is written as it is.
    pub(super) fn setting(&self, name: &str) -> Option<(String, bool)> {
        let setting = self.provider.config.iter().find(|s| s.name == name)?;
        let raw = matches!(setting.kind, Kind::Path | Kind::Url | Kind::Select);
        let given = self.config.get(name).or(setting.default.as_ref())?;
        Some((given.clone(), raw))
    }

    /// A setting, or a field of the mode that is not secret.
    pub(super) fn open_value(&self, mode: &Mode, name: &str) -> Option<(String, bool)> {
        self.setting(name).or_else(|| {
            let open = mode.fields.iter().any(|f| f.name == name && !f.secret);
            let value = self.credentials.get(&mode.id)?.get(name)?;
            open.then(|| (value.clone(), false))
        })
    }

    /// A template over the settings alone.
    pub(super) fn filled(&self, template: &str) -> Option<String> {
        fill(template, Spot::Plain, |name| self.setting(name))
    }

    /// The path of an endpoint's URL: what follows scheme and host.
    pub(super) fn endpoint_path(&self, mode: &Mode, url: &str) -> Option<String> {
        let (_, path) = url.strip_prefix("https://")?.split_once('/')?;
        let path = fill(path, Spot::Path, |name| self.open_value(mode, name))?;
        Some(format!("/{path}"))
    }
}

/// Whether a mode's requests are signed.
pub(super) fn is_signed(provider: &Provider) -> bool {
    use keystead_core::provider::Placement;
    provider
        .modes
        .iter()
        .any(|mode| matches!(mode.placement, Placement::SigV4 { .. }))
}
