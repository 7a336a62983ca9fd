//! Tokens that were granted, into the store: the integration, its credential version and its token
//! set in one write.

use keystead_core::action::Action;
use keystead_core::ids::{IntegrationId, TenantId};
use keystead_core::provider::Fields;
use keystead_core::provider::oauth::{API_HOST, Tokens};
use keystead_store::{
    AuthorizationRow, Effect, IntegrationChange, IntegrationRow, Status as RowStatus,
};
use serde_json::Value;

use super::app::{Opened, Target};
use super::model::Completed;
use crate::broker::Broker;
use crate::clock;
use crate::context::Context;
use crate::error::Error;
use crate::integrations::{Given, Integration, Loaded};

/// How often a write is made again that somebody else's came before.
const ATTEMPTS: usize = 5;

impl Broker {
    /// Makes the integration, or its next version, with these tokens.
    pub(super) async fn connected(
        &self,
        ctx: &Context,
        row: &AuthorizationRow,
        target: &Target,
        opened: Option<Opened>,
        tokens: Tokens,
    ) -> Result<Completed, Error> {
        let (created, id) = match (&target.loaded, opened) {
            (Some(loaded), Some(opened)) => {
                self.authorise_anew(ctx, target, loaded, opened, &tokens)
                    .await?;
                (false, loaded.row.id)
            }
            _ => (true, self.connect_new(ctx, row, target, &tokens).await?),
        };
        let found = self.store().find_integration(target.on.tenant, id).await?;
        let found = found.ok_or(Error::NotFound {
            what: "integration",
        })?;
        if !found.disabled {
            self.verify_later(found.tenant, found.id);
        }
        Ok(Completed {
            integration: Integration::from(&found),
            created,
            page: None,
        })
    }

    async fn connect_new(
        &self,
        ctx: &Context,
        begun: &AuthorizationRow,
        target: &Target,
        tokens: &Tokens,
    ) -> Result<IntegrationId, Error> {
        let tenant = target.on.tenant;
        let at = self.clock().now();
        let id = IntegrationId::from_uuid(clock::new_uuid(at)?);
        let given = Given {
            fields: Fields::from_message(b"{}").ok_or_else(|| Error::internal("no parts"))?,
            as_text: false,
            hint: None,
        };
        let caller = ctx.caller.as_deref().map(|caller| caller.name());
        for attempt in 0..ATTEMPTS {
            let row = IntegrationRow {
                tenant,
                id,
                name: self.free_name(begun, target, attempt).await?,
                provider: target.provider.id.clone(),
                status: RowStatus::Verifying,
                config: with_host(&target.settings, tokens.fields.get("host")).to_string(),
                hint: None,
                credential_version: 1,
                disabled: false,
                created_by: caller.clone().unwrap_or_default(),
                created_at: at,
                updated_at: at,
                last_used_at: None,
                last_verified_at: None,
                error_message: None,
                revision: 1,
            };
            let effects = vec![
                Effect::InsertIntegration {
                    integration: Box::new(row),
                    credential: self.seal_credential(tenant, id, 1, &given, at).await?,
                },
                self.put_tokens_effect(tenant, id, 1, 1, 1, tokens).await?,
            ];
            let decided = self.decide(ctx, Action::Put, &target.on).await?;
            let decided = decided.version(1).because(id.to_string());
            match decided.carry_out(effects).await {
                Ok(()) => return Ok(id),
                // The name was taken in between.
                Err(Error::Conflict {
                    code: "duplicate", ..
                }) => {}
                Err(fault) => return Err(fault),
            }
        }
        Err(Error::duplicate_name())
    }

    /// The name that was asked for, else the provider's; with a number behind it where that is
    /// taken, for the account's owner has consented and would have to do it again.
    async fn free_name(
        &self,
        begun: &AuthorizationRow,
        target: &Target,
        attempt: usize,
    ) -> Result<String, Error> {
        let wanted = begun.name.as_ref().unwrap_or(&target.provider.name);
        // Room for the number.
        let short = &wanted[..wanted.floor_char_boundary(190)];
        for number in attempt + 1..attempt + 100 {
            let name = match number {
                1 => wanted.clone(),
                _ => format!("{short} {number}"),
            };
            let taken = self
                .store()
                .find_integration_by_name(target.on.tenant, &name);
            if taken.await?.is_none() {
                return Ok(name);
            }
        }
        Ok(format!("{short} {}", begun.id))
    }

    /// Puts tokens in the place of those that are there, or that were: a version of the credential
    /// has numbers of its own for its tokens, as what was taken back leaves no row to count on from.
    pub(crate) async fn next_tokens_effect(
        &self,
        tenant: TenantId,
        id: IntegrationId,
        version: u64,
        tokens: &Tokens,
    ) -> Result<Effect, Error> {
        let before = self.store().find_token_set(tenant, id).await?;
        let least = least_of(version);
        let (token_version, fence) = before.as_ref().map_or((least, least), |row| {
            (least.max(row.token_version + 1), least.max(row.fence + 1))
        });
        self.put_tokens_effect(tenant, id, version, token_version, fence, tokens)
            .await
    }

    /// The next version of the credential, which holds what it held, and the tokens.
    async fn authorise_anew(
        &self,
        ctx: &Context,
        target: &Target,
        loaded: &Loaded,
        (fields, as_text): Opened,
        tokens: &Tokens,
    ) -> Result<(), Error> {
        let (tenant, id) = (loaded.row.tenant, loaded.row.id);
        let version = loaded.row.credential_version + 1;
        let hint = loaded.row.hint.clone();
        let given = Given {
            fields,
            as_text,
            hint,
        };
        for _ in 0..ATTEMPTS {
            let at = self.clock().now();
            let mut effects = vec![
                Effect::ReplaceCredential {
                    credential: self
                        .seal_credential(tenant, id, version, &given, at)
                        .await?,
                    hint: given.hint.clone(),
                    expected_revision: None,
                },
                self.next_tokens_effect(tenant, id, version, tokens).await?,
            ];
            let settings = serde_json::from_str(&loaded.row.config).unwrap_or_default();
            let hosted = with_host(&settings, tokens.fields.get("host"));
            if hosted != settings {
                effects.push(Effect::UpdateIntegration {
                    tenant,
                    integration: id,
                    expected_revision: None,
                    change: IntegrationChange {
                        config: Some(hosted.to_string()),
                        ..IntegrationChange::default()
                    },
                    at,
                });
            }
            let decided = self.decide(ctx, Action::Put, &target.on).await?;
            let decided = decided.version(version).because("authorised anew");
            match decided.carry_out(effects).await {
                // A renewal of the old tokens was stored in between, unless the credential itself
                // is another by now.
                Err(Error::Conflict { .. }) => {
                    let row = self.store().find_integration(tenant, id).await?;
                    if row.is_none_or(|row| row.credential_version + 1 != version) {
                        break;
                    }
                }
                done => return done,
            }
        }
        Err(Error::conflict(
            "conflict",
            "the integration was changed while it was authorised: begin again",
        ))
    }
}

/// The lowest version, and fence, of tokens that are granted under a version of the credential: above
/// whatever those of the version before can have come to.
fn least_of(credential_version: u64) -> u64 {
    (credential_version.saturating_sub(1) << 32) + 1
}

/// The settings, with the API host that the provider named.
pub(crate) fn with_host(settings: &Value, host: Option<&str>) -> Value {
    let mut settings = settings.clone();
    if let (Some(host), Value::Object(all)) = (host, &mut settings) {
        all.insert(API_HOST.to_owned(), host.into());
    }
    settings
}
