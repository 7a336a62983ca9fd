//! PostgreSQL: two pools, one per role, and the task that appends.
//!
//! What always holds: requests read as `keystead_app`, which can change nothing; a tenant's rows are
//! reached only in a transaction that carries a context signed for that tenant, and a context that
//! the database does not accept is an error, never an empty answer. A transaction goes out in one
//! round trip, so a caller who goes away leaves nothing behind on the connection.

mod append;
mod connection;
mod prove;
mod setup;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_lc_rs::hmac;
use deadpool::Runtime;
use deadpool::managed::{Manager, Metrics, Object, Pool, RecycleError, RecycleResult};
use keystead_core::ids::TenantId;
use tokio_postgres::error::SqlState;

pub use setup::{Setup, SetupReport, setup_postgres};

use crate::append::{Door, Pending, Receipt, Write};
use crate::migrate::{self, Applied, MIGRATIONS};
use crate::value::{Answer, Query, Scope, query};
use crate::{Error, StoreConfig};
use connection::{Broken, Connection, Target};

const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
const BEGIN: &str = "BEGIN";
const COMMIT: &str = "COMMIT";
const SET_CONTEXT: &str = "SELECT set_config('keystead.context', $1, true)";
/// The context of a transaction that nobody waits for: its commit does not wait for the disk.
const SET_CONTEXT_OF_NOTE: &str = "SELECT set_config('keystead.context', $1, true), \
     set_config('synchronous_commit', 'off', true)";
const TENANT: &str = "SELECT keystead.tenant()";
const TAKE_CONTEXT_KEY: &str = "SELECT keystead.take_context_key()";

/// The key of the signed context; empty until the broker has opened it.
pub(crate) type ContextKey = Arc<OnceLock<hmac::Key>>;

/// Makes pooled connections.
struct Connector(Target);

impl Manager for Connector {
    type Type = Connection;
    type Error = Error;

    async fn create(&self) -> Result<Connection, Error> {
        self.0.connect().await
    }

    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> RecycleResult<Error> {
        if connection.is_closed() {
            return Err(RecycleError::message("closed"));
        }
        Ok(())
    }
}

type Pooled = Pool<Connector>;

/// The pools of one database.
pub(crate) struct Postgres {
    app: Pooled,
    system: Pooled,
    door: Door<Pending>,
    key: ContextKey,
}

impl Postgres {
    pub(crate) async fn open(config: &StoreConfig) -> Result<Postgres, Error> {
        let system_url = config.system_url.as_deref().ok_or_else(|| {
            Error::Setup(
                "store.system_url is missing: run `keystead setup postgres` and use the two URLs \
                 that it prints"
                    .to_owned(),
            )
        })?;
        let app = Target::parse(&config.url)?.with_options("");
        let system = Target::parse(system_url)?.with_options("");
        let key = ContextKey::default();
        let (door, writes) = Door::new(config.deadline);
        let postgres = Postgres {
            app: pool(app, config)?,
            system: pool(system.clone(), config)?,
            door,
            key: key.clone(),
        };
        postgres.check_schema().await?;
        // A node that is paused within a transaction must not hold the head for the others.
        let options = "-c idle_in_transaction_session_timeout=3000 -c statement_timeout=10000";
        tokio::spawn(append::run(system.with_options(options), key, writes));
        Ok(postgres)
    }

    pub(crate) async fn append(&self, write: Write) -> Result<Receipt, Error> {
        self.door.append(write).await
    }

    pub(crate) fn set_context_key(&self, key: [u8; 32]) {
        // The key of a database never changes; a second call brings the same.
        let _ = self.key.set(hmac::Key::new(hmac::HMAC_SHA256, &key));
    }

    pub(crate) async fn take_context_key(&self) -> Result<Option<[u8; 32]>, Error> {
        let answers = self
            .run(&self.system, None, vec![query!(TAKE_CONTEXT_KEY)])
            .await?;
        let row = answers.into_iter().flat_map(|answer| answer.rows).next();
        let pad: Option<Vec<u8>> = row
            .ok_or(Error::Corrupt {
                what: "the context's key",
            })?
            .take()?;
        Ok(pad.and_then(|pad| setup::key_of(&pad)))
    }

    /// Runs statements in one transaction under a tenant's signed context.
    async fn run_as(
        &self,
        pool: &Pooled,
        begin: &'static str,
        tenant: TenantId,
        queries: Vec<Query>,
    ) -> Result<Vec<Answer>, Error> {
        let mut connection = checkout(pool).await?;
        let queries = self.under(&connection, begin, tenant, queries)?;
        let answers = connection.pipeline(&queries).await;
        finish(answers, connection, Some(tenant))
    }

    pub(crate) async fn read(
        &self,
        scope: Scope,
        queries: Vec<Query>,
    ) -> Result<Vec<Answer>, Error> {
        match scope {
            Scope::Tenant(tenant) => self.run_as(&self.app, BEGIN_READ, tenant, queries).await,
            Scope::System if queries.len() == 1 => self.run(&self.system, None, queries).await,
            Scope::System => self.run(&self.system, Some(BEGIN_READ), queries).await,
        }
    }

