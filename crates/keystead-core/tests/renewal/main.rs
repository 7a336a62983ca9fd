//! The model check of renewal: every order in which the steps of some nodes, of a provider, of time
//! and of faults can come, with the machine that the broker runs under it.
//!
//! What always holds in every world: no two calls of one grant are in flight, but where the holder of the
//! first slept through its lease; no stored token is overwritten by an older one; it comes to
//! `reauthorize` only where the provider honours no more what is stored, and only where its owner took
//! it back or an answer was lost; and from each world, without further faults, it comes to a live token
//! or to `reauthorize`, in a bounded number of steps.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod plan;
mod provider;
mod quick;
mod world;

use std::collections::{BTreeMap, HashSet};

use keystead_core::renew::{Rules, Want};
use plan::{Broken, Faults, Loss, Plan};
use provider::Class;
use quick::Quick;
use world::{World, Wrong};

const CLASSES: [Class; 3] = [Class::Reusable, Class::Rotating, Class::SingleUse];

/// What a search through all worlds found.
#[derive(Debug, Default)]
struct Found {
    worlds: usize,
    /// Steps by which it came to `reauthorize`, by what was lost; `None`: its owner took it back.
    marked: BTreeMap<Option<Loss>, usize>,
}

/// What was broken, and the way there.
type Counterexample = (Wrong, Vec<&'static str>);

/// Goes through every world that can come of the plan.
fn search(plan: &Plan) -> Result<Found, Counterexample> {
    let mut found = Found::default();
    let first = World::new(plan);
    let mut seen = HashSet::with_hasher(Quick::default());
    let mut settled = HashSet::with_hasher(Quick::default());
    seen.insert(first.clone());
    let mut way: Vec<&'static str> = Vec::new();
    let mut stack = vec![("at first", first, 0)];
    while let Some((name, world, depth)) = stack.pop() {
        way.truncate(depth);
        way.push(name);
        let way_to = |next: &'static str| [way.clone(), vec![next]].concat();
        let settles = world.settles(&mut settled);
        settles.map_err(|wrong| (wrong, way_to("no more faults")))?;
        for (name, next) in world.moves() {
            let next = next.map_err(|wrong| (wrong, way_to(name)))?;
            if !seen.contains(&next) {
                if let (None, Some(cause)) = (world.marked, next.marked) {
                    *found.marked.entry(cause).or_default() += 1;
                }
                seen.insert(next.clone());
                stack.push((name, next, depth + 1));
            }
        }
    }
    found.worlds = seen.len();
    Ok(found)
}

fn plan(class: Class, nodes: &[(Want, u8)], faults: Faults) -> Plan {
    Plan {
        class,
        nodes: nodes.to_vec(),
        faults,
        ticks: 4,
        rules: Rules::with_jitter(0),
        broken: Broken::default(),
    }
}

/// Searches for each class of provider, and says what was found.
fn check(name: &str, nodes: &[(Want, u8)], faults: Faults, ticks: u8) -> [Found; 3] {
    CLASSES.map(|class| {
        let plan = Plan {
            ticks,
            ..plan(class, nodes, faults)
        };
        let found = search(&plan)
            .unwrap_or_else(|(wrong, way)| panic!("{class:?}, {name}: {wrong}\n{way:#?}"));
        println!(
            "{name}, {class:?}: {} worlds, reauthorize by {:?}",
            found.worlds, found.marked
        );
        found
    })
}

fn losses(found: &Found) -> Vec<Option<Loss>> {
    found.marked.keys().copied().collect()
}

const TWICE_AND_ONCE: [(Want, u8); 2] = [(Want::Live, 2), (Want::Live, 1)];
const ONCE_EACH: [(Want, u8); 2] = [(Want::Live, 1), (Want::Live, 1)];

#[test]
fn a_crash_at_any_step_loses_nothing_but_a_single_use_token_between_its_reply_and_its_storing() {
    let faults = Faults {
        crashes: 1,
        ..Faults::NONE
    };
    let [reusable, rotating, single] = check("a crash", &TWICE_AND_ONCE, faults, 4);
    assert!(reusable.marked.is_empty() && rotating.marked.is_empty());
    assert!(losses(&single).contains(&Some(Loss::Crash)));
}

#[test]
fn a_lost_reply_ends_in_a_live_token_or_in_reauthorize_by_the_class_of_the_provider() {
    let faults = Faults {
        lost: 1,
        ..Faults::NONE
    };
    let [reusable, rotating, single] = check("a lost reply", &TWICE_AND_ONCE, faults, 4);
    assert!(reusable.marked.is_empty() && rotating.marked.is_empty());
    assert!(losses(&single).contains(&Some(Loss::LostReply)));
}

#[test]
fn a_holder_that_sleeps_through_its_lease_changes_nothing_when_it_wakes() {
    let faults = Faults {
        pauses: 1,
        ..Faults::NONE
    };
    let [reusable, rotating, single] = check("a pause", &ONCE_EACH, faults, 5);
    assert!(reusable.marked.is_empty() && rotating.marked.is_empty());
    assert!(losses(&single).contains(&Some(Loss::LateHolder)));
}

#[test]
fn a_store_that_does_not_answer_once_at_any_step_costs_time_only() {
    let faults = Faults {
        silences: 1,
        ..Faults::NONE
    };
    let [reusable, rotating, _] = check("a silence", &ONCE_EACH, faults, 3);
    assert!(reusable.marked.is_empty() && rotating.marked.is_empty());
}

#[test]
fn a_refusal_or_an_outage_of_the_provider_is_no_end_of_the_grant() {
    let faults = Faults {
        outages: 2,
        ..Faults::NONE
    };
    let [reusable, rotating, single] = check("an outage", &ONCE_EACH, faults, 3);
    assert!(reusable.marked.is_empty() && rotating.marked.is_empty());
    // A provider that hangs past the deadline is another fault, which time brings.
    let only = [Some(Loss::LostReply)];
    assert!(losses(&single).iter().all(|loss| only.contains(loss)));
}

#[test]
fn a_new_consent_is_never_harmed_by_the_renewal_of_the_old_one() {
    let faults = Faults {
        consents: 1,
        revocations: 1,
        ..Faults::NONE
    };
    for found in check("a consent", &ONCE_EACH, faults, 3) {
        assert!(losses(&found).contains(&None), "it was taken back");
    }
}

#[test]
fn three_nodes_that_want_a_token_at_once_make_one_call() {
    let nodes = [(Want::Live, 1), (Want::Later(1), 1), (Want::Ahead, 1)];
    for found in check("three nodes", &nodes, Faults::NONE, 1) {
        assert!(found.marked.is_empty());
    }
}

#[test]
fn the_search_finds_a_lease_that_is_shorter_than_its_call() {
    let nodes = ONCE_EACH;
    let mut short = plan(Class::Rotating, &nodes, Faults::NONE);
    // As in-process locks and short leases have it: 10 s, over a call of up to 10 s and what goes before.
    short.rules.lease = 15;
    short.rules.call = 30;
    short.rules.grace = 0;
    short.rules.slack = -45;
    let (wrong, _) = search(&short).unwrap_err();
    assert!(wrong.contains("two calls in flight"), "{wrong}");
}

#[test]
fn the_search_finds_writes_without_the_fence() {
    let faults = Faults {
        pauses: 1,
        ..Faults::NONE
    };
    let mut unfenced = plan(Class::Rotating, &ONCE_EACH, faults);
    unfenced.ticks = 5;
    unfenced.broken.unfenced_writes = true;
    let (wrong, _) = search(&unfenced).unwrap_err();
    assert!(wrong.contains("overwritten by an older one"), "{wrong}");
}

#[test]
fn the_search_finds_that_nobody_looks_twice_before_reauthorize() {
    let faults = Faults {
        consents: 1,
        revocations: 1,
        ..Faults::NONE
    };
    let mut careless = plan(Class::Reusable, &ONCE_EACH, faults);
    careless.ticks = 3;
    careless.broken.no_second_look = true;
    let (wrong, _) = search(&careless).unwrap_err();
    assert!(wrong.contains("honours what is stored"), "{wrong}");
}
