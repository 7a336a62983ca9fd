//! Work that one node at a time does, and the removal of what has expired.
//!
//! What always holds: a duty is judged by the database's clock alone; its fence grows whenever it was
//! not held without a break, so that a holder who was paused can tell. It keeps nodes from doing work
//! twice, not from doing harm: what the work changes moves by its own versions.

use keystead_core::ids::TenantId;
use keystead_core::time::Time;

use crate::value::{Scope, query};
use crate::{Error, Store, authorization, connect_session};

/// Tenants whose expired rows go in one call.
const TENANTS: i64 = 200;

const TAKE: &str = "INSERT INTO duty (name, holder, fence, until) \
     VALUES ($1, $2, 1, CAST(unixepoch('now', 'subsec') * 1000000 AS BIGINT) + CAST($3 AS BIGINT) * 1000000) \
     ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until, \
     fence = CASE WHEN duty.holder = excluded.holder \
         AND duty.until > CAST(unixepoch('now', 'subsec') * 1000000 AS BIGINT) THEN duty.fence ELSE duty.fence + 1 END \
     WHERE duty.holder = excluded.holder \
         OR duty.until <= CAST(unixepoch('now', 'subsec') * 1000000 AS BIGINT) RETURNING fence";

/// A batch's duty bears its id.
const FORGET: &str = "DELETE FROM duty WHERE name LIKE 'rvb%' AND NOT EXISTS \
     (SELECT 1 FROM revocation_batch WHERE batch_id = duty.name AND closed_at IS NULL)";

impl Store {
    /// Takes a duty for so long, or prolongs it: returns its fence, or `None` while another node holds
    /// it. A fence that is another than before says that the duty was lost in between. One round trip.
    pub async fn take_duty(
        &self,
        name: &str,
        holder: &str,
        seconds: u32,
    ) -> Result<Option<u64>, Error> {
        let take = query!(TAKE, name, holder, i64::from(seconds));
        let answers = self.write(Scope::System, vec![take]).await?;
        let row = answers.into_iter().flat_map(|answer| answer.rows).next();
        row.map(|mut row| row.take()).transpose()
    }

    /// Removes consents under way and sessions of the connect page that expired before then. Of very
    /// many tenants, some: the next call takes the others. Removes the duties of closed batches too.
    pub async fn forget_expired(&self, before: Time) -> Result<(), Error> {
        let queries = vec![
            query!(authorization::EXPIRED, before, TENANTS),
            query!(connect_session::EXPIRED, before, TENANTS),
        ];
        let found = self.read(Scope::System, queries).await?;
        let forget = [authorization::FORGET, connect_session::FORGET];
        let mut updates = Vec::new();
        for (answer, sql) in found.into_iter().zip(forget) {
            for mut row in answer.rows {
                let tenant: TenantId = row.take()?;
                updates.push((tenant, query!(sql, tenant, before)));
            }
        }
        self.update_each(updates).await?;
        self.write(Scope::System, vec![query!(FORGET)]).await?;
        Ok(())
    }
}
