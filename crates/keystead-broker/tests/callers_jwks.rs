//! Keys of issuers (threat 10): which are taken, when they are fetched, and what holds while they
//! cannot be. Races are forced by an endpoint that does not answer until it is told to.

mod callers_support;

use std::pin::pin;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use callers_support::{NOW, claims, reason, reason_at, settings, verifier, verifier_of};
use futures_util::future::join_all;
use keystead_broker::callers::{KeySource, Reason, Verifier};
use keystead_core::time::Time;
use keystead_testkit::issuer::{Answer, TestIssuer, TestKey, jwks};
use serde_json::{Value, json};

const LIST: [&str; 4] = ["ES256", "RS256", "EdDSA", "PS256"];

/// A token that no cache holds yet, good from now for two hours.
fn fresh(key: &TestKey, mark: i64) -> String {
    key.mint(&claims(
        json!({"exp": NOW.seconds() + 7200, "jti": mark.to_string()}),
    ))
}

fn later(seconds: i64) -> Time {
    NOW.plus_seconds(seconds)
}

/// A verifier whose JWKS holds the junk first and then the good key.
fn beside(junk: Value, good: &TestKey) -> Verifier {
    let set = json!({"keys": [junk, good.jwk()]}).to_string();
    verifier([settings(&LIST, KeySource::Jwks(set))])
}

#[tokio::test]
async fn junk_keys_are_skipped_beside_good_ones() {
    let good = TestKey::es256("good");
    let keys = [
        TestKey::es256("bad"),
        TestKey::rs256("bad"),
        TestKey::eddsa("bad"),
    ];
    for key in &keys {
        let changed = |changes: Value| {
            let mut jwk = key.jwk();
            for (name, value) in changes.as_object().unwrap() {
                jwk[name] = value.clone();
            }
            jwk
        };
        for (junk, expected) in [
            // Twins: the same key, taken.
            (key.jwk(), None),
            (changed(json!({"key_ops": ["verify"]})), None),
            (changed(json!({"x5t": "AA", "ext": true})), None),
            (changed(json!({"use": "enc"})), Some(Reason::UnknownKey)),
            (changed(json!({"use": null})), Some(Reason::UnknownKey)),
            (changed(json!({"use": ["sig"]})), Some(Reason::UnknownKey)),
            (
                changed(json!({"key_ops": ["encrypt"]})),
                Some(Reason::UnknownKey),
            ),
            (
                changed(json!({"key_ops": "verify"})),
                Some(Reason::UnknownKey),
            ),
            (changed(json!({"alg": "HS256"})), Some(Reason::UnknownKey)),
            (changed(json!({"alg": "none"})), Some(Reason::UnknownKey)),
            (changed(json!({"alg": "PS256"})), Some(Reason::UnknownKey)),
            (changed(json!({"alg": null})), Some(Reason::UnknownKey)),
            (changed(json!({"kty": "oct"})), Some(Reason::UnknownKey)),
            (changed(json!({"kty": null})), Some(Reason::UnknownKey)),
            (changed(json!({"d": "AA"})), Some(Reason::UnknownKey)),
            (changed(json!({"kid": ["bad"]})), Some(Reason::UnknownKey)),
            (changed(json!({"x": 1, "n": 1})), Some(Reason::UnknownKey)),
            (
                changed(json!({"x": "AA", "n": "AA"})),
                Some(Reason::UnknownKey),
            ),
            (Value::Null, Some(Reason::UnknownKey)),
            (json!([]), Some(Reason::UnknownKey)),
            (json!("bad"), Some(Reason::UnknownKey)),
        ] {
            let verifier = beside(junk.clone(), &good);
            assert_eq!(
                reason(&verifier, &fresh(key, 0)).await,
                expected,
                "{} {junk}",
                key.algorithm()
            );
            assert_eq!(reason(&verifier, &fresh(&good, 0)).await, None, "{junk}");
        }
    }
}

