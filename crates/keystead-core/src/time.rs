//! Points in time as values: microseconds since 1970-01-01T00:00:00Z, as the store keeps them.
//!
//! There is no `now()` here; the caller of a rule says what time it is.

use serde::{Deserialize, Serialize};

/// A point in time, in microseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(pub i64);

impl Time {
    /// From whole seconds since the Unix epoch, saturating.
    pub fn from_seconds(seconds: i64) -> Time {
        Time(seconds.saturating_mul(1_000_000))
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// This time and so many seconds more (or fewer), saturating.
    pub fn plus_seconds(self, seconds: i64) -> Time {
        Time(self.0.saturating_add(seconds.saturating_mul(1_000_000)))
    }

    /// RFC 3339 in UTC with microseconds, e.g. `2026-11-20T14:15:00.000001Z`; out-of-range values
    /// are clamped to what a calendar can say.
    pub fn rfc3339(self) -> String {
        let stamp = jiff::Timestamp::from_microsecond(self.0).unwrap_or(if self.0 < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        });
        format!("{stamp:.6}")
    }

    /// Reads RFC 3339; `None` where the text is not a time with an offset.
    pub fn parse_rfc3339(text: &str) -> Option<Time> {
        text.parse::<jiff::Timestamp>()
            .ok()
            .map(|stamp| Time(stamp.as_microsecond()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_and_read_back() {
        let time = Time(1_795_184_100_000_001);
        assert_eq!(Time::parse_rfc3339(&time.rfc3339()), Some(time));
        assert!(time.rfc3339().ends_with("000001Z"));
        assert_eq!(Time::parse_rfc3339("yesterday"), None);
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Time(i64::MAX).plus_seconds(5), Time(i64::MAX));
        assert_eq!(Time::from_seconds(i64::MAX), Time(i64::MAX));
        assert_eq!(Time(-1).seconds(), -1);
    }
}
