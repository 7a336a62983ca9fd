//! Grants taken back at a strict provider: what is asked, what confirms, what is left behind, and
//! what can no longer be done with an integration meanwhile.

#![allow(clippy::unwrap_used, reason = "helpers outside of #[test] functions")]

mod attacks;
mod batches;
mod calls;
#[path = "../house/mod.rs"]
mod house;
mod many;
mod postgres;
mod stage;
