//! The OAuth side of the sample provider: a page that asks, codes that are bound by PKCE, tokens that
//! last two minutes, and refresh tokens that are good for one use.
//!
//! What always holds: browsers are sent to Keystead's callback and nowhere else; the page has no
//! script and shows nothing of what it was asked with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderValue, Method, Response, StatusCode, header};
use keystead_core::provider::oauth::pkce;
use serde_json::json;
use url::form_urlencoded;

use super::{Body, reply, text};

/// The app that the sample knows; it has no secret.
pub(crate) const CLIENT_ID: &str = "keystead-dev";
/// Short, so that renewals are there to be watched.
const LIFE_SECONDS: u32 = 120;

const PAGE: &str = "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
    <meta name=\"viewport\" content=\"width=device-width\">\n<title>Sample</title>\n\
    <style>body{font:1.1rem/1.5 system-ui;max-width:30rem;margin:15vh auto;padding:0 1rem}\
    button{font:inherit;padding:.5rem 1.5rem}</style>\n\
    <h1>Allow Keystead to use your Sample account?</h1>\n\
    <p>This stands in for the page of a real provider. It is served by keystead dev, on this machine alone.</p>\n\
    <form method=\"post\"><button name=\"answer\" value=\"allow\">Allow</button> \
    <button name=\"answer\" value=\"deny\">Deny</button></form>\n</html>\n";

type Fields = BTreeMap<String, String>;

#[derive(Default)]
struct Given {
    /// The challenge of each code.
    codes: BTreeMap<String, String>,
    /// The access token of each refresh token.
    refresh: BTreeMap<String, String>,
    access: BTreeSet<String>,
}

/// What was consented to, since the start.
pub(super) struct Consents {
    callback: String,
    given: Mutex<Given>,
}

impl Consents {
    /// Of an app with this redirect URI.
    pub(super) fn new(callback: String) -> Consents {
        Consents {
            callback,
            given: Mutex::default(),
        }
    }

    fn given(&self) -> MutexGuard<'_, Given> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is an access token that is live.
    pub(super) fn knows(&self, token: &str) -> bool {
        self.given().access.contains(token)
    }

    /// Asks the person, or takes their answer.
    pub(super) fn authorize(&self, method: &Method, query: &str, form: &[u8]) -> Response<Body> {
        let asked = fields(query.as_bytes());
        let is = |name: &str, value: &str| asked.get(name).is_some_and(|given| given == value);
        let (Some(state), Some(challenge), true) = (
            asked.get("state"),
            asked.get("code_challenge"),
            is("response_type", "code")
                && is("client_id", CLIENT_ID)
                && is("redirect_uri", &self.callback)
                && is("code_challenge_method", "S256"),
        ) else {
            let wrong = "This is no request of the app that the sample provider knows.\n";
            return text(StatusCode::BAD_REQUEST, "text/plain", wrong);
        };
        if method != Method::POST {
            return text(StatusCode::OK, "text/html; charset=utf-8", PAGE);
        }
        let mut back = form_urlencoded::Serializer::new(String::new());
        if fields(form).get("answer").is_some_and(|it| it == "allow") {
            let Some(code) = fresh("code") else {
                return broken();
            };
            back.append_pair("code", &code);
            self.given().codes.insert(code, challenge.clone());
        } else {
            back.append_pair("error", "access_denied");
        }
        back.append_pair("state", state);
        let mut answer = text(StatusCode::SEE_OTHER, "text/plain", "");
        match HeaderValue::from_str(&format!("{}?{}", self.callback, back.finish())) {
            Ok(to) => answer.headers_mut().insert(header::LOCATION, to),
            Err(_) => return broken(),
        };
        answer
    }

    /// A code, or a refresh token, for tokens.
    pub(super) fn token(&self, form: &[u8]) -> Response<Body> {
        let asked = fields(form);
        let field = |name: &str| asked.get(name).map_or("", String::as_str);
        let mut given = self.given();
        let good = match field("grant_type") {
            _ if field("client_id") != CLIENT_ID => false,
            "authorization_code" => {
                let challenge = given.codes.remove(field("code"));
                challenge.is_some() && challenge == challenge_of(field("code_verifier"))
            }
            "refresh_token" => {
                let old = given.refresh.remove(field("refresh_token"));
                old.is_some_and(|access| given.access.remove(&access))
            }
            _ => false,
        };
        if !good {
            let refused = json!({"error": "invalid_grant"});
            return reply(StatusCode::BAD_REQUEST, &refused);
        }
        let (Some(access), Some(refresh)) = (fresh("access"), fresh("refresh")) else {
            return broken();
        };
        given.access.insert(access.clone());
        given.refresh.insert(refresh.clone(), access.clone());
        let tokens = json!({
            "access_token": access, "refresh_token": refresh, "expires_in": LIFE_SECONDS, "token_type": "Bearer",
        });
        reply(StatusCode::OK, &tokens)
    }

    /// Ends a grant.
    pub(super) fn revoke(&self, form: &[u8]) -> Response<Body> {
        let mut given = self.given();
        if let Some(token) = fields(form).get("token")
            && let Some(access) = given.refresh.remove(token)
        {
            given.access.remove(&access);
        }
        reply(StatusCode::OK, &json!({}))
    }
}

fn fields(text: &[u8]) -> Fields {
    form_urlencoded::parse(text).into_owned().collect()
}

fn challenge_of(verifier: &str) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(verifier).ok()?;
    Some(pkce(bytes.try_into().ok()?).1)
}

fn fresh(kind: &str) -> Option<String> {
    let random = keystead_broker::random::<24>().ok()?;
    Some(format!("sample-{kind}-{}", URL_SAFE_NO_PAD.encode(random)))
}

fn broken() -> Response<Body> {
    text(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "")
}
