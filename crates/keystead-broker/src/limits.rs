//! How often a caller may ask, and how often an integration may be used.
//!
//! A sliding window: what was counted in this window, and of the one before it the share that
//! still lies within one window's length. Each node counts what it admits and, on a shared store,
//! exchanges counts every `SYNC`; so several nodes together admit at most the limit and what the
//! others admitted within two exchanges (a second's worth each). What is refused is not
//! counted, and leaves one entry per window. Nothing here waits for the store.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keystead_core::time::Time;
use keystead_store::{LimitCount, Store};

use crate::error::Error;

/// How often nodes exchange counts.
pub(crate) const SYNC: Duration = Duration::from_millis(500);

const SHARDS: usize = 64;

/// So many in so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// In how many seconds.
    pub seconds: u32,
}

/// The text is no rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a rate: write COUNT/second, COUNT/minute or COUNT/hour, e.g. \"600/minute\"")]
pub struct InvalidRate(String);

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Rate, InvalidRate> {
        let fault = || InvalidRate(text.to_owned());
        let (count, per) = text.split_once('/').ok_or_else(fault)?;
        let count = count.trim().parse().map_err(|_| fault())?;
        let seconds = match per.trim() {
            "second" => 1,
            "minute" => 60,
            "hour" => 3600,
            _ => return Err(fault()),
        };
        Ok(Rate { count, seconds })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = match self.seconds {
            1 => "second",
            60 => "minute",
            _ => "hour",
        };
        write!(f, "{}/{per}", self.count)
    }
}

/// Who or what is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Subject(pub(crate) u8, pub(crate) [u8; 16]);

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}{:032x}", self.0, u128::from_be_bytes(self.1))
    }
}

/// The limits that are in force.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Per user.
    pub user: Rate,
    /// Per service key.
    pub service: Rate,
    /// Per operator key.
    pub operator: Rate,
    /// Per address, for callers that could not be proven.
    pub anonymous: Rate,
    /// Per integration, by the provider's id.
    pub integration: HashMap<String, Rate>,
}

impl Default for Limits {
    fn default() -> Self {
        let per_minute = |count| Rate { count, seconds: 60 };
        Limits {
            user: per_minute(600),
            service: per_minute(60_000),
            operator: per_minute(6_000),
            anonymous: per_minute(60),
            integration: HashMap::new(),
        }
    }
}

#[derive(Default)]
struct Window {
    /// The window's number: time divided by its length.
    number: i64,
    seconds: u32,
    own: u32,
    own_before: u32,
    others: u32,
    others_before: u32,
    refused: bool,
}

impl Window {
    /// In microseconds.
    fn length(&self) -> i64 {
        i64::from(self.seconds.max(1)) * 1_000_000
    }

    /// What counts at that time, and of it what the window before counted in whole.
    fn sliding(&self, elapsed: i64) -> (i64, i64) {
        let before = i64::from(self.own_before) + i64::from(self.others_before);
        let current = i64::from(self.own) + i64::from(self.others);
        let length = self.length();
        (current + before * (length - elapsed) / length, before)
    }

    fn turn_to(&mut self, number: i64, seconds: u32) {
        if self.seconds != seconds {
            *self = Window {
                number,
                seconds,
                ..Window::default()
            };
        } else if self.number != number {
            let follows = self.number + 1 == number;
            *self = Window {
                number,
                seconds,
                own_before: if follows { self.own } else { 0 },
                others_before: if follows { self.others } else { 0 },
                ..Window::default()
            };
        }
    }
}

/// One more than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Whole seconds to wait.
    pub(crate) retry_after: u64,
    /// Whether it is the first in this window: that one is recorded, the flood behind it is not.
    pub(crate) first: bool,
}

/// Counts, for this node and, on a shared store, with the others.
pub(crate) struct Limiter {
    shards: Box<[Mutex<HashMap<Subject, Window>>]>,
    node: String,
}

impl Limiter {
    pub(crate) fn new(node: String) -> Limiter {
        Limiter {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            node,
        }
    }

