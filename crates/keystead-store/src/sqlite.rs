//! SQLite: one writer thread, a few reader threads, and the group commit on the writer.
//!
//! What always holds: WAL with `synchronous=FULL`, foreign keys on, files that only their owner
//! reads; writes wait in a channel, and all that wait share the next transaction and its fsync.
//! A database in memory has the one connection.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc as blocking;
use std::thread;
use std::time::{Duration, Instant};

use keystead_core::log::Frontier;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, ToSql, TransactionBehavior, params_from_iter};
use tokio::sync::{mpsc, oneshot};

use crate::append::{Batch, Door, GROUP, Pace, Pending, Receipt, Write, acknowledge, fail};
use crate::effect::{Effect, Miss, Why};
use crate::migrate::{self, Applied, MIGRATIONS};
use crate::value::{Answer, Query, Row, Value, query};
use crate::{Error, StoreConfig};

const READERS: usize = 3;
/// Reads that may wait for one reader; more are refused.
const READ_QUEUE: usize = 1024;
/// Pages that the writer keeps: with every entry it comes by one of its tenant's. A reader loses
/// all of its own with every write, and needs no more than there are by default.
const WRITER_CACHE: &str = "PRAGMA cache_size = -32768";
const BUSY: Duration = Duration::from_secs(2);
/// How often a group that is waited for is looked at.
const STEP: Duration = Duration::from_micros(40);

const HEAD: &str = "SELECT frontier FROM log_head WHERE one = 1";
const SET_HEAD: &str = "UPDATE log_head SET size = $1, frontier = $2, root = $3 WHERE one = 1";
const INSERT_ENTRY: &str = "INSERT INTO entry (tenant_id, seq, at, action, on_kind, target, outcome, changed, leaf) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// What the writer thread is given.
enum Task {
    Append(Pending),
    Job(Job),
}

impl From<Pending> for Task {
    fn from(pending: Pending) -> Task {
        Task::Append(pending)
    }
}

/// The threads of one database.
pub(crate) struct Sqlite {
    door: Door<Task>,
    readers: Vec<blocking::SyncSender<Job>>,
    next: AtomicUsize,
}

impl Sqlite {
    pub(crate) async fn open(config: &StoreConfig) -> Result<Sqlite, Error> {
        let path = config.url.strip_prefix("sqlite:").unwrap_or(&config.url);
        let path = match path {
            ":memory:" => None,
            path => Some(PathBuf::from(path.strip_prefix("//").unwrap_or(path))),
        };
        let deadline = config.deadline;
        let opened = tokio::task::spawn_blocking(move || open(path.as_deref(), deadline));
        opened
            .await
            .map_err(|fault| Error::because("open the database", fault))?
    }

    pub(crate) async fn append(&self, write: Write) -> Result<Receipt, Error> {
        self.door.append(write).await
    }

    /// Runs the statements in one transaction, on a reader.
    pub(crate) async fn read(&self, queries: Vec<Query>) -> Result<Vec<Answer>, Error> {
        let (job, answer) = job(queries, TransactionBehavior::Deferred);
        if self.readers.is_empty() {
            self.to_writer(job).await?;
        } else {
            let reader = self.next.fetch_add(1, Ordering::Relaxed) % self.readers.len();
            self.readers[reader]
                .try_send(job)
                .map_err(|_| Error::unavailable("too many reads are waiting"))?;
        }
        answer
            .await
            .map_err(|_| Error::unavailable("a reader stopped"))?
    }

    /// Runs the statements in one transaction, on the writer.
    pub(crate) async fn write(&self, queries: Vec<Query>) -> Result<Vec<Answer>, Error> {
        let (job, answer) = job(queries, TransactionBehavior::Immediate);
        self.to_writer(job).await?;
        answer
            .await
            .map_err(|_| Error::unavailable("the writer stopped"))?
    }

    async fn to_writer(&self, job: Job) -> Result<(), Error> {
        let sent = self.door.sender().send(Task::Job(job)).await;
        sent.map_err(|_| Error::unavailable("the writer stopped"))
    }
}

type Answers = Result<Vec<Answer>, Error>;

fn job(queries: Vec<Query>, behavior: TransactionBehavior) -> (Job, oneshot::Receiver<Answers>) {
    let (reply, answer) = oneshot::channel();
    let job = Box::new(move |connection: &mut Connection| {
        let answers = transact(connection, &queries, behavior);
        let _ = reply.send(answers.map_err(|fault| Error::because("run a statement", fault)));
    });
    (job, answer)
}

fn transact(
    connection: &mut Connection,
    queries: &[Query],
    behavior: TransactionBehavior,
) -> rusqlite::Result<Vec<Answer>> {
    // One statement is a transaction of its own.
    if let [query] = queries {
        return Ok(vec![run(connection, query)?]);
    }
    let transaction = connection.transaction_with_behavior(behavior)?;
    let answers = queries
        .iter()
        .map(|query| run(&transaction, query))
        .collect::<Result<_, _>>()?;
    transaction.commit()?;
    Ok(answers)
}

