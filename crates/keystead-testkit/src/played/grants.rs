//! What a played provider has granted, and what became of it.

use std::collections::BTreeMap;

/// A consent: the family of all tokens that came of it.
#[derive(Clone, Debug, Default)]
pub struct Grant {
    /// The access tokens that are live.
    pub access: Vec<String>,
    /// The access tokens that were ended.
    pub ended: Vec<String>,
    /// The refresh tokens that are live.
    pub refresh: Vec<String>,
    /// Refresh tokens that are not live any more.
    pub spent: Vec<String>,
    /// How often it was renewed.
    pub renewals: usize,
    /// Whether somebody used a refresh token a second time, and so ended it.
    pub replayed: bool,
    /// Whether it was taken back.
    pub revoked: bool,
}

impl Grant {
    /// Ends every token.
    pub(super) fn kill(&mut self) {
        self.ended.append(&mut self.access);
        self.spent.append(&mut self.refresh);
    }
}

/// A code, to be exchanged once.
pub(super) struct Code {
    pub(super) redirect_uri: String,
    pub(super) challenge: Option<String>,
    pub(super) used: bool,
}

/// A device that waits for its person.
pub(super) struct Device {
    pub(super) approved: bool,
}

/// What is due to all clients together.
#[derive(Default)]
pub(super) struct Grants {
    pub(super) all: Vec<Grant>,
    pub(super) codes: BTreeMap<String, Code>,
    pub(super) devices: BTreeMap<String, Device>,
    count: usize,
}

impl Grants {
    /// A text that was never given out before.
    pub(super) fn fresh(&mut self, kind: &str) -> String {
        self.count += 1;
        format!("canary-{kind}-{}", self.count)
    }

    pub(super) fn by_access(&self, token: &str) -> Option<&Grant> {
        self.all
            .iter()
            .find(|grant| grant.access.iter().any(|t| t == token))
    }
}
