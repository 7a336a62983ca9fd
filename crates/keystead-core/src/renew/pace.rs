//! How long things may take, and how long is waited between attempts.
//!
//! ```text
//! clock read ─ take ─ │ call begins      │ call has ended  │ spare │ lease ends
//! 0                   └ at most 15 s in  └ at most 25 s in ┘       └ 30 s
//! ```

use super::Reply;
use crate::time::Time;

const DAY_SECONDS: i64 = 86_400;
const HOUR_SECONDS: i64 = 3600;
/// How long is waited after an attempt that failed for days, unless somebody uses the token.
pub(super) const LATE_PAUSE: i64 = 6 * HOUR_SECONDS;
/// How long is waited then in any case.
pub(super) const LATE_PAUSE_OF_USE: i64 = HOUR_SECONDS;
/// How much later, by chance, it is tried at most.
const SPREAD_MOST: i64 = 900;
/// Answers that nobody understands are not asked for again and again.
const UNCLEAR_MOST: u64 = 10;
/// What an answer may ask to wait at most.
const RETRY_AFTER_MOST: i64 = DAY_SECONDS;

/// The times that a run goes by, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rules {
    /// How long a lease lasts.
    pub lease: i64,
    /// How long a call may take.
    pub call: i64,
    /// How long before the end of its lease a call has ended.
    pub slack: i64,
    /// How long a lease that ran out on a call is left alone, from when that is seen.
    pub grace: i64,
    /// A random number: what failed at once is not to be repeated at once.
    pub jitter: u16,
}

impl Rules {
    /// The rules, with this random number.
    pub fn with_jitter(jitter: u16) -> Rules {
        Rules {
            lease: 30,
            call: 10,
            slack: 5,
            grace: 3,
            jitter,
        }
    }

    /// Counted from the reading of the clock by which the lease was taken.
    pub(super) fn call_begins_within(&self) -> i64 {
        self.lease - self.call - self.slack
    }

    pub(super) fn call_ends_within(&self) -> i64 {
        self.lease - self.slack
    }

    /// When to try again after a failed attempt.
    pub(super) fn again(
        &self,
        now: Time,
        since: Time,
        failures: u64,
        reply: Reply,
        lease_ends: Time,
    ) -> Time {
        let (first, most) = match reply {
            // Somebody has to change a setting.
            Reply::Client => (60, HOUR_SECONDS),
            _ => (2, 900),
        };
        let doubled = u32::try_from(failures.saturating_sub(1).min(20)).unwrap_or(20);
        let late = is_late(now, since);
        let pause: i64 = match reply {
            // What it asks for comes on top.
            Reply::Rate(_) if late => HOUR_SECONDS,
            _ if late => LATE_PAUSE,
            Reply::Unclear if failures >= UNCLEAR_MOST => HOUR_SECONDS,
            _ => most.min(first << doubled),
        };
        let asked = match reply {
            Reply::Rate(after) => i64::from(after.unwrap_or(0)).min(RETRY_AFTER_MOST),
            _ => 0,
        };
        // Up to a quarter later, never earlier than asked.
        let micros = pause.max(asked) * 1_000_000;
        let spread = match pause {
            // By it is told when the attempt was; failures of days are spread as they are.
            LATE_PAUSE => 0,
            _ => (micros / 4).min(SPREAD_MOST * 1_000_000),
        };
        let later = spread * i64::from(self.jitter) / i64::from(u16::MAX);
        let at = Time(now.0.saturating_add(micros + later));
        // What may still be under way is not overtaken.
        match reply {
            Reply::Lost => at.max(lease_ends),
            _ => at,
        }
    }
}

/// Whether it has failed for so long that it is tried seldom.
pub(super) fn is_late(now: Time, since: Time) -> bool {
    now >= since.plus_seconds(3 * DAY_SECONDS)
}

/// Whether it has failed for so long, or so often in a way that nobody understands, that its owner is
/// told.
pub fn is_hopeless(now: Time, since: Time, failures: u64, unclear: bool) -> bool {
    is_late(now, since) || (unclear && failures >= UNCLEAR_MOST)
}

/// When to renew a token of that end, ahead of it: a sixth of its life before, 10 minutes at most,
/// and up to half as much earlier, so that what was made at once is not renewed at once.
pub fn ahead_of(now: Time, expires_at: Time, jitter: u16) -> Time {
    let life = expires_at.0.saturating_sub(now.0).max(0);
    let margin = (life / 6).min(600 * 1_000_000);
    let earlier = margin / 2 * i64::from(jitter) / i64::from(u16::MAX);
    Time(expires_at.0 - margin - earlier)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(1_795_184_100_000_000);

    fn again(failures: u64, reply: Reply) -> i64 {
        let at = Rules::with_jitter(0).again(NOW, NOW, failures, reply, NOW.plus_seconds(30));
        at.seconds() - NOW.seconds()
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_honour_what_the_provider_asks() {
        assert_eq!(again(1, Reply::Down), 2);
        assert_eq!(again(4, Reply::Down), 16);
        assert_eq!(again(u64::MAX, Reply::Down), 900);
        assert_eq!(again(1, Reply::Client), 60);
        assert_eq!(again(1, Reply::Rate(Some(120))), 120);
        assert_eq!(again(8, Reply::Rate(Some(1))), 256);
        assert_eq!(again(1, Reply::Rate(Some(u32::MAX))), 86_400);
        assert_eq!(again(1, Reply::Lost), 30, "its lease goes first");
    }

    #[test]
    fn what_fails_for_three_days_or_is_never_understood_is_tried_seldom_and_for_ever() {
        let late = NOW.plus_seconds(3 * DAY_SECONDS);
        let rules = Rules::with_jitter(u16::MAX);
        for (reply, pause) in [
            (Reply::Down, LATE_PAUSE),
            (Reply::Client, LATE_PAUSE),
            (Reply::Rate(None), HOUR_SECONDS),
        ] {
            let at = rules.again(late, NOW, 5, reply, late).seconds() - late.seconds();
            assert!((pause..=pause + SPREAD_MOST).contains(&at), "{reply:?}");
        }
        assert_eq!(again(UNCLEAR_MOST, Reply::Unclear), HOUR_SECONDS);
        assert_eq!(again(UNCLEAR_MOST - 1, Reply::Unclear), 512);
        assert!(is_hopeless(late, NOW, 1, false) && is_hopeless(NOW, NOW, UNCLEAR_MOST, true));
        assert!(!is_hopeless(NOW, NOW, UNCLEAR_MOST, false));
    }

    #[test]
    fn a_token_is_renewed_well_before_it_ends_and_not_all_at_once() {
        let hour = NOW.plus_seconds(3600);
        assert_eq!(ahead_of(NOW, hour, 0), hour.plus_seconds(-600));
        assert_eq!(ahead_of(NOW, hour, u16::MAX), hour.plus_seconds(-900));
        let soon = NOW.plus_seconds(30);
        assert!(ahead_of(NOW, soon, u16::MAX) > NOW.plus_seconds(20));
    }
}
