//! What an integration is to those who see it, and what they ask of it. Nothing secret but in
//! `NewIntegration` and `Changes`, on the way in.

use keystead_core::ids::IntegrationId;
use keystead_core::time::Time;
use keystead_store::IntegrationRow;
use serde_json::{Map, Value};

/// What is said of an account whose owner has not consented, as far as its tokens say nothing else.
const NOT_CONNECTED: &str = "not connected yet: authorise it";

/// What is known of an integration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Its credential is being tried.
    Verifying,
    /// It works.
    Connected,
    /// It does not, or could not be told; the message says which.
    Error,
    /// Its user has to connect it again.
    Reauthorize,
    /// Switched off.
    Disabled,
}

impl Status {
    /// All of them.
    pub const ALL: [Status; 5] = [
        Status::Verifying,
        Status::Connected,
        Status::Error,
        Status::Reauthorize,
        Status::Disabled,
    ];

    /// As the API says it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Verifying => "verifying",
            Status::Connected => "connected",
            Status::Error => "error",
            Status::Reauthorize => "reauthorize",
            Status::Disabled => "disabled",
        }
    }

    /// Reads what `as_str` writes.
    pub fn parse(text: &str) -> Option<Status> {
        Status::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

/// An integration, as anyone who may see it sees it.
#[derive(Clone, Debug)]
pub struct Integration {
    /// Its id.
    pub id: IntegrationId,
    /// As its tenant calls it.
    pub name: String,
    /// The provider's id.
    pub type_: String,
    /// What is known of it.
    pub status: Status,
    /// Its settings; nothing secret.
    pub config: Map<String, Value>,
    /// At most the last four characters of the credential.
    pub hint: Option<String>,
    /// The credential's version, from 1.
    pub credential_version: u64,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: Time,
    /// When it was last changed by a caller.
    pub updated_at: Time,
    /// When it was last used, to about a second; later known where very many are used at once.
    pub last_used_at: Option<Time>,
    /// When the provider last took or refused it.
    pub last_verified_at: Option<Time>,
    /// Why it does not work, in words a person can act on.
    pub error_message: Option<String>,
    /// The revision, quoted, for `If-Match`.
    pub etag: String,
}

impl From<&IntegrationRow> for Integration {
    fn from(row: &IntegrationRow) -> Integration {
        let status = match row.status {
            _ if row.disabled => Status::Disabled,
            keystead_store::Status::Verifying => Status::Verifying,
            keystead_store::Status::Connected => Status::Connected,
            keystead_store::Status::Error => Status::Error,
            keystead_store::Status::Reauthorize => Status::Reauthorize,
        };
        Integration {
            id: row.id,
            name: row.name.clone(),
            type_: row.provider.clone(),
            status,
            config: serde_json::from_str(&row.config).unwrap_or_default(),
            hint: row.hint.clone(),
            credential_version: row.credential_version,
            created_by: row.created_by.clone(),
            created_at: row.created_at,
            updated_at: row.updated_at,
            last_used_at: row.last_used_at,
            last_verified_at: row.last_verified_at,
            error_message: match (&row.error_message, row.status) {
                (None, keystead_store::Status::Reauthorize) => Some(NOT_CONNECTED.to_owned()),
                (message, _) => message.clone(),
            },
            etag: etag(row),
        }
    }
}

pub(super) fn etag(row: &IntegrationRow) -> String {
    format!("\"{}\"", row.revision)
}

/// A new integration.
pub struct NewIntegration {
    /// As the tenant is to call it; unique in the tenant.
    pub name: String,
    /// The provider's id, or another name for it.
    pub type_: String,
    /// The credential: text, or an object of its parts.
    pub credentials: Value,
    /// Its settings.
    pub config: Map<String, Value>,
}

/// What to change of an integration; `None` leaves a thing as it is.
#[derive(Default)]
pub struct Changes {
    /// Another name.
    pub name: Option<String>,
    /// A new credential, whole.
    pub credentials: Option<Value>,
    /// New settings, whole.
    pub config: Option<Map<String, Value>>,
    /// Switch off or on.
    pub disabled: Option<bool>,
}

/// Which integrations to list.
#[derive(Clone, Debug, Default)]
pub struct IntegrationFilter {
    /// Of this provider.
    pub type_: Option<String>,
    /// In this status.
    pub status: Option<Status>,
    /// At most so many, 200 at the most.
    pub limit: u32,
    /// Behind this place.
    pub after: Option<String>,
}

/// What making an integration gave.
pub struct Created {
    /// The integration.
    pub integration: Integration,
    /// What looked odd; it was taken nevertheless.
    pub warnings: Vec<String>,
    /// Whether it had been made before, with the same idempotency key.
    pub replayed: bool,
}
