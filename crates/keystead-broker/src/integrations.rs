//! Integrations: made, listed, changed, destroyed.
//!
//! What always holds: a credential is sealed before it leaves this process; each change names what
//! it saw (version, revision) and fails when that moved; a change that was acknowledged is on
//! record in the same transaction.

mod found;
mod given;
mod model;

use std::sync::Arc;

use keystead_core::action::{Action, TargetKind};
use keystead_core::caller::Caller;
use keystead_core::ids::{IntegrationId, TenantId};
use keystead_core::provider::{MAX_CREDENTIAL, Provider};
use keystead_store::{
    Effect, IdempotencyRow, IntegrationChange, IntegrationFilter as RowFilter, IntegrationRow,
};
use serde_json::Value;

use crate::broker::Broker;
use crate::clock;
use crate::context::Context;
use crate::error::{Error, FieldFault};
use crate::page::Page;
use crate::permit::{Decided, On};

pub(crate) use found::{Home, Loaded, Loading};
pub(crate) use given::{Given, check_name, read_config, read_message, write_message};
use given::{read_credential, read_next_config, too_large};
use model::etag;
pub use model::{Changes, Created, Integration, IntegrationFilter, NewIntegration, Status};

const IDEMPOTENCY_KEY_MOST: usize = 200;
/// For so long an idempotency key stands for its request.
const IDEMPOTENCY_SECONDS: i64 = 24 * 3600;

impl Broker {
    /// Makes an integration; its credential is tried in the background.
    ///
    /// # Errors
    /// `Invalid` with all wrong fields; `TooLarge`; `Conflict` for a taken name, or an idempotency
    /// key that stood for something else.
    pub async fn create_integration(
        &self,
        ctx: &Context,
        new: NewIntegration,
        idempotency_key: Option<String>,
    ) -> Result<Created, Error> {
        let tenant = self
            .tenant_of(ctx, Action::Put, TargetKind::Integration)
            .await?;
        let mut on = On::kind(TargetKind::Integration, tenant).named(&new.name);
        let provider = self.catalogue().get(&new.type_).cloned();
        on.provider = Some(
            provider
                .as_ref()
                .map_or_else(|| new.type_.clone(), |provider| provider.id.clone()),
        );
        let decided = self.decide(ctx, Action::Put, &on).await?;
        let Some(provider) = provider else {
            return Err(decided.fail(self.unknown_type("type", &new.type_)).await);
        };
        if let Err(fault) = too_large(&new.credentials, MAX_CREDENTIAL) {
            return Err(decided.fail(fault).await);
        }
        let mut faults = Vec::new();
        let mut warnings = Vec::new();
        check_name(&new.name, &mut faults);
        if idempotency_key
            .as_ref()
            .is_some_and(|key| key.is_empty() || key.len() > IDEMPOTENCY_KEY_MOST)
        {
            faults.push(FieldFault::new(
                "Idempotency-Key",
                format!("must be 1 to {IDEMPOTENCY_KEY_MOST} bytes"),
            ));
        }
        let settings = Value::Object(new.config);
        read_config(&provider, &settings, &mut warnings, &mut faults);
        let at = self.clock().now();
        let now = self.store_time();
        let brought = read_credential(&provider, new.credentials, now, &mut warnings, &mut faults);
        let (Some(brought), true) = (brought, faults.is_empty()) else {
            return Err(decided.fail(Error::Invalid(faults)).await);
        };
        let caller = ctx.caller.as_deref().map(Caller::name).unwrap_or_default();
        let request_hash = self.request_hash(&new.name, &provider.id, &settings, &brought);
        let expire_before = at.plus_seconds(-IDEMPOTENCY_SECONDS);
        if let Some(key) = &idempotency_key
            && let Some(kept) = self.store().find_idempotency(tenant, &caller, key).await?
            && kept.created_at >= expire_before
        {
            return self
                .replay(decided, tenant, &kept, request_hash, warnings)
                .await;
        }
        let id = IntegrationId::from_uuid(clock::new_uuid(at)?);
        let sealed = self.seal_credential(tenant, id, 1, &brought.given, at);
        let credential = match sealed.await {
            Ok(credential) => credential,
            Err(fault) => return Err(decided.fail(fault).await),
        };
        let row = IntegrationRow {
            tenant,
            id,
            name: new.name,
            provider: provider.id.clone(),
            status: brought.status(),
            config: settings.to_string(),
            hint: brought.given.hint.clone(),
            credential_version: 1,
            disabled: false,
            created_by: caller.clone(),
            created_at: at,
            updated_at: at,
            last_used_at: None,
            last_verified_at: None,
            error_message: None,
            revision: 1,
        };
        let mut effects = vec![Effect::InsertIntegration {
            integration: Box::new(row.clone()),
            credential,
        }];
        if let Some(tokens) = &brought.tokens {
            let put = self.put_tokens_effect(tenant, id, 1, 1, 1, tokens);
            effects.push(put.await?);
        }
        if let Some(key) = &idempotency_key {
            effects.push(Effect::PutIdempotency {
                row: IdempotencyRow {
                    tenant,
                    caller: caller.clone(),
                    key: key.clone(),
                    request_hash,
                    response: id.to_string().into_bytes(),
                    status: 201,
                    created_at: at,
                },
                expire_before,
            });
        }
        let done = decided
            .version(1)
            .because(id.to_string())
            .carry_out(effects)
            .await;
        if let Err(Error::Conflict { .. }) = &done
            && let Some(key) = &idempotency_key
            && let Some(kept) = self.store().find_idempotency(tenant, &caller, key).await?
        {
            // The same request, sent twice at once: the other one was first.
            let decided = self.decide(ctx, Action::Put, &on).await?;
            return self
                .replay(decided, tenant, &kept, request_hash, warnings)
                .await;
        }
        done.map_err(name_clash)?;
        if !brought.awaits_consent {
            self.verify_later(tenant, id);
        }
        Ok(Created {
            integration: Integration::from(&row),
            warnings,
            replayed: false,
        })
    }

