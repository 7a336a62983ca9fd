//! What a write may change, as a closed list, and the statements that each change is made of.
//!
//! What always holds: each statement says how many rows it has to touch, and what it means when it
//! does not: so a change that misses is told apart from a database that fails.

use keystead_core::action::Role;
use keystead_core::ids::{
    AuthorizationId, BatchId, IntegrationId, KeyId, MemberId, SessionId, TenantId,
};
use keystead_core::time::Time;

use crate::value::Query;
use crate::{
    AuthorizationRow, BatchRow, ConnectSessionRow, CredentialRow, Error, IdempotencyRow,
    InstallationRow, IntegrationChange, IntegrationRow, KeyRow, MarkReauthorize, MemberRow,
    ReleaseRenewal, RevocationRow, RevokeIntegration, RotationRow, SettleRevocation, Status,
    StoreTokens, TakeRenewal, TenantKeyRow, TenantRow, TokenSetRow, authorization, connect_session,
    idempotency, installation, integration, key, member, revocation, rotation, tenant, token_set,
};

/// A change of rows, made in the same transaction as its entry or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The first start.
    InsertInstallation(InstallationRow),
    /// A new tenant. Duplicate: its issuer's name for it is taken.
    InsertTenant(TenantRow),
    /// Destroys all that the tenant has; its row stays, as deleted.
    DeleteTenant {
        /// Which.
        tenant: TenantId,
    },
    /// A generation of a tenant's key.
    InsertTenantKey(TenantKeyRow),
    /// A new member. Duplicate: the subject already is one.
    InsertMember(MemberRow),
    /// Another role.
    UpdateMember {
        /// Whose.
        tenant: TenantId,
        /// Which.
        member: MemberId,
        /// The new role.
        role: Role,
        /// When.
        at: Time,
    },
    /// A member leaves.
    DeleteMember {
        /// Whose.
        tenant: TenantId,
        /// Which.
        member: MemberId,
    },
    /// A new service or operator key.
    InsertKey(KeyRow),
    /// Conflict: it already is revoked.
    RevokeKey {
        /// The tenant of the key's row.
        tenant: TenantId,
        /// Which.
        key: KeyId,
        /// When.
        at: Time,
    },
    /// A new integration and its first credential. Duplicate: the name is taken.
    InsertIntegration {
        /// The integration; its credential version is the credential's.
        integration: Box<IntegrationRow>,
        /// The credential.
        credential: CredentialRow,
    },
    /// The next version of a credential; the status is `verifying` again. Conflict: it is not the
    /// next one, or the revision is another.
    ReplaceCredential {
        /// The new version.
        credential: CredentialRow,
        /// Its hint.
        hint: Option<String>,
        /// The revision that the caller saw.
        expected_revision: Option<u64>,
    },
    /// A caller's change. Conflict: the revision is another. Duplicate: the name is taken. Each
    /// one adds 1 to the revision: of several in a write, only the first can expect one.
    UpdateIntegration {
        /// Whose.
        tenant: TenantId,
        /// Which.
        integration: IntegrationId,
        /// The revision that the caller saw.
        expected_revision: Option<u64>,
        /// What changes.
        change: IntegrationChange,
        /// When.
        at: Time,
    },
    /// What a test at the provider found. Conflict: that version is no longer the current one.
    SetVerified {
        /// Whose.
        tenant: TenantId,
        /// Which.
        integration: IntegrationId,
        /// The version that was tried.
        version: u64,
        /// What is known now.
        status: Status,
        /// Why, where it does not work.
        error_message: Option<String>,
        /// When.
        at: Time,
    },
    /// Destroys an integration and every version of its credential.
    DeleteIntegration {
        /// Whose.
        tenant: TenantId,
        /// Which.
        integration: IntegrationId,
        /// The revision that the caller saw.
        expected_revision: Option<u64>,
    },
    /// Keeps an answer, and forgets the tenant's answers from before the given time. Duplicate:
    /// the key already stands for a request.
    PutIdempotency {
        /// The answer.
        row: IdempotencyRow,
        /// Older ones are forgotten.
        expire_before: Time,
    },
    /// An integration's tokens, new or in place of those before. Conflict: the version and the fence
    /// are not both higher than those before.
    PutTokenSet(Box<TokenSetRow>),
    /// The lease on a renewal, and the intent.
    TakeRenewal(TakeRenewal),
    /// What a renewal brought.
    StoreTokens(Box<StoreTokens>),
    /// The end of a renewal that brought nothing.
    ReleaseRenewal(Box<ReleaseRenewal>),
    /// Tokens that cannot be renewed any more.
    MarkReauthorize(Box<MarkReauthorize>),
    /// A consent that begins. NotFound: what it is for is not there.
    InsertAuthorization(Box<AuthorizationRow>),
    /// Takes a consent's one-time state. NotFound: it was taken already, or forgotten.
    TakeAuthorization {
        /// Whose.
        tenant: TenantId,
        /// Which.
        authorization: AuthorizationId,
    },
    /// A link to the connect page.
    InsertConnectSession(Box<ConnectSessionRow>),
    /// The browser that a session is for from now on. Conflict: another one's already, or closed.
    ClaimConnectSession {
        /// Whose.
        tenant: TenantId,
        /// Which.
        session: SessionId,
        /// The keyed hash of what the browser holds.
        browser_hash: [u8; 32],
    },
    /// Conflict: it already is closed.
    CloseConnectSession {
        /// Whose.
        tenant: TenantId,
        /// Which.
        session: SessionId,
        /// When.
        at: Time,
    },
    /// Revocations that are asked for together; each is an effect of its own, in its own tenant.
    InsertBatch(Box<BatchRow>),
    /// All grants of a batch have been found: from now on it has its total. Conflict: it has one.
    SelectedBatch {
        /// Whose.
        tenant: TenantId,
        /// Which.
        batch: BatchId,
    },
    /// Puts an integration out of use, and destroys its credentials and its tokens: what its grant is
    /// taken back with is in the revocation that is made with it. Conflict: the revision or the
    /// version is another, or the tokens' are.
    RevokeIntegration(Box<RevokeIntegration>),
    /// A grant to take back. NotFound: there is no such batch. Conflict: the batch is closed.
    InsertRevocation(Box<RevocationRow>),
    /// What came of an attempt at it.
    SettleRevocation(SettleRevocation),
    /// Conflict: it already is closed, has no total yet, or something of it is pending.
    CloseBatch {
        /// Whose.
        tenant: TenantId,
        /// Which.
        batch: BatchId,
        /// The signed list of what came of it.
        receipt: String,
        /// When.
        at: Time,
    },
    /// A step of a rotation, or its schedule. Conflict: the revision is another. Duplicate: there is
    /// one, and no revision was expected.
    PutRotation {
        /// The rotation; the store counts its revision up.
        row: Box<RotationRow>,
        /// The revision that was seen; `None`: there is none yet.
        expected_revision: Option<u64>,
    },
    /// The end of a rotation and its schedule.
    DeleteRotation {
        /// Whose.
        tenant: TenantId,
        /// Of which integration.
        integration: IntegrationId,
    },
}

