//! Renewing a token set: one run of it, as a state machine without a clock and without I/O.
//!
//! ```text
//! read ─ fresh ───────────────────────────────────────────► live
//!   │ ─ leased by another ─ wait ─ read …
//!   └ take lease + intent ─ call ─ tokens ─ store (until it is stored, or lost to another) ► live
//!                               ├ dead ── read again ─ moved on? start over : ► reauthorize
//!                               └ else ── release with back-off ──────────────► failing
//! ```
//!
//! What always holds: it says `Call` only between a lease that was taken and the moment when the call
//! can still end well before the lease does; it gives up no reply that holds tokens; it says
//! `reauthorize` only of what it has seen twice. Time is the database's, and comes with each event.

mod pace;
mod row;

pub use pace::{Rules, ahead_of, is_hopeless};
pub use row::{Change, Holder, Missed, Row};

use crate::time::Time;
use pace::{LATE_PAUSE, LATE_PAUSE_OF_USE, is_late};

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Want {
    /// A token that can be used now.
    Live,
    /// A token that can be used now, for a person who asks: what failed before is tried again.
    Insisting,
    /// A later one than this version, which its API refuses.
    Later(u64),
    /// Renewal before anybody waits for it.
    Ahead,
    /// The newest tokens there are, to take the grant back with: what failed before is tried again,
    /// and a call whose end nobody wrote down too.
    Last,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The run begins.
    Begin,
    /// The row as it is; `None`: there is none.
    Row(Option<Row>),
    /// The change was made.
    Written,
    /// The change was not made: the row had moved.
    Missed,
    /// The store did not answer: a change may have been made, or be made yet.
    Unknown,
    /// The provider answered, or did not.
    Answered(Reply),
    /// A wait is over.
    Waited,
}

