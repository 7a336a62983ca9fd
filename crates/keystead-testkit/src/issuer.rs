//! An identity provider for tests: keys of each kind, a JWKS on 127.0.0.1 with faults to switch
//! on, and tokens as good or as wrong as a test wants them.
//!
//! Nothing here refuses anything: what is refused is up to the code under test.

use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use aws_lc_rs::{hmac, rsa};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A signing key, by which a [`TestIssuer`] or an attacker signs.
pub struct TestKey {
    /// Its `kid`, in the JWKS and in the headers of its tokens.
    pub kid: String,
    pair: Pair,
}

enum Pair {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Hs256(Vec<u8>),
    Rs256(Box<RsaKeyPair>),
}

impl TestKey {
    /// A new P-256 key.
    pub fn es256(kid: &str) -> TestKey {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        Self::of(kid, Pair::Es256(pair.expect("a key pair")))
    }

    /// A new Ed25519 key.
    pub fn eddsa(kid: &str) -> TestKey {
        Self::of(
            kid,
            Pair::EdDsa(Ed25519KeyPair::generate().expect("a key pair")),
        )
    }

    /// A new RSA key of 2048 bits.
    pub fn rs256(kid: &str) -> TestKey {
        let pair = rsa::KeyPair::generate(KeySize::Rsa2048).expect("a key pair");
        Self::of(kid, Pair::Rs256(Box::new(pair)))
    }

    /// A shared secret.
    pub fn hs256(kid: &str, secret: &[u8]) -> TestKey {
        Self::of(kid, Pair::Hs256(secret.to_vec()))
    }

    fn of(kid: &str, pair: Pair) -> TestKey {
        TestKey {
            kid: kid.to_owned(),
            pair,
        }
    }

    /// The `alg` that it signs by.
    pub fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Es256(_) => "ES256",
            Pair::EdDsa(_) => "EdDSA",
            Pair::Hs256(_) => "HS256",
            Pair::Rs256(_) => "RS256",
        }
    }

    /// The raw signature.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.pair {
            Pair::Es256(pair) => {
                let signature = pair.sign(&SystemRandom::new(), message);
                signature.expect("a signature").as_ref().to_vec()
            }
            Pair::EdDsa(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::Hs256(secret) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
                hmac::sign(&key, message).as_ref().to_vec()
            }
            Pair::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(
                    &RSA_PKCS1_SHA256,
                    &SystemRandom::new(),
                    message,
                    &mut signature,
                )
                .expect("a signature");
                signature
            }
        }
    }

    /// The public key as a JWK; for a shared secret the `oct` key, which no JWKS should hold.
    pub fn jwk(&self) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match &self.pair {
            Pair::Es256(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)})
            }
            Pair::EdDsa(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref())})
            }
            Pair::Hs256(secret) => json!({"kty": "oct", "k": encode(secret)}),
            Pair::Rs256(pair) => {
                json!({"kty": "RSA", "n": encode(modulus(pair)), "e": "AQAB"})
            }
        };
        jwk["kid"] = self.kid.as_str().into();
        jwk["alg"] = self.algorithm().into();
        jwk["use"] = "sig".into();
        jwk
    }

    /// The public key in the forms in which a confused verifier may take it for an HMAC secret.
    pub fn public_forms(&self) -> Vec<(&'static str, Vec<u8>)> {
        let (raw, der) = match &self.pair {
            Pair::Es256(pair) => (pair.public_key().as_ref().to_vec(), der(pair.public_key())),
            Pair::EdDsa(pair) => (pair.public_key().as_ref().to_vec(), der(pair.public_key())),
            Pair::Rs256(pair) => (pair.public_key().as_ref().to_vec(), der(pair.public_key())),
            Pair::Hs256(_) => return Vec::new(),
        };
        let base64 = STANDARD.encode(&der);
        let lines: Vec<&str> = (0..base64.len())
            .step_by(64)
            .map(|at| &base64[at..base64.len().min(at + 64)])
            .collect();
        let pem = |end: &str| {
            let body = lines.join(end);
            format!("-----BEGIN PUBLIC KEY-----{end}{body}{end}-----END PUBLIC KEY-----")
        };
        let jwk = self.jwk();
        let member = jwk.get("x").or_else(|| jwk.get("n"));
        let member = member.and_then(Value::as_str).unwrap_or_default();
        vec![
            ("raw", raw.clone()),
            ("raw without its first byte", raw[1..].to_vec()),
            (
                "raw in hex",
                raw.iter()
                    .flat_map(|byte| format!("{byte:02x}").into_bytes())
                    .collect(),
            ),
            ("raw in base64", STANDARD.encode(&raw).into_bytes()),
            ("SPKI", der),
            ("SPKI in base64", base64.clone().into_bytes()),
            ("PEM", pem("\n").into_bytes()),
            (
                "PEM with a last newline",
                format!("{}\n", pem("\n")).into_bytes(),
            ),
            ("PEM with CRLF", pem("\r\n").into_bytes()),
            ("first member, text", member.as_bytes().to_vec()),
            (
                "first member, bytes",
                URL_SAFE_NO_PAD.decode(member).unwrap_or_default(),
            ),
            ("JWK", jwk.to_string().into_bytes()),
            ("JWKS", jwks([self]).into_bytes()),
            ("nothing", Vec::new()),
        ]
    }

    /// A token with the usual header.
    pub fn mint(&self, claims: &Value) -> String {
        let header = json!({"alg": self.algorithm(), "typ": "JWT", "kid": self.kid});
        self.mint_text(&header.to_string(), &claims.to_string())
    }

    /// A token of exactly these texts, rightly signed.
    pub fn mint_text(&self, header: &str, claims: &str) -> String {
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(claims)
        );
        let signature = self.sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn der<K: AsDer<PublicKeyX509Der<'static>>>(key: &K) -> Vec<u8> {
    key.as_der().expect("a public key").as_ref().to_vec()
}

