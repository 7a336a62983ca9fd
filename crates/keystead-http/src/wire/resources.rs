//! Resources, as the API says them.

use std::collections::BTreeMap;

use keystead_core::provider::resources as core;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// A thing that a grant is good for.
#[derive(Serialize, ToSchema)]
pub(crate) struct Resource {
    /// What it is asked for by.
    key: String,
    /// `supabase_project`, `aws_session`, `aws_role`, `google_access_token`,
    /// `github_installation` or `github_repository`.
    kind: &'static str,
    /// For people.
    name: String,
    /// In the vendor's word, or `available`.
    status: String,
    /// Where it is, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    /// What else there is to know; nothing of it is secret.
    #[schema(value_type = Object)]
    details: Value,
}

impl From<core::Resource> for Resource {
    fn from(from: core::Resource) -> Resource {
        Resource {
            key: from.key,
            kind: from.kind,
            name: from.name,
            status: from.status,
            region: from.region,
            details: from.details,
        }
    }
}

/// What is wanted of a resource; what does not apply to it is refused.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WantedCredentials {
    /// Which credentials. Of a Supabase project: `all` (where nothing is said), `api-keys`,
    /// `pooler`, `database`. The others have one kind each: `session`, `role`, `access-token`,
    /// `installation-token`.
    kind: Option<String>,
    /// Supabase's database login: whether it may only read; it does where nothing is said.
    read_only: Option<bool>,
    /// AWS: 900 to 129600 seconds for a session, to 43200 for a role.
    lifetime_seconds: Option<u32>,
    /// Google: some of the scopes that the integration's setting has.
    scopes: Option<Vec<String>>,
    /// GitHub: the repositories of an installation, by name.
    repositories: Option<Vec<String>>,
    /// GitHub: areas with `read`, `write` or `admin`.
    permissions: Option<BTreeMap<String, String>>,
}

impl From<WantedCredentials> for core::Wanted {
    fn from(from: WantedCredentials) -> core::Wanted {
        core::Wanted {
            kind: from.kind,
            read_only: from.read_only,
            lifetime_seconds: from.lifetime_seconds,
            scopes: from.scopes,
            repositories: from.repositories,
            permissions: from.permissions,
        }
    }
}

/// Credentials, made now and stored nowhere.
#[derive(ToSchema)]
#[allow(dead_code)] // Core writes it; here it is for the document alone.
pub(crate) struct ResourceCredentials {
    /// What they are, by kind: see the documentation of resources.
    #[schema(value_type = Object)]
    credentials: Value,
    /// When they end by themselves; null where they do not.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// What was asked for.
    kind: String,
}
