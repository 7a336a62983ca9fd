//! What an account is connected with: which integration or provider, and whose app.

use std::sync::Arc;

use keystead_core::action::{Action, TargetKind};
use keystead_core::provider::oauth::{App, OAuth};
use keystead_core::provider::{Config, Fields, Provider};
use serde_json::Value;

use super::model::Begin;
use crate::broker::Broker;
use crate::context::Context;
use crate::error::Error;
use crate::integrations::{Loaded, check_name, read_config};
use crate::permit::{Consent, Decided, On};

/// What is to be connected.
pub(super) struct Target {
    pub(super) on: On,
    pub(super) provider: Arc<Provider>,
    /// The integration that is authorised anew.
    pub(super) loaded: Option<Arc<Loaded>>,
    /// Settings of a new one, as they will be kept.
    pub(super) settings: Value,
    /// The same, read.
    config: Option<Config>,
}

impl Target {
    pub(super) fn oauth(&self) -> Result<&OAuth, Error> {
        self.provider.oauth().ok_or_else(|| {
            Error::conflict(
                "no_oauth",
                "this provider has no OAuth: connect it with a credential, POST /api/integrations",
            )
        })
    }

    pub(super) fn config(&self) -> Result<&Config, Error> {
        let of_loaded = self.loaded.as_ref().map(|loaded| &loaded.config);
        of_loaded
            .or(self.config.as_ref())
            .ok_or_else(|| Error::internal("an authorisation without settings"))
    }
}

/// What the credential of an integration holds, and whether it was given as one text.
pub(super) type Opened = (Fields, bool);

impl Broker {
    /// Finds what is to be connected, and decides whether the caller may. A refusal is on record.
    pub(super) async fn oauth_target(
        &self,
        ctx: &Context,
        begin: &Begin,
    ) -> Result<(Decided, Target), Error> {
        if let Some(id) = begin.integration {
            let loaded = self.load(ctx, Action::Put, id).await?;
            let decided = self.decide(ctx, Action::Put, &loaded.on()).await?;
            let known = self.catalogue().get(&begin.type_);
            let same = known.is_some_and(|provider| provider.id == loaded.provider.id);
            let wrong = if !same {
                Some((
                    "integration",
                    "is of another type: name that one in the path",
                ))
            } else if begin.name.is_some() {
                Some((
                    "name",
                    "stays as it is where an integration is named: change it by PUT",
                ))
            } else if !begin.config.is_empty() {
                Some((
                    "config",
                    "stays as it is where an integration is named: change it by PUT",
                ))
            } else {
                None
            };
            if let Some((path, message)) = wrong {
                return Err(decided.fail(Error::field(path, message)).await);
            }
            let target = Target {
                on: loaded.on(),
                provider: loaded.provider.clone(),
                loaded: Some(loaded),
                settings: Value::Null,
                config: None,
            };
            return Ok((decided, target));
        }
        let tenant = self
            .tenant_of(ctx, Action::Put, TargetKind::Integration)
            .await?;
        let mut on = On::kind(TargetKind::Integration, tenant)
            .named(begin.name.as_ref().unwrap_or(&begin.type_));
        let provider = self.catalogue().get(&begin.type_).cloned();
        on.provider = Some(match &provider {
            Some(provider) => provider.id.clone(),
            None => begin.type_.clone(),
        });
        let decided = self.decide(ctx, Action::Put, &on).await?;
        let Some(provider) = provider else {
            return Err(decided.fail(Error::NotFound { what: "provider" }).await);
        };
        let mut faults = Vec::new();
        if let Some(name) = &begin.name {
            check_name(name, &mut faults);
        }
        let settings = Value::Object(begin.config.clone());
        read_config(&provider, &settings, &mut Vec::new(), &mut faults);
        let config = Config::parse(&provider, &settings).map(|(config, _)| config);
        let (Ok(config), true) = (config, faults.is_empty()) else {
            return Err(decided.fail(Error::Invalid(faults)).await);
        };
        if let Some(name) = &begin.name {
            let taken = self.store().find_integration_by_name(tenant, name).await?;
            if taken.is_some() {
                return Err(decided.fail(Error::duplicate_name()).await);
            }
        }
        let target = Target {
            on,
            provider,
            loaded: None,
            settings,
            config: Some(config),
        };
        Ok((decided, target))
    }

    /// Opens what the integration holds, as its own app may be among it. The decision that this
    /// uses up is made again.
    pub(super) async fn oauth_opened(
        &self,
        ctx: &Context,
        decided: Decided,
        target: &Target,
    ) -> Result<(Decided, Option<Opened>), Error> {
        let Some(loaded) = &target.loaded else {
            return Ok((decided, None));
        };
        let keys = match self.keyring().tenant(loaded.row.tenant).await {
            Ok(keys) => keys,
            Err(fault) => return Err(decided.fail(fault).await),
        };
        let permit = decided
            .because("to authorise it")
            .permit::<Consent>(loaded.row.credential_version)
            .await?;
        let opened = self.open(ctx, permit, &keys, loaded).await?;
        let decided = self.decide(ctx, Action::Put, &target.on).await?;
        let mode = opened.0.mode(&target.provider);
        if mode.is_none_or(|mode| mode.oauth.is_none()) {
            let fault = Error::conflict(
                "not_oauth",
                "this integration holds a credential of another kind: replace that, or connect the account as a new integration",
            );
            return Err(decided.fail(fault).await);
        }
        Ok((decided, Some(opened)))
    }

    /// The integration's own app, else this installation's.
    pub(super) fn oauth_app(&self, target: &Target, own: Option<&Fields>) -> Result<App, Error> {
        if let Some(own) = own.and_then(App::of) {
            return Ok(own);
        }
        let app = self.settings().oauth.apps.get(&target.provider.id);
        let app = app.ok_or_else(|| {
            let text = format!(
                "no OAuth app is set up for {}: whoever runs Keystead registers one there and sets [oauth.{}]; or make an integration with a client_id and client_secret of your own and authorise that",
                target.provider.name, target.provider.id
            );
            Error::conflict("oauth_app_missing", text)
        })?;
        Ok(App {
            client_id: app.client_id.clone(),
            client_secret: app.client_secret.clone(),
        })
    }
}
