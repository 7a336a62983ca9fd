//! Audit entries and proofs on the wire.

use keystead_broker as broker;
use keystead_broker::Error;
use keystead_core::entry::Leaf;
use serde::Serialize;
use utoipa::ToSchema;

use super::time;

/// An audit entry, for people and programs. What the log hashes is the leaf's own text: see
/// `/api/audit/export` and `/api/audit/proof`.
#[derive(Serialize, ToSchema)]
pub(crate) struct Entry {
    /// Its place in the log.
    seq: u64,
    #[schema(format = DateTime)]
    at: String,
    tenant: String,
    /// `user`, `service`, `operator`, `system` or `anonymous`.
    caller: String,
    /// Who exactly.
    by: Option<String>,
    action: &'static str,
    /// The kind of thing.
    on: &'static str,
    /// Which one.
    target: Option<String>,
    /// `allowed`, `denied` or `failed`.
    outcome: &'static str,
    reason: Option<String>,
    /// The credential version.
    version: Option<u64>,
    /// The version of granted tokens that was stored; of a deletion, that was destroyed.
    tokens: Option<u64>,
    /// The request's id.
    request: String,
    address: Option<String>,
}

impl Entry {
    /// From a leaf's text.
    pub(crate) fn read(leaf: &str) -> Result<Entry, Error> {
        let leaf: Leaf<'_> = serde_json::from_str(leaf)
            .map_err(|_| Error::internal("a stored leaf does not read"))?;
        Ok(Entry {
            seq: leaf.seq,
            at: time(leaf.at),
            tenant: leaf.tenant.to_string(),
            caller: leaf.caller.into_owned(),
            by: leaf.by.map(|by| by.into_owned()),
            action: leaf.action.as_str(),
            on: leaf.on.as_str(),
            target: leaf.target.map(|target| target.into_owned()),
            outcome: leaf.outcome.as_str(),
            reason: leaf.reason.map(|reason| reason.into_owned()),
            version: leaf.version,
            tokens: leaf.tokens,
            request: leaf.request.to_string(),
            address: leaf.address.map(|address| address.to_string()),
        })
    }
}

/// That an entry is in the log, or that one log is the beginning of another. Hashes are hex.
#[derive(Serialize, ToSchema)]
pub(crate) struct Proof {
    /// The tree's size.
    size: u64,
    /// Its root.
    root: String,
    inclusion: Option<Inclusion>,
    consistency: Option<Consistency>,
    /// The signed head of that tree.
    checkpoint: String,
}

/// RFC 6962 §2.1.1.
#[derive(Serialize, ToSchema)]
pub(crate) struct Inclusion {
    seq: u64,
    /// The entry's text, as it is hashed.
    leaf: String,
    hashes: Vec<String>,
}

/// RFC 6962 §2.1.2.
#[derive(Serialize, ToSchema)]
pub(crate) struct Consistency {
    /// The older tree's size.
    from: u64,
    hashes: Vec<String>,
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
            }
            text
        })
}

impl From<broker::Proof> for Proof {
    fn from(from: broker::Proof) -> Proof {
        Proof {
            size: from.size,
            root: hex(&from.root),
            inclusion: from.inclusion.map(|(seq, leaf, hashes)| Inclusion {
                seq,
                leaf,
                hashes: hashes.iter().map(hex).collect(),
            }),
            consistency: from.consistency.map(|(from, hashes)| Consistency {
                from,
                hashes: hashes.iter().map(hex).collect(),
            }),
            checkpoint: from.checkpoint,
        }
    }
}
