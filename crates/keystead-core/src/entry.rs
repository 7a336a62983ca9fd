//! An audit entry, and the bytes that the log hashes.
//!
//! ```text
//! leaf = {"v":1,"seq":7,"at":1795184100000000,"tenant":"ten_…","caller":"user","by":"dev|alice",
//!         "action":"use","on":"integration","target":"int_…","outcome":"allowed",
//!         "reason":"…","version":3,"tokens":7,"request":"req_…","address":"127.0.0.1"}
//! ```
//!
//! JSON with exactly these keys in this order, no white space; `by`, `target`, `reason`, `version`,
//! `tokens` and `address` are left out where there is none. The stored text *is* the leaf: what is read
//! back is hashed as it stands and never written anew.
//!
//! Never in an entry: a value, a query string, a body.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::action::{Action, Outcome, TargetKind};
use crate::caller::Caller;
use crate::ids::{RequestId, TenantId};
use crate::time::Time;

/// What is recorded of one decision. The log adds the sequence number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When it was decided.
    pub at: Time,
    /// Whose it is: the tenant acted in, or the platform's own.
    pub tenant: TenantId,
    /// `user`, `service`, `operator`, `system` or `anonymous`.
    pub caller: &'static str,
    /// Who exactly; `None` for anonymous.
    pub by: Option<String>,
    /// What was asked for.
    pub action: Action,
    /// On what kind of thing.
    pub on: TargetKind,
    /// On which one, by id or by the name that was asked for (at most 200 bytes are kept).
    pub target: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, in a word or a short clause of ours; of a caller or an upstream at most the key of a
    /// resource, in its checked form.
    pub reason: Option<Cow<'static, str>>,
    /// The credential version that was opened or made.
    pub version: Option<u64>,
    /// The version of the granted tokens that was stored; of a deletion, that was destroyed.
    pub tokens: Option<u64>,
    /// The request it belongs to.
    pub request: RequestId,
    /// Where the request came from.
    pub address: Option<IpAddr>,
}

impl Entry {
    /// Fills in who did it.
    pub fn by(mut self, caller: Option<&Caller>) -> Entry {
        self.caller = caller.map_or("anonymous", Caller::kind);
        self.by = caller.map(Caller::name);
        self
    }

    /// The bytes that are hashed and stored, for the given place in the log.
    pub fn leaf(&self, seq: u64) -> String {
        let leaf = Leaf {
            v: 1,
            seq,
            at: self.at,
            tenant: self.tenant,
            caller: Cow::Borrowed(self.caller),
            by: self.by.as_deref().map(|by| Cow::Borrowed(clip(by, 400))),
            action: self.action,
            on: self.on,
            target: self
                .target
                .as_deref()
                .map(|target| Cow::Borrowed(clip(target, 200))),
            outcome: self.outcome,
            reason: self.reason.as_deref().map(Cow::Borrowed),
            version: self.version,
            tokens: self.tokens,
            request: self.request,
            address: self.address,
        };
        // A struct of plain fields cannot fail to serialise.
        serde_json::to_string(&leaf).unwrap_or_default()
    }
}

/// An entry as it is read back from the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leaf<'a> {
    /// The form; 1.
    pub v: u8,
    /// The place in the log, from 0.
    pub seq: u64,
    /// Microseconds since the Unix epoch.
    pub at: Time,
    /// Whose entry it is.
    pub tenant: TenantId,
    /// Kind of caller.
    pub caller: Cow<'a, str>,
    /// Who exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Cow<'a, str>>,
    /// What was asked for.
    pub action: Action,
    /// On what kind of thing.
    pub on: TargetKind,
    /// On which one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Cow<'a, str>>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'a, str>>,
    /// The credential version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The version of granted tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// The request.
    pub request: RequestId,
    /// The caller's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
}

/// The longest prefix of at most `most` bytes that ends at a character.
fn clip(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_leaf_has_a_fixed_form_and_reads_back() {
        let entry = Entry {
            at: Time(7),
            tenant: TenantId::PLATFORM,
            caller: "anonymous",
            by: None,
            action: Action::Use,
            on: TargetKind::Integration,
            target: Some("é\"\n".repeat(100)),
            outcome: Outcome::Denied,
            reason: Some("unauthenticated".into()),
            version: None,
            tokens: None,
            request: RequestId::from_uuid(Uuid::nil()),
            address: Some(IpAddr::from([127, 0, 0, 1])),
        };
        let leaf = entry.leaf(3);
        assert!(leaf.starts_with(
            r#"{"v":1,"seq":3,"at":7,"tenant":"ten_00000000000000000000000000000000","caller":"anonymous","action":"use","on":"integration","target":"#
        ));
        assert!(leaf.ends_with(
            r#""outcome":"denied","reason":"unauthenticated","request":"req_00000000000000000000000000000000","address":"127.0.0.1"}"#
        ));
        let read: Leaf<'_> = serde_json::from_str(&leaf).unwrap();
        assert_eq!(read.seq, 3);
        assert!(read.target.unwrap().len() <= 200);
    }
}
