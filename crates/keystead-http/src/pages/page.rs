//! What surrounds every page, and the headers on it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use askama::Template;
use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use http::header::{
    CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, LOCATION,
    REFERRER_POLICY, VARY, X_FRAME_OPTIONS,
};
use keystead_broker::Error;

use super::language::{LANGUAGES, Language};
use super::texts::Texts;
use crate::problem::Fault;

/// Where the style sheet is; the file's name is anything, so that it can change with the text.
pub(super) const STYLE_PATH: &str = "/assets/{name}";

static STYLE_URL: LazyLock<String> = LazyLock::new(|| {
    let mut hasher = DefaultHasher::new();
    super::STYLE.hash(&mut hasher);
    format!("/assets/keystead-{:016x}.css", hasher.finish())
});

/// What surrounds a page.
#[derive(Clone)]
pub(crate) struct Page {
    pub(crate) language: &'static Language,
    /// The page's own path, to be shown again in another language; empty where it is shown once.
    pub(crate) here: String,
    /// Where this session's pages are: `/connect`, or `/embed` in a frame.
    pub(crate) base: &'static str,
    /// Whose page it is, for the header.
    pub(crate) tenant: Option<String>,
    /// The session's token, for forms.
    pub(crate) csrf: String,
    /// Whether it is reached without TLS.
    pub(crate) plain: bool,
    /// Who may frame it: origins, or `'none'`.
    pub(crate) frame_ancestors: String,
}

impl Page {
    pub(crate) fn t(&self) -> &'static Texts {
        self.language.texts
    }

    /// The other languages, with where this page is in each.
    pub(crate) fn others(&self) -> Vec<(&'static Language, String)> {
        let others = LANGUAGES
            .iter()
            .filter(|other| other.code != self.language.code && !self.here.is_empty());
        others
            .map(|other| (other, format!("{}?lang={}", self.here, other.code)))
            .collect()
    }

    pub(crate) fn style(&self) -> &'static str {
        &STYLE_URL
    }

    /// Whether it is shown in a frame, where another page has the header.
    pub(crate) fn framed(&self) -> bool {
        self.frame_ancestors != NOBODY
    }

    /// Renders a template as the answer.
    pub(crate) fn show(&self, status: StatusCode, body: &impl Template) -> Result<Response, Fault> {
        let text = body
            .render()
            .map_err(|fault| Error::internal(format!("a page was not rendered: {fault}")))?;
        let mut answer = Response::new(Body::from(text));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        headers.insert(CONTENT_TYPE, html);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(VARY, HeaderValue::from_static("cookie, accept-language"));
        let language = HeaderValue::from_static(self.language.code);
        headers.insert(CONTENT_LANGUAGE, language);
        let policy = HeaderValue::try_from(self.policy())
            .map_err(|_| Error::internal("a policy that is no header"))?;
        headers.insert(CONTENT_SECURITY_POLICY, policy);
        if self.plain && !self.csrf.is_empty() {
            // Its forms are to say where they come from.
            headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
        }
        if !self.framed() {
            headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        }
        Ok(answer)
    }

    fn policy(&self) -> String {
        format!(
            "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors {}",
            self.frame_ancestors
        )
    }
}

/// Nobody may frame it.
pub(crate) const NOBODY: &str = "'none'";

/// On to another page: what a form did is not done again by a reload.
pub(crate) fn on_to(url: &str) -> Result<Response, Fault> {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::SEE_OTHER;
    let url = HeaderValue::try_from(url).map_err(|_| Error::internal("a URL that is no header"))?;
    answer.headers_mut().insert(LOCATION, url);
    Ok(answer)
}
