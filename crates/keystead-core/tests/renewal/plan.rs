//! How a world is set up: nodes, faults, and what is broken on purpose.

use keystead_core::renew::{Rules, Want};

use crate::provider::Class;

/// What is wrong with the system under test, to see the search find it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Broken {
    /// Changes are made whatever the row is.
    pub(crate) unfenced_writes: bool,
    /// Whoever is refused is shown the row as it was, and marks it whatever it is.
    pub(crate) no_second_look: bool,
}

/// How often each fault may yet happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Faults {
    pub(crate) crashes: u8,
    pub(crate) lost: u8,
    pub(crate) pauses: u8,
    pub(crate) silences: u8,
    pub(crate) revocations: u8,
    pub(crate) consents: u8,
    pub(crate) outages: u8,
}

impl Faults {
    pub(crate) const NONE: Faults = Faults {
        crashes: 0,
        lost: 0,
        pauses: 0,
        silences: 0,
        revocations: 0,
        consents: 0,
        outages: 0,
    };
}

/// Why the tokens of an answer were never stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Loss {
    Crash,
    LostReply,
    LateHolder,
}

/// How a world is set up.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) class: Class,
    /// For each node, what its runs are for, and how many it may begin.
    pub(crate) nodes: Vec<(Want, u8)>,
    pub(crate) faults: Faults,
    pub(crate) ticks: u8,
    pub(crate) rules: Rules,
    pub(crate) broken: Broken,
}