#[tokio::test]
async fn a_symmetric_key_in_a_jwks_is_none() {
    let (good, secret) = (
        TestKey::es256("good"),
        TestKey::hs256("bad", b"canary-canary-canary-canary-canary"),
    );
    let verifier = beside(secret.jwk(), &good);
    assert_eq!(reason(&verifier, &fresh(&good, 0)).await, None);
    assert_eq!(
        reason(&verifier, &fresh(&secret, 0)).await,
        Some(Reason::Algorithm)
    );
}

#[tokio::test]
async fn weak_rsa_keys_are_none() {
    let (good, rsa) = (TestKey::es256("good"), TestKey::rs256("bad"));
    let real = URL_SAFE_NO_PAD
        .decode(rsa.jwk()["n"].as_str().unwrap())
        .unwrap();
    let with = |n: &[u8], e: &[u8]| {
        let encode = |bytes| URL_SAFE_NO_PAD.encode(bytes);
        json!({"kty": "RSA", "kid": "bad", "n": encode(n), "e": encode(e)})
    };
    let odd = |bytes: usize| [&[0x80][..], &vec![0; bytes - 2], &[1]].concat();
    const F4: &[u8] = &[1, 0, 1];
    for (name, jwk, expected) in [
        ("as it is", with(&real, F4), None),
        ("padded", with(&[&[0], &real[..]].concat(), F4), None),
        // Taken, though the signature is not this key's.
        (
            "8192 bits",
            with(&odd(1024), F4),
            Some(Reason::BadSignature),
        ),
        ("8200 bits", with(&odd(1025), F4), Some(Reason::UnknownKey)),
        ("2040 bits", with(&odd(255), F4), Some(Reason::UnknownKey)),
        ("1024 bits", with(&odd(128), F4), Some(Reason::UnknownKey)),
        (
            "1024 bits, padded",
            with(&[vec![0; 128], odd(128)].concat(), F4),
            Some(Reason::UnknownKey),
        ),
        ("no modulus", with(&[], F4), Some(Reason::UnknownKey)),
        (
            "an even modulus",
            with(&[&real[..255], &[2]].concat(), F4),
            Some(Reason::UnknownKey),
        ),
        ("e = 1", with(&real, &[1]), Some(Reason::UnknownKey)),
        ("e = 3", with(&real, &[3]), Some(Reason::UnknownKey)),
        ("e = 0", with(&real, &[0, 0, 0]), Some(Reason::UnknownKey)),
        ("e even", with(&real, &[1, 0, 2]), Some(Reason::UnknownKey)),
        ("e missing", with(&real, &[]), Some(Reason::UnknownKey)),
        ("e huge", with(&real, &real), Some(Reason::UnknownKey)),
    ] {
        let verifier = beside(jwk, &good);
        assert_eq!(reason(&verifier, &fresh(&rsa, 0)).await, expected, "{name}");
        assert_eq!(reason(&verifier, &fresh(&good, 0)).await, None, "{name}");
    }

    // With e = 1 the padded digest is its own signature: anyone can write it.
    let verifier = beside(with(&real, &[1]), &good);
    let token = fresh(&rsa, 0);
    let signed = token.rsplit_once('.').unwrap().0;
    let forged = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(padded_digest(signed)));
    assert_eq!(reason(&verifier, &forged).await, Some(Reason::UnknownKey));
}

/// EMSA-PKCS1-v1_5 with SHA-256 for 2048 bits (RFC 8017 §9.2).
fn padded_digest(message: &str) -> Vec<u8> {
    let info = [
        0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01,
        0x05, 0x00, 0x04, 0x20,
    ];
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, message.as_bytes());
    [
        &[0, 1][..],
        &[0xff; 256 - 3 - 19 - 32],
        &[0],
        &info,
        digest.as_ref(),
    ]
    .concat()
}

