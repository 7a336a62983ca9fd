//! A world for the renewal of one token set: nodes that run the machine, the row, a provider, and
//! everything that can go wrong, one small step at a time.
//!
//! What always holds: a world is a value, and [`World::moves`] are all that can happen next, so that
//! a search can go through every order of events. Time goes in units of ten seconds: a call's deadline
//! is one, a lease is three.

use std::collections::HashSet;

use keystead_core::renew::{Change, End, Event, Holder, Reply, Row, Rules, Run, Step, Want};
use keystead_core::time::Time;

use crate::plan::{Broken, Faults, Loss, Plan};
use crate::provider::{Provider, Token};
use crate::quick::Quick;

const UNIT: i64 = 10;

/// A call on its way, or carried out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Call {
    token: Token,
    /// Whose it is, while somebody waits for it.
    node: Option<usize>,
    /// When its lease ends.
    lease: Time,
    /// Time went on while its caller was paused.
    overslept: bool,
    /// What came of it, once the provider carried it out.
    outcome: Option<Option<(Token, u8)>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    run: Option<(Run, Step)>,
    paused: bool,
    /// Tokens that came and are not stored: refresh token and the number of their issue.
    kept: Option<(Token, u8)>,
    /// The row as it was when it took the lease.
    seen: Option<Row>,
    /// When a call that is about to begin has to have ended.
    until: Time,
    runs_left: u8,
    end: Option<End>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    now: Time,
    ticks_left: u8,
    row: Row,
    /// The stored refresh token, and the number of the issue that it came with.
    stored: (Token, u8),
    provider: Provider,
    nodes: Vec<Node>,
    calls: Vec<Call>,
    issued: u8,
    faults: Faults,
    /// A change that the store took and has not made yet, though its caller was told nothing.
    late: Option<(Change, Option<(Token, u8)>)>,
    lost: Option<Loss>,
    revoked: bool,
    /// The loss for which the row says `reauthorize`, or none where its owner revoked the grant.
    pub(crate) marked: Option<Option<Loss>>,
    wants: Vec<Want>,
    rules: Rules,
    broken: Broken,
}

/// What is not to be.
pub(crate) type Wrong = String;

impl World {
    pub(crate) fn new(plan: &Plan) -> World {
        let now = Time::from_seconds(1_000_000);
        let token = Token {
            family: 0,
            number: 0,
        };
        let node = |(_, runs): &(Want, u8)| Node {
            run: None,
            paused: false,
            kept: None,
            seen: None,
            until: Time(0),
            runs_left: *runs,
            end: None,
        };
        World {
            now,
            ticks_left: plan.ticks,
            row: Row {
                token_version: 1,
                fence: 1,
                dead: false,
                expires_at: Some(now),
                renew_at: Some(now),
                holder: None,
                lease_until: None,
                intent: false,
                failures: 0,
                failing_since: None,
            },
            stored: (token, 0),
            provider: Provider {
                class: plan.class,
                family: 0,
                current: 0,
                before: None,
                dead: false,
            },
            nodes: plan.nodes.iter().map(node).collect(),
            calls: Vec::new(),
            issued: 0,
            faults: plan.faults,
            late: None,
            lost: None,
            revoked: false,
            marked: None,
            wants: plan.nodes.iter().map(|(want, _)| *want).collect(),
            rules: plan.rules,
            broken: plan.broken,
        }
    }

    /// Everything that can happen next, each with the world after it, or what it breaks.
    pub(crate) fn moves(&self) -> Vec<(&'static str, Result<World, Wrong>)> {
        let mut all = Vec::new();
        let mut add = |name, world: Result<World, Wrong>| all.push((name, world));
        for (at, node) in self.nodes.iter().enumerate() {
            match &node.run {
                None if node.runs_left > 0 => add("begin", Ok(self.after(|it| it.begin(at)))),
                None => {}
                Some(_) if node.paused => {
                    add("go on", Ok(self.after(|it| it.nodes[at].paused = false)))
                }
                Some((_, step)) => {
                    self.steps(at, step, &mut add);
                    if self.faults.pauses > 0 {
                        let paused = self.after(|it| {
                            it.faults.pauses -= 1;
                            it.nodes[at].paused = true;
                        });
                        add("pause", Ok(paused));
                    }
                }
            }
            if node.run.is_some() && self.faults.crashes > 0 {
                add("crash", Ok(self.after(|it| it.crash(at))));
            }
        }
        for at in 0..self.calls.len() {
            if self.calls[at].outcome.is_none() {
                add("carry out", Ok(self.after(|it| it.carry_out(at))));
            }
        }
        if let Some((change, tokens)) = self.late.clone() {
            let mut next = self.clone();
            next.late = None;
            let done = next.write(&change, tokens);
            add("a late write", done.map(|_| next));
        }
        if self.faults.revocations > 0 {
            let revoked = self.after(|it| {
                it.faults.revocations -= 1;
                it.provider.dead = true;
                it.revoked = true;
            });
            add("revoke", Ok(revoked));
        }
        if self.faults.consents > 0 {
            let mut next = self.clone();
            let done = next.consent();
            add("consent", done.map(|()| next));
        }
        // Time that goes on before a row is read might as well have gone on before the run.
        let matters = |node: &Node| matches!(&node.run, Some((_, step)) if *step != Step::Read);
        if self.ticks_left > 0 && !self.is_urgent() && self.nodes.iter().any(matters) {
            let later = self.after(|it| {
                it.ticks_left -= 1;
                it.go_on_in_time();
            });
            add("time", Ok(later));
        }
        all
    }

