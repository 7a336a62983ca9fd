//! What PostgreSQL itself holds: no row crosses from one tenant to another, whatever SQL is sent.

use aws_lc_rs::hmac;
use keystead_core::ids::{IntegrationId, TenantId};
use keystead_store::{Effect, Error, IdempotencyRow, IntegrationFilter, Store};
use tokio_postgres::{Client, NoTls};

use crate::fixture::*;

const TENANT_TABLES: [&str; 14] = [
    "api_key",
    "connect_session",
    "credential",
    "entry",
    "idempotency",
    "integration",
    "member",
    "pending_authorization",
    "revocation",
    "revocation_batch",
    "rotation",
    "tenant",
    "tenant_key",
    "token_set",
];
/// What the system role finds tenants by, what it looks through for what is due, and the log that it
/// follows.
const SEEN_BY_SYSTEM: [&str; 10] = [
    "api_key",
    "connect_session",
    "entry",
    "pending_authorization",
    "revocation",
    "revocation_batch",
    "rotation",
    "tenant",
    "tenant_key",
    "token_set",
];

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
        .batch_execute("SET search_path = keystead")
        .await
        .unwrap();
    client
}

async fn backend(client: &Client) -> i32 {
    client
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .unwrap()
        .get(0)
}

fn context(tenant: &str, expiry: i64, pid: i32, key: [u8; 32]) -> String {
    let message = format!("{tenant}|{expiry}|{pid}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let tag = hmac::sign(&key, message.as_bytes());
    let tag: String = tag
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{message}|{tag}")
}

fn soon() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    since.as_secs() as i64 + 60
}

/// Begins a transaction with the tenant's context.
async fn become_tenant(client: &Client, tenant: TenantId) {
    let context = context(
        &tenant.to_string(),
        soon(),
        backend(client).await,
        CONTEXT_KEY,
    );
    client.batch_execute("BEGIN").await.unwrap();
    let set = "SELECT set_config('keystead.context', $1, true)";
    client.query(set, &[&context]).await.unwrap();
}

