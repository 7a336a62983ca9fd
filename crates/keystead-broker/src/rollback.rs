//! Whether live rows are behind what the log says of them.
//!
//! A sealed version opens in its own place alone, but somebody who writes to the database could
//! name an older version the current one again, or put a destroyed row back. The log knows better:
//! each version that is made, used or destroyed is in an entry, and each version of tokens.

use std::collections::HashMap;

use keystead_core::action::{Action, Outcome, TargetKind};
use keystead_core::entry::Leaf;
use keystead_core::ids::{IntegrationId, TenantId};

use crate::audit::EXPORT_MOST;
use crate::broker::Broker;
use crate::context::Context;
use crate::error::Error;

/// An integration whose row, or whose tokens' row, is behind the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetBack {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub integration: IntegrationId,
    /// Whether it is its tokens' row, and not the one of its credential.
    pub tokens: bool,
    /// The version on record; `None`: destroyed.
    pub on_record: Option<u64>,
    /// The version that the row names.
    pub stored: u64,
}

/// What is on record of an integration.
struct Known {
    /// The version of its credential; `None`: destroyed.
    version: Option<u64>,
    /// The lowest version that tokens of it can have.
    tokens: u64,
}

type OnRecord = HashMap<(TenantId, IntegrationId), Known>;

impl Broker {
    /// The integrations whose rows name an older version than the log, of the credential or of
    /// granted tokens, or that the log says were destroyed. Reads the whole log.
    ///
    /// # Errors
    /// `Denied` for all but operators.
    pub async fn find_set_back(&self, ctx: &Context) -> Result<Vec<SetBack>, Error> {
        let mut on_record = OnRecord::new();
        let mut next = 0;
        loop {
            let leaves = self.export(ctx, next).await?;
            let size = leaves.len() as u64;
            for leaf in &leaves {
                note(&mut on_record, leaf);
            }
            next += size;
            if size < EXPORT_MOST {
                break;
            }
        }
        let mut found = Vec::new();
        for ((tenant, integration), known) in on_record {
            let Some(row) = self.store().find_integration(tenant, integration).await? else {
                continue;
            };
            let stored = row.credential_version;
            if known.version.is_none_or(|version| stored < version) {
                found.push(SetBack {
                    tenant,
                    integration,
                    tokens: false,
                    on_record: known.version,
                    stored,
                });
            }
            let tokens = self.store().find_token_set(tenant, integration).await?;
            let behind = tokens.filter(|row| row.token_version < known.tokens);
            found.extend(behind.map(|row| SetBack {
                tenant,
                integration,
                tokens: true,
                on_record: Some(known.tokens),
                stored: row.token_version,
            }));
        }
        Ok(found)
    }
}

fn note(on_record: &mut OnRecord, leaf: &str) {
    let Ok(leaf) = serde_json::from_str::<Leaf<'_>>(leaf) else {
        return;
    };
    if leaf.on != TargetKind::Integration || leaf.outcome != Outcome::Allowed {
        return;
    }
    // What is being made is named by its tenant's word for it, and its id is the reason.
    let id = [leaf.target, leaf.reason]
        .into_iter()
        .flatten()
        .find_map(|text| text.parse::<IntegrationId>().ok());
    let Some(id) = id.filter(|_| leaf.version.or(leaf.tokens).is_some()) else {
        return;
    };
    let known = on_record.entry((leaf.tenant, id)).or_insert(Known {
        version: Some(0),
        tokens: 0,
    });
    // A deletion names what was destroyed.
    let destroys = leaf.action == Action::Delete;
    if let Some(tokens) = leaf.tokens {
        known.tokens = known.tokens.max(tokens + u64::from(destroys));
    }
    if let Some(version) = leaf.version {
        let later = known.version.map(|known| known.max(version));
        known.version = later.filter(|_| !destroys);
    }
}
