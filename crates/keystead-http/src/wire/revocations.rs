//! Revocations on the wire.

use keystead_broker as broker;
use keystead_broker::{Error, FieldFault};
use keystead_core::ids::IntegrationId;
use keystead_core::time::Time;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::time;

/// Whose grants to take back at their providers: those for which all that is named holds. At least
/// one of `tenant`, `provider`, `integrations` and `used_between` has to be named.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewRevocation {
    /// Of this tenant: its id, or its name as `Keystead-Tenant` takes it.
    tenant: Option<String>,
    /// Of this provider.
    provider: Option<String>,
    /// These, at most 1,000.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    integrations: Vec<IntegrationId>,
    /// Used or handed out in this time, by the audit log.
    used_between: Option<UsedBetween>,
    /// Why; the receipt says it.
    reason: Option<String>,
    /// Only say which these are; nothing is changed.
    #[serde(default)]
    dry_run: bool,
}

/// A stretch of time.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UsedBetween {
    /// From then on.
    #[schema(format = DateTime)]
    from: String,
    /// Before then.
    #[schema(format = DateTime)]
    until: String,
}

impl NewRevocation {
    /// What was asked for, and whether it is only to be looked at.
    pub(crate) fn read(self) -> Result<(broker::NewRevocation, bool), Error> {
        let mut faults = Vec::new();
        let mut read = |path: &str, text: &str| {
            let at = Time::parse_rfc3339(text);
            if at.is_none() {
                let message = "expected a time as RFC 3339 has it, such as 2026-11-20T14:15:00Z";
                faults.push(FieldFault::new(format!("used_between.{path}"), message));
            }
            at
        };
        let used_between = self.used_between.and_then(|between| {
            let (from, until) = (read("from", &between.from), read("until", &between.until));
            from.zip(until)
        });
        if !faults.is_empty() {
            return Err(Error::Invalid(faults));
        }
        let new = broker::NewRevocation {
            tenant: self.tenant,
            provider: self.provider,
            integrations: self.integrations,
            used_between,
            reason: self.reason,
        };
        Ok((new, self.dry_run))
    }
}

/// Grants that are taken back together.
#[derive(Serialize, ToSchema)]
pub(crate) struct Batch {
    pub(crate) id: String,
    /// Whose; null: the platform's.
    tenant: Option<String>,
    /// `selecting`: integrations are being found and put out of use; `working`: their providers are
    /// asked; `closed`: each has ended, and there is a receipt.
    state: &'static str,
    asked_by: String,
    selection: Selection,
    /// How many integrations; so far, while they are being found.
    total: u64,
    counts: Counts,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    closed_at: Option<String>,
}

/// What was asked for.
#[derive(Serialize, ToSchema)]
pub(crate) struct Selection {
    tenant: Option<String>,
    provider: Option<String>,
    integrations: Vec<String>,
    #[schema(format = DateTime)]
    used_from: Option<String>,
    #[schema(format = DateTime)]
    used_until: Option<String>,
    reason: Option<String>,
    /// The integrations were deleted, not only disabled.
    deleted: bool,
}

/// How many are how far.
#[derive(Serialize, ToSchema)]
pub(crate) struct Counts {
    /// The provider is asked, again and again where it has to be.
    pending: u64,
    /// The provider confirmed it.
    confirmed: u64,
    /// The provider has no call for it: a person has to.
    unsupported: u64,
    /// The provider did not confirm it in a week: a person has to.
    failed: u64,
}

impl From<broker::Batch> for Batch {
    fn from(from: broker::Batch) -> Batch {
        let (selection, counts) = (from.selection, from.counts);
        Batch {
            id: from.id.to_string(),
            tenant: from.tenant.map(|id| id.to_string()),
            state: from.state.as_str(),
            asked_by: from.asked_by,
            selection: Selection {
                tenant: selection.tenant.map(|id| id.to_string()),
                provider: selection.provider,
                integrations: selection
                    .integrations
                    .iter()
                    .map(IntegrationId::to_string)
                    .collect(),
                used_from: selection.used_from,
                used_until: selection.used_until,
                reason: selection.reason,
                deleted: selection.deleted,
            },
            total: from.total,
            counts: Counts {
                pending: counts.pending,
                confirmed: counts.confirmed,
                unsupported: counts.unsupported,
                failed: counts.failed,
            },
            created_at: time(from.created_at),
            closed_at: from.closed_at.map(time),
        }
    }
}

