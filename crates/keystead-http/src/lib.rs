//! The faces of Keystead: the REST API, pages, the proxy, health and metrics, over HTTP/1.1 and HTTP/2.
//!
//! ```text
//! serve     connections, time limits, graceful end
//! face      one request in, one answer out: request id, panics, metrics, logs
//! call      an API request: caller, path, query, body, all read strictly
//! routes/   handlers; each calls one use case of the broker
//! pages     the connect page, rendered here, without script
//! proxy     `/proxy/…`: raw path, streamed both ways, past the API's layers
//! problem   the one table from faults to status, code and text
//! ```
//!
//! What always holds: nothing here decides, opens or records; every operation does so itself, in
//! the broker. Wire types are not domain types. Not here: TLS, which a terminator in front does.

mod address;
mod call;
mod cookie;
mod face;
mod metrics;
mod openapi;
mod pages;
mod problem;
mod proxy;
mod pulse;
mod routes;
mod serve;
mod wire;

pub use face::{Face, Settings};
pub use openapi::openapi;
pub use serve::{Limits, serve};
