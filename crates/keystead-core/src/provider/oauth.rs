//! OAuth: a person's consent becomes tokens, and tokens become newer ones.
//!
//! ```text
//! authorize_url ─► consent ─► code_request ─► read_tokens ─┐
//! device_request ─► read_device ─► device_poll_request ────┴► tokens ─► refresh_request ─► …
//! ```
//!
//! What always holds: a client proves itself in the header or in the body, never in both; what
//! comes from a person or a provider never leaves the place that it stands in; what the provider
//! grants is read strictly, and a refusal holds a code of it, never a value.
//!
//! Not here: calling anybody, states and their binding, and when a token is renewed.

mod ask;
mod callback;
mod check;
mod import;
mod json;
mod model;
mod read;

pub(super) use ask::basic;
pub use ask::{
    App, Ask, IssFault, OAuthError, authorize_url, check_iss, code_request, device_poll_request,
    device_request, pkce, refresh_request,
};
pub use callback::{Answer, CallbackFault, check_callback};
pub use import::take_tokens;
pub(super) use json::Json;
pub(super) use model::imply;
pub use model::{
    API_HOST, ClientAuth, Means, MeansRule, OAuth, Refresh, RefreshClass, Reply, RequestBody,
};
pub use read::{
    DeviceCode, ISSUED_TO, Refusal, Tokens, error_code, read_device, read_tokens, retry_after,
};
