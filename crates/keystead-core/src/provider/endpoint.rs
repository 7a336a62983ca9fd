//! Addresses that Keystead itself calls: token endpoints, revocations.
//!
//! What always holds: they are https, at a host that the provider file fixes but for what its
//! settings put into single labels of it, and their paths are unambiguous. A secret never stands
//! in one.

use std::borrow::Cow;

use super::config::Config;
use super::destination::{is_plain_https, origin};
use super::model::{Kind, Provider};
use super::template::{self, Into};
use crate::egress::BaseUrl;

/// The origin, and the path (and query, where the template has one). `value` says what stands for
/// a name in the path; the host is made of settings alone.
pub(super) fn fill<'v>(
    provider: &Provider,
    config: &Config,
    url: &str,
    value: impl Fn(&str) -> Option<(Cow<'v, str>, bool)>,
) -> Option<(BaseUrl, String)> {
    let (host, path) = split(url)?;
    let host = config.fill(provider, host, Into::Host).ok()?;
    let target = template::fill(path, Into::Path, |name| {
        value(name).filter(|(value, _)| !value.is_empty())
    })
    .ok()?;
    let home = origin(&format!("https://{host}")).ok()?;
    (is_plain_https(&home) && is_plain_target(&target)).then_some((home, target))
}

/// Whether every server reads the path alike.
fn is_plain_target(target: &str) -> bool {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    crate::path::check(path).is_ok()
}

/// Host and target (from the slash on) of a template.
pub(super) fn split(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("https://")?;
    Some(rest.split_at(rest.find('/')?))
}

impl Provider {
    /// The form of an address in the file. That its names are known is the caller's to check.
    pub(super) fn check_endpoint(&self, key: &str, url: &str) -> Result<(), String> {
        let refused = |reason: &str| Err(format!("{key}: {reason}"));
        let Some((host, path)) = split(url) else {
            return refused("must be https, with a host and a path");
        };
        let Ok(names) = template::names(host) else {
            return refused("braces do not pair");
        };
        for name in &names {
            let Some(setting) = self.setting(name) else {
                return refused(&format!("`{{{name}}}` in the host is no setting"));
            };
            // Whoever chooses the setting must not choose whose host it is.
            let after = host
                .split(&format!("{{{name}}}"))
                .last()
                .unwrap_or_default();
            let fixed = after.starts_with('.') && after.matches('.').count() >= 2;
            if setting.kind != Kind::Select && !fixed {
                return refused(&format!(
                    "`{{{name}}}` may be a label before a fixed domain, or a choice"
                ));
            }
        }
        let choices = names
            .iter()
            .filter_map(|name| self.setting(name))
            .flat_map(|setting| setting.options.iter().map(|o| (setting.name.as_str(), o)));
        for chosen in choices.map(Some).chain([None]) {
            let filled = template::fill(host, Into::Host, |name| {
                let setting = self.setting(name)?;
                let first = setting.default.as_ref().or(setting.options.first());
                let text = match chosen {
                    Some((own, option)) if own == name => Some(option),
                    _ => first,
                };
                let text = text.map_or("sample", String::as_str);
                Some((text.into(), setting.kind == Kind::Select))
            });
            let home = filled.ok().map(|host| origin(&format!("https://{host}")));
            let target = template::fill(path, Into::Path, |_| Some(("sample".into(), false)));
            let plain = matches!(home, Some(Ok(home)) if is_plain_https(&home))
                && target.is_ok_and(|target| is_plain_target(&target));
            if !plain {
                return refused("must be a plain https address");
            }
        }
        Ok(())
    }
}
