//! Every provider of the catalogue against a server that plays it by its file. A failure names the
//! provider, the mode and the rule.

#![allow(clippy::unwrap_used)]

mod api;
mod cases;
mod consent;
mod devices;
mod doubted;
mod exchange;
#[path = "../house/mod.rs"]
mod house;
mod known;
mod receipts;
mod renewal;
mod revoke;
mod taken_back;
mod wrong;
