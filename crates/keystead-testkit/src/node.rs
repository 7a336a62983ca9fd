//! Scripts of this crate's `node` folder, with the modules that `cargo xtask test` installs.

#![allow(clippy::disallowed_methods)] // `cargo xtask test` says by the environment where things are

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// Where the modules are: what a script is told as its first argument.
///
/// # Panics
/// Where nobody said.
pub fn modules() -> String {
    std::env::var("KEYSTEAD_TEST_NODE")
        .expect("KEYSTEAD_TEST_NODE is not set: run `cargo xtask test`")
}

/// The browser.
///
/// # Panics
/// Where nobody said.
pub fn chromium() -> String {
    std::env::var("KEYSTEAD_TEST_CHROMIUM")
        .expect("KEYSTEAD_TEST_CHROMIUM is not set: run `cargo xtask test`")
}

/// Runs a script to its end, with what it is to do.
///
/// # Panics
/// Where there is no `node`.
pub fn run(script: &str, told: &Value) -> Output {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("node");
    Command::new("node")
        .arg(folder.join(script))
        .arg(modules())
        .arg(told.to_string())
        .output()
        .expect("node is missing: install your system's `nodejs` package")
}
