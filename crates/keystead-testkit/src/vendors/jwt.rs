//! Keys that sign JWTs (RS256), and the vendor's look at what they signed.

use std::sync::OnceLock;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;

/// A private key, and what the vendor knows of it.
#[derive(Clone)]
pub struct Signer {
    /// The private key, as its owner downloaded it.
    pub pem: String,
    public: Vec<u8>,
}

impl Signer {
    /// The key of all tests: making one is slow.
    pub fn usual() -> Signer {
        static USUAL: OnceLock<Signer> = OnceLock::new();
        USUAL.get_or_init(Signer::new).clone()
    }

    /// A key of its own.
    pub fn new() -> Signer {
        let pair = KeyPair::generate(KeySize::Rsa2048).expect("an RSA key");
        let der: Pkcs8V1Der<'_> = pair.as_der().expect("a key has a form");
        let body = STANDARD.encode(der.as_ref());
        Signer {
            pem: format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"),
            public: pair.public_key().as_ref().to_vec(),
        }
    }

    /// The claims, if the key signed them.
    pub fn claims(&self, token: &str) -> Option<Value> {
        let (signed, signature) = token.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public);
        key.verify(signed.as_bytes(), &signature).ok()?;
        let (head, claims) = signed.split_once('.')?;
        let read = |part: &str| -> Option<Value> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
        };
        (read(head)?["alg"] == "RS256").then_some(())?;
        read(claims)
    }
}

impl Default for Signer {
    fn default() -> Signer {
        Signer::new()
    }
}