/// The modulus out of the PKCS#1 form of a key of 2048 bits: SEQUENCE (4 bytes), INTEGER (4), 0.
fn modulus(pair: &RsaKeyPair) -> &[u8] {
    &pair.public_key().as_ref()[9..][..256]
}

/// The JSON text of a JWKS.
pub fn jwks<'a>(keys: impl IntoIterator<Item = &'a TestKey>) -> String {
    let keys: Vec<Value> = keys.into_iter().map(TestKey::jwk).collect();
    json!({ "keys": keys }).to_string()
}

/// How the JWKS endpoint answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// With that body.
    Body(String),
    /// With that status and an HTML page.
    Status(u16),
    /// Not before it is told to answer otherwise, and then so.
    Nothing,
}

/// A JWKS endpoint on 127.0.0.1, stopped on drop.
pub struct TestIssuer {
    /// Where the JWKS is.
    pub jwks_url: String,
    endpoint: Arc<Endpoint>,
    server: JoinHandle<()>,
}

struct Endpoint {
    answer: watch::Sender<Answer>,
    fetches: watch::Sender<usize>,
}

impl TestIssuer {
    /// Starts with the given keys published.
    pub async fn start<'a>(keys: impl IntoIterator<Item = &'a TestKey>) -> TestIssuer {
        let endpoint = Arc::new(Endpoint {
            answer: watch::Sender::new(Answer::Body(jwks(keys))),
            fetches: watch::Sender::new(0),
        });
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        let routes = Router::new()
            .route("/.well-known/jwks.json", get(serve_jwks))
            .with_state(endpoint.clone());
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, routes).await;
        });
        TestIssuer {
            jwks_url: format!("http://{address}/.well-known/jwks.json"),
            endpoint,
            server,
        }
    }

    /// Publishes these keys and no others.
    pub fn publish<'a>(&self, keys: impl IntoIterator<Item = &'a TestKey>) {
        self.answer(Answer::Body(jwks(keys)));
    }

    /// Switches how it answers from now on.
    pub fn answer(&self, answer: Answer) {
        self.endpoint.answer.send_replace(answer);
    }

    /// How often it was asked.
    pub fn fetches(&self) -> usize {
        *self.endpoint.fetches.borrow()
    }

    /// Returns when it has been asked that many times, answered or not.
    pub async fn reached(&self, fetches: usize) {
        let mut count = self.endpoint.fetches.subscribe();
        count
            .wait_for(|count| *count >= fetches)
            .await
            .expect("the endpoint lives");
    }
}

impl Drop for TestIssuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve_jwks(State(endpoint): State<Arc<Endpoint>>) -> Response {
    endpoint.fetches.send_modify(|count| *count += 1);
    let mut answer = endpoint.answer.subscribe();
    let answer = match answer.wait_for(|answer| *answer != Answer::Nothing).await {
        Ok(answer) => answer.clone(),
        Err(_) => return StatusCode::GONE.into_response(),
    };
    match answer {
        Answer::Body(body) => ([("content-type", "application/json")], body).into_response(),
        Answer::Status(status) => (
            StatusCode::from_u16(status).expect("a status"),
            "<html>out of order</html>",
        )
            .into_response(),
        Answer::Nothing => StatusCode::GONE.into_response(),
    }
}

/// The body of a plain HTTP GET, for tests that fetch without the broker's guarded client.
pub async fn fetch(url: &str) -> Result<Vec<u8>, String> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let url = url.parse().map_err(|_| "no URL".to_owned())?;
    let answer = client.get(url).await.map_err(|fault| fault.to_string())?;
    if !answer.status().is_success() {
        return Err(format!("status {}", answer.status()));
    }
    let body = answer.into_body().collect().await;
    Ok(body.map_err(|fault| fault.to_string())?.to_bytes().to_vec())
}
