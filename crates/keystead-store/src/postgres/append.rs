//! The task that appends: one group at a time, on a connection of its own.
//!
//! ```text
//! entries alone   one statement: move the head from what we know, insert             1 round trip
//! with changes    BEGIN, lock the head │ each write in its savepoint │ append, COMMIT
//! ```
//!
//! What always holds: the head moves only from what it was believed to be, in the statement that
//! inserts, so two nodes cannot both take a number. When an answer is lost, the task finds out on a
//! new connection, under the head's lock, whether the group is in the log, before it says anything.

use std::time::{Duration, Instant};

use keystead_core::ids::TenantId;
use keystead_core::log::Frontier;
use tokio::sync::mpsc;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use super::connection::{Broken, Connection, Target};
use super::{BEGIN, COMMIT, ContextKey, SET_CONTEXT};
use crate::Error;
use crate::append::{Batch, GROUP, Pace, Pending, acknowledge, fail};
use crate::effect::{Effect, Miss, Step, Why};
use crate::value::{Answer, Query, query};

/// Attempts at a group before its callers are told that nobody knows.
const ATTEMPTS: usize = 3;
/// How long an attempt may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Groups that take the lock first, after another node was seen to append.
const CAREFUL_GROUPS: u32 = 32;

const HEAD: &str = "SELECT frontier FROM log_head WHERE one = 1";
/// An update, as that is the lock that another node's append waits for.
const LOCK_HEAD: &str = "UPDATE log_head SET size = size WHERE one = 1 RETURNING frontier";
/// A head that is not what was believed violates the table's check, which undoes the transaction.
const APPEND: &str = "WITH head AS (UPDATE log_head SET \
         size = CASE WHEN size = $1 AND root = $2 THEN $3::bigint ELSE -1 END, frontier = $4, root = $5 \
         WHERE one = 1 RETURNING one) \
     INSERT INTO entry (tenant_id, seq, at, action, on_kind, target, outcome, changed, leaf) \
     SELECT e.* FROM head, unnest($6::text[], $7::bigint[], $8::bigint[], $9::text[], $10::text[], \
         $11::text[], $12::text[], $13::bigint[], $14::text[]) AS e";
const FIND_LEAF: &str = "SELECT leaf FROM entry WHERE tenant_id = $1 AND seq = $2";
const SAVEPOINT: &str = "SAVEPOINT write";
const RELEASE: &str = "RELEASE SAVEPOINT write";
const ROLL_BACK: &str = "ROLLBACK TO SAVEPOINT write";

/// Why an attempt did not succeed.
enum Stop {
    /// Another node has appended; nothing was done.
    Moved,
    /// Something failed; whether the group is in the log is open.
    Lost(Error),
}

impl From<Broken> for Stop {
    fn from(broken: Broken) -> Stop {
        Stop::Lost(Error::because("append to the log", broken.fault))
    }
}

/// A group that is in the log.
struct Done {
    from: u64,
    misses: Vec<Option<Miss>>,
}

/// A batch whose fate is not known: how to recognise it, and what to answer.
struct Sent {
    from: u64,
    tenant: TenantId,
    leaf: String,
    misses: Vec<Option<Miss>>,
}

impl Sent {
    fn of(batch: &Batch<'_>, misses: &[Option<Miss>]) -> Option<Sent> {
        let first = batch.entries.first()?;
        Some(Sent {
            from: batch.from,
            tenant: first.entry.tenant,
            leaf: first.leaf.clone(),
            misses: misses.to_vec(),
        })
    }
}

