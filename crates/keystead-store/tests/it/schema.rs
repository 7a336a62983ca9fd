//! The schema: the same on both databases, under the rules for tenants' tables, and never adrift.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use keystead_core::ids::TenantId;
use keystead_store::{Error, Store, StoreConfig, setup_postgres};
use rusqlite::Connection;
use tokio_postgres::{Client, NoTls};

use crate::fixture::*;

async fn admin(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
        .batch_execute("SET search_path = keystead")
        .await
        .unwrap();
    client
}

async fn texts(client: &Client, sql: &str) -> Vec<String> {
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Tables, each as its columns, keys and foreign keys in words.
type Schema = BTreeMap<String, BTreeSet<String>>;

fn of_sqlite(path: &Path) -> Schema {
    let sqlite = Connection::open(path).unwrap();
    let all = |sql: &str| -> Vec<Vec<String>> {
        let mut statement = sqlite.prepare(sql).unwrap();
        let columns = statement.column_count();
        let rows = statement.query_map([], |row| {
            (0..columns).map(|column| row.get(column)).collect()
        });
        rows.unwrap().map(Result::unwrap).collect()
    };
    let mut schema = Schema::new();
    for table in all("SELECT name FROM sqlite_schema WHERE type = 'table'").concat() {
        let facts = schema.entry(table.clone()).or_default();
        let columns = format!(
            "SELECT name, type, CAST(\"notnull\" AS TEXT) FROM pragma_table_info('{table}')"
        );
        for column in all(&columns) {
            facts.insert(format!("{} {} {}", column[0], column[1], column[2]));
        }
        let indexes = format!(
            "SELECT name FROM pragma_index_list('{table}') WHERE \"unique\" AND NOT partial"
        );
        for index in all(&indexes).concat() {
            let columns = all(&format!("SELECT name FROM pragma_index_info('{index}')")).concat();
            facts.insert(format!("unique {}", columns.join(" ")));
        }
        let key = all(&format!(
            "SELECT name FROM pragma_table_info('{table}') WHERE pk > 0 ORDER BY pk"
        ))
        .concat();
        facts.insert(format!("unique {}", key.join(" ")));
        let foreign = format!(
            "SELECT \"table\", group_concat(\"from\", ' '), on_delete FROM pragma_foreign_key_list('{table}') GROUP BY id"
        );
        for key in all(&foreign) {
            facts.insert(format!("foreign {} {} {}", key[0], key[1], key[2]));
        }
    }
    schema
}

async fn of_postgres(client: &Client) -> Schema {
    let mut schema = Schema::new();
    let columns = "SELECT table_name::text, column_name::text, data_type::text, (is_nullable = 'NO')::int FROM information_schema.columns \
         WHERE table_schema = 'keystead'";
    for row in client.query(columns, &[]).await.unwrap() {
        let kind = match row.get(2) {
            "bigint" => "INTEGER",
            "bytea" => "BLOB",
            "text" => "TEXT",
            other => panic!("a column of type {other}"),
        };
        let (name, required): (&str, i32) = (row.get(1), row.get(3));
        schema
            .entry(row.get(0))
            .or_default()
            .insert(format!("{name} {kind} {required}"));
    }
    let keys = "SELECT c.conrelid::regclass::text, c.contype::text, \
         (SELECT string_agg(a.attname, ' ' ORDER BY k.place) FROM unnest(c.conkey) WITH ORDINALITY k(number, place) \
             JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.number), \
         CASE WHEN c.contype = 'f' THEN c.confrelid::regclass::text END, c.confdeltype::text \
         FROM pg_constraint c WHERE c.connamespace = 'keystead'::regnamespace AND c.contype IN ('p', 'u', 'f')";
    for row in client.query(keys, &[]).await.unwrap() {
        let (kind, columns): (&str, &str) = (row.get(1), row.get(2));
        let fact = match kind {
            "f" => {
                let action = if row.get::<_, &str>(4) == "c" {
                    "CASCADE"
                } else {
                    "NO ACTION"
                };
                format!("foreign {} {columns} {action}", row.get::<_, &str>(3))
            }
            _ => format!("unique {columns}"),
        };
        schema.entry(row.get(0)).or_default().insert(fact);
    }
    schema
}

#[tokio::test]
async fn both_databases_have_one_schema() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keystead.db");
    Store::open(StoreConfig::new(format!("sqlite:{}", path.display())))
        .await
        .unwrap();
    let client = admin(&database().await.admin_url).await;
    let (sqlite, mut postgres) = (of_sqlite(&path), of_postgres(&client).await);
    // The signed context is PostgreSQL's alone.
    postgres.remove("context_key").unwrap();
    assert_eq!(sqlite, postgres);
}

