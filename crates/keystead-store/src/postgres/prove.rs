//! The proof, at every start, that the database isolates tenants as the design says.
//!
//! What always holds: it looks at the catalogue (who the roles are, that every table is behind
//! forced row-level security) and then tries it, as both roles, with no context, and with that of a
//! tenant that does not exist. Anything else than what it expects stops the start.

use super::{BEGIN_READ, COMMIT, Pooled, Postgres, SET_CONTEXT, checkout, finish};
use crate::Error;
use crate::value::query;

const VERSION: &str = "SELECT current_setting('server_version_num')";
/// Older ones show columns of hidden rows in an upsert's error, where a unique key lacks the tenant.
/// Ours have it; still it is time to update.
const FIXED_MINORS: &[u32] = &[14_0025, 15_0020, 16_0016, 17_0012, 18_0006];

/// Attributes and memberships that neither role may have; privileges to make things; ownership.
const ROLE: &str = "SELECT current_user, rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication, \
         EXISTS (SELECT FROM pg_auth_members WHERE member = pg_roles.oid), \
         has_schema_privilege(current_user, 'keystead', 'CREATE') \
             OR has_database_privilege(current_user, current_database(), 'CREATE, TEMPORARY'), \
         EXISTS (SELECT FROM pg_class WHERE relowner = pg_roles.oid) \
             OR EXISTS (SELECT FROM pg_proc WHERE proowner = pg_roles.oid), \
         current_setting('row_security') <> 'on' \
     FROM pg_roles WHERE rolname = current_user";
const ROLE_FAULTS: [&str; 5] = [
    "has attributes that go around row-level security",
    "is a member of another role",
    "may create things in the database",
    "owns things in the database",
    "has row_security switched off",
];
const OPEN_TABLES: &str = "SELECT relname FROM pg_class WHERE relnamespace = 'keystead'::regnamespace \
     AND relkind IN ('r', 'p') AND NOT (relrowsecurity AND relforcerowsecurity) ORDER BY relname";

const APP_ROWS: &[(&str, &str)] = &[
    ("member", "SELECT 1 FROM member LIMIT 1"),
    ("integration", "SELECT 1 FROM integration LIMIT 1"),
    ("credential", "SELECT 1 FROM credential LIMIT 1"),
    ("idempotency", "SELECT 1 FROM idempotency LIMIT 1"),
    ("entry", "SELECT 1 FROM entry LIMIT 1"),
    ("token_set", "SELECT 1 FROM token_set LIMIT 1"),
    ("connect_session", "SELECT 1 FROM connect_session LIMIT 1"),
    (
        "pending_authorization",
        "SELECT 1 FROM pending_authorization LIMIT 1",
    ),
    ("revocation_batch", "SELECT 1 FROM revocation_batch LIMIT 1"),
    ("rotation", "SELECT 1 FROM rotation LIMIT 1"),
];
/// The system role follows the whole log and looks for what is due, so those from `entry` on are not
/// here.
const SYSTEM_ROWS: &[(&str, &str)] = APP_ROWS.split_at(4).0;

/// No tenant's: ids are of version 7.
const NOBODY: &str = "ten_ffffffffffffffffffffffffffffffff";

impl Postgres {
    pub(crate) async fn prove_isolation(&self) -> Result<(), Error> {
        self.note_version().await?;
        for (pool, tables) in [(&self.app, APP_ROWS), (&self.system, SYSTEM_ROWS)] {
            self.prove_role(pool).await?;
            self.prove_hidden(pool, tables, false).await?;
            self.prove_hidden(pool, tables, true).await?;
        }
        Ok(())
    }

    async fn note_version(&self) -> Result<(), Error> {
        let answers = self.run(&self.system, None, vec![query!(VERSION)]).await?;
        let row = answers.into_iter().flat_map(|answer| answer.rows).next();
        let text: String = row
            .ok_or(Error::Corrupt {
                what: "the server's version",
            })?
            .take()?;
        let version: u32 = text.parse().unwrap_or(0);
        let fixed = FIXED_MINORS
            .iter()
            .find(|fixed| **fixed / 10_000 == version / 10_000);
        if version < FIXED_MINORS[0] || fixed.is_some_and(|fixed| version < *fixed) {
            tracing::warn!(
                version,
                "PostgreSQL is older than its last security release: update it"
            );
        }
        Ok(())
    }

    async fn prove_role(&self, pool: &Pooled) -> Result<(), Error> {
        let queries = vec![query!(ROLE), query!(OPEN_TABLES)];
        let mut answers = self.run(pool, Some(BEGIN_READ), queries).await?.into_iter();
        let role = answers
            .next()
            .and_then(|answer| answer.rows.into_iter().next());
        let mut role = role.ok_or(Error::Corrupt {
            what: "the database's roles",
        })?;
        let name: String = role.take()?;
        for fault in ROLE_FAULTS {
            if role.take()? {
                return Err(refuse(format!("the role {name} {fault}")));
            }
        }
        if let Some(mut table) = answers
            .next()
            .and_then(|answer| answer.rows.into_iter().next())
        {
            let table: String = table.take()?;
            return Err(refuse(format!(
                "the table {table} is not behind forced row-level security"
            )));
        }
        Ok(())
    }

    /// With nobody's context or none, no table shows a row.
    async fn prove_hidden(
        &self,
        pool: &Pooled,
        tables: &[(&'static str, &'static str)],
        with_context: bool,
    ) -> Result<(), Error> {
        let mut connection = checkout(pool).await?;
        let mut queries = vec![query!(BEGIN_READ)];
        if with_context {
            let key = self
                .key
                .get()
                .ok_or(Error::unavailable("the context's key is not opened"))?;
            queries.push(query!(SET_CONTEXT, connection.context(key, NOBODY)));
        }
        let before = queries.len();
        queries.extend(tables.iter().map(|(_, sql)| query!(*sql)));
        queries.push(query!(COMMIT));
        let answers = finish(connection.pipeline(&queries).await, connection, None)?;
        for ((table, _), answer) in tables.iter().zip(&answers[before..]) {
            if !answer.rows.is_empty() {
                return Err(refuse(format!(
                    "the table {table} shows rows to whom it must not"
                )));
            }
        }
        Ok(())
    }
}

fn refuse(what: String) -> Error {
    Error::Setup(format!(
        "the database does not isolate tenants, so Keystead does not start: {what}; run `keystead setup \
         postgres` again, or undo what was changed since"
    ))
}
