//! Who may do what: one pure function from caller, action and target to a decision.
//!
//! What always holds: everything that is not allowed here by name is denied; another tenant's
//! things are denied in the same way as things that do not exist; no user may reveal, unless an
//! operator opened it for a role.

use std::collections::BTreeSet;

use crate::action::{Action, Role, TargetKind};
use crate::caller::Caller;
use crate::ids::{IntegrationId, TenantId};

/// What an action is on, as far as policy needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The kind of thing.
    pub kind: TargetKind,
    /// The tenant it belongs to; the platform's own for keys, tenants as a list, and the whole log.
    pub tenant: TenantId,
    /// The provider, for an integration.
    pub provider: Option<&'a str>,
    /// Which integration, where it exists.
    pub integration: Option<&'a IntegrationId>,
}

/// What an operator has opened beyond the default, which is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Openings {
    /// Roles of users who may reveal.
    pub reveal_users: BTreeSet<Role>,
}

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// There is no caller.
    Unauthenticated,
    /// The thing is another tenant's; the answer is that of a thing that does not exist.
    OtherTenant,
    /// The user's role does not include the action.
    Role,
    /// The service key's scopes do not cover it.
    Scope,
    /// This kind of caller never may.
    Kind,
}

impl Denial {
    /// As entries say it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Denial::Unauthenticated => "unauthenticated",
            Denial::OtherTenant => "other tenant",
            Denial::Role => "role",
            Denial::Scope => "scope",
            Denial::Kind => "kind of caller",
        }
    }
}

/// Decides. Monotone in the role, and in the set of scopes: more never denies what less allowed.
pub fn decide(
    caller: Option<&Caller>,
    action: Action,
    target: &Target<'_>,
    openings: &Openings,
) -> Result<(), Denial> {
    let caller = caller.ok_or(Denial::Unauthenticated)?;
    if target.kind == TargetKind::Provider {
        // The catalogue is the same for all and holds no secret.
        return match action {
            Action::List | Action::Info => Ok(()),
            _ => Err(Denial::Kind),
        };
    }
    match caller {
        Caller::User { tenant, role, .. } => {
            if target.tenant != *tenant {
                return Err(Denial::OtherTenant);
            }
            let opened = target.kind == TargetKind::Integration
                && action == Action::Reveal
                && openings.reveal_users.contains(role);
            match least_role(action, target.kind) {
                _ if opened => Ok(()),
                Some(least) if *role >= least => Ok(()),
                Some(_) => Err(Denial::Role),
                None => Err(Denial::Kind),
            }
        }
        Caller::Service { tenant, scopes, .. } => {
            if tenant.is_some_and(|own| own != target.tenant) {
                return Err(Denial::OtherTenant);
            }
            let within = match target.kind {
                TargetKind::Integration => scopes
                    .iter()
                    .any(|scope| scope.covers(action, target.provider, target.integration)),
                TargetKind::Audit => {
                    action == Action::Audit
                        && target.tenant != TenantId::PLATFORM
                        // A tenant's entries are of all its integrations, and so is the scope.
                        && scopes
                            .iter()
                            .any(|scope| scope.covers(Action::Audit, None, None))
                }
                _ => return Err(Denial::Kind),
            };
            if within { Ok(()) } else { Err(Denial::Scope) }
        }
        Caller::Operator { .. } => {
            use Action::{Audit, Delete, Grant, Info, List, Put, Test};
            let allowed: &[Action] = match target.kind {
                TargetKind::Audit => &[Audit],
                // Putting is moving plaintext in from elsewhere; using and revealing are not the
                // operator's: a tenant's credential serves the tenant.
                TargetKind::Integration => &[List, Info, Put, Test, Delete],
                TargetKind::Key => &[List, Info, Put, Delete],
                TargetKind::Member => &[List, Grant],
                TargetKind::Tenant => &[List, Info, Put, Delete],
                TargetKind::Provider | TargetKind::Request => &[],
            };
            if allowed.contains(&action) {
                Ok(())
            } else {
                Err(Denial::Kind)
            }
        }
    }
}

/// The least role that may do it within the own tenant; `None`: no user may.
fn least_role(action: Action, kind: TargetKind) -> Option<Role> {
    use Action::{Audit, Delete, Grant, Info, List, Put, Rotate, Share, Test, Use};
    match (kind, action) {
        (TargetKind::Integration, List | Info) => Some(Role::Viewer),
        (TargetKind::Integration, Use | Test) => Some(Role::Member),
        (TargetKind::Integration, Put | Rotate | Delete | Share) => Some(Role::Admin),
        (TargetKind::Member, List) => Some(Role::Viewer),
        (TargetKind::Member, Grant) => Some(Role::Owner),
        (TargetKind::Tenant, Info) => Some(Role::Viewer),
        (TargetKind::Tenant, Delete) => Some(Role::Owner),
        (TargetKind::Audit, Audit) => Some(Role::Admin),
        _ => None,
    }
}