    fn go_on_in_time(&mut self) {
        self.now = self.now.plus_seconds(UNIT);
        for call in &mut self.calls {
            call.overslept |= call.node.is_some_and(|at| self.nodes[at].paused);
        }
    }

    fn after(&self, change: impl FnOnce(&mut World)) -> World {
        let mut next = self.clone();
        change(&mut next);
        next
    }

    /// Whether a node that runs is at a call whose deadline is now: it ends it before time goes on.
    fn is_urgent(&self) -> bool {
        self.nodes.iter().any(|node| {
            let calls = matches!(node.run, Some((_, Step::Call)));
            calls && !node.paused && node.until <= self.now
        })
    }

    fn begin(&mut self, at: usize) {
        let number = u128::from(self.nodes[at].runs_left) * 10 + at as u128;
        let mut run = Run::new(self.wants[at], Holder(number), self.rules);
        let step = run.next(self.now, Event::Begin);
        let node = &mut self.nodes[at];
        node.runs_left -= 1;
        node.run = Some((run, step));
        node.end = None;
    }

    fn crash(&mut self, at: usize) {
        self.faults.crashes -= 1;
        if self.nodes[at].kept.is_some() {
            self.lost = Some(Loss::Crash);
        }
        self.leave_call(at, Loss::Crash);
        let node = &mut self.nodes[at];
        (node.run, node.kept, node.paused) = (None, None, false);
    }

    /// Nobody waits for the call of this node any more.
    fn leave_call(&mut self, at: usize, why: Loss) {
        let Some(index) = self.calls.iter().position(|call| call.node == Some(at)) else {
            return;
        };
        match self.calls[index].outcome {
            Some(outcome) => {
                if outcome.is_some() {
                    self.lost = Some(why);
                }
                self.calls.remove(index);
            }
            None => self.calls[index].node = None,
        }
    }

    fn carry_out(&mut self, index: usize) {
        let next = self.issued + 1;
        let token = self.provider.renew(self.calls[index].token, next);
        if token.is_some() {
            self.issued = next;
        }
        let outcome = token.map(|token| (token, next));
        if self.calls[index].node.is_none() {
            self.calls.remove(index);
            if outcome.is_some() {
                self.lost = Some(Loss::LostReply);
            }
        } else {
            self.calls[index].outcome = Some(outcome);
        }
    }

    fn consent(&mut self) -> Result<(), Wrong> {
        self.faults.consents -= 1;
        self.issued += 1;
        self.provider.family += 1;
        self.provider.current = self.issued;
        self.provider.before = None;
        self.provider.dead = false;
        self.revoked = false;
        let token = Token {
            family: self.provider.family,
            number: self.issued,
        };
        let put = Change::Put {
            token_version: self.row.token_version + 1,
            fence: self.row.fence + 1,
            expires_at: Some(self.now.plus_seconds(3600)),
            renew_at: Some(self.now.plus_seconds(3000)),
        };
        self.write(&put, Some((token, self.issued))).map(drop)
    }