#[tokio::test]
async fn a_set_that_is_no_jwks_is_not_taken() {
    let key = TestKey::es256("k");
    let many = |count: usize| {
        let mut keys = vec![json!({"kty": "oct"}); count - 1];
        keys.push(key.jwk());
        json!({ "keys": keys }).to_string()
    };
    let sized = |size: usize| {
        let set = jwks([&key]);
        format!("{set}{}", " ".repeat(size - set.len()))
    };
    let gone = Some(Reason::KeysUnavailable);
    for (name, answer, expected) in [
        ("as it is", Answer::Body(jwks([&key])), None),
        ("100 keys", Answer::Body(many(100)), None),
        ("101 keys", Answer::Body(many(101)), gone),
        ("256 KiB", Answer::Body(sized(256 * 1024)), None),
        ("more", Answer::Body(sized(256 * 1024 + 1)), gone),
        (
            "an array",
            Answer::Body(json!([key.jwk()]).to_string()),
            gone,
        ),
        ("one key", Answer::Body(key.jwk().to_string()), gone),
        ("no JSON", Answer::Body("<html>".into()), gone),
        ("nothing", Answer::Body(String::new()), gone),
        ("cut off", Answer::Body(jwks([&key])[..50].into()), gone),
        (
            "an object",
            Answer::Body(json!({"keys": {"k": key.jwk()}}).to_string()),
            gone,
        ),
        (
            "no keys",
            Answer::Body(r#"{"keys":[]}"#.into()),
            Some(Reason::UnknownKey),
        ),
        ("an error", Answer::Status(500), gone),
        ("missing", Answer::Status(404), gone),
    ] {
        let endpoint = TestIssuer::start([]).await;
        endpoint.answer(answer);
        let verifier = verifier_of(&endpoint);
        assert_eq!(reason(&verifier, &fresh(&key, 0)).await, expected, "{name}");
    }
}

#[tokio::test]
async fn a_storm_of_unknown_kids_is_one_fetch() {
    let (key, forger) = (TestKey::es256("k"), TestKey::es256("x"));
    let endpoint = TestIssuer::start([&key]).await;
    let verifier = verifier_of(&endpoint);
    assert_eq!(reason(&verifier, &fresh(&key, 0)).await, None);
    assert_eq!(endpoint.fetches(), 1);

    let storm: Vec<String> = (0..200)
        .map(|mark| {
            let header = json!({"alg": "ES256", "kid": format!("x{mark}")}).to_string();
            forger.mint_text(&header, &claims(json!({})).to_string())
        })
        .collect();
    let all = |now| join_all(storm.iter().map(|token| reason_at(&verifier, token, now)));

    // All of them wait on the one fetch, which waits on us.
    endpoint.answer(Answer::Nothing);
    let mut waiting = pin!(all(later(1)));
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("an unknown key was refused without a look"),
        () = endpoint.reached(2) => {}
    }
    // Who has a known key does not wait with them.
    assert_eq!(reason_at(&verifier, &fresh(&key, 1), later(1)).await, None);
    endpoint.publish([&key]);
    let refused = waiting.await;
    assert!(refused.iter().all(|why| *why == Some(Reason::UnknownKey)));
    assert_eq!(endpoint.fetches(), 2);

    // Within the minute, none; after it, one.
    all(later(60)).await;
    assert_eq!(endpoint.fetches(), 2);
    let refused = all(later(61)).await;
    assert!(refused.iter().all(|why| *why == Some(Reason::UnknownKey)));
    assert_eq!(endpoint.fetches(), 3);
    assert_eq!(reason_at(&verifier, &fresh(&key, 2), later(61)).await, None);
}

#[tokio::test]
async fn a_known_kid_or_none_at_all_fetches_nothing() {
    let (key, forger) = (TestKey::es256("k"), TestKey::es256("k"));
    let endpoint = TestIssuer::start([&key]).await;
    let verifier = verifier_of(&endpoint);
    assert_eq!(reason(&verifier, &fresh(&key, 0)).await, None);
    assert_eq!(
        reason_at(&verifier, &fresh(&forger, 0), later(1)).await,
        Some(Reason::BadSignature)
    );
    let nameless = key.mint_text(r#"{"alg":"ES256"}"#, &claims(json!({})).to_string());
    assert_eq!(reason_at(&verifier, &nameless, later(1)).await, None);
    assert_eq!(endpoint.fetches(), 1);
}

#[tokio::test]
async fn a_cold_storm_is_one_fetch() {
    let key = TestKey::es256("k");
    let endpoint = TestIssuer::start([&key]).await;
    let verifier = verifier_of(&endpoint);
    endpoint.answer(Answer::Nothing);
    let tokens: Vec<String> = (0..50).map(|mark| fresh(&key, mark)).collect();
    let mut waiting = pin!(join_all(
        tokens.iter().map(|token| reason(&verifier, token))
    ));
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("decided without keys"),
        () = endpoint.reached(1) => {}
    }
    endpoint.publish([&key]);
    assert!(waiting.await.iter().all(Option::is_none));
    assert_eq!(endpoint.fetches(), 1);
}

