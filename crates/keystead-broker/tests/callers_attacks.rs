//! Forged, bent and confused tokens (threats 1 to 9): each table holds a twin that passes, so that
//! a refusal is of the attack and not of the table.

mod callers_support;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use callers_support::{ISS, NOW, claims, reason, settings, settings_of, verifier};
use keystead_broker::callers::{IssuerSettings, KeySource, Reason};
use keystead_testkit::issuer::{TestKey, jwks};
use serde_json::{Value, json};

fn encode(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

fn asymmetric() -> [TestKey; 3] {
    [
        TestKey::rs256("k"),
        TestKey::es256("k"),
        TestKey::eddsa("k"),
    ]
}

#[tokio::test]
async fn alg_none_is_refused_in_every_spelling() {
    for key in asymmetric() {
        let verifier = verifier([settings_of(&key)]);
        let good = key.mint(&claims(json!({})));
        assert_eq!(reason(&verifier, &good).await, None);
        let payload = encode(claims(json!({})).to_string());
        let signature = good.rsplit('.').next().unwrap();
        for alg in [
            "none",
            "None",
            "NONE",
            "nOnE",
            "none ",
            " none",
            "",
            "null",
            "0",
            "HS0",
            "no\\u006ee",
        ] {
            let header = encode(format!(r#"{{"alg":"{alg}","kid":"k"}}"#));
            for end in [signature, "AA"] {
                let token = format!("{header}.{payload}.{end}");
                assert_eq!(
                    reason(&verifier, &token).await,
                    Some(Reason::Algorithm),
                    "{alg:?}"
                );
            }
            let unsigned = format!("{header}.{payload}.");
            assert_eq!(
                reason(&verifier, &unsigned).await,
                Some(Reason::Malformed),
                "{alg:?}"
            );
        }
        for alg in ["null", "1", "true", r#"["none"]"#, r#"{"none":1}"#] {
            let token = key.mint_text(
                &format!(r#"{{"alg":{alg},"kid":"k"}}"#),
                &claims(json!({})).to_string(),
            );
            assert_eq!(
                reason(&verifier, &token).await,
                Some(Reason::Malformed),
                "{alg}"
            );
        }
        let missing = key.mint_text(r#"{"kid":"k"}"#, &claims(json!({})).to_string());
        assert_eq!(reason(&verifier, &missing).await, Some(Reason::Malformed));
    }
}

#[tokio::test]
async fn hmac_keyed_with_a_public_key_is_refused() {
    for key in asymmetric() {
        let verifier = verifier([settings_of(&key)]);
        let good = key.mint(&claims(json!({})));
        assert_eq!(reason(&verifier, &good).await, None);
        let forms = key.public_forms();
        assert!(forms.len() >= 12);
        for (form, secret) in forms {
            let forger = TestKey::hs256("k", &secret);
            let plain = forger.mint(&claims(json!({})));
            assert_eq!(
                reason(&verifier, &plain).await,
                Some(Reason::Algorithm),
                "{form}"
            );
            // The header says what the key is for, the signature is an HMAC.
            let header = json!({"alg": key.algorithm(), "kid": "k"}).to_string();
            let posing = forger.mint_text(&header, &claims(json!({})).to_string());
            assert_eq!(
                reason(&verifier, &posing).await,
                Some(Reason::BadSignature),
                "{form}"
            );
        }
    }
}

#[tokio::test]
async fn a_key_verifies_its_own_algorithm_only() {
    let (ec, rsa) = (TestKey::es256("ec"), TestKey::rs256("rsa"));
    let verifier = verifier([settings(
        &["ES256", "RS256", "PS256", "EdDSA"],
        KeySource::Jwks(jwks([&ec, &rsa])),
    )]);
    for key in [&ec, &rsa] {
        let good = key.mint(&claims(json!({})));
        assert_eq!(reason(&verifier, &good).await, None);
        // Without a `kid`: one key fits the algorithm.
        let header = json!({"alg": key.algorithm()}).to_string();
        let good = key.mint_text(&header, &claims(json!({})).to_string());
        assert_eq!(reason(&verifier, &good).await, None);
    }
    for (key, alg, expected) in [
        (&ec, "RS256", Reason::UnknownKey),
        (&ec, "EdDSA", Reason::UnknownKey),
        (&rsa, "ES256", Reason::UnknownKey),
        (&rsa, "PS256", Reason::UnknownKey),
        (&rsa, "RS512", Reason::Algorithm),
        (&rsa, "rs256", Reason::Algorithm),
        (&ec, "HS256", Reason::Algorithm),
    ] {
        let header = json!({"alg": alg, "kid": key.kid}).to_string();
        let token = key.mint_text(&header, &claims(json!({})).to_string());
        assert_eq!(reason(&verifier, &token).await, Some(expected), "{alg}");
    }
}

#[tokio::test]
async fn without_a_kid_two_fitting_keys_are_none() {
    let (one, two) = (TestKey::es256("one"), TestKey::es256("two"));
    let verifier = verifier([settings(&["ES256"], KeySource::Jwks(jwks([&one, &two])))]);
    assert_eq!(reason(&verifier, &one.mint(&claims(json!({})))).await, None);
    let nameless = one.mint_text(r#"{"alg":"ES256"}"#, &claims(json!({})).to_string());
    assert_eq!(reason(&verifier, &nameless).await, Some(Reason::UnknownKey));
}

#[tokio::test]
async fn a_token_brings_no_key_along() {
    let (key, forger) = (TestKey::es256("k"), TestKey::es256("k"));
    let verifier = verifier([settings_of(&key)]);
    let body = claims(json!({})).to_string();
    let header = |more: Value| {
        let mut header = json!({"alg": "ES256", "kid": "k", "typ": "JWT"});
        header
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        header.to_string()
    };
    assert_eq!(
        reason(&verifier, &key.mint_text(&header(json!({})), &body)).await,
        None
    );
    // Nothing brought along: the forger's signature alone does not do.
    assert_eq!(
        reason(&verifier, &forger.mint_text(&header(json!({})), &body)).await,
        Some(Reason::BadSignature)
    );
    for more in [
        json!({"jwk": forger.jwk()}),
        json!({"jku": "https://forger.example/jwks.json"}),
        json!({"x5u": "https://forger.example/cert.pem"}),
        json!({"x5c": ["MIIB"]}),
        json!({"crit": []}),
        json!({"crit": ["exp"]}),
        json!({"crit": ["b64"], "b64": false}),
        json!({"b64": false}),
        json!({"b64": true}),
        json!({"zip": "DEF"}),
        json!({"cty": "JWT"}),
        json!({"enc": "A256GCM", "p2c": 2_000_000_000_u32, "p2s": "AA"}),
    ] {
        // Even the issuer itself does not get through with such a header.
        for by in [&key, &forger] {
            let token = by.mint_text(&header(more.clone()), &body);
            assert_eq!(
                reason(&verifier, &token).await,
                Some(Reason::Malformed),
                "{more}"
            );
        }
    }
}

#[tokio::test]
async fn a_kid_is_a_name_to_look_up_and_nothing_else() {
    let key = TestKey::es256("k");
    let verifier = verifier([settings_of(&key)]);
    let longest = "k".repeat(128);
    let too_long = "k".repeat(129);
    for (kid, expected) in [
        ("k", None),
        ("../../../../dev/null", Some(Reason::UnknownKey)),
        ("/proc/self/environ", Some(Reason::UnknownKey)),
        ("k' OR '1'='1", Some(Reason::UnknownKey)),
        ("k' UNION SELECT 'canary' -- ", Some(Reason::UnknownKey)),
        ("https://forger.example/k", Some(Reason::UnknownKey)),
        ("$(touch canary)", Some(Reason::UnknownKey)),
        ("k\0", Some(Reason::UnknownKey)),
        ("K", Some(Reason::UnknownKey)),
        (&longest, Some(Reason::UnknownKey)),
        (&too_long, Some(Reason::Malformed)),
        ("", Some(Reason::Malformed)),
    ] {
        let header = json!({"alg": "ES256", "kid": kid}).to_string();
        let token = key.mint_text(&header, &claims(json!({})).to_string());
        assert_eq!(reason(&verifier, &token).await, expected, "{kid:.40}");
    }
}

#[tokio::test]
async fn an_issuer_signs_for_itself_alone() {
    const OTHER: &str = "https://other.example/auth/v1";
    let (ours, theirs) = (TestKey::es256("k"), TestKey::es256("k"));
    let third = TestKey::es256("third");
    let others = IssuerSettings::new(
        "other",
        OTHER,
        &["authenticated"],
        &["ES256"],
        KeySource::Jwks(jwks([&theirs, &third])),
    );
    let verifier = verifier([settings_of(&ours), others]);
    for (signer, iss, expected) in [
        (&ours, json!(ISS), None),
        (&theirs, json!(OTHER), None),
        (&theirs, json!(ISS), Some(Reason::BadSignature)),
        (&third, json!(ISS), Some(Reason::UnknownKey)),
        (&ours, json!(OTHER), Some(Reason::BadSignature)),
        (&theirs, json!([ISS, OTHER]), Some(Reason::UnknownIssuer)),
        (&theirs, json!([OTHER]), Some(Reason::UnknownIssuer)),
        (&theirs, json!({"iss": OTHER}), Some(Reason::UnknownIssuer)),
        (&ours, json!(format!("{ISS}/")), Some(Reason::UnknownIssuer)),
        (&ours, json!(ISS[..20]), Some(Reason::UnknownIssuer)),
        (
            &ours,
            json!(ISS.to_uppercase()),
            Some(Reason::UnknownIssuer),
        ),
        (&ours, json!(format!(" {ISS}")), Some(Reason::UnknownIssuer)),
        (
            &ours,
            json!(format!("{ISS}\0")),
            Some(Reason::UnknownIssuer),
        ),
        (&ours, json!("product"), Some(Reason::UnknownIssuer)),
        (&ours, json!(""), Some(Reason::UnknownIssuer)),
        (&ours, Value::Null, Some(Reason::UnknownIssuer)),
    ] {
        let token = signer.mint(&claims(json!({"iss": iss})));
        assert_eq!(
            reason(&verifier, &token).await,
            expected,
            "{} {iss}",
            signer.kid
        );
    }
}

#[tokio::test]
async fn times_are_integers_and_are_kept() {
    let key = TestKey::es256("k");
    let verifier = verifier([settings_of(&key)]);
    let now = NOW.seconds();
    let header = r#"{"alg":"ES256","kid":"k"}"#;
    let token = |times: &str| {
        key.mint_text(
            header,
            &format!(r#"{{"iss":"{ISS}","aud":"authenticated","sub":"canary",{times}}}"#),
        )
    };
    let at = |name: &str, offset: i64| format!(r#""{name}":{}"#, now + offset);
    let both = |exp: i64, more: String| format!("{},{more}", at("exp", exp));
    for (times, expected) in [
        (at("exp", 60), None),
        (both(60, at("iat", 0)), None),
        (both(60, at("nbf", 0)), None),
        // Thirty seconds of leeway, both ways.
        (at("exp", -29), None),
        (at("exp", -30), Some(Reason::Expired)),
        (both(60, at("nbf", 30)), None),
        (both(60, at("nbf", 31)), Some(Reason::NotYetValid)),
        (both(60, at("iat", 30)), None),
        (both(60, at("iat", 31)), Some(Reason::NotYetValid)),
        // A day at most, with or without `iat`.
        (both(86_400, at("iat", 0)), None),
        (both(86_401, at("iat", 0)), Some(Reason::Lifetime)),
        (both(3600, at("iat", -82_801)), Some(Reason::Lifetime)),
        (at("exp", 86_400), None),
        (at("exp", 86_401), Some(Reason::Lifetime)),
        (format!(r#""exp":{}"#, i64::MAX), Some(Reason::Lifetime)),
        (
            format!(r#""exp":{},"iat":{}"#, i64::MAX, i64::MIN),
            Some(Reason::Lifetime),
        ),
        (format!(r#""exp":{}"#, i64::MIN), Some(Reason::Expired)),
        (r#""exp":0"#.into(), Some(Reason::Expired)),
        (r#""x":1"#.into(), Some(Reason::Claims)),
        (format!(r#""exp":"{}""#, now + 60), Some(Reason::Claims)),
        (format!(r#""exp":[{}]"#, now + 60), Some(Reason::Claims)),
        (format!(r#""exp":{{"$gt":{now}}}"#), Some(Reason::Claims)),
        (format!(r#""exp":{}.5"#, now + 60), Some(Reason::Claims)),
        (r#""exp":1e300"#.into(), Some(Reason::Claims)),
        (r#""exp":9223372036854775808"#.into(), Some(Reason::Claims)),
        (r#""exp":null"#.into(), Some(Reason::Claims)),
        (r#""exp":true"#.into(), Some(Reason::Claims)),
        (r#""exp":1e400"#.into(), Some(Reason::Malformed)),
        (r#""exp":NaN"#.into(), Some(Reason::Malformed)),
        (r#""exp":Infinity"#.into(), Some(Reason::Malformed)),
        (both(60, at("exp", 60)), Some(Reason::Malformed)),
        (both(60, r#""nbf":"0""#.into()), Some(Reason::Claims)),
        (both(60, r#""nbf":null"#.into()), Some(Reason::Claims)),
        (both(60, r#""nbf":[0]"#.into()), Some(Reason::Claims)),
        (both(60, r#""iat":"0""#.into()), Some(Reason::Claims)),
        (both(60, r#""iat":1e3"#.into()), Some(Reason::Claims)),
        (both(60, r#""iat":1e400"#.into()), Some(Reason::Malformed)),
    ] {
        assert_eq!(reason(&verifier, &token(&times)).await, expected, "{times}");
    }
}

#[tokio::test]
async fn the_audience_is_an_exact_string_or_a_list_with_it() {
    let key = TestKey::es256("k");
    let mut two = settings_of(&key);
    two.audience = vec!["authenticated".into(), "keystead".into()];
    let verifier = verifier([two]);
    for (aud, expected) in [
        (json!("authenticated"), None),
        (json!("keystead"), None),
        (json!(["other", "authenticated"]), None),
        (Value::Null, Some(Reason::Audience)),
        (json!(""), Some(Reason::Audience)),
        (json!([]), Some(Reason::Audience)),
        (json!("authenticate"), Some(Reason::Audience)),
        (json!("authenticated2"), Some(Reason::Audience)),
        (json!("Authenticated"), Some(Reason::Audience)),
        (json!("authenticated,keystead"), Some(Reason::Audience)),
        (json!("authenticated keystead"), Some(Reason::Audience)),
        (json!(" authenticated"), Some(Reason::Audience)),
        (json!("*"), Some(Reason::Audience)),
        (json!({"authenticated": true}), Some(Reason::Audience)),
        (json!({"0": "authenticated"}), Some(Reason::Audience)),
        (json!([["authenticated"]]), Some(Reason::Audience)),
        (json!(["authenticated", 1]), Some(Reason::Audience)),
        (json!(["authenticated", ["x"]]), Some(Reason::Audience)),
        (json!(true), Some(Reason::Audience)),
    ] {
        let token = key.mint(&claims(json!({"aud": aud})));
        assert_eq!(reason(&verifier, &token).await, expected, "{aud}");
    }
}

#[tokio::test]
async fn subjects_and_tenants_are_plain_names() {
    let key = TestKey::es256("k");
    let verifier = verifier([settings_of(&key)]);
    let longest = "s".repeat(255);
    for (name, good) in [
        (json!("auth0|canary"), true),
        (json!("José"), true),
        (json!(longest), true),
        (json!(format!("{longest}s")), false),
        (json!(""), false),
        (json!("line\nbreak"), false),
        (json!("nul\0"), false),
        (json!(7), false),
        (json!(["canary"]), false),
        (json!({"id": "canary"}), false),
    ] {
        let expected = (!good).then_some(Reason::Claims);
        let subject = key.mint(&claims(json!({"sub": name})));
        assert_eq!(reason(&verifier, &subject).await, expected, "{name}");
        let tenant = key.mint(&claims(json!({"app_metadata": {"tenant_id": name}})));
        assert_eq!(reason(&verifier, &tenant).await, expected, "{name}");
    }
    let nobody = key.mint(&claims(json!({"sub": null})));
    assert_eq!(reason(&verifier, &nobody).await, Some(Reason::Claims));
}

#[tokio::test]
async fn other_serialisations_are_refused() {
    let key = TestKey::es256("k");
    let verifier = verifier([settings_of(&key)]);
    let good = key.mint(&claims(json!({})));
    assert_eq!(reason(&verifier, &good).await, None);
    let parts: Vec<&str> = good.split('.').collect();
    let (header, payload, signature) = (parts[0], parts[1], parts[2]);
    let nested = key.mint_text(r#"{"alg":"ES256","kid":"k"}"#, &format!("\"{good}\""));
    for bad in [
        format!("{header}.{payload}"),
        format!("{good}.{signature}"),
        format!("{header}.{payload}.AA.AA.{signature}"),
        format!("{good}\n"),
        format!("{good}="),
        format!("{good}=="),
        format!(" {good}"),
        format!("{header}=.{payload}.{signature}"),
        json!({"protected": header, "payload": payload, "signature": signature}).to_string(),
        json!({"payload": payload, "signatures": [{"protected": header, "signature": signature}]})
            .to_string(),
        nested,
        good.replace('.', "\u{ff0e}"),
        String::new(),
    ] {
        assert_eq!(
            reason(&verifier, &bad).await,
            Some(Reason::Malformed),
            "{bad:.60}"
        );
    }
}

#[tokio::test]
async fn a_signature_has_one_spelling_and_its_exact_length() {
    for key in asymmetric() {
        let verifier = verifier([settings_of(&key)]);
        let good = key.mint(&claims(json!({})));
        assert_eq!(reason(&verifier, &good).await, None);
        let (signed, text) = good.rsplit_once('.').unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(text).unwrap();
        let with = |signature: &[u8]| format!("{signed}.{}", encode(signature));

        // The last character of 64 and of 256 bytes carries unused bits.
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let last = alphabet
            .iter()
            .position(|c| Some(c) == text.as_bytes().last())
            .unwrap();
        let bent = format!(
            "{signed}.{}{}",
            &text[..text.len() - 1],
            char::from(alphabet[last + 1])
        );
        assert_eq!(reason(&verifier, &bent).await, Some(Reason::Malformed));

        let mut flipped = bytes.clone();
        flipped[10] ^= 1;
        let mut wrong = vec![
            vec![0; bytes.len()],
            vec![255; bytes.len()],
            vec![0],
            bytes[1..].to_vec(),
            bytes[..bytes.len() - 1].to_vec(),
            [&bytes[..], &[0]].concat(),
            [&[0], &bytes[..]].concat(),
            [&bytes[..], &bytes[..]].concat(),
            flipped,
        ];
        match key.algorithm() {
            "ES256" => {
                wrong.extend(psychic_signatures());
                wrong.push(asn1(&bytes));
            }
            "EdDSA" => wrong.push(plus_group_order(&bytes)),
            _ => {}
        }
        for signature in wrong {
            assert_eq!(
                reason(&verifier, &with(&signature)).await,
                Some(Reason::BadSignature),
                "{} {signature:02x?}",
                key.algorithm()
            );
        }
        // Another payload under a good signature.
        let other = key.mint(&claims(json!({"sub": "canary-other"})));
        let swapped = format!("{}.{text}", other.rsplit_once('.').unwrap().0);
        assert_eq!(
            reason(&verifier, &swapped).await,
            Some(Reason::BadSignature)
        );
    }
}

/// r and s of zero or of the group's order, which a careless verifier finds valid for anything.
fn psychic_signatures() -> Vec<Vec<u8>> {
    let order = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let mut one = [0; 32];
    one[31] = 1;
    [
        ([0; 32], order),
        (order, [0; 32]),
        (order, order),
        (one, [0; 32]),
        ([0; 32], one),
        (one, one),
    ]
    .map(|(r, s)| [r, s].concat())
    .into()
}

/// The DER form of an ECDSA signature.
fn asn1(signature: &[u8]) -> Vec<u8> {
    let integer = |bytes: &[u8]| {
        let bytes = [&[0], bytes].concat();
        let from = (0..32)
            .find(|at| bytes[*at] != 0 || bytes[at + 1] >= 0x80)
            .unwrap_or(32);
        [&[2, (33 - from) as u8], &bytes[from..]].concat()
    };
    let body = [integer(&signature[..32]), integer(&signature[32..])].concat();
    [&[0x30, body.len() as u8], &body[..]].concat()
}

/// The same Ed25519 signature with S + L for S.
fn plus_group_order(signature: &[u8]) -> Vec<u8> {
    let mut order = [0_u8; 32];
    order[..16].copy_from_slice(&[
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14,
    ]);
    order[31] = 0x10;
    let mut signature = signature.to_vec();
    let mut carry = 0_u16;
    for (byte, add) in signature[32..].iter_mut().zip(order) {
        carry += u16::from(*byte) + u16::from(add);
        *byte = carry as u8;
        carry >>= 8;
    }
    assert_eq!(carry, 0);
    signature
}

#[tokio::test]
async fn bombs_are_refused_before_they_are_read() {
    let key = TestKey::es256("k");
    let verifier = verifier([settings_of(&key)]);
    let header = r#"{"alg":"ES256","kid":"k"}"#;
    let sized = |size: usize| key.mint(&claims(json!({"pad": "p".repeat(size)})));
    assert_eq!(reason(&verifier, &sized(11_000)).await, None);
    assert_eq!(
        reason(&verifier, &sized(12_500)).await,
        Some(Reason::Malformed)
    );
    let nested = |depth: usize| {
        let mut claims = claims(json!({})).to_string();
        claims.truncate(claims.len() - 1);
        key.mint_text(
            header,
            &format!(
                "{claims},\"x\":{}{}}}",
                "[".repeat(depth),
                "]".repeat(depth)
            ),
        )
    };
    assert_eq!(reason(&verifier, &nested(31)).await, None);
    assert_eq!(
        reason(&verifier, &nested(32)).await,
        Some(Reason::Malformed)
    );
    assert_eq!(
        reason(&verifier, &nested(5_000)).await,
        Some(Reason::Malformed)
    );
    let unclosed = key.mint_text(header, &"[".repeat(11_000));
    assert_eq!(reason(&verifier, &unclosed).await, Some(Reason::Malformed));
}
