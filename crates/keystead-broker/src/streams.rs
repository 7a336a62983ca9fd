//! Answers that are still being streamed: each is cut within seconds of its credential or its
//! caller being revoked, or of its caller's key or token ending.
//!
//! An answer is entered with the epochs under which it was allowed. While those stand, nothing is
//! asked of the store; when one has moved, the right to go on is looked at anew.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keystead_core::action::Role;
use keystead_core::caller::Caller;
use keystead_core::ids::{IntegrationId, TenantId};
use keystead_core::time::Time;
use tokio::sync::watch;

use crate::broker::Broker;
use crate::context::Basis;
use crate::epochs::Epoch;

const SHARDS: usize = 16;

/// What an answer rests on.
#[derive(Clone)]
pub(crate) struct Grounds {
    pub(crate) caller: Arc<Caller>,
    pub(crate) basis: Basis,
    /// When the caller's key or token ends.
    pub(crate) until: Time,
    pub(crate) tenant: TenantId,
    pub(crate) integration: IntegrationId,
    pub(crate) version: u64,
    pub(crate) of_tenant: Epoch,
    pub(crate) of_callers: Epoch,
}

struct Stream {
    grounds: Grounds,
    cut: watch::Sender<bool>,
}

type Shard = Mutex<HashMap<u64, Stream>>;

/// The answers under way on this node.
pub(crate) struct Streams {
    shards: [Shard; SHARDS],
    next: AtomicU64,
}

impl Default for Streams {
    fn default() -> Self {
        Streams {
            shards: std::array::from_fn(|_| Mutex::default()),
            next: AtomicU64::new(0),
        }
    }
}

fn lock(shards: &[Shard; SHARDS], number: u64) -> MutexGuard<'_, HashMap<u64, Stream>> {
    let shard = usize::try_from(number).unwrap_or(0) % SHARDS;
    shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
}

impl Streams {
    /// Enters an answer for as long as the receiver is held; it is to end when that says so.
    pub(crate) fn enter(&self, grounds: Grounds) -> watch::Receiver<bool> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (cut, ended) = watch::channel(false);
        lock(&self.shards, number).insert(number, Stream { grounds, cut });
        ended
    }
}

impl Broker {
    /// Cuts the answers whose grounds are gone, as is done every second anyway.
    pub async fn check_streams(&self) {
        let epochs = self.epochs();
        let now = self.clock().now();
        let mut doubtful = Vec::new();
        for shard in &self.streams().shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever streams holds the receiver: an answer that ended is closed.
            shard.retain(|_, stream| !stream.cut.is_closed());
            for (number, stream) in shard.iter() {
                if stream.grounds.until <= now {
                    stream.cut.send_replace(true);
                } else if self.is_doubtful(&stream.grounds) {
                    doubtful.push((*number, stream.grounds.clone()));
                }
            }
        }
        for (number, mut grounds) in doubtful {
            let (of_tenant, of_callers) = (epochs.of_tenant(grounds.tenant), epochs.of_callers());
            // A store that does not answer leaves the question open until the next round.
            let Ok(stands) = self.still_stands(&grounds).await else {
                continue;
            };
            let mut shard = lock(&self.streams().shards, number);
            let Some(stream) = shard.get_mut(&number) else {
                continue;
            };
            if stands {
                (grounds.of_tenant, grounds.of_callers) = (of_tenant, of_callers);
                stream.grounds = grounds;
            } else {
                stream.cut.send_replace(true);
            }
        }
    }

    fn is_doubtful(&self, grounds: &Grounds) -> bool {
        grounds.of_tenant != self.epochs().of_tenant(grounds.tenant)
            || grounds.of_callers != self.epochs().of_callers()
            || !self.epochs().trusted(self.clock().now())
    }

    /// Whether a call that has not begun may still begin.
    pub(crate) async fn stands(&self, grounds: &Grounds) -> Result<bool, crate::error::Error> {
        let ended = grounds.until <= self.clock().now();
        Ok(!ended && (!self.is_doubtful(grounds) || self.still_stands(grounds).await?))
    }

    async fn still_stands(&self, grounds: &Grounds) -> Result<bool, crate::error::Error> {
        let same = self
            .store()
            .find_integration(grounds.tenant, grounds.integration)
            .await?
            .is_some_and(|row| !row.disabled && row.credential_version == grounds.version);
        if !same {
            return Ok(false);
        }
        match (grounds.basis, grounds.caller.as_ref()) {
            (Basis::Key, Caller::Service { key, .. } | Caller::Operator { key }) => {
                self.key_stands(*key).await
            }
            (
                Basis::Member,
                Caller::User {
                    issuer,
                    subject,
                    tenant,
                    ..
                },
            ) => Ok(self
                .store()
                .find_member(*tenant, issuer, subject)
                .await?
                .is_some_and(|member| member.role >= Role::Member)),
            (Basis::Stated, _) => Ok(true),
            // No proof is of such a form.
            (Basis::Key, Caller::User { .. })
            | (Basis::Member, Caller::Service { .. } | Caller::Operator { .. }) => Ok(false),
        }
    }
}
