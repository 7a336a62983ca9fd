//! Where answers say what was used, and what that costs: `[[usage]]` and `[[price]]`.
//!
//! Data alone for now: it is read and checked, and nothing counts by it yet.

use serde::Deserialize;

use super::parse::{Check, require};

/// Where the answers of a path say what was used: JSON pointers to counts of tokens.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// The path; one that ends in a slash is what paths begin with.
    pub path: String,
    /// Tokens that went in.
    #[serde(default)]
    pub input: Option<String>,
    /// Tokens that came out. Embeddings have none.
    #[serde(default)]
    pub output: Option<String>,
    /// Of those that went in, the ones read from a cache.
    #[serde(default)]
    pub cached: Option<String>,
    /// Tokens written into a cache.
    #[serde(default)]
    pub cache_write: Option<String>,
    /// Tokens spent on thinking.
    #[serde(default)]
    pub reasoning: Option<String>,
    /// What the call cost, in US dollars; it goes before any table of prices.
    #[serde(default)]
    pub cost: Option<String>,
    /// What is counted where it is not tokens.
    #[serde(default)]
    pub units: Option<Units>,
    /// Whether `input` counts `cached` too.
    #[serde(default)]
    pub input_has_cached: bool,
    /// Whether `output` counts `reasoning` too.
    #[serde(default)]
    pub output_has_reasoning: bool,
    /// How the counts of a stream's events become one.
    #[serde(default)]
    pub stream: Stream,
    /// What may stand before the pointers in a stream's events, such as `/response`; the empty
    /// one for nothing. Without any, nothing does.
    #[serde(default)]
    pub stream_pointer: Vec<String>,
}

/// What is counted where it is not tokens: either a pointer or a header.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Units {
    /// Such as `seconds`.
    pub name: String,
    /// Where the answer says how many.
    #[serde(default)]
    pub pointer: Option<String>,
    /// The header that says how many.
    #[serde(default)]
    pub header: Option<String>,
}

/// How the counts of a stream's events become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// The last event that counts has it all.
    #[default]
    Last,
    /// They are added.
    Sum,
    /// Each count is taken from the last event that has it.
    Merge,
}

/// What a model costs, in US dollars for a million tokens.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// The model; a `*` at the end is any ending.
    pub model: String,
    /// For tokens that go in.
    pub input: f64,
    /// For tokens that come out. Embeddings have none.
    #[serde(default)]
    pub output: Option<f64>,
    /// For those that are read from a cache.
    #[serde(default)]
    pub cached: Option<f64>,
    /// For those that are written into one.
    #[serde(default)]
    pub cache_write: Option<f64>,
    /// What holds for requests above a length.
    #[serde(default)]
    pub above: Option<Above>,
    /// The day it was looked up, `YYYY-MM-DD`.
    pub as_of: String,
}

/// What holds for requests with more than so many tokens in.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Above {
    /// More than this.
    pub tokens: u64,
    /// For tokens that go in.
    pub input: f64,
    /// For tokens that come out.
    pub output: f64,
    /// For those that are read from a cache.
    #[serde(default)]
    pub cached: Option<f64>,
}

impl Usage {
    pub(super) fn check(&self) -> Check {
        require(
            self.path.starts_with('/'),
            &format!("usage: `{}` is no path", self.path),
        )?;
        let pointers = [
            ("input", self.input.as_ref()),
            ("output", self.output.as_ref()),
            ("cached", self.cached.as_ref()),
            ("cache_write", self.cache_write.as_ref()),
            ("reasoning", self.reasoning.as_ref()),
            ("cost", self.cost.as_ref()),
            (
                "units",
                self.units.as_ref().and_then(|u| u.pointer.as_ref()),
            ),
        ];
        let before = self.stream_pointer.iter().filter(|p| !p.is_empty());
        let pointers = pointers
            .into_iter()
            .chain(before.map(|before| ("stream_pointer", Some(before))));
        for (name, pointer) in pointers {
            require(
                pointer.is_none_or(|pointer| pointer.starts_with('/')),
                &format!("usage of {}: {name}: must begin with a slash", self.path),
            )?;
        }
        require(
            self.input.is_some() != self.units.is_some(),
            &format!("usage of {}: either `input` or `units`", self.path),
        )?;
        let one = |units: &Units| units.pointer.is_some() != units.header.is_some();
        require(
            self.units.as_ref().is_none_or(one),
            &format!(
                "usage of {}: units: either `pointer` or `header`",
                self.path
            ),
        )?;
        let needs = |has: bool, part: &Option<String>| !has || part.is_some();
        require(
            needs(self.input_has_cached, &self.cached)
                && needs(self.output_has_reasoning, &self.reasoning),
            &format!("usage of {}: what is counted too has no pointer", self.path),
        )
    }
}

impl Price {
    pub(super) fn check(&self) -> Check {
        let model = &self.model;
        require(!model.is_empty(), "price.model: must be named")?;
        let above = self.above.as_ref();
        let figures = [
            Some(self.input),
            self.output,
            self.cached,
            self.cache_write,
            above.map(|above| above.input),
            above.map(|above| above.output),
            above.and_then(|above| above.cached),
        ];
        require(
            figures
                .into_iter()
                .flatten()
                .all(|figure| (0.0..=10_000.0).contains(&figure)),
            &format!("price of {model}: a figure is not in dollars for a million tokens"),
        )?;
        require(
            self.as_of.len() == 10 && self.as_of.parse::<jiff::civil::Date>().is_ok(),
            &format!("price of {model}: as_of: must be a day like 2026-08-02"),
        )
    }
}
