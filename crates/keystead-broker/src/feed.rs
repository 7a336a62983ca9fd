//! The change feed: this node learns what other nodes and commands changed.
//!
//! The audit log is the feed. Each change is an entry, in the order in which it was committed, so
//! "what changed since entry N" is one indexed query, the same on both stores.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keystead_core::action::TargetKind;

use crate::broker::Broker;
use crate::error::Error;

/// How often the feed is read: a change is known everywhere well within a second.
pub(crate) const EVERY: Duration = Duration::from_millis(200);

const PAGE: u32 = 1000;

/// Where this node is in the feed.
#[derive(Default)]
pub(crate) struct FeedPlace(AtomicU64);

impl FeedPlace {
    /// Starts after the entries that there are.
    pub(crate) fn at(next: u64) -> FeedPlace {
        FeedPlace(AtomicU64::new(next))
    }
}

impl Broker {
    /// Reads what is new in the feed and moves the epochs on.
    ///
    /// # Errors
    /// `Unavailable` when the store does not answer; caches stop being believed after a second.
    pub async fn hear_changes(&self) -> Result<(), Error> {
        loop {
            let asked_at = self.clock().now();
            let from = self.feed_place().0.load(Ordering::Acquire);
            let changes = self.store().changes_since(from, PAGE).await?;
            let full = changes.len() == PAGE as usize;
            let mut next = from;
            for change in changes {
                next = next.max(change.seq + 1);
                match change.on {
                    TargetKind::Key | TargetKind::Member => self.epochs().move_callers(),
                    TargetKind::Tenant => {
                        self.epochs().move_callers();
                        self.epochs().move_tenant(change.tenant);
                        // Deleted or not: keys that are still there are opened anew.
                        let named = change.target.as_deref().and_then(|id| id.parse().ok());
                        if let Some(named) = named {
                            self.epochs().move_tenant(named);
                            self.keyring().forget(named);
                        }
                    }
                    _ => self.epochs().move_tenant(change.tenant),
                }
            }
            self.feed_place().0.store(next, Ordering::Release);
            if !full {
                self.epochs().hear(asked_at);
                return Ok(());
            }
        }
    }

    /// Hears the feed for as long as the broker lives.
    pub(crate) async fn follow_feed(self) {
        let mut silent = false;
        loop {
            match self.hear_changes().await {
                Ok(()) if silent => {
                    silent = false;
                    tracing::info!("the change feed is heard again");
                }
                Ok(()) => {}
                Err(fault) => {
                    if !silent {
                        tracing::warn!(
                            ?fault,
                            "the change feed is silent; caches are not believed"
                        );
                    }
                    silent = true;
                }
            }
            tokio::time::sleep(EVERY).await;
        }
    }
}