fn run(connection: &Connection, query: &Query) -> rusqlite::Result<Answer> {
    let mut statement = connection.prepare_cached(query.sql)?;
    let columns = statement.column_count();
    if columns == 0 {
        let affected = statement.execute(params_from_iter(&query.params))? as u64;
        return Ok(Answer {
            rows: Vec::new(),
            affected,
        });
    }
    let mut rows = Vec::new();
    let mut found = statement.query(params_from_iter(&query.params))?;
    while let Some(row) = found.next()? {
        let values = (0..columns).map(|column| row.get_ref(column).map(value));
        rows.push(Row::new(values.collect::<Result<_, _>>()?));
    }
    let affected = rows.len() as u64;
    Ok(Answer { rows, affected })
}

fn value(column: ValueRef<'_>) -> Value {
    match column {
        ValueRef::Null | ValueRef::Real(_) => Value::Null,
        ValueRef::Integer(value) => Value::Integer(value),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned().into()),
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Integer(value) => ValueRef::Integer(*value),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn open(path: Option<&Path>, deadline: Duration) -> Result<Sqlite, Error> {
    if let Some(path) = path {
        create_private(path).map_err(|fault| {
            Error::Setup(format!(
                "cannot create the database {}: {fault}",
                path.display()
            ))
        })?;
    }
    let mut writer = connect(path)?;
    writer
        .execute_batch(WRITER_CACHE)
        .map_err(|fault| Error::because("open the database", fault))?;
    migrate(&mut writer)?;
    let mut readers = Vec::new();
    if path.is_some() {
        for index in 0..READERS {
            let mut reader = connect(path)?;
            reader
                .pragma_update(None, "query_only", true)
                .map_err(|fault| Error::because("open the database", fault))?;
            let (sender, jobs) = blocking::sync_channel::<Job>(READ_QUEUE);
            spawn(format!("sqlite-reader-{index}"), move || {
                jobs.iter().for_each(|job| job(&mut reader));
            })?;
            readers.push(sender);
        }
    }
    let (door, tasks) = Door::new(deadline);
    let (tell, committed) = mpsc::unbounded_channel();
    tokio::spawn(herald(committed));
    spawn("sqlite-writer".to_owned(), move || {
        write_all(writer, tasks, &tell)
    })?;
    let next = AtomicUsize::new(0);
    Ok(Sqlite {
        door,
        readers,
        next,
    })
}

fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let spawned = thread::Builder::new().name(name).spawn(work);
    spawned
        .map(drop)
        .map_err(|fault| Error::because("start a thread", fault))
}

/// SQLite gives its side files the mode of the database, so that one mode decides.
fn create_private(path: &Path) -> io::Result<()> {
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    let mut create = fs::OpenOptions::new();
    create.write(true).create(true).truncate(false).mode(0o600);
    let file = create.open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))
}

fn connect(path: Option<&Path>) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = match path {
        Some(path) => Connection::open_with_flags(path, flags),
        None => Connection::open_in_memory(),
    };
    let connection = opened.map_err(|fault| Error::because("open the database", fault))?;
    connection
        .busy_timeout(BUSY)
        .and_then(|()| {
            connection.execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
                 PRAGMA trusted_schema = OFF; PRAGMA secure_delete = ON; \
                 PRAGMA wal_autocheckpoint = 4000;",
            )
        })
        .map_err(|fault| Error::because("open the database", fault))?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(connection)
}

fn migrate(connection: &mut Connection) -> Result<(), Error> {
    const FAILED: &str = "migrate the database";
    // Immediate: two processes that open one file migrate it once.
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(|fault| Error::because(FAILED, fault))?;
    transaction
        .execute_batch(
            "CREATE TABLE IF NOT EXISTS migration (number INTEGER NOT NULL, name TEXT NOT NULL, \
             checksum BLOB NOT NULL, PRIMARY KEY (number)) STRICT",
        )
        .map_err(|fault| Error::because(FAILED, fault))?;
    let applied = run(&transaction, &query!(migrate::APPLIED))
        .map_err(|fault| Error::because(FAILED, fault))?;
    let applied = applied
        .rows
        .into_iter()
        .map(Applied::read)
        .collect::<Result<Vec<_>, _>>()?;
    for migration in migrate::pending(MIGRATIONS, &applied, |migration| migration.sqlite)? {
        let checksum = migrate::checksum(migration.sqlite);
        let record = query!(migrate::RECORD, migration.number, migration.name, checksum);
        transaction
            .execute_batch(migration.sqlite)
            .and_then(|()| run(&transaction, &record).map(drop))
            .map_err(|fault| Error::because(FAILED, fault))?;
    }
    transaction
        .commit()
        .map_err(|fault| Error::because(FAILED, fault))
}

/// A group that is durable, whose callers are to hear of it.
struct Committed {
    group: Vec<Pending>,
    from: u64,
    misses: Vec<Option<Miss>>,
}

/// Answers groups from within the runtime: the writer thread wakes this one task, where waking
/// each caller from outside the runtime would cost it a lock and often a system call.
async fn herald(mut committed: mpsc::UnboundedReceiver<Committed>) {
    while let Some(Committed {
        group,
        from,
        misses,
    }) = committed.recv().await
    {
        acknowledge(group, from, &misses);
    }
}

