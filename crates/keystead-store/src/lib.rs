//! Rows: the only crate that speaks SQL to Keystead's own database, SQLite or PostgreSQL.
//!
//! What always holds: every change goes through [`Store::append`] and commits together with its
//! audit entry; every statement is static text and names the tenant whose rows it touches; on
//! PostgreSQL tenants' rows are also behind forced row-level security under a signed context; a
//! failing database is never reported as a missing row.
//!
//! Deliberately not here: what is in a sealed column, and who may read a row (broker).

mod append;
mod authorization;
mod connect_session;
mod duty;
mod effect;
mod error;
mod idempotency;
mod installation;
mod integration;
mod key;
mod log;
mod member;
mod migrate;
mod note;
mod postgres;
mod revocation;
mod rotation;
mod sqlite;
mod tenant;
mod token_set;
mod value;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

pub use append::{Receipt, Write};
pub use authorization::AuthorizationRow;
pub use connect_session::{ConnectSessionRow, Open};
pub use effect::Effect;
pub use error::Error;
pub use idempotency::IdempotencyRow;
pub use installation::InstallationRow;
pub use integration::{
    CredentialRow, IntegrationChange, IntegrationFilter, IntegrationRow, RevocationSelector,
    RevokeIntegration, Status,
};
pub use key::{KeyKind, KeyRow};
pub use log::{Change, EntryFilter, EntryRow, Head};
pub use member::MemberRow;
pub use note::{LimitCount, Note};
pub use postgres::{Setup, SetupReport, setup_postgres};
pub use revocation::{
    BatchRow, RevocationCounts, RevocationRow, RevocationState, SettleRevocation,
};
pub use rotation::RotationRow;
pub use tenant::{TenantKeyRow, TenantKeyState, TenantRow, TenantState};
pub use token_set::{
    MarkReauthorize, ReleaseRenewal, StoreTokens, TakeRenewal, TokenSetRow, TokenState,
};

use value::{Answer, Query, Row, Scope};

/// Where the database is, and how long to wait for it.
#[derive(Clone)]
pub struct StoreConfig {
    /// `sqlite:PATH`, `sqlite::memory:`, or `postgres://…` as the role `keystead_app`.
    pub url: String,
    /// `postgres://…` as the role `keystead_system`; PostgreSQL only.
    pub system_url: Option<String>,
    /// Connections per role; PostgreSQL only.
    pub connections: usize,
    /// How long a caller waits before `Unavailable`.
    pub deadline: Duration,
}

impl StoreConfig {
    /// The defaults for a URL.
    pub fn new(url: impl Into<String>) -> StoreConfig {
        StoreConfig {
            url: url.into(),
            system_url: None,
            connections: 8,
            deadline: Duration::from_secs(2),
        }
    }

    /// The same with the URL of the role `keystead_system`.
    pub fn with_system_url(mut self, url: impl Into<String>) -> StoreConfig {
        self.system_url = Some(url.into());
        self
    }
}

/// Keystead's database. Clones share it.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    backend: Backend,
    deadline: Duration,
}

enum Backend {
    Postgres(postgres::Postgres),
    Sqlite(sqlite::Sqlite),
}

impl Backend {
    async fn append(&self, write: Write) -> Result<Receipt, Error> {
        match self {
            Backend::Postgres(postgres) => postgres.append(write).await,
            Backend::Sqlite(sqlite) => sqlite.append(write).await,
        }
    }
}

impl Store {
    /// Opens the database: migrates SQLite, checks PostgreSQL.
    pub async fn open(config: StoreConfig) -> Result<Store, Error> {
        let backend = if config.url.starts_with("sqlite:") {
            Backend::Sqlite(sqlite::Sqlite::open(&config).await?)
        } else if config.url.starts_with("postgres://") || config.url.starts_with("postgresql://") {
            Backend::Postgres(postgres::Postgres::open(&config).await?)
        } else {
            return Err(Error::Setup(
                "store.url must begin with sqlite: or postgres://".to_owned(),
            ));
        };
        let deadline = config.deadline;
        Ok(Store(Arc::new(Inner { backend, deadline })))
    }

