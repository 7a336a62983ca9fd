//! Connecting accounts by OAuth: for clients over the API, and for the browser that comes back.
//!
//! What always holds: the browser that brings a state holds the cookie that was set when the flow
//! began; its pages hold nothing of the provider's own words.

use axum::response::Response;
use http::HeaderMap;
use http::header::SET_COOKIE;
use keystead_broker::{Back, Begin, Context, Error, Incomplete, Way};
use keystead_core::action::{Action, TargetKind};
use keystead_core::ids::AuthorizationId;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{created, ok};
use crate::call::{Call, Doing};
use crate::cookie::{Cookie, Reach};
use crate::face::Shared;
use crate::openapi::{Connecting, Exchanging};
use crate::pages::{Visit, connected, not_connected};
use crate::problem::Answer;
use crate::wire;

const DOING: Doing = Doing(Action::Put, TargetKind::Integration);
/// The binding cookie outlives the state.
const COOKIE_SECONDS: u32 = 900;
/// No provider's answer is longer.
const PARAMETER_MOST: usize = 8192;

/// The cookie that binds a flow to the browser in which it began.
pub(crate) fn binding_cookie(shared: &Shared) -> Cookie {
    Cookie {
        name: "keystead-oauth",
        secure: shared.broker.is_https(),
        reach: Reach::Return,
    }
}

/// The browser's own secret, known or new.
pub(crate) fn binding(shared: &Shared, headers: &HeaderMap) -> Result<Zeroizing<String>, Error> {
    binding_cookie(shared).known_or_new(headers)
}

/// Has the browser keep its secret.
pub(crate) fn bind(shared: &Shared, mut answer: Response, secret: &str) -> Response {
    if let Some(cookie) = binding_cookie(shared).set(secret, COOKIE_SECONDS) {
        answer.headers_mut().append(SET_COOKIE, cookie);
    }
    answer
}

/// Begins to connect an account: gives the address at the provider, for a client that opens the
/// browser itself.
#[utoipa::path(get, path = "/api/oauth/{type}/url", tag = "oauth",
    params(
        ("type" = String, Path, description = "The provider's id"),
        ("integration" = Option<String>, Query, description = "The integration to authorise anew; else a new one is made"),
        ("name" = Option<String>, Query, description = "What to call a new one; the provider's name if not given"),
        ("config" = Option<String>, Query, description = "The settings of a new one, as a JSON object"),
        ("redirect_uri" = Option<String>, Query, description = "One of `[connect] redirect_uris`, for a client that hands the answer in itself; else the browser comes back to Keystead")),
    responses((status = 200, description = "Where to send the browser", body = wire::Started,
        headers(("Set-Cookie" = String, description = "Binds the flow to this browser, where it comes back to Keystead"))), Connecting))]
pub(crate) async fn begin_authorization(mut call: Call) -> Answer {
    let type_ = call.path_text("type").await;
    let known = &["integration", "name", "config", "redirect_uri"];
    let (begin, uri) = call
        .query(DOING, known, |query| {
            let config = query.map("config", "a JSON object", |text| {
                serde_json::from_str::<Map<String, Value>>(text).ok()
            })?;
            let begin = Begin {
                type_,
                integration: query.read("integration", "an integration's id (int_…)")?,
                name: query.text("name"),
                config: config.unwrap_or_default(),
                session: None,
            };
            Ok((begin, query.text("redirect_uri")))
        })
        .await?;
    let shared = call.shared.clone();
    let (way, secret) = match uri {
        Some(uri) if shared.broker.oauth_callback(&begin.type_).as_ref() != Some(&uri) => {
            (Way::Caller(uri), None)
        }
        _ => {
            let secret = call.check(DOING, binding(&shared, call.headers())).await?;
            (Way::Browser(secret.clone()), Some(secret))
        }
    };
    let started = shared.broker.begin_authorization(&call.ctx, begin, way);
    let answer = ok(wire::Started::from(started.await?));
    Ok(match secret {
        Some(secret) => bind(&shared, answer, &secret),
        None => answer,
    })
}

/// Ends it: takes what the provider sent to the client's own redirect URI.
#[utoipa::path(post, path = "/api/oauth/callback", tag = "oauth",
    request_body = wire::Back,
    responses(
        (status = 200, description = "The integration, authorised anew", body = wire::Integration),
        (status = 201, description = "The new integration", body = wire::Integration,
            headers(("Location" = String, description = "Where it is"))), Exchanging))]
pub(crate) async fn complete_authorization(mut call: Call) -> Answer {
    call.no_query(DOING).await?;
    let back: wire::Back = call.body(DOING).await?;
    let completed = call
        .shared
        .broker
        .complete_authorization(&call.ctx, back.into())
        .await
        .map_err(|Incomplete { error, .. }| error)?;
    let location = format!("/api/integrations/{}", completed.integration.id);
    let integration = wire::Integration::from(completed.integration);
    Ok(if completed.created {
        created(location, integration)
    } else {
        ok(integration)
    })
}

/// Begins to connect an account by a code that its owner types on another device (RFC 8628).
#[utoipa::path(post, path = "/api/oauth/{type}/device", tag = "oauth",
    params(("type" = String, Path, description = "The provider's id")),
    request_body = wire::NewDevice,
    responses((status = 200, description = "What to type, and where", body = wire::Device), Exchanging))]
