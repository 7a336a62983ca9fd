//! `cargo xtask openapi`: writes `openapi.json`, which is generated from the code and committed.

use std::fs;

use anyhow::{Result, bail};

use crate::args::Args;
use crate::process::{cargo, command as program, output, root, run, target_dir};

pub(crate) fn command(mut args: Args) -> Result<()> {
    let check = args.flag("--check");
    args.end()?;
    if check {
        return self::check();
    }
    fs::write(root().join("openapi.json"), generate()?)?;
    Ok(())
}

/// Fails if the committed document is not what the code says.
pub(crate) fn check() -> Result<()> {
    let committed = fs::read_to_string(root().join("openapi.json")).unwrap_or_default();
    if committed != generate()? {
        bail!("openapi.json is stale: run `cargo xtask openapi` and commit it");
    }
    Ok(())
}

fn generate() -> Result<String> {
    // The whole workspace, as the tests build it: `--package` would build other features.
    run(cargo().args(["build", "--quiet", "--workspace", "--bins"]))?;
    output(program(target_dir().join("debug/keystead")).arg("openapi"))
}
