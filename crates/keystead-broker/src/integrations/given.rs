//! Credentials and settings on their way in: read, checked, and sealed.
//!
//! The message in the seal is how the credential was given (`T`, one text, or `O`, an object) and
//! then its parts, so that it can be handed out as it came.

use keystead_core::ids::{IntegrationId, TenantId};
use keystead_core::provider::oauth::{API_HOST, Tokens, take_tokens};
use keystead_core::provider::{Config, Fields, MAX_CREDENTIAL, Provider};
use keystead_core::time::Time;
use keystead_store::{CredentialRow, IntegrationRow, Status};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::broker::Broker;
use crate::error::{Error, FieldFault};
use crate::permit::credential_place;

const TEXT: u8 = b'T';
const OBJECT: u8 = b'O';

/// Writes it; allocated once.
pub(crate) fn write_message(fields: &Fields, as_text: bool) -> Zeroizing<Vec<u8>> {
    let parts = Zeroizing::new(fields.to_message());
    let mut message = Zeroizing::new(Vec::with_capacity(parts.len() + 1));
    message.push(if as_text { TEXT } else { OBJECT });
    message.extend_from_slice(&parts);
    message
}

/// Reads it: the parts, and whether the credential was given as one text.
pub(crate) fn read_message(message: &[u8]) -> Option<(Fields, bool)> {
    let (form, parts) = message.split_first()?;
    let as_text = match *form {
        TEXT => true,
        OBJECT => false,
        _ => return None,
    };
    Some((Fields::from_message(parts)?, as_text))
}

/// How many bytes were given, before anything is made of them.
pub(crate) fn too_large(value: &Value, most: usize) -> Result<(), Error> {
    fn size(value: &Value) -> usize {
        match value {
            Value::String(text) => text.len(),
            Value::Object(members) => members
                .iter()
                .map(|(name, value)| name.len() + size(value))
                .sum(),
            Value::Array(items) => items.iter().map(size).sum(),
            _ => 0,
        }
    }
    if size(value) > most {
        Err(Error::TooLarge { most: most as u64 })
    } else {
        Ok(())
    }
}

const NAME_MOST: usize = 200;

/// A credential that was read and not yet sealed.
pub(crate) struct Given {
    pub(crate) fields: Fields,
    pub(crate) as_text: bool,
    pub(crate) hint: Option<String>,
}

/// A credential that was read, and tokens that came with it from another system.
pub(super) struct Brought {
    pub(super) given: Given,
    pub(super) tokens: Option<Tokens>,
    /// Nothing can be done with it before its owner consents.
    pub(super) awaits_consent: bool,
}

impl Brought {
    /// What is known of it at first.
    pub(super) fn status(&self) -> Status {
        if self.awaits_consent {
            Status::Reauthorize
        } else {
            Status::Verifying
        }
    }
}

impl Broker {
    pub(crate) async fn seal_credential(
        &self,
        tenant: TenantId,
        id: IntegrationId,
        version: u64,
        given: &Given,
        at: Time,
    ) -> Result<CredentialRow, Error> {
        let keys = self.keyring().tenant(tenant).await?;
        let message = write_message(&given.fields, given.as_text);
        let (key_id, sealed) = keys.seal(&credential_place(tenant, id, version), &message)?;
        Ok(CredentialRow {
            tenant,
            integration: id,
            version,
            key_id,
            sealed,
            created_at: at,
        })
    }

    /// What is wrong with settings that would send the credential elsewhere: who may change settings
    /// need not be who may see it, so it has to be given again with them.
    pub(super) async fn check_moved(
        &self,
        row: &IntegrationRow,
        provider: &Provider,
        settings: &Value,
        brought: Option<&Brought>,
    ) -> Result<Vec<FieldFault>, Error> {
        let moved = provider.moved_settings(&stored_settings(row), settings);
        // Tokens go back to where they came from, if only to be taken back there.
        let granted = match brought.and_then(|brought| brought.tokens.as_ref()) {
            None if !moved.is_empty() => self.store().find_token_set(row.tenant, row.id).await?,
            _ => None,
        };
        let message = match (granted, brought) {
            (Some(_), _) => {
                "changing where the credential goes needs the account's consent again: authorise it again with the new setting, as a new integration, and remove this one"
            }
            (None, None) => {
                "changing where the credential goes needs the credential again: give it in the same request"
            }
            (None, Some(_)) => return Ok(Vec::new()),
        };
        let fault = |name: &str| FieldFault::new(format!("config.{name}"), message);
        Ok(moved.into_iter().map(fault).collect())
    }

