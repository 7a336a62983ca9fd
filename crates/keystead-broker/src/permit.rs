//! Decisions and their records: nothing happens that was not first allowed and written down.
//!
//! ```text
//! decide(caller, action, target) ─ denied → entry, error
//!        └ Decided ─ record()     → entry durable, nothing changed
//!                  ─ carry_out()  → entry and row changes in one transaction
//!                  ─ permit::<A>() → entry durable, and the right to open one credential version
//! ```
//!
//! What always holds: a `Permit` has one constructor, and it is behind the durable entry; `open`
//! demands one. So "opened without an entry" does not compile.

use std::borrow::Cow;
use std::marker::PhantomData;

use keystead_core::action::{Action, Outcome, TargetKind};
use keystead_core::entry::Entry;
use keystead_core::ids::{IntegrationId, RevocationId, TenantId};
use keystead_core::policy::{self, Denial, Target};
use keystead_core::provider::Fields;
use keystead_core::provider::oauth::ISSUED_TO;
use keystead_core::provider::rotation::State;
use keystead_core::seal::{Kind, Place};
use keystead_core::time::Time;
use keystead_store::{CredentialRow, Effect, RevocationRow, RotationRow, TokenSetRow, Write};

use crate::broker::Broker;
use crate::context::Context;
use crate::error::Error;
use crate::integrations::{Loaded, read_message};
use crate::keyring::TenantKeys;

/// An action that opens a credential.
pub(crate) trait Opening {
    const ACTION: Action;
}

/// Calling the provider.
pub(crate) enum Use {}
/// Handing the credential out.
pub(crate) enum Reveal {}
/// Trying it at the provider.
pub(crate) enum Test {}
/// Looking at what it is good for.
pub(crate) enum Look {}
/// Renewing the tokens that its owner granted.
pub(crate) enum Renew {}
/// Connecting its account, for which its own app is needed.
pub(crate) enum Consent {}
/// Taking its grant back at the provider.
pub(crate) enum Revoke {}
/// Putting the next one in its place.
pub(crate) enum Rotate {}

impl Opening for Use {
    const ACTION: Action = Action::Use;
}
impl Opening for Reveal {
    const ACTION: Action = Action::Reveal;
}
impl Opening for Consent {
    const ACTION: Action = Action::Put;
}
impl Opening for Test {
    const ACTION: Action = Action::Test;
}
impl Opening for Look {
    const ACTION: Action = Action::Info;
}
impl Opening for Renew {
    const ACTION: Action = Action::Rotate;
}
impl Opening for Revoke {
    const ACTION: Action = Action::Delete;
}
impl Opening for Rotate {
    const ACTION: Action = Action::Rotate;
}

/// Proof that an action on one credential version was allowed and is on record.
#[must_use]
pub(crate) struct Permit<A> {
    tenant: TenantId,
    integration: IntegrationId,
    version: u64,
    action: PhantomData<A>,
}

impl<A: Opening> Permit<A> {
    fn open(&self, keys: &TenantKeys, row: &CredentialRow) -> Result<(Fields, bool), Error> {
        let corrupt = || Error::Corrupt {
            record: self.integration.to_string(),
        };
        if (row.tenant, row.integration, row.version)
            != (self.tenant, self.integration, self.version)
        {
            return Err(corrupt());
        }
        let place = credential_place(self.tenant, self.integration, self.version);
        let plaintext = keys.open(&place, &row.sealed).ok_or_else(corrupt)?;
        read_message(plaintext.expose()).ok_or_else(corrupt)
    }

    /// The tokens that were granted under the credential version that the permit is for.
    fn open_tokens(&self, keys: &TenantKeys, row: &TokenSetRow) -> Result<Fields, Error> {
        let corrupt = || Error::Corrupt {
            record: self.integration.to_string(),
        };
        if (row.tenant, row.integration, row.credential_version)
            != (self.tenant, self.integration, self.version)
        {
            return Err(corrupt());
        }
        let place = tokens_place(self.tenant, self.integration, row.token_version);
        let plaintext = keys.open(&place, &row.sealed).ok_or_else(corrupt)?;
        Fields::from_message(plaintext.expose()).ok_or_else(corrupt)
    }
}

