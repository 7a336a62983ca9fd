//! Values that are not to be seen: references in the file, read once, never printed.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, bail};
use serde::Deserialize;
use serde::de::IgnoredAny;
use zeroize::Zeroizing;

/// A reference to a secret: `{ file = "…" }` or `{ env = "…" }`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(try_from = "Given")]
pub(crate) struct Secret {
    file: Option<PathBuf>,
    env: Option<String>,
}

/// What may stand there. A value written out is refused without being repeated.
#[derive(Deserialize)]
#[serde(untagged)]
enum Given {
    Reference(Reference),
    Other(IgnoredAny),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reference {
    file: Option<PathBuf>,
    env: Option<String>,
}

impl TryFrom<Given> for Secret {
    type Error = &'static str;

    fn try_from(given: Given) -> Result<Secret, &'static str> {
        match given {
            Given::Reference(Reference { file, env }) => Ok(Secret { file, env }),
            Given::Other(_) => {
                Err("a secret is not written here: give { file = \"…\" } or { env = \"…\" }")
            }
        }
    }
}

impl Secret {
    /// The secret's bytes, without a newline at the end.
    #[allow(clippy::disallowed_methods)] // a variable that the configuration names
    pub(crate) fn read(&self, what: &str) -> anyhow::Result<Zeroizing<Vec<u8>>> {
        let mut bytes = Zeroizing::new(match (&self.file, &self.env) {
            (Some(path), None) => std::fs::read(path)
                .with_context(|| format!("{what}: {} cannot be read", path.display()))?,
            (None, Some(name)) => std::env::var(name)
                .with_context(|| format!("{what}: the variable {name} is not set"))?
                .into_bytes(),
            _ => bail!("{what}: give either {{ file = \"…\" }} or {{ env = \"…\" }}"),
        });
        while bytes
            .last()
            .is_some_and(|byte| matches!(byte, b'\n' | b'\r'))
        {
            bytes.pop();
        }
        Ok(bytes)
    }

    /// The secret as text.
    pub(crate) fn text(&self, what: &str) -> anyhow::Result<Zeroizing<String>> {
        let bytes = self.read(what)?;
        let text = std::str::from_utf8(&bytes).with_context(|| format!("{what} is not UTF-8"))?;
        Ok(Zeroizing::new(text.to_owned()))
    }
}

/// A text that may hold a password (a database's URL): written out, or a reference.
#[derive(Clone, Deserialize, PartialEq)]
#[serde(untagged)]
pub(crate) enum SecretText {
    Plain(String),
    Reference(Secret),
}

impl SecretText {
    pub(crate) fn plain(text: &str) -> SecretText {
        SecretText::Plain(text.to_owned())
    }

    /// The text.
    pub(crate) fn text(&self, what: &str) -> anyhow::Result<Zeroizing<String>> {
        match self {
            SecretText::Plain(text) => Ok(Zeroizing::new(text.clone())),
            SecretText::Reference(secret) => secret.text(what),
        }
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(not shown)")
    }
}
