//! Command-line arguments: positional words, `--name value` and `--flag`.

use anyhow::{Context, Result, bail};

/// What is left to be taken.
pub(crate) struct Args(Vec<String>);

impl Args {
    pub(crate) fn new(words: impl Iterator<Item = String>) -> Self {
        Self(words.collect())
    }

    /// Takes the next word.
    pub(crate) fn positional(&mut self) -> Option<String> {
        (!self.0.is_empty()).then(|| self.0.remove(0))
    }

    /// Takes `name`, if it is there.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let at = self.0.iter().position(|word| word == name);
        at.map(|at| self.0.remove(at)).is_some()
    }

    /// Takes `name` and the word behind it, if it is there.
    pub(crate) fn option(&mut self, name: &str) -> Result<Option<String>> {
        let Some(at) = self.0.iter().position(|word| word == name) else {
            return Ok(None);
        };
        self.0.remove(at);
        if at == self.0.len() {
            bail!("{name} needs a value");
        }
        Ok(Some(self.0.remove(at)))
    }

    /// Takes `name` and the number behind it, if it is there.
    pub(crate) fn number(&mut self, name: &str) -> Result<Option<u64>> {
        self.option(name)?
            .map(|text| {
                text.parse()
                    .with_context(|| format!("{name} needs a number, not `{text}`"))
            })
            .transpose()
    }

    /// Nothing may be left.
    pub(crate) fn end(self) -> Result<()> {
        match self.0.first() {
            None => Ok(()),
            Some(word) => bail!("unexpected `{word}`"),
        }
    }
}
