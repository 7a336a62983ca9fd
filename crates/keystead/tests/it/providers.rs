//! `keystead providers`: what is wrong with a provider file is said before a server reads it.

use std::path::Path;

use serde_json::Value;

use crate::rig::keystead;

const OWN: &str = r#"id = "acme_sms"
name = "Acme SMS"
docs = "https://sms.example.com/docs"
hosts = ["api.sms.example.com"]
base_url = "https://api.sms.example.com"
path_prefixes = ["/v2/"]
sdk_token_headers = ["x-sms-key"]

[[mode]]
id = "api_key"
label = "API key"
placement = { kind = "header", name = "x-sms-key", field = "api_key" }

[[mode.field]]
name = "api_key"
label = "SMS key"
secret = true
primary = true

[test]
path = "/v2/balance"
"#;

/// Exit code and all that is said.
fn run(folder: &Path, words: &[&str]) -> (Option<i32>, String) {
    let output = keystead().current_dir(folder).args(words).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into())
}

#[test]
fn a_provider_file_is_checked_before_a_server_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("own");
    std::fs::create_dir(&own).unwrap();
    let write = |name: &str, text: &str| std::fs::write(own.join(name), text).unwrap();
    let check = |what: &str| run(folder.path(), &["providers", "check", what]);
    let (code, said) = check("own");
    assert!(
        code == Some(1) && said.contains("no provider file"),
        "{said}"
    );
    let (code, said) = check("elsewhere.toml");
    assert!(code == Some(1) && said.contains("elsewhere.toml"), "{said}");

    write("acme.toml", OWN);
    for what in ["own", "own/acme.toml"] {
        let (code, said) = check(what);
        assert_eq!(code, Some(0), "{said}");
        assert!(
            said.contains("ok     own/acme.toml: acme_sms (Acme SMS): api_key"),
            "{said}"
        );
    }
    for (from, to, names) in [
        ("[test]", "[tset]", "tset"),
        (
            "\"https://api.sms",
            "\"https://evil",
            "base_url: its host is not within `hosts`",
        ),
        (
            "field = \"api_key\"",
            "field = \"key\"",
            "the mode has no field `key`",
        ),
    ] {
        write("acme.toml", &OWN.replacen(from, to, 1));
        let (code, said) = check("own");
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("wrong  own/acme.toml") && said.contains(names),
            "{said}"
        );
    }
    // Two files must not claim one name; each is said.
    write("acme.toml", OWN);
    write("acme_again.toml", OWN);
    let (code, said) = check("own");
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("wrong  own/acme_again.toml: id: `acme_sms` is taken"),
        "{said}"
    );
    // One of the catalogue can be replaced, by whoever says so.
    write("acme_again.toml", &OWN.replacen("acme_sms", "twilio", 1));
    let (code, said) = check("own");
    assert!(
        code == Some(0) && said.contains("dangerous_allow_override"),
        "{said}"
    );
}

#[test]
fn the_providers_that_are_known_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("own");
    std::fs::create_dir(&own).unwrap();
    std::fs::write(own.join("acme.toml"), OWN).unwrap();
    let (code, before) = run(folder.path(), &["providers", "list"]);
    assert_eq!(code, Some(0), "{before}");
    assert!(
        before.contains("github (GitHub): oauth, token, app\n"),
        "{before}"
    );
    assert!(!before.contains("acme_sms"), "{before}");
    let config = "[providers]\nfolder = \"own\"\n";
    std::fs::write(folder.path().join("keystead.toml"), config).unwrap();
    let (code, json) = run(folder.path(), &["providers", "list", "--json"]);
    assert_eq!(code, Some(0), "{json}");
    let all: Value = serde_json::from_str(&json).unwrap();
    let all = all.as_array().unwrap();
    assert_eq!(all.len(), before.lines().count() + 1);
    let of = |id: &str| all.iter().find(|provider| provider["id"] == id).unwrap();
    assert_eq!(of("acme_sms")["modes"][0]["oauth"], false);
    assert_eq!(of("github")["modes"][0]["oauth"], true);
}
