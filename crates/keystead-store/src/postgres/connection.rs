//! One connection: TLS by the URL, statements prepared once, and several of them in one round trip.
//!
//! What always holds: statements of a pipeline are sent in order and every answer is looked at; a
//! connection on which anything went wrong between BEGIN and COMMIT is not used again.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use futures_util::TryStreamExt;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Config, NoTls, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::Error;
use crate::value::{Answer, Query, Row, Value};

/// How long a signed context is good for, in seconds: longer than a transaction takes.
const CONTEXT_SECONDS: u64 = 30;

/// Where to connect to, and how.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) config: Config,
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl Target {
    /// Reads a `postgres://` URL. `sslmode` is `disable`, or `require` (also written `verify-full`):
    /// certificates are always verified, against `sslrootcert` or the system's. Without it, TLS is
    /// required but for this machine itself.
    pub(crate) fn parse(url: &str) -> Result<Target, Error> {
        let wrong = |what: &str| Error::Setup(format!("the database's URL is wrong: {what}"));
        let (base, parameters) = url.split_once('?').unwrap_or((url, ""));
        let (mut mode, mut roots, mut kept) = (None, None, Vec::new());
        for parameter in parameters
            .split('&')
            .filter(|parameter| !parameter.is_empty())
        {
            match parameter.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value),
                Some(("sslrootcert", value)) => roots = Some(value),
                _ => kept.push(parameter),
            }
        }
        // The parser's own message may quote the URL, which holds a password.
        let mut config: Config = format!("{base}?{}", kept.join("&")).parse().map_err(|_| {
            wrong("it does not read as postgres://USER:PASSWORD@HOST:PORT/DATABASE")
        })?;
        let local = config.get_hosts().iter().all(|host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name) => matches!(name.as_str(), "127.0.0.1" | "::1" | "localhost"),
        });
        let tls = match mode {
            Some("disable") => None,
            None if local => None,
            None | Some("require" | "verify-full") => Some(Arc::new(client_tls(roots)?)),
            Some(_) => return Err(wrong("sslmode is disable, require or verify-full")),
        };
        config.ssl_mode(if tls.is_some() {
            SslMode::Require
        } else {
            SslMode::Disable
        });
        config.connect_timeout(Duration::from_secs(2));
        config.application_name("keystead");
        Ok(Target { config, tls })
    }

    /// Adds settings of the session.
    pub(crate) fn with_options(mut self, options: &str) -> Target {
        let given = self.config.get_options().unwrap_or_default();
        let options = format!("{given} -c search_path=keystead,pg_temp {options}");
        self.config.options(options.trim());
        self
    }

    /// Connects, and learns what the signed context is made from.
    pub(crate) async fn connect(&self) -> Result<Connection, Error> {
        const FAILED: &str = "connect to the database";
        let connecting = async {
            let client = self.client().await?;
            // The server's clock, so that a wrong one here cannot make contexts expire.
            let session =
                "SELECT pg_backend_pid(), floor(extract(epoch FROM clock_timestamp()))::bigint";
            let row = client.query_one(session, &[]).await?;
            Ok::<_, tokio_postgres::Error>((client, row))
        };
        let connected = tokio::time::timeout(Duration::from_secs(3), connecting).await;
        let (client, row) = connected
            .map_err(|_| Error::unavailable(FAILED))?
            .map_err(|fault| refused(fault, FAILED))?;
        Ok(Connection {
            client,
            statements: HashMap::new(),
            pid: row.get(0),
            epoch: u64::try_from(row.get::<_, i64>(1)).unwrap_or(0),
            since: Instant::now(),
        })
    }

    /// Connects, without a search path of ours being necessary.
    pub(crate) async fn client(&self) -> Result<Client, tokio_postgres::Error> {
        match &self.tls {
            None => {
                let (client, connection) = Box::pin(self.config.connect(NoTls)).await?;
                tokio::spawn(connection);
                Ok(client)
            }
            Some(tls) => {
                let tls = MakeRustlsConnect::new((**tls).clone());
                let (client, connection) = Box::pin(self.config.connect(tls)).await?;
                tokio::spawn(connection);
                Ok(client)
            }
        }
    }
}

