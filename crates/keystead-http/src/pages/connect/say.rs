//! What is known of integrations, in the reader's words.

use keystead_broker::{Integration, Status};
use keystead_core::provider::{Provider, ResultClass};
use keystead_core::time::Time;

use crate::pages::language::Language;
use crate::pages::texts::{Texts, fill};

/// A text, and whether it is in English where the page is not: a provider file's, or the check's.
#[derive(Clone)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) english: bool,
}

impl Said {
    /// In the page's own language.
    pub(super) fn own(text: impl Into<String>) -> Said {
        Said {
            text: text.into(),
            english: false,
        }
    }

    /// In the language of provider files.
    pub(super) fn english(text: impl Into<String>, language: &Language) -> Said {
        Said {
            text: text.into(),
            english: language.code != "en",
        }
    }
}

/// One integration, to be shown.
pub(super) struct Card {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) monogram: String,
    pub(super) provider: String,
    /// The status as a class, and as a word.
    pub(super) status: &'static str,
    pub(super) word: &'static str,
    /// What it means and what to do.
    pub(super) about: String,
    /// What the provider's check said, where that is more.
    pub(super) says: Option<Said>,
}

impl Card {
    pub(super) fn of(
        integration: &Integration,
        provider: Option<&Provider>,
        language: &Language,
    ) -> Card {
        let t = language.texts;
        let called = provider.map_or(&integration.type_, |provider| &provider.name);
        let message = integration.error_message.as_deref();
        let message =
            message.filter(|_| !matches!(integration.status, Status::Disabled | Status::Verifying));
        let class = message.and_then(class_of);
        let about = match class {
            Some(class) => of_class(t, class),
            None => about(t, integration.status),
        };
        Card {
            id: integration.id.to_string(),
            name: integration.name.clone(),
            monogram: monogram(called),
            provider: called.clone(),
            status: integration.status.as_str(),
            word: word(t, integration.status),
            about: fill(about, &[("provider", called)]),
            says: message
                .filter(|_| class.is_none())
                .map(|message| Said::english(message, language)),
        }
    }
}

/// The letters that stand for a provider.
pub(super) fn monogram(name: &str) -> String {
    let mut words = name.split_whitespace();
    let first = words.next().and_then(|word| word.chars().next());
    let second = words.next().and_then(|word| word.chars().next());
    let letters = first.into_iter().chain(second.filter(|c| c.is_uppercase()));
    letters.flat_map(char::to_uppercase).take(2).collect()
}

fn word(t: &Texts, status: Status) -> &'static str {
    match status {
        Status::Verifying => t.status_verifying,
        Status::Connected => t.status_connected,
        Status::Error => t.status_error,
        Status::Reauthorize => t.status_reauthorize,
        Status::Disabled => t.status_disabled,
    }
}

fn about(t: &Texts, status: Status) -> &'static str {
    match status {
        Status::Verifying => t.about_verifying,
        Status::Connected => t.about_connected,
        Status::Error => t.about_error,
        Status::Reauthorize => t.about_reauthorize,
        Status::Disabled => t.about_disabled,
    }
}

/// What came of a test, and what to do.
pub(super) fn of_class(t: &Texts, class: ResultClass) -> &'static str {
    match class {
        ResultClass::Ok => t.class_ok,
        ResultClass::BadKey => t.class_bad_key,
        ResultClass::Expired => t.class_expired,
        ResultClass::NoPerm => t.class_no_perm,
        ResultClass::Rate => t.class_rate,
        ResultClass::Quota => t.class_quota,
        ResultClass::Down => t.class_down,
        ResultClass::Indeterminate => t.class_indeterminate,
    }
}

const CLASSES: [ResultClass; 8] = [
    ResultClass::Ok,
    ResultClass::BadKey,
    ResultClass::Expired,
    ResultClass::NoPerm,
    ResultClass::Rate,
    ResultClass::Quota,
    ResultClass::Down,
    ResultClass::Indeterminate,
];

/// The class that a kept message is the plain message of.
fn class_of(message: &str) -> Option<ResultClass> {
    CLASSES.into_iter().find(|class| class.message() == message)
}

/// The class of that word.
pub(super) fn class_named(word: &str) -> Option<ResultClass> {
    CLASSES.into_iter().find(|class| class.as_str() == word)
}

/// `2026-11-20 14:15 UTC`.
pub(super) fn date_time(at: Time) -> String {
    let text = at.rfc3339();
    format!(
        "{} {} UTC",
        text.get(..10).unwrap_or_default(),
        clock_time(at)
    )
}

/// `14:15`.
pub(super) fn clock_time(at: Time) -> String {
    at.rfc3339().get(11..16).unwrap_or_default().to_owned()
}

/// The host of a URL, for people.
pub(super) fn host_of(url: &str) -> String {
    let host = url::Url::parse(url).ok();
    let host = host.and_then(|url| url.host_str().map(str::to_owned));
    host.unwrap_or_else(|| url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_is_known_by_its_letters() {
        for (name, letters) in [
            ("OpenAI", "O"),
            ("Google Gemini", "GG"),
            ("Any service that takes a key", "A"),
            ("ñandú", "Ñ"),
            ("", ""),
        ] {
            assert_eq!(monogram(name), letters, "{name}");
        }
    }

    #[test]
    fn times_are_said_to_the_minute() {
        let at = Time::parse_rfc3339("2026-11-20T14:15:59Z").unwrap();
        assert_eq!(date_time(at), "2026-11-20 14:15 UTC");
    }
}
