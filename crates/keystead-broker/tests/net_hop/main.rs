//! The hop from Keystead to a provider, seen from the attacker's side and from a faulty provider's.

#![allow(clippy::unwrap_used)]

mod dialling;
mod headers;
mod rig;
mod streams;
