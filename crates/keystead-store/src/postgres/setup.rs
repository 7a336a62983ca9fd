//! Makes what Keystead needs in a PostgreSQL database: roles, schema, grants, the context's key.
//!
//! What always holds: it can be run again, and then migrates; passwords reach the server as SCRAM
//! verifiers only; nothing that runs as a request or a job owns anything.

use std::fmt::Write as _;

use postgres_protocol::password::scram_sha_256;
use tokio_postgres::Client;
use tokio_postgres::config::Host;
use tokio_postgres::types::ToSql;

use super::connection::Target;
use crate::Error;
use crate::migrate::{self, Applied, MIGRATIONS};
use crate::value::{Row, Value};

/// What to set up. The caller brings the randomness.
pub struct Setup {
    /// A superuser's (or a `CREATEROLE` database owner's) URL; its database is the one set up.
    pub admin_url: String,
    /// For the password of `keystead_app`.
    pub app_password: [u8; 32],
    /// For the password of `keystead_system`.
    pub system_password: [u8; 32],
    /// The key of the signed context; kept only where there is none yet.
    pub context_key: [u8; 32],
    /// Set the passwords of roles that exist already. Running servers then cannot connect anew.
    pub new_passwords: bool,
}

/// What was set up.
pub struct SetupReport {
    /// `store.url`.
    pub url: String,
    /// `store.system_url`.
    pub system_url: String,
    /// Whether the URLs hold passwords: they do not where the roles existed and keep theirs.
    pub passwords_set: bool,
    /// The migrations that were applied.
    pub applied: Vec<&'static str>,
}

/// Roles belong to the whole cluster, so another database's set-up may make them at the same time.
const ROLES: &str = "DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['keystead_owner', 'keystead_app', 'keystead_system'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOCREATEDB NOREPLICATION', name);
            END IF;
        EXCEPTION WHEN unique_violation OR duplicate_object THEN
            NULL;
        END;
    END LOOP;
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('GRANT keystead_owner TO %I', current_user);
    END IF;
END
$$";
const CAN_LOG_IN: &str = "SELECT count(*) FROM pg_roles WHERE rolcanlogin AND rolname IN ('keystead_app', 'keystead_system')";
const SET_VERIFIERS: &str = "SELECT set_config('keystead.app_verifier', $1, false), set_config('keystead.system_verifier', $2, false)";
const PASSWORDS: &str = "DO $$
BEGIN
    EXECUTE format('ALTER ROLE keystead_app LOGIN PASSWORD %L', current_setting('keystead.app_verifier'));
    EXECUTE format('ALTER ROLE keystead_system LOGIN PASSWORD %L', current_setting('keystead.system_verifier'));
END
$$";
const SCHEMA: &str = "DO $$
BEGIN
    CREATE SCHEMA IF NOT EXISTS keystead AUTHORIZATION keystead_owner;
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO keystead_app, keystead_system', current_database());
    IF EXISTS (SELECT FROM pg_namespace WHERE nspname = 'public') THEN
        REVOKE CREATE ON SCHEMA public FROM PUBLIC;
    END IF;
END
$$";
/// Large objects are of no schema and no tenant. Only a superuser can take them away from everyone;
/// for another admin it does nothing.
const NO_LARGE_OBJECTS: &str = "DO $$
DECLARE
    maker regprocedure;
