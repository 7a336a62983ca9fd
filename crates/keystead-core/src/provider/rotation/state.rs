//! The steps of a rotation, and what is kept between them.
//!
//! ```text
//! idle ─► create ─► test ─► grace ─► disable ─► delete ─► idle      the credential changes between
//!            └────────┴────► discard ─► idle                        test and grace, in one write
//! ```
//!
//! What is kept is sealed like a credential, since the next one is among it.

use zeroize::Zeroizing;

use super::super::fields::Fields;
use crate::time::Time;

/// For so long a key that is out of use stays, before it is ended.
pub const KEPT_SECONDS: i64 = 86_400;

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, or to begin when it is time.
    Idle,
    /// To make the next key, or to find out whether it was made.
    Create,
    /// To try it until it works, and then put it in its place.
    Test,
    /// To wait, while others still hold the key before.
    Grace,
    /// To put the key before out of use.
    Disable,
    /// To end it.
    Delete,
    /// To end the next key, which did not come into use.
    Discard,
}

impl Step {
    /// All of them.
    pub const ALL: [Step; 7] = [
        Step::Idle,
        Step::Create,
        Step::Test,
        Step::Grace,
        Step::Disable,
        Step::Delete,
        Step::Discard,
    ];

    /// As rows and the API say it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Step::Idle => "idle",
            Step::Create => "create",
            Step::Test => "test",
            Step::Grace => "grace",
            Step::Disable => "disable",
            Step::Delete => "delete",
            Step::Discard => "discard",
        }
    }

    /// Reads what `as_str` writes.
    pub fn parse(text: &str) -> Option<Step> {
        Step::ALL.into_iter().find(|step| step.as_str() == text)
    }

    /// Whether the next credential is in its place already.
    pub const fn is_active(self) -> bool {
        matches!(self, Step::Grace | Step::Disable | Step::Delete)
    }
}

/// How many seconds to wait after so many attempts at a step.
pub fn pause(step: Step, attempts: u64) -> i64 {
    let doubled = u32::try_from(attempts.saturating_sub(1))
        .unwrap_or(u32::MAX)
        .min(16);
    let (first, longest) = match step {
        Step::Test => (2, 15),
        // A list shows what was made only after a while.
        Step::Create => (30, 1800),
        _ => (60, 3600),
    };
    longest.min(first << doubled)
}

/// What is kept between the steps.
#[derive(Default)]
pub struct State {
    /// The name that the next key is given.
    pub marker: String,
    /// The ids of the keys that there were; `None`: nobody has been asked to make one.
    pub before: Option<Vec<String>>,
    /// When somebody was.
    pub asked_at: Option<Time>,
    /// The id of the key before.
    pub old: Option<String>,
    /// The id of the next key, once it was made; afterwards, of the one in use.
    pub new: Option<String>,
    /// When it was made.
    pub made_at: Option<Time>,
    /// The version of the credential that `new` is in use as.
    pub version: Option<u64>,
    /// The next credential, until it is in its place.
    pub next: Option<Fields>,
}

impl State {
    /// The id of the key in use, where a rotation made it.
    pub fn key_of(&self, version: u64) -> Option<&str> {
        self.new
            .as_deref()
            .filter(|_| self.version == Some(version))
    }

    /// The bytes to seal.
    pub fn to_message(&self) -> Zeroizing<Vec<u8>> {
        let time = |time: Option<Time>| time.map(|time| time.0.to_string());
        let next = self
            .next
            .as_ref()
            .map(|fields| Zeroizing::new(fields.to_message()));
        let next = next
            .as_ref()
            .and_then(|bytes| std::str::from_utf8(bytes).ok());
        let next = next.map(|text| Zeroizing::new(text.to_owned()));
        let parts = [
            ("asked_at", time(self.asked_at)),
            ("before", self.before.as_ref().map(|ids| ids.join("\n"))),
            ("made_at", time(self.made_at)),
            ("marker", Some(self.marker.clone())),
            ("new", self.new.clone()),
            ("old", self.old.clone()),
            ("version", self.version.map(|version| version.to_string())),
        ];
        let parts = parts
            .into_iter()
            .filter_map(|(name, text)| Some((name, Zeroizing::new(text?))));
        let parts = parts.chain(next.map(|next| ("next", next)));
        Zeroizing::new(Fields::from_parts(parts).to_message())
    }

    /// Reads what [`State::to_message`] wrote.
    pub fn from_message(message: &[u8]) -> Option<State> {
        let parts = Fields::from_message(message)?;
        let text = |name: &str| parts.get(name).map(str::to_owned);
        let number = |name: &str| parts.get(name).map(str::parse::<i64>).transpose().ok();
        let next = match parts.get("next") {
            Some(next) => Some(Fields::from_message(next.as_bytes())?),
            None => None,
        };
        let before = parts.get("before");
        Some(State {
            marker: text("marker")?,
            before: before.map(|ids| ids.lines().map(str::to_owned).collect()),
            asked_at: number("asked_at")?.map(Time),
            old: text("old"),
            new: text("new"),
            made_at: number("made_at")?.map(Time),
            version: number("version")?.and_then(|version| u64::try_from(version).ok()),
            next,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_as_it_was() {
        let next = Fields::from_message(br#"{"a":"canary \"next\"\n","b":"2"}"#);
        let state = State {
            marker: "keystead_1".to_owned(),
            before: Some(Vec::new()),
            asked_at: Some(Time(-5)),
            old: Some("old".to_owned()),
            new: Some("new".to_owned()),
            made_at: Some(Time(7)),
            version: Some(3),
            next,
        };
        let read = State::from_message(&state.to_message()).unwrap();
        assert_eq!(read.to_message(), state.to_message());
        assert_eq!(read.before, Some(Vec::new()));
        assert_eq!(read.next.unwrap().get("a"), Some("canary \"next\"\n"));
        assert_eq!(state.key_of(3), Some("new"));
        assert_eq!(state.key_of(4), None);
        let empty = State::from_message(&State::default().to_message()).unwrap();
        assert!(empty.before.is_none() && empty.next.is_none() && empty.asked_at.is_none());
        for wrong in [
            &b"{}"[..],
            br#"{"marker":"m","asked_at":"soon"}"#,
            br#"{"marker":"m","next":"x"}"#,
        ] {
            assert!(State::from_message(wrong).is_none());
        }
    }

    #[test]
    fn pauses_grow_to_a_limit_that_fits_the_step() {
        let of = |step| [1, 2, 3, 4, 99, u64::MAX].map(|attempts| pause(step, attempts));
        assert_eq!(of(Step::Test), [2, 4, 8, 15, 15, 15]);
        assert_eq!(of(Step::Create), [30, 60, 120, 240, 1800, 1800]);
        assert_eq!(of(Step::Disable), [60, 120, 240, 480, 3600, 3600]);
        for step in Step::ALL {
            assert_eq!(Step::parse(step.as_str()), Some(step));
        }
    }
}
