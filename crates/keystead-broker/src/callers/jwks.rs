//! An issuer's public keys: which are taken out of a JWKS, and how a fetched set is kept.
//!
//! What always holds here: a key verifies one algorithm, which its type fits (RFC 8725 §3.1); a
//! weak, private, symmetric or encryption key is as if it were not there, and does not spoil the
//! good ones beside it.
//!
//! A fetched set is fresh for ten minutes, is refreshed in the background after that, and is
//! trusted for an hour at most while fetching fails. An unknown `kid` fetches at once, but once a
//! minute at most. One fetch runs at a time, in a task of its own; no lock is held meanwhile.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::BoxFuture;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use keystead_core::time::Time;
use serde_json::Value;
use tokio::sync::watch;

use super::Reason;

/// The largest JWKS that is read, in bytes.
pub const MAX_JWKS: usize = 256 * 1024;
const MAX_KEYS: usize = 100;
const FRESH_SECONDS: i64 = 10 * 60;
const TRUSTED_SECONDS: i64 = 3600;
const RETRY_SECONDS: i64 = 60;
/// Without any keys nobody gets in, so it is tried more often then.
const RETRY_WITHOUT_KEYS_SECONDS: i64 = 5;
const FETCH_DEADLINE: Duration = Duration::from_secs(5);

/// Fetches the JSON text of a JWKS. The broker's guarded client does it; tests have their own.
pub trait JwksFetch: Send + Sync {
    /// The body of a successful answer, of at most [`MAX_JWKS`] bytes.
    fn fetch<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Vec<u8>, FetchFailed>>;
}

/// Why nothing was fetched, for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FetchFailed(pub String);

/// A key, parsed once, and the algorithm it is for.
pub(super) struct Key {
    kid: Option<String>,
    algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

/// The keys of one issuer.
pub(super) struct KeySet(Vec<Arc<Key>>);

impl KeySet {
    /// The one key of a shared secret.
    pub(super) fn secret(secret: &[u8]) -> KeySet {
        KeySet(vec![Arc::new(Key {
            kid: None,
            algorithm: Algorithm::HS256,
            decoding: DecodingKey::from_secret(secret),
        })])
    }

    /// The keys of a JWKS that fit one of the algorithms; the others are skipped.
    pub(super) fn parse(bytes: &[u8], algorithms: &[Algorithm]) -> Result<KeySet, &'static str> {
        if bytes.len() > MAX_JWKS {
            return Err("larger than 256 KiB");
        }
        let set: Value = serde_json::from_slice(bytes).map_err(|_| "not JSON")?;
        let keys = set
            .get("keys")
            .and_then(Value::as_array)
            .ok_or("without an array `keys`")?;
        if keys.len() > MAX_KEYS {
            return Err("more than 100 keys");
        }
        Ok(KeySet(
            keys.iter()
                .filter_map(|jwk| read_key(jwk, algorithms))
                .map(Arc::new)
                .collect(),
        ))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The only key of that `kid` (or, without one, the only key at all) for the algorithm.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<Arc<Key>> {
        let mut fitting = self.0.iter().filter(|key| {
            key.algorithm == algorithm && kid.is_none_or(|kid| key.kid.as_deref() == Some(kid))
        });
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Some(key.clone()),
            _ => None,
        }
    }

    fn knows(&self, kid: &str) -> bool {
        self.0.iter().any(|key| key.kid.as_deref() == Some(kid))
    }
}

/// One JWK (RFC 7517, RFC 7518 §6, RFC 8037); `None` for one that is not taken.
fn read_key(jwk: &Value, algorithms: &[Algorithm]) -> Option<Key> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
    if jwk.get("use").is_some_and(|usage| usage != "sig") {
        return None;
    }
    if let Some(operations) = jwk.get("key_ops")
        && !operations.as_array()?.iter().any(|op| op == "verify")
    {
        return None;
    }
    // A private key in a public place is anyone's.
    if jwk.get("d").is_some() {
        return None;
    }
    let kid = match jwk.get("kid") {
        None => None,
        Some(kid) => Some(kid.as_str()?.to_owned()),
    };
    let (fits, decoding): (&[Algorithm], DecodingKey) = match (text("kty")?, text("crv")) {
        ("EC", Some("P-256")) => (&[Algorithm::ES256], ec_point(bytes("x")?, bytes("y")?, 32)?),
        ("EC", Some("P-384")) => (&[Algorithm::ES384], ec_point(bytes("x")?, bytes("y")?, 48)?),
        ("OKP", Some("Ed25519")) => {
            let x = bytes("x").filter(|x| x.len() == 32)?;
            (&[Algorithm::EdDSA], DecodingKey::from_ed_der(&x))
        }
        ("RSA", _) => {
            let (n, e) = (bytes("n")?, bytes("e")?);
            // Some providers write a sign byte first, against RFC 7518 §2.
            let (n, e) = (without_zeros(&n), without_zeros(&e));
            if !(2048..=8192).contains(&bits(n)) || !odd(n) {
                return None;
            }
            // 65537 and up; above 33 bits nothing is served but slowness.
            if !(17..=33).contains(&bits(e)) || !odd(e) {
                return None;
            }
            let decoding = DecodingKey::from_rsa_raw_components(n, e);
            (AlgorithmFamily::Rsa.algorithms(), decoding)
        }
        _ => return None,
    };
    let algorithm = match jwk.get("alg") {
        Some(named) => {
            let named: Algorithm = named.as_str()?.parse().ok()?;
            Some(named).filter(|named| fits.contains(named) && algorithms.contains(named))?
        }
        // An RSA key that does not say is for the first in the issuer's list that it fits.
        None => *algorithms.iter().find(|one| fits.contains(one))?,
    };
    Some(Key {
        kid,
        algorithm,
        decoding,
    })
}