#[tokio::test]
async fn a_caller_who_gives_up_does_not_stop_the_fetch() {
    let key = TestKey::es256("k");
    let endpoint = TestIssuer::start([&key]).await;
    let verifier = verifier_of(&endpoint);
    endpoint.answer(Answer::Nothing);
    let token = fresh(&key, 0);
    tokio::select! {
        biased;
        _ = verifier.verify(&token, NOW) => panic!("decided without keys"),
        () = endpoint.reached(1) => {}
    }
    endpoint.publish([&key]);
    assert_eq!(reason(&verifier, &token).await, None);
    assert_eq!(endpoint.fetches(), 1);
}

#[tokio::test]
async fn a_new_key_is_found_at_once_and_a_removed_one_is_forgotten() {
    let (old, new) = (TestKey::es256("old"), TestKey::es256("new"));
    let endpoint = TestIssuer::start([&old]).await;
    let verifier = verifier_of(&endpoint);
    let cached = fresh(&old, 0);
    assert_eq!(reason_at(&verifier, &cached, NOW).await, None);
    endpoint.publish([&new]);
    // The kept verdict and the kept key are still good.
    assert_eq!(reason_at(&verifier, &cached, later(10)).await, None);
    assert_eq!(reason_at(&verifier, &fresh(&old, 1), later(10)).await, None);
    assert_eq!(endpoint.fetches(), 1);

    assert_eq!(reason_at(&verifier, &fresh(&new, 2), later(10)).await, None);
    assert_eq!(endpoint.fetches(), 2);
    assert_eq!(
        reason_at(&verifier, &fresh(&old, 3), later(11)).await,
        Some(Reason::UnknownKey)
    );
    // What was verified is kept for a minute, and no longer.
    assert_eq!(reason_at(&verifier, &cached, later(59)).await, None);
    assert_eq!(
        reason_at(&verifier, &cached, later(60)).await,
        Some(Reason::UnknownKey)
    );
}

#[tokio::test]
async fn keys_are_renewed_behind_the_back_of_callers() {
    let (old, new) = (TestKey::es256("old"), TestKey::es256("new"));
    let endpoint = TestIssuer::start([&old]).await;
    let verifier = verifier_of(&endpoint);
    assert_eq!(reason(&verifier, &fresh(&old, 0)).await, None);
    assert_eq!(
        reason_at(&verifier, &fresh(&old, 1), later(600)).await,
        None
    );
    assert_eq!(endpoint.fetches(), 1);

    // The endpoint hangs; who asks does not.
    endpoint.answer(Answer::Nothing);
    assert_eq!(
        reason_at(&verifier, &fresh(&old, 2), later(601)).await,
        None
    );
    endpoint.reached(2).await;
    assert_eq!(
        reason_at(&verifier, &fresh(&old, 3), later(601)).await,
        None
    );
    assert_eq!(endpoint.fetches(), 2);

    // A key that is not known yet joins the fetch that runs.
    let token = fresh(&new, 4);
    let mut joining = pin!(reason_at(&verifier, &token, later(601)));
    tokio::select! {
        biased;
        _ = &mut joining => panic!("an unknown key was refused without a look"),
        () = std::future::ready(()) => {}
    }
    endpoint.publish([&new]);
    assert_eq!(joining.await, None);
    assert_eq!(endpoint.fetches(), 2);
    assert_eq!(
        reason_at(&verifier, &fresh(&old, 5), later(602)).await,
        Some(Reason::UnknownKey)
    );
}