async fn count(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// A tenant with a row in every table.
async fn full_tenant(store: &Store, hash: u8) -> TenantId {
    let owner = tenant(store).await;
    granted(store, owner, "main", hash).await;
    let row = IdempotencyRow {
        tenant: owner.0,
        caller: "dev|alice".to_owned(),
        key: "k1".to_owned(),
        request_hash: [3; 32],
        response: vec![1],
        status: 201,
        created_at: NOW,
    };
    let put = Effect::PutIdempotency {
        row,
        expire_before: NOW,
    };
    let effects = vec![put, Effect::InsertKey(key(owner.0, hash))];
    append(store, owner.0, effects).await.unwrap();
    owner.0
}

#[tokio::test]
async fn no_row_crosses() {
    let database = database().await;
    let store = database.open().await;
    let (a, b) = (full_tenant(&store, 1).await, full_tenant(&store, 2).await);
    let admin = connect(&database.admin_url).await;
    // Privileges are another line of defence: taken away here, so that this one is what is tested.
    admin
        .batch_execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA keystead TO keystead_app, keystead_system")
        .await
        .unwrap();
    // The same goes for the trigger, once it is seen to work.
    for table in TENANT_TABLES {
        let moved = admin
            .batch_execute(&format!("UPDATE {table} SET tenant_id = '{a}'"))
            .await;
        assert_eq!(
            moved.unwrap_err().code().unwrap().code(),
            "23514",
            "{table}"
        );
        let disable = format!("ALTER TABLE {table} DISABLE TRIGGER tenant_stays");
        admin.batch_execute(&disable).await.unwrap();
    }
    let mut before = Vec::new();
    for table in TENANT_TABLES {
        let sql = format!("SELECT count(*) FROM {table} WHERE tenant_id = '{a}'");
        before.push(count(&admin, &sql).await);
        assert!(before.last() > Some(&0), "{table} has no row to cross");
    }
    let system_url = database.config.system_url.as_deref().unwrap();
    for (url, system) in [(database.config.url.as_str(), false), (system_url, true)] {
        let client = connect(url).await;
        for table in TENANT_TABLES {
            let seen = system && SEEN_BY_SYSTEM.contains(&table);
            become_tenant(&client, b).await;
            let others = format!("SELECT count(*) FROM {table} WHERE tenant_id <> '{b}'");
            assert_eq!(count(&client, &others).await > 0, seen, "{table}");
            // The log has no policy for updates, so that there is no row to update.
            if table != "entry" {
                // Without a WHERE, the policy for SELECT does not help that for UPDATE.
                for clause in ["", " WHERE true"] {
                    client.batch_execute("SAVEPOINT s").await.unwrap();
                    let sql = format!("UPDATE {table} SET tenant_id = '{a}'{clause}");
                    let fault = client.execute(&sql, &[]).await.unwrap_err();
                    assert_eq!(fault.code().unwrap().code(), "42501", "{sql}: {fault:?}");
                    client.batch_execute("ROLLBACK TO s").await.unwrap();
                }
            }
            // The system role appends entries of all tenants.
            if table != "entry" || !system {
                let copy = format!(
                    "INSERT INTO {table} SELECT (jsonb_populate_record(t, '{{\"tenant_id\": \"{a}\"}}')).* \
                     FROM {table} t WHERE tenant_id = '{b}' LIMIT 1"
                );
                client.batch_execute("SAVEPOINT s").await.unwrap();
                let fault = client.execute(&copy, &[]).await.unwrap_err();
                assert_eq!(fault.code().unwrap().code(), "42501", "{table}: {fault:?}");
                client.batch_execute("ROLLBACK TO s").await.unwrap();
            }
            let own: i64 = count(
                &client,
                &format!("SELECT count(*) FROM {table} WHERE tenant_id = '{b}'"),
            )
            .await;
            client.batch_execute("SAVEPOINT s").await.unwrap();
            let touched = client
                .execute(&format!("UPDATE {table} SET tenant_id = tenant_id"), &[])
                .await
                .unwrap();
            let entry = table == "entry";
            assert_eq!(
                touched as i64,
                if entry { 0 } else { own },
                "UPDATE {table}"
            );
            client.batch_execute("ROLLBACK TO s").await.unwrap();
            if !matches!(table, "tenant_key" | "integration") {
                let gone = client
                    .execute(&format!("DELETE FROM {table}"), &[])
                    .await
                    .unwrap();
                assert_eq!(gone as i64, if entry { 0 } else { own }, "DELETE {table}");
            }
            client.batch_execute("ROLLBACK").await.unwrap();
        }
        // The same connection, with no context.
        for table in TENANT_TABLES {
            let seen = system && SEEN_BY_SYSTEM.contains(&table);
            let all = format!("SELECT count(*) FROM {table}");
            assert_eq!(count(&client, &all).await > 0, seen, "{table}");
            for sql in [
                format!("UPDATE {table} SET tenant_id = '{b}'"),
                format!("DELETE FROM {table}"),
            ] {
                assert_eq!(client.execute(&sql, &[]).await.unwrap(), 0, "{sql}");
            }
        }
    }
    for (table, before) in TENANT_TABLES.iter().zip(before) {
        let sql = format!("SELECT count(*) FROM {table} WHERE tenant_id = '{a}'");
        assert_eq!(count(&admin, &sql).await, before, "{table}");
    }
}

#[tokio::test]
async fn a_deleted_tenant_leaves_its_names_keys_and_log_and_nothing_else() {
    let database = database().await;
    let store = database.open().await;
    let (gone, stays) = (full_tenant(&store, 1).await, full_tenant(&store, 2).await);
    let delete = Effect::DeleteTenant { tenant: gone };
    append(&store, gone, vec![delete]).await.unwrap();
    let admin = connect(&database.admin_url).await;
    for table in TENANT_TABLES {
        let rows = |tenant| format!("SELECT count(*) FROM {table} WHERE tenant_id = '{tenant}'");
        let kept = matches!(table, "entry" | "tenant" | "tenant_key");
        assert_eq!(count(&admin, &rows(gone)).await > 0, kept, "{table}");
        assert!(count(&admin, &rows(stays)).await > 0, "{table}");
    }
    let sealed =
        "SELECT coalesce(max(length(sealed)), 0)::bigint FROM tenant_key WHERE state = 'destroyed'";
    assert_eq!(count(&admin, sealed).await, 0);
}

#[tokio::test]
async fn only_the_system_role_has_duties_and_the_clock_is_for_both() {
    let database = database().await;
    let app = connect(&database.config.url).await;
    let fault = app.query("SELECT * FROM duty", &[]).await.unwrap_err();
    assert_eq!(fault.code().unwrap().code(), "42501");
    for url in [
        &database.config.url,
        database.config.system_url.as_ref().unwrap(),
    ] {
        let client = connect(url).await;
        let told =
            "SELECT (unixepoch('now', 'subsec') - extract(epoch FROM clock_timestamp()))::bigint";
        assert_eq!(count(&client, told).await, 0);
    }
}

#[tokio::test]
async fn a_context_that_does_not_hold_shows_nothing() {
    let database = database().await;
    let store = database.open().await;
    let tenant = full_tenant(&store, 1).await.to_string();
    let client = connect(&database.config.url).await;
    let pid = backend(&client).await;
    let good = context(&tenant, soon(), pid, CONTEXT_KEY);
    let cases = [
        (good.clone(), Ok(1)),
        (String::new(), Ok(0)),
        ("nonsense".to_owned(), Ok(0)),
        ("|||".to_owned(), Err("28000")),
        (tenant.clone(), Ok(0)),
        (context(&tenant, soon() - 120, pid, CONTEXT_KEY), Ok(0)),
        (context(&tenant, soon(), pid + 1, CONTEXT_KEY), Ok(0)),
        (context(&tenant, soon(), pid, [0; 32]), Err("28000")),
        (good.replacen("ten_", "ten_f", 1), Err("28000")),
        (format!("{good}|x"), Ok(0)),
    ];
    for (context, expected) in cases {
        client.batch_execute("BEGIN").await.unwrap();
        client
            .query(
                "SELECT set_config('keystead.context', $1, true)",
                &[&context],
            )
            .await
            .unwrap();
        let found = client
            .query_one("SELECT count(*) FROM integration", &[])
            .await;
        match (found, expected) {
            (Ok(row), Ok(rows)) => assert_eq!(row.get::<_, i64>(0), rows, "{context}"),
            (Err(fault), Err(code)) => assert_eq!(fault.code().unwrap().code(), code, "{context}"),
            (found, _) => panic!("{context}: {found:?}"),
        }
        client.batch_execute("ROLLBACK").await.unwrap();
    }
    // What a transaction leaves behind is '', and that is nobody.
    assert_eq!(count(&client, "SELECT count(*) FROM integration").await, 0);
}

#[tokio::test]
async fn a_tenants_things_need_the_key_of_the_context() {
    let database = database().await;
    let store = Store::open(database.config.clone()).await.unwrap();
    let some = TenantId::from_uuid(uuid());
    let read = store
        .find_integration(some, IntegrationId::from_uuid(uuid()))
        .await;
    assert!(matches!(read, Err(Error::Unavailable { .. })));
    let write = append(&store, some, vec![Effect::InsertTenant(tenant_row())]).await;
    assert!(matches!(write, Err(Error::Unavailable { .. })));
    // Entries alone, and the first start, do not.
    append(&store, some, vec![]).await.unwrap();
    // Another key than the database's is an error, not an empty answer.
    store.set_context_key([9; 32]);
    let all = IntegrationFilter {
        limit: 9,
        ..Default::default()
    };
    assert!(matches!(
        store.list_integrations(some, &all).await,
        Err(Error::Unavailable { .. })
    ));
}

#[tokio::test]
async fn the_contexts_key_is_told_until_the_first_start_is_over() {
    let database = database().await;
    let store = database.open().await;
    assert_eq!(store.take_context_key().await.unwrap(), Some(CONTEXT_KEY));
    assert_eq!(store.take_context_key().await.unwrap(), Some(CONTEXT_KEY));
    append(
        &store,
        TenantId::PLATFORM,
        vec![Effect::InsertInstallation(installation())],
    )
    .await
    .unwrap();
    assert_eq!(store.take_context_key().await.unwrap(), None);
    let app = connect(&database.config.url).await;
    for sql in [
        "SELECT keystead.take_context_key()",
        "SELECT inner_pad FROM keystead.context_key",
        "SELECT root_key FROM keystead.installation",
    ] {
        let fault = app.query(sql, &[]).await.unwrap_err();
        assert_eq!(fault.code().unwrap().code(), "42501", "{sql}");
    }
    let system = connect(database.config.system_url.as_deref().unwrap()).await;
    let fault = system
        .query("SELECT inner_pad FROM keystead.context_key", &[])
        .await
        .unwrap_err();
    assert_eq!(fault.code().unwrap().code(), "42501");
}

#[tokio::test]
async fn the_log_cannot_be_changed_by_either_role() {
    let database = database().await;
    let store = database.open().await;
    let (tenant, _) = tenant(&store).await;
    for url in [
        &database.config.url,
        database.config.system_url.as_ref().unwrap(),
    ] {
        let client = connect(url).await;
        become_tenant(&client, tenant).await;
        for sql in [
            "UPDATE entry SET leaf = 'x'",
            "DELETE FROM entry",
            "TRUNCATE entry",
            "CREATE TABLE x ()",
            "CREATE TEMP TABLE x ()",
        ] {
            client.batch_execute("SAVEPOINT s").await.unwrap();
            let fault = client.batch_execute(sql).await.unwrap_err();
            assert_eq!(fault.code().unwrap().code(), "42501", "{sql}");
            client.batch_execute("ROLLBACK TO s").await.unwrap();
        }
    }
    store.prove_log().await.unwrap();
}

#[tokio::test]
async fn a_database_that_does_not_isolate_is_refused() {
    let database = database().await;
    let store = database.open().await;
    full_tenant(&store, 1).await;
    store.prove_isolation().await.unwrap();
    let admin = connect(&database.admin_url).await;
    let faults = [
        (
            "ALTER TABLE integration NO FORCE ROW LEVEL SECURITY",
            "ALTER TABLE integration FORCE ROW LEVEL SECURITY",
            "table integration",
        ),
        (
            "ALTER TABLE entry DISABLE ROW LEVEL SECURITY",
            "ALTER TABLE entry ENABLE ROW LEVEL SECURITY",
            "table entry",
        ),
        (
            "GRANT CREATE ON SCHEMA keystead TO keystead_app",
            "REVOKE CREATE ON SCHEMA keystead FROM keystead_app",
            "may create",
        ),
        (
            "ALTER POLICY only_own ON credential USING (true); ALTER POLICY own ON credential USING (true)",
            "ALTER POLICY own ON credential USING (tenant_id = (SELECT tenant()))",
            "table credential shows rows",
        ),
    ];
    for (fault, undo, told) in faults {
        admin.batch_execute(fault).await.unwrap();
        match store.prove_isolation().await {
            Err(Error::Setup(text)) => assert!(text.contains(told), "{text}"),
            other => panic!("{fault}: {other:?}"),
        }
        admin.batch_execute(undo).await.unwrap();
        store.prove_isolation().await.unwrap();
    }
}

#[tokio::test]
async fn a_name_that_is_pointed_at_another_tenant_does_not_take_it() {
    let database = database().await;
    let store = database.open().await;
    let (victim, attacker) = (full_tenant(&store, 1).await, full_tenant(&store, 2).await);
    let named = store.find_tenant(attacker).await.unwrap().unwrap();
    let (issuer, external) = (named.issuer.unwrap(), named.external.unwrap());
    let found = store.find_tenant_by_external(&issuer, &external).await;
    assert_eq!(found.unwrap().unwrap().id, attacker);
    let system = connect(database.config.system_url.as_deref().unwrap()).await;
    // No context is set: these rows are no tenant's, so nothing stops the role.
    let write = format!(
        "DELETE FROM tenant_name WHERE owner = '{attacker}';
         INSERT INTO tenant_name (issuer, external, owner) VALUES
             ('{issuer}', '{external}', '{victim}'), ('{issuer}', 'one more', '{victim}')"
    );
    system.batch_execute(&write).await.unwrap();
    for name in [external.as_str(), "one more"] {
        let found = store.find_tenant_by_external(&issuer, name).await.unwrap();
        assert_eq!(found, None, "{name} reaches the tenant");
    }
    let agree = format!("UPDATE tenant SET external = '{external}' WHERE tenant_id = '{victim}'");
    assert_eq!(
        system.execute(&agree, &[]).await.unwrap(),
        0,
        "the tenant's own row needs its context"
    );
}

#[tokio::test]
async fn neither_role_makes_large_objects() {
    let database = database().await;
    let system_url = database.config.system_url.as_deref().unwrap();
    for url in [database.config.url.as_str(), system_url] {
        let client = connect(url).await;
        for made in ["lo_creat(-1)", "lo_create(0)", "lo_from_bytea(0, 'a')"] {
            let refused = client.execute(&format!("SELECT {made}"), &[]).await;
            let code = refused.unwrap_err().code().unwrap().code().to_owned();
            assert_eq!(code, "42501", "{made}");
        }
    }
}