    /// What an idempotency key stands for: keyed, because it covers the credential.
    pub(super) fn request_hash(
        &self,
        name: &str,
        provider: &str,
        settings: &Value,
        brought: &Brought,
    ) -> [u8; 32] {
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_CREDENTIAL + 4096));
        for part in [name, provider, &settings.to_string()] {
            text.extend_from_slice(part.as_bytes());
            text.push(0);
        }
        text.extend_from_slice(&Zeroizing::new(brought.given.fields.to_message()));
        if let Some(tokens) = &brought.tokens {
            text.extend_from_slice(&Zeroizing::new(tokens.fields.to_message()));
        }
        self.keyring().lookup_hash(&text)
    }
}

pub(crate) fn check_name(name: &str, faults: &mut Vec<FieldFault>) {
    if name.trim().is_empty() || name.len() > NAME_MOST || name.chars().any(char::is_control) {
        faults.push(FieldFault::new(
            "name",
            format!("must be 1 to {NAME_MOST} bytes without control characters"),
        ));
    }
}

/// The settings that an integration has.
pub(super) fn stored_settings(row: &IntegrationRow) -> Value {
    serde_json::from_str(&row.config).unwrap_or_default()
}

/// Settings that take the place of an integration's: which host its API has stays as its provider
/// said.
pub(super) fn read_next_config(
    provider: &Provider,
    row: &IntegrationRow,
    mut settings: serde_json::Map<String, Value>,
    warnings: &mut Vec<String>,
    faults: &mut Vec<FieldFault>,
) -> Value {
    let before = stored_settings(row);
    let host = before.get(API_HOST);
    if host.is_some() && settings.get(API_HOST) == host {
        settings.remove(API_HOST);
    }
    let mut settings = Value::Object(settings);
    read_config(provider, &settings, warnings, faults);
    if let (Some(host), Value::Object(all)) = (host, &mut settings) {
        all.insert(API_HOST.to_owned(), host.clone());
    }
    settings
}

/// Checks settings that a caller gives.
pub(crate) fn read_config(
    provider: &Provider,
    settings: &Value,
    warnings: &mut Vec<String>,
    faults: &mut Vec<FieldFault>,
) {
    if settings.get(API_HOST).is_some() && provider.setting(API_HOST).is_some() {
        let message = "is the provider's to say, when the account is authorised: leave it out";
        faults.push(FieldFault::new(format!("config.{API_HOST}"), message));
        return;
    }
    match Config::parse(provider, settings) {
        Ok((_, odd)) => warnings.extend(
            odd.into_iter()
                .map(|odd| format!("{}: {}", odd.path, odd.message)),
        ),
        Err(wrong) => faults.extend(wrong.into_iter().map(FieldFault::from)),
    }
}

pub(super) fn read_credential(
    provider: &Provider,
    mut value: Value,
    now: Time,
    warnings: &mut Vec<String>,
    faults: &mut Vec<FieldFault>,
) -> Option<Brought> {
    let text = value.is_string();
    let tokens = match take_tokens(provider, &mut value, now) {
        Ok(tokens) => tokens,
        Err(wrong) => {
            faults.extend(wrong.into_iter().map(FieldFault::from));
            None
        }
    };
    match Fields::parse(provider, value) {
        Ok((fields, odd)) => {
            warnings.extend(
                odd.into_iter()
                    .map(|odd| format!("{}: {}", odd.path, odd.message)),
            );
            let as_text = text && fields.only().is_some();
            let hint = fields.hint(provider);
            let mode = fields.mode(provider);
            let awaits_consent = tokens.is_none() && mode.is_some_and(|mode| mode.oauth.is_some());
            let given = Given {
                fields,
                as_text,
                hint,
            };
            Some(Brought {
                given,
                tokens,
                awaits_consent,
            })
        }
        Err(wrong) => {
            faults.extend(wrong.into_iter().map(FieldFault::from));
            None
        }
    }
}
