//! Placeholder.

pub mod issuer;
pub mod upstream;
