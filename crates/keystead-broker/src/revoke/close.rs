//! The end of a batch: its receipt.
//!
//! What always holds: a receipt is signed when nothing is pending, and stored in the write that
//! closes the batch, whose entry names its hash. So the log says which receipt is the true one.

use keystead_core::action::Outcome;
use keystead_core::ids::{BatchId, TenantId};
use keystead_core::log::{ReceiptItem, RevocationReceipt, Settled};
use keystead_store::{Effect, RevocationRow, RevocationState};
use serde_json::Value;

use crate::broker::Broker;
use crate::error::Error;
use crate::hash::sha256;
use crate::permit::On;

const PAGE: u32 = 1000;

fn item(row: RevocationRow) -> Option<ReceiptItem> {
    Some(ReceiptItem {
        tenant: row.tenant,
        integration: row.integration,
        name: row.name,
        provider: row.provider,
        state: match row.state {
            RevocationState::Pending => return None,
            RevocationState::Confirmed => Settled::Confirmed,
            RevocationState::Unsupported => Settled::Unsupported,
            RevocationState::Failed => Settled::Failed,
        },
        detail: row.detail,
        // Nobody has to go to the page of what was confirmed.
        manual_url: row
            .manual_url
            .filter(|_| row.state != RevocationState::Confirmed),
        attempts: row.attempts,
        settled_at: row.settled_at?.rfc3339(),
    })
}

impl Broker {
    /// Closes the batch, if each of its grants has ended.
    pub(super) async fn close(&self, tenant: TenantId, id: BatchId) -> Result<(), Error> {
        let Some(batch) = self.store().find_batch(tenant, id).await? else {
            return Ok(());
        };
        let counts = self.store().count_revocations(tenant, id).await?;
        if batch.closed_at.is_some() || batch.total.is_none() || counts.pending > 0 {
            return Ok(());
        }
        let mut items = Vec::new();
        let mut after = None;
        loop {
            let page = self
                .store()
                .list_revocations(tenant, id, after, PAGE)
                .await?;
            after = page.last().map(|row| row.id);
            let full = page.len() == PAGE as usize;
            items.extend(page.into_iter().filter_map(item));
            if !full {
                break;
            }
        }
        let at = self.clock().now();
        let key = self.keyring().log_key();
        let corrupt = |_| Error::Corrupt {
            record: id.to_string(),
        };
        let receipt = RevocationReceipt {
            origin: key.verifier().name().to_owned(),
            batch: id,
            asked_by: batch.asked_by,
            selection: serde_json::from_str::<Value>(&batch.selector).map_err(corrupt)?,
            created_at: batch.created_at.rfc3339(),
            closed_at: at.rfc3339(),
            items,
        };
        let note = receipt
            .sign(key)
            .map_err(|fault| Error::internal(fault.to_string()))?;
        let hash: String = sha256(&[note.as_bytes()])
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let ctx = self.own_context(tenant);
        let on = On::kind(super::KIND, tenant).named(id);
        let mut entry = self.entry(&ctx, super::ACTION, &on, Outcome::Allowed);
        entry.caller = "system";
        entry.reason = Some(format!("closed; the receipt's SHA-256 is {hash}").into());
        let close = Effect::CloseBatch {
            tenant,
            batch: id,
            receipt: note,
            at,
        };
        match self.append(entry, vec![close]).await {
            // Closed by another node just now.
            Ok(()) | Err(Error::Conflict { .. } | Error::NotFound { .. }) => Ok(()),
            Err(fault) => Err(fault),
        }
    }
}
