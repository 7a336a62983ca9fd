//! Taking grants back at their providers, with a receipt of what became of each.
//!
//! ```text
//! batch ─► select ─► take out: one write ─► ask the provider, for a week ─► receipt, signed
//!                    disabled or deleted · credential destroyed · what the call needs sealed anew
//! ```
//!
//! What always holds: an integration is out of use before its provider is asked; what the call needs
//! is destroyed in the write that settles it; a provider is asked under a claim, so that nobody else
//! asks meanwhile, and asked again where nobody knows what came of it. Asking twice is harmless.
//!
//! Not here: how a provider takes a credential back (its file), the receipt's form (core's log).

mod answer;
mod ask;
mod close;
mod left;
mod model;
mod select;
mod take;
mod work;

use keystead_core::action::{Action, TargetKind};
use keystead_core::ids::TenantId;
use keystead_store::IntegrationRow;

pub use model::{
    Batch, BatchPage, BatchState, Candidate, NewRevocation, Preview, Revocation, Selection,
};

use crate::broker::Broker;
use crate::context::Context;
use crate::error::Error;

/// What taking a grant back is, to policy and in entries: the end of an integration.
const ACTION: Action = Action::Delete;
const KIND: TargetKind = TargetKind::Integration;

impl Broker {
    /// Whether the integration's grant was taken back, and it was given no other since.
    pub(crate) async fn is_revoked(&self, row: &IntegrationRow) -> Result<bool, Error> {
        let (tenant, id) = (row.tenant, row.id);
        let Some(last) = self.store().find_newest_revocation(tenant, id).await? else {
            return Ok(false);
        };
        let credential = self
            .store()
            .find_credential(tenant, id, row.credential_version)
            .await?;
        // The empty version that stands for what was destroyed is of the same write.
        Ok(credential.is_some_and(|credential| credential.created_at == last.created_at))
    }

    /// A request of Keystead's own, in a tenant.
    fn own_context(&self, tenant: TenantId) -> Context {
        let mut ctx = Context::anonymous(self.new_request_id(), None);
        ctx.tenant = Some(tenant);
        ctx
    }
}
