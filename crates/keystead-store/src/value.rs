//! What goes into a statement and what comes out of it, the same for both databases.
//!
//! What always holds: SQL is `&'static str`, values are bound as `$1…$n`, numbered in the order of
//! their first use (SQLite numbers them so), and there are four kinds of value.

use std::borrow::Cow;
use std::vec;

use keystead_core::action::{Action, Outcome, Role, TargetKind};
use keystead_core::ids::{
    AuthorizationId, BatchId, InstallationId, IntegrationId, KeyId, MemberId, RevocationId,
    SealKeyId, SessionId, TenantId,
};
use keystead_core::time::Time;

use crate::Error;

/// A bound value or a column.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Integer(i64),
    Text(Cow<'static, str>),
    Bytes(Vec<u8>),
}

/// One statement with its values.
#[derive(Clone)]
pub(crate) struct Query {
    pub(crate) sql: &'static str,
    pub(crate) params: Vec<Value>,
}

impl Query {
    /// Refuses a text with NUL, which PostgreSQL's text cannot hold: there it would end the connection.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let nul = |value: &Value| matches!(value, Value::Text(text) if text.contains('\0'));
        if self.params.iter().any(nul) {
            return Err(Error::Invalid { what: "request" });
        }
        Ok(())
    }
}

/// `query!(SQL, a, b)`: a statement with its values.
macro_rules! query {
    ($sql:expr $(, $value:expr)* $(,)?) => {
        $crate::value::Query { sql: $sql, params: vec![$($crate::value::Value::from($value)),*] }
    };
}
pub(crate) use query;

/// Whose rows a statement may touch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// One tenant's, under row-level security where there is such a thing.
    Tenant(TenantId),
    /// The platform's own tables, and the few lookups that go across tenants.
    System,
}

/// What one statement answered.
#[derive(Default)]
pub(crate) struct Answer {
    pub(crate) rows: Vec<Row>,
    pub(crate) affected: u64,
}

/// A row, read from left to right.
pub(crate) struct Row(vec::IntoIter<Value>);

impl Row {
    pub(crate) fn new(values: Vec<Value>) -> Row {
        Row(values.into_iter())
    }

    /// The next column.
    pub(crate) fn take<T: FromValue>(&mut self) -> Result<T, Error> {
        let value = self.0.next().ok_or(Error::Corrupt { what: "columns" })?;
        T::from_value(value)
    }
}

/// Reads a column.
pub(crate) trait FromValue: Sized {
    fn from_value(value: Value) -> Result<Self, Error>;
}

impl FromValue for i64 {
    fn from_value(value: Value) -> Result<i64, Error> {
        match value {
            Value::Integer(value) => Ok(value),
            _ => Err(Error::Corrupt { what: "an integer" }),
        }
    }
}

impl FromValue for u64 {
    fn from_value(value: Value) -> Result<u64, Error> {
        u64::try_from(i64::from_value(value)?).map_err(|_| Error::Corrupt { what: "a count" })
    }
}

impl FromValue for bool {
    fn from_value(value: Value) -> Result<bool, Error> {
        i64::from_value(value).map(|value| value != 0)
    }
}

impl FromValue for Time {
    fn from_value(value: Value) -> Result<Time, Error> {
        i64::from_value(value).map(Time)
    }
}

impl FromValue for String {
    fn from_value(value: Value) -> Result<String, Error> {
        match value {
            Value::Text(value) => Ok(value.into_owned()),
            _ => Err(Error::Corrupt { what: "a text" }),
        }
    }
}

impl FromValue for Vec<u8> {
    fn from_value(value: Value) -> Result<Vec<u8>, Error> {
        match value {
            Value::Bytes(value) => Ok(value),
            _ => Err(Error::Corrupt { what: "bytes" }),
        }
    }
}

impl FromValue for [u8; 32] {
    fn from_value(value: Value) -> Result<[u8; 32], Error> {
        Vec::from_value(value)?
            .try_into()
            .map_err(|_| Error::Corrupt { what: "a hash" })
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: Value) -> Result<Option<T>, Error> {
        match value {
            Value::Null => Ok(None),
            value => T::from_value(value).map(Some),
        }
    }
}

macro_rules! from_text {
    ($($type:ty: $what:literal),* $(,)?) => {$(
        impl FromValue for $type {
            fn from_value(value: Value) -> Result<$type, Error> {
                match value {
                    Value::Text(text) => text.parse().map_err(|_| Error::Corrupt { what: $what }),
                    _ => Err(Error::Corrupt { what: $what }),
                }
            }
        }
    )*};
}
from_text! {
    TenantId: "a tenant's id", MemberId: "a member's id", IntegrationId: "an integration's id",
    KeyId: "a key's id", SealKeyId: "a seal key's id", InstallationId: "an installation's id",
    AuthorizationId: "an authorization's id", SessionId: "a session's id", BatchId: "a batch's id",
    RevocationId: "a revocation's id",
    Action: "an action", TargetKind: "a kind of target", Role: "a role", Outcome: "an outcome",
}

macro_rules! to_text {
    (ids: $($id:ty),*; words: $($word:ty),* $(,)?) => {
        $(impl From<$id> for Value {
            fn from(id: $id) -> Value {
                Value::Text(Cow::Owned(id.to_string()))
            }
        })*
        $(impl From<$word> for Value {
            fn from(word: $word) -> Value {
                Value::Text(Cow::Borrowed(word.as_str()))
            }
        })*
    };
}
to_text! {
    ids: TenantId, MemberId, IntegrationId, KeyId, SealKeyId, InstallationId, AuthorizationId, SessionId, BatchId,
        RevocationId;
    words: Action, TargetKind, Role, Outcome
}

impl From<i64> for Value {
    fn from(value: i64) -> Value {
        Value::Integer(value)
    }
}

impl From<u64> for Value {
    /// Counts stay far below 2^63; one that does not is refused by every `CHECK (… >= 0)`.
    fn from(value: u64) -> Value {
        Value::Integer(i64::try_from(value).unwrap_or(-1))
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Integer(i64::from(value))
    }
}

impl From<Time> for Value {
    fn from(value: Time) -> Value {
        Value::Integer(value.0)
    }
}

impl From<String> for Value {
    fn from(value: String) -> Value {
        Value::Text(Cow::Owned(value))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Value {
        Value::Text(Cow::Owned(value.to_owned()))
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Value {
        Value::Bytes(value)
    }
}

impl From<[u8; 32]> for Value {
    fn from(value: [u8; 32]) -> Value {
        Value::Bytes(value.to_vec())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}

/// A closed list of words kept as text.
macro_rules! stored_words {
    ($(#[$doc:meta])* $name:ident, $what:literal { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)*
        }

        impl $name {
            /// The word for it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)*
                }
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::Error;

            fn from_str(text: &str) -> Result<$name, crate::Error> {
                match text {
                    $($word => Ok($name::$variant),)*
                    _ => Err(crate::Error::Corrupt { what: $what }),
                }
            }
        }

        impl From<$name> for crate::value::Value {
            fn from(word: $name) -> crate::value::Value {
                crate::value::Value::Text(std::borrow::Cow::Borrowed(word.as_str()))
            }
        }

        impl crate::value::FromValue for $name {
            fn from_value(value: crate::value::Value) -> Result<$name, crate::Error> {
                match value {
                    crate::value::Value::Text(text) => text.parse(),
                    _ => Err(crate::Error::Corrupt { what: $what }),
                }
            }
        }
    };
}
pub(crate) use stored_words;
