//! What a configured issuer may be, what its claims decide, and the development issuer.

mod callers_support;

use std::sync::Arc;
use std::time::Duration;

use callers_support::{
    ISS, NOW, PlainFetch, claims, reason, reason_at, settings, settings_of, verifier,
};
use keystead_broker::callers::{
    DevIssuer, IssuerSettings, KeySource, Reason, VerifiedToken, Verifier,
};
use keystead_core::action::Role;
use keystead_core::time::Time;
use keystead_testkit::issuer::{TestKey, jwks};
use serde_json::{Value, json};
use zeroize::Zeroizing;

const SECRET: &[u8] = b"canary-canary-canary-canary-cana";

fn hs256(secret: &[u8]) -> KeySource {
    KeySource::Hs256Secret(Zeroizing::new(secret.to_vec()))
}

/// What a token of a fresh key with those claims proves under changed settings.
async fn proven(
    change: impl FnOnce(&mut IssuerSettings),
    claims: Value,
) -> Result<VerifiedToken, Reason> {
    let key = TestKey::es256("k");
    let mut settings = settings_of(&key);
    change(&mut settings);
    let verified = verifier([settings]).verify(&key.mint(&claims), NOW).await;
    verified
        .map(|token| VerifiedToken::clone(&token))
        .map_err(|refused| refused.reason)
}

#[tokio::test]
async fn a_token_proves_what_its_issuer_says() {
    let token = proven(|_| {}, claims(json!({}))).await.unwrap();
    assert_eq!(
        token,
        VerifiedToken {
            issuer: "product".into(),
            subject: "canary-user".into(),
            tenant_claim: Some("acme".into()),
            role: Some(Role::Admin),
            service_role: false,
            expires_at: Time::from_seconds(NOW.seconds() + 3600),
        }
    );
}

