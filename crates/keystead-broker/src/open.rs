//! How many connect sessions, and how many consents, may be open at once.
//!
//! What always holds: who makes them ends at a number, so that no caller fills the store with rows
//! that wait for nobody, and no tenant does. The numbers are read before the row is written: of
//! requests at once a few more may pass.

use keystead_core::time::Time;
use keystead_store::Open;

use crate::error::Error;

/// Of one person, in one tenant.
pub(crate) const OF_PERSON: u64 = 100;
/// Of one key that does not say for whom.
pub(crate) const OF_KEY: u64 = 1000;
/// Of a tenant, by whomever.
pub(crate) const OF_TENANT: u64 = 10_000;

/// Whether there may be one more; else, until when to wait.
pub(crate) fn room(open: Open, most: u64, now: Time) -> Result<(), Error> {
    if open.count < most {
        return Ok(());
    }
    let until = open.next_end.unwrap_or(now);
    let seconds = until.seconds() - now.seconds();
    Err(Error::Limited {
        retry_after: u64::try_from(seconds).unwrap_or(0).max(1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_full_says_until_when() {
        let now = Time::from_seconds(1000);
        let open = |count, at| Open {
            count,
            next_end: Some(Time::from_seconds(at)),
        };
        assert!(room(open(2, 1060), 3, now).is_ok());
        for (end, wait) in [(1060, 60), (1000, 1)] {
            let full = room(open(3, end), 3, now);
            assert!(matches!(full, Err(Error::Limited { retry_after }) if retry_after == wait));
        }
    }
}
