//! Connecting an account at a provider: from the consent of whoever owns it to tokens, sealed.
//!
//! ```text
//! begin     decided, on record; a one-time state, bound to who may bring it back → URL
//! complete  state taken → code exchanged, in a task of its own → integration and tokens, one write
//! device    the same without a browser that comes back: the server asks the provider when it is asked
//! ```
//!
//! What always holds: a state is taken once, before its code is exchanged, and by nobody but whoever
//! began; what is refused leaves everything as it was, and an entry that says why. A provider's own
//! words are shown to nobody: of an error there is its code, and a sentence of ours.

mod app;
mod begin;
mod complete;
mod device;
mod model;
mod stored;

pub(crate) use device::DevicePace;
pub use model::{
    Back, Begin, Completed, ConnectPage, Device, DevicePoll, Incomplete, OAuthApp, OAuthSettings,
    Started, Way,
};
pub(crate) use stored::with_host;
