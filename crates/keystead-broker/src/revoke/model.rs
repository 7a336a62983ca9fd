//! What a revocation is to those who ask for it and look at it. Nothing secret.

use keystead_core::ids::{BatchId, IntegrationId, TenantId};
use keystead_core::time::Time;
use keystead_store::{BatchRow, RevocationCounts, RevocationRow, RevocationState};
use serde::{Deserialize, Serialize};

use crate::error::{Error, FieldFault};
use crate::page::Page;

/// More ids than that are a tenant's or a provider's integrations, and are better named so.
pub(super) const IDS_MOST: usize = 1000;
const REASON_MOST: usize = 500;

/// Whose grants are to be taken back: those for which all that is named holds.
#[derive(Clone, Debug, Default)]
pub struct NewRevocation {
    /// Of this tenant: its id, or a name as `Keystead-Tenant` takes it.
    pub tenant: Option<String>,
    /// Of this provider.
    pub provider: Option<String>,
    /// These.
    pub integrations: Vec<IntegrationId>,
    /// Used or handed out in this time, the end not included.
    pub used_between: Option<(Time, Time)>,
    /// Why, for whoever reads the receipt.
    pub reason: Option<String>,
}

/// The same as a batch keeps it, and as its receipt says it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// Of this tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// Of this provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// These.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub integrations: Vec<IntegrationId>,
    /// Used from then on, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_from: Option<String>,
    /// Used before then, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_until: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The integrations were deleted, not only disabled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

impl Selection {
    pub(super) fn to_text(&self) -> Result<String, Error> {
        serde_json::to_string(self).map_err(|_| Error::internal("a selection that is no JSON"))
    }

    pub(super) fn read(row: &BatchRow) -> Result<Selection, Error> {
        serde_json::from_str(&row.selector).map_err(|_| Error::Corrupt {
            record: row.id.to_string(),
        })
    }

    /// In which time, where it is named.
    pub(super) fn used_between(&self) -> Option<(Time, Time)> {
        let from = self.used_from.as_deref().and_then(Time::parse_rfc3339)?;
        let until = self.used_until.as_deref().and_then(Time::parse_rfc3339)?;
        Some((from, until))
    }
}

/// What is wrong with what was asked for.
pub(super) fn check(new: &NewRevocation) -> Vec<FieldFault> {
    let mut faults = Vec::new();
    let nothing = new.tenant.is_none()
        && new.provider.is_none()
        && new.integrations.is_empty()
        && new.used_between.is_none();
    if nothing {
        let message = "say whose: name tenant, provider, integrations or used_between";
        faults.push(FieldFault::new("", message));
    }
    if new.integrations.len() > IDS_MOST {
        let message = format!("must be at most {IDS_MOST}: name a tenant or a provider instead");
        faults.push(FieldFault::new("integrations", message));
    }
    if new.used_between.is_some_and(|(from, until)| from >= until) {
        faults.push(FieldFault::new("used_between", "must end after it begins"));
    }
    let odd = |reason: &String| reason.len() > REASON_MOST || reason.chars().any(char::is_control);
    if new.reason.as_ref().is_some_and(odd) {
        let message = format!("must be at most {REASON_MOST} bytes on one line");
        faults.push(FieldFault::new("reason", message));
    }
    faults
}

/// How far a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchState {
    /// Integrations are being found and put out of use.
    Selecting,
    /// Providers are being asked.
    Working,
    /// Each has ended, and there is a receipt.
    Closed,
}

impl BatchState {
    /// As the API says it.
    pub const fn as_str(self) -> &'static str {
        match self {
            BatchState::Selecting => "selecting",
            BatchState::Working => "working",
            BatchState::Closed => "closed",
        }
    }
}

/// Revocations that were asked for together.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its id.
    pub id: BatchId,
    /// Whose; `None`: the platform's.
    pub tenant: Option<TenantId>,
    /// How far it is.
    pub state: BatchState,
    /// Who asked for it.
    pub asked_by: String,
    /// What was asked for.
    pub selection: Selection,
    /// How many integrations there are in it, so far while they are being found.
    pub total: u64,
    /// How many of them are how far.
    pub counts: RevocationCounts,
    /// When it was asked for.
    pub created_at: Time,
    /// When the last one ended.
    pub closed_at: Option<Time>,
}

impl Batch {
    pub(super) fn read(row: &BatchRow, counts: RevocationCounts) -> Result<Batch, Error> {
        let state = match (row.total, row.closed_at) {
            (_, Some(_)) => BatchState::Closed,
            (Some(_), None) => BatchState::Working,
            (None, None) => BatchState::Selecting,
        };
        Ok(Batch {
            id: row.id,
            tenant: (row.tenant != TenantId::PLATFORM).then_some(row.tenant),
            state,
            asked_by: row.asked_by.clone(),
            selection: Selection::read(row)?,
            total: row.total.unwrap_or(counts.all()),
            counts,
            created_at: row.created_at,
            closed_at: row.closed_at,
        })
    }
}

/// One grant of a batch.
#[derive(Clone, Debug)]
pub struct Revocation {
    /// Which integration had it.
    pub integration: IntegrationId,
    /// What its tenant called it.
    pub name: String,
    /// Whose.
    pub tenant: TenantId,
    /// The provider's id.
    pub provider: String,
    /// How far it is.
    pub state: RevocationState,
    /// What there is to say of it.
    pub detail: Option<String>,
    /// Where a person can do it.
    pub manual_url: Option<String>,
    /// How often the provider was asked.
    pub attempts: u64,
    /// When the provider is asked again.
    pub next_at: Option<Time>,
    /// When it ended.
    pub settled_at: Option<Time>,
}

impl From<RevocationRow> for Revocation {
    fn from(row: RevocationRow) -> Revocation {
        Revocation {
            integration: row.integration,
            name: row.name,
            tenant: row.tenant,
            provider: row.provider,
            state: row.state,
            detail: row.detail,
            manual_url: row.manual_url,
            attempts: row.attempts,
            next_at: row.next_at,
            settled_at: row.settled_at,
        }
    }
}

/// What a batch would take back.
#[derive(Clone, Debug)]
pub struct Preview {
    /// How many.
    pub total: u64,
    /// The first of them.
    pub first: Vec<Candidate>,
}

/// An integration that would be put out of use.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Which.
    pub integration: IntegrationId,
    /// What its tenant calls it.
    pub name: String,
    /// Whose.
    pub tenant: TenantId,
    /// The provider's id.
    pub provider: String,
    /// When it was last used.
    pub last_used_at: Option<Time>,
}

/// A batch and a page of what is in it.
#[derive(Clone, Debug)]
pub struct BatchPage {
    /// The batch.
    pub batch: Batch,
    /// What is in it, the oldest first.
    pub items: Page<Revocation>,
}