/// Appends all that comes, until the store is dropped.
pub(super) async fn run(target: Target, key: ContextKey, mut writes: mpsc::Receiver<Pending>) {
    let mut writer = Writer {
        target,
        key,
        connection: None,
        head: None,
        careful: 0,
    };
    let mut group = Vec::with_capacity(GROUP);
    let mut pace = Pace::default();
    while writes.recv_many(&mut group, GROUP).await > 0 {
        if let Some(until) = pace.until(group.len()) {
            while !pace.complete(group.len()) && Instant::now() < until {
                // The runtime's timers are coarser than the wait.
                tokio::task::yield_now().await;
                while group.len() < GROUP
                    && let Ok(pending) = writes.try_recv()
                {
                    group.push(pending);
                }
            }
        }
        let (size, since) = (group.len(), Instant::now());
        writer.commit(std::mem::take(&mut group)).await;
        pace.committed(size, writes.len(), since.elapsed());
    }
}

struct Writer {
    target: Target,
    key: ContextKey,
    connection: Option<Connection>,
    /// The head after our last append, where no other node can have moved it without being noticed.
    head: Option<Frontier>,
    careful: u32,
}

impl Writer {
    async fn commit(&mut self, mut group: Vec<Pending>) {
        if self.key.get().is_none() {
            let in_tenant = |pending: &Pending| {
                pending
                    .write
                    .effects
                    .iter()
                    .any(|effect| effect.tenant().is_some())
            };
            let (early, rest): (Vec<_>, _) = group.into_iter().partition(in_tenant);
            fail(early, "the context's key is not opened");
            group = rest;
        }
        if group.is_empty() {
            return;
        }
        let mut open = Vec::new();
        for _ in 0..ATTEMPTS {
            let attempt = tokio::time::timeout(PATIENCE, self.attempt(&group, &mut open));
            match attempt.await {
                Ok(Ok(done)) => return acknowledge(group, done.from, &done.misses),
                Ok(Err(Stop::Moved)) => {
                    self.head = None;
                    self.careful = CAREFUL_GROUPS;
                }
                Ok(Err(Stop::Lost(fault))) => {
                    tracing::warn!(error = %cause(&fault), "an append was interrupted");
                    self.forget();
                }
                Err(_) => {
                    tracing::warn!("an append took too long");
                    self.forget();
                }
            }
        }
        tracing::error!(writes = group.len(), "a group of entries was given up");
        fail(group, "the log could not be written");
    }

    /// A connection that failed is closed, and what it knew is read again.
    fn forget(&mut self) {
        self.connection = None;
        self.head = None;
    }

    async fn attempt(&mut self, group: &[Pending], open: &mut Vec<Sent>) -> Result<Done, Stop> {
        let mut connection = match self.connection.take() {
            Some(connection) if !connection.is_closed() => connection,
            _ => {
                self.head = None;
                self.target.connect().await.map_err(Stop::Lost)?
            }
        };
        let effects = group
            .iter()
            .any(|pending| !pending.write.effects.is_empty());
        let done = if effects || !open.is_empty() || self.careful > 0 {
            self.careful = self.careful.saturating_sub(1);
            self.append_locked(&mut connection, group, open).await
        } else {
            self.append_at_once(&mut connection, group, open).await
        };
        // A head that had moved leaves the connection as it was before.
        if !matches!(done, Err(Stop::Lost(_))) {
            self.connection = Some(connection);
        }
        done
    }

    /// One statement, from the head that we believe in.
    async fn append_at_once(
        &mut self,
        connection: &mut Connection,
        group: &[Pending],
        open: &mut Vec<Sent>,
    ) -> Result<Done, Stop> {
        let head = match self.head.take() {
            Some(head) => head,
            None => frontier(connection.pipeline(&[query!(HEAD)]).await?)?,
        };
        let batch = Batch::build(&head, group, &[]);
        open.extend(Sent::of(&batch, &[]));
        match send(connection, vec![], &batch, &[]).await {
            Ok(()) => {
                open.clear();
                let from = batch.from;
                self.head = Some(batch.frontier);
                Ok(Done {
                    from,
                    misses: Vec::new(),
                })
            }
            Err(stop) => {
                if matches!(stop, Stop::Moved) {
                    open.pop();
                }
                Err(stop)
            }
        }
    }

