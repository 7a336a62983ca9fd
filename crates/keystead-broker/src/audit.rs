//! Reading the audit log: a tenant its own entries, an operator all of it; and proving what it says.

use keystead_core::action::{Action, Outcome, TargetKind};
use keystead_core::ids::TenantId;
use keystead_core::log::{Checkpoint, Hash, consistency_proof, inclusion_proof};
use keystead_store::EntryFilter as RowFilter;

use crate::broker::Broker;
use crate::context::Context;
use crate::error::Error;
use crate::page::Page;
use crate::permit::On;

/// Which entries to list.
#[derive(Clone, Debug, Default)]
pub struct EntryFilter {
    /// Of this action.
    pub action: Option<Action>,
    /// On this kind of thing.
    pub on: Option<TargetKind>,
    /// On this thing.
    pub target: Option<String>,
    /// That ended so.
    pub outcome: Option<Outcome>,
    /// At most so many, 200 at the most.
    pub limit: u32,
    /// Before this place; the newest come first.
    pub after: Option<String>,
}

/// What to prove.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProofAsk {
    /// That this entry is in the log.
    pub seq: Option<u64>,
    /// That the log of this size is a beginning of it.
    pub from: Option<u64>,
    /// The log's size to prove it for; the present one where none is given.
    pub size: Option<u64>,
}

/// A proof, against a signed checkpoint of the same size.
#[derive(Clone, Debug)]
pub struct Proof {
    /// The log's size.
    pub size: u64,
    /// The root over so many entries.
    pub root: Hash,
    /// That an entry is in it: its number, its text, the hashes from it to the root.
    pub inclusion: Option<(u64, String, Vec<Hash>)>,
    /// That an older log is its beginning: that size, and the hashes.
    pub consistency: Option<(u64, Vec<Hash>)>,
    /// The signed head.
    pub checkpoint: String,
}

pub(crate) const EXPORT_MOST: u64 = 10_000;

impl Broker {
    /// Whose entries: an operator without a tenant reads the platform's.
    async fn audited(&self, ctx: &Context) -> Result<TenantId, Error> {
        match ctx.caller.as_deref() {
            Some(keystead_core::caller::Caller::Operator { .. }) => {
                Ok(ctx.tenant.unwrap_or(TenantId::PLATFORM))
            }
            _ => self.tenant_of(ctx, Action::Audit, TargetKind::Audit).await,
        }
    }

    /// The tenant's entries as they are stored, the newest first.
    ///
    /// # Errors
    /// `Denied` below admin.
    pub async fn list_entries(
        &self,
        ctx: &Context,
        filter: EntryFilter,
    ) -> Result<Page<String>, Error> {
        let tenant = self.audited(ctx).await?;
        let decided = self
            .decide(ctx, Action::Audit, &On::kind(TargetKind::Audit, tenant))
            .await?;
        let before = match Page::<String>::after(filter.after.as_deref()) {
            Ok(before) => before,
            Err(fault) => return Err(decided.fail(fault).await),
        };
        decided.record().await?;
        let limit = Page::<String>::limit(filter.limit);
        let rows = RowFilter {
            action: filter.action,
            on: filter.on,
            target: filter.target,
            outcome: filter.outcome,
        };
        let rows = self
            .store()
            .entries(tenant, &rows, before, limit + 1)
            .await?;
        Ok(Page::of(rows, limit, |row| row.seq.to_string()).map(|row| row.leaf))
    }

    /// The signed head of the log.
    ///
    /// # Errors
    /// `Denied` below admin.
    pub async fn checkpoint(&self, ctx: &Context) -> Result<String, Error> {
        let tenant = self.audited(ctx).await?;
        self.decide(ctx, Action::Audit, &On::kind(TargetKind::Audit, tenant))
            .await?
            .record()
            .await?;
        let head = self.store().head().await?;
        self.signed(head.size, head.root)
    }

    fn signed(&self, size: u64, root: Hash) -> Result<String, Error> {
        let key = self.keyring().log_key();
        Checkpoint {
            origin: key.verifier().name().to_owned(),
            size,
            root,
        }
        .sign(key)
        .map_err(|fault| Error::internal(fault.to_string()))
    }

    /// Proves that an entry is in the log, or that an older log is its beginning, or both.
    ///
    /// # Errors
    /// `Invalid` for numbers that the log has not reached; `NotFound` for another tenant's entry.
    pub async fn proof(&self, ctx: &Context, ask: ProofAsk) -> Result<Proof, Error> {
        let tenant = self.audited(ctx).await?;
        let on = On::kind(TargetKind::Audit, tenant);
        let decided = self.decide(ctx, Action::Audit, &on).await?;
        let head = self.store().head().await?;
        let size = ask.size.unwrap_or(head.size);
        let wrong = if size > head.size {
            Some(("size", "the log is not that long yet"))
        } else if ask.seq.is_some_and(|seq| seq >= size) {
            Some(("seq", "is not below the size"))
        } else if ask.from.is_some_and(|from| from > size) {
            Some(("from", "is above the size"))
        } else {
            None
        };
        if let Some((path, message)) = wrong {
            return Err(decided.fail(Error::field(path, message)).await);
        }
        let inclusion = match ask.seq {
            None => None,
            Some(seq) => {
                let leaf = self.store().leaves(seq, seq + 1).await?.pop();
                let own = leaf.filter(|leaf| tenant == TenantId::PLATFORM || belongs(leaf, tenant));
                let Some(leaf) = own else {
                    return Err(decided.fail(Error::NotFound { what: "entry" }).await);
                };
                let hashes = self
                    .store()
                    .ask(|source| inclusion_proof(seq, size, source))
                    .await?;
                Some((seq, leaf, hashes))
            }
        };
        let consistency = match ask.from {
            None => None,
            Some(from) => Some((
                from,
                self.store()
                    .ask(|source| consistency_proof(from, size, source))
                    .await?,
            )),
        };
        let root = if size == head.size {
            head.root
        } else {
            self.store()
                .ask(|source| {
                    keystead_core::log::Frontier::from_source(size, source)
                        .map(|frontier| frontier.root())
                })
                .await?
        };
        decided.record().await?;
        Ok(Proof {
            size,
            root,
            inclusion,
            consistency,
            checkpoint: self.signed(size, root)?,
        })
    }

    /// The whole log from an entry on, at most 10,000 at a time.
    ///
    /// # Errors
    /// `Denied` for all but operators.
    pub async fn export(&self, ctx: &Context, from: u64) -> Result<Vec<String>, Error> {
        self.decide(
            ctx,
            Action::Audit,
            &On::kind(TargetKind::Audit, TenantId::PLATFORM),
        )
        .await?
        .record()
        .await?;
        Ok(self
            .store()
            .leaves(from, from.saturating_add(EXPORT_MOST))
            .await?)
    }

    /// The key that checks checkpoints, in the C2SP text form.
    pub fn verifier_key(&self) -> String {
        self.keyring().verifier_key().to_string()
    }
}

fn belongs(leaf: &str, tenant: TenantId) -> bool {
    serde_json::from_str::<keystead_core::entry::Leaf<'_>>(leaf)
        .is_ok_and(|leaf| leaf.tenant == tenant)
}
