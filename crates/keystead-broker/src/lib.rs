//! Use cases: the only crate that opens a secret, and the only one that talks to the outside.
//!
//! What always holds: each operation decides (core's policy), records (one write door) and only
//! then acts; a credential leaves `permit::open` for a placed request or a `Revealed`, nowhere else;
//! every outbound connection goes through `net`.
//!
//! Deliberately not here: SQL, routes, wire types.

mod actor;
mod ask;
mod audit;
mod broker;
pub mod callers;
mod clock;
mod connect;
mod context;
mod duties;
mod epochs;
mod error;
mod feed;
mod hash;
mod identity;
mod integrations;
mod keyring;
mod keys;
pub mod kms;
mod limits;
mod mint;
pub mod net;
mod oauth;
mod open;
mod page;
mod permit;
mod proxy;
mod renew;
mod resources;
mod reveal;
mod revoke;
mod rollback;
mod rotate;
mod streams;
mod tenants;
mod verify;

pub use audit::{EntryFilter, Proof, ProofAsk};
pub use broker::{Broker, Counters, Parts, ProxySettings, Readiness, Settings};
pub use clock::{Clock, ClockHand, random};
pub use connect::{
    Claimed, ConnectLink, ConnectSession, ConnectSettings, InvalidConnectSetting,
    MadeConnectSession, NewConnectSession, SessionUser,
};
pub use context::Context;
pub use error::{Error, FieldFault};
pub use integrations::{Changes, Created, Integration, IntegrationFilter, NewIntegration, Status};
pub use keyring::KeyringSettings;
pub use keys::{CreatedKey, Key, NewKey};
pub use limits::{InvalidRate, Limits, Rate};
pub use oauth::{
    Back, Begin, Completed, ConnectPage, Device, DevicePoll, Incomplete, OAuthApp, OAuthSettings,
    Started, Way,
};
pub use page::Page;
pub use proxy::Selector;
pub use renew::{RenewSettings, RenewalCounters};
pub use reveal::Revealed;
pub use revoke::{
    Batch, BatchPage, BatchState, Candidate, NewRevocation, Preview, Revocation, Selection,
};
pub use rollback::SetBack;
pub use rotate::{Rotation, Schedule};
pub use tenants::{Member, Tenant};
pub use verify::TestReport;