#[tokio::test]
async fn a_shared_secret_verifies_whatever_kid_is_named() {
    let verifier = verifier([settings(&["HS256"], hs256(SECRET))]);
    let key = TestKey::hs256("any", SECRET);
    assert_eq!(reason(&verifier, &key.mint(&claims(json!({})))).await, None);
    let body = claims(json!({})).to_string();
    let nameless = key.mint_text(r#"{"alg":"HS256","typ":"JWT"}"#, &body);
    assert_eq!(reason(&verifier, &nameless).await, None);
    for secret in [&SECRET[1..], b"", &[SECRET, b"\n"].concat()] {
        let forged = TestKey::hs256("any", secret).mint(&claims(json!({})));
        assert_eq!(reason(&verifier, &forged).await, Some(Reason::BadSignature));
    }
    let longer = key.mint_text(r#"{"alg":"HS512"}"#, &body);
    assert_eq!(reason(&verifier, &longer).await, Some(Reason::Algorithm));
}

#[test]
fn an_issuer_that_could_be_confused_is_not_configured() {
    let set = jwks([&TestKey::es256("k")]);
    let public = || KeySource::Jwks(set.clone());
    type Case<'a> = (&'a str, Box<dyn FnOnce() -> IssuerSettings + 'a>);
    let changed = |change: fn(&mut IssuerSettings)| {
        let set = set.clone();
        move || {
            let mut settings = settings(&["ES256"], KeySource::Jwks(set));
            change(&mut settings);
            settings
        }
    };
    let cases: Vec<Case<'_>> = vec![
        ("", Box::new(|| settings(&["ES256"], public()))),
        ("", Box::new(|| settings(&["HS256"], hs256(SECRET)))),
        (
            "",
            Box::new(changed(|s| s.leeway = Duration::from_secs(60))),
        ),
        (
            "",
            Box::new(changed(|s| {
                s.role_claim = Some("https://a.example/role".into())
            })),
        ),
        (
            "at least 32",
            Box::new(|| settings(&["HS256"], hs256(&SECRET[..31]))),
        ),
        ("at least 32", Box::new(|| settings(&["HS256"], hs256(b"")))),
        (
            "no other",
            Box::new(|| settings(&["HS256", "ES256"], hs256(SECRET))),
        ),
        ("no other", Box::new(|| settings(&["ES256"], hs256(SECRET)))),
        (
            "never goes with public keys",
            Box::new(|| settings(&["ES256", "HS256"], public())),
        ),
        (
            "never goes with public keys",
            Box::new(|| settings(&["HS256"], public())),
        ),
        (
            "never goes with public keys",
            Box::new(|| settings(&["HS256"], KeySource::JwksUrl("https://a.example".into()))),
        ),
        ("no algorithm", Box::new(|| settings(&["none"], public()))),
        ("no algorithm", Box::new(|| settings(&["es256"], public()))),
        (
            "no algorithm",
            Box::new(|| settings(&["HS384"], hs256(SECRET))),
        ),
        ("algorithms needs", Box::new(|| settings(&[], public()))),
        (
            "no key that fits",
            Box::new(|| settings(&["RS256"], public())),
        ),
        (
            "jwks: not JSON",
            Box::new(|| settings(&["ES256"], KeySource::Jwks("{".into()))),
        ),
        (
            "no http(s) URL",
            Box::new(|| settings(&["ES256"], KeySource::JwksUrl("file:///keys".into()))),
        ),
        ("audience", Box::new(changed(|s| s.audience.clear()))),
        (
            "audience",
            Box::new(changed(|s| s.audience.push(String::new()))),
        ),
        ("issuer is empty", Box::new(changed(|s| s.issuer.clear()))),
        ("name", Box::new(changed(|s| s.name = "a|b".into()))),
        ("name", Box::new(changed(|s| s.name.clear()))),
        (
            "leeway",
            Box::new(changed(|s| s.leeway = Duration::from_secs(61))),
        ),
        (
            "max_lifetime",
            Box::new(changed(|s| s.max_lifetime = Duration::ZERO)),
        ),
        (
            "users themselves",
            Box::new(changed(|s| {
                s.tenant_claim = Some("user_metadata.tenant".into())
            })),
        ),
        (
            "users themselves",
            Box::new(changed(|s| s.role_claim = Some("user_metadata".into()))),
        ),
        (
            "users themselves",
            Box::new(changed(|s| {
                s.role_claim = Some("unsafe_metadata.role".into())
            })),
        ),
        (
            "no path",
            Box::new(changed(|s| s.tenant_claim = Some("a..b".into()))),
        ),
        (
            "no path",
            Box::new(changed(|s| s.tenant_claim = Some(String::new()))),
        ),
    ];
    for (fault, make) in cases {
        match Verifier::new(vec![make()], Arc::new(PlainFetch)) {
            Ok(_) => assert_eq!(fault, ""),
            Err(refused) => {
                assert!(!fault.is_empty(), "{refused}");
                assert!(refused.to_string().contains(fault), "{refused}: {fault}");
                assert!(!refused.to_string().contains("canary"), "{refused}");
            }
        }
    }
}

#[test]
fn two_issuers_share_neither_name_nor_iss() {
    let key = TestKey::es256("k");
    let named = |name: &str, issuer: &str| IssuerSettings {
        name: name.into(),
        issuer: issuer.into(),
        ..settings_of(&key)
    };
    for (other, fine) in [
        (named("other", "https://other.example"), true),
        (named("other", ISS), false),
        (named("product", "https://other.example"), false),
    ] {
        let both = vec![settings_of(&key), other];
        assert_eq!(Verifier::new(both, Arc::new(PlainFetch)).is_ok(), fine);
    }
}

#[tokio::test]
async fn what_users_write_themselves_decides_nothing() {
    let token = proven(|_| {}, claims(json!({"app_metadata": {}})))
        .await
        .unwrap();
    assert_eq!((token.tenant_claim, token.role), (None, None));
    let token = proven(
        |settings| settings.default_role = Some(Role::Viewer),
        claims(json!({"app_metadata": {"tenant_id": null, "role": null}})),
    )
    .await
    .unwrap();
    assert_eq!((token.tenant_claim, token.role), (None, Some(Role::Viewer)));
}

#[tokio::test]
async fn a_role_that_is_none_is_not_taken_for_the_default() {
    for role in [
        json!("superadmin"),
        json!("Owner"),
        json!(""),
        json!(["owner"]),
        json!(1),
    ] {
        let refused = proven(
            |settings| settings.default_role = Some(Role::Owner),
            claims(json!({"app_metadata": {"role": role}})),
        )
        .await;
        assert_eq!(refused, Err(Reason::UnknownRole), "{role}");
    }
    for role in Role::ALL {
        let token = proven(|_| {}, claims(json!({"app_metadata": {"role": role}}))).await;
        assert_eq!(token.unwrap().role, Some(*role));
    }
}

#[tokio::test]
async fn a_claim_named_by_a_url_is_one_name() {
    const CLAIM: &str = "https://product.example/tenant";
    let token = proven(
        |settings| settings.tenant_claim = Some(CLAIM.into()),
        claims(json!({CLAIM: "globex"})),
    )
    .await;
    assert_eq!(token.unwrap().tenant_claim.as_deref(), Some("globex"));
}

#[tokio::test]
async fn anon_is_nobody_and_an_anonymous_sign_in_only_where_allowed() {
    let allow = |settings: &mut IssuerSettings| settings.allow_anonymous = true;
    for (changes, by_default, allowed) in [
        (json!({}), None, None),
        (json!({"is_anonymous": null}), None, None),
        (
            json!({"role": "anon"}),
            Some(Reason::Anonymous),
            Some(Reason::Anonymous),
        ),
        (json!({"is_anonymous": true}), Some(Reason::Anonymous), None),
        (
            json!({"is_anonymous": "false"}),
            Some(Reason::Claims),
            Some(Reason::Claims),
        ),
        (
            json!({"role": ["anon"]}),
            Some(Reason::Claims),
            Some(Reason::Claims),
        ),
    ] {
        let claims = claims(changes);
        assert_eq!(
            proven(|_| {}, claims.clone()).await.err(),
            by_default,
            "{claims}"
        );
        assert_eq!(
            proven(allow, claims.clone()).await.err(),
            allowed,
            "{claims}"
        );
    }
}

#[tokio::test]
async fn a_third_party_client_stands_for_the_user_only_where_allowed() {
    for (id, expected) in [
        (json!(null), None),
        (json!("canary-client"), Some(Reason::ThirdPartyClient)),
        (json!(""), Some(Reason::ThirdPartyClient)),
        (json!([]), Some(Reason::ThirdPartyClient)),
    ] {
        let claims = claims(json!({"client_id": id}));
        assert_eq!(proven(|_| {}, claims.clone()).await.err(), expected, "{id}");
        let allow = |settings: &mut IssuerSettings| settings.allow_third_party_clients = true;
        assert_eq!(proven(allow, claims).await.err(), None, "{id}");
    }
}

#[tokio::test]
async fn a_service_role_is_a_service_only_where_allowed() {
    let allow = |settings: &mut IssuerSettings| settings.allow_service_role = true;
    let service = claims(json!({"role": "service_role"}));
    let bare = claims(json!({"role": "service_role", "aud": null, "sub": null}));
    let foreign = claims(json!({"role": "service_role", "aud": "other"}));
    for claims in [&service, &bare, &foreign] {
        let refused = proven(|_| {}, claims.clone()).await;
        assert_eq!(refused, Err(Reason::ServiceRole));
    }
    let token = proven(allow, service).await.unwrap();
    assert!(token.service_role);
    assert_eq!((token.subject.as_str(), token.role), ("canary-user", None));
    let token = proven(allow, bare).await.unwrap();
    assert_eq!(token.subject, "service_role");
    assert_eq!(proven(allow, foreign).await, Err(Reason::Audience));

    // Nobody else may lack them.
    let nameless = claims(json!({"sub": null}));
    assert_eq!(proven(allow, nameless).await, Err(Reason::Claims));
    let unaddressed = claims(json!({"aud": null}));
    assert_eq!(proven(allow, unaddressed).await, Err(Reason::Audience));
}

#[tokio::test]
async fn a_project_key_of_years_needs_its_lifetime_allowed() {
    let now = NOW.seconds();
    let ten_years = 10 * 365 * 86_400;
    let claims = json!({
        "iss": ISS, "ref": "canary", "role": "service_role", "iat": now, "exp": now + ten_years,
    });
    let allow = |settings: &mut IssuerSettings| settings.allow_service_role = true;
    assert_eq!(proven(allow, claims.clone()).await, Err(Reason::Lifetime));
    let allow_for_years = |settings: &mut IssuerSettings| {
        settings.allow_service_role = true;
        settings.max_lifetime = Duration::from_secs(ten_years as u64);
    };
    assert!(proven(allow_for_years, claims).await.unwrap().service_role);
}

#[tokio::test]
async fn the_development_issuer_mints_what_verifies() {
    let issuer = DevIssuer::generate().unwrap();
    let verifier = verifier([issuer.settings()]);
    let hour = Duration::from_secs(3600);
    let mint = |issuer: &DevIssuer| {
        issuer
            .mint("alice", Some("acme"), Some(Role::Owner), hour, NOW)
            .unwrap()
    };
    let token = verifier.verify(&mint(&issuer), NOW).await.unwrap();
    assert_eq!(
        *token,
        VerifiedToken {
            issuer: "keystead-dev".into(),
            subject: "alice".into(),
            tenant_claim: Some("acme".into()),
            role: Some(Role::Owner),
            service_role: false,
            expires_at: Time::from_seconds(NOW.seconds() + 3600),
        }
    );
    let bare = issuer.mint("carol", None, None, hour, NOW).unwrap();
    let bare = verifier.verify(&bare, NOW).await.unwrap();
    assert_eq!((&bare.tenant_claim, bare.role), (&None, None));

    // The same key, taken up again, is the same issuer; another is not.
    let kept = Zeroizing::new(issuer.expose_pkcs8().to_vec());
    let again = DevIssuer::from_pkcs8(kept).unwrap();
    assert_eq!(again.jwks(), issuer.jwks());
    assert_eq!(reason(&verifier, &mint(&again)).await, None);
    let other = DevIssuer::generate().unwrap();
    assert_eq!(
        reason(&verifier, &mint(&other)).await,
        Some(Reason::UnknownKey)
    );
    assert!(DevIssuer::from_pkcs8(Zeroizing::new(b"canary".to_vec())).is_err());

    let end = NOW.plus_seconds(3600 + 30);
    assert_eq!(
        reason_at(&verifier, &mint(&issuer), end).await,
        Some(Reason::Expired)
    );
    let forever = issuer
        .mint("alice", None, None, Duration::from_secs(86_401), NOW)
        .unwrap();
    assert_eq!(reason(&verifier, &forever).await, Some(Reason::Lifetime));
}
