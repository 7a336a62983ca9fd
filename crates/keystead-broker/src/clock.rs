//! The one place where this crate reads the clock and draws randomness.
//!
//! Both come from here as values and go on as arguments, so that every rule below can be tested at
//! any time of day. Randomness is the operating system's; no generator state lives in the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use keystead_core::ids::RequestId;
use keystead_core::time::Time;
use uuid::Uuid;

use crate::error::Error;

/// Tells the time: the machine's, or a test's.
#[derive(Clone, Default)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// A clock that stands still until it is set.
    pub fn fixed(at: Time) -> (Clock, ClockHand) {
        let hand = Arc::new(AtomicI64::new(at.0));
        (Clock(Some(hand.clone())), ClockHand(hand))
    }

    /// Now.
    #[allow(clippy::disallowed_methods)] // the one reading of the machine's clock
    pub fn now(&self) -> Time {
        match &self.0 {
            Some(hand) => Time(hand.load(Ordering::Acquire)),
            None => {
                let since = std::time::SystemTime::now()
                    .duration_since(std::time::UNIX_EPOCH)
                    .unwrap_or_default();
                Time(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
            }
        }
    }
}

/// Sets a fixed clock.
pub struct ClockHand(Arc<AtomicI64>);

impl ClockHand {
    /// Moves the clock to this time.
    pub fn set(&self, at: Time) {
        self.0.store(at.0, Ordering::Release);
    }
}

/// So many bytes of the operating system's randomness.
///
/// # Errors
/// `Internal` where it has none.
pub fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|_| Error::internal("the operating system gave no randomness"))?;
    Ok(bytes)
}

/// A new version 7 UUID: sorted by age, 74 random bits.
pub(crate) fn new_uuid(at: Time) -> Result<Uuid, Error> {
    let millis = u64::try_from(at.0 / 1000).unwrap_or(0);
    Ok(uuid::Builder::from_unix_timestamp_millis(millis, &random::<10>()?).into_uuid())
}

/// Ids of requests: unique and sorted by age. They are no secrets, so that one draw of randomness
/// serves a process, and a counter goes on from there.
pub(crate) struct RequestIds {
    process: [u8; 6],
    next: AtomicU32,
}

impl RequestIds {
    pub(crate) fn new() -> Result<RequestIds, Error> {
        Ok(RequestIds {
            process: random()?,
            next: AtomicU32::new(0),
        })
    }

    pub(crate) fn next(&self, at: Time) -> RequestId {
        let mut tail = [0; 10];
        tail[..6].copy_from_slice(&self.process);
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        tail[6..].copy_from_slice(&count.to_be_bytes());
        let millis = u64::try_from(at.0 / 1000).unwrap_or(0);
        let uuid = uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid();
        RequestId::from_uuid(uuid)
    }
}
