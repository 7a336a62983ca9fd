//! `[mode.resources]` of provider files.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)] // tests

use keystead_core::provider::resources::ResourcesKind;
use keystead_core::provider::{Catalogue, Provider};

fn file(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../providers");
    std::fs::read_to_string(format!("{folder}/{name}.toml")).unwrap()
}

#[test]
fn the_catalogue_says_whose_resources_are_known() {
    let catalogue = Catalogue::embedded().unwrap();
    for (id, kind) in [
        ("supabase", Some(ResourcesKind::Supabase)),
        ("aws_access_key", Some(ResourcesKind::Aws)),
        ("gcp_service_account", Some(ResourcesKind::Google)),
        ("github", Some(ResourcesKind::GithubApp)),
        ("openai", None),
    ] {
        assert_eq!(catalogue.get(id).unwrap().resources(), kind, "{id}");
    }
}

#[test]
fn a_kind_that_the_mode_cannot_serve_is_refused() {
    for (name, from, to, said) in [
        (
            "supabase",
            "\"supabase\"",
            "\"firebase\"",
            "unknown variant",
        ),
        (
            "supabase",
            "\"supabase\"",
            "\"supabase\"\nmore = 1",
            "unknown field",
        ),
        ("supabase", "\"supabase\"", "\"aws\"", "placed or minted"),
        (
            "aws_access_key",
            "\"aws\"",
            "\"google\"",
            "placed or minted",
        ),
        (
            "gcp_service_account",
            "\"google\"",
            "\"github_app\"",
            "placed or minted",
        ),
        (
            "github",
            "\"github_app\"",
            "\"supabase\"",
            "placed or minted",
        ),
    ] {
        let section = "[mode.resources]\nkind = ";
        let text = file(name).replace(&format!("{section}{from}"), &format!("{section}{to}"));
        let fault = Provider::parse(name, &text).unwrap_err().to_string();
        assert!(fault.contains(said), "{name}: {fault}");
    }
    // Two kinds in one provider.
    let section = "[mode.resources]\nkind = \"supabase\"";
    let two = file("supabase").replacen(section, "[mode.resources]\nkind = \"aws\"", 1);
    assert!(Provider::parse("two", &two).is_err());
}