    /// What a node that runs may do or be told next.
    fn steps(
        &self,
        at: usize,
        step: &Step,
        add: &mut impl FnMut(&'static str, Result<World, Wrong>),
    ) {
        let told = |event: Event| Ok(self.after(|it| it.tell(at, event)));
        let silence = |mut world: World| {
            world.faults.silences -= 1;
            world.tell(at, Event::Unknown);
            world
        };
        match step {
            Step::Read => {
                let stale = self.broken.no_second_look && self.nodes[at].seen.is_some();
                let row = match &self.nodes[at].seen {
                    Some(seen) if stale => seen.clone(),
                    _ => self.row.clone(),
                };
                add("read", told(Event::Row(Some(row))));
                if self.faults.silences > 0 {
                    add("read fails", Ok(silence(self.clone())));
                }
            }
            Step::Write(change) => {
                let tokens = self.nodes[at].kept;
                let mut made = self.clone();
                let written = made.write(change, tokens);
                if self.faults.silences > 0 {
                    add("write fails", Ok(silence(self.clone())));
                    add(
                        "write, and no word of it",
                        written.clone().map(|_| silence(made.clone())),
                    );
                    if self.late.is_none() {
                        let mut late = silence(self.clone());
                        late.late = Some((change.clone(), tokens));
                        add("write is late", Ok(late));
                    }
                }
                let name = match change {
                    Change::Take { .. } => "take",
                    Change::Store { .. } => "store",
                    Change::Release { .. } => "release",
                    Change::Reauthorize { .. } => "mark",
                    Change::Put { .. } => "put",
                };
                add(
                    name,
                    written.map(|done| {
                        made.note_write(at, change, done);
                        let event = if done { Event::Written } else { Event::Missed };
                        made.tell(at, event);
                        made
                    }),
                );
            }
            Step::Call => match self.calls.iter().position(|call| call.node == Some(at)) {
                // The last look at the clock. Who is paused after it is as who is paused in the call.
                None if self.nodes[at].until <= self.now => {
                    add("too late", told(Event::Answered(Reply::Unsent)));
                }
                None => {
                    add("call", self.call(at));
                    if self.faults.outages > 0 {
                        for reply in [
                            Reply::Down,
                            Reply::Client,
                            Reply::Rate(Some(7)),
                            Reply::Unsent,
                        ] {
                            let mut next = self.after(|it| it.faults.outages -= 1);
                            next.tell(at, Event::Answered(reply));
                            add("an outage", Ok(next));
                        }
                    }
                }
                Some(index) => {
                    if let Some(outcome) = self.calls[index].outcome {
                        add("reply", Ok(self.after(|it| it.answer(at, index, outcome))));
                    }
                    if self.faults.lost > 0 || self.nodes[at].until <= self.now {
                        let lost = self.after(|it| {
                            it.faults.lost = it.faults.lost.saturating_sub(1);
                            it.leave_call(at, Loss::LostReply);
                            it.tell(at, Event::Answered(Reply::Lost));
                        });
                        add("no reply", Ok(lost));
                    }
                }
            },
            Step::Wait(_) => add("wait", told(Event::Waited)),
            Step::Done(_) => {}
        }
    }

    fn call(&self, at: usize) -> Result<World, Wrong> {
        for other in self.calls.iter().filter(|call| call.outcome.is_none()) {
            let running = other.node.is_some() && !other.overslept;
            if running || self.now < other.lease {
                return Err("two calls in flight for one grant".to_owned());
            }
        }
        let lease = self.row.lease_until.unwrap_or(self.now);
        let call = Call {
            token: self.stored.0,
            node: Some(at),
            lease,
            overslept: false,
            outcome: None,
        };
        Ok(self.after(|it| it.calls.push(call)))
    }

    fn answer(&mut self, at: usize, index: usize, outcome: Option<(Token, u8)>) {
        self.calls.remove(index);
        let reply = match outcome {
            Some(tokens) => {
                self.nodes[at].kept = Some(tokens);
                Reply::Tokens {
                    expires_at: Some(self.now.plus_seconds(3600)),
                    renew_at: Some(self.now.plus_seconds(3000)),
                }
            }
            None => Reply::Dead,
        };
        self.tell(at, Event::Answered(reply));
    }

    fn tell(&mut self, at: usize, event: Event) {
        let now = self.now;
        let node = &mut self.nodes[at];
        let Some((mut run, _)) = node.run.take() else {
            return;
        };
        match run.next(now, event) {
            Step::Done(end) => {
                node.end = Some(end);
                node.seen = None;
                if node.kept.take().is_some() && self.stored.1 < self.issued {
                    self.lost = Some(Loss::LateHolder);
                }
            }
            step => {
                // Elsewhere it means nothing, and would keep worlds apart that are alike.
                let calls = matches!(step, Step::Call);
                node.until = if calls { run.call_until(now) } else { Time(0) };
                node.run = Some((run, step));
            }
        }
    }

    fn note_write(&mut self, at: usize, change: &Change, done: bool) {
        match change {
            Change::Take { .. } if done => self.nodes[at].seen = Some(self.row.clone()),
            Change::Store { .. } => {
                let kept = self.nodes[at].kept.take();
                self.nodes[at].seen = None;
                if !done && kept.is_some_and(|(_, issue)| issue > self.stored.1) {
                    self.lost = Some(Loss::LateHolder);
                }
            }
            _ => {}
        }
    }

    /// What the store does with a change; and what must not come of it.
    fn write(&mut self, change: &Change, tokens: Option<(Token, u8)>) -> Result<bool, Wrong> {
        let careless = match change {
            Change::Store { .. } => self.broken.unfenced_writes,
            Change::Reauthorize { .. } => self.broken.no_second_look,
            _ => false,
        };
        if careless {
            let (version, fence) = (self.row.token_version, self.row.fence);
            let mut change = change.clone();
            match &mut change {
                Change::Store {
                    token_version: of,
                    fence: by,
                    ..
                } => {
                    (*of, *by) = (version + 1, fence);
                }
                Change::Reauthorize {
                    token_version: of,
                    fence: by,
                } => {
                    (*of, *by) = (version, fence);
                }
                _ => {}
            }
            if self.row.apply(&change, self.now).is_err() {
                return Ok(false);
            }
        } else if self.row.apply(change, self.now).is_err() {
            return Ok(false);
        }
        match change {
            Change::Store { .. } | Change::Put { .. } => {
                let Some(tokens) = tokens else {
                    return Err("stored without tokens".to_owned());
                };
                if tokens.1 <= self.stored.1 {
                    return Err("a stored token was overwritten by an older one".to_owned());
                }
                self.stored = tokens;
                self.marked = None;
                self.lost = None;
            }
            Change::Reauthorize { .. } => {
                if self.provider.honours(self.stored.0) {
                    return Err(
                        "reauthorize, though the provider honours what is stored".to_owned()
                    );
                }
                let kept = |node: &Node| node.kept.is_some_and(|(_, issue)| issue > self.stored.1);
                let cause = match self.lost {
                    _ if self.revoked => None,
                    None if self.nodes.iter().any(kept) => Some(Loss::LateHolder),
                    None if self
                        .calls
                        .iter()
                        .any(|call| call.outcome.flatten().is_some()) =>
                    {
                        Some(Loss::LateHolder)
                    }
                    lost => lost,
                };
                if !self.revoked && cause.is_none() {
                    return Err("reauthorize, and nothing was lost".to_owned());
                }
                self.marked = Some(cause);
            }
            Change::Take { .. } | Change::Release { .. } => {}
        }
        Ok(true)
    }

    /// Goes on without faults until there is a live token, or the row says `reauthorize`. What is
    /// known to settle, and what is found to, is in `settled`.
    pub(crate) fn settles(&self, settled: &mut HashSet<World, Quick>) -> Result<(), Wrong> {
        let mut world = self.clone();
        world.faults = Faults::NONE;
        world.ticks_left = 0;
        for node in &mut world.nodes {
            node.paused = false;
        }
        for _ in 0..200 {
            if !settled.insert(world.clone()) {
                return Ok(());
            }
            let over = world.calls.is_empty()
                && world.late.is_none()
                && world.nodes.iter().all(|node| node.run.is_none());
            if over && (world.row.dead || world.row.usable(world.now)) {
                return Ok(());
            }
            if over {
                let times = [world.row.renew_at, world.row.lease_until];
                world.now = times.into_iter().flatten().fold(world.now, Time::max);
                world.nodes[0].runs_left = 1;
                world.wants[0] = Want::Live;
                world.begin(0);
            }
            world.go_on()?;
        }
        Err("it goes on for ever".to_owned())
    }

    fn go_on(&mut self) -> Result<(), Wrong> {
        if let Some((change, tokens)) = self.late.take() {
            self.write(&change, tokens)?;
        }
        if let Some(at) = self.calls.iter().position(|call| call.outcome.is_none()) {
            self.carry_out(at);
        }
        let waits = |node: &Node| matches!(&node.run, None | Some((_, Step::Wait(_))));
        if self.nodes.iter().all(waits) {
            self.go_on_in_time();
        }
        for at in 0..self.nodes.len() {
            let Some((_, step)) = self.nodes[at].run.clone() else {
                continue;
            };
            let mut next = None;
            // The first is what happens where nothing is wrong.
            self.steps(at, &step, &mut |_, world| {
                next.get_or_insert(world);
            });
            if let Some(world) = next {
                *self = world?;
            }
        }
        Ok(())
    }
}
