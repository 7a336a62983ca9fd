//! `cargo xtask ci`: everything that has to hold before a change lands, cheapest first.

use anyhow::{Context, Result, bail};

use crate::args::Args;
use crate::process::{cargo, command as program, find_in_path, output, root, run};
use crate::{fuzz, openapi, test};

pub(crate) fn command(args: Args) -> Result<()> {
    args.end()?;
    let before = tree()?;

    run(cargo().args(["fmt", "--all", "--check"]))?;
    run(cargo().args(["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"]))?;
    run(cargo()
        .args(["clippy", "--quiet", "--workspace", "--all-targets"])
        .args(["--", "-D", "warnings"]))?;
    run(cargo()
        .args([
            "doc",
            "--quiet",
            "--workspace",
            "--no-deps",
            "--document-private-items",
        ])
        .env("RUSTDOCFLAGS", "-D warnings"))?;
    if find_in_path("cargo-deny").is_some() {
        run(cargo().args(["deny", "--offline", "check", "bans", "licenses", "sources"]))?;
    }
    test::tests(None)?;
    openapi::check()?;
    fuzz::smoke()?;

    let after = tree()?;
    if after != before {
        bail!("the run changed the tree:\n{after}");
    }
    Ok(())
}

/// What differs from the last commit; none where this is not a clone.
fn tree() -> Result<String> {
    if !root().join(".git").exists() {
        return Ok(String::new());
    }
    output(program("git").args(["status", "--porcelain"])).context("git is needed for a clean tree")
}