/// A refused login is a matter of the set-up, not of the weather.
fn refused(fault: tokio_postgres::Error, context: &'static str) -> Error {
    match fault.code() {
        Some(code) if code.code().starts_with("28") || *code == SqlState::INVALID_CATALOG_NAME => {
            Error::Setup(
                "the database refuses the login: run `keystead setup postgres` and use the two \
                 URLs that it prints"
                    .to_owned(),
            )
        }
        _ => Error::because(context, fault),
    }
}

fn client_tls(roots: Option<&str>) -> Result<rustls::ClientConfig, Error> {
    let wrong = |fault: String| Error::Setup(format!("TLS to the database: {fault}"));
    let mut store = rustls::RootCertStore::empty();
    match roots {
        Some(path) => {
            let certificates = CertificateDer::pem_file_iter(Path::new(path))
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|fault| wrong(format!("sslrootcert {path}: {fault}")))?;
            store.add_parsable_certificates(certificates);
        }
        None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if store.is_empty() {
        return Err(wrong("there are no root certificates".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|fault| wrong(fault.to_string()))?;
    Ok(config.with_root_certificates(store).with_no_client_auth())
}

/// A connection and the statements that it has prepared.
pub(crate) struct Connection {
    client: Client,
    statements: HashMap<&'static str, Statement>,
    pid: i32,
    epoch: u64,
    since: Instant,
}

/// Which statement of a pipeline failed, and what those before it answered.
pub(crate) struct Broken {
    pub(crate) before: Vec<Answer>,
    pub(crate) fault: tokio_postgres::Error,
    /// Whether the server has answered to all of it, so that the connection can go on.
    pub(crate) settled: bool,
}

type Call<'a> = Pin<Box<dyn Future<Output = Result<Answer, tokio_postgres::Error>> + Send + 'a>>;

impl Connection {
    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// The context for a tenant, good for this connection and a short while.
    pub(crate) fn context(&self, key: &hmac::Key, tenant: &str) -> String {
        let expiry = self.epoch + self.since.elapsed().as_secs() + CONTEXT_SECONDS;
        sign_context(key, tenant, expiry, self.pid)
    }

    /// Prepares a statement, where it is not yet.
    pub(crate) async fn prepare(&mut self, sql: &'static str) -> Result<(), tokio_postgres::Error> {
        if !self.statements.contains_key(sql) {
            let statement = self.client.prepare(sql).await?;
            self.statements.insert(sql, statement);
        }
        Ok(())
    }

    /// Runs the statements one after the other in one round trip.
    pub(crate) async fn pipeline(&mut self, queries: &[Query]) -> Result<Vec<Answer>, Broken> {
        self.prepared(queries).await?;
        let calls = queries.iter().map(|query| self.call(query)).collect();
        in_order(calls).await
    }

    /// The same, with one statement of other values in between.
    pub(crate) async fn pipeline_with(
        &mut self,
        before: &[Query],
        sql: &'static str,
        values: &[&(dyn ToSql + Sync)],
        after: &[Query],
    ) -> Result<Vec<Answer>, Broken> {
        self.prepared(before).await?;
        self.prepared(after).await?;
        self.prepare(sql).await.map_err(unsettled)?;
        let mut calls: Vec<Call<'_>> = before.iter().map(|query| self.call(query)).collect();
        let statement = &self.statements[sql];
        calls.push(Box::pin(run(&self.client, statement, values.to_vec())));
        calls.extend(after.iter().map(|query| self.call(query)));
        in_order(calls).await
    }

    async fn prepared(&mut self, queries: &[Query]) -> Result<(), Broken> {
        for query in queries {
            self.prepare(query.sql).await.map_err(unsettled)?;
        }
        Ok(())
    }

    fn call<'a>(&'a self, query: &'a Query) -> Call<'a> {
        let values = query.params.iter().map(|value| value as _).collect();
        Box::pin(run(&self.client, &self.statements[query.sql], values))
    }
}

fn unsettled(fault: tokio_postgres::Error) -> Broken {
    Broken {
        before: Vec::new(),
        fault,
        settled: false,
    }
}

/// `tenant|expiry|backend|HMAC`, as the database's function checks it.
pub(crate) fn sign_context(key: &hmac::Key, tenant: &str, expiry: u64, pid: i32) -> String {
    use std::fmt::Write as _;
    let mut context = format!("{tenant}|{expiry}|{pid}");
    let tag = hmac::sign(key, context.as_bytes());
    context.push('|');
    for byte in tag.as_ref() {
        // Writing to a string cannot fail.
        let _ = write!(context, "{byte:02x}");
    }
    context
}

async fn run<'a>(
    client: &'a Client,
    statement: &'a Statement,
    values: Vec<&'a (dyn ToSql + Sync)>,
) -> Result<Answer, tokio_postgres::Error> {
    let found = client.query_raw(statement, values).await?;
    let mut found = std::pin::pin!(found);
    let mut rows = Vec::new();
    while let Some(row) = found.try_next().await? {
        let values =
            (0..row.len()).map(|column| row.try_get::<_, Column>(column).map(|column| column.0));
        rows.push(Row::new(values.collect::<Result<_, _>>()?));
    }
    let affected = found.rows_affected().unwrap_or(0);
    Ok(Answer { rows, affected })
}

/// Polls the calls from the first to the last, so that they are sent in that order (the usual
/// joins do not promise it). One that fails at once was perhaps never sent: those after it are not
/// sent then, lest a COMMIT should follow half a transaction.
async fn in_order(mut calls: Vec<Call<'_>>) -> Result<Vec<Answer>, Broken> {
    let mut results: Vec<Option<Result<Answer, tokio_postgres::Error>>> = Vec::new();
    results.resize_with(calls.len(), || None);
    let (mut sending, mut settled) = (true, true);
    poll_fn(|context| {
        let mut waiting = false;
        for index in 0..calls.len() {
            if results[index].is_some() {
                continue;
            }
            match calls[index].as_mut().poll(context) {
                Poll::Pending => waiting = true,
                Poll::Ready(result) => {
                    let failed = result.is_err();
                    results[index] = Some(result);
                    if failed && sending {
                        settled = index + 1 == calls.len();
                        calls.truncate(index + 1);
                        break;
                    }
                }
            }
        }
        sending = false;
        if waiting {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
    let mut before = Vec::with_capacity(results.len());
    for result in results.into_iter().flatten() {
        match result {
            Ok(answer) => before.push(answer),
            Err(fault) => {
                let settled = settled && fault.as_db_error().is_some();
                return Err(Broken {
                    before,
                    fault,
                    settled,
                });
            }
        }
    }
    Ok(before)
}

/// A column of one of the three types that the schema uses.
struct Column(Value);

impl<'a> FromSql<'a> for Column {
    fn from_sql(
        kind: &Type,
        raw: &'a [u8],
    ) -> Result<Column, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Column(match *kind {
            Type::INT8 => Value::Integer(i64::from_sql(kind, raw)?),
            Type::INT4 => Value::Integer(i64::from(i32::from_sql(kind, raw)?)),
            Type::BOOL => Value::Integer(i64::from(bool::from_sql(kind, raw)?)),
            Type::BYTEA => Value::Bytes(raw.to_vec()),
            _ => Value::Text(String::from_sql(kind, raw)?.into()),
        }))
    }

    fn from_sql_null(_: &Type) -> Result<Column, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Column(Value::Null))
    }

    fn accepts(kind: &Type) -> bool {
        matches!(*kind, Type::INT8 | Type::INT4 | Type::BOOL | Type::BYTEA)
            || <String as FromSql<'_>>::accepts(kind)
    }
}

impl ToSql for Value {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut tokio_postgres::types::private::BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Value::Null => Ok(IsNull::Yes),
            Value::Integer(value) => value.to_sql_checked(kind, out),
            Value::Text(text) => text.as_ref().to_sql_checked(kind, out),
            Value::Bytes(bytes) => bytes.as_slice().to_sql_checked(kind, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl std::fmt::Debug for Value {
    /// Values are never shown: the driver formats parameters for its own log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}
