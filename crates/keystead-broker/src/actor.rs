//! Who began something that ends in a request without a token: a consent that a browser brings
//! back, a page that a link opens.
//!
//! What always holds: what is kept of a caller is who it was, not what it may. When it acts again,
//! its key or its membership is read again, and the decision is made again; whose key was revoked,
//! who is no member any more, or whose issuer is configured no more, can end nothing that they
//! began. A role that a token stated goes on for so long as what it began, which ends soon.

use std::net::IpAddr;
use std::sync::Arc;

use keystead_core::action::{Action, Role};
use keystead_core::caller::{Caller, Filter, Scope};
use keystead_core::ids::{KeyId, RequestId, TenantId};
use keystead_core::time::Time;
use serde::{Deserialize, Serialize};

use crate::broker::Broker;
use crate::context::{Basis, Context, Proof};
use crate::error::Error;
use crate::keys;

/// A caller as it is kept, JSON: beside it in the row stands the tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Actor {
    /// A user, in the role that its token stated; a member's is the one on record.
    User {
        issuer: String,
        subject: String,
        stated: Option<Role>,
    },
    /// A service key. `stated`: a key of the product's own issuer, which is on no record of ours.
    Service { key: KeyId, stated: bool },
    /// An operator key. `stated`: the shell.
    Operator { key: KeyId, stated: bool },
}

impl Actor {
    /// Who asks; `None` for nobody.
    pub(crate) fn of(ctx: &Context) -> Option<Actor> {
        let basis = ctx.proof.map_or(Basis::Stated, |proof| proof.basis);
        let stated = basis == Basis::Stated;
        Some(match ctx.caller.as_deref()? {
            Caller::User {
                issuer,
                subject,
                role,
                ..
            } => Actor::User {
                issuer: issuer.clone(),
                subject: subject.clone(),
                stated: stated.then_some(*role),
            },
            Caller::Service { key, .. } => Actor::Service { key: *key, stated },
            Caller::Operator { key } => Actor::Operator { key: *key, stated },
        })
    }

    /// As rows keep it.
    pub(crate) fn to_text(&self) -> String {
        // Plain fields cannot fail to serialise.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads what [`Actor::to_text`] wrote.
    pub(crate) fn from_text(text: &str) -> Option<Actor> {
        serde_json::from_str(text).ok()
    }

    /// Whether that caller is this one, whatever role either has by now.
    pub(crate) fn is(&self, other: &Actor) -> bool {
        match (self, other) {
            (
                Actor::User {
                    issuer, subject, ..
                },
                Actor::User {
                    issuer: other_issuer,
                    subject: other_subject,
                    ..
                },
            ) => issuer == other_issuer && subject == other_subject,
            _ => self == other,
        }
    }
}

impl Broker {
    /// A request by whoever began what it ends, with what they may now.
    ///
    /// # Errors
    /// `Unauthenticated` where their key or membership is gone; as the store answers.
    pub(crate) async fn act_again(
        &self,
        actor: &Actor,
        tenant: TenantId,
        request: RequestId,
        address: Option<IpAddr>,
    ) -> Result<Context, Error> {
        let epoch = self.epochs().of_callers();
        let basis = match actor {
            Actor::User { stated: None, .. } => Basis::Member,
            Actor::Service { stated: false, .. } | Actor::Operator { stated: false, .. } => {
                Basis::Key
            }
            _ => Basis::Stated,
        };
        let caller = match actor {
            // Whoever is trusted no more to say who its users are is not believed for what it said.
            Actor::User { issuer, .. }
                if !self.callers().issuer_names().any(|known| known == issuer) =>
            {
                return Err(Error::Unauthenticated);
            }
            Actor::User {
                issuer,
                subject,
                stated,
            } => {
                let role = match stated {
                    Some(role) => *role,
                    None => self
                        .store()
                        .find_member(tenant, issuer, subject)
                        .await?
                        .map(|member| member.role)
                        .ok_or(Error::Unauthenticated)?,
                };
                Caller::User {
                    issuer: issuer.clone(),
                    subject: subject.clone(),
                    tenant,
                    role,
                }
            }
            Actor::Service { key, stated: true } => Caller::Service {
                key: *key,
                tenant: None,
                scopes: vec![Scope {
                    actions: Action::ALL.iter().copied().collect(),
                    providers: Filter::Any,
                    integrations: Filter::Any,
                }],
            },
            Actor::Service { key, stated: false } => {
                let row = match self.store().find_key(*key).await? {
                    Some(row) if self.key_stands(*key).await? => row,
                    _ => return Err(Error::Unauthenticated),
                };
                Caller::Service {
                    key: *key,
                    tenant: row.bound,
                    scopes: keys::scopes(&row)?,
                }
            }
            Actor::Operator { key, stated } => {
                if !stated && !self.key_stands(*key).await? {
                    return Err(Error::Unauthenticated);
                }
                Caller::Operator { key: *key }
            }
        };
        Ok(Context {
            caller: Some(Arc::new(caller)),
            tenant: Some(tenant),
            proof: Some(Proof {
                epoch,
                basis,
                until: Time(i64::MAX),
            }),
            ..Context::anonymous(request, address)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_a_caller_reads_back_and_says_nothing_of_scopes() {
        let key = KeyId::from_uuid(uuid::Uuid::nil());
        for actor in [
            Actor::User {
                issuer: "dev".into(),
                subject: "alice".into(),
                stated: Some(Role::Owner),
            },
            Actor::Service { key, stated: false },
            Actor::Operator { key, stated: true },
        ] {
            assert_eq!(Actor::from_text(&actor.to_text()), Some(actor));
        }
        assert_eq!(Actor::from_text("{}"), None);
    }

    #[test]
    fn a_user_is_the_same_in_another_role_and_no_one_else() {
        let user = |subject: &str, stated| Actor::User {
            issuer: "dev".into(),
            subject: subject.into(),
            stated,
        };
        assert!(user("alice", Some(Role::Owner)).is(&user("alice", None)));
        assert!(!user("alice", None).is(&user("bob", None)));
        let key = KeyId::from_uuid(uuid::Uuid::nil());
        let service = Actor::Service { key, stated: false };
        assert!(!service.is(&Actor::Operator { key, stated: false }));
    }
}
