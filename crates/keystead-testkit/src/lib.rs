//! For tests only: what the tests of all crates start, pretend and look for.

pub mod canary;
pub mod client;
pub mod issuer;
pub mod node;
pub mod played;
pub mod postgres;
pub mod process;
pub mod python;
pub mod size;
pub mod token_server;
pub mod upstream;
pub mod vendors;
