//! The key hierarchy at run time: KEK (in the KMS), root key, tenant keys.
//!
//! What always holds: the KMS is asked once at start and once per `reopen` and node; tenant keys
//! are opened under the root key on first use and kept, zeroised when they fall out; a KMS that
//! *denies* makes this node drop every key and stop opening, one that is *unreachable* is forgiven
//! for `grace`; a key that is not the one whose check value is on record is refused.
//!
//! Not here: sealing of records (core), and who may open one (permit).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use keystead_core::action::{Action, Outcome, TargetKind};
use keystead_core::entry::Entry;
use keystead_core::ids::{InstallationId, RequestId, SealKeyId, TenantId};
use keystead_core::log::{LogKey, VerifierKey};
use keystead_core::seal::{self, Kind, Place, Plaintext, SealKey};
use keystead_core::time::Time;
use keystead_store::{
    Effect, InstallationRow, Store, TenantKeyRow, TenantKeyState, TenantRow, TenantState, Write,
};
use quick_cache::sync::Cache;

use crate::clock::{self, Clock};
use crate::error::Error;
use crate::kms::{Counted, Kms, KmsError};

/// How long keys are trusted without hearing from the KMS.
#[derive(Clone, Copy, Debug)]
pub struct KeyringSettings {
    /// How often the root key is opened anew.
    pub reopen: Duration,
    /// How long a KMS that cannot be reached is forgiven.
    pub grace: Duration,
}

impl Default for KeyringSettings {
    fn default() -> Self {
        KeyringSettings {
            reopen: Duration::from_secs(3600),
            grace: Duration::from_secs(24 * 3600),
        }
    }
}

/// The open keys of one tenant: the active one, and those that only open.
pub(crate) struct TenantKeys {
    active: SealKeyId,
    keys: Vec<(SealKeyId, SealKey)>,
}

impl TenantKeys {
    fn key(&self, id: SealKeyId) -> Option<&SealKey> {
        self.keys
            .iter()
            .find(|(own, _)| *own == id)
            .map(|(_, key)| key)
    }

    /// Seals a message for its place under the active key.
    pub(crate) fn seal(
        &self,
        place: &Place,
        message: &[u8],
    ) -> Result<(SealKeyId, Vec<u8>), Error> {
        let key = self
            .key(self.active)
            .ok_or_else(|| Error::internal("a tenant without an active key"))?;
        Ok((
            self.active,
            seal::seal(key, &self.active, place, clock::random()?, message),
        ))
    }

    /// Opens a blob at its place, under whichever key of this tenant sealed it.
    pub(crate) fn open(&self, place: &Place, blob: &[u8]) -> Option<Plaintext> {
        let id = seal::key_id_of(blob).ok()?;
        seal::open(self.key(id)?, &id, place, blob).ok()
    }
}

/// All keys of this node.
pub(crate) struct Keyring {
    store: Store,
    kms: Counted,
    clock: Clock,
    settings: KeyringSettings,
    row: InstallationRow,
    root: ArcSwapOption<SealKey>,
    heard: AtomicI64,
    trouble: ArcSwap<Option<String>>,
    tenants: Cache<TenantId, Arc<TenantKeys>>,
    log_key: LogKey,
    lookup: SealKey,
}

const TENANTS_KEPT: usize = 20_000;
/// A key service that has not answered after that is as good as unreachable.
const KMS_DEADLINE: Duration = Duration::from_secs(10);

impl Keyring {
    /// Opens the installation's keys, or makes them at the very first start.
    ///
    /// # Errors
    /// `Unavailable` where the KMS does not answer, `Internal` with what to do where it denies or
    /// gives another key.
    pub(crate) async fn open(
        store: Store,
        kms: Box<dyn Kms>,
        clock: Clock,
        settings: KeyringSettings,
    ) -> Result<Keyring, Error> {
        let kms = Counted::new(kms);
        let (row, root) = match store.installation().await? {
            Some(row) => {
                let root = unwrap_root(&kms, &row).await?;
                (row, root)
            }
            None => make_installation(&store, &kms, &clock).await?,
        };
        let sub = |kind, blob: &[u8]| {
            seal::open_key(&root, &ROOT_ID, &platform_place(row.id, kind), blob).map_err(|_| {
                Error::Corrupt {
                    record: row.id.to_string(),
                }
            })
        };
        let log_key = LogKey::from_seed(
            &origin(row.id),
            sub(Kind::LogKey, &row.log_key)?.dangerous_bytes(),
        )
        .map_err(|_| Error::Corrupt {
            record: row.id.to_string(),
        })?;
        let lookup = sub(Kind::LookupKey, &row.lookup_key)?;
        store.set_context_key(*sub(Kind::ContextKey, &row.context_key)?.dangerous_bytes());
        let now = clock.now();
        Ok(Keyring {
            store,
            kms,
            clock,
            settings,
            row,
            root: ArcSwapOption::from_pointee(root),
            heard: AtomicI64::new(now.0),
            trouble: ArcSwap::default(),
            tenants: Cache::new(TENANTS_KEPT),
            log_key,
            lookup,
        })
    }

