//! The strict reading of a JWT before its signature is looked at.
//!
//! ```text
//! base64url({"alg":"ES256","kid":"…","typ":"JWT"}) . base64url({claims}) . base64url(signature)
//! ```
//!
//! Compact JWS only (RFC 7515 §7.1): three non-empty segments, each in the one base64url spelling
//! of its bytes, no padding. Of the header, `alg`, `kid` and `typ` have a meaning; whatever would
//! bring a key along, change the form of the payload or demand an extension is refused
//! (RFC 8725 §3); the rest is ignored.
//!
//! Nothing here is proven: until a signature is verified, the claims are a stranger's words.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::{MAX_BEARER, json};

/// The longest `kid`, in bytes.
pub const MAX_KID: usize = 128;

/// Header members which refuse the token by being there.
const REFUSED: [&str; 9] = [
    "b64", "crit", "cty", "enc", "jku", "jwk", "x5c", "x5u", "zip",
];

/// A JWT whose form holds. Its claims are not proven.
pub struct Jwt<'a> {
    /// What is signed: the first two segments as they stand.
    pub signed: &'a str,
    /// The third segment, canonical base64url.
    pub signature: &'a str,
    /// `alg`, as it stands.
    pub algorithm: String,
    /// `kid`, if there is one.
    pub kid: Option<String>,
    /// The claims, **unverified**.
    pub claims: Map<String, Value>,
}

/// The text is no JWT that is taken here. For the entry; never said to the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadJwt {
    /// Not three canonical base64url segments within the cap.
    #[error("not a compact signed token")]
    Form,
    /// The header is no object of the form, or one of its members is refused.
    #[error("a header that is not taken")]
    Header,
    /// The payload is no unambiguous JSON object.
    #[error("claims that do not read")]
    Claims,
}

