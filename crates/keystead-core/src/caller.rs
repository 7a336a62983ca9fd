//! Who a request is, proven. Anonymous is the absence of a caller.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::action::{Action, Role, UnknownWord};
use crate::ids::{IntegrationId, KeyId, TenantId};

/// A proven caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A person, by a JWT of a configured issuer.
    User {
        /// The issuer's configured name.
        issuer: String,
        /// The issuer's `sub`.
        subject: String,
        /// The one tenant this request acts in.
        tenant: TenantId,
        /// The role in that tenant.
        role: Role,
    },
    /// A product's backend, by a service key.
    Service {
        /// The key's record.
        key: KeyId,
        /// The only tenant it may act in; `None`: any tenant, named per request.
        tenant: Option<TenantId>,
        /// What it may do.
        scopes: Vec<Scope>,
    },
    /// Whoever runs this installation, by an operator key.
    Operator {
        /// The key's record.
        key: KeyId,
    },
}

impl Caller {
    /// The word for its kind, as entries and metrics say it.
    pub fn kind(&self) -> &'static str {
        match self {
            Caller::User { .. } => "user",
            Caller::Service { .. } => "service",
            Caller::Operator { .. } => "operator",
        }
    }

    /// Who it is, as entries say it: `issuer|subject` for a user, the key's id otherwise.
    pub fn name(&self) -> String {
        match self {
            Caller::User {
                issuer, subject, ..
            } => format!("{issuer}|{subject}"),
            Caller::Service { key, .. } | Caller::Operator { key } => key.to_string(),
        }
    }
}

/// Which things a scope covers. There is no empty value that means all: it is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter<T: Ord> {
    /// Every one.
    Any,
    /// These and no others.
    Only(BTreeSet<T>),
}

impl<T: Ord> Filter<T> {
    /// Whether the thing is covered; a thing that is not known is covered by `Any` alone.
    pub fn covers(&self, thing: Option<&T>) -> bool {
        match self {
            Filter::Any => true,
            Filter::Only(those) => thing.is_some_and(|thing| those.contains(thing)),
        }
    }
}

/// Part of what a service key may do: these actions, on integrations of these providers, among
/// these integrations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// The actions; empty allows nothing.
    pub actions: BTreeSet<Action>,
    /// Provider ids.
    pub providers: Filter<String>,
    /// Integration ids.
    pub integrations: Filter<IntegrationId>,
}

/// A scope's text does not read as one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidScope {
    /// A word that is no action.
    #[error("{0:?} is {1}")]
    Action(String, UnknownWord),
    /// An integration that is no id.
    #[error("{0:?} is not an integration's id (int_…)")]
    Integration(String),
    /// Not of the form.
    #[error(
        "a scope is ACTION[,ACTION…][:PROVIDER[,…]|*[:INTEGRATION[,…]|*]], e.g. use,info:openai"
    )]
    Form,
}

impl Scope {
    /// Reads `ACTIONS[:PROVIDERS[:INTEGRATIONS]]`, lists with commas, `*` for any provider or
    /// integration. Actions are always listed one by one.
    pub fn parse(text: &str) -> Result<Scope, InvalidScope> {
        let mut parts = text.split(':');
        let actions = parts
            .next()
            .filter(|part| !part.is_empty())
            .ok_or(InvalidScope::Form)?;
        let actions = actions
            .split(',')
            .map(|word| {
                word.parse()
                    .map_err(|fault| InvalidScope::Action(word.to_owned(), fault))
            })
            .collect::<Result<_, _>>()?;
        let providers = match parts.next() {
            None | Some("*") => Filter::Any,
            Some(list) if list.split(',').all(|id| !id.is_empty()) => {
                Filter::Only(list.split(',').map(str::to_owned).collect())
            }
            Some(_) => return Err(InvalidScope::Form),
        };
        let integrations = match parts.next() {
            None | Some("*") => Filter::Any,
            Some(list) => Filter::Only(
                list.split(',')
                    .map(|id| {
                        id.parse()
                            .map_err(|_| InvalidScope::Integration(id.to_owned()))
                    })
                    .collect::<Result<_, _>>()?,
            ),
        };
        match parts.next() {
            None => Ok(Scope {
                actions,
                providers,
                integrations,
            }),
            Some(_) => Err(InvalidScope::Form),
        }
    }

    /// Whether the scope covers the action on a thing of that provider and id. Where the thing is
    /// not yet known (a list, a new integration), `None` stands for the integration.
    pub fn covers(
        &self,
        action: Action,
        provider: Option<&str>,
        integration: Option<&IntegrationId>,
    ) -> bool {
        self.actions.contains(&action)
            && match (&self.providers, provider) {
                (Filter::Any, _) => true,
                (Filter::Only(those), Some(id)) => those.contains(id),
                (Filter::Only(_), None) => false,
            }
            && self.integrations.covers(integration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_says_what_it_covers_and_nothing_more() {
        let scope = Scope::parse("use,info:openai").unwrap();
        assert!(scope.covers(Action::Use, Some("openai"), None));
        assert!(!scope.covers(Action::Reveal, Some("openai"), None));
        assert!(!scope.covers(Action::Use, Some("openai_other"), None));
        assert!(!scope.covers(Action::Use, None, None));
    }

    #[test]
    fn a_malformed_scope_is_refused() {
        for wrong in [
            "",
            ":openai",
            "get",
            "use:",
            "use:*:*:x",
            "use:a,,b",
            "use:*:int_1",
            "*",
        ] {
            assert!(Scope::parse(wrong).is_err(), "{wrong}");
        }
    }
}