#[tokio::test]
async fn old_keys_are_trusted_for_an_hour_while_fetching_fails() {
    let key = TestKey::es256("k");
    let endpoint = TestIssuer::start([&key]).await;
    let verifier = verifier_of(&endpoint);
    assert_eq!(reason(&verifier, &fresh(&key, 0)).await, None);
    for (fetches, seconds) in [(2, 601), (3, 3600)] {
        endpoint.answer(Answer::Nothing);
        let token = fresh(&key, seconds);
        assert_eq!(reason_at(&verifier, &token, later(seconds)).await, None);
        // Who names an unknown key joins the fetch that runs, and so sees its end.
        let unknown = fresh(&TestKey::es256("x"), seconds);
        let mut joining = pin!(reason_at(&verifier, &unknown, later(seconds)));
        tokio::select! {
            biased;
            _ = &mut joining => panic!("an unknown key was refused without a look"),
            () = endpoint.reached(fetches) => {}
        }
        endpoint.answer(Answer::Status(503));
        assert_eq!(joining.await, Some(Reason::UnknownKey));
        assert_eq!(endpoint.fetches(), fetches);
    }
    assert_eq!(
        reason_at(&verifier, &fresh(&key, 3), later(3606)).await,
        Some(Reason::KeysUnavailable)
    );
    assert_eq!(endpoint.fetches(), 4);
    // Tried again after five seconds, and not before.
    endpoint.publish([&key]);
    assert_eq!(
        reason_at(&verifier, &fresh(&key, 4), later(3610)).await,
        Some(Reason::KeysUnavailable)
    );
    assert_eq!(endpoint.fetches(), 4);
    assert_eq!(
        reason_at(&verifier, &fresh(&key, 5), later(3611)).await,
        None
    );
    assert_eq!(endpoint.fetches(), 5);
}

#[tokio::test]
async fn an_endpoint_that_does_not_answer_is_given_up() {
    let key = TestKey::es256("k");
    let endpoint = TestIssuer::start([&key]).await;
    endpoint.answer(Answer::Nothing);
    let verifier = verifier_of(&endpoint);
    assert_eq!(
        reason(&verifier, &fresh(&key, 0)).await,
        Some(Reason::KeysUnavailable)
    );
    endpoint.publish([&key]);
    assert_eq!(reason_at(&verifier, &fresh(&key, 0), later(5)).await, None);
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_stops_its_own_issuer_alone() {
    let (key, other) = (TestKey::es256("k"), TestKey::es256("k"));
    let closed = {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.local_addr().unwrap()
    };
    let url = format!("http://{closed}/jwks.json");
    let gone = settings(&["ES256"], KeySource::JwksUrl(url));
    let mut there = settings(&["ES256"], KeySource::Jwks(jwks([&other])));
    there.name = "other".into();
    there.issuer = "https://other.example".into();
    let verifier = verifier([gone, there]);
    assert_eq!(
        reason(&verifier, &fresh(&key, 0)).await,
        Some(Reason::KeysUnavailable)
    );
    let token = other.mint(&claims(json!({"iss": "https://other.example"})));
    assert_eq!(reason(&verifier, &token).await, None);
}

#[tokio::test]
async fn a_verified_token_is_kept_but_never_beyond_its_expiry() {
    let key = TestKey::es256("k");
    let mut exact = settings(&["ES256"], KeySource::Jwks(jwks([&key])));
    exact.leeway = std::time::Duration::ZERO;
    let verifier = verifier([exact]);
    let token = key.mint(&claims(json!({"exp": NOW.seconds() + 10})));
    // Before `iat` it is refused, unless it is not looked at any more.
    assert_eq!(
        reason_at(&verifier, &token, later(-5)).await,
        Some(Reason::NotYetValid)
    );
    assert_eq!(reason_at(&verifier, &token, NOW).await, None);
    assert_eq!(reason_at(&verifier, &token, later(-5)).await, None);
    let first = verifier.verify(&token, NOW).await.unwrap();
    let second = verifier.verify(&token, later(9)).await.unwrap();
    assert!(std::sync::Arc::ptr_eq(&first, &second));
    assert_eq!(
        reason_at(&verifier, &token, later(10)).await,
        Some(Reason::Expired)
    );
}