impl Effect {
    /// The tenant whose rows it touches; `None` for the platform's own tables.
    pub(crate) fn tenant(&self) -> Option<TenantId> {
        match self {
            Effect::InsertInstallation(_) => None,
            Effect::InsertTenant(row) => Some(row.id),
            Effect::InsertTenantKey(row) => Some(row.tenant),
            Effect::InsertMember(row) => Some(row.tenant),
            Effect::InsertKey(row) => Some(row.tenant),
            Effect::InsertIntegration { integration, .. } => Some(integration.tenant),
            Effect::ReplaceCredential { credential, .. } => Some(credential.tenant),
            Effect::PutIdempotency { row, .. } => Some(row.tenant),
            Effect::PutTokenSet(row) => Some(row.tenant),
            Effect::TakeRenewal(lease) => Some(lease.tenant),
            Effect::StoreTokens(tokens) => Some(tokens.tenant),
            Effect::ReleaseRenewal(lease) => Some(lease.tenant),
            Effect::MarkReauthorize(mark) => Some(mark.tenant),
            Effect::InsertAuthorization(row) => Some(row.tenant),
            Effect::InsertConnectSession(row) => Some(row.tenant),
            Effect::InsertBatch(row) => Some(row.tenant),
            Effect::InsertRevocation(row) => Some(row.tenant),
            Effect::SettleRevocation(settled) => Some(settled.tenant),
            Effect::RevokeIntegration(revoke) => Some(revoke.credential.tenant),
            Effect::PutRotation { row, .. } => Some(row.tenant),
            Effect::DeleteTenant { tenant }
            | Effect::TakeAuthorization { tenant, .. }
            | Effect::ClaimConnectSession { tenant, .. }
            | Effect::CloseConnectSession { tenant, .. }
            | Effect::SelectedBatch { tenant, .. }
            | Effect::CloseBatch { tenant, .. }
            | Effect::DeleteRotation { tenant, .. }
            | Effect::UpdateMember { tenant, .. }
            | Effect::DeleteMember { tenant, .. }
            | Effect::RevokeKey { tenant, .. }
            | Effect::UpdateIntegration { tenant, .. }
            | Effect::SetVerified { tenant, .. }
            | Effect::DeleteIntegration { tenant, .. } => Some(*tenant),
        }
    }