impl Permit<Rotate> {
    /// The credential version that the permit is for.
    pub(crate) fn open_credential(
        &self,
        keys: &TenantKeys,
        row: &CredentialRow,
    ) -> Result<(Fields, bool), Error> {
        self.open(keys, row)
    }

    /// What a rotation keeps between its steps.
    pub(crate) fn open_rotation(
        &self,
        keys: &TenantKeys,
        row: &RotationRow,
    ) -> Result<State, Error> {
        let corrupt = || Error::Corrupt {
            record: self.integration.to_string(),
        };
        if (row.tenant, row.integration) != (self.tenant, self.integration) {
            return Err(corrupt());
        }
        let (Some(sealed), Some(started_at)) = (&row.sealed, row.started_at) else {
            return Ok(State::default());
        };
        let place = rotation_place(row.tenant, row.integration, started_at);
        let plaintext = keys.open(&place, sealed).ok_or_else(corrupt)?;
        State::from_message(plaintext.expose()).ok_or_else(corrupt)
    }
}

/// Where what a rotation keeps stands in the seal: another time of the same integration is another
/// place.
pub(crate) fn rotation_place(
    tenant: TenantId,
    integration: IntegrationId,
    started_at: Time,
) -> Place {
    Place {
        tenant: *tenant.bytes(),
        kind: Kind::Rotation,
        record: *integration.bytes(),
        field: 0,
        version: started_at.0.unsigned_abs(),
    }
}

/// Where a token set's message stands in the seal.
pub(crate) fn tokens_place(tenant: TenantId, integration: IntegrationId, version: u64) -> Place {
    Place {
        tenant: *tenant.bytes(),
        kind: Kind::TokenSet,
        record: *integration.bytes(),
        field: 0,
        version,
    }
}

impl Permit<Revoke> {
    /// The credential version that the permit is for, and the tokens that were granted to it: all
    /// that its provider may want to see again.
    pub(crate) fn open_grant(
        &self,
        keys: &TenantKeys,
        credential: &CredentialRow,
        tokens: Option<&TokenSetRow>,
    ) -> Result<Fields, Error> {
        let (own, _) = self.open(keys, credential)?;
        match tokens {
            Some(row) => Ok(own.with(self.open_tokens(keys, row)?.without(ISSUED_TO))),
            None => Ok(own),
        }
    }

    /// What a revocation keeps.
    pub(crate) fn open_revocation(
        &self,
        keys: &TenantKeys,
        row: &RevocationRow,
    ) -> Result<Fields, Error> {
        let corrupt = || Error::Corrupt {
            record: row.id.to_string(),
        };
        if (row.tenant, row.integration) != (self.tenant, self.integration) {
            return Err(corrupt());
        }
        let sealed = row.sealed.as_deref().ok_or_else(corrupt)?;
        keys.open(&revocation_place(row.tenant, row.id), sealed)
            .and_then(|opened| Fields::from_message(opened.expose()))
            .ok_or_else(corrupt)
    }
}

/// Where what a revocation keeps stands in the seal.
pub(crate) fn revocation_place(tenant: TenantId, revocation: RevocationId) -> Place {
    Place {
        tenant: *tenant.bytes(),
        kind: Kind::Revocation,
        record: *revocation.bytes(),
        field: 0,
        version: 1,
    }
}

/// Where a credential's message stands in the seal.
pub(crate) fn credential_place(
    tenant: TenantId,
    integration: IntegrationId,
    version: u64,
) -> Place {
    Place {
        tenant: *tenant.bytes(),
        kind: Kind::Credential,
        record: *integration.bytes(),
        field: 0,
        version,
    }
}

