//! The one write door: an entry and the changes that go with it, committed together in log order.
//!
//! ```text
//! callers ── bounded channel ──► group ──► one transaction: effects, entries, head ──► replies
//! ```
//!
//! What always holds: an entry is acknowledged only when it is durable; a change is never made
//! without its entry; entries have one order, and the head is the root over them. A caller who
//! goes away does not stop the group. The databases' halves are in `sqlite` and `postgres`.

use std::time::{Duration, Instant};

use keystead_core::action::Outcome;
use keystead_core::entry::Entry;
use keystead_core::log::{Frontier, Hash, leaf_hash};
use tokio::sync::{mpsc, oneshot};

use crate::effect::{Effect, Miss};
use crate::{Error, Store};

/// An entry, and what changes with it.
#[derive(Clone, Debug)]
pub struct Write {
    /// What is recorded.
    pub entry: Entry,
    /// What changes; often nothing.
    pub effects: Vec<Effect>,
}

/// Proof that an entry is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The entry's number.
    pub seq: u64,
}

/// Writes in one group at most.
pub(crate) const GROUP: usize = 256;
/// Writes that may wait; more are refused.
pub(crate) const QUEUE: usize = 4096;

/// A write that waits for its group.
pub(crate) struct Pending {
    pub(crate) write: Write,
    reply: oneshot::Sender<Result<Receipt, Error>>,
}

impl Pending {
    /// Its caller may be gone; the write stands either way.
    pub(crate) fn answer(self, result: Result<Receipt, Error>) {
        let _ = self.reply.send(result);
    }
}

/// Answers all of a group alike, where nothing of it was done or nobody knows.
pub(crate) fn fail(group: impl IntoIterator<Item = Pending>, context: &'static str) {
    for pending in group {
        pending.answer(Err(Error::unavailable(context)));
    }
}

/// One row of the log, to be inserted.
pub(crate) struct NewEntry<'a> {
    pub(crate) entry: &'a Entry,
    pub(crate) seq: u64,
    pub(crate) target: Option<String>,
    pub(crate) outcome: Outcome,
    pub(crate) changed: bool,
    pub(crate) leaf: String,
}

/// What a group adds to the log, once it is known which of its changes were made.
pub(crate) struct Batch<'a> {
    pub(crate) from: u64,
    pub(crate) root_before: Hash,
    pub(crate) entries: Vec<NewEntry<'a>>,
    /// The head after it.
    pub(crate) frontier: Frontier,
    pub(crate) root: Hash,
}

impl<'a> Batch<'a> {
    /// Gives each write its place. A write that missed is recorded as failed, and says why.
    pub(crate) fn build(
        head: &Frontier,
        group: &'a [Pending],
        misses: &[Option<Miss>],
    ) -> Batch<'a> {
        let mut frontier = head.clone();
        let mut entries = Vec::with_capacity(group.len());
        for (index, pending) in group.iter().enumerate() {
            let seq = frontier.size();
            let entry = &pending.write.entry;
            let miss = misses.get(index).copied().flatten();
            let (outcome, leaf) = match miss {
                None => (entry.outcome, entry.leaf(seq)),
                Some(miss) => {
                    let mut failed = entry.clone();
                    failed.outcome = Outcome::Failed;
                    failed.reason = Some(miss.why.as_str().into());
                    (Outcome::Failed, failed.leaf(seq))
                }
            };
            frontier.push(leaf_hash(leaf.as_bytes()));
            entries.push(NewEntry {
                entry,
                seq,
                target: entry.target.as_deref().map(searchable),
                outcome,
                changed: miss.is_none() && !pending.write.effects.is_empty(),
                leaf,
            });
        }
        Batch {
            from: head.size(),
            root_before: head.root(),
            root: frontier.root(),
            entries,
            frontier,
        }
    }
}

/// Answers each write of a group that is durable.
pub(crate) fn acknowledge(group: Vec<Pending>, from: u64, misses: &[Option<Miss>]) {
    for (index, (seq, pending)) in (from..).zip(group).enumerate() {
        pending.answer(match misses.get(index).copied().flatten() {
            None => Ok(Receipt { seq }),
            Some(miss) => Err(miss.into()),
        });
    }
}

/// A target for the column that is searched: as long as the leaf keeps it, and without NUL, which
/// PostgreSQL's text cannot hold and which would fail the whole group.
fn searchable(target: &str) -> String {
    target[..target.floor_char_boundary(200)].replace('\0', "\u{fffd}")
}

/// How large the next group will be, if it is waited for: the callers of the last group come back a
/// moment after they were answered. Without a short wait for them, two halves of the callers take
/// turns, and each commit carries half of what it could.
#[derive(Default)]
pub(crate) struct Pace {
    expected: usize,
    patience: Duration,
}

impl Pace {
    /// Waits at most so long: a small part of what a commit takes anyway. Longer waits made larger
    /// groups, and fewer requests: the processors stood idle meanwhile.
    const MOST: Duration = Duration::from_micros(300);
    /// Where commits are quicker than that allows, waiting costs more than it brings.
    const LEAST: Duration = Duration::from_micros(250);

    /// Until when to wait for more; `None` where all that were there are there again.
    pub(crate) fn until(&self, here: usize) -> Option<Instant> {
        let worthwhile = self.patience >= Pace::LEAST && !self.complete(here);
        worthwhile.then(|| Instant::now() + self.patience)
    }

    /// A group was committed, which took so long, and meanwhile others came.
    pub(crate) fn committed(&mut self, size: usize, meanwhile: usize, took: Duration) {
        self.expected = size + meanwhile;
        self.patience = (took / 8).min(Pace::MOST);
    }

    /// Whether all that were expected have come.
    pub(crate) fn complete(&self, here: usize) -> bool {
        here >= self.expected.min(GROUP)
    }
}

/// The sending half of the door.
#[derive(Clone)]
pub(crate) struct Door<T> {
    sender: mpsc::Sender<T>,
    deadline: Duration,
}

impl<T: From<Pending>> Door<T> {
    pub(crate) fn new(deadline: Duration) -> (Door<T>, mpsc::Receiver<T>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Door { sender, deadline }, receiver)
    }

    pub(crate) fn sender(&self) -> &mpsc::Sender<T> {
        &self.sender
    }

    pub(crate) async fn append(&self, write: Write) -> Result<Receipt, Error> {
        let (reply, answer) = oneshot::channel();
        self.sender
            .try_send(T::from(Pending { write, reply }))
            .map_err(|_| Error::unavailable("too many writes are waiting"))?;
        match tokio::time::timeout(self.deadline, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::unavailable("the log's writer stopped")),
            Err(_) => Err(Error::unavailable(
                "the log's writer did not answer in time",
            )),
        }
    }
}

impl Store {
    /// Records an entry and makes its changes, in one transaction that is shared with others.
    ///
    /// `Conflict`, `Duplicate`, `NotFound`, `Invalid`: nothing was changed, and the entry is
    /// recorded as failed with that reason. `Unavailable`: unknown; nothing may be done on its
    /// strength.
    pub async fn append(&self, write: Write) -> Result<Receipt, Error> {
        self.backend().append(write).await
    }
}
