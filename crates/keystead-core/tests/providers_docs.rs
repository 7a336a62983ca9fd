//! The page on providers: its table is the catalogue's, and its examples are read.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;

use keystead_core::provider::oauth::RefreshClass;
use keystead_core::provider::{Catalogue, Provider};

const PAGE: &str = include_str!("../../../docs/providers.md");
const BEGIN: &str = "<!-- providers -->\n";
const END: &str = "<!-- /providers -->\n";

fn renewed(provider: &Provider) -> &'static str {
    match provider.oauth() {
        None => "",
        Some(oauth) => match oauth.refresh.class {
            RefreshClass::None => "not needed",
            RefreshClass::Reusable => "it stays",
            RefreshClass::Rotating => "a new one, the old one works",
            RefreshClass::SingleUse => "a new one, the old one is dead",
        },
    }
}

fn taken_back(provider: &Provider) -> String {
    let mut ways: Vec<String> = Vec::new();
    for mode in &provider.modes {
        let by_call = mode.revoke.as_ref().is_some_and(|r| !r.calls.is_empty());
        let way = match provider.manual_revocation_of(mode) {
            _ if by_call => "call".to_owned(),
            Some(page) => format!("[page]({page})"),
            None => continue,
        };
        if !ways.contains(&way) {
            ways.push(way);
        }
    }
    ways.join(", ")
}

fn table() -> String {
    let mut table = "| id | service | modes | renewed | taken back | prices of |\n\
                     | --- | --- | --- | --- | --- | --- |\n"
        .to_owned();
    for provider in Catalogue::embedded().unwrap().list() {
        let modes: Vec<&str> = provider.modes.iter().map(|mode| mode.id.as_str()).collect();
        let priced = provider.prices.iter().map(|p| p.as_of.as_str()).max();
        let _ = writeln!(
            table,
            "| `{}` | [{}]({}) | {} | {} | {} | {} |",
            provider.id,
            provider.name,
            provider.docs,
            modes.join(", "),
            renewed(provider),
            taken_back(provider),
            priced.unwrap_or_default()
        );
    }
    table
}

#[test]
fn the_table_of_providers_is_the_catalogues() {
    let (before, rest) = PAGE.split_once(BEGIN).unwrap();
    let (written, after) = rest.split_once(END).unwrap();
    let present = table();
    if written == present {
        return;
    }
    let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/providers.md");
    #[expect(
        clippy::disallowed_methods,
        reason = "a person is to take it from there"
    )]
    std::fs::write(path, format!("{before}{BEGIN}{present}{END}{after}")).unwrap();
    panic!(
        "the table of docs/providers.md is stale; take the new one over and commit it:\ncp {path} docs/providers.md"
    );
}

/// The blocks of TOML on the page.
fn blocks() -> Vec<&'static str> {
    PAGE.split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect()
}

#[test]
fn the_examples_of_the_page_are_read_as_one_provider() {
    let of = |start: &str| {
        let found = blocks().into_iter().find(|block| block.starts_with(start));
        found.unwrap()
    };
    // Modes before the test, as they stand in a file.
    let (head, test) = of("id = \"acme_sms\"").split_once("[test]\n").unwrap();
    let oauth = of("[[mode]]\nid = \"oauth\"");
    let (revoke, usage) = (of("[mode.revoke]"), of("[[usage]]"));
    let setting =
        "[[config]]\nname = \"organization\"\nlabel = \"organization\"\nrequired = false\n";
    let text = format!("{head}\n{oauth}\n{revoke}\n{setting}\n{usage}\n[test]\n{test}");
    let provider = Provider::parse("acme.toml", &text).unwrap();
    assert_eq!(provider.modes.len(), 2);
    assert!(provider.oauth().is_some());
    assert_eq!((provider.usage.len(), provider.prices.len()), (1, 1));
}
