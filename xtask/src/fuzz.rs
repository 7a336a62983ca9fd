//! `cargo xtask fuzz`: libFuzzer on the parsers of keystead-core, with the stable compiler.
//!
//! What always holds here: the coverage flags reach only code for the target, never build scripts;
//! findings and corpora stay in `fuzz/`, outside of what is committed.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::args::Args;
use crate::process::{cargo, command as program, output, root, run, target_dir};

/// What `cargo fuzz` passes too; `fuzzing` tells libfuzzer-sys.
const FLAGS: &str = "--cfg fuzzing \
    -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Ccodegen-units=1";

pub(crate) fn command(mut args: Args) -> Result<()> {
    let seconds = args.number("--seconds")?.unwrap_or(60);
    let name = args.positional();
    args.end()?;
    let known = targets()?;
    match name.as_deref() {
        Some("all") => fuzz(&known, seconds),
        Some(name) if known.iter().any(|known| known == name) => fuzz(&[name.to_owned()], seconds),
        _ => bail!("name one of: all {}", known.join(" ")),
    }
}

/// Each target for a moment: it builds, runs, and finds nothing at once.
pub(crate) fn smoke() -> Result<()> {
    fuzz(&targets()?, 5)
}

fn targets() -> Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(root().join("fuzz/fuzz_targets"))?
        .flatten()
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".rs")?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}

fn fuzz(names: &[String], seconds: u64) -> Result<()> {
    let host = host()?;
    let target_dir = target_dir().join("fuzz");
    // The same versions as the workspace's, plus libFuzzer's: one lock file to look after.
    fs::copy(root().join("Cargo.lock"), root().join("fuzz/Cargo.lock"))?;
    run(cargo()
        .current_dir(root().join("fuzz"))
        .args(["build", "--quiet", "--release", "--bins", "--target", &host])
        .env("CARGO_TARGET_DIR", &target_dir)
        .env("RUSTFLAGS", FLAGS))?;
    for name in names {
        let corpus = root().join("fuzz/corpus").join(name);
        let artifacts = root().join("fuzz/artifacts").join(name);
        fs::create_dir_all(&corpus)?;
        fs::create_dir_all(&artifacts)?;
        let mut fuzzer = program(target_dir.join(&host).join("release").join(name));
        fuzzer
            .arg(format!("-max_total_time={seconds}"))
            .args([
                "-timeout=10",
                "-rss_limit_mb=1024",
                "-print_final_stats=1",
                "-verbosity=0",
                "-print_funcs=0",
            ])
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .arg(&corpus);
        // Whole files to begin with, where hardly any mutation of nothing would be one.
        if name == "provider" {
            fuzzer.arg(root().join("providers"));
        }
        run(&mut fuzzer).with_context(|| format!("the input is in fuzz/artifacts/{name}"))?;
    }
    Ok(())
}

fn host() -> Result<String> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .context("rustc does not say its host")
}