/// A batch and a page of its grants.
#[derive(Serialize, ToSchema)]
pub(crate) struct BatchPage {
    #[serde(flatten)]
    batch: Batch,
    /// The grants on this page.
    data: Vec<Revocation>,
    /// What to give as `after` for the next page; null on the last.
    next: Option<String>,
}

impl From<broker::BatchPage> for BatchPage {
    fn from(from: broker::BatchPage) -> BatchPage {
        BatchPage {
            batch: from.batch.into(),
            data: from.items.data.into_iter().map(Revocation::from).collect(),
            next: from.items.next,
        }
    }
}

/// One grant that is taken back.
#[derive(Serialize, ToSchema)]
pub(crate) struct Revocation {
    /// The integration that had it.
    integration: String,
    name: String,
    tenant: String,
    /// The provider's id.
    provider: String,
    /// `pending`, `confirmed`, `unsupported` or `failed`.
    state: &'static str,
    /// For people.
    detail: Option<String>,
    /// The page where a person can do it.
    manual_url: Option<String>,
    /// How often the provider was asked.
    attempts: u64,
    /// When it is asked again.
    #[schema(format = DateTime)]
    next_at: Option<String>,
    #[schema(format = DateTime)]
    settled_at: Option<String>,
}

impl From<broker::Revocation> for Revocation {
    fn from(from: broker::Revocation) -> Revocation {
        Revocation {
            integration: from.integration.to_string(),
            name: from.name,
            tenant: from.tenant.to_string(),
            provider: from.provider,
            state: from.state.as_str(),
            detail: from.detail,
            manual_url: from.manual_url,
            attempts: from.attempts,
            next_at: from.next_at.map(time),
            settled_at: from.settled_at.map(time),
        }
    }
}

/// What would be taken back.
#[derive(Serialize, ToSchema)]
pub(crate) struct Preview {
    dry_run: bool,
    /// How many integrations.
    total: u64,
    /// The first 200 of them.
    data: Vec<Candidate>,
}

/// An integration that would be put out of use.
#[derive(Serialize, ToSchema)]
pub(crate) struct Candidate {
    integration: String,
    name: String,
    tenant: String,
    /// The provider's id.
    provider: String,
    #[schema(format = DateTime)]
    last_used_at: Option<String>,
}

impl From<broker::Preview> for Preview {
    fn from(from: broker::Preview) -> Preview {
        let candidate = |from: broker::Candidate| Candidate {
            integration: from.integration.to_string(),
            name: from.name,
            tenant: from.tenant.to_string(),
            provider: from.provider,
            last_used_at: from.last_used_at.map(time),
        };
        Preview {
            dry_run: true,
            total: from.total,
            data: from.first.into_iter().map(candidate).collect(),
        }
    }
}

/// An integration that was deleted, and whose grant is taken back.
#[derive(Serialize, ToSchema)]
pub(crate) struct Revoked {
    /// The batch: `/api/revocations/{id}` says how far it is.
    pub(crate) revocation: String,
    /// `pending`; or `unsupported` or `confirmed` where there is nothing to ask the provider for.
    state: &'static str,
    detail: Option<String>,
    /// The page where a person can do it.
    manual_url: Option<String>,
}

impl From<broker::BatchPage> for Revoked {
    fn from(from: broker::BatchPage) -> Revoked {
        // One that is not confirmed, where there are several.
        let confirmed = |item: &broker::Revocation| item.state.as_str() == "confirmed";
        let item = from.items.data.into_iter().min_by_key(confirmed);
        Revoked {
            revocation: from.batch.id.to_string(),
            state: item.as_ref().map_or("pending", |item| item.state.as_str()),
            detail: item.as_ref().and_then(|item| item.detail.clone()),
            manual_url: item.and_then(|item| item.manual_url),
        }
    }
}
