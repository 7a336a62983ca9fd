//! Values that are not to be seen: references in the file, read once, never printed.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, bail};
use serde::Deserialize;
use zeroize::Zeroizing;

/// A reference to a secret: `{ file = "…" }` or `{ env = "…" }`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Secret {
    file: Option<PathBuf>,
    env: Option<String>,
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