    /// Under the head's lock: looks for what may have been appended before, makes the changes, and
    /// appends.
    async fn append_locked(
        &mut self,
        connection: &mut Connection,
        group: &[Pending],
        open: &mut Vec<Sent>,
    ) -> Result<Done, Stop> {
        // A transaction that has failed prepares nothing more.
        for sql in [ROLL_BACK, RELEASE, SAVEPOINT, COMMIT, APPEND] {
            let prepared = connection.prepare(sql).await;
            prepared.map_err(|fault| Stop::Lost(Error::because("append to the log", fault)))?;
        }
        let mut start = vec![query!(BEGIN), query!(LOCK_HEAD)];
        start.extend(
            open.iter()
                .map(|sent| query!(FIND_LEAF, sent.tenant, sent.from)),
        );
        let mut answers = connection.pipeline(&start).await?;
        let looked = answers.split_off(2);
        let head = frontier(answers.split_off(1))?;
        for (index, answer) in looked.into_iter().enumerate() {
            let leaf = answer
                .rows
                .into_iter()
                .next()
                .map(|mut row| row.take::<String>());
            if matches!(leaf, Some(Ok(leaf)) if leaf == open[index].leaf) {
                connection.pipeline(&[query!(COMMIT)]).await?;
                self.head = Some(head);
                let Sent { from, misses, .. } = open.swap_remove(index);
                return Ok(Done { from, misses });
            }
        }
        let mut misses = Vec::with_capacity(group.len());
        let mut before = Vec::new();
        for pending in group {
            let effects = &pending.write.effects;
            if effects.is_empty() {
                misses.push(None);
                continue;
            }
            let miss = self
                .make(connection, std::mem::take(&mut before), effects)
                .await?;
            if miss.is_some() {
                before.push(query!(ROLL_BACK));
            }
            before.push(query!(RELEASE));
            misses.push(miss);
        }
        let batch = Batch::build(&head, group, &misses);
        open.extend(Sent::of(&batch, &misses));
        match send(connection, before, &batch, &[query!(COMMIT)]).await {
            Ok(()) => {
                open.clear();
                let from = batch.from;
                self.head = Some(batch.frontier);
                Ok(Done { from, misses })
            }
            // Impossible under the lock, so whatever it means, begin again.
            Err(Stop::Moved) => Err(Stop::Lost(Error::Corrupt {
                what: "the log's head",
            })),
            Err(lost) => Err(lost),
        }
    }

    /// Makes the changes of one write in a savepoint; says why where they cannot be made.
    async fn make(
        &self,
        connection: &mut Connection,
        mut queries: Vec<Query>,
        effects: &[Effect],
    ) -> Result<Option<Miss>, Stop> {
        queries.push(query!(SAVEPOINT));
        // For each query that is a step, the step; the others must simply succeed.
        let mut steps: Vec<Option<Step>> = Vec::new();
        steps.resize_with(queries.len(), || None);
        let mut tenant = None;
        for effect in effects {
            if let Some(of) = effect.tenant().filter(|of| tenant != Some(*of)) {
                let key = self
                    .key
                    .get()
                    .ok_or(Stop::Lost(Error::unavailable("no key")))?;
                queries.push(query!(
                    SET_CONTEXT,
                    connection.context(key, &of.to_string())
                ));
                steps.push(None);
                tenant = Some(of);
            }
            for step in effect.steps() {
                queries.push(step.query.clone());
                steps.push(Some(step));
            }
        }
        let (answers, broken) = match connection.pipeline(&queries).await {
            Ok(answers) => (answers, None),
            Err(mut broken) => (std::mem::take(&mut broken.before), Some(broken)),
        };
        let mut steps = steps.into_iter();
        for (answer, step) in answers.iter().zip(steps.by_ref()) {
            if let Some(Err(miss)) = step.map(|step| step.judge(answer.affected)) {
                // All of it was sent and answered, or the connection cannot go on.
                return match broken {
                    Some(broken) if !broken.settled => Err(broken.into()),
                    _ => Ok(Some(miss)),
                };
            }
        }
        match broken {
            None => Ok(None),
            Some(broken) => match (steps.next().flatten(), why(&broken)) {
                (Some(step), Some(why)) => Ok(Some(step.miss(why))),
                _ => Err(broken.into()),
            },
        }
    }
}

