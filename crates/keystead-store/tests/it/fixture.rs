//! Rows and stores to test with. Ids count up; nothing is random.

use std::sync::atomic::{AtomicU64, Ordering};

use keystead_core::action::{Action, Outcome, Role, TargetKind};
use keystead_core::entry::Entry;
use keystead_core::ids::{
    AuthorizationId, BatchId, InstallationId, IntegrationId, KeyId, MemberId, RequestId,
    RevocationId, SealKeyId, SessionId, TenantId,
};
use keystead_core::time::Time;
use keystead_store::{
    AuthorizationRow, BatchRow, ConnectSessionRow, CredentialRow, Effect, InstallationRow,
    IntegrationRow, KeyKind, KeyRow, MemberRow, Receipt, RevocationRow, RevocationState,
    RotationRow, Setup, Status, Store, StoreConfig, TenantKeyRow, TenantKeyState, TenantRow,
    TenantState, TokenSetRow, TokenState, Write, setup_postgres,
};
use uuid::Uuid;

pub(crate) const NOW: Time = Time(1_795_184_100_000_000);

pub(crate) fn uuid() -> Uuid {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Uuid::from_u128(u128::from(NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// A store, and what has to live as long as it does.
pub(crate) struct Fixture {
    pub(crate) store: Store,
    _folder: Option<tempfile::TempDir>,
}

/// A database of the shared cluster, set up.
pub(crate) struct Database {
    pub(crate) admin_url: String,
    pub(crate) config: StoreConfig,
}

pub(crate) const CONTEXT_KEY: [u8; 32] = [0x42; 32];

pub(crate) fn setup(admin_url: &str) -> Setup {
    Setup {
        admin_url: admin_url.to_owned(),
        app_password: [1; 32],
        system_password: [2; 32],
        context_key: CONTEXT_KEY,
        new_passwords: false,
    }
}

/// Roles are the cluster's: their passwords are set once, and every set-up of a test knows them.
pub(crate) async fn database() -> Database {
    static ROLES: tokio::sync::Mutex<Option<()>> = tokio::sync::Mutex::const_new(None);
    let admin_url = tokio::task::spawn_blocking(|| {
        keystead_testkit::postgres::shared()
            .unwrap()
            .database()
            .unwrap()
    });
    let admin_url = admin_url.await.unwrap();
    let mut first = ROLES.lock().await;
    let mut setup = setup(&admin_url);
    setup.new_passwords = true;
    let report = setup_postgres(setup).await.unwrap();
    *first = Some(());
    let config = StoreConfig::new(report.url).with_system_url(report.system_url);
    // A test machine may be busy with much else.
    let config = StoreConfig {
        deadline: std::time::Duration::from_secs(20),
        connections: 4,
        ..config
    };
    Database { admin_url, config }
}

impl Database {
    pub(crate) async fn open(&self) -> Store {
        let store = Store::open(self.config.clone()).await.unwrap();
        store.set_context_key(CONTEXT_KEY);
        store
    }
}

pub(crate) async fn postgres() -> Store {
    database().await.open().await
}

pub(crate) async fn sqlite_memory() -> Fixture {
    let store = Store::open(StoreConfig::new("sqlite::memory:"))
        .await
        .unwrap();
    Fixture {
        store,
        _folder: None,
    }
}

pub(crate) async fn sqlite_file() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data/keystead.db");
    let store = Store::open(StoreConfig::new(format!("sqlite:{}", path.display())))
        .await
        .unwrap();
    Fixture {
        store,
        _folder: Some(folder),
    }
}

pub(crate) fn entry(tenant: TenantId) -> Entry {
    Entry {
        at: NOW,
        tenant,
        caller: "system",
        by: Some("test".to_owned()),
        action: Action::Put,
        on: TargetKind::Integration,
        target: Some("int_x".to_owned()),
        outcome: Outcome::Allowed,
        reason: None,
        version: None,
        tokens: None,
        request: RequestId::from_uuid(uuid()),
        address: None,
    }
}

pub(crate) async fn append(
    store: &Store,
    tenant: TenantId,
    effects: Vec<Effect>,
) -> Result<Receipt, keystead_store::Error> {
    let entry = entry(tenant);
    store.append(Write { entry, effects }).await
}

pub(crate) fn tenant_row() -> TenantRow {
    let id = TenantId::from_uuid(uuid());
    TenantRow {
        id,
        name: "Acme".to_owned(),
        issuer: Some("dev".to_owned()),
        external: Some(id.to_string()),
        state: TenantState::Active,
        created_at: NOW,
    }
}

pub(crate) fn tenant_key(tenant: TenantId) -> TenantKeyRow {
    TenantKeyRow {
        tenant,
        id: SealKeyId::from_uuid(uuid()),
        generation: 1,
        state: TenantKeyState::Active,
        sealed: b"sealed tenant key".to_vec(),
        check_value: [7; 32],
        created_at: NOW,
    }
}

pub(crate) fn member(tenant: TenantId, subject: &str) -> MemberRow {
    MemberRow {
        tenant,
        id: MemberId::from_uuid(uuid()),
        issuer: "dev".to_owned(),
        subject: subject.to_owned(),
        role: Role::Owner,
        created_at: NOW,
        updated_at: NOW,
    }
}

pub(crate) fn key(tenant: TenantId, hash: u8) -> KeyRow {
    KeyRow {
        tenant,
        id: KeyId::from_uuid(uuid()),
        kind: KeyKind::Service,
        hash: [hash; 32],
        name: "backend".to_owned(),
        scopes: "[]".to_owned(),
        addresses: "[]".to_owned(),
        bound: None,
        expires_at: None,
        last_used_at: None,
        revoked_at: None,
        created_by: "test".to_owned(),
        created_at: NOW,
    }
}

pub(crate) fn integration(tenant: TenantId, name: &str) -> IntegrationRow {
    IntegrationRow {
        tenant,
        id: IntegrationId::from_uuid(uuid()),
        name: name.to_owned(),
        provider: "openai".to_owned(),
        status: Status::Verifying,
        config: "{}".to_owned(),
        hint: Some("nary".to_owned()),
        credential_version: 1,
        disabled: false,
        created_by: "dev|alice".to_owned(),
        created_at: NOW,
        updated_at: NOW,
        last_used_at: None,
        last_verified_at: None,
        error_message: None,
        revision: 1,
    }
}

pub(crate) fn credential(
    tenant: TenantId,
    integration: IntegrationId,
    version: u64,
    key_id: SealKeyId,
) -> CredentialRow {
    CredentialRow {
        tenant,
        integration,
        version,
        key_id,
        sealed: format!("sealed canary {version}").into_bytes(),
        created_at: NOW,
    }
}

/// A tenant with a key and a member.
pub(crate) async fn tenant(store: &Store) -> (TenantId, SealKeyId) {
    let row = tenant_row();
    let (id, key) = (row.id, tenant_key(row.id));
    let key_id = key.id;
    let effects = vec![
        Effect::InsertTenant(row),
        Effect::InsertTenantKey(key),
        Effect::InsertMember(member(id, "alice")),
    ];
    append(store, id, effects).await.unwrap();
    (id, key_id)
}

/// An integration in a tenant.
pub(crate) async fn connected(
    store: &Store,
    (tenant, key): (TenantId, SealKeyId),
    name: &str,
) -> IntegrationRow {
    let row = integration(tenant, name);
    append(store, tenant, vec![insert(&row, key)])
        .await
        .unwrap();
    row
}

pub(crate) fn insert(row: &IntegrationRow, key: SealKeyId) -> Effect {
    Effect::InsertIntegration {
        integration: Box::new(row.clone()),
        credential: credential(row.tenant, row.id, 1, key),
    }
}

pub(crate) fn installation() -> InstallationRow {
    InstallationRow {
        id: InstallationId::from_uuid(uuid()),
        root_key: b"wrapped".to_vec(),
        kms: "file".to_owned(),
        check_value: [1; 32],
        context_key: b"sealed 1".to_vec(),
        log_key: b"sealed 2".to_vec(),
        lookup_key: b"sealed 3".to_vec(),
        created_at: NOW,
    }
}

pub(crate) fn later(time: Time, seconds: i64) -> Time {
    Time(time.0 + seconds * 1_000_000)
}

/// The first tokens of an integration, due for renewal.
pub(crate) fn token_set(integration: &IntegrationRow, key_id: SealKeyId) -> TokenSetRow {
    TokenSetRow {
        tenant: integration.tenant,
        integration: integration.id,
        credential_version: 1,
        token_version: 1,
        state: TokenState::Live,
        key_id,
        sealed: b"sealed canary tokens 1".to_vec(),
        expires_at: Some(later(NOW, 60)),
        refresh_expires_at: None,
        renew_at: Some(NOW),
        holder: None,
        fence: 1,
        lease_until: None,
        intent: false,
        failures: 0,
        failing_since: None,
        problem: None,
        updated_at: NOW,
    }
}

pub(crate) fn authorization(tenant: TenantId, key_id: SealKeyId, hash: u8) -> AuthorizationRow {
    AuthorizationRow {
        tenant,
        id: AuthorizationId::from_uuid(uuid()),
        state_hash: [hash; 32],
        bound_to: "browser:1".to_owned(),
        caller: "dev|alice".to_owned(),
        provider: "github".to_owned(),
        integration: None,
        name: Some("main".to_owned()),
        config: "{}".to_owned(),
        redirect_uri: "https://keys.example/oauth/callback".to_owned(),
        session: None,
        key_id,
        sealed: b"sealed canary verifier".to_vec(),
        expires_at: later(NOW, 600),
        created_at: NOW,
    }
}

pub(crate) fn connect_session(tenant: TenantId, hash: u8) -> ConnectSessionRow {
    ConnectSessionRow {
        tenant,
        id: SessionId::from_uuid(uuid()),
        hash: [hash; 32],
        browser_hash: None,
        actor: r#"{"subject":"alice"}"#.to_owned(),
        providers: r#"["github"]"#.to_owned(),
        return_url: Some("https://product.example/back".to_owned()),
        expires_at: later(NOW, 1800),
        created_at: NOW,
        closed_at: None,
    }
}

pub(crate) fn batch(tenant: TenantId) -> BatchRow {
    BatchRow {
        tenant,
        id: BatchId::from_uuid(uuid()),
        asked_by: "key_1".to_owned(),
        selector: r#"{"provider":"github"}"#.to_owned(),
        total: Some(1),
        created_at: NOW,
        closed_at: None,
        receipt: None,
    }
}

/// A grant of the tenant's to take back, in a batch of whoever's.
pub(crate) fn revocation(tenant: TenantId, batch: &BatchRow, key_id: SealKeyId) -> RevocationRow {
    RevocationRow {
        tenant,
        id: RevocationId::from_uuid(uuid()),
        batch_tenant: batch.tenant,
        batch: batch.id,
        integration: IntegrationId::from_uuid(uuid()),
        name: "main".to_owned(),
        provider: "github".to_owned(),
        config: "{}".to_owned(),
        mode: "oauth".to_owned(),
        state: RevocationState::Pending,
        key_id: Some(key_id),
        sealed: Some(b"sealed canary grant".to_vec()),
        attempts: 0,
        next_at: Some(NOW),
        detail: None,
        manual_url: Some("https://github.example/settings".to_owned()),
        created_at: NOW,
        settled_at: None,
        remark: Some("another key".to_owned()),
    }
}

pub(crate) fn rotation(integration: &IntegrationRow, key_id: SealKeyId) -> RotationRow {
    RotationRow {
        tenant: integration.tenant,
        integration: integration.id,
        step: "create".to_owned(),
        credential_version: 1,
        every_seconds: Some(86_400),
        grace_seconds: 900,
        rotated_at: None,
        next_at: Some(NOW),
        key_id: Some(key_id),
        sealed: Some(b"sealed canary next".to_vec()),
        attempts: 0,
        detail: None,
        started_at: None,
        revision: 1,
        updated_at: NOW,
    }
}

/// One row of each kind that has to do with grants, under one key of the tenant's.
pub(crate) struct Granted {
    pub(crate) integration: IntegrationRow,
    pub(crate) session: ConnectSessionRow,
    pub(crate) authorization: AuthorizationRow,
    pub(crate) batch: BatchRow,
    pub(crate) revocation: RevocationRow,
}

pub(crate) async fn granted(
    store: &Store,
    (tenant, key): (TenantId, SealKeyId),
    name: &str,
    hash: u8,
) -> Granted {
    let integration = connected(store, (tenant, key), name).await;
    let session = connect_session(tenant, hash);
    let authorization = AuthorizationRow {
        integration: Some(integration.id),
        session: Some(session.id),
        ..authorization(tenant, key, hash)
    };
    let batch = batch(tenant);
    let revocation = revocation(tenant, &batch, key);
    let effects = vec![
        Effect::PutTokenSet(Box::new(token_set(&integration, key))),
        Effect::InsertConnectSession(Box::new(session.clone())),
        Effect::InsertAuthorization(Box::new(authorization.clone())),
        Effect::InsertBatch(Box::new(batch.clone())),
        Effect::InsertRevocation(Box::new(revocation.clone())),
        Effect::PutRotation {
            row: Box::new(rotation(&integration, key)),
            expected_revision: None,
        },
    ];
    append(store, tenant, effects).await.unwrap();
    Granted {
        integration,
        session,
        authorization,
        batch,
        revocation,
    }
}

/// What an append came to, in one word and the kind of row.
pub(crate) fn outcome(result: Result<Receipt, keystead_store::Error>) -> String {
    use keystead_store::Error;
    match result {
        Ok(_) => "done".to_owned(),
        Err(Error::Conflict { what }) => format!("conflict: {what}"),
        Err(Error::Duplicate { what }) => format!("duplicate: {what}"),
        Err(Error::NotFound { what }) => format!("missing: {what}"),
        Err(Error::Invalid { what }) => format!("invalid: {what}"),
        Err(other) => panic!("{other}"),
    }
}
