//! The development issuer: mints tokens for `keystead dev` and `keystead token mint`.
//!
//! Tokens are ES256, shaped like those of a real identity provider, and go through the same
//! verification. The key is the caller's to keep; it is never configured on a production server.

use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keystead_core::action::Role;
use keystead_core::time::Time;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::hash::sha256;

use super::{IssuerSettings, KeySource};

/// The development issuer's key could not be made, read or used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the development issuer's key is not an ES256 key in PKCS#8, or cannot sign")]
pub struct DevKeyFault;

/// An issuer of our own, for development. Cannot be printed or copied.
pub struct DevIssuer {
    pkcs8: Zeroizing<Vec<u8>>,
    key: EcdsaKeyPair,
    kid: String,
}

impl DevIssuer {
    /// The `iss` of its tokens, and its name.
    pub const ISSUER: &'static str = "keystead-dev";
    /// The `aud` of its tokens.
    pub const AUDIENCE: &'static str = "keystead";

    /// Makes a new key.
    pub fn generate() -> Result<DevIssuer, DevKeyFault> {
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
                .map_err(|_| DevKeyFault)?;
        DevIssuer::from_pkcs8(Zeroizing::new(pkcs8.as_ref().to_vec()))
    }

    /// Takes up a key that was kept.
    pub fn from_pkcs8(pkcs8: Zeroizing<Vec<u8>>) -> Result<DevIssuer, DevKeyFault> {
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8)
            .map_err(|_| DevKeyFault)?;
        let hash = sha256(&[key.public_key().as_ref()]);
        let kid = URL_SAFE_NO_PAD.encode(&hash[..12]);
        Ok(DevIssuer { pkcs8, key, kid })
    }

    /// The key, to be kept. Secret.
    pub fn expose_pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The public key, as the JSON text of a JWKS.
    pub fn jwks(&self) -> String {
        // An uncompressed point: 4, x, y.
        let (x, y) = self.key.public_key().as_ref()[1..].split_at(32);
        json!({"keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.kid,
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        }]})
        .to_string()
    }

    /// The settings under which its tokens verify.
    pub fn settings(&self) -> IssuerSettings {
        IssuerSettings {
            tenant_claim: Some("app_metadata.tenant_id".into()),
            role_claim: Some("app_metadata.role".into()),
            ..IssuerSettings::new(
                Self::ISSUER,
                Self::ISSUER,
                &[Self::AUDIENCE],
                &["ES256"],
                KeySource::Jwks(self.jwks()),
            )
        }
    }

    /// A token for that user, in that tenant and role if they are named.
    pub fn mint(
        &self,
        subject: &str,
        tenant: Option<&str>,
        role: Option<Role>,
        lifetime: Duration,
        now: Time,
    ) -> Result<String, DevKeyFault> {
        let seconds = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": self.kid});
        let claims = json!({
            "iss": Self::ISSUER, "aud": Self::AUDIENCE, "sub": subject,
            "iat": now.seconds(), "exp": now.plus_seconds(seconds).seconds(),
            "app_metadata": {"tenant_id": tenant, "role": role},
        });
        let encode = |part: Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = self
            .key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .map_err(|_| DevKeyFault)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
