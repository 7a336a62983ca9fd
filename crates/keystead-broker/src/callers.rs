//! Who presents a JWT, proven: configured issuers, their keys, and the tokens they sign.
//!
//! What always holds here: an issuer is found by the exact string of `iss`, and only its own keys
//! are looked at; a key verifies one algorithm; the outside hears one and the same refusal,
//! whatever the [`Reason`]; time is an argument.
//!
//! `user_metadata` is the user's to write and never decides a tenant or a role.
//!
//! Deliberately not here: what a caller may do (core's policy), the form of a token (core's token).

mod dev;
mod issuer;
mod jwks;
mod jwt;

pub use dev::{DevIssuer, DevKeyFault};
pub use issuer::{InvalidIssuer, IssuerSettings, KeySource};
pub use jwks::{FetchFailed, JwksFetch, MAX_JWKS};
pub use jwt::{VerifiedToken, Verifier};

/// The token proves nobody. Its text is the same for every reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token is not valid here")]
pub struct Unproven {
    /// Why, for the entry; never said to the outside.
    pub reason: Reason,
}

impl From<Reason> for Unproven {
    fn from(reason: Reason) -> Unproven {
        Unproven { reason }
    }
}

/// Why a token proves nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Not a JWT of the form that is taken.
    Malformed,
    /// `iss` is no string, or none of the configured issuers.
    UnknownIssuer,
    /// `alg` is not in the issuer's list.
    Algorithm,
    /// The issuer has no such key for that algorithm, or more than one.
    UnknownKey,
    /// The issuer's keys could not be fetched for too long.
    KeysUnavailable,
    /// The signature is not the key's.
    BadSignature,
    /// `exp` is over.
    Expired,
    /// `nbf` is to come, or `iat` is.
    NotYetValid,
    /// It lives for longer than the issuer's tokens may.
    Lifetime,
    /// `aud` does not name us.
    Audience,
    /// A claim that is needed is missing or of the wrong type.
    Claims,
    /// The role claim is no role of Keystead.
    UnknownRole,
    /// An anonymous sign-in, or the `anon` role.
    Anonymous,
    /// Minted for a third-party client.
    ThirdPartyClient,
    /// A service role where none is allowed.
    ServiceRole,
}

impl Reason {
    /// In a few words, as entries say it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::Malformed => "malformed token",
            Reason::UnknownIssuer => "unknown issuer",
            Reason::Algorithm => "algorithm not allowed",
            Reason::UnknownKey => "unknown key",
            Reason::KeysUnavailable => "issuer's keys unavailable",
            Reason::BadSignature => "bad signature",
            Reason::Expired => "expired",
            Reason::NotYetValid => "not yet valid",
            Reason::Lifetime => "lifetime too long",
            Reason::Audience => "wrong audience",
            Reason::Claims => "malformed claims",
            Reason::UnknownRole => "unknown role",
            Reason::Anonymous => "anonymous",
            Reason::ThirdPartyClient => "third-party client",
            Reason::ServiceRole => "service role not allowed",
        }
    }
}
