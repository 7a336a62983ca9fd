//! The way out: every connection that Keystead makes to a provider starts here.
//!
//! What always holds here: the address that the guard permitted is the address connected to;
//! redirects are never followed; no proxy is taken from the environment; an error holds no header,
//! no query and no body. A request is sent again only if the pool hands it back unsent, because the
//! idle connection that it was given turned out closed; nothing that reached a socket is repeated.
//!
//! Deliberately not here: who may call what, and the opening of credentials ([`Hop`]'s caller does
//! both and places the credential last).

mod body;
mod client;
mod dial;
mod error;
mod forward;
mod headers;
mod jwks;
mod redact;
mod upgrade;

pub use body::{BodyFault, ProxyBody, RequestBody};
pub use client::{Client, ClientConfig, FetchLimits, certificates_from_pem};
pub use dial::{Resolved, Resolver, SystemResolver};
pub use error::{NetError, Waited};
pub use forward::{Destination, Head, Hop, HopLimits, forward};
pub use redact::{OnRedacted, Secret};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