pub(crate) async fn begin_device_authorization(mut call: Call) -> Answer {
    let type_ = call.path_text("type").await;
    call.no_query(DOING).await?;
    let new: wire::NewDevice = call.body(DOING).await?;
    let begin = Begin {
        type_,
        integration: new.integration,
        name: new.name,
        config: new.config,
        session: None,
    };
    let device = call
        .shared
        .broker
        .begin_device_authorization(&call.ctx, begin)
        .await?;
    Ok(ok(wire::Device::from(device)))
}

/// Asks whether it was typed: to be repeated after `interval` seconds while it is `pending`.
#[utoipa::path(post, path = "/api/oauth/device/{id}", tag = "oauth",
    params(("id" = String, Path, description = "The id that the flow was given")),
    responses((status = 200, description = "What became of it", body = wire::DevicePoll), Exchanging))]
pub(crate) async fn poll_device_authorization(mut call: Call) -> Answer {
    call.no_query(DOING).await?;
    let id: AuthorizationId = call.id(DOING, "device authorisation").await?;
    let poll = call
        .shared
        .broker
        .poll_device_authorization(&call.ctx, id)
        .await?;
    Ok(ok(wire::DevicePoll::from(poll)))
}

/// Where providers send browsers back to: a page that says what came of it.
#[utoipa::path(get, path = "/oauth/callback", tag = "pages", security(()),
    params(
        ("state" = Option<String>, Query, description = "The one-time state"),
        ("code" = Option<String>, Query, description = "The provider's code"),
        ("iss" = Option<String>, Query, description = "The provider, by its own name (RFC 9207)"),
        ("error" = Option<String>, Query, description = "Why there is no code")),
    responses(
        (status = 200, description = "Connected", body = String, content_type = "text/html"),
        (status = 303, description = "To the connect page, where it began there"),
        (status = "4XX", description = "Not connected, and what to do", body = String, content_type = "text/html"),
        (status = "5XX", description = "Not connected, and what to do", body = String, content_type = "text/html")))]
pub(crate) async fn receive_authorization(visit: Visit) -> Response {
    visit.serve(received).await
}

/// The same for a provider that has a callback of its own.
#[utoipa::path(get, path = "/oauth/callback/{type}", tag = "pages", security(()),
    params(
        ("type" = String, Path, description = "The provider's id"),
        ("state" = Option<String>, Query, description = "The one-time state"),
        ("code" = Option<String>, Query, description = "The provider's code"),
        ("iss" = Option<String>, Query, description = "The provider, by its own name (RFC 9207)"),
        ("error" = Option<String>, Query, description = "Why there is no code")),
    responses(
        (status = 200, description = "Connected", body = String, content_type = "text/html"),
        (status = 303, description = "To the connect page, where it began there"),
        (status = "4XX", description = "Not connected, and what to do", body = String, content_type = "text/html"),
        (status = "5XX", description = "Not connected, and what to do", body = String, content_type = "text/html")))]
pub(crate) async fn receive_own_authorization(visit: Visit) -> Response {
    visit.serve(received).await
}

async fn received(mut visit: Visit) -> Answer {
    let (broker, arrival) = (visit.shared.broker.clone(), visit.arrival);
    let ctx = Context::anonymous(arrival.request, Some(arrival.address));
    let browser = binding_cookie(&visit.shared).read(visit.headers());
    let back = match read_back(visit.raw_query(), browser.unwrap_or_default()) {
        Ok(back) => back,
        Err(error) => {
            let refused = broker.refuse_nobody(&ctx, TargetKind::Integration, error);
            return not_connected(&mut visit, refused.await.into());
        }
    };
    let own = visit.page.here.strip_prefix("/oauth/callback/");
    let back = Back {
        own: own.map(str::to_owned),
        query: Some(Zeroizing::new(visit.raw_query().to_owned())),
        ..back
    };
    match broker.complete_authorization(&ctx, back).await {
        Ok(completed) => connected(&mut visit, &completed),
        Err(incomplete) => not_connected(&mut visit, incomplete),
    }
}

/// What the provider put into the query. Whatever else it put there means nothing here.
fn read_back(query: &str, browser: Zeroizing<String>) -> Result<Back, Error> {
    let one = |name: &str| -> Result<Option<Zeroizing<String>>, Error> {
        let mut values = url::form_urlencoded::parse(query.as_bytes())
            .filter(|(known, _)| known == name)
            .map(|(_, value)| Zeroizing::new(value.into_owned()));
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(Error::Malformed("a parameter is there twice".into())),
            (Some(value), None) if value.len() > PARAMETER_MOST => {
                Err(Error::Malformed("a parameter is too long".into()))
            }
            (value, None) => Ok(value),
        }
    };
    let text = |value: Option<Zeroizing<String>>| value.map(|value| value.to_string());
    let state = text(one("state")?).filter(|state| !state.is_empty());
    Ok(Back {
        state: state.ok_or_else(|| Error::Malformed("there is no state in it".into()))?,
        code: one("code")?,
        iss: text(one("iss")?),
        error: text(one("error")?),
        browser: Some(browser),
        own: None,
        query: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_provider_sends_twice_is_not_taken() {
        let read = |query: &str| read_back(query, Zeroizing::default());
        assert!(read("state=a&code=b&scope=c&scope=d").is_ok());
        for bad in [
            "code=b",
            "state=&code=b",
            "state=a&state=b",
            "state=a&code=b&code=c",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(read(&format!("state=a&code={}", "b".repeat(9000))).is_err());
    }
}
