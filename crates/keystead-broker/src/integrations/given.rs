//! Credentials and settings on their way in: read, checked, and sealed.
//!
//! The message in the seal is how the credential was given (`T`, one text, or `O`, an object) and
//! then its parts, so that it can be handed out as it came.

use keystead_core::ids::{IntegrationId, TenantId};
use keystead_core::provider::{Config, Fields, MAX_CREDENTIAL, Provider};
use keystead_core::time::Time;
use keystead_store::CredentialRow;
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
pub(super) struct Given {
    pub(super) fields: Fields,
    pub(super) as_text: bool,
    pub(super) hint: Option<String>,
}

impl Broker {
    pub(super) async fn seal_credential(
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

    /// What an idempotency key stands for: keyed, because it covers the credential.
    pub(super) fn request_hash(
        &self,
        name: &str,
        provider: &str,
        settings: &Value,
        given: &Given,
    ) -> [u8; 32] {
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_CREDENTIAL + 4096));
        for part in [name, provider, &settings.to_string()] {
            text.extend_from_slice(part.as_bytes());
            text.push(0);
        }
        text.extend_from_slice(&Zeroizing::new(given.fields.to_message()));
        self.keyring().lookup_hash(&text)
    }
}

pub(super) fn check_name(name: &str, faults: &mut Vec<FieldFault>) {
    if name.trim().is_empty() || name.len() > NAME_MOST || name.chars().any(char::is_control) {
        faults.push(FieldFault::new(
            "name",
            format!("must be 1 to {NAME_MOST} bytes without control characters"),
        ));
    }
}

pub(super) fn read_config(
    provider: &Provider,
    settings: &Value,
    warnings: &mut Vec<String>,
    faults: &mut Vec<FieldFault>,
) {
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
    value: Value,
    warnings: &mut Vec<String>,
    faults: &mut Vec<FieldFault>,
) -> Option<Given> {
    let text = value.is_string();
    match Fields::parse(provider, value) {
        Ok((fields, odd)) => {
            warnings.extend(
                odd.into_iter()
                    .map(|odd| format!("{}: {}", odd.path, odd.message)),
            );
            let as_text = text && fields.only().is_some();
            let hint = fields.hint(provider);
            Some(Given {
                fields,
                as_text,
                hint,
            })
        }
        Err(wrong) => {
            faults.extend(wrong.into_iter().map(FieldFault::from));
            None
        }
    }
}