#[tokio::test]
async fn every_table_keeps_the_rules_for_tenants() {
    let client = admin(&database().await.admin_url).await;
    let none = [
        (
            "a table without forced row-level security",
            "SELECT relname::text FROM pg_class WHERE relnamespace = 'keystead'::regnamespace AND relkind IN ('r', 'p') \
          AND NOT (relrowsecurity AND relforcerowsecurity)",
        ),
        (
            "a table without a policy",
            "SELECT relname::text FROM pg_class c WHERE relnamespace = 'keystead'::regnamespace AND relkind = 'r' \
          AND NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid)",
        ),
        (
            "a tenants' table that the app role is not restricted on, for all commands, in both clauses",
            "SELECT c.relname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' \
          WHERE c.relnamespace = 'keystead'::regnamespace AND c.relkind = 'r' AND NOT EXISTS (SELECT FROM pg_policies p \
          WHERE p.schemaname = 'keystead' AND p.tablename = c.relname AND p.permissive = 'RESTRICTIVE' AND p.cmd = 'ALL' \
          AND 'keystead_app' = ANY (p.roles) AND p.qual LIKE '%tenant_id = ( SELECT %tenant()%' AND p.with_check = p.qual)",
        ),
        (
            "a policy that shows all to the app role",
            "SELECT tablename || '.' || policyname FROM pg_policies WHERE schemaname = 'keystead' AND 'keystead_app' = ANY (roles) \
          AND qual NOT LIKE '%tenant()%' AND tablename <> 'migration'",
        ),
        (
            "a policy for everybody",
            "SELECT tablename || '.' || policyname FROM pg_policies WHERE schemaname = 'keystead' AND 'public' = ANY (roles)",
        ),
        (
            "a key of a tenants' table without the tenant",
            "SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid \
          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' \
          WHERE c.relnamespace = 'keystead'::regnamespace AND i.indisunique AND NOT a.attnum = ANY (i.indkey)",
        ),
        (
            "a foreign key without the tenant",
            "SELECT conname::text FROM pg_constraint f JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attname = 'tenant_id' \
          WHERE f.connamespace = 'keystead'::regnamespace AND f.contype = 'f' AND NOT a.attnum = ANY (f.conkey)",
        ),
        (
            "a tenant that can be missing, or a computed default",
            "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'keystead' \
          AND (column_name = 'tenant_id' AND is_nullable = 'YES' OR column_default IS NOT NULL)",
        ),
        (
            "a tenants' table without the trigger",
            "SELECT c.relname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' \
          WHERE c.relnamespace = 'keystead'::regnamespace AND c.relkind = 'r' \
          AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid AND tgname = 'tenant_stays')",
        ),
        (
            "a function without a fixed search path, or for everybody",
            "SELECT proname::text FROM pg_proc WHERE pronamespace = 'keystead'::regnamespace AND (proconfig IS NULL \
          OR NOT 'search_path=pg_catalog, pg_temp' = ANY (proconfig) OR has_function_privilege('public', oid, 'EXECUTE'))",
        ),
        (
            "a view, sequence, foreign or materialised table, or rule",
            "SELECT relname::text FROM pg_class WHERE relnamespace = 'keystead'::regnamespace AND relkind NOT IN ('r', 'i') \
          UNION ALL SELECT rulename::text FROM pg_rules WHERE schemaname = 'keystead'",
        ),
        (
            "a privilege of everybody, or one that goes around the policies",
            "SELECT table_name || ' ' || grantee || ' ' || privilege_type FROM information_schema.role_table_grants \
          WHERE table_schema = 'keystead' AND grantee <> 'keystead_owner' AND grantee <> 'postgres' \
          AND (grantee = 'PUBLIC' OR privilege_type IN ('TRUNCATE', 'REFERENCES', 'TRIGGER') \
          OR grantee = 'keystead_app' AND privilege_type <> 'SELECT' \
          OR table_name = 'entry' AND privilege_type IN ('UPDATE', 'DELETE'))",
        ),
        (
            "default privileges",
            "SELECT defaclobjtype::text FROM pg_default_acl",
        ),
        (
            "something not owned by the owner",
            "SELECT relname::text FROM pg_class WHERE relnamespace = 'keystead'::regnamespace AND relowner <> 'keystead_owner'::regrole",
        ),
    ];
    for (what, sql) in none {
        assert_eq!(texts(&client, sql).await, Vec::<String>::new(), "{what}");
    }
    let tables = "SELECT count(*)::text FROM information_schema.columns WHERE table_schema = 'keystead' AND column_name = 'tenant_id'";
    assert_eq!(texts(&client, tables).await, ["14"]);
}

