//! Writes the vectors of the seal into a folder: `cargo run -p keystead-core --example seal_vectors -- vectors/seal`.
//!
//! The output depends on nothing but this program, and a test holds the committed files to it.

#![allow(
    clippy::disallowed_methods,
    reason = "a program beside core, whose work is to write files"
)]

mod cases;
mod two_keys;
mod vector;

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let folder = std::env::args_os()
        .nth(1)
        .map(PathBuf::from)
        .ok_or_else(|| std::io::Error::other("name the folder to write to"))?;
    for (name, vector) in cases::all() {
        std::fs::write(folder.join(name), vector.to_text())?;
    }
    Ok(())
}
