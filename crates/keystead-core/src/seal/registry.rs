//! The registry of numbers that the seal binds.
//!
//! What always holds: a number is given once. One that is no longer used stays here, marked so, and is
//! never given to something else, because old blobs still carry its meaning. Field numbers are per
//! kind, and stand here too once a kind has more than one field.

/// What a sealed record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Kind {
    /// The credential of an integration.
    Credential = 1,
    /// A generation of a tenant key, under the root key.
    TenantKey = 2,
    /// The root key, where a local key wraps it.
    RootKey = 3,
    /// The key that signs the log's checkpoints.
    LogKey = 4,
    /// The key of the database context.
    ContextKey = 5,
    /// The key under which presented tokens are looked up.
    LookupKey = 6,
    /// A token that Keystead had a provider mint.
    MintedToken = 7,
    /// A remembered answer to an idempotent request.
    Idempotency = 8,
    /// The tokens of an OAuth integration.
    TokenSet = 9,
    /// What a consent under way has to keep until the provider comes back.
    Authorization = 10,
    /// What a grant is taken back with, until its provider has confirmed.
    Revocation = 11,
    /// The next credential, until it has taken the place of the one before.
    Rotation = 12,
}

impl Kind {
    /// The number that is bound into the seal.
    pub const fn number(self) -> u16 {
        self as u16
    }
}