    /// The statements it is made of, in order.
    pub(crate) fn steps(&self) -> Vec<Step> {
        match self {
            Effect::InsertInstallation(row) => installation::insert(row),
            Effect::InsertTenant(row) => tenant::insert(row),
            Effect::DeleteTenant { tenant } => tenant::delete(*tenant),
            Effect::InsertTenantKey(row) => tenant::insert_key(row),
            Effect::InsertMember(row) => member::insert(row),
            Effect::UpdateMember {
                tenant,
                member,
                role,
                at,
            } => member::update(*tenant, *member, *role, *at),
            Effect::DeleteMember { tenant, member } => member::delete(*tenant, *member),
            Effect::InsertKey(row) => key::insert(row),
            Effect::RevokeKey { tenant, key, at } => key::revoke(*tenant, *key, *at),
            Effect::InsertIntegration {
                integration,
                credential,
            } => integration::insert(integration, credential),
            Effect::ReplaceCredential {
                credential,
                hint,
                expected_revision,
            } => integration::replace_credential(credential, hint.as_deref(), *expected_revision),
            Effect::UpdateIntegration {
                tenant,
                integration,
                expected_revision,
                change,
                at,
            } => integration::update(*tenant, *integration, *expected_revision, change, *at),
            Effect::SetVerified {
                tenant,
                integration,
                version,
                status,
                error_message,
                at,
            } => integration::set_verified(
                *tenant,
                *integration,
                *version,
                *status,
                error_message.as_deref(),
                *at,
            ),
            Effect::DeleteIntegration {
                tenant,
                integration,
                expected_revision,
            } => integration::delete(*tenant, *integration, *expected_revision),
            Effect::PutIdempotency { row, expire_before } => idempotency::put(row, *expire_before),
            Effect::PutTokenSet(row) => token_set::put(row),
            Effect::TakeRenewal(lease) => token_set::take(lease),
            Effect::StoreTokens(tokens) => token_set::store(tokens),
            Effect::ReleaseRenewal(lease) => token_set::release(lease),
            Effect::MarkReauthorize(mark) => token_set::give_up(mark),
            Effect::InsertAuthorization(row) => authorization::insert(row),
            Effect::TakeAuthorization {
                tenant,
                authorization,
            } => authorization::take(*tenant, *authorization),
            Effect::InsertConnectSession(row) => connect_session::insert(row),
            Effect::ClaimConnectSession {
                tenant,
                session,
                browser_hash,
            } => connect_session::claim(*tenant, *session, *browser_hash),
            Effect::CloseConnectSession {
                tenant,
                session,
                at,
            } => connect_session::close(*tenant, *session, *at),
            Effect::InsertBatch(row) => revocation::insert_batch(row),
            Effect::SelectedBatch { tenant, batch } => revocation::selected(*tenant, *batch),
            Effect::RevokeIntegration(revoke) => integration::revoke(revoke),
            Effect::InsertRevocation(row) => revocation::insert(row),
            Effect::SettleRevocation(settled) => revocation::settle(settled),
            Effect::CloseBatch {
                tenant,
                batch,
                receipt,
                at,
            } => revocation::close_batch(*tenant, *batch, receipt, *at),
            Effect::PutRotation {
                row,
                expected_revision,
            } => rotation::put(row, *expected_revision),
            Effect::DeleteRotation {
                tenant,
                integration,
            } => rotation::delete(*tenant, *integration),
        }
    }
}

/// One statement of an effect, and what it has to touch.
pub(crate) struct Step {
    pub(crate) query: Query,
    what: &'static str,
    must: Must,
}

enum Must {
    /// Any number of rows.
    Any,
    /// One row: else it does not exist.
    Exist,
    /// One row: else it was changed in between.
    BeUnchanged,
}

impl Step {
    pub(crate) fn any(what: &'static str, query: Query) -> Step {
        let must = Must::Any;
        Step { query, what, must }
    }

    pub(crate) fn exists(what: &'static str, query: Query) -> Step {
        let must = Must::Exist;
        Step { query, what, must }
    }

    /// An insert touches one row or violates a constraint, which the database tells.
    pub(crate) fn insert(what: &'static str, query: Query) -> Step {
        Step::unchanged(what, query)
    }

    pub(crate) fn unchanged(what: &'static str, query: Query) -> Step {
        let must = Must::BeUnchanged;
        Step { query, what, must }
    }

    /// Whether it touched what it had to.
    pub(crate) fn judge(&self, touched: u64) -> Result<(), Miss> {
        match self.must {
            Must::Any => Ok(()),
            _ if touched == 1 => Ok(()),
            Must::Exist => Err(self.miss(Why::Missing)),
            Must::BeUnchanged => Err(self.miss(Why::Conflict)),
        }
    }

    pub(crate) fn miss(&self, why: Why) -> Miss {
        let what = self.what;
        Miss { why, what }
    }
}

/// Why a change was not made; the database works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Miss {
    pub(crate) why: Why,
    what: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Conflict,
    Duplicate,
    Invalid,
    Missing,
}

impl Why {
    /// As the entry's reason says it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Why::Conflict => "conflict",
            Why::Duplicate => "duplicate",
            Why::Invalid => "invalid",
            Why::Missing => "missing",
        }
    }
}

impl From<Miss> for Error {
    fn from(miss: Miss) -> Error {
        let what = miss.what;
        match miss.why {
            Why::Conflict => Error::Conflict { what },
            Why::Duplicate => Error::Duplicate { what },
            Why::Invalid => Error::Invalid { what },
            Why::Missing => Error::NotFound { what },
        }
    }
}
