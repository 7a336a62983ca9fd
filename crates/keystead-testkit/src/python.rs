//! The Python of `cargo xtask test`, which has the vendors' packages.

#![allow(clippy::disallowed_methods)] // `cargo xtask test` says by the environment where things are

use std::path::PathBuf;

/// The interpreter.
///
/// # Panics
/// Where nothing was set up.
pub fn python() -> PathBuf {
    std::env::var_os("KEYSTEAD_TEST_PYTHON")
        .expect("KEYSTEAD_TEST_PYTHON is not set: run `cargo xtask test`")
        .into()
}