    async fn replay(
        &self,
        decided: Decided,
        tenant: TenantId,
        kept: &IdempotencyRow,
        request_hash: [u8; 32],
        warnings: Vec<String>,
    ) -> Result<Created, Error> {
        if kept.request_hash != request_hash {
            let fault = Error::conflict(
                "idempotency_key_reused",
                "this Idempotency-Key stood for another request: use a new one",
            );
            return Err(decided.fail(fault).await);
        }
        let id = std::str::from_utf8(&kept.response)
            .ok()
            .and_then(|id| id.parse().ok());
        let id = id.ok_or_else(|| Error::Corrupt {
            record: "an idempotency key".to_owned(),
        })?;
        let Some(row) = self.store().find_integration(tenant, id).await? else {
            let fault = Error::conflict(
                "idempotency_gone",
                "what this Idempotency-Key made was removed since: use a new one",
            );
            return Err(decided.fail(fault).await);
        };
        decided.because("replayed").record().await?;
        Ok(Created {
            integration: Integration::from(&row),
            warnings,
            replayed: true,
        })
    }

    /// The tenant's integrations.
    ///
    /// # Errors
    /// `Invalid` for a place that is none.
    pub async fn list_integrations(
        &self,
        ctx: &Context,
        filter: IntegrationFilter,
    ) -> Result<Page<Integration>, Error> {
        let tenant = self
            .tenant_of(ctx, Action::List, TargetKind::Integration)
            .await?;
        let mut on = On::kind(TargetKind::Integration, tenant);
        on.provider = filter.type_.as_ref().map(|id| {
            self.catalogue()
                .get(id)
                .map_or(id.clone(), |provider| provider.id.clone())
        });
        let decided = self.decide(ctx, Action::List, &on).await?;
        let after = match Page::<IntegrationRow>::after(filter.after.as_deref()) {
            Ok(after) => after,
            Err(fault) => return Err(decided.fail(fault).await),
        };
        let limit = Page::<IntegrationRow>::limit(filter.limit);
        let (status, disabled) = match filter.status {
            None => (None, None),
            Some(Status::Disabled) => (None, Some(true)),
            Some(Status::Verifying) => (Some(keystead_store::Status::Verifying), Some(false)),
            Some(Status::Connected) => (Some(keystead_store::Status::Connected), Some(false)),
            Some(Status::Error) => (Some(keystead_store::Status::Error), Some(false)),
            Some(Status::Reauthorize) => (Some(keystead_store::Status::Reauthorize), Some(false)),
        };
        let rows = RowFilter {
            provider: on.provider.clone(),
            status,
            disabled,
            after,
            limit: limit + 1,
        };
        let (recorded, rows) = tokio::join!(
            decided.record(),
            self.store().list_integrations(tenant, &rows)
        );
        recorded?;
        Ok(Page::of(rows?, limit, |row| row.id.to_string()).map(|row| self.seen(&row)))
    }