    /// How often the KMS was asked since the start.
    pub(crate) fn kms_calls(&self) -> u64 {
        self.kms.calls()
    }

    /// Why nothing is opened, or what is going wrong with the KMS; `None` when all is well.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.load().as_ref().clone()
    }

    /// Whether keys are at hand.
    pub(crate) fn is_open(&self) -> bool {
        self.root.load().is_some()
    }

    /// The key that signs checkpoints.
    pub(crate) fn log_key(&self) -> &LogKey {
        &self.log_key
    }

    /// The key that checks them, for whoever wants to.
    pub(crate) fn verifier_key(&self) -> &VerifierKey {
        self.log_key.verifier()
    }

    /// The keyed hash under which a presented token is looked up.
    pub(crate) fn lookup_hash(&self, token: &[u8]) -> [u8; 32] {
        seal::lookup_hash(&self.lookup, token)
    }

    /// Forgets the keys of a tenant that is gone.
    pub(crate) fn forget(&self, tenant: TenantId) {
        self.tenants.remove(&tenant);
    }

    /// The tenant's keys, opened on first use; callers that ask at once share the work.
    pub(crate) async fn tenant(&self, tenant: TenantId) -> Result<Arc<TenantKeys>, Error> {
        let root = self.root.load_full().ok_or_else(|| self.closed())?;
        match self.tenants.get(&tenant) {
            Some(keys) => Ok(keys),
            // Boxed: what the store needs on a miss is not to be carried along on every hit.
            None => {
                let opening = Box::pin(self.open_tenant(&root, tenant));
                self.tenants.get_or_insert_async(&tenant, opening).await
            }
        }
    }

    async fn open_tenant(
        &self,
        root: &SealKey,
        tenant: TenantId,
    ) -> Result<Arc<TenantKeys>, Error> {
        let mut active = None;
        let mut keys = Vec::new();
        for row in self.store.tenant_keys(tenant).await? {
            if matches!(
                row.state,
                TenantKeyState::Retired | TenantKeyState::Destroyed
            ) {
                continue;
            }
            let corrupt = || Error::Corrupt {
                record: row.id.to_string(),
            };
            let place = tenant_key_place(&row);
            let key = seal::open_key(root, &ROOT_ID, &place, &row.sealed).map_err(|_| corrupt())?;
            if check_value(&key, tenant, row.id) != row.check_value {
                return Err(corrupt());
            }
            if row.state == TenantKeyState::Active {
                active = Some(row.id);
            }
            keys.push((row.id, key));
        }
        let active = active.ok_or(Error::NotFound { what: "tenant" })?;
        Ok(Arc::new(TenantKeys { active, keys }))
    }

    /// A first key for a new tenant, as the effect that stores it.
    pub(crate) fn new_tenant_key(&self, tenant: TenantId, at: Time) -> Result<Effect, Error> {
        let root = self.root.load_full().ok_or_else(|| self.closed())?;
        Ok(Effect::InsertTenantKey(first_key(&root, tenant, at)?))
    }

    /// Asks the KMS again when it is time, and acts on the answer. Call every few seconds.
    pub(crate) async fn tend(&self) {
        let now = self.clock.now();
        let since = now.0.saturating_sub(self.heard.load(Ordering::Acquire));
        let settings = &self.settings;
        if self.is_open()
            && self.trouble.load().is_none()
            && u128::try_from(since).unwrap_or(0) < settings.reopen.as_micros()
        {
            return;
        }
        match unwrap_root(&self.kms, &self.row).await {
            Ok(root) => {
                self.heard.store(now.0, Ordering::Release);
                self.root.store(Some(Arc::new(root)));
                self.trouble.store(Arc::new(None));
            }
            Err(Error::Unavailable { context, .. })
                if u128::try_from(since).unwrap_or(0) < settings.grace.as_micros() =>
            {
                tracing::warn!(%context, "the key service cannot be reached; keys at hand serve on until the grace ends");
                self.trouble.store(Arc::new(Some(context)));
            }
            Err(fault) => {
                tracing::error!(%fault, ?fault, "the key service refuses; all keys are dropped");
                self.root.store(None);
                self.tenants.clear();
                self.trouble.store(Arc::new(Some(fault.to_string())));
            }
        }
    }

    fn closed(&self) -> Error {
        Error::Unavailable {
            what: "the key service",
            context: self.trouble().unwrap_or_default(),
        }
    }
}

/// The name under which checkpoints are signed.
fn origin(id: InstallationId) -> String {
    format!("keystead/{id}")
}

const ROOT_ID: SealKeyId = SealKeyId::from_uuid(uuid::Uuid::from_u128(2));

fn platform_place(id: InstallationId, kind: Kind) -> Place {
    Place {
        tenant: *TenantId::PLATFORM.bytes(),
        kind,
        record: *id.bytes(),
        field: 0,
        version: 1,
    }
}

fn tenant_key_place(row: &TenantKeyRow) -> Place {
    Place {
        tenant: *row.tenant.bytes(),
        kind: Kind::TenantKey,
        record: *row.id.bytes(),
        field: 0,
        version: row.generation,
    }
}

