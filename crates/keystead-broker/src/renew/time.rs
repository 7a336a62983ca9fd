//! The database's clock, as this node knows it between two readings.
//!
//! What always holds: leases are judged by the database's clock and by no node's own; what is said
//! here to be now is never later than that clock, and what is said to be the moment when it will show
//! a time is never later than the true one. So a lease ends for its holder before it does for others.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use keystead_core::time::Time;
use tokio::time::Instant;

use crate::broker::Broker;
use crate::error::Error;

/// A reading is good for so long where a lease is taken by it.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// One reading.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    shown: Time,
    asked: Instant,
    heard: Instant,
}

impl Reading {
    pub(crate) fn now(&self) -> Time {
        let since = i64::try_from(self.heard.elapsed().as_micros()).unwrap_or(i64::MAX);
        Time(self.shown.0.saturating_add(since))
    }

    /// The earliest moment at which that clock can show this time.
    pub(crate) fn moment(&self, at: Time) -> Instant {
        let after = at.0.saturating_sub(self.shown.0);
        match u64::try_from(after) {
            Ok(after) => self.asked + Duration::from_micros(after),
            Err(_) => self.asked,
        }
    }
}

/// The last reading.
pub(crate) struct StoreClock(Mutex<Reading>);

impl StoreClock {
    /// A clock that stands at this node's time until it is read.
    pub(crate) fn unread(now: Time) -> StoreClock {
        let at = Instant::now();
        StoreClock(Mutex::new(Reading {
            shown: now,
            asked: at,
            heard: at,
        }))
    }

    fn last(&self) -> Reading {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Broker {
    /// What time the database has, by the last reading of its clock.
    pub(crate) fn store_time(&self) -> Time {
        self.store_clock().last().now()
    }

    /// Reads the clock.
    pub(crate) async fn read_store_clock(&self) -> Result<Reading, Error> {
        let asked = Instant::now();
        let shown = self.store().clock().await?;
        let heard = Instant::now();
        let reading = Reading {
            shown,
            asked,
            heard,
        };
        let clock = &self.store_clock().0;
        *clock.lock().unwrap_or_else(PoisonError::into_inner) = reading;
        Ok(reading)
    }

    /// A reading that is good to take a lease by.
    pub(crate) async fn fresh_store_clock(&self) -> Result<Reading, Error> {
        let last = self.store_clock().last();
        if last.asked.elapsed() < GOOD_FOR {
            return Ok(last);
        }
        self.read_store_clock().await
    }
}