    fn shard(&self, subject: &Subject) -> MutexGuard<'_, HashMap<Subject, Window>> {
        // The last byte of an id is random.
        let shard = &self.shards[usize::from(subject.1[15]) % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one, or refuses it.
    pub(crate) fn admit(&self, subject: Subject, rate: Rate, now: Time) -> Result<(), Refused> {
        let length = i64::from(rate.seconds) * 1_000_000;
        let (number, elapsed) = (now.0.div_euclid(length), now.0.rem_euclid(length));
        let mut shard = self.shard(&subject);
        let window = shard.entry(subject).or_default();
        window.turn_to(number, rate.seconds);
        let (sliding, before) = window.sliding(elapsed);
        let current = i64::from(window.own) + i64::from(window.others);
        if sliding >= i64::from(rate.count) {
            // Until enough of the window before has slid out; at the latest, until this one ends.
            let excess = sliding + 1 - i64::from(rate.count);
            let slide = if before > 0 && current < i64::from(rate.count) {
                length * excess / before
            } else {
                length - elapsed
            };
            let wait = slide.min(length - elapsed).max(1);
            return Err(Refused {
                retry_after: u64::try_from((wait + 999_999) / 1_000_000).unwrap_or(1),
                first: !std::mem::replace(&mut window.refused, true),
            });
        }
        window.own += 1;
        Ok(())
    }

    /// Whether one more would be refused. Counts nothing, and remembers nobody who was not counted.
    pub(crate) fn is_full(&self, subject: Subject, rate: Rate, now: Time) -> bool {
        let length = i64::from(rate.seconds) * 1_000_000;
        let mut shard = self.shard(&subject);
        let Some(window) = shard.get_mut(&subject) else {
            return rate.count == 0;
        };
        window.turn_to(now.0.div_euclid(length), rate.seconds);
        window.sliding(now.0.rem_euclid(length)).0 >= i64::from(rate.count)
    }

    /// Tells the other nodes what this one counted, learns what they did, and forgets what is idle.
    pub(crate) async fn sync(&self, store: &Store, now: Time) -> Result<(), Error> {
        let mut own = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|_, window| now.0.div_euclid(window.length()) <= window.number + 1);
            own.extend(
                shard.iter().map(|(subject, window)| {
                    (*subject, window.number, window.length(), window.own)
                }),
            );
        }
        if !store.is_shared() || own.is_empty() {
            return Ok(());
        }
        let counts: Vec<LimitCount> = own
            .iter()
            .map(|(subject, number, length, own)| LimitCount {
                subject: subject.to_string(),
                window_start: Time(number * length),
                count: u64::from(*own),
            })
            .collect();
        let forget_before = now.plus_seconds(-2 * 3600);
        let totals = store
            .share_limits(&self.node, &counts, forget_before)
            .await?;
        for ((subject, number, _, told), total) in own.into_iter().zip(totals) {
            let others =
                u32::try_from(total.count.saturating_sub(u64::from(told))).unwrap_or(u32::MAX);
            if let Some(window) = self.shard(&subject).get_mut(&subject) {
                if window.number == number {
                    window.others = others;
                } else if window.number == number + 1 {
                    window.others_before = others;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHO: Subject = Subject(1, [7; 16]);

    #[test]
    fn the_limit_is_admitted_and_one_more_is_told_when_to_come_back() {
        let limiter = Limiter::new("a".into());
        let rate: Rate = "3/minute".parse().unwrap();
        let at = Time::from_seconds(6000);
        for _ in 0..3 {
            limiter.admit(WHO, rate, at).unwrap();
        }
        for first in [true, false, false] {
            let refused = Refused {
                retry_after: 60,
                first,
            };
            assert_eq!(limiter.admit(WHO, rate, at), Err(refused));
        }
        assert!(
            limiter.admit(Subject(2, [7; 16]), rate, at).is_ok(),
            "another subject has its own count"
        );
    }

    #[test]
    fn the_window_slides_so_that_no_minute_holds_more_than_the_limit() {
        let limiter = Limiter::new("a".into());
        let rate = Rate {
            count: 60,
            seconds: 60,
        };
        for _ in 0..60 {
            limiter.admit(WHO, rate, Time::from_seconds(6059)).unwrap();
        }
        assert!(
            limiter.admit(WHO, rate, Time::from_seconds(6060)).is_err(),
            "a new window does not forget the last"
        );
        assert!(
            limiter.admit(WHO, rate, Time::from_seconds(6090)).is_ok(),
            "half of it has slid out"
        );
        assert!(limiter.admit(WHO, rate, Time::from_seconds(6200)).is_ok());
    }

    #[test]
    fn asking_whether_a_window_is_full_counts_nothing() {
        let limiter = Limiter::new("a".into());
        let rate: Rate = "2/minute".parse().unwrap();
        let at = Time::from_seconds(6000);
        for _ in 0..2 {
            for _ in 0..5 {
                assert!(!limiter.is_full(WHO, rate, at));
            }
            limiter.admit(WHO, rate, at).unwrap();
        }
        assert!(limiter.is_full(WHO, rate, at));
        assert!(!limiter.is_full(WHO, rate, Time::from_seconds(6120)));
    }

    #[test]
    fn a_rate_reads_and_a_wrong_one_says_how() {
        assert_eq!(
            "600/minute".parse(),
            Ok(Rate {
                count: 600,
                seconds: 60
            })
        );
        for wrong in ["", "600", "600/day", "-1/second", "x/minute"] {
            assert!(
                wrong
                    .parse::<Rate>()
                    .unwrap_err()
                    .to_string()
                    .contains("e.g."),
                "{wrong}"
            );
        }
    }
}
