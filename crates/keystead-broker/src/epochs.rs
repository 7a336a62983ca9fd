//! When a cached thing may still be believed.
//!
//! A cached value carries the epoch of its slot as it was *before* the value was read; it is valid
//! while the slot still has that epoch. The change feed, and this node's own writes, move slots on.
//! So a read that raced with a change is never kept, and there is nothing to evict.
//!
//! A node that has not heard the feed for a second believes none of its caches.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use keystead_core::ids::TenantId;
use keystead_core::time::Time;

const SLOTS: usize = 4096;
const TRUST_MICROS: i64 = 1_000_000;

/// A slot's epoch at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoch(u64);

/// The epochs of this node.
pub(crate) struct Epochs {
    tenants: Box<[AtomicU64]>,
    callers: AtomicU64,
    heard: AtomicI64,
    hasher: RandomState,
}

impl Epochs {
    pub(crate) fn new(now: Time) -> Epochs {
        Epochs {
            tenants: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            callers: AtomicU64::new(0),
            heard: AtomicI64::new(now.0),
            hasher: RandomState::new(),
        }
    }

    fn slot(&self, tenant: TenantId) -> &AtomicU64 {
        let slot = usize::try_from(self.hasher.hash_one(tenant)).unwrap_or(0) % SLOTS;
        &self.tenants[slot]
    }

    /// The epoch of what belongs to a tenant.
    pub(crate) fn of_tenant(&self, tenant: TenantId) -> Epoch {
        Epoch(self.slot(tenant).load(Ordering::Acquire))
    }

    /// The epoch of who callers are: keys, members, tenants.
    pub(crate) fn of_callers(&self) -> Epoch {
        Epoch(self.callers.load(Ordering::Acquire))
    }

    /// Something of a tenant changed.
    pub(crate) fn move_tenant(&self, tenant: TenantId) {
        self.slot(tenant).fetch_add(1, Ordering::AcqRel);
    }

    /// A key, a member or a tenant changed.
    pub(crate) fn move_callers(&self) {
        self.callers.fetch_add(1, Ordering::AcqRel);
    }

    /// The feed was heard, up to what was committed at that time.
    pub(crate) fn hear(&self, asked_at: Time) {
        self.heard.store(asked_at.0, Ordering::Release);
    }

    /// Whether caches may be believed now.
    pub(crate) fn trusted(&self, now: Time) -> bool {
        let silence = now.0.saturating_sub(self.heard.load(Ordering::Acquire));
        // A clock that was set back must not prolong trust for as long as it went back.
        (-TRUST_MICROS..TRUST_MICROS).contains(&silence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_read_before_a_change_is_not_believed_after_it() {
        let epochs = Epochs::new(Time(0));
        let before = epochs.of_tenant(TenantId::PLATFORM);
        epochs.move_tenant(TenantId::PLATFORM);
        assert_ne!(before, epochs.of_tenant(TenantId::PLATFORM));
    }

    #[test]
    fn a_node_that_hears_nothing_for_a_second_believes_nothing() {
        let epochs = Epochs::new(Time(5_000_000));
        assert!(epochs.trusted(Time(5_999_999)));
        assert!(!epochs.trusted(Time(6_000_000)));
        assert!(
            !epochs.trusted(Time(1_000_000)),
            "nor one whose clock jumped back"
        );
        epochs.hear(Time(6_000_000));
        assert!(epochs.trusted(Time(6_500_000)));
    }
}