    /// One integration.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn integration(
        &self,
        ctx: &Context,
        id: IntegrationId,
    ) -> Result<Integration, Error> {
        let loaded = self.load(ctx, Action::Info, id).await?;
        self.decide(ctx, Action::Info, &loaded.on())
            .await?
            .record()
            .await?;
        Ok(self.seen(&loaded.row))
    }

    /// Changes an integration.
    ///
    /// # Errors
    /// `Precondition` where `if_match` is not its etag; `Invalid`; `Conflict` for a taken name or a
    /// change that came in between.
    pub async fn update_integration(
        &self,
        ctx: &Context,
        id: IntegrationId,
        changes: Changes,
        if_match: Option<String>,
    ) -> Result<Integration, Error> {
        let row = self.find(ctx, Action::Put, id).await?;
        let tenant = row.tenant;
        let on = On::integration(tenant, id, &row.provider);
        let decided = self.decide(ctx, Action::Put, &on).await?;
        if !matches(&row, if_match.as_deref()) {
            return Err(decided.fail(Error::Precondition).await);
        }
        if let Some(Err(fault)) = changes
            .credentials
            .as_ref()
            .map(|given| too_large(given, MAX_CREDENTIAL))
        {
            return Err(decided.fail(fault).await);
        }
        let provider = match self.provider_of(&row) {
            Ok(provider) => provider,
            Err(fault) => return Err(decided.fail(fault).await),
        };
        let (mut faults, mut warnings) = (Vec::new(), Vec::new());
        if let Some(name) = &changes.name {
            check_name(name, &mut faults);
        }
        let config = changes.config.map(|settings| {
            read_next_config(&provider, &row, settings, &mut warnings, &mut faults)
        });
        let (at, now) = (self.clock().now(), self.store_time());
        let brought = changes
            .credentials
            .and_then(|value| read_credential(&provider, value, now, &mut warnings, &mut faults));
        if let (Some(settings), true) = (&config, faults.is_empty()) {
            let moved = self.check_moved(&row, &provider, settings, brought.as_ref());
            match moved.await {
                Ok(moved) => faults.extend(moved),
                Err(fault) => return Err(decided.fail(fault).await),
            }
        }
        if !faults.is_empty() {
            return Err(decided.fail(Error::Invalid(faults)).await);
        }
        if changes.disabled == Some(false) && brought.is_none() && self.is_revoked(&row).await? {
            let fault = Error::conflict(
                "revoked",
                "its grant was taken back: give it a new credential, or authorise it anew, then enable it",
            );
            return Err(decided.fail(fault).await);
        }
        let expected = expected_revision(&row, if_match.as_deref());
        // What the settings were compared with is what they take the place of.
        let mut expected_revision = expected.or(config.as_ref().map(|_| row.revision));
        let mut effects = Vec::new();
        let mut decided = decided;
        // Nothing that is set here takes the place of a consent.
        let mut try_again = row.status != keystead_store::Status::Reauthorize
            && (config.is_some() || (row.disabled && changes.disabled == Some(false)));
        if let Some(brought) = &brought {
            let given = &brought.given;
            let version = row.credential_version + 1;
            let credential = match self.seal_credential(tenant, id, version, given, at).await {
                Ok(credential) => credential,
                Err(fault) => return Err(decided.fail(fault).await),
            };
            effects.push(Effect::ReplaceCredential {
                credential,
                hint: given.hint.clone(),
                expected_revision: expected_revision.take(),
            });
            if let Some(tokens) = &brought.tokens {
                effects.push(self.next_tokens_effect(tenant, id, version, tokens).await?);
            }
            decided = decided.version(version).because("credential replaced");
            try_again = !brought.awaits_consent;
        } else if let Some(disabled) = changes.disabled {
            decided = decided.because(if disabled { "disabled" } else { "enabled" });
        }
        let change = IntegrationChange {
            name: changes.name,
            config: config.map(|settings| settings.to_string()),
            disabled: changes.disabled,
            status: match &brought {
                Some(brought) => Some(brought.status()),
                None => try_again.then_some(keystead_store::Status::Verifying),
            },
        };
        if change != IntegrationChange::default() {
            effects.push(Effect::UpdateIntegration {
                tenant,
                integration: id,
                expected_revision,
                change,
                at,
            });
        }
        if effects.is_empty() {
            decided.because("nothing to change").record().await?;
        } else {
            let done = decided.carry_out(effects).await;
            done.map_err(|fault| name_clash(overtaken(fault, expected)))?;
        }
        let row = self
            .store()
            .find_integration(tenant, id)
            .await?
            .ok_or(Error::NotFound {
                what: "integration",
            })?;
        if try_again && !row.disabled {
            self.verify_later(tenant, id);
        }
        Ok(Integration::from(&row))
    }

    /// Destroys an integration and every version of its credential.
    ///
    /// # Errors
    /// `NotFound`, `Precondition`.
    pub async fn delete_integration(
        &self,
        ctx: &Context,
        id: IntegrationId,
        if_match: Option<String>,
    ) -> Result<(), Error> {
        let row = self.find(ctx, Action::Delete, id).await?;
        let on = On::integration(row.tenant, id, &row.provider);
        let decided = self.decide(ctx, Action::Delete, &on).await?;
        if !matches(&row, if_match.as_deref()) {
            return Err(decided.fail(Error::Precondition).await);
        }
        let expected_revision = expected_revision(&row, if_match.as_deref());
        let leftover = self.leftover_of(ctx, &row).await;
        decided
            .version(row.credential_version)
            .carry_out(vec![Effect::DeleteIntegration {
                tenant: row.tenant,
                integration: id,
                expected_revision,
            }])
            .await
            .map_err(|fault| overtaken(fault, expected_revision))?;
        if let Some(leftover) = leftover {
            self.discard_later(leftover);
        }
        Ok(())
    }

    /// The catalogue.
    ///
    /// # Errors
    /// `Unauthenticated`.
    pub async fn list_providers(&self, ctx: &Context) -> Result<Vec<Arc<Provider>>, Error> {
        let on = On::kind(
            TargetKind::Provider,
            ctx.tenant.unwrap_or(TenantId::PLATFORM),
        );
        self.decide(ctx, Action::List, &on).await?.record().await?;
        Ok(self.catalogue().list().cloned().collect())
    }

    /// One provider of the catalogue.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn find_provider(&self, ctx: &Context, id: &str) -> Result<Arc<Provider>, Error> {
        let on = On::kind(
            TargetKind::Provider,
            ctx.tenant.unwrap_or(TenantId::PLATFORM),
        )
        .named(id);
        let decided = self.decide(ctx, Action::Info, &on).await?;
        match self.catalogue().get(id) {
            Some(provider) => {
                let provider = provider.clone();
                decided.record().await?;
                Ok(provider)
            }
            None => Err(decided.fail(Error::NotFound { what: "provider" }).await),
        }
    }

    /// What a caller sees; a trial that was lost with a process is taken up again when somebody
    /// looks: at once after a restart, later where it was another node's. Once: looking often does
    /// not call the provider often.
    fn seen(&self, row: &IntegrationRow) -> Integration {
        let lost = self.started().max(self.clock().now().plus_seconds(-120));
        if row.status == keystead_store::Status::Verifying
            && !row.disabled
            && row.updated_at < lost
            && self.take_up(row.id, row.credential_version)
        {
            self.verify_later(row.tenant, row.id);
        }
        Integration::from(row)
    }

    pub(crate) fn unknown_type(&self, path: &str, id: &str) -> Error {
        let near = self.catalogue().near(id);
        let message = if near.is_empty() {
            "is no provider here: GET /api/providers lists them".to_owned()
        } else {
            format!("is no provider here; near it: {}", near.join(", "))
        };
        Error::field(path, message)
    }
}

pub(crate) fn matches(row: &IntegrationRow, if_match: Option<&str>) -> bool {
    match if_match {
        None | Some("*") => true,
        Some(list) => list.split(',').any(|one| one.trim() == etag(row)),
    }
}

/// The revision that the caller wants it to have; any, where none or `*` is named.
pub(crate) fn expected_revision(row: &IntegrationRow, if_match: Option<&str>) -> Option<u64> {
    if_match.filter(|named| *named != "*").map(|_| row.revision)
}

/// For whoever named a revision, a change that came in between is that revision gone.
fn overtaken(fault: Error, expected: Option<u64>) -> Error {
    match fault {
        Error::Conflict {
            code: "conflict", ..
        } if expected.is_some() => Error::Precondition,
        other => other,
    }
}

fn name_clash(fault: Error) -> Error {
    match fault {
        Error::Conflict {
            code: "duplicate", ..
        } => Error::duplicate_name(),
        other => other,
    }
}