/// An uncompressed point; whether it is on the curve is seen when it verifies.
fn ec_point(x: Vec<u8>, y: Vec<u8>, width: usize) -> Option<DecodingKey> {
    if x.len() != width || y.len() != width {
        return None;
    }
    Some(DecodingKey::from_ec_der(&[vec![4], x, y].concat()))
}

/// A big-endian number without its leading zeros.
fn without_zeros(number: &[u8]) -> &[u8] {
    let from = number.iter().position(|byte| *byte != 0);
    &number[from.unwrap_or(number.len())..]
}

/// The length of a number without leading zeros.
fn bits(number: &[u8]) -> usize {
    let unused = number.first().map_or(0, |byte| byte.leading_zeros());
    number.len() * 8 - unused as usize
}

fn odd(number: &[u8]) -> bool {
    number.last().is_some_and(|byte| byte & 1 == 1)
}

/// The keys behind a URL.
pub(super) struct Jwks {
    issuer: String,
    url: String,
    algorithms: Vec<Algorithm>,
    fetch: Arc<dyn JwksFetch>,
    held: ArcSwapOption<Fetched>,
    flight: Mutex<Flight>,
}

struct Fetched {
    keys: KeySet,
    at: Time,
}

/// The fetch that runs, if one does, and when the last ones began.
#[derive(Default)]
struct Flight {
    /// Closed when the task ends, in whatever way.
    running: Option<watch::Receiver<()>>,
    for_age: Option<Time>,
    for_kid: Option<Time>,
}

/// What a fetch is wanted for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    /// There is nothing that may be used.
    Keys,
    /// What there is should be renewed.
    Renewal,
    /// What there is lacks a `kid`.
    Kid,
}

impl Jwks {
    pub(super) fn new(
        issuer: &str,
        url: String,
        algorithms: Vec<Algorithm>,
        fetch: Arc<dyn JwksFetch>,
    ) -> Arc<Jwks> {
        Arc::new(Jwks {
            issuer: issuer.to_owned(),
            url,
            algorithms,
            fetch,
            held: ArcSwapOption::empty(),
            flight: Mutex::default(),
        })
    }

    /// The key, out of the set that is held or a newer one.
    pub(super) async fn find(
        self: &Arc<Jwks>,
        kid: Option<&str>,
        algorithm: Algorithm,
        now: Time,
    ) -> Result<Arc<Key>, Reason> {
        let held = match self.usable(now) {
            Some(held) => {
                if held.at.plus_seconds(FRESH_SECONDS) < now {
                    self.start(Want::Renewal, now);
                }
                held
            }
            None => {
                self.start_and_wait(Want::Keys, now).await;
                self.usable(now).ok_or(Reason::KeysUnavailable)?
            }
        };
        if let Some(key) = held.keys.find(kid, algorithm) {
            return Ok(key);
        }
        let newer_may_help = kid.is_some_and(|kid| !held.keys.knows(kid)) && held.at < now;
        if !newer_may_help {
            return Err(Reason::UnknownKey);
        }
        self.start_and_wait(Want::Kid, now).await;
        self.usable(now)
            .and_then(|held| held.keys.find(kid, algorithm))
            .ok_or(Reason::UnknownKey)
    }

    fn usable(&self, now: Time) -> Option<Arc<Fetched>> {
        self.held
            .load_full()
            .filter(|held| now <= held.at.plus_seconds(TRUSTED_SECONDS))
    }

    async fn start_and_wait(self: &Arc<Jwks>, want: Want, now: Time) {
        if let Some(mut running) = self.start(want, now) {
            // Nothing is ever sent: the channel closes when the task has ended.
            let _ = running.changed().await;
        }
    }

    /// Joins the fetch that runs, or starts one if it is time.
    fn start(self: &Arc<Jwks>, want: Want, now: Time) -> Option<watch::Receiver<()>> {
        let mut flight = self.flight.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = &flight.running
            && running.has_changed().is_ok()
        {
            return Some(running.clone());
        }
        let (last, pause) = match want {
            Want::Keys => (&mut flight.for_age, RETRY_WITHOUT_KEYS_SECONDS),
            Want::Renewal => (&mut flight.for_age, RETRY_SECONDS),
            Want::Kid => (&mut flight.for_kid, RETRY_SECONDS),
        };
        if last.is_some_and(|last| now < last.plus_seconds(pause)) {
            return None;
        }
        *last = Some(now);
        let (done, running) = watch::channel(());
        let jwks = self.clone();
        tokio::spawn(async move {
            jwks.fetch_at(now).await;
            drop(done);
        });
        flight.running = Some(running.clone());
        Some(running)
    }

    async fn fetch_at(&self, now: Time) {
        let fetched = tokio::time::timeout(FETCH_DEADLINE, self.fetch.fetch(&self.url)).await;
        let parsed = match fetched {
            Err(_) => Err("no answer in time".to_owned()),
            Ok(Err(FetchFailed(fault))) => Err(fault),
            Ok(Ok(bytes)) => KeySet::parse(&bytes, &self.algorithms).map_err(str::to_owned),
        };
        match parsed {
            Ok(keys) => self.held.store(Some(Arc::new(Fetched { keys, at: now }))),
            Err(fault) => {
                tracing::warn!(
                    issuer = self.issuer,
                    fault,
                    "the issuer's keys were not fetched"
                );
            }
        }
    }
}
