//! Pages for people: rendered here from typed templates, without script.
//!
//! ```text
//! visit     a browser's request: language, cookies, where it came from, its form
//! page      what surrounds every page, and the headers on it
//! oops      a fault as a page, in the reader's words
//! texts/    what is said, one file a language
//! connect/  the connect page
//! consent   what a person sees who comes back from a provider
//! ```
//!
//! What always holds: no page holds script, style of its own, a secret, or anything of another
//! origin; every text is escaped by its template; a form is taken only from a page of ours, with
//! its session's token. Not here: decisions; each action is an ordinary operation of the broker.

mod connect;
mod consent;
mod form;
mod language;
mod oops;
mod page;
mod texts;
mod visit;

use axum::Router;
use axum::response::Response;
use axum::routing::get;
use http::header::{CACHE_CONTROL, HeaderValue};

pub(crate) use connect::link_url;
pub(crate) use consent::{connected, not_connected};
pub(crate) use oops::Told;
pub(crate) use visit::Visit;

use crate::face::{Shared, plain};

const STYLE: &str = include_str!("../assets/keystead.css");

/// The routes of all pages.
pub(crate) fn router() -> Router<Shared> {
    connect::router().route(page::STYLE_PATH, get(style))
}

/// The style sheet; its address changes with its text.
async fn style() -> Response {
    let mut answer = plain("text/css; charset=utf-8", STYLE);
    let forever = HeaderValue::from_static("public, max-age=31536000, immutable");
    answer.headers_mut().insert(CACHE_CONTROL, forever);
    answer
}
