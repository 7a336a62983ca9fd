//! For tests only: what the tests of all crates start, pretend and look for.

pub mod issuer;
pub mod postgres;
pub mod upstream;
