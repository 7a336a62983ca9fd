//! Tokens that a person brings along from another system, instead of consenting anew.

use serde_json::Value;
use zeroize::Zeroizing;

use super::model::RefreshClass;
use super::read::{Tokens, is_token};
use crate::provider::model::Provider;
use crate::provider::{FieldFault, Fields};
use crate::time::Time;

const TOKENS: [&str; 2] = ["access_token", "refresh_token"];

/// Takes the tokens out of the `credentials` member of an integration, where they are such as the
/// provider grants; `None` where there are none, or where they are a credential of another mode.
/// Nobody knows how old they are: those that can be renewed are due at once.
///
/// # Errors
/// The fields that cannot be tokens; never with their values.
pub fn take_tokens(
    provider: &Provider,
    credentials: &mut Value,
    now: Time,
) -> Result<Option<Tokens>, Vec<FieldFault>> {
    let (Some(oauth), Value::Object(members)) = (provider.oauth(), credentials) else {
        return Ok(None);
    };
    let elsewhere = |name: &str| {
        let mut others = provider.modes.iter().filter(|mode| mode.oauth.is_none());
        others.any(|mode| mode.field(name).is_some())
    };
    if !TOKENS
        .iter()
        .any(|name| members.contains_key(*name) && !elsewhere(name))
    {
        return Ok(None);
    }
    let (mut parts, mut faults) = (Vec::new(), Vec::new());
    for name in TOKENS {
        let given = match members.remove(name) {
            None | Some(Value::Null) => continue,
            Some(Value::String(text)) => Zeroizing::new(text),
            Some(_) => Zeroizing::default(),
        };
        let wrong = if !is_token(&given) {
            Some("must be a token: text without spaces, of at most 16 KiB")
        } else if name == "refresh_token" && oauth.refresh.class == RefreshClass::None {
            Some("is of no use: this provider's tokens are not renewed")
        } else {
            None
        };
        match wrong {
            Some(message) => faults.push(FieldFault {
                path: format!("credentials.{name}"),
                message: message.to_owned(),
            }),
            None => parts.push((name, given)),
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let renewable = parts.iter().any(|(name, _)| *name == "refresh_token");
    Ok((!parts.is_empty()).then(|| Tokens {
        fields: Fields::from_parts(parts),
        expires_at: renewable.then_some(now),
        refresh_expires_at: None,
        odd: Vec::new(),
    }))
}
