//! Identifiers: a prefix that says what the thing is, and the 32 hex digits of a UUID (version 7
//! for what Keystead makes, so that ids sort by age).
//!
//! ```text
//! int_019a9f3c5a7b7c3e8f00112233445566
//! ```
//!
//! One spelling only: lower case, no hyphens. The seal binds the 16 raw bytes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// The text is not an id of that kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id of the form {prefix}… with 32 lower-case hex digits")]
pub struct InvalidId {
    prefix: &'static str,
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// What the text form starts with.
            pub const PREFIX: &'static str = $prefix;

            /// Wraps a UUID; the caller brings the randomness.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The 16 raw bytes, as the seal binds them.
            pub const fn bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let fault = InvalidId { prefix: $prefix };
                let hex = text.strip_prefix($prefix).ok_or(fault)?;
                let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
                if hex.len() != 32 || !hex.bytes().all(lower) {
                    return Err(fault);
                }
                Uuid::try_parse(hex).map(Self).map_err(|_| fault)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// A tenant: the unit of isolation.
    TenantId = "ten_";
    /// A member: a user's place in a tenant.
    MemberId = "mem_";
    /// An integration of a tenant.
    IntegrationId = "int_";
    /// A service key or operator key (the record, not the secret).
    KeyId = "key_";
    /// A generation of a tenant key, or the root key.
    SealKeyId = "sek_";
    /// This installation.
    InstallationId = "ins_";
    /// A consent at a provider that is under way.
    AuthorizationId = "aut_";
    /// A link to the connect page.
    SessionId = "ses_";
    /// Revocations that were asked for together.
    BatchId = "rvb_";
    /// A grant that is taken back at its provider.
    RevocationId = "rev_";
    /// One request, as logs and entries name it.
    RequestId = "req_";
}

impl TenantId {
    /// The platform's own tenant: platform secrets, operator keys, and entries that belong to no
    /// customer.
    pub const PLATFORM: TenantId = TenantId(Uuid::nil());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        let id = IntegrationId::from_uuid(Uuid::from_u128(0x19a9));
        let text = id.to_string();
        assert_eq!(text, "int_000000000000000000000000000019a9");
        assert_eq!(text.parse(), Ok(id));
        for wrong in [
            "int_000000000000000000000000000019A9",
            "int_00000000-0000-0000-0000-0000000019a9",
            "ten_000000000000000000000000000019a9",
            "int_19a9",
            "int_",
            "",
        ] {
            assert!(wrong.parse::<IntegrationId>().is_err(), "{wrong}");
        }
    }
}
