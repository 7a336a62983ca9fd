//! Keys on the wire.
//!
//! A scope is text, as the command line takes it; faults of a new key are told all at once.

use std::net::IpAddr;

use ipnet::IpNet;
use keystead_broker as broker;
use keystead_broker::{Error, FieldFault};
use keystead_core::caller::{Filter, Scope};
use keystead_core::ids::TenantId;
use keystead_core::time::Time;
use keystead_core::token::KeyKind;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::time;

/// A service key or operator key, without its text.
#[derive(Serialize, ToSchema)]
pub(crate) struct Key {
    pub(crate) id: String,
    /// `service` or `operator`.
    kind: &'static str,
    name: String,
    /// The only tenant it may act in; null: any, named by `Keystead-Tenant`.
    tenant: Option<String>,
    /// What it may do: `ACTIONS[:PROVIDERS[:INTEGRATIONS]]` each.
    scopes: Vec<String>,
    /// Where it may be used from; empty: anywhere.
    addresses: Vec<String>,
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    #[schema(format = DateTime)]
    last_used_at: Option<String>,
    #[schema(format = DateTime)]
    revoked_at: Option<String>,
    created_by: String,
    #[schema(format = DateTime)]
    created_at: String,
}

impl From<broker::Key> for Key {
    fn from(from: broker::Key) -> Key {
        Key {
            id: from.id.to_string(),
            kind: key_kind(from.kind),
            name: from.name,
            tenant: from.tenant.map(|id| id.to_string()),
            scopes: from.scopes.iter().map(scope_text).collect(),
            addresses: from.addresses.iter().map(IpNet::to_string).collect(),
            expires_at: from.expires_at.map(time),
            last_used_at: from.last_used_at.map(time),
            revoked_at: from.revoked_at.map(time),
            created_by: from.created_by,
            created_at: time(from.created_at),
        }
    }
}

/// A key that was just made.
#[derive(Serialize, ToSchema)]
pub(crate) struct CreatedKey {
    #[serde(flatten)]
    pub(crate) key: Key,
    /// The key itself. It is shown this once.
    pub(crate) text: String,
}

/// A new key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewKey {
    /// `service` or `operator`.
    kind: String,
    name: String,
    /// The only tenant it may act in.
    #[schema(value_type = Option<String>)]
    tenant: Option<TenantId>,
    /// `ACTIONS[:PROVIDERS[:INTEGRATIONS]]` each, lists with commas: `use,info:openai`. Actions are
    /// named one by one; providers and integrations may be `*`.
    #[serde(default)]
    scopes: Vec<String>,
    /// Addresses and ranges it may be used from; empty: anywhere.
    #[serde(default)]
    addresses: Vec<String>,
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

impl TryFrom<NewKey> for broker::NewKey {
    type Error = Error;

    fn try_from(from: NewKey) -> Result<broker::NewKey, Error> {
        let mut faults = Vec::new();
        let kind = match from.kind.as_str() {
            "operator" => KeyKind::Operator,
            "service" => KeyKind::Service,
            _ => {
                faults.push(FieldFault::new("kind", "expected `service` or `operator`"));
                KeyKind::Service
            }
        };
        let mut scopes = Vec::new();
        for (at, text) in from.scopes.iter().enumerate() {
            match Scope::parse(text) {
                Ok(scope) => scopes.push(scope),
                Err(fault) => {
                    faults.push(FieldFault::new(format!("scopes[{at}]"), fault.to_string()))
                }
            }
        }
        let mut addresses = Vec::new();
        for (at, text) in from.addresses.iter().enumerate() {
            match text
                .parse()
                .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            {
                Ok(net) => addresses.push(net),
                Err(_) => faults.push(FieldFault::new(
                    format!("addresses[{at}]"),
                    "expected an address or a range, such as 192.0.2.0/24",
                )),
            }
        }
        let expires_at = from.expires_at.as_deref().map(Time::parse_rfc3339);
        if expires_at == Some(None) {
            faults.push(FieldFault::new("expires_at", format!("expected {A_TIME}")));
        }
        if !faults.is_empty() {
            return Err(Error::Invalid(faults));
        }
        Ok(broker::NewKey {
            kind,
            name: from.name,
            tenant: from.tenant,
            scopes,
            addresses,
            expires_at: expires_at.flatten(),
        })
    }
}

/// What a time is.
const A_TIME: &str = "a time as RFC 3339 has it, such as 2026-11-20T14:15:00Z";

fn key_kind(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Operator => "operator",
        KeyKind::Service => "service",
    }
}

/// A scope in the form that `Scope::parse` reads.
fn scope_text(scope: &Scope) -> String {
    fn list(items: impl Iterator<Item = String>) -> String {
        items.collect::<Vec<_>>().join(",")
    }
    fn filter<T: Ord + ToString>(filter: &Filter<T>) -> String {
        match filter {
            Filter::Any => "*".to_owned(),
            Filter::Only(those) => list(those.iter().map(T::to_string)),
        }
    }
    let mut text = list(scope.actions.iter().map(|action| action.to_string()));
    let whole = matches!(scope.integrations, Filter::Any);
    if !(whole && matches!(scope.providers, Filter::Any)) {
        text = format!("{text}:{}", filter(&scope.providers));
    }
    if !whole {
        text = format!("{text}:{}", filter(&scope.integrations));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_written_as_it_is_read() {
        for text in [
            "use",
            "info,use:openai",
            "reveal:*:int_000000000000000000000000000019a9",
            "use:anthropic,openai:int_000000000000000000000000000019a9",
        ] {
            assert_eq!(scope_text(&Scope::parse(text).unwrap()), text);
        }
    }

    #[test]
    fn all_faults_of_a_new_key_are_told_at_once_by_path() {
        let new = NewKey {
            kind: "root".into(),
            name: "x".into(),
            tenant: None,
            scopes: vec!["use".into(), "get".into()],
            addresses: vec!["192.0.2.1".into(), "here".into()],
            expires_at: Some("tomorrow".into()),
        };
        let Err(Error::Invalid(faults)) = broker::NewKey::try_from(new) else {
            panic!()
        };
        let paths: Vec<_> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(paths, ["kind", "scopes[1]", "addresses[1]", "expires_at"]);
    }
}
