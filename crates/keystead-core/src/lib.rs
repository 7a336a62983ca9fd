//! Rules and formats of Keystead, pure.
//!
//! What always holds here: no I/O, no async, no clock and no randomness of its own. Time, salts and
//! names come in as values, so that each rule can be tested as a function.
//!
//! Deliberately not here: SQL (store), decisions that need a record (broker), wire types (http).

pub mod action;
pub mod caller;
pub mod egress;
pub mod entry;
pub mod ids;
pub mod log;
pub mod path;
pub mod placement;
pub mod policy;
pub mod provider;
pub mod renew;
pub mod seal;
pub mod sigv4;
pub mod time;
pub mod token;