    pub(crate) async fn write(
        &self,
        scope: Scope,
        queries: Vec<Query>,
    ) -> Result<Vec<Answer>, Error> {
        match scope {
            Scope::Tenant(tenant) => self.run_as(&self.system, BEGIN, tenant, queries).await,
            Scope::System => self.run(&self.system, Some(BEGIN), queries).await,
        }
    }

    /// Runs bookkeeping statements, each in a transaction of its own: holding several rows at once,
    /// they and an append could wait for one another.
    pub(crate) async fn note(&self, updates: Vec<(TenantId, Query)>) -> Result<(), Error> {
        let mut connection = checkout(&self.system).await?;
        let key = self.context_key()?;
        let mut all = Vec::with_capacity(updates.len() * 4);
        for (tenant, update) in updates {
            let context = connection.context(key, &tenant.to_string());
            all.extend([
                query!(BEGIN),
                query!(SET_CONTEXT_OF_NOTE, context),
                update,
                query!(COMMIT),
            ]);
        }
        finish(connection.pipeline(&all).await, connection, None).map(drop)
    }

    fn context_key(&self) -> Result<&hmac::Key, Error> {
        let key = self.key.get();
        key.ok_or(Error::unavailable("the context's key is not opened"))
    }

    /// The statements in a transaction that carries the tenant's context.
    fn under(
        &self,
        connection: &Connection,
        begin: &'static str,
        tenant: TenantId,
        queries: Vec<Query>,
    ) -> Result<Vec<Query>, Error> {
        let context = connection.context(self.context_key()?, &tenant.to_string());
        let mut all = vec![query!(begin), query!(SET_CONTEXT, context), query!(TENANT)];
        all.extend(queries);
        all.push(query!(COMMIT));
        Ok(all)
    }

    async fn run(
        &self,
        pool: &Pooled,
        begin: Option<&'static str>,
        queries: Vec<Query>,
    ) -> Result<Vec<Answer>, Error> {
        let mut connection = checkout(pool).await?;
        let Some(begin) = begin else {
            return finish(connection.pipeline(&queries).await, connection, None);
        };
        let mut all = vec![query!(begin)];
        all.extend(queries);
        all.push(query!(COMMIT));
        let mut answers = finish(connection.pipeline(&all).await, connection, None)?;
        answers.pop();
        answers.remove(0);
        Ok(answers)
    }

    async fn check_schema(&self) -> Result<(), Error> {
        let not_set_up = || {
            Error::Setup(
                "the database has no schema of Keystead's: run `keystead setup postgres`"
                    .to_owned(),
            )
        };
        for pool in [&self.app, &self.system] {
            let mut connection = checkout(pool).await?;
            let answers = match connection.pipeline(&[query!(migrate::APPLIED)]).await {
                Ok(answers) => answers,
                Err(Broken { fault, .. }) => {
                    return Err(match fault.code() {
                        Some(code) if *code == SqlState::UNDEFINED_TABLE => not_set_up(),
                        _ => Error::because("read the schema's version", fault),
                    });
                }
            };
            let rows = answers.into_iter().flat_map(|answer| answer.rows);
            let applied = rows.map(Applied::read).collect::<Result<Vec<_>, _>>()?;
            if let [next, ..] = migrate::pending(MIGRATIONS, &applied, |known| known.postgres)? {
                return Err(Error::Drift(format!(
                    "the database lacks migration {} of this version of Keystead: run \
                     `keystead setup postgres` again",
                    next.name
                )));
            }
        }
        Ok(())
    }
}

fn pool(target: Target, config: &StoreConfig) -> Result<Pooled, Error> {
    // A create waits for the connection's own limit.
    Pool::builder(Connector(target))
        .max_size(config.connections)
        .wait_timeout(Some(config.deadline))
        .create_timeout(Some(config.deadline + Duration::from_secs(1)))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|fault| Error::because("make a pool", fault))
}

async fn checkout(pool: &Pooled) -> Result<Object<Connector>, Error> {
    use deadpool::managed::PoolError;
    pool.get().await.map_err(|fault| match fault {
        PoolError::Backend(fault) => fault,
        fault => Error::because("get a connection to the database", fault),
    })
}

/// Looks at every answer, and at the tenant that the context has become. A connection on which
/// anything was not as it must be is closed.
fn finish(
    result: Result<Vec<Answer>, Broken>,
    connection: Object<Connector>,
    tenant: Option<TenantId>,
) -> Result<Vec<Answer>, Error> {
    let mut answers = match result {
        Ok(answers) => answers,
        Err(broken) => {
            drop(Object::take(connection));
            return Err(Error::because("run a statement", broken.fault));
        }
    };
    if let Some(tenant) = tenant {
        answers.pop();
        let mut context = answers.drain(..3).skip(2).flat_map(|answer| answer.rows);
        let seen: Option<TenantId> = context.next().map_or(Ok(None), |mut row| row.take())?;
        drop(context);
        if seen != Some(tenant) {
            drop(Object::take(connection));
            return Err(Error::unavailable(
                "the database did not accept the tenant's context",
            ));
        }
    }
    Ok(answers)
}
