//! Finding an integration that is to be used, from the cache while that is to be believed.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use keystead_core::action::{Action, TargetKind};
use keystead_core::ids::{IntegrationId, TenantId};
use keystead_core::provider::{Config, Provider};
use keystead_store::{CredentialRow, IntegrationFilter as RowFilter, IntegrationRow, TokenSetRow};
use serde_json::Value;

use crate::broker::Broker;
use crate::context::Context;
use crate::epochs::Epoch;
use crate::error::Error;
use crate::net;
use crate::permit::On;

/// An integration as it is used: read once, and believed while its epoch stands.
pub(crate) struct Loaded {
    pub(crate) row: IntegrationRow,
    pub(crate) credential: CredentialRow,
    /// The tokens that were granted under this version of the credential, where it is of that kind.
    pub(crate) tokens: Option<TokenSetRow>,
    pub(crate) provider: Arc<Provider>,
    pub(crate) config: Config,
    /// The provider's own host under these settings, found at the first call.
    pub(crate) home: OnceLock<Home>,
    pub(crate) epoch: Epoch,
}

/// A host of a provider, ready to be called.
#[derive(Clone)]
pub(crate) struct Home {
    pub(crate) destination: net::Destination,
    pub(crate) logical_host: Arc<str>,
}

/// Who reads what is not in the cache, or no longer to be believed: of many that need one thing at
/// once, one does, and the others find it in the cache.
pub(crate) struct Loading {
    turns: Box<[tokio::sync::Mutex<()>]>,
    hasher: RandomState,
}

const TURNS: usize = 1024;

impl Default for Loading {
    fn default() -> Self {
        Loading {
            turns: (0..TURNS).map(|_| tokio::sync::Mutex::default()).collect(),
            hasher: RandomState::new(),
        }
    }
}

impl Loading {
    fn turn(&self, id: IntegrationId) -> &tokio::sync::Mutex<()> {
        let turn = usize::try_from(self.hasher.hash_one(id) % TURNS as u64).unwrap_or(0);
        &self.turns[turn]
    }
}

impl Loaded {
    pub(crate) fn on(&self) -> On {
        On::integration(self.row.tenant, self.row.id, &self.provider.id)
    }

    /// About how much memory it takes, with its place in a cache.
    pub(crate) fn bytes(&self) -> u64 {
        /// The cache's own, what the allocator rounds up, and `home`.
        const BESIDE: usize = 320;
        let row = &self.row;
        let texts = [&row.name, &row.provider, &row.created_by].map(String::len);
        let maybe =
            [&row.hint, &row.error_message].map(|text| text.as_ref().map_or(0, String::len));
        let settings = 3 * row.config.len();
        let tokens = self.tokens.as_ref().map_or(0, |row| row.sealed.len());
        let sealed = self.credential.sealed.len() + tokens;
        let all = size_of::<Loaded>() + BESIDE + sealed + settings;
        (all + texts.iter().chain(&maybe).sum::<usize>()) as u64
    }
}

impl Broker {
    pub(crate) fn provider_of(&self, row: &IntegrationRow) -> Result<Arc<Provider>, Error> {
        self.catalogue().get(&row.provider).cloned().ok_or_else(|| {
            Error::conflict("unknown_provider", "this integration's provider is not in the catalogue any more: ask whoever runs Keystead to add its file again")
        })
    }

    /// The row of an integration of the tenant acted in, from the store; a miss is on record.
    pub(crate) async fn find(
        &self,
        ctx: &Context,
        action: Action,
        id: IntegrationId,
    ) -> Result<IntegrationRow, Error> {
        let tenant = self.tenant_of(ctx, action, TargetKind::Integration).await?;
        match self.store().find_integration(tenant, id).await? {
            Some(row) => Ok(row),
            None => Err(self.missing(ctx, action, tenant, id).await),
        }
    }

    async fn missing(
        &self,
        ctx: &Context,
        action: Action,
        tenant: TenantId,
        id: IntegrationId,
    ) -> Error {
        let on = On::kind(TargetKind::Integration, tenant).named(id);
        match self.deny(ctx, action, &on, "not found").await {
            Ok(()) => Error::NotFound {
                what: "integration",
            },
            Err(fault) => fault,
        }
    }

    /// An integration of the tenant acted in, ready to be used; a miss is on record, and so is one
    /// that cannot be made ready.
    pub(crate) async fn load(
        &self,
        ctx: &Context,
        action: Action,
        id: IntegrationId,
    ) -> Result<Arc<Loaded>, Error> {
        let tenant = self.tenant_of(ctx, action, TargetKind::Integration).await?;
        match self.find_loaded(tenant, id).await {
            Ok(Some(loaded)) => Ok(loaded),
            Ok(None) => Err(Box::pin(self.missing(ctx, action, tenant, id)).await),
            Err(fault @ Error::Unavailable { .. }) => Err(fault),
            Err(fault) => {
                let (kind, name) = (TargetKind::Integration, id.to_string());
                Box::pin(self.refuse(ctx, action, kind, Some(&name), &fault)).await;
                Err(fault)
            }
        }
    }

