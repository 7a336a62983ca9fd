//! Bookkeeping that no decision hangs on: when things were last used, and what each node counted.
//!
//! What always holds: a note has no audit entry, and losing one loses nothing but freshness.

use keystead_core::ids::{IntegrationId, KeyId, TenantId};
use keystead_core::time::Time;

use crate::value::{Query, Scope, query};
use crate::{Backend, Error, Store, integration, key};

/// A piece of bookkeeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// An integration's credential was used.
    IntegrationUsed {
        /// Whose.
        tenant: TenantId,
        /// Which.
        integration: IntegrationId,
        /// When.
        at: Time,
    },
    /// A key was presented and accepted.
    KeyUsed {
        /// The tenant of the key's row.
        tenant: TenantId,
        /// Which.
        key: KeyId,
        /// When.
        at: Time,
    },
}

/// What one node has counted for a subject in a window so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitCount {
    /// Who or what is limited.
    pub subject: String,
    /// When the window began.
    pub window_start: Time,
    /// This node's own count; on return: the sum over all nodes.
    pub count: u64,
}

const COUNT: &str = "INSERT INTO limit_count (subject, window_start, node, counted) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (subject, window_start, node) DO UPDATE SET counted = excluded.counted";
const TOTAL: &str =
    "SELECT CAST(SUM(counted) AS BIGINT) FROM limit_count WHERE subject = $1 AND window_start = $2";
const FORGET: &str = "DELETE FROM limit_count WHERE window_start < $1";

impl Store {
    /// Keeps notes, in one round trip. They may be lost with the database's process.
    pub async fn note(&self, notes: &[Note]) -> Result<(), Error> {
        let updates: Vec<(TenantId, Query)> = notes
            .iter()
            .map(|note| match *note {
                Note::IntegrationUsed {
                    tenant,
                    integration,
                    at,
                } => (tenant, query!(integration::USED, at, tenant, integration)),
                Note::KeyUsed { tenant, key, at } => (tenant, query!(key::USED, at, tenant, key)),
            })
            .collect();
        self.update_each(updates).await
    }

    /// Runs bookkeeping statements of several tenants, in one round trip.
    pub(crate) async fn update_each(&self, updates: Vec<(TenantId, Query)>) -> Result<(), Error> {
        if updates.is_empty() {
            return Ok(());
        }
        let done = async {
            match self.backend() {
                Backend::Postgres(postgres) => postgres.note(updates).await,
                Backend::Sqlite(sqlite) => {
                    let updates = updates.into_iter().map(|(_, update)| update).collect();
                    sqlite.write(updates).await.map(drop)
                }
            }
        };
        self.in_time(Box::pin(done)).await
    }

    /// Writes down what this node has counted, forgets windows that began before the given time,
    /// and returns the same subjects with the sums over all nodes. One round trip.
    pub async fn share_limits(
        &self,
        node: &str,
        counts: &[LimitCount],
        forget_before: Time,
    ) -> Result<Vec<LimitCount>, Error> {
        let mut queries = vec![query!(FORGET, forget_before)];
        for count in counts {
            let (subject, start) = (count.subject.as_str(), count.window_start);
            queries.push(query!(COUNT, subject, start, node, count.count));
            queries.push(query!(TOTAL, subject, start));
        }
        let mut answers = self
            .write(Scope::System, queries)
            .await?
            .into_iter()
            .skip(1);
        let mut totals = Vec::with_capacity(counts.len());
        for count in counts {
            let total = answers
                .nth(1)
                .and_then(|answer| answer.rows.into_iter().next());
            totals.push(LimitCount {
                count: total.ok_or(Error::Corrupt { what: "a count" })?.take()?,
                ..count.clone()
            });
        }
        Ok(totals)
    }
}