/// The writer thread: all that waits is one group; a job between two appends ends the group.
fn write_all(
    mut connection: Connection,
    mut tasks: mpsc::Receiver<Task>,
    tell: &mpsc::UnboundedSender<Committed>,
) {
    let mut waiting = Vec::with_capacity(GROUP);
    let mut pace = Pace::default();
    while tasks.blocking_recv_many(&mut waiting, GROUP) > 0 {
        if let Some(until) = pace.until(waiting.len()) {
            while !pace.complete(waiting.len()) && Instant::now() < until {
                thread::sleep(STEP);
                while waiting.len() < GROUP
                    && let Ok(task) = tasks.try_recv()
                {
                    waiting.push(task);
                }
            }
        }
        let size = waiting.len();
        let mut synced = Duration::ZERO;
        let mut group = Vec::with_capacity(waiting.len());
        for task in waiting.drain(..) {
            match task {
                Task::Append(pending) => group.push(pending),
                Task::Job(job) => {
                    synced += commit(&mut connection, std::mem::take(&mut group), tell);
                    job(&mut connection);
                }
            }
        }
        synced += commit(&mut connection, group, tell);
        pace.committed(size, tasks.len(), synced);
    }
}

/// Returns how long the disk took.
fn commit(
    connection: &mut Connection,
    group: Vec<Pending>,
    tell: &mpsc::UnboundedSender<Committed>,
) -> Duration {
    if group.is_empty() {
        return Duration::ZERO;
    }
    match try_commit(connection, &group) {
        Ok((from, misses, synced)) => {
            if group.len() == 1 {
                acknowledge(group, from, &misses);
            } else {
                // Without a herald the runtime has ended, and every caller with it.
                let _ = tell.send(Committed {
                    group,
                    from,
                    misses,
                });
            }
            synced
        }
        Err(fault) => {
            tracing::error!(error = %fault, writes = group.len(), "a group of entries was not recorded");
            fail(group, "the log could not be written");
            Duration::ZERO
        }
    }
}

fn try_commit(
    connection: &mut Connection,
    group: &[Pending],
) -> rusqlite::Result<(u64, Vec<Option<Miss>>, Duration)> {
    let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let bytes: Vec<u8> = transaction
        .prepare_cached(HEAD)?
        .query_row([], |row| row.get(0))?;
    let head = Frontier::from_bytes(&bytes)
        .map_err(|fault| rusqlite::Error::ToSqlConversionFailure(Box::new(fault)))?;
    let mut misses = Vec::with_capacity(group.len());
    for pending in group {
        misses.push(make(&mut transaction, &pending.write.effects)?);
    }
    let batch = Batch::build(&head, group, &misses);
    {
        let mut insert = transaction.prepare_cached(INSERT_ENTRY)?;
        for row in &batch.entries {
            insert.execute((
                row.entry.tenant.to_string(),
                row.seq as i64,
                row.entry.at.0,
                row.entry.action.as_str(),
                row.entry.on.as_str(),
                &row.target,
                row.outcome.as_str(),
                row.changed,
                &row.leaf,
            ))?;
        }
        let head = (
            batch.frontier.size() as i64,
            batch.frontier.to_bytes(),
            batch.root,
        );
        transaction.prepare_cached(SET_HEAD)?.execute(head)?;
    }
    let since = Instant::now();
    transaction.commit()?;
    Ok((batch.from, misses, since.elapsed()))
}

/// Makes the changes of one write, or none of them.
fn make(
    transaction: &mut rusqlite::Transaction<'_>,
    effects: &[Effect],
) -> rusqlite::Result<Option<Miss>> {
    if effects.is_empty() {
        return Ok(None);
    }
    let savepoint = transaction.savepoint()?;
    for step in effects.iter().flat_map(Effect::steps) {
        if step.query.check().is_err() {
            return Ok(Some(step.miss(Why::Invalid)));
        }
        let judged = match run(&savepoint, &step.query) {
            Ok(answer) => step.judge(answer.affected),
            Err(fault) => Err(step.miss(why(&fault).ok_or(fault)?)),
        };
        if let Err(miss) = judged {
            // Dropping the savepoint rolls back to it.
            return Ok(Some(miss));
        }
    }
    savepoint.commit()?;
    Ok(None)
}

/// What a refused statement means; `None` where the database failed.
fn why(fault: &rusqlite::Error) -> Option<Why> {
    use rusqlite::ffi;
    match fault.sqlite_error()?.extended_code {
        ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY => Some(Why::Duplicate),
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => Some(Why::Missing),
        ffi::SQLITE_CONSTRAINT_CHECK
        | ffi::SQLITE_CONSTRAINT_DATATYPE
        | ffi::SQLITE_CONSTRAINT_NOTNULL
        | ffi::SQLITE_CONSTRAINT_TRIGGER
        | ffi::SQLITE_TOOBIG => Some(Why::Invalid),
        _ => None,
    }
}