    fn find_known(&self, tenant: TenantId, id: IntegrationId) -> Option<Arc<Loaded>> {
        let trusted = self.epochs().trusted(self.clock().now());
        let epoch = self.epochs().of_tenant(tenant);
        let known = self.integrations_cache().get(&(tenant, id))?;
        (trusted && known.epoch == epoch).then_some(known)
    }

    /// From the cache while it is to be believed, else from the store.
    pub(crate) async fn find_loaded(
        &self,
        tenant: TenantId,
        id: IntegrationId,
    ) -> Result<Option<Arc<Loaded>>, Error> {
        if let Some(known) = self.find_known(tenant, id) {
            self.counters().cache_hits.fetch_add(1, Ordering::Relaxed);
            return Ok(Some(known));
        }
        // Where no cache is believed, nobody would find what another has read.
        let trusted = self.epochs().trusted(self.clock().now());
        let _turn = match trusted {
            true => Some(self.loading().turn(id).lock().await),
            false => None,
        };
        if let Some(known) = self.find_known(tenant, id) {
            self.counters().cache_hits.fetch_add(1, Ordering::Relaxed);
            return Ok(Some(known));
        }
        let epoch = self.epochs().of_tenant(tenant);
        self.counters().cache_misses.fetch_add(1, Ordering::Relaxed);
        let Some(row) = self.store().find_integration(tenant, id).await? else {
            return Ok(None);
        };
        let loaded = self.complete(row, epoch).await?;
        if let Some(loaded) = &loaded {
            self.integrations_cache()
                .insert((tenant, id), loaded.clone());
        }
        Ok(loaded)
    }

    async fn complete(
        &self,
        row: IntegrationRow,
        epoch: Epoch,
    ) -> Result<Option<Arc<Loaded>>, Error> {
        let Some(credential) = self
            .store()
            .find_credential(row.tenant, row.id, row.credential_version)
            .await?
        else {
            // Replaced or removed between the two reads.
            return Ok(None);
        };
        let provider = self.provider_of(&row)?;
        let tokens = match provider.oauth() {
            Some(_) => self.store().find_token_set(row.tenant, row.id).await?,
            None => None,
        };
        // A credential that was put in since stands for itself.
        let tokens = tokens.filter(|tokens| tokens.credential_version == row.credential_version);
        let settings: Value = serde_json::from_str(&row.config).map_err(|_| Error::Corrupt {
            record: row.id.to_string(),
        })?;
        // Settings are checked again at each load: one that an operator no longer approves stops working.
        let (config, _) = Config::parse(&provider, &settings)
            .map_err(|faults| Error::Invalid(faults.into_iter().map(Into::into).collect()))?;
        Ok(Some(Arc::new(Loaded {
            row,
            credential,
            tokens,
            provider,
            config,
            home: OnceLock::new(),
            epoch,
        })))
    }

    /// The tenant's only integration of a provider that is switched on.
    pub(crate) async fn find_only(&self, ctx: &Context, type_: &str) -> Result<Arc<Loaded>, Error> {
        let tenant = self
            .tenant_of(ctx, Action::Use, TargetKind::Integration)
            .await?;
        let trusted = self.epochs().trusted(self.clock().now());
        let epoch = self.epochs().of_tenant(tenant);
        let key = (tenant, type_.to_owned());
        if let Some((id, known)) = self.type_cache().get(&key)
            && trusted
            && known == epoch
            && let Some(loaded) = self.find_loaded(tenant, id).await?
        {
            return Ok(loaded);
        }
        self.counters().cache_misses.fetch_add(1, Ordering::Relaxed);
        let provider = self
            .catalogue()
            .get(type_)
            .map_or_else(|| type_.to_owned(), |provider| provider.id.clone());
        let filter = RowFilter {
            provider: Some(provider.clone()),
            status: None,
            disabled: Some(false),
            after: None,
            limit: 50,
        };
        let mut rows = self.store().list_integrations(tenant, &filter).await?;
        // The connected ones are meant. Where none is, one that is still being tried, or that a trial
        // found wanting, may work all the same, and its provider's answer says more than a 404.
        let works = |row: &IntegrationRow| row.status == keystead_store::Status::Connected;
        if rows.iter().any(works) {
            rows.retain(works);
        }
        let mut on = On::kind(TargetKind::Integration, tenant).named(format!("@{type_}"));
        on.provider = Some(provider);
        if rows.len() > 1 {
            let fault = Error::Conflict {
                code: "several_integrations",
                message:
                    "there are several integrations of this type: name one by its id, /proxy/{id}/…"
                        .into(),
                among: rows.iter().map(|row| row.id.to_string()).collect(),
            };
            // Only whoever may use the type learns which there are, or that there is none.
            return Err(self.decide(ctx, Action::Use, &on).await?.fail(fault).await);
        }
        let found = match rows.pop() {
            Some(row) => self.complete(row, epoch).await?,
            None => None,
        };
        match found {
            Some(loaded) => {
                let id = loaded.row.id;
                self.type_cache().insert(key, (id, epoch));
                self.integrations_cache()
                    .insert((tenant, id), loaded.clone());
                Ok(loaded)
            }
            None => {
                let fault = Error::NotFound {
                    what: "integration of that type",
                };
                Err(self.decide(ctx, Action::Use, &on).await?.fail(fault).await)
            }
        }
    }
}
