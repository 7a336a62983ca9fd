//! Providers as data: what a credential consists of, where it goes on a request, which hosts it
//! may go to, and how to tell whether it works.
//!
//! What always holds: a provider that is in a [`Catalogue`] has passed every check of `parse`;
//! a placeholder `{name}` in a template is never a secret; a host that [`Provider::destination`]
//! returns is one of the provider's own. Formats of keys are advice: they warn, they never block.
//!
//! Not here: putting a credential on a request (`placement`), and anything that dials.

mod body;
mod call;
mod catalogue;
mod config;
mod destination;
mod endpoint;
mod fields;
mod mint;
mod model;
pub mod oauth;
mod parse;
pub mod resources;
mod revoke;
pub mod rotation;
pub(crate) mod template;
mod test_call;
mod usage;

pub use call::{Call, CallAuth, Outcome, OutcomeRule, ProviderCall, ProviderRequest};
pub use catalogue::Catalogue;
pub use config::Config;
pub use destination::{Destination, DestinationError};
pub use fields::{Fields, MAX_CREDENTIAL};
pub use mint::{
    Mint, MintError, MintedToken, Scope, TokenRequest, mint_request, mint_scoped,
    read_token_response,
};
pub use model::{
    Field, HeaderRule, HostRule, Kind, Links, Mode, Pattern, PlacedHeader, Placement, Provider,
    ProviderFault, Under,
};
pub use revoke::{Revoke, revoke_calls};
pub use test_call::{Conditions, ResultClass, Rule, Status, TestCall, TestRequest, classify};
pub use usage::{Above, Price, Stream, Units, Usage};

/// Why a field of a request is refused; the message never holds the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldFault {
    /// Where, e.g. `credentials.api_key`.
    pub path: String,
    /// What is wrong, for a person.
    pub message: String,
}

/// What looks wrong with a field but does not block it; the message never holds the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Where, e.g. `credentials.api_key`.
    pub path: String,
    /// What looks wrong, for a person.
    pub message: String,
}

/// The path of a member that a caller named. What does not look like a field name may be a secret
/// in the wrong place, and is not repeated.
fn member_path(parent: &str, name: &str) -> String {
    if is_name(name) {
        format!("{parent}.{name}")
    } else {
        format!("{parent}.?")
    }
}

/// Whether the text has the form of a field name: `[a-z_][a-z0-9_]{0,39}`, case ignored.
fn is_name(name: &str) -> bool {
    name.len() <= 40
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The up to three names closest to the given one, closest first; none that differ by more than
/// half.
fn nearest<'a>(name: &str, among: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    if name.len() > 64 {
        return Vec::new();
    }
    let mut ranked: Vec<(usize, &str)> = among
        .map(|other| (distance(&name.to_ascii_lowercase(), other), other))
        .filter(|(far, other)| *far <= name.len().max(other.len()) / 2)
        .collect();
    ranked.sort_unstable();
    ranked.into_iter().map(|(_, name)| name).take(3).collect()
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