#[tokio::test]
async fn a_set_up_can_be_run_again_and_keeps_the_passwords() {
    let database = database().await;
    let store = database.open().await;
    let (tenant, _) = tenant(&store).await;
    let mut again = setup(&database.admin_url);
    again.context_key = [7; 32];
    let report = setup_postgres(again).await.unwrap();
    assert!(!report.passwords_set && report.applied.is_empty());
    assert!(
        report.url.starts_with("postgres://keystead_app@127.0.0.1:"),
        "{}",
        report.url
    );
    assert!(
        store
            .find_member(tenant, "dev", "alice")
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn a_password_never_reaches_the_server() {
    let database = database().await;
    let client = admin(&database.admin_url).await;
    let stored = texts(
        &client,
        "SELECT rolpassword FROM pg_authid WHERE rolname LIKE 'keystead%' AND rolcanlogin",
    )
    .await;
    assert_eq!(stored.len(), 2);
    assert!(
        stored
            .iter()
            .all(|stored| stored.starts_with("SCRAM-SHA-256$"))
    );
    assert!(
        !keystead_testkit::postgres::shared()
            .unwrap()
            .log()
            .contains(&"01".repeat(32))
    );
}

fn told(opened: Result<Store, Error>) -> String {
    match opened {
        Err(Error::Drift(text) | Error::Setup(text)) => text,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it was opened"),
    }
}

#[tokio::test]
async fn a_database_that_went_another_way_stops_the_start() {
    let database = database().await;
    let client = admin(&database.admin_url).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keystead.db");
    let config = StoreConfig::new(format!("sqlite:{}", path.display()));
    drop(Store::open(config.clone()).await.unwrap());
    let sqlite = Connection::open(&path).unwrap();
    let newer = "INSERT INTO migration (number, name, checksum) VALUES (999, '0999_later', ";
    client
        .batch_execute(&format!("{newer} sha256('x'))"))
        .await
        .unwrap();
    sqlite
        .execute_batch(&format!("{newer} zeroblob(32))"))
        .unwrap();
    for config in [&database.config, &config] {
        assert!(told(Store::open(config.clone()).await).contains("0999_later"));
    }
    let changed = "DELETE FROM migration WHERE number = 999; UPDATE migration SET checksum = ";
    client
        .batch_execute(&format!("{changed} sha256('x')"))
        .await
        .unwrap();
    sqlite
        .execute_batch(&format!("{changed} zeroblob(32)"))
        .unwrap();
    for config in [&database.config, &config] {
        assert!(told(Store::open(config.clone()).await).contains("changed after its release"));
    }
    client.batch_execute("DELETE FROM migration").await.unwrap();
    assert!(
        told(Store::open(database.config.clone()).await)
            .contains("run `keystead setup postgres` again")
    );
}

#[tokio::test]
async fn a_database_that_was_not_set_up_says_what_to_do() {
    let admin_url =
        tokio::task::spawn_blocking(|| keystead_testkit::postgres::shared().unwrap().database());
    let admin_url = admin_url.await.unwrap().unwrap();
    for system_url in [None, Some(admin_url.clone())] {
        let config = StoreConfig {
            system_url,
            ..StoreConfig::new(&admin_url)
        };
        assert!(told(Store::open(config).await).contains("keystead setup postgres"));
    }
    assert!(told(Store::open(StoreConfig::new("mysql://x")).await).contains("postgres://"));
    let secret = "postgres://u:canary@[h/db".to_owned();
    let config = StoreConfig::new(secret.clone()).with_system_url(secret);
    assert!(!told(Store::open(config).await).contains("canary"));
}

#[tokio::test]
async fn a_sqlite_file_is_its_owners_and_its_log_cannot_be_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data/keystead.db");
    let store = Store::open(StoreConfig::new(format!("sqlite:{}", path.display())))
        .await
        .unwrap();
    append(&store, TenantId::PLATFORM, vec![]).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    for file in fs::read_dir(path.parent().unwrap()).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
    let sqlite = Connection::open(&path).unwrap();
    for sql in ["UPDATE entry SET leaf = 'x'", "DELETE FROM entry"] {
        assert!(
            sqlite
                .execute_batch(sql)
                .unwrap_err()
                .to_string()
                .contains("never change")
        );
    }
}

/// Every statement of the source, as text between quotes that begins like one.
fn statements() -> Vec<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![source];
    while let Some(folder) = folders.pop() {
        for file in fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(path).unwrap();
            for literal in text.split('"') {
                let literal = literal.replace("\\\n", " ");
                let words: Vec<&str> = literal.split_whitespace().collect();
                if matches!(
                    words.first(),
                    Some(&("SELECT" | "INSERT" | "UPDATE" | "DELETE" | "WITH"))
                ) {
                    found.push(words.join(" "));
                }
            }
        }
    }
    found
}

