//! What goes over the wire, and how it is made from, or turned into, what the broker knows.
//!
//! What always holds: times are RFC 3339 text, ids are text; what comes in refuses unknown fields;
//! nothing that goes out has a place for a credential, but for `Revealed` (written by the broker)
//! and the text of a new key. Types that hold one have no `Debug`.

mod audit;
mod connect;
mod keys;
mod oauth;
mod providers;
mod resources;
mod revocations;
mod rotation;

use keystead_broker as broker;
use keystead_core::action::Role;
use keystead_core::time::Time;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

pub(crate) use audit::{Entry, Proof};
pub(crate) use connect::{ConnectSession, NewConnectSession};
pub(crate) use keys::{CreatedKey, Key, NewKey};
pub(crate) use oauth::{Back, Device, DevicePoll, NewDevice, Started};
pub(crate) use providers::Provider;
pub(crate) use resources::{Resource, ResourceCredentials, WantedCredentials};
pub(crate) use revocations::{Batch, BatchPage, NewRevocation, Preview, Revoked};
pub(crate) use rotation::{Rotation, RotationSchedule};

fn time(at: Time) -> String {
    at.rfc3339()
}

/// A page of a list.
#[derive(Serialize, ToSchema)]
pub(crate) struct Page<T> {
    /// What is on the page.
    pub(crate) data: Vec<T>,
    /// What to give as `after` for the next page; null on the last.
    pub(crate) next: Option<String>,
}

impl<T> Page<T> {
    /// A list that comes whole.
    pub(crate) fn all<U>(all: Vec<U>, to: impl FnMut(U) -> T) -> Page<T> {
        Page {
            data: all.into_iter().map(to).collect(),
            next: None,
        }
    }

    pub(crate) fn of<U>(page: broker::Page<U>, to: impl FnMut(U) -> T) -> Page<T> {
        Page {
            data: page.data.into_iter().map(to).collect(),
            next: page.next,
        }
    }
}

/// A tenant's named connection to a provider.
#[derive(Serialize, ToSchema)]
pub(crate) struct Integration {
    id: String,
    name: String,
    /// The provider's id.
    #[serde(rename = "type")]
    type_: String,
    /// `verifying`, `connected`, `error`, `reauthorize` or `disabled`.
    status: &'static str,
    #[schema(value_type = Object)]
    config: Map<String, Value>,
    /// At most the last four characters of the credential; null where it is short.
    hint: Option<String>,
    credential_version: u64,
    created_by: String,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
    #[schema(format = DateTime)]
    last_used_at: Option<String>,
    #[schema(format = DateTime)]
    last_verified_at: Option<String>,
    /// Why the status is `error`, for people.
    error_message: Option<String>,
    /// Give it as `If-Match` to change what was read and nothing newer.
    pub(crate) etag: String,
}

impl From<broker::Integration> for Integration {
    fn from(from: broker::Integration) -> Integration {
        Integration {
            id: from.id.to_string(),
            name: from.name,
            type_: from.type_,
            status: from.status.as_str(),
            config: from.config,
            hint: from.hint,
            credential_version: from.credential_version,
            created_by: from.created_by,
            created_at: time(from.created_at),
            updated_at: time(from.updated_at),
            last_used_at: from.last_used_at.map(time),
            last_verified_at: from.last_verified_at.map(time),
            error_message: from.error_message,
            etag: from.etag,
        }
    }
}

/// An integration that was just made.
#[derive(Serialize, ToSchema)]
pub(crate) struct CreatedIntegration {
    #[serde(flatten)]
    pub(crate) integration: Integration,
    /// What looks unusual about the credential; it was taken all the same.
    pub(crate) warnings: Vec<String>,
}

/// A new integration.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewIntegration {
    /// What people call it; once in a tenant.
    name: String,
    /// The provider's id.
    #[serde(rename = "type")]
    type_: String,
    /// Text for the provider's primary field, or an object of its fields.
    #[schema(value_type = Credentials)]
    credentials: Value,
    /// The provider's settings.
    #[serde(default)]
    #[schema(value_type = Object)]
    config: Map<String, Value>,
}