BEGIN
    FOR maker IN SELECT oid FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
        AND proname IN ('lo_creat', 'lo_create', 'lo_from_bytea', 'lo_import')
        AND (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
        AND has_function_privilege('public', oid, 'EXECUTE')
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', maker);
    END LOOP;
EXCEPTION WHEN internal_error THEN
    NULL; -- Another set-up of this database does the same at the same time.
END
$$";
/// The lock makes a second set-up of the same database wait for the first.
const AS_OWNER: &str = "SET LOCAL ROLE keystead_owner;
SET LOCAL search_path = keystead, pg_temp;
CREATE TABLE IF NOT EXISTS migration (
    number BIGINT NOT NULL, name TEXT NOT NULL, checksum BYTEA NOT NULL, PRIMARY KEY (number)
);
LOCK TABLE migration IN SHARE ROW EXCLUSIVE MODE";
const KEEP_KEY: &str = "INSERT INTO context_key (one, inner_pad, outer_pad) SELECT 1, $1, $2 \
     WHERE NOT EXISTS (SELECT FROM context_key)";

/// Sets a database up, or brings it up to date.
pub async fn setup_postgres(setup: Setup) -> Result<SetupReport, Error> {
    let target = Target::parse(&setup.admin_url)?;
    let mut client = target.client().await.map_err(failed)?;
    client.batch_execute(ROLES).await.map_err(failed)?;
    let existed: i64 = client
        .query_one(CAN_LOG_IN, &[])
        .await
        .map_err(failed)?
        .get(0);
    let passwords_set = existed < 2 || setup.new_passwords;
    let (app, system) = (hex(&setup.app_password), hex(&setup.system_password));
    if passwords_set {
        let verifiers = [
            scram_sha_256(app.as_bytes()),
            scram_sha_256(system.as_bytes()),
        ];
        let set = client
            .query_one(SET_VERIFIERS, &[&verifiers[0], &verifiers[1]])
            .await;
        set.map_err(failed)?;
        client.batch_execute(PASSWORDS).await.map_err(failed)?;
    }
    client.batch_execute(SCHEMA).await.map_err(failed)?;
    client
        .batch_execute(NO_LARGE_OBJECTS)
        .await
        .map_err(failed)?;
    let applied = migrate(&mut client, &setup.context_key).await?;
    let url = |user: &str, password: &str| {
        let password = passwords_set.then_some(password);
        url(&target, &setup.admin_url, user, password)
    };
    Ok(SetupReport {
        url: url("keystead_app", &app),
        system_url: url("keystead_system", &system),
        passwords_set,
        applied,
    })
}

fn failed(fault: tokio_postgres::Error) -> Error {
    // What the server says of a set-up is for the operator, and holds no password.
    let said = fault
        .as_db_error()
        .map_or_else(|| fault.to_string(), |fault| fault.message().to_owned());
    Error::Setup(format!("cannot set the database up: {said}"))
}

async fn migrate(client: &mut Client, key: &[u8; 32]) -> Result<Vec<&'static str>, Error> {
    let transaction = client.transaction().await.map_err(failed)?;
    transaction.batch_execute(AS_OWNER).await.map_err(failed)?;
    let rows = transaction
        .query(migrate::APPLIED, &[])
        .await
        .map_err(failed)?;
    let applied = rows
        .iter()
        .map(|row| {
            let name: String = row.get(1);
            let values = vec![
                Value::from(row.get::<_, i64>(0)),
                Value::from(name),
                Value::from(row.get::<_, Vec<u8>>(2)),
            ];
            Applied::read(Row::new(values))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let pending = migrate::pending(MIGRATIONS, &applied, |known| known.postgres)?;
    for migration in pending {
        transaction
            .batch_execute(migration.postgres)
            .await
            .map_err(failed)?;
        let checksum = migrate::checksum(migration.postgres);
        let values: [&(dyn ToSql + Sync); 3] = [&migration.number, &migration.name, &checksum];
        let recorded = transaction.execute(migrate::RECORD, &values).await;
        recorded.map_err(failed)?;
    }
    let (inner, outer) = (pad(key, 0x36), pad(key, 0x5c));
    transaction
        .execute(KEEP_KEY, &[&inner, &outer])
        .await
        .map_err(failed)?;
    transaction.commit().await.map_err(failed)?;
    Ok(pending.iter().map(|migration| migration.name).collect())
}

/// One of the two keys that HMAC ([RFC 2104](https://www.rfc-editor.org/rfc/rfc2104#section-2)) makes
/// of one.
fn pad(key: &[u8; 32], with: u8) -> Vec<u8> {
    let mut pad = vec![with; 64];
    pad.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
    pad
}

/// The key that the inner pad was made of.
pub(super) fn key_of(inner_pad: &[u8]) -> Option<[u8; 32]> {
    let mut key = *inner_pad.first_chunk::<32>()?;
    key.iter_mut().for_each(|byte| *byte ^= 0x36);
    Some(key)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The admin's URL for another user: the same hosts, database and parameters.
fn url(target: &Target, admin_url: &str, user: &str, password: Option<&str>) -> String {
    let config = &target.config;
    let ports = config.get_ports();
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(index, host)| {
            let host = match host {
                Host::Tcp(name) if name.contains(':') => format!("[{name}]"),
                Host::Tcp(name) => name.clone(),
                Host::Unix(path) => path.display().to_string().replace('/', "%2F"),
            };
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            format!("{host}:{port}")
        })
        .collect();
    let database = config
        .get_dbname()
        .or(config.get_user())
        .unwrap_or("postgres");
    let mut url = format!("postgres://{user}");
    if let Some(password) = password {
        let _ = write!(url, ":{password}");
    }
    let _ = write!(url, "@{}/{}", hosts.join(","), encoded(database));
    if let Some((_, parameters)) = admin_url.split_once('?') {
        let _ = write!(url, "?{parameters}");
    }
    url
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => out.push(byte.into()),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
        out
    })
}
