//! No core dumps, and no attaching of debuggers by other processes of the same user: either would
//! show keys and plaintexts.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Switches both off; says so on standard error where that fails.
#[allow(clippy::print_stderr)] // before any log is set up
pub(crate) fn disable_core_dumps() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    if let Err(fault) = setrlimit(Resource::Core, none) {
        eprintln!("keystead: core dumps could not be switched off: {fault}");
    }
    if let Err(fault) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        eprintln!("keystead: attaching to this process could not be switched off: {fault}");
    }
}
