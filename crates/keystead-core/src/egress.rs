//! Where Keystead may connect to: host names, addresses and base URLs.
//!
//! What always holds here: a thing is refused unless a rule names it. Hosts are compared in one
//! canonical form, addresses are judged by a positive definition of global unicast, and a URL is
//! taken only if it is already written the way that the parser reads it.
//!
//! Deliberately not here: resolving and dialling (the broker does both, and dials what it checked).

mod base_url;
mod guard;
mod host;

pub use base_url::{BaseUrl, Schemes, UrlFault};
pub use guard::{Guard, Refusal};
pub use host::{HostFault, HostPattern, canonical_host};
