//! What can be done, and on what kinds of thing: one word each, the same in policy, API, audit
//! log and metrics.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $what:literal { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// All of them, in order.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The word for it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text {
                    $($word => Ok($name::$variant),)*
                    _ => Err(UnknownWord { what: $what, known: &[$($word,)*] }),
                }
            }
        }
    };
}

/// A word that is not in the vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownWord {
    what: &'static str,
    known: &'static [&'static str],
}

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not {}: use one of {}", self.what, self.known.join(", "))
    }
}

impl std::error::Error for UnknownWord {}

words! {
    /// An action on a thing. `use` does not imply `reveal`; neither implies `info`.
    Action, "an action" {
        /// See which there are.
        List = "list",
        /// See one, without its credential.
        Info = "info",
        /// Call the provider with it, unseen.
        Use = "use",
        /// See the credential itself.
        Reveal = "reveal",
        /// Create or change.
        Put = "put",
        /// Try it at the provider now.
        Test = "test",
        /// Replace the credential at the provider.
        Rotate = "rotate",
        /// Destroy.
        Delete = "delete",
        /// Let others of the tenant have it.
        Share = "share",
        /// Give or take a role or a grant.
        Grant = "grant",
        /// Read the audit log.
        Audit = "audit",
    }
}

words! {
    /// What kind of thing an action is on.
    TargetKind, "a kind of target" {
        /// The audit log.
        Audit = "audit",
        /// A named connection to a provider.
        Integration = "integration",
        /// A service key or operator key.
        Key = "key",
        /// A user's place in a tenant.
        Member = "member",
        /// An entry of the catalogue.
        Provider = "provider",
        /// A tenant.
        Tenant = "tenant",
        /// A request that named nothing that could be told.
        Request = "request",
    }
}

words! {
    /// A user's role in a tenant; each may do all that the one before may.
    Role, "a role" {
        /// Lists and sees.
        Viewer = "viewer",
        /// Also uses and tests.
        Member = "member",
        /// Also puts, rotates, deletes, shares, and reads the tenant's audit log.
        Admin = "admin",
        /// Also manages members and deletes the tenant.
        Owner = "owner",
    }
}

words! {
    /// How a decision or an attempt ended.
    Outcome, "an outcome" {
        /// Allowed; for a write also: done, in the same transaction.
        Allowed = "allowed",
        /// Not allowed.
        Denied = "denied",
        /// Allowed, but it could not be carried out; nothing was changed.
        Failed = "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip_and_roles_are_ordered() {
        for action in Action::ALL {
            assert_eq!(action.as_str().parse(), Ok(*action));
        }
        assert!("get".parse::<Action>().is_err());
        assert!(
            Role::Viewer < Role::Member && Role::Member < Role::Admin && Role::Admin < Role::Owner
        );
    }
}