/// What an action is on, with the name that entries give it.
#[derive(Clone, Debug)]
pub(crate) struct On {
    pub(crate) kind: TargetKind,
    pub(crate) tenant: TenantId,
    pub(crate) provider: Option<String>,
    pub(crate) integration: Option<IntegrationId>,
    pub(crate) name: Option<String>,
}

impl On {
    /// A kind of thing of a tenant, none in particular.
    pub(crate) fn kind(kind: TargetKind, tenant: TenantId) -> On {
        On {
            kind,
            tenant,
            provider: None,
            integration: None,
            name: None,
        }
    }

    /// The same, by name.
    pub(crate) fn named(mut self, name: impl ToString) -> On {
        self.name = Some(name.to_string());
        self
    }

    /// One integration.
    pub(crate) fn integration(tenant: TenantId, id: IntegrationId, provider: &str) -> On {
        On {
            kind: TargetKind::Integration,
            tenant,
            provider: Some(provider.to_owned()),
            integration: Some(id),
            name: Some(id.to_string()),
        }
    }
}

/// Whether it lies within what the request is for, whatever its caller may besides. The catalogue
/// is the same for all.
fn within(ctx: &Context, action: Action, on: &On) -> bool {
    let Some(scope) = &ctx.within else {
        return true;
    };
    match on.kind {
        TargetKind::Provider => true,
        TargetKind::Integration => {
            scope.covers(action, on.provider.as_deref(), on.integration.as_ref())
        }
        _ => false,
    }
}

/// A decision to allow, not yet on record.
#[must_use]
pub(crate) struct Decided {
    broker: Broker,
    entry: Entry,
    integration: Option<IntegrationId>,
}

impl Broker {
    /// An entry about this request.
    pub(crate) fn entry(&self, ctx: &Context, action: Action, on: &On, outcome: Outcome) -> Entry {
        Entry {
            at: self.clock().now(),
            tenant: on.tenant,
            caller: "system",
            by: None,
            action,
            on: on.kind,
            target: on.name.clone(),
            outcome,
            reason: None,
            version: None,
            tokens: None,
            request: ctx.request,
            address: ctx.address,
        }
        .by(ctx.caller.as_deref())
    }

    /// Decides. A denial is recorded before it is answered.
    pub(crate) async fn decide(
        &self,
        ctx: &Context,
        action: Action,
        on: &On,
    ) -> Result<Decided, Error> {
        if !within(ctx, action, on) {
            // As if it were another tenant's: a session learns of nothing that it is not for.
            self.deny(ctx, action, on, "connect session").await?;
            return Err(Error::NotFound {
                what: on.kind.as_str(),
            });
        }
        let target = Target {
            kind: on.kind,
            tenant: on.tenant,
            provider: on.provider.as_deref(),
            integration: on.integration.as_ref(),
        };
        match policy::decide(ctx.caller.as_deref(), action, &target, self.openings()) {
            Ok(()) => Ok(Decided {
                broker: self.clone(),
                entry: self.entry(ctx, action, on, Outcome::Allowed),
                integration: on.integration,
            }),
            Err(denial) => {
                self.deny(ctx, action, on, denial.as_str()).await?;
                Err(match denial {
                    Denial::Unauthenticated => Error::Unauthenticated,
                    Denial::OtherTenant => Error::NotFound {
                        what: on.kind.as_str(),
                    },
                    Denial::Role => Error::Denied {
                        action,
                        message: "the role in this tenant does not include it: ask an owner or admin of the tenant",
                    },
                    Denial::Scope => Error::Denied {
                        action,
                        message: "the scopes of this service key do not cover it: create a key whose scopes do",
                    },
                    Denial::Kind => Error::Denied {
                        action,
                        message: "this kind of caller never may: see who may do what in the documentation of callers",
                    },
                })
            }
        }
    }

