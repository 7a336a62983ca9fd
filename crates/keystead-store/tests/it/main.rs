//! The store from outside: one suite of named behaviours for every database it runs on, and what
//! only one of them has to prove.

#![allow(clippy::unwrap_used)]

mod conformance;
mod faults;
mod fixture;
mod isolation;
mod nodes;
mod schema;
