//! What the tests of callers share: a fixed time, usual claims, and the reason of a refusal.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use keystead_broker::callers::{
    FetchFailed, IssuerSettings, JwksFetch, KeySource, Reason, Verifier,
};
use keystead_core::time::Time;
use keystead_testkit::issuer::{self, TestIssuer, TestKey};
use serde_json::{Value, json};

pub(crate) const NOW: Time = Time(1_795_184_100_000_000);
pub(crate) const ISS: &str = "https://project.example/auth/v1";

/// Fetches without the broker's guard, which refuses loopback.
pub(crate) struct PlainFetch;

impl JwksFetch for PlainFetch {
    fn fetch<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Vec<u8>, FetchFailed>> {
        issuer::fetch(url)
            .map(|answer| answer.map_err(FetchFailed))
            .boxed()
    }
}

/// The usual claims, with these put in (or, where `null`, taken out).
pub(crate) fn claims(changes: Value) -> Value {
    let now = NOW.seconds();
    let mut claims = json!({
        "iss": ISS, "aud": "authenticated", "sub": "canary-user", "role": "authenticated",
        "iat": now, "exp": now + 3600, "is_anonymous": false,
        "app_metadata": {"tenant_id": "acme", "role": "admin"},
        "user_metadata": {"tenant_id": "globex", "role": "owner"},
    });
    for (name, value) in changes.as_object().expect("an object") {
        if value.is_null() {
            claims.as_object_mut().expect("an object").remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

/// Settings of an issuer with these keys.
pub(crate) fn settings(algorithms: &[&str], keys: KeySource) -> IssuerSettings {
    IssuerSettings {
        tenant_claim: Some("app_metadata.tenant_id".into()),
        role_claim: Some("app_metadata.role".into()),
        ..IssuerSettings::new("product", ISS, &["authenticated"], algorithms, keys)
    }
}

/// Settings of an issuer with that one public key.
pub(crate) fn settings_of(key: &TestKey) -> IssuerSettings {
    settings(&[key.algorithm()], KeySource::Jwks(issuer::jwks([key])))
}

/// A verifier of these issuers.
pub(crate) fn verifier(settings: impl IntoIterator<Item = IssuerSettings>) -> Verifier {
    Verifier::new(settings.into_iter().collect(), Arc::new(PlainFetch)).expect("settings")
}

/// A verifier of an issuer that publishes ES256 keys on an endpoint.
pub(crate) fn verifier_of(endpoint: &TestIssuer) -> Verifier {
    let url = KeySource::JwksUrl(endpoint.jwks_url.clone());
    verifier([settings(&["ES256"], url)])
}

/// Why the token is refused at that time; `None` if it is not. All refusals look alike.
pub(crate) async fn reason_at(verifier: &Verifier, token: &str, now: Time) -> Option<Reason> {
    let refused = verifier.verify(token, now).await.err()?;
    assert_eq!(refused.to_string(), "the token is not valid here");
    Some(refused.reason)
}

/// Why the token is refused.
pub(crate) async fn reason(verifier: &Verifier, token: &str) -> Option<Reason> {
    reason_at(verifier, token, NOW).await
}
