//! How much of something a measurement takes, where `cargo xtask bench` says another number than usual.

/// The number that `KEYSTEAD_BENCH_<name>` gives, else the usual one.
///
/// # Panics
/// Where it is no number.
#[allow(clippy::disallowed_methods)] // Tests take no arguments.
pub fn size(name: &str, usual: usize) -> usize {
    let said = std::env::var(format!("KEYSTEAD_BENCH_{name}")).ok();
    said.map_or(usual, |number| number.parse().expect("a number"))
}
