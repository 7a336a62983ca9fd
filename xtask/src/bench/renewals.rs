//! `cargo xtask bench --only renew`: what a crowd waits that needs one ended token, how long ten
//! thousand grants take that end in one minute, and for how long new tokens are in memory alone.
//!
//! What always holds: it is the broker's own code over a provider on loopback, and prints what it
//! measures. `--grants`, `--users` and `--rounds` give other sizes, `--debug` a build that is not
//! optimised: to see that it works, and for no figure.

use anyhow::Result;

use crate::args::Args;
use crate::process::{cargo, run};
use crate::tools;

/// What is not as usual.
pub(super) struct Sizes {
    debug: bool,
    numbers: Vec<(&'static str, u64)>,
}

impl Sizes {
    pub(super) fn of(args: &mut Args) -> Result<Sizes> {
        let mut numbers = Vec::new();
        for (option, name) in [
            ("--grants", "KEYSTEAD_BENCH_GRANTS"),
            ("--users", "KEYSTEAD_BENCH_USERS"),
            ("--rounds", "KEYSTEAD_BENCH_ROUNDS"),
        ] {
            let number = args.number(option)?;
            numbers.extend(number.map(|number| (name, number)));
        }
        Ok(Sizes {
            debug: args.flag("--debug"),
            numbers,
        })
    }
}

pub(super) fn measure(sizes: &Sizes) -> Result<()> {
    let mut scale = cargo();
    scale.arg("test");
    if sizes.debug {
        scale.args(["--package", "keystead-broker"]);
    } else {
        // The whole workspace: `--package` would build other features of the same crates.
        scale.args(["--release", "--workspace"]);
    }
    scale.args(["--test", "renewal_scale", "--"]);
    scale.args(["--ignored", "--nocapture", "--test-threads", "1"]);
    for (name, number) in &sizes.numbers {
        scale.env(name, number.to_string());
    }
    run(scale.env("KEYSTEAD_TEST_PG_BIN", tools::postgres_bin()?))
}
