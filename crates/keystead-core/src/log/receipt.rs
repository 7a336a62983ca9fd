//! The receipt of a revocation: what became of each grant that was to be taken back, signed.
//!
//! ```text
//! keystead/ins_… revocations                      the log's name, and what this is
//! {"v":1,"batch":"rvb_…","asked_by":"…",…}        what was asked for, and the counts
//! {"tenant":"ten_…","integration":"int_…",…}      one line for each integration
//! ```
//!
//! A signed note by the log's key. What always holds: the first line is no log's origin, and a
//! checkpoint has three lines of another form, so that neither is ever taken for the other; the
//! text has one spelling; the counts are those of the lines.

use serde::{Deserialize, Serialize};

use super::note::{LogKey, NoteError, VerifierKey};
use crate::ids::{BatchId, IntegrationId, TenantId};

/// More is refused unread: about a million lines.
const LONGEST: usize = 256 << 20;

/// How taking back one grant ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Settled {
    /// The provider confirmed it, or there was nothing to take back.
    Confirmed,
    /// The provider has no call for it: a person has to.
    Unsupported,
    /// The provider did not confirm it in time: a person has to.
    Failed,
}

/// What became of one grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptItem {
    /// Whose.
    pub tenant: TenantId,
    /// Which integration had it.
    pub integration: IntegrationId,
    /// What its tenant called it.
    pub name: String,
    /// The provider's id.
    pub provider: String,
    /// How it ended.
    pub state: Settled,
    /// What there is to say of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Where a person can do it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manual_url: Option<String>,
    /// How often the provider was asked.
    pub attempts: u64,
    /// When it ended, RFC 3339.
    pub settled_at: String,
}

/// What was asked for, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationReceipt {
    /// Which log's installation it is of.
    pub origin: String,
    /// Which batch.
    pub batch: BatchId,
    /// Who asked for it.
    pub asked_by: String,
    /// What was asked for, as the batch keeps it.
    pub selection: serde_json::Value,
    /// When it was asked for, RFC 3339.
    pub created_at: String,
    /// When the last one ended, RFC 3339.
    pub closed_at: String,
    /// Each integration.
    pub items: Vec<ReceiptItem>,
}

/// The line that says what the lines below are.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    v: u8,
    batch: BatchId,
    asked_by: String,
    selection: serde_json::Value,
    created_at: String,
    closed_at: String,
    total: usize,
    confirmed: usize,
    unsupported: usize,
    failed: usize,
}

impl RevocationReceipt {
    /// How many ended so.
    pub fn count(&self, state: Settled) -> usize {
        self.items.iter().filter(|item| item.state == state).count()
    }

    /// The signed note; refused for a key of another log.
    pub fn sign(&self, key: &LogKey) -> Result<String, NoteError> {
        if self.origin != key.verifier().name() {
            return Err(NoteError::Origin);
        }
        key.sign(&self.body())
    }

    /// Reads a signed note that this key, of this log, has signed.
    pub fn parse_signed(note: &str, key: &VerifierKey) -> Result<RevocationReceipt, NoteError> {
        let text = key.open_up_to(note, LONGEST)?;
        let receipt = RevocationReceipt::parse(text).ok_or(NoteError::Form("receipt"))?;
        if receipt.origin != key.name() {
            return Err(NoteError::Origin);
        }
        Ok(receipt)
    }

    fn body(&self) -> String {
        let head = Head {
            v: 1,
            batch: self.batch,
            asked_by: self.asked_by.clone(),
            selection: self.selection.clone(),
            created_at: self.created_at.clone(),
            closed_at: self.closed_at.clone(),
            total: self.items.len(),
            confirmed: self.count(Settled::Confirmed),
            unsupported: self.count(Settled::Unsupported),
            failed: self.count(Settled::Failed),
        };
        let mut body = format!("{} revocations\n", self.origin);
        // Structs of plain fields cannot fail to serialise.
        body.push_str(&serde_json::to_string(&head).unwrap_or_default());
        body.push('\n');
        for item in &self.items {
            body.push_str(&serde_json::to_string(item).unwrap_or_default());
            body.push('\n');
        }
        body
    }

    fn parse(body: &str) -> Option<RevocationReceipt> {
        let mut lines = body.strip_suffix('\n')?.split('\n');
        let origin = lines.next()?.strip_suffix(" revocations")?.to_owned();
        let head: Head = serde_json::from_str(lines.next()?).ok()?;
        let items = lines.map(serde_json::from_str).collect::<Result<_, _>>();
        let receipt = RevocationReceipt {
            origin,
            batch: head.batch,
            asked_by: head.asked_by,
            selection: head.selection,
            created_at: head.created_at,
            closed_at: head.closed_at,
            items: items.ok()?,
        };
        // Covers the counts, the version, white space, and whatever else has a second spelling.
        (receipt.body() == body).then_some(receipt)
    }
}
