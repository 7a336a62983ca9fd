//! A browser's request for a page: its language, its cookies, where it came from, its form.
//!
//! What always holds: a session's secret is read from one cookie of one name, which depends on
//! whether the page is framed; a form is read only when the browser says that a page of ours sent
//! it, and only when it carries the session's token.

use std::sync::{Mutex, PoisonError};

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::response::Response;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue, ORIGIN, SET_COOKIE};
use http::request::Parts;
use keystead_broker::{ConnectSession, Error};
use keystead_core::action::{Action, TargetKind};

use super::form::Form;
use super::language::Language;
use super::oops::oops;
use super::page::{NOBODY, Page};
use crate::call::read_bytes;
use crate::cookie::{Cookie, Reach};
use crate::face::{Arrival, Shared};
use crate::problem::Fault;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const LANGUAGE: &str = "keystead-language";
/// A larger upload is read on, and thrown away, up to this, so that the browser sees the answer.
const DRAIN: usize = 16 * 1024 * 1024;
/// A chosen language is kept for a year.
const LANGUAGE_KEPT: u32 = 365 * 24 * 3600;

/// Where a session's pages are.
pub(crate) const TOP: &str = "/connect";
/// The same in a frame of the product.
pub(crate) const FRAMED: &str = "/embed";

/// A browser's request.
pub(crate) struct Visit {
    pub(crate) shared: Shared,
    pub(crate) arrival: Arrival,
    pub(crate) page: Page,
    parts: Parts,
    /// Locked for nobody: a body is not `Sync`, and a visit is borrowed over awaits.
    body: Mutex<Body>,
    /// The language that was just chosen.
    chosen: Option<&'static Language>,
}

impl FromRequest<Shared> for Visit {
    type Rejection = Fault;

    async fn from_request(request: Request, shared: &Shared) -> Result<Visit, Fault> {
        let (parts, body) = request.into_parts();
        let arrival = *parts
            .extensions
            .get::<Arrival>()
            .ok_or_else(|| Error::internal("a request without an id"))?;
        let path = parts.uri.path().to_owned();
        let base = if path.starts_with(FRAMED) {
            FRAMED
        } else {
            TOP
        };
        let settings = shared.broker.connect_settings();
        let frame_ancestors = match base {
            FRAMED if !settings.frame_ancestors().is_empty() => {
                settings.frame_ancestors().join(" ")
            }
            _ => NOBODY.to_owned(),
        };
        let mut visit = Visit {
            shared: shared.clone(),
            arrival,
            page: Page {
                language: Language::accepted(&parts.headers),
                here: path,
                base,
                tenant: None,
                csrf: String::new(),
                plain: !settings.is_https(),
                frame_ancestors,
            },
            chosen: None,
            parts,
            body: Mutex::new(body),
        };
        visit.chosen = visit.query("lang").and_then(|code| Language::find(&code));
        let kept = own_cookie(shared, base, LANGUAGE).read(&visit.parts.headers);
        let kept = kept.and_then(|code| Language::find(&code));
        if let Some(language) = visit.chosen.or(kept) {
            visit.page.language = language;
        }
        Ok(visit)
    }
}

impl Visit {
    /// Serves it; a fault becomes a page.
    pub(crate) async fn serve<F>(self, handler: impl FnOnce(Visit) -> F) -> Response
    where
        F: Future<Output = Result<Response, Fault>>,
    {
        let (page, request, chosen) = (self.page.clone(), self.arrival.request, self.chosen);
        let shared = self.shared.clone();
        let mut answer = match handler(self).await {
            Ok(answer) => answer,
            Err(fault) => oops(&page, fault, request),
        };
        if let Some(language) = chosen {
            let cookie = own_cookie(&shared, page.base, LANGUAGE);
            keep(&mut answer, cookie, language.code, LANGUAGE_KEPT);
        }
        answer
    }

    /// The query, as it was sent.
    pub(crate) fn raw_query(&self) -> &str {
        self.parts.uri.query().unwrap_or_default()
    }

