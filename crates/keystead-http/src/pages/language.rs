//! Which language a page is in: what was chosen in a page, else what the browser prefers.

use http::HeaderMap;
use http::header::ACCEPT_LANGUAGE;

use super::texts::{EN, ES, Texts};

/// A language that pages are in.
pub(crate) struct Language {
    /// Its tag, as documents say it.
    pub(crate) code: &'static str,
    /// As its speakers call it.
    pub(crate) name: &'static str,
    pub(crate) texts: &'static Texts,
}

/// All of them; the first where nothing else is asked for. Adding one is a file and a line here.
pub(crate) static LANGUAGES: [Language; 2] = [
    Language {
        code: "en",
        name: "English",
        texts: &EN,
    },
    Language {
        code: "es",
        name: "Español",
        texts: &ES,
    },
];

impl Language {
    /// The language of that tag.
    pub(crate) fn find(code: &str) -> Option<&'static Language> {
        LANGUAGES.iter().find(|language| language.code == code)
    }

    /// What the browser prefers (RFC 9110 section 12.5.4): the highest weight, then the first.
    pub(crate) fn accepted(headers: &HeaderMap) -> &'static Language {
        let mut best = (&LANGUAGES[0], 0.0);
        for value in headers.get_all(ACCEPT_LANGUAGE) {
            for range in value.to_str().unwrap_or_default().split(',') {
                let mut parts = range.split(';').map(str::trim);
                let tag = parts.next().unwrap_or_default();
                let primary = tag.split('-').next().unwrap_or_default();
                let weight = parts
                    .find_map(|part| part.strip_prefix("q="))
                    .map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
                match Language::find(&primary.to_ascii_lowercase()) {
                    Some(language) if weight > best.1 => best = (language, weight),
                    _ => {}
                }
            }
        }
        best.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_browsers_preferred_language_is_taken_where_there_is_one() {
        for (accepted, language) in [
            ("", "en"),
            ("es", "es"),
            ("es-MX,es;q=0.9,en;q=0.8", "es"),
            ("en-GB, es;q=0.9", "en"),
            ("de, es;q=0.5, en;q=0.4", "es"),
            ("es;q=0, en;q=0.1", "en"),
            ("ES", "es"),
            ("*;q=0.1", "en"),
            ("es;q=canary, fr", "en"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_LANGUAGE, accepted.parse().unwrap());
            assert_eq!(Language::accepted(&headers).code, language, "{accepted}");
        }
    }
}
