//! Reading the file and the environment.

use std::path::Path;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

use super::Config;

/// The configuration does not hold; the text says where and what would be right.
#[derive(Debug)]
pub(crate) struct ConfigFault(pub String);

impl std::fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigFault {}

/// Variables that are not settings of the server.
const NOT_SETTINGS: [&str; 4] = [
    "KEYSTEAD_URL",
    "KEYSTEAD_TOKEN",
    "KEYSTEAD_TENANT",
    "KEYSTEAD_CONFIG",
];

/// Reads the file, if there is one, and what the environment sets over it.
pub(crate) fn load(
    path: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, ConfigFault> {
    let mut table = toml::Table::new();
    if let Some(path) = path {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|e| ConfigFault(format!("{shown} cannot be read: {e}")))?;
        // Once as a whole, for faults that name line and column.
        let fault = |e: toml::de::Error| ConfigFault(format!("{shown}, {}", place_of(&e, &text)));
        toml::from_str::<Config>(&text).map_err(fault)?;
        table = toml::from_str(&text).map_err(fault)?;
    }
    for (name, value) in environment {
        let Some(setting) = name.strip_prefix("KEYSTEAD_") else {
            continue;
        };
        if NOT_SETTINGS.contains(&name.as_str()) || setting.starts_with("TEST_") {
            continue;
        }
        let (section, key) = setting
            .split_once('_')
            .map(|(section, key)| (section.to_ascii_lowercase(), key.to_ascii_lowercase()))
            .ok_or_else(|| ConfigFault(format!("the variable {name} names no setting: KEYSTEAD_SECTION_KEY does, such as KEYSTEAD_SERVER_LISTEN")))?;
        let section = table
            .entry(section)
            .or_insert_with(|| toml::Table::new().into());
        let Some(section) = section.as_table_mut() else {
            return Err(ConfigFault(format!(
                "the variable {name} names a section that has no such keys"
            )));
        };
        section.insert(key, value_of(&value));
        table
            .clone()
            .try_into::<Config>()
            .map_err(|e| ConfigFault(format!("the variable {name}: {}", e.message())))?;
    }
    table
        .try_into()
        .map_err(|e: toml::de::Error| ConfigFault(e.to_string()))
}

/// Where and what, without the line itself: it may hold what should have been a reference.
fn place_of(fault: &toml::de::Error, text: &str) -> String {
    let at = fault.span().map_or(0, |span| span.start);
    let before = text.get(..at).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!("line {line}, column {column}: {}", fault.message())
}

/// A number, a truth value or a list where it reads as one; else text.
fn value_of(text: &str) -> toml::Value {
    let read = toml::from_str::<toml::Table>(&format!("value = {text}"));
    match read.ok().and_then(|mut table| table.remove("value")) {
        Some(value) if !value.is_str() && !value.is_datetime() => value,
        _ => toml::Value::String(text.to_owned()),
    }
}

/// Address ranges; a single address is a range of one.
pub(super) fn nets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts
        .iter()
        .map(|text| {
            let one = || text.parse::<std::net::IpAddr>().ok().map(IpNet::from);
            text.parse().ok().or_else(one).ok_or_else(|| {
                serde::de::Error::custom(format!(
                    "{text:?} is not an address range such as 10.0.0.0/8"
                ))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigFault> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keystead.toml");
        std::fs::write(&path, text).unwrap();
        load(
            Some(&path),
            environment
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
    }

    #[test]
    fn the_documented_defaults_are_the_defaults() {
        assert_eq!(from(super::super::DEFAULT, &[]).unwrap(), Config::default());
    }

    #[test]
    fn a_key_that_is_not_known_is_refused_with_its_line() {
        let fault = from("[server]\nlisten = \"127.0.0.1:1\"\nlisen = 3\n", &[])
            .unwrap_err()
            .to_string();
        assert!(
            fault.contains("line 3") && fault.contains("lisen"),
            "{fault}"
        );
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let config = from(
            "[server]\nlisten = \"127.0.0.1:1\"\n",
            &[
                ("KEYSTEAD_SERVER_LISTEN", "127.0.0.1:2"),
                ("KEYSTEAD_LOG_REQUESTS", "true"),
                ("KEYSTEAD_EGRESS_ALLOW", "[\"10.0.0.1\"]"),
            ],
        )
        .unwrap();
        assert_eq!(config.server.listen.port(), 2);
        assert!(config.log.requests);
        assert_eq!(config.egress.allow.len(), 1);
        assert!(from("", &[("KEYSTEAD_SERVER_LISEN", "x")]).is_err());
        assert!(from("", &[("KEYSTEAD_URL", "http://127.0.0.1:8200")]).is_ok());
    }

    #[test]
    fn a_secret_is_a_reference_and_is_never_printed() {
        let config = from(
            "[store]\nurl = \"postgres://app:canary@127.0.0.1/k\"\n",
            &[],
        )
        .unwrap();
        assert!(!format!("{config:?}").contains("canary"));
        assert!(from("[[issuer]]\nname=\"a\"\nissuer=\"b\"\naudience=[\"c\"]\nalgorithms=[\"HS256\"]\nhs256_secret=\"canary\"\n", &[]).is_err());
    }
}