/// What a call to the token endpoint came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// Tokens; they are sealed and kept by whoever called.
    Tokens {
        /// When the access token ends.
        expires_at: Option<Time>,
        /// When it is to be renewed.
        renew_at: Option<Time>,
    },
    /// The refresh token is dead.
    Dead,
    /// The client is refused; of the refresh token this says nothing.
    Client,
    /// Too many calls; wait so many seconds at least.
    Rate(Option<u32>),
    /// The provider has trouble.
    Down,
    /// An answer that cannot be understood.
    Unclear,
    /// The call went out and nothing came back: it may have been carried out, or be yet.
    Lost,
    /// The call never went out.
    Unsent,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Read the row, and the time.
    Read,
    /// Make this change; where it is `Store`, with the tokens that came.
    Write(Change),
    /// Call the token endpoint, to an end before [`Run::call_until`].
    Call,
    /// Wait a moment.
    Wait(Pause),
    /// The run is over.
    Done(End),
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pause {
    /// Another has the lease.
    Lease,
    /// The store does not answer.
    Store,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// There is a token to use.
    Live,
    /// The person has to authorise again.
    Reauthorize,
    /// It failed; to be tried again then.
    Failing(Option<Time>),
    /// Another is at it, and nobody waits here.
    Busy,
    /// There is no token set.
    Gone,
    /// The store does not answer.
    Unavailable,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    New,
    Reading,
    /// Read again after a refusal.
    Doubting,
    Taking,
    Calling,
    Storing(Change),
    Releasing(Change, End),
    Marking,
    Pausing(Box<State>),
    Over,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Run {
    want: Want,
    holder: Holder,
    rules: Rules,
    state: State,
    /// The row as it was read last.
    row: Option<Row>,
    /// The time of which the lease is reckoned; of the first attempt, while that may yet be made.
    leased_at: Time,
    /// The fence of a lease that was asked for and may have been taken.
    asked: Option<u64>,
    /// Times that the store did not answer, one after the other.
    silent: u8,
    /// Leases that were asked for.
    takes: u8,
    /// Whether the provider asked for the pause that the row is in.
    asked_to_wait: bool,
    /// The fence of a lease that ran out on a call, and when that was first seen.
    doubted: Option<(u64, Time)>,
}

/// A store that does not answer so often ends the run, where no tokens hang on it.
const SILENT_MOST: u8 = 4;
/// A run in which others are first so often ends.
const TAKES_MOST: u8 = 8;

impl Run {
    /// A run of this holder, which is nobody else's.
    pub fn new(want: Want, holder: Holder, rules: Rules) -> Run {
        Run {
            want,
            holder,
            rules,
            state: State::New,
            row: None,
            leased_at: Time(0),
            asked: None,
            silent: 0,
            takes: 0,
            asked_to_wait: false,
            doubted: None,
        }
    }

    /// The row as the run knows it.
    pub fn row(&self) -> Option<&Row> {
        self.row.as_ref()
    }

    /// Whether the row that was read is in a pause for which its provider asked.
    pub fn asked_to_wait(&mut self, asked: bool) {
        self.asked_to_wait = asked;
    }

    /// The fence of the lease that was asked for last.
    pub fn fence(&self) -> u64 {
        self.at().1
    }

    /// Whether a call was begun before this run whose end nobody wrote down.
    pub fn in_doubt(&self) -> bool {
        self.row.as_ref().is_some_and(|row| row.intent)
    }

    /// When a call has to have ended that begins now.
    pub fn call_until(&self, now: Time) -> Time {
        let latest = self.leased_at.plus_seconds(self.rules.call_ends_within());
        latest.min(now.plus_seconds(self.rules.call))
    }

    /// What to do after this, at this time.
    pub fn next(&mut self, now: Time, event: Event) -> Step {
        if matches!(event, Event::Unknown) {
            return self.hear_nothing();
        }
        let state = std::mem::replace(&mut self.state, State::Over);
        if !matches!(state, State::Pausing(_)) {
            self.silent = 0;
        }
        match (state, event) {
            (State::New, Event::Begin) => self.read(),
            (State::Pausing(state), Event::Waited) => self.resume(*state),
            (State::Reading | State::Doubting, Event::Row(None)) => Step::Done(End::Gone),
            (State::Reading, Event::Row(Some(row))) => self.judge(now, row),
            (State::Doubting, Event::Row(Some(row))) => {
                let seen = self.row.as_ref();
                let same = seen.is_some_and(|seen| seen.token_version == row.token_version)
                    && self.asked == Some(row.fence);
                if same {
                    self.go(State::Marking)
                } else {
                    self.judge(now, row)
                }
            }
            (State::Taking, Event::Written) => self.call(now),
            (State::Taking | State::Storing(_) | State::Marking, Event::Missed) => self.read(),
            (State::Calling, Event::Answered(reply)) => self.hear(now, reply),
            (State::Storing(_), Event::Written) => Step::Done(End::Live),
            (State::Marking, Event::Written) => Step::Done(End::Reauthorize),
            (State::Releasing(_, end), Event::Written | Event::Missed) => Step::Done(end),
            // An event that answers no step: nothing was asked, so nothing is done.
            _ => Step::Done(End::Unavailable),
        }
    }

    fn read(&mut self) -> Step {
        self.go(State::Reading)
    }

    /// Enters a state by what it begins with.
    fn go(&mut self, state: State) -> Step {
        let (version, fence) = self.at();
        let step = match &state {
            State::Reading | State::Doubting => Step::Read,
            State::Taking => Step::Write(Change::Take {
                token_version: version,
                seen_fence: fence - 1,
                holder: self.holder,
                until: self.leased_at.plus_seconds(self.rules.lease),
            }),
            State::Storing(change) | State::Releasing(change, _) => Step::Write(change.clone()),
            State::Marking => Step::Write(Change::Reauthorize {
                token_version: version,
                fence,
            }),
            State::Calling => Step::Call,
            State::New | State::Pausing(_) | State::Over => Step::Done(End::Unavailable),
        };
        self.state = state;
        step
    }

    fn resume(&mut self, state: State) -> Step {
        match state {
            // Whether it was taken is read off the row.
            State::Taking => self.read(),
            other => self.go(other),
        }
    }

    /// The version that was seen, and the fence of the lease that was asked for.
    fn at(&self) -> (u64, u64) {
        let version = self.row.as_ref().map_or(0, |row| row.token_version);
        (version, self.asked.unwrap_or(1))
    }

    fn hear_nothing(&mut self) -> Step {
        let state = std::mem::replace(&mut self.state, State::Over);
        self.silent = self.silent.saturating_add(1);
        // Tokens that came are in no other place: they are written until they are stored.
        if !matches!(state, State::Storing(_)) && self.silent > SILENT_MOST {
            return Step::Done(match state {
                State::Releasing(_, end) => end,
                _ => End::Unavailable,
            });
        }
        // The count goes on over waits, and would keep states apart that are alike.
        if matches!(state, State::Storing(_)) {
            self.silent = 0;
        }
        self.state = State::Pausing(Box::new(state));
        Step::Wait(Pause::Store)
    }

    fn judge(&mut self, now: Time, row: Row) -> Step {
        let taken = self.asked == Some(row.fence) && row.holder == Some(self.holder);
        if taken && !row.dead {
            // An answer of the store was lost, and the lease was taken.
            return self.call(now);
        }
        let (usable, leased) = (row.usable(now), row.leased(now));
        let answered = match self.want {
            Want::Live | Want::Insisting => usable,
            Want::Later(version) => usable && row.token_version > version,
            Want::Last => usable && !row.intent,
            Want::Ahead => row.dead || row.renew_at.is_none_or(|at| now < at),
        };
        let (dead, failing) = (row.dead, self.held_back(&row, now));
        let (fence, again) = (row.fence, row.renew_at);
        self.row = Some(row);
        if answered {
            return Step::Done(End::Live);
        }
        if dead {
            return Step::Done(End::Reauthorize);
        }
        if leased && self.want == Want::Ahead {
            return Step::Done(End::Busy);
        }
        if leased || self.is_left_alone(now) {
            self.state = State::Pausing(Box::new(State::Reading));
            return Step::Wait(Pause::Lease);
        }
        if failing {
            return Step::Done(End::Failing(again));
        }
        self.takes += 1;
        if self.takes > TAKES_MOST {
            return Step::Done(End::Unavailable);
        }
        if self.asked != Some(fence + 1) {
            self.asked = Some(fence + 1);
            self.leased_at = now;
        }
        self.go(State::Taking)
    }

    /// Whether a holder whose lease ran out on a call is to have a moment yet: where it was the store
    /// that was away, the holder may be there and have tokens to store, which a second call would end.
    fn is_left_alone(&mut self, now: Time) -> bool {
        let held = |row: &&Row| row.intent && row.holder.is_some();
        let Some(fence) = self.row.as_ref().filter(held).map(|row| row.fence) else {
            return false;
        };
        let since = match self.doubted {
            Some((seen, since)) if seen == fence => since,
            _ => now,
        };
        self.doubted = Some((fence, since));
        now < since.plus_seconds(self.rules.grace)
    }

    /// Whether what failed before is not to be tried yet.
    fn held_back(&self, row: &Row, now: Time) -> bool {
        let waits = |at: &Time| row.failures > 0 && now < *at;
        let Some(at) = row.renew_at.filter(waits) else {
            return false;
        };
        let tried_late = |after: i64| {
            let late = row.failing_since.is_some_and(|since| is_late(now, since));
            late && now >= at.plus_seconds(after - LATE_PAUSE)
        };
        match self.want {
            _ if self.asked_to_wait => true,
            Want::Ahead => true,
            // A call whose end is not known may still be carried out: nobody is to overtake it.
            Want::Insisting | Want::Last => row.intent && !tried_late(self.rules.lease),
            Want::Live | Want::Later(_) => !tried_late(LATE_PAUSE_OF_USE),
        }
    }

    /// The lease is taken: calls, unless that took too long.
    fn call(&mut self, now: Time) -> Step {
        if now <= self.leased_at.plus_seconds(self.rules.call_begins_within()) {
            return self.go(State::Calling);
        }
        let (version, fence) = self.at();
        let Some(row) = &self.row else {
            return Step::Done(End::Unavailable);
        };
        let release = Change::Release {
            token_version: version,
            fence,
            keep_intent: row.intent,
            renew_at: row.renew_at,
            failures: row.failures,
            failing_since: row.failing_since,
        };
        self.go(State::Releasing(release, End::Unavailable))
    }

    fn hear(&mut self, now: Time, reply: Reply) -> Step {
        let (version, fence) = self.at();
        if let Reply::Tokens {
            expires_at,
            renew_at,
        } = reply
        {
            return self.go(State::Storing(Change::Store {
                token_version: version + 1,
                fence,
                expires_at,
                renew_at,
            }));
        }
        if reply == Reply::Dead {
            return self.go(State::Doubting);
        }
        let (before, since, doubt) = self.row.as_ref().map_or((0, None, false), |row| {
            (row.failures, row.failing_since, row.intent)
        });
        let failures = before.saturating_add(1);
        let since = since.unwrap_or(now);
        let lease_ends = self.leased_at.plus_seconds(self.rules.lease);
        let again = self.rules.again(now, since, failures, reply, lease_ends);
        let renew_at = Some(again);
        let used_up = matches!(reply, Reply::Down | Reply::Unclear | Reply::Lost);
        let release = Change::Release {
            token_version: version,
            fence,
            keep_intent: doubt || used_up,
            renew_at,
            failures,
            failing_since: Some(since),
        };
        self.go(State::Releasing(release, End::Failing(renew_at)))
    }
}
