//! `ANY /proxy/{id}/…` and `/proxy/@{type}/…`: reads who and where to, and hands the request over.
//!
//! ```text
//! /proxy/int_019a…/v1/models?limit=3      the integration, the provider's own host
//! /proxy/@openai/v1/models                the tenant's only connected one of that type
//! /proxy/@openai/~files.example/v1/x      another host of that provider
//! ```
//!
//! What always holds: path and query go on as the bytes that came; the body is not touched; the
//! caller's token is taken from exactly one place, wherever that provider's SDK would put a key.
//! What the upstream gets and what comes back is the broker's: headers, hosts, paths, limits.

use std::borrow::Cow;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderName};
use http::{HeaderMap, Request, Version};
use hyper::body::Incoming;
use keystead_broker::{Error, Selector};
use keystead_core::action::{Action, TargetKind};

use crate::call::{Doing, identify};
use crate::face::{Arrival, Shared};
use crate::problem::{Answer, Fault};

/// What the proxy's paths begin with.
pub(crate) const PREFIX: &str = "/proxy/";
/// As metrics and logs name the route.
pub(crate) const ROUTE: &str = "/proxy/{id}/{path}";

/// Forwards a request, or says why not.
pub(crate) async fn forward(
    shared: &Shared,
    request: Request<Incoming>,
    arrival: Arrival,
) -> Response {
    try_forward(shared, request, arrival)
        .await
        .unwrap_or_else(Fault::into_response)
}

async fn try_forward(shared: &Shared, request: Request<Incoming>, arrival: Arrival) -> Answer {
    let broker = &shared.broker;
    let token = presented_token(request.headers(), broker.token_headers());
    let door = Doing(Action::Use, TargetKind::Integration);
    let ctx = identify(shared, token.as_deref(), request.headers(), arrival, door).await?;
    let uri = request.uri().clone();
    let target = match read_target(&uri, request.version()) {
        Ok(target) => target,
        Err(error) => {
            broker
                .refuse(
                    &ctx,
                    Action::Use,
                    TargetKind::Integration,
                    selector_text(&uri),
                    &error,
                )
                .await;
            return Err(error.into());
        }
    };
    let prefix = Some(target.prefix.as_str());
    let answer = broker
        .forward(
            &ctx,
            &target.to,
            target.host,
            &target.path_and_query,
            prefix,
            request,
        )
        .await?;
    Ok(answer.map(Body::new))
}

/// What a proxy path names.
#[derive(Debug, PartialEq, Eq)]
struct Target<'u> {
    to: Selector,
    host: Option<&'u str>,
    /// What stands before the path, for a `Location` that stays with that host.
    prefix: String,
    path_and_query: Cow<'u, str>,
}

/// The segment after the prefix, as it was sent.
fn selector_text(uri: &http::Uri) -> Option<&str> {
    uri.path().strip_prefix(PREFIX)?.split('/').next()
}

fn read_target(uri: &http::Uri, version: Version) -> Result<Target<'_>, Error> {
    if version < Version::HTTP_2 && uri.authority().is_some() {
        return Err(Error::Malformed(
            "send the path alone, not a whole URL, on the request line".into(),
        ));
    }
    let not_found = || Error::NotFound {
        what: "integration",
    };
    let all = uri.path_and_query().map_or("", |all| all.as_str());
    let rest = all.strip_prefix(PREFIX).ok_or_else(not_found)?;
    let (selector, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let to = match selector.strip_prefix('@') {
        Some(type_) if !type_.is_empty() => Selector::Type(type_.to_owned()),
        _ => Selector::Id(selector.parse().map_err(|_| not_found())?),
    };
    let (host, rest) = match rest.strip_prefix("/~") {
        Some(named) => {
            let (host, rest) = named.split_at(named.find(['/', '?']).unwrap_or(named.len()));
            (Some(host), rest)
        }
        None => (None, rest),
    };
    let path_and_query = if rest.starts_with('/') {
        Cow::Borrowed(rest)
    } else {
        Cow::Owned(format!("/{rest}"))
    };
    let prefix = match host {
        Some(host) => format!("{PREFIX}{selector}/~{host}"),
        None => format!("{PREFIX}{selector}"),
    };
    Ok(Target {
        to,
        host,
        prefix,
        path_and_query,
    })
}

