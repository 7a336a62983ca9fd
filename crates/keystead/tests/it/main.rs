//! The whole program, from outside: its process, its sockets, its files, real clients. Linked once.
//!
//! What always holds: servers listen on free loopback ports; secrets are invented and hold
//! `canary`; a process is ended by its id.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)] // tests

mod accounts;
mod attacks;
mod audit;
mod authorise;
mod aws;
mod browser;
mod commands;
mod connect;
mod crashes;
mod dev_connect;
mod endings;
mod main_job;
mod nodes;
mod providers;
mod renewal;
mod resources;
mod revocation;
mod rig;
mod rotation;
mod scarcity;
mod secrets;
mod secrets_oauth;