    /// A decision of Keystead itself, for work that a recorded decision of a caller asked for.
    pub(crate) fn decide_for_system(&self, ctx: &Context, action: Action, on: &On) -> Decided {
        let mut entry = self.entry(ctx, action, on, Outcome::Allowed);
        entry.caller = "system";
        Decided {
            broker: self.clone(),
            entry,
            integration: on.integration,
        }
    }

    /// The tenant acted in. That there is none is on record.
    pub(crate) async fn tenant_of(
        &self,
        ctx: &Context,
        action: Action,
        kind: TargetKind,
    ) -> Result<TenantId, Error> {
        match ctx.tenant() {
            Ok(tenant) => Ok(tenant),
            Err(fault) => {
                // Boxed: it is rare, and not to be carried along by every call.
                Box::pin(self.refuse(ctx, action, kind, None, &fault)).await;
                Err(fault)
            }
        }
    }

    /// Records a denial, in the caller's own tenant where the thing is another's.
    pub(crate) async fn deny(
        &self,
        ctx: &Context,
        action: Action,
        on: &On,
        why: impl Into<Cow<'static, str>>,
    ) -> Result<(), Error> {
        let mut entry = self.entry(ctx, action, on, Outcome::Denied);
        entry.reason = Some(why.into());
        entry.tenant = ctx.tenant.unwrap_or(TenantId::PLATFORM);
        self.append(entry, Vec::new()).await
    }

    /// Opens the credential version that the permit is for, and no other. Also says whether it was
    /// given as one text. One that does not open is on record.
    pub(crate) async fn open<A: Opening>(
        &self,
        ctx: &Context,
        permit: Permit<A>,
        keys: &TenantKeys,
        loaded: &Loaded,
    ) -> Result<(Fields, bool), Error> {
        match permit.open(keys, &loaded.credential) {
            Ok(opened) => Ok(opened),
            Err(fault) => {
                tracing::error!(integration = %loaded.row.id, version = permit.version, "a sealed credential does not open: its row was changed or moved");
                self.record_failure(ctx, A::ACTION, &loaded.on(), fault.word())
                    .await;
                Err(fault)
            }
        }
    }

    /// Opens the tokens of the credential version that the permit is for. Those that do not open are
    /// on record.
    pub(crate) async fn open_tokens<A: Opening>(
        &self,
        ctx: &Context,
        permit: &Permit<A>,
        keys: &TenantKeys,
        on: &On,
        row: &TokenSetRow,
    ) -> Result<Fields, Error> {
        match permit.open_tokens(keys, row) {
            Ok(opened) => Ok(opened),
            Err(fault) => {
                tracing::error!(integration = %row.integration, version = row.token_version, "sealed tokens do not open: their row was changed or moved");
                self.record_failure(ctx, A::ACTION, on, fault.word()).await;
                Err(fault)
            }
        }
    }

    /// Records that something allowed could not be carried out.
    pub(crate) async fn record_failure(
        &self,
        ctx: &Context,
        action: Action,
        on: &On,
        why: &'static str,
    ) {
        let mut entry = self.entry(ctx, action, on, Outcome::Failed);
        if ctx.caller.is_none() {
            // Nothing is ever allowed to nobody: this is Keystead's own work.
            entry.caller = "system";
        }
        entry.reason = Some(why.into());
        if let Err(fault) = self.append(entry, Vec::new()).await {
            tracing::error!(?fault, request = %ctx.request, "a failure could not be recorded");
        }
    }

    /// Leaves an entry for a request that a face refused before a use case began: unreadable, too
    /// large, to no route. It fails the request no further.
    pub async fn refuse(
        &self,
        ctx: &Context,
        action: Action,
        on: TargetKind,
        target: Option<&str>,
        error: &Error,
    ) {
        let mut on = On::kind(on, ctx.tenant.unwrap_or(TenantId::PLATFORM));
        on.name = target.map(str::to_owned);
        if let Err(fault) = self.deny(ctx, action, &on, error.word()).await {
            tracing::error!(?fault, request = %ctx.request, "a refusal could not be recorded");
        }
    }