#[test]
fn every_statement_on_a_tenants_table_names_the_tenant() {
    const TABLES: [&str; 14] = [
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
    // Those that look across tenants: lookups that find the tenant, what is due, the log as a whole, and the proof
    // that nothing shows. A new one needs a policy of its own, and a line here.
    const ACROSS: [&str; 31] = [
        "SELECT 1 FROM connect_session LIMIT 1",
        "SELECT 1 FROM credential LIMIT 1",
        "SELECT 1 FROM entry LIMIT 1",
        "SELECT 1 FROM idempotency LIMIT 1",
        "SELECT 1 FROM integration LIMIT 1",
        "SELECT 1 FROM member LIMIT 1",
        "SELECT 1 FROM pending_authorization LIMIT 1",
        "SELECT 1 FROM revocation_batch LIMIT 1",
        "SELECT 1 FROM rotation LIMIT 1",
        "SELECT 1 FROM token_set LIMIT 1",
        "FROM api_key WHERE hash = $1",
        "FROM api_key WHERE key_id = $1",
        "FROM api_key WHERE key_id > $1",
        "FROM connect_session WHERE expires_at < $1 LIMIT $2",
        "FROM connect_session WHERE hash = $1",
        "FROM entry WHERE changed = 1 AND seq >= $1",
        "FROM entry WHERE seq >= $1 AND seq < $2",
        "FROM pending_authorization WHERE expires_at < $1 LIMIT $2",
        "FROM pending_authorization WHERE state_hash = $1",
        "FROM revocation WHERE batch_tenant = $1 AND batch_id = $2",
        "FROM revocation WHERE next_at <= $1",
        "FROM revocation_batch WHERE batch_id = $1",
        "FROM revocation_batch WHERE batch_id = duty.name",
        "FROM revocation_batch WHERE closed_at IS NULL AND batch_id > $1",
        "FROM rotation WHERE next_at <= $1",
        "FROM tenant WHERE tenant_id > $1",
        "FROM tenant_name n JOIN tenant t ON t.tenant_id = n.owner",
        "FROM token_set WHERE problem LIKE 'client:%'",
        "FROM token_set WHERE renew_at <= $1",
        "INSERT INTO entry (tenant_id",
        "INSERT INTO tenant_name",
    ];
    let statements = statements();
    assert!(statements.len() > 50, "{}", statements.len());
    for sql in statements {
        let words: Vec<&str> = sql
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .collect();
        let touches = words.windows(2).any(|pair| {
            matches!(pair[0], "FROM" | "INTO" | "UPDATE" | "JOIN") && TABLES.contains(&pair[1])
        });
        if !touches || ACROSS.iter().any(|known| sql.contains(known)) {
            continue;
        }
        let inserts = sql.starts_with("INSERT INTO") && sql.contains("(tenant_id, ");
        assert!(inserts || sql.contains("tenant_id = $"), "{sql}");
    }
}

#[test]
fn values_are_numbered_in_the_order_of_their_first_use() {
    for sql in statements() {
        let mut next = 1;
        for number in sql.split('$').skip(1) {
            let number: String = number.chars().take_while(char::is_ascii_digit).collect();
            let Ok(number) = number.parse::<u32>() else {
                continue;
            };
            assert!(number <= next, "{sql}");
            next = next.max(number + 1);
        }
    }
}