/// What a refused statement means; `None` where the database failed.
fn why(broken: &Broken) -> Option<Why> {
    if !broken.settled {
        return None;
    }
    let code = broken.fault.code()?;
    match code.code() {
        _ if *code == SqlState::UNIQUE_VIOLATION => Some(Why::Duplicate),
        _ if *code == SqlState::FOREIGN_KEY_VIOLATION => Some(Why::Missing),
        // Integrity and data that a column cannot hold.
        other if other.starts_with("23") || other.starts_with("22") => Some(Why::Invalid),
        _ => None,
    }
}

fn frontier(answers: Vec<Answer>) -> Result<Frontier, Stop> {
    const WRONG: Error = Error::Corrupt {
        what: "the log's head",
    };
    let row = answers.into_iter().flat_map(|answer| answer.rows).next();
    let bytes: Vec<u8> = row.ok_or(Stop::Lost(WRONG))?.take().map_err(Stop::Lost)?;
    Frontier::from_bytes(&bytes).map_err(|_| Stop::Lost(WRONG))
}

/// Sends the batch, and looks at every answer.
async fn send(
    connection: &mut Connection,
    before: Vec<Query>,
    batch: &Batch<'_>,
    after: &[Query],
) -> Result<(), Stop> {
    let rows = &batch.entries;
    let signed = |value: u64| i64::try_from(value).unwrap_or(-1);
    let tenants: Vec<String> = rows
        .iter()
        .map(|row| row.entry.tenant.to_string())
        .collect();
    let seqs: Vec<i64> = rows.iter().map(|row| signed(row.seq)).collect();
    let ats: Vec<i64> = rows.iter().map(|row| row.entry.at.0).collect();
    let actions: Vec<&str> = rows.iter().map(|row| row.entry.action.as_str()).collect();
    let kinds: Vec<&str> = rows.iter().map(|row| row.entry.on.as_str()).collect();
    let targets: Vec<Option<&str>> = rows.iter().map(|row| row.target.as_deref()).collect();
    let outcomes: Vec<&str> = rows.iter().map(|row| row.outcome.as_str()).collect();
    let changed: Vec<i64> = rows.iter().map(|row| i64::from(row.changed)).collect();
    let leaves: Vec<&str> = rows.iter().map(|row| row.leaf.as_str()).collect();
    let (from, to) = (signed(batch.from), signed(batch.frontier.size()));
    let (root_before, root) = (batch.root_before.as_slice(), batch.root.as_slice());
    let frontier = batch.frontier.to_bytes();
    let values: [&(dyn ToSql + Sync); 14] = [
        &from,
        &root_before,
        &to,
        &frontier,
        &root,
        &tenants,
        &seqs,
        &ats,
        &actions,
        &kinds,
        &targets,
        &outcomes,
        &changed,
        &leaves,
    ];
    match connection
        .pipeline_with(&before, APPEND, &values, after)
        .await
    {
        Ok(answers) if answers[before.len()].affected == rows.len() as u64 => Ok(()),
        Ok(_) => Err(Stop::Lost(Error::Corrupt {
            what: "the log's head",
        })),
        Err(broken) => {
            let moved = broken.fault.as_db_error().is_some_and(|fault| {
                *fault.code() == SqlState::CHECK_VIOLATION && fault.table() == Some("log_head")
            });
            Err(if moved && broken.settled {
                Stop::Moved
            } else {
                broken.into()
            })
        }
    }
}

fn cause(fault: &Error) -> String {
    match std::error::Error::source(fault) {
        Some(source) => format!("{fault}: {source}"),
        None => fault.to_string(),
    }
}