/// The one token that is presented in any of the places where SDKs put a key, or as the password
/// of `Authorization: Basic`; `None` where there is none, or more than one.
fn presented_token<'h>(headers: &'h HeaderMap, places: &[HeaderName]) -> Option<Cow<'h, str>> {
    let authorization = std::iter::once(&AUTHORIZATION).filter(|name| !places.contains(name));
    let mut values = places
        .iter()
        .chain(authorization)
        .flat_map(|name| headers.get_all(name).iter().map(move |value| (name, value)));
    let (name, value) = values.next()?;
    if values.next().is_some() {
        return None;
    }
    let text = value.to_str().ok()?;
    let (scheme, value) = match text.split_once(' ') {
        Some(parts) if name == AUTHORIZATION => parts,
        // Linear's SDK gives no scheme.
        _ => return (!text.is_empty()).then_some(Cow::Borrowed(text)),
    };
    let token = match scheme.to_ascii_lowercase().as_str() {
        // Discord's SDKs say the second.
        "bearer" | "bot" => Cow::Borrowed(value),
        // GitHub's and PagerDuty's.
        "token" => Cow::Borrowed(value.strip_prefix("token=").unwrap_or(value)),
        "basic" => {
            let pair = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
            Cow::Owned(pair.split_once(':')?.1.to_owned())
        }
        _ => return None,
    };
    (!token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "int_000000000000000000000000000019a9";

    fn target(uri: &str) -> Result<(String, Option<String>, String), Error> {
        let uri: http::Uri = uri.parse().unwrap();
        let target = read_target(&uri, Version::HTTP_11)?;
        let to = match target.to {
            Selector::Id(id) => id.to_string(),
            Selector::Type(type_) => format!("@{type_}"),
        };
        Ok((
            to,
            target.host.map(str::to_owned),
            target.path_and_query.into_owned(),
        ))
    }

    #[test]
    fn path_and_query_are_passed_on_as_the_bytes_that_came() {
        let read = |uri: &str| target(uri).unwrap();
        assert_eq!(
            read(&format!("/proxy/{ID}/v1/a%2Fb//c?x=%20&y")),
            (ID.into(), None, "/v1/a%2Fb//c?x=%20&y".into())
        );
        assert_eq!(
            read("/proxy/@openai/v1/models"),
            ("@openai".into(), None, "/v1/models".into())
        );
        assert_eq!(read("/proxy/@openai"), ("@openai".into(), None, "/".into()));
        assert_eq!(
            read("/proxy/@openai?a=/b"),
            ("@openai".into(), None, "/?a=/b".into())
        );
        assert_eq!(
            read("/proxy/@x/~files.example/v1?y"),
            ("@x".into(), Some("files.example".into()), "/v1?y".into())
        );
        assert_eq!(
            read("/proxy/@x/~files.example"),
            ("@x".into(), Some("files.example".into()), "/".into())
        );
    }

    #[test]
    fn what_names_no_integration_is_not_found_and_a_whole_url_is_refused() {
        for uri in [
            "/proxy/",
            "/proxy/@/x",
            "/proxy/int_1/x",
            "/proxy/%40openai/x",
            "/proxy//x",
        ] {
            assert!(matches!(target(uri), Err(Error::NotFound { .. })), "{uri}");
        }
        assert!(matches!(
            target("http://other/proxy/@openai/x"),
            Err(Error::Malformed(_))
        ));
    }

    #[test]
    fn the_token_is_taken_from_exactly_one_place() {
        let places = [AUTHORIZATION, HeaderName::from_static("x-api-key")];
        let token = |pairs: &[(&str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
            }
            presented_token(&headers, &places).map(Cow::into_owned)
        };
        let some = Some("kss_x".to_owned());
        assert_eq!(token(&[("authorization", "Bearer kss_x")]), some);
        assert_eq!(token(&[("x-api-key", "kss_x")]), some);
        assert_eq!(token(&[("authorization", "Basic QUMxOmtzc194")]), some);
        assert_eq!(token(&[("x-other", "kss_x")]), None);
        for text in ["kss_x", "Bot kss_x", "token kss_x", "Token token=kss_x"] {
            assert_eq!(token(&[("authorization", text)]), some, "{text}");
        }
        for text in ["", "Bearer ", "Digest kss_x", "Token token=", "FlyV1 kss_x"] {
            assert_eq!(token(&[("authorization", text)]), None, "{text}");
        }
        assert_eq!(
            token(&[("authorization", "Bearer kss_x"), ("x-api-key", "kss_x")]),
            None
        );
        assert_eq!(
            token(&[("x-api-key", "kss_x"), ("x-api-key", "kss_y")]),
            None
        );
    }
}