impl<'a> Jwt<'a> {
    /// Reads the text.
    pub fn read(text: &'a str) -> Result<Jwt<'a>, BadJwt> {
        if text.len() > MAX_BEARER {
            return Err(BadJwt::Form);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(BadJwt::Form)?;
        let (header, payload) = signed.split_once('.').ok_or(BadJwt::Form)?;
        let header = segment(header)?;
        let payload = segment(payload)?;
        segment(signature)?;
        let (algorithm, kid) = read_header(&header).ok_or(BadJwt::Header)?;
        Ok(Jwt {
            signed,
            signature,
            algorithm,
            kid,
            claims: json::read_object(&payload).ok_or(BadJwt::Claims)?,
        })
    }
}

/// The engine refuses padding, set trailing bits and white space; a dot is not in its alphabet.
fn segment(text: &str) -> Result<Vec<u8>, BadJwt> {
    match URL_SAFE_NO_PAD.decode(text) {
        Ok(bytes) if !bytes.is_empty() => Ok(bytes),
        _ => Err(BadJwt::Form),
    }
}

fn read_header(bytes: &[u8]) -> Option<(String, Option<String>)> {
    let mut header = json::read_object(bytes)?;
    if REFUSED.iter().any(|name| header.contains_key(*name)) {
        return None;
    }
    let Value::String(algorithm) = header.remove("alg")? else {
        return None;
    };
    let kid = match header.remove("kid") {
        None => None,
        Some(Value::String(kid)) if (1..=MAX_KID).contains(&kid.len()) => Some(kid),
        Some(_) => return None,
    };
    match header.get("typ") {
        None => {}
        Some(Value::String(typ))
            if ["jwt", "at+jwt"]
                .iter()
                .any(|known| typ.eq_ignore_ascii_case(known)) => {}
        Some(_) => return None,
    }
    Some((algorithm, kid))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(header: &str, payload: &str) -> String {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!(
            "{}.{}.{}",
            encode(header),
            encode(payload),
            encode("signature")
        )
    }

    fn fault(text: &str) -> Option<BadJwt> {
        Jwt::read(text).err()
    }

    #[test]
    fn a_plain_token_reads_in_its_parts() {
        let text = token(
            r#"{"alg":"ES256","kid":"k1","typ":"JWT","x5t":"ignored"}"#,
            r#"{"iss":"a"}"#,
        );
        let jwt = Jwt::read(&text).unwrap();
        assert_eq!(jwt.algorithm, "ES256");
        assert_eq!(jwt.kid.as_deref(), Some("k1"));
        assert_eq!(jwt.claims["iss"], "a");
        assert_eq!(format!("{}.{}", jwt.signed, jwt.signature), text);
    }

    #[test]
    fn a_header_has_a_string_alg_and_nothing_that_brings_a_key() {
        let longest = format!(r#"{{"alg":"ES256","kid":"{}"}}"#, "k".repeat(MAX_KID));
        for good in [
            r#"{"alg":"ES256"}"#,
            r#"{"alg":"ES256","typ":"at+jwt"}"#,
            r#"{"alg":"ES256","typ":"jwt"}"#,
            r#"{"alg":"ES256","kid":"../../dev/null"}"#,
            &longest,
        ] {
            assert_eq!(fault(&token(good, "{}")), None, "{good}");
        }
        let too_long = format!(r#"{{"alg":"ES256","kid":"{}"}}"#, "k".repeat(MAX_KID + 1));
        for bad in [
            r#"{}"#,
            r#"[]"#,
            r#"{"alg":null}"#,
            r#"{"alg":1}"#,
            r#"{"alg":["ES256"]}"#,
            r#"{"alg":{"ES256":1}}"#,
            r#"{"alg":true}"#,
            r#"{"ALG":"ES256"}"#,
            r#"{"alg":"ES256","alg":"ES256"}"#,
            r#"{"alg":"none","alg":"ES256"}"#,
            r#"{"alg":"ES256","typ":"dpop+jwt"}"#,
            r#"{"alg":"ES256","typ":null}"#,
            r#"{"alg":"ES256","typ":["JWT"]}"#,
            r#"{"alg":"ES256","kid":1}"#,
            r#"{"alg":"ES256","kid":null}"#,
            r#"{"alg":"ES256","kid":""}"#,
            r#"{"alg":"ES256","kid":["k"]}"#,
            &too_long,
        ] {
            assert_eq!(fault(&token(bad, "{}")), Some(BadJwt::Header), "{bad}");
        }
        for name in REFUSED {
            for value in ["null", "false", "\"\"", "[]", "{}"] {
                let header = format!(r#"{{"alg":"ES256","{name}":{value}}}"#);
                assert_eq!(
                    fault(&token(&header, "{}")),
                    Some(BadJwt::Header),
                    "{header}"
                );
            }
        }
    }

    #[test]
    fn only_three_canonical_segments_read() {
        let good = token(r#"{"alg":"ES256"}"#, "{}");
        assert_eq!(fault(&good), None);
        let parts: Vec<&str> = good.split('.').collect();
        let [header, payload, signature] = parts[..] else {
            panic!("three segments")
        };
        for bad in [
            format!("{header}.{payload}"),
            format!("{header}.{payload}."),
            format!(".{payload}.{signature}"),
            format!("{header}..{signature}"),
            format!("{good}."),
            format!(".{good}"),
            format!("{good}.{signature}"),
            format!("{good}.{signature}.{signature}"),
            format!("{good}="),
            format!("{good}\n"),
            format!(" {good}"),
            format!("{header}.{payload}=.{signature}"),
            format!("{header}.e30+.{signature}"),
            format!("{header}.e30/.{signature}"),
            // "e30" is "{}"; "e31" is the same bytes with a trailing bit set.
            format!("{header}.e31.{signature}"),
            format!(
                r#"{{"payload":"{payload}","protected":"{header}","signature":"{signature}"}}"#
            ),
            format!("{header}.{payload}.{}", "A".repeat(MAX_BEARER)),
            "..".into(),
            String::new(),
        ] {
            assert_eq!(fault(&bad), Some(BadJwt::Form), "{bad:.80}");
        }
    }

    #[test]
    fn claims_are_one_unambiguous_object() {
        for (claims, expected) in [
            (r#"{"exp":1}"#, None),
            (r#"{"exp":1,"exp":2}"#, Some(BadJwt::Claims)),
            (r#"{"exp":1e400}"#, Some(BadJwt::Claims)),
            (r#"{"exp":NaN}"#, Some(BadJwt::Claims)),
            (r#"[{"exp":1}]"#, Some(BadJwt::Claims)),
            (&"[".repeat(9_000), Some(BadJwt::Claims)),
        ] {
            assert_eq!(
                fault(&token(r#"{"alg":"ES256"}"#, claims)),
                expected,
                "{claims:.40}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,80}", header in "\\PC{0,40}", payload in "\\PC{0,40}") {
            let _ = fault(&text);
            let _ = fault(&token(&header, &payload));
        }

        #[test]
        fn a_token_has_one_spelling(at in 0_usize..40, to in "[ -~]") {
            let good = token(r#"{"alg":"ES256"}"#, r#"{"iss":"a"}"#);
            let mut other = good.clone();
            other.replace_range(at..=at, &to);
            if let (Ok(one), Ok(two)) = (Jwt::read(&good), Jwt::read(&other)) {
                prop_assert_eq!(one.signed == two.signed && one.signature == two.signature, good == other);
            }
        }
    }
}
