//! `cargo xtask test`: all tests, with what they need set up first.
//!
//! What always holds here: nothing is left out because a tool is missing; the run fails instead.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::args::Args;
use crate::process::{cargo, find_in_path, run};
use crate::tools;

pub(crate) fn command(mut args: Args) -> Result<()> {
    let only = args.option("--only")?;
    args.end()?;
    tests(only.as_deref())
}

/// Runs all tests, or those whose name holds `only`.
pub(crate) fn tests(only: Option<&str>) -> Result<()> {
    let postgres = tools::postgres_bin()?;
    let python = tools::python()?;
    let node = tools::node()?;
    let chromium = tools::chromium()?;
    second_opinions(&python)?;

    if only.is_none() {
        run(cargo().args(["test", "--quiet", "--workspace", "--doc"]))?;
    }
    // Last, so that the run closes with its summary.
    let mut tests = cargo();
    if find_in_path("cargo-nextest").is_some() {
        tests.args(["nextest", "run"]);
    } else {
        tests.args(["test", "--lib", "--bins", "--tests"]);
    }
    // Always the whole workspace: a part of it would build other features of the same crates.
    run(tests
        .arg("--workspace")
        .args(only)
        .env("KEYSTEAD_TEST_PG_BIN", postgres)
        .env("KEYSTEAD_TEST_PYTHON", python)
        .env("KEYSTEAD_TEST_NODE", node)
        .env("KEYSTEAD_TEST_CHROMIUM", chromium))
}

/// The vectors, opened and signed by implementations that are not ours.
fn second_opinions(python: &Path) -> Result<()> {
    for (script, cases) in [
        ("vectors/check_seal.py", "vectors/seal"),
        ("vectors/check_sigv4.py", "vectors/sigv4/requests.json"),
    ] {
        run(Command::new(python).args([script, cases]))?;
    }
    Ok(())
}