    /// A parameter of the query; the first of that name.
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        url::form_urlencoded::parse(self.raw_query().as_bytes())
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.into_owned())
    }

    /// The head of the request.
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// What stands behind this in the path, up to the next slash.
    pub(crate) fn after(&self, place: &str) -> String {
        let path = self.parts.uri.path();
        let rest = path.strip_prefix(self.page.base);
        let rest = rest.and_then(|rest| rest.strip_prefix(place));
        let segment = rest.unwrap_or_default().split('/').next();
        segment.unwrap_or_default().to_owned()
    }

    /// The session of this browser; the page is that session's from here on.
    pub(crate) async fn session(&mut self) -> Result<ConnectSession, Fault> {
        let cookie = session_cookie(&self.shared, self.page.base);
        let secret = cookie.read(&self.parts.headers).unwrap_or_default();
        let (broker, arrival) = (&self.shared.broker, self.arrival);
        let session = broker
            .open_connect_session(arrival.request, Some(arrival.address), &secret)
            .await?;
        // A session in the wrong place would be framed, or not, against its making.
        if session.embed != (self.page.base == FRAMED) {
            return Err(Error::NotFound {
                what: "connect session",
            }
            .into());
        }
        self.page.csrf.clone_from(&session.csrf);
        self.page.tenant = Some(session.tenant_name.clone());
        Ok(session)
    }

    /// The session, and the form that one of its pages sent.
    pub(crate) async fn session_form(&mut self) -> Result<(ConnectSession, Form), Fault> {
        let session = self.session().await?;
        let read = self.form(&session.csrf).await;
        if let Err(fault) = &read {
            let error = match fault {
                Fault::Broker(error) => error,
                _ => &Error::Malformed("forged".into()),
            };
            let (broker, ctx) = (&self.shared.broker, &session.ctx);
            broker
                .refuse(ctx, Action::Put, TargetKind::Request, None, error)
                .await;
        }
        Ok((session, read?))
    }

    /// The form that a page with this token sent.
    pub(super) async fn form(&mut self, csrf: &str) -> Result<Form, Fault> {
        self.check_origin()?;
        let body = std::mem::take(&mut self.body);
        let body = body.into_inner().unwrap_or_else(PoisonError::into_inner);
        let bytes = read_bytes(&self.parts.headers, body, DRAIN).await?;
        let form = Form::read(&self.parts.headers, &bytes)?;
        if form.text("csrf") != csrf {
            return Err(Fault::Forged);
        }
        Ok(form)
    }

    /// Refuses what another site's page sent. The browser says which it was: by `Sec-Fetch-Site`,
    /// since `no-referrer` blanks the `Origin` of forms (as a sandbox of another site's would).
    /// Over plain HTTP browsers say that to this machine alone: pages there do not blank it, and
    /// `null` is another's. Old browsers say neither; without TLS the page's token has to do.
    fn check_origin(&self) -> Result<(), Fault> {
        let settings = self.shared.broker.connect_settings();
        let header = |name| {
            let value: Option<&HeaderValue> = self.parts.headers.get(name);
            value.map(|value| value.to_str().unwrap_or("?").to_owned())
        };
        let own = |origin: &str| settings.origin().as_deref() == Some(origin);
        let from_here = match (header(SEC_FETCH_SITE), header(ORIGIN).as_deref()) {
            (Some(site), None | Some("null")) => site == "same-origin",
            (Some(site), Some(origin)) => site == "same-origin" && own(origin),
            (None, Some(origin)) => own(origin),
            (None, None) => !settings.is_https(),
        };
        if from_here {
            Ok(())
        } else {
            Err(Fault::Forged)
        }
    }
}

/// The cookie of a session's secret. A framed session has its own, so that it and one in a tab of
/// the same browser do not take each other's place.
pub(crate) fn session_cookie(shared: &Shared, base: &str) -> Cookie {
    let name = if base == FRAMED {
        "keystead-connect-frame"
    } else {
        "keystead-connect"
    };
    own_cookie(shared, base, name)
}

/// The cookie of the browser that was shown a link's page. Unlike a session's it comes along when
/// another site sends the browser here, so that two such pages share it.
pub(super) fn start_cookie(shared: &Shared, base: &str) -> Cookie {
    let (name, reach) = if base == FRAMED {
        ("keystead-start-frame", Reach::Frame)
    } else {
        ("keystead-start", Reach::Return)
    };
    Cookie {
        reach,
        ..own_cookie(shared, base, name)
    }
}

fn own_cookie(shared: &Shared, base: &str, name: &'static str) -> Cookie {
    Cookie {
        name,
        secure: shared.broker.is_https(),
        reach: if base == FRAMED {
            Reach::Frame
        } else {
            Reach::Own
        },
    }
}

/// Has the browser keep it for so many seconds; none takes it away.
pub(crate) fn keep(answer: &mut Response, cookie: Cookie, value: &str, seconds: u32) {
    if let Some(cookie) = cookie.set(value, seconds) {
        answer.headers_mut().append(SET_COOKIE, cookie);
    }
}