    /// Whether the database answers; one round trip.
    pub async fn ready(&self) -> Result<(), Error> {
        self.head().await.map(drop)
    }

    /// Whether several nodes can serve from it.
    pub fn is_shared(&self) -> bool {
        match &self.0.backend {
            Backend::Postgres(_) => true,
            Backend::Sqlite(_) => false,
        }
    }

    /// The key of the signed context, as `keystead setup postgres` made it: to be sealed into the
    /// installation's row at the first start, after which the database no longer tells it.
    /// `None` where there is none to take.
    pub async fn take_context_key(&self) -> Result<Option<[u8; 32]>, Error> {
        match &self.0.backend {
            Backend::Postgres(postgres) => {
                self.in_time(Box::pin(postgres.take_context_key())).await
            }
            Backend::Sqlite(_) => Ok(None),
        }
    }

    /// Hands over the opened key of the signed context. Until then PostgreSQL shows no tenant's
    /// rows, and reading them is `Unavailable`.
    pub fn set_context_key(&self, key: [u8; 32]) {
        match &self.0.backend {
            Backend::Postgres(postgres) => postgres.set_context_key(key),
            Backend::Sqlite(_) => {}
        }
    }

    /// Proves that the database isolates tenants, or says why the server must not start. SQLite
    /// has nothing to prove: there the statements alone isolate.
    pub async fn prove_isolation(&self) -> Result<(), Error> {
        match &self.0.backend {
            Backend::Postgres(postgres) => postgres.prove_isolation().await,
            Backend::Sqlite(_) => Ok(()),
        }
    }

    fn backend(&self) -> &Backend {
        &self.0.backend
    }

    /// Runs statements that only read, in one transaction.
    async fn read(&self, scope: Scope, queries: Vec<Query>) -> Result<Vec<Answer>, Error> {
        queries.iter().try_for_each(Query::check)?;
        let answers = async {
            match &self.0.backend {
                Backend::Postgres(postgres) => postgres.read(scope, queries).await,
                Backend::Sqlite(sqlite) => sqlite.read(queries).await,
            }
        };
        // Boxed: what a driver keeps across its awaits is large, and every caller would carry it.
        self.in_time(Box::pin(answers)).await
    }

    /// Runs bookkeeping statements, in one transaction.
    async fn write(&self, scope: Scope, queries: Vec<Query>) -> Result<Vec<Answer>, Error> {
        queries.iter().try_for_each(Query::check)?;
        let answers = async {
            match &self.0.backend {
                Backend::Postgres(postgres) => postgres.write(scope, queries).await,
                Backend::Sqlite(sqlite) => sqlite.write(queries).await,
            }
        };
        self.in_time(Box::pin(answers)).await
    }

    async fn in_time<T>(&self, work: BoxFuture<'_, Result<T, Error>>) -> Result<T, Error> {
        tokio::time::timeout(self.0.deadline, work)
            .await
            .unwrap_or_else(|_| Err(Error::unavailable("the database did not answer in time")))
    }

    async fn all<T>(
        &self,
        scope: Scope,
        query: Query,
        read: impl Fn(Row) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let answers = self.read(scope, vec![query]).await?;
        let rows = answers.into_iter().flat_map(|answer| answer.rows);
        rows.map(read).collect()
    }

    async fn opt(&self, scope: Scope, query: Query) -> Result<Option<Row>, Error> {
        let answers = self.read(scope, vec![query]).await?;
        Ok(answers.into_iter().flat_map(|answer| answer.rows).next())
    }

    async fn one(&self, scope: Scope, query: Query) -> Result<Row, Error> {
        self.opt(scope, query).await?.ok_or(Error::Corrupt {
            what: "a table of one row",
        })
    }
}
