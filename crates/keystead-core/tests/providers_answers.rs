//! How the answers to test calls are read, provider by provider.

#![allow(clippy::unwrap_used)]

mod answers;

use std::sync::LazyLock;

use http::{HeaderMap, HeaderName};
use keystead_core::provider::{Catalogue, Mode, Provider, ResultClass, classify};

use ResultClass::{BadKey, Ok as Works};
use answers::rows;

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| Catalogue::embedded().unwrap());

/// What an answer means. Headers stand before the body, with an empty line between.
fn result(provider: &Provider, mode: &Mode, status: u16, answer: &str) -> ResultClass {
    let (head, body) = answer.split_once("\n\n").unwrap_or(("", answer));
    let mut headers = HeaderMap::new();
    for line in head.lines() {
        let (name, value) = line.split_once(": ").unwrap();
        headers.insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    let test = provider.test_of(mode).unwrap();
    let (result, message) = classify(test, status, &headers, body.as_bytes());
    assert!(message.ends_with('.') && message.len() > 10, "{message}");
    result
}

#[test]
fn answers_mean_what_the_providers_say_they_mean() {
    let rows = rows();
    for provider in CATALOGUE.list() {
        for mode in &provider.modes {
            let own = |row: &&answers::Row| row.0 == provider.id && row.1 == mode.id;
            let alike = |row: &&answers::Row| {
                row.0 == provider.id
                    && provider
                        .mode(row.1)
                        .is_some_and(|other| other.test.is_none())
            };
            assert!(
                rows.iter().any(|row| own(&row))
                    || mode.test.is_none() && rows.iter().any(|row| alike(&row)),
                "{} {} has no answers",
                provider.id,
                mode.id
            );
        }
    }
    for (id, mode, answers) in rows {
        let provider = CATALOGUE.get(id).unwrap();
        let mode = provider.mode(mode).unwrap();
        for (status, body, expected) in answers {
            let found = result(provider, mode, status, &body);
            assert_eq!(found, expected, "{id} {}: {status} {body}", mode.id);
        }
    }
}

#[test]
fn a_broken_body_is_no_verdict_on_a_key() {
    for provider in CATALOGUE.list() {
        for mode in &provider.modes {
            for body in ["", "<html>", "[[[[", "null", "\u{0}"] {
                for status in [301, 404, 418, 500, 503] {
                    let found = result(provider, mode, status, body);
                    let documented = provider.id == "anthropic" && status == 404;
                    assert!(found != BadKey || documented, "{}: {status}", provider.id);
                    assert_ne!(found, Works, "{}: {status}", provider.id);
                }
            }
        }
    }
}