/// A fresh key for a tenant, sealed under the root key.
fn first_key(root: &SealKey, tenant: TenantId, at: Time) -> Result<TenantKeyRow, Error> {
    let key = SealKey::from_bytes(clock::random()?);
    let id = SealKeyId::from_uuid(clock::new_uuid(at)?);
    let mut row = TenantKeyRow {
        tenant,
        id,
        generation: 1,
        state: TenantKeyState::Active,
        sealed: Vec::new(),
        check_value: check_value(&key, tenant, id),
        created_at: at,
    };
    let place = tenant_key_place(&row);
    row.sealed = seal::seal_key(root, &ROOT_ID, &place, clock::random()?, &key);
    Ok(row)
}

fn check_value(key: &SealKey, tenant: TenantId, id: SealKeyId) -> [u8; 32] {
    seal::check_value(key, &[tenant.bytes(), id.bytes()])
}

fn root_check(key: &SealKey, id: InstallationId) -> [u8; 32] {
    seal::check_value(key, &[id.bytes()])
}

async fn unwrap_root(kms: &Counted, row: &InstallationRow) -> Result<SealKey, Error> {
    if row.kms != kms.name() {
        return Err(Error::internal(format!(
            "this installation's root key is wrapped by the KMS driver {:?}, and {:?} is configured: set [kms] driver back",
            row.kms,
            kms.name()
        )));
    }
    let root = tokio::time::timeout(KMS_DEADLINE, kms.unwrap(&row.root_key, row.id))
        .await
        .unwrap_or_else(|_| {
            Err(KmsError::Unreachable(
                "it did not answer in time".to_owned(),
            ))
        })
        .map_err(kms_fault)?;
    if root_check(&root, row.id) != row.check_value {
        return Err(Error::internal(
            "the KMS gave back another key than the one on record: refused",
        ));
    }
    Ok(root)
}

fn kms_fault(fault: KmsError) -> Error {
    match fault {
        KmsError::Unreachable(context) => Error::Unavailable {
            what: "the key service",
            context,
        },
        other => Error::internal(other.to_string()),
    }
}

/// The very first start. Two nodes that start at once agree on the row that was first.
async fn make_installation(
    store: &Store,
    kms: &Counted,
    clock: &Clock,
) -> Result<(InstallationRow, SealKey), Error> {
    let at = clock.now();
    let id = InstallationId::from_uuid(clock::new_uuid(at)?);
    let root = SealKey::from_bytes(clock::random()?);
    let fresh = |kind| -> Result<Vec<u8>, Error> {
        let key = SealKey::from_bytes(clock::random()?);
        Ok(seal::seal_key(
            &root,
            &ROOT_ID,
            &platform_place(id, kind),
            clock::random()?,
            &key,
        ))
    };
    // The database has a context key from its set-up; an embedded store has no use for one.
    let context = match store.take_context_key().await? {
        Some(key) => SealKey::from_bytes(key),
        None => match store.installation().await? {
            // Another node was first, just now.
            Some(row) => {
                let root = unwrap_root(kms, &row).await?;
                return Ok((row, root));
            }
            None => SealKey::from_bytes(clock::random()?),
        },
    };
    // What is appended below already has rows of a tenant.
    store.set_context_key(*context.dangerous_bytes());
    let context_place = platform_place(id, Kind::ContextKey);
    let context_key = seal::seal_key(&root, &ROOT_ID, &context_place, clock::random()?, &context);
    let row = InstallationRow {
        id,
        kms: kms.name().to_owned(),
        root_key: kms.wrap(&root, id).await.map_err(kms_fault)?,
        check_value: root_check(&root, id),
        context_key,
        log_key: fresh(Kind::LogKey)?,
        lookup_key: fresh(Kind::LookupKey)?,
        created_at: at,
    };
    let entry = Entry {
        at,
        tenant: TenantId::PLATFORM,
        caller: "system",
        by: None,
        action: Action::Put,
        on: TargetKind::Tenant,
        target: Some(id.to_string()),
        outcome: Outcome::Allowed,
        reason: Some("first start".into()),
        version: None,
        tokens: None,
        request: RequestId::from_uuid(clock::new_uuid(at)?),
        address: None,
    };
    let platform = TenantRow {
        id: TenantId::PLATFORM,
        name: "platform".to_owned(),
        issuer: None,
        external: None,
        state: TenantState::Active,
        created_at: at,
    };
    let mut effects = vec![
        Effect::InsertInstallation(row.clone()),
        Effect::InsertTenant(platform),
    ];
    effects.push(Effect::InsertTenantKey(first_key(
        &root,
        TenantId::PLATFORM,
        at,
    )?));
    match store.append(Write { entry, effects }).await {
        Ok(_) => Ok((row, root)),
        Err(keystead_store::Error::Duplicate { .. } | keystead_store::Error::Conflict { .. }) => {
            let row = store
                .installation()
                .await?
                .ok_or_else(|| Error::internal("an installation that cannot be read back"))?;
            let root = unwrap_root(kms, &row).await?;
            Ok((row, root))
        }
        Err(fault) => Err(fault.into()),
    }
}