    /// The same for a request of nobody's, which anybody can send: it counts against its address,
    /// and over the limit it is answered as that, without an entry each.
    pub async fn refuse_nobody(&self, ctx: &Context, on: TargetKind, error: Error) -> Error {
        let on = On::kind(on, TenantId::PLATFORM);
        let why = error.word();
        self.unproven(ctx, &on, why.into(), error).await
    }

    pub(crate) async fn append(&self, mut entry: Entry, effects: Vec<Effect>) -> Result<(), Error> {
        entry.tokens = effects.iter().find_map(version_of_tokens);
        self.counters()
            .entries
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let done = self.store().append(Write { entry, effects }).await;
        // A change that does not apply is written too, as failed.
        let unwritten = matches!(done, Err(keystead_store::Error::Unavailable { .. }));
        self.note_written(!unwritten);
        done?;
        Ok(())
    }
}

/// The version of the tokens that are stored by it, or destroyed.
fn version_of_tokens(effect: &Effect) -> Option<u64> {
    match effect {
        Effect::PutTokenSet(row) => Some(row.token_version),
        Effect::StoreTokens(tokens) => Some(tokens.token_version),
        Effect::RevokeIntegration(revoke) => revoke.tokens.map(|(version, _)| version),
        _ => None,
    }
}

impl Decided {
    /// Adds why, for the entry.
    pub(crate) fn because(mut self, why: impl Into<Cow<'static, str>>) -> Self {
        self.entry.reason = Some(why.into());
        self
    }

    /// Adds the credential version that is made.
    pub(crate) fn version(mut self, version: u64) -> Self {
        self.entry.version = Some(version);
        self
    }

    /// Makes the decision durable; nothing is changed.
    pub(crate) async fn record(self) -> Result<(), Error> {
        self.broker.append(self.entry, Vec::new()).await
    }

    /// Makes the decision and what it changes durable, in one transaction. Where a change does not
    /// apply (somebody was first), nothing is changed and the entry says `failed`.
    pub(crate) async fn carry_out(self, effects: Vec<Effect>) -> Result<(), Error> {
        let (broker, tenant) = (self.broker, self.entry.tenant);
        let done = broker.append(self.entry, effects).await;
        broker.epochs().move_tenant(tenant);
        done
    }

    /// Records that a fault in the request ended it, and gives the fault back.
    pub(crate) async fn fail(mut self, fault: Error) -> Error {
        if let Error::Unavailable {
            what: "the store", ..
        } = fault
        {
            // It could not be recorded either; a second wait for it helps nobody.
            return fault;
        }
        self.entry.outcome = Outcome::Failed;
        self.entry.reason = Some(fault.word().into());
        match self.broker.append(self.entry, Vec::new()).await {
            Ok(()) => fault,
            Err(unrecorded) => unrecorded,
        }
    }

    /// Makes the decision durable and with that the right to open this credential version.
    pub(crate) async fn permit<A: Opening>(self, version: u64) -> Result<Permit<A>, Error> {
        self.permit_changing(version, Vec::new()).await
    }

    /// The same together with what it changes, in one transaction.
    pub(crate) async fn permit_changing<A: Opening>(
        mut self,
        version: u64,
        effects: Vec<Effect>,
    ) -> Result<Permit<A>, Error> {
        let integration = self
            .integration
            .ok_or_else(|| Error::internal("a permit on no integration"))?;
        if self.entry.action != A::ACTION || self.entry.outcome != Outcome::Allowed {
            return Err(Error::internal(
                "a permit for another action than was decided",
            ));
        }
        let tenant = self.entry.tenant;
        // Of a deletion, the version in an entry is the one that was destroyed.
        self.entry.version = (A::ACTION != Action::Delete).then_some(version);
        self.broker.append(self.entry, effects).await?;
        Ok(Permit {
            tenant,
            integration,
            version,
            action: PhantomData,
        })
    }
}
