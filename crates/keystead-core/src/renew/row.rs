//! A token set's row, as far as renewal goes by it, and the changes that renewal makes of it.
//!
//! What always holds: each change names the token version and the fence that it goes by, and misses
//! where either has moved; so what a paused holder writes late changes nothing. [`Row::apply`] is
//! the rule that the store's statements have to follow, and is held against them by a test.

use crate::time::Time;

/// A token is not used in its last seconds: it has to arrive before it ends.
const SPARE_SECONDS: i64 = 10;

/// Who holds a lease: one run, never two alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Holder(pub u128);

/// What renewal knows of a token set; the tokens themselves are sealed and elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    /// Grows with each new set of tokens.
    pub token_version: u64,
    /// Grows with each lease.
    pub fence: u64,
    /// The refresh token is known to be dead: the person has to authorise again.
    pub dead: bool,
    /// When the access token ends; `None`: its provider does not say.
    pub expires_at: Option<Time>,
    /// When it is to be renewed, or tried again; `None`: not ahead of a use.
    pub renew_at: Option<Time>,
    /// Who has the lease, or had it last.
    pub holder: Option<Holder>,
    /// Until when, by the database's clock.
    pub lease_until: Option<Time>,
    /// A call was begun, and nobody wrote down how it ended.
    pub intent: bool,
    /// Attempts that failed since the last that did not.
    pub failures: u64,
    /// When the first of them did.
    pub failing_since: Option<Time>,
}

/// The row had moved on; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed;

/// A change of the row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// Takes the lease and records the intent to call. The fence becomes the next one.
    Take {
        /// The version that was seen.
        token_version: u64,
        /// The fence that was seen.
        seen_fence: u64,
        /// Who takes it.
        holder: Holder,
        /// Until when.
        until: Time,
    },
    /// Stores the tokens that came, and ends the lease.
    Store {
        /// The new version: one more than was seen.
        token_version: u64,
        /// The lease's.
        fence: u64,
        /// When the new access token ends.
        expires_at: Option<Time>,
        /// When it is to be renewed.
        renew_at: Option<Time>,
    },
    /// Ends the lease after an attempt that brought nothing.
    Release {
        /// The version that was seen.
        token_version: u64,
        /// The lease's fence.
        fence: u64,
        /// The refresh token may have been used up by it.
        keep_intent: bool,
        /// When to try again; `None`: given up.
        renew_at: Option<Time>,
        /// Attempts that failed.
        failures: u64,
        /// Since when.
        failing_since: Option<Time>,
    },
    /// Says that the refresh token is dead, and ends the lease.
    Reauthorize {
        /// The version that was refused.
        token_version: u64,
        /// The lease's fence.
        fence: u64,
    },
    /// Tokens of a new consent, over whatever is there.
    Put {
        /// Greater than what was there.
        token_version: u64,
        /// Greater than what was there.
        fence: u64,
        /// When the access token ends.
        expires_at: Option<Time>,
        /// When it is to be renewed.
        renew_at: Option<Time>,
    },
}

impl Row {
    /// Whether the access token can be used. One whose renewal was refused lasts until its end,
    /// where that is known.
    pub fn usable(&self, now: Time) -> bool {
        match self.expires_at {
            Some(at) => now < at.plus_seconds(-SPARE_SECONDS),
            None => !self.dead,
        }
    }

    /// Whether somebody has the lease.
    pub fn leased(&self, now: Time) -> bool {
        self.lease_until.is_some_and(|until| now < until)
    }

    /// Makes a change at this time, or misses.
    ///
    /// # Errors
    /// `Missed`, where the row is not what the change goes by.
    pub fn apply(&mut self, change: &Change, now: Time) -> Result<(), Missed> {
        match *change {
            Change::Take {
                token_version,
                seen_fence,
                holder,
                until,
            } => {
                self.check(token_version, seen_fence)?;
                if self.leased(now) {
                    return Err(Missed);
                }
                self.fence += 1;
                self.holder = Some(holder);
                self.lease_until = Some(until);
                self.intent = true;
            }
            Change::Store {
                token_version,
                fence,
                expires_at,
                renew_at,
            } => {
                self.check(token_version.checked_sub(1).ok_or(Missed)?, fence)?;
                self.renew(token_version, expires_at, renew_at);
            }
            Change::Release {
                token_version,
                fence,
                keep_intent,
                renew_at,
                failures,
                failing_since,
            } => {
                self.check(token_version, fence)?;
                self.free();
                self.intent &= keep_intent;
                self.renew_at = renew_at;
                self.failures = failures;
                self.failing_since = failing_since;
            }
            Change::Reauthorize {
                token_version,
                fence,
            } => {
                self.check(token_version, fence)?;
                self.free();
                self.dead = true;
                self.intent = false;
                self.renew_at = None;
            }
            Change::Put {
                token_version,
                fence,
                expires_at,
                renew_at,
            } => {
                if token_version <= self.token_version || fence <= self.fence {
                    return Err(Missed);
                }
                self.fence = fence;
                self.renew(token_version, expires_at, renew_at);
            }
        }
        Ok(())
    }

    fn check(&self, token_version: u64, fence: u64) -> Result<(), Missed> {
        let same = self.token_version == token_version && self.fence == fence && !self.dead;
        same.then_some(()).ok_or(Missed)
    }

    fn free(&mut self) {
        self.holder = None;
        self.lease_until = None;
    }

    fn renew(&mut self, version: u64, expires_at: Option<Time>, renew_at: Option<Time>) {
        self.free();
        self.token_version = version;
        self.dead = false;
        self.intent = false;
        self.expires_at = expires_at;
        self.renew_at = renew_at;
        self.failures = 0;
        self.failing_since = None;
    }
}
