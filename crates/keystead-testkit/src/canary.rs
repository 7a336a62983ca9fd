//! Planted secrets, and the search for them: as they are, and in each form that code writes bytes.
//!
//! What always holds: a finding names the secret and the form, and never repeats the secret.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use memchr::memmem::Finder;

/// A planted secret.
struct Canary {
    name: String,
    forms: Vec<(&'static str, Finder<'static>)>,
}

/// Secrets that must be nowhere.
#[derive(Default)]
pub struct Canaries(Vec<Canary>);

impl Canaries {
    /// None so far.
    pub fn new() -> Canaries {
        Canaries::default()
    }

    /// Plants one. Short values would be found by chance.
    pub fn plant(&mut self, name: &str, secret: impl AsRef<[u8]>) {
        let secret = secret.as_ref();
        assert!(secret.len() >= 12, "{name} is too short to be searched for");
        let forms = forms(secret);
        let forms = forms
            .iter()
            .map(|(form, bytes)| (*form, Finder::new(bytes).into_owned()));
        self.0.push(Canary {
            name: name.to_owned(),
            forms: forms.collect(),
        });
    }

    /// What is found in some bytes, as `secret (form) in place`.
    pub fn find(&self, place: &str, bytes: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        for canary in &self.0 {
            for (form, finder) in &canary.forms {
                if finder.find(bytes).is_some() {
                    found.push(format!("{} ({form}) in {place}", canary.name));
                }
            }
        }
        found
    }

    /// Fails where something is found.
    pub fn assert_absent(&self, place: &str, bytes: &[u8]) {
        let found = self.find(place, bytes);
        assert!(found.is_empty(), "{found:#?}");
    }
}

/// The forms in which a secret may be written, without doubles.
fn forms(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut forms = vec![
        ("as it is", secret.to_vec()),
        ("hex", hex(secret, false)),
        ("hex in capitals", hex(secret, true)),
        ("percent-encoded", percent(secret, false)),
        ("percent-encoded throughout", percent(secret, true)),
        ("as numbers", numbers(secret)),
    ];
    if let Ok(text) = std::str::from_utf8(secret) {
        let json = serde_json::to_string(text).unwrap_or_default();
        forms.push(("JSON", json.trim_matches('"').as_bytes().to_vec()));
        let twice = serde_json::to_string(&json).unwrap_or_default();
        let twice = twice.trim_matches(['"', '\\']).as_bytes().to_vec();
        forms.push(("JSON in JSON", twice));
        forms.push((
            "reversed",
            text.chars().rev().collect::<String>().into_bytes(),
        ));
    }
    // Within a longer value, base64 depends on where the secret begins: what is sure of each.
    for before in 0..3 {
        let padded = [&[0; 2][..before], secret].concat();
        let whole = padded.len() / 3 * 3;
        let skip = if before == 0 { 0 } else { 4 };
        let text = STANDARD_NO_PAD.encode(&padded[..whole]);
        forms.push(("base64", text.as_bytes()[skip..].to_vec()));
        let text = URL_SAFE_NO_PAD.encode(&padded[..whole]);
        forms.push(("base64url", text.as_bytes()[skip..].to_vec()));
    }
    let mut seen = std::collections::BTreeSet::new();
    forms.retain(|(_, bytes)| seen.insert(bytes.clone()));
    forms
}

fn hex(bytes: &[u8], capitals: bool) -> Vec<u8> {
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    if capitals { text.to_uppercase() } else { text }.into_bytes()
}

fn percent(bytes: &[u8], all: bool) -> Vec<u8> {
    let one = |byte: &u8| {
        if !all && (byte.is_ascii_alphanumeric() || b"-._~".contains(byte)) {
            char::from(*byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    bytes.iter().map(one).collect::<String>().into_bytes()
}

/// As a debug print of bytes has it.
fn numbers(bytes: &[u8]) -> Vec<u8> {
    let all: Vec<_> = bytes.iter().map(u8::to_string).collect();
    all.join(", ").into_bytes()
}

/// An invented service account of Google Cloud with a real key, and the parts of it that are secret.
pub fn service_account(email: &str) -> (serde_json::Value, Vec<Vec<u8>>) {
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048)
        .expect("a key can be made");
    let der: Pkcs8V1Der<'_> = pair.as_der().expect("a key has a form");
    let body = base64::engine::general_purpose::STANDARD.encode(der.as_ref());
    let lines: Vec<&str> = body
        .as_bytes()
        .chunks(64)
        .filter_map(|line| std::str::from_utf8(line).ok())
        .collect();
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        lines.join("\n")
    );
    let secrets = vec![
        pem.clone().into_bytes(),
        lines[lines.len() / 2].as_bytes().to_vec(),
        der.as_ref()[der.as_ref().len() / 2..][..64].to_vec(),
    ];
    let json = serde_json::json!({
        "type": "service_account", "project_id": "canary-project", "private_key_id": "0123456789abcdef",
        "private_key": pem, "client_email": email, "client_id": "1",
        "token_uri": "https://oauth2.googleapis.com/token",
    });
    (json, secrets)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "sk-canary/\"quoted\"+0123456789abcdef";

    #[test]
    fn a_planted_secret_is_found_in_every_form_and_place() {
        let mut canaries = Canaries::new();
        canaries.plant("credential", SECRET);
        let json = serde_json::json!({"deep": {"value": SECRET}}).to_string();
        let inner = serde_json::json!({"text": json}).to_string();
        let mut texts = vec![
            SECRET.to_owned(),
            json,
            inner,
            format!("{:?}", SECRET.as_bytes()),
        ];
        for before in ["", "u:", "us:", "usr:"] {
            let text = format!("{before}{SECRET}:after");
            texts.push(base64::engine::general_purpose::STANDARD.encode(&text));
            texts.push(base64::engine::general_purpose::URL_SAFE.encode(&text));
        }
        texts.push(String::from_utf8(hex(SECRET.as_bytes(), false)).unwrap());
        texts.push(String::from_utf8(percent(SECRET.as_bytes(), false)).unwrap());
        for text in texts {
            let around = format!("some {text} bytes");
            assert!(
                !canaries.find("here", around.as_bytes()).is_empty(),
                "{around}"
            );
        }
        assert!(
            canaries
                .find("here", b"sk-canary and nothing more")
                .is_empty()
        );
    }

    #[test]
    fn a_finding_does_not_repeat_the_secret() {
        let mut canaries = Canaries::new();
        canaries.plant("credential", SECRET);
        let found = canaries.find("log", SECRET.as_bytes());
        assert_eq!(found[0], "credential (as it is) in log");
    }
}