impl From<NewIntegration> for broker::NewIntegration {
    fn from(from: NewIntegration) -> broker::NewIntegration {
        broker::NewIntegration {
            name: from.name,
            type_: from.type_,
            credentials: from.credentials,
            config: from.config,
        }
    }
}

/// What to change of an integration; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangedIntegration {
    name: Option<String>,
    /// A new credential, whole.
    #[schema(value_type = Option<Credentials>)]
    credentials: Option<Value>,
    #[schema(value_type = Option<Object>)]
    config: Option<Map<String, Value>>,
    /// Whether it is put out of use.
    disabled: Option<bool>,
}

impl From<ChangedIntegration> for broker::Changes {
    fn from(from: ChangedIntegration) -> broker::Changes {
        broker::Changes {
            name: from.name,
            credentials: from.credentials,
            config: from.config,
            disabled: from.disabled,
        }
    }
}

/// What came of trying a credential.
#[derive(Serialize, ToSchema)]
pub(crate) struct TestReport {
    /// `ok`, `bad_key`, `expired`, `no_perm`, `rate`, `quota`, `down` or `indeterminate`.
    result: &'static str,
    /// The integration's status now.
    status: &'static str,
    /// For people.
    message: Option<String>,
    latency_ms: u64,
}

impl From<broker::TestReport> for TestReport {
    fn from(from: broker::TestReport) -> TestReport {
        TestReport {
            result: from.result.as_str(),
            status: from.status.as_str(),
            message: from.message,
            latency_ms: from.latency_ms,
        }
    }
}

/// A credential: one text, or its parts by name.
#[derive(ToSchema)]
#[serde(untagged)]
#[allow(dead_code)] // For the document alone.
pub(crate) enum Credentials {
    Text(String),
    Parts(BTreeMap<String, String>),
}

/// A credential, handed out.
#[derive(ToSchema)]
#[allow(dead_code)] // The broker writes it; here it is for the document alone.
pub(crate) struct Revealed {
    /// As it was given: one text, or its parts.
    #[schema(value_type = Credentials)]
    credentials: Value,
    version: u64,
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

/// A user's place in a tenant.
#[derive(Serialize, ToSchema)]
pub(crate) struct Member {
    id: String,
    /// The configured issuer's name.
    issuer: String,
    /// The issuer's `sub`.
    subject: String,
    /// `viewer`, `member`, `admin` or `owner`.
    role: &'static str,
    #[schema(format = DateTime)]
    created_at: String,
}

impl From<broker::Member> for Member {
    fn from(from: broker::Member) -> Member {
        Member {
            id: from.id.to_string(),
            issuer: from.issuer,
            subject: from.subject,
            role: from.role.as_str(),
            created_at: time(from.created_at),
        }
    }
}

/// Gives a user a role.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewMember {
    /// The configured issuer's name.
    pub(crate) issuer: String,
    /// The issuer's `sub`.
    pub(crate) subject: String,
    /// `viewer`, `member`, `admin` or `owner`.
    #[schema(value_type = String)]
    pub(crate) role: Role,
}

/// A tenant.
#[derive(Serialize, ToSchema)]
pub(crate) struct Tenant {
    pub(crate) id: String,
    name: String,
    /// The issuer that names it, where one does.
    issuer: Option<String>,
    /// That issuer's name for it.
    external: Option<String>,
    #[schema(format = DateTime)]
    created_at: String,
}

impl From<broker::Tenant> for Tenant {
    fn from(from: broker::Tenant) -> Tenant {
        Tenant {
            id: from.id.to_string(),
            name: from.name,
            issuer: from.issuer,
            external: from.external,
            created_at: time(from.created_at),
        }
    }
}

/// A new tenant.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewTenant {
    pub(crate) name: String,
    /// A configured issuer's name, where its tokens shall name this tenant.
    pub(crate) issuer: Option<String>,
    /// What that issuer's tokens call it.
    pub(crate) external: Option<String>,
}
