//! Taking a credential back at the provider: `[mode.revoke]`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::call::{Call, CallAuth, Known, More, ProviderCall};
use super::config::Config;
use super::fields::Fields;
use super::model::{Mode, Provider};
use super::oauth::{App, OAuthError};
use super::parse::{Check, require};
use crate::time::Time;

/// How a credential is taken back.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// The page where a person can do it.
    #[serde(default)]
    pub manual: Option<String>,
    /// The calls that do it, in the order in which they are tried.
    #[serde(default, rename = "call")]
    pub calls: Vec<Call>,
}

impl Revoke {
    /// Whether each of its calls needs an access token that has not ended.
    pub fn needs_access_token(&self) -> bool {
        let named = |text: &str| text.contains("{access_token}");
        let needs = |call: &Call| {
            let form = call.form.iter().flat_map(BTreeMap::values);
            let json = call.json.as_ref().map(Value::to_string);
            call.auth == CallAuth::Placed || form.chain(&json).any(|text| named(text))
        };
        !self.calls.is_empty() && self.calls.iter().all(needs)
    }
}

/// The calls that take a credential (or the tokens of a grant) back, in their order. Empty where
/// only a person can do it. One that needs what is not there is left out.
///
/// # Errors
/// [`OAuthError::NoRevocation`] where the mode says nothing of it, or every call was left out.
pub fn revoke_calls(
    provider: &Provider,
    mode: &Mode,
    config: &Config,
    app: Option<&App>,
    fields: &Fields,
    now: Time,
) -> Result<Vec<ProviderCall>, OAuthError> {
    let revoke = mode.revoke.as_ref().ok_or(OAuthError::NoRevocation)?;
    let known = Known {
        provider,
        mode,
        config,
        app,
        fields,
        more: More::default(),
    };
    let mut calls = Vec::with_capacity(revoke.calls.len());
    for call in &revoke.calls {
        calls.extend(call.request(&known, now)?);
    }
    if calls.is_empty() && !revoke.calls.is_empty() {
        return Err(OAuthError::NoRevocation);
    }
    Ok(calls)
}

impl Provider {
    pub(super) fn check_revoke(&self, key: &str, mode: &Mode) -> Check {
        let Some(revoke) = &mode.revoke else {
            return Ok(());
        };
        let key = format!("{key}.revoke");
        require(
            revoke.manual.is_some() || !revoke.calls.is_empty() || self.links.revoke.is_some(),
            &format!("{key}: a call, or the page where a person can do it"),
        )?;
        require(
            is_page(revoke.manual.as_deref()),
            &format!("{key}.manual: must be an https address"),
        )?;
        for (index, call) in revoke.calls.iter().enumerate() {
            self.check_call(&format!("{key}.call number {}", index + 1), mode, call, &[])?;
        }
        Ok(())
    }
}

/// Whether a page for people that is named is one.
pub(super) fn is_page(url: Option<&str>) -> bool {
    url.is_none_or(|url| {
        url.strip_prefix("https://")
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_graphic()))
    })
}
