//! Verifies a JWT: form, issuer, key, signature, claims, in that order.
//!
//! What always holds here: nothing of the claims but `iss` is looked at before the signature
//! holds, and `iss` only to find the issuer; times are integers, compared with the given time.
//!
//! A verified token is kept by the SHA-256 of its text for a minute, and never beyond `exp`: a hit
//! costs one hash and reads no JSON.

use std::collections::HashMap;
use std::sync::Arc;

use keystead_core::action::Role;
use keystead_core::time::Time;
use keystead_core::token::Jwt;
use quick_cache::sync::Cache;
use serde_json::{Map, Value};

use crate::hash::sha256;

use super::issuer::{ClaimPath, Issuer, Keys};
use super::{InvalidIssuer, IssuerSettings, JwksFetch, Reason, Unproven};

const KEPT_TOKENS: usize = 10_000;
const KEPT_SECONDS: i64 = 60;
/// The longest subject or tenant, in bytes.
const MAX_NAME: usize = 255;

/// What a token proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedToken {
    /// The issuer's configured name.
    pub issuer: Arc<str>,
    /// `sub`; `service_role` for a service role without one.
    pub subject: String,
    /// What the issuer's `tenant_claim` says, as the issuer says it.
    pub tenant_claim: Option<String>,
    /// What the issuer's `role_claim` says, or its default role; none for a service role.
    pub role: Option<Role>,
    /// Whether it is a service, not a user.
    pub service_role: bool,
    /// `exp`.
    pub expires_at: Time,
}

/// The configured issuers, and the tokens of theirs that were verified lately.
pub struct Verifier {
    issuers: HashMap<String, Issuer>,
    verified: Cache<[u8; 32], (Arc<VerifiedToken>, Time)>,
}

impl Verifier {
    /// Checks the settings of all issuers. No two may have the same name or `iss`.
    pub fn new(
        settings: Vec<IssuerSettings>,
        fetch: Arc<dyn JwksFetch>,
    ) -> Result<Verifier, InvalidIssuer> {
        let mut issuers: HashMap<String, Issuer> = HashMap::new();
        for settings in settings {
            let url = settings.issuer.clone();
            let issuer = Issuer::new(settings, &fetch)?;
            if issuers.contains_key(&url) || issuers.values().any(|other| other.name == issuer.name)
            {
                return Err(InvalidIssuer {
                    name: issuer.name.to_string(),
                    fault: "another issuer has the same name or `iss`".into(),
                });
            }
            issuers.insert(url, issuer);
        }
        Ok(Verifier {
            issuers,
            verified: Cache::new(KEPT_TOKENS),
        })
    }

    /// The names of the configured issuers.
    pub fn issuer_names(&self) -> impl Iterator<Item = &str> {
        self.issuers.values().map(|issuer| &*issuer.name)
    }

    /// What the token proves at that time.
    pub async fn verify(&self, token: &str, now: Time) -> Result<Arc<VerifiedToken>, Unproven> {
        let hash = sha256(&[token.as_bytes()]);
        if let Some((verified, until)) = self.verified.get(&hash)
            && now < until
        {
            return Ok(verified);
        }
        let verified = Arc::new(self.verify_anew(token, now).await?);
        let until = verified.expires_at.min(now.plus_seconds(KEPT_SECONDS));
        if now < until {
            self.verified.insert(hash, (verified.clone(), until));
        }
        Ok(verified)
    }

    async fn verify_anew(&self, token: &str, now: Time) -> Result<VerifiedToken, Reason> {
        let jwt = Jwt::read(token).map_err(|_| Reason::Malformed)?;
        let issuer = jwt
            .claims
            .get("iss")
            .and_then(Value::as_str)
            .and_then(|iss| self.issuers.get(iss))
            .ok_or(Reason::UnknownIssuer)?;
        let algorithm = jwt
            .algorithm
            .parse()
            .ok()
            .filter(|algorithm| issuer.algorithms.contains(algorithm))
            .ok_or(Reason::Algorithm)?;
        let kid = jwt.kid.as_deref();
        let key = match &issuer.keys {
            Keys::Fetched(jwks) => jwks.find(kid, algorithm, now).await?,
            Keys::Fixed(keys) => keys.find(kid, algorithm).ok_or(Reason::UnknownKey)?,
            Keys::Secret(keys) => keys.find(None, algorithm).ok_or(Reason::UnknownKey)?,
        };
        let holds = jsonwebtoken::crypto::verify(
            jwt.signature,
            jwt.signed.as_bytes(),
            &key.decoding,
            algorithm,
        );
        if !matches!(holds, Ok(true)) {
            return Err(Reason::BadSignature);
        }
        issuer.read_claims(&jwt.claims, now.seconds())
    }
}

impl Issuer {
    /// What proven claims say at that second.
    fn read_claims(&self, claims: &Map<String, Value>, now: i64) -> Result<VerifiedToken, Reason> {
        let expires = integer(claims, "exp")?.ok_or(Reason::Claims)?;
        let issued = integer(claims, "iat")?;
        // Supabase leaves `nbf` out, so it is checked where it is there.
        let not_before = integer(claims, "nbf")?;
        if expires.saturating_add(self.leeway) <= now {
            return Err(Reason::Expired);
        }
        if [issued, not_before]
            .into_iter()
            .flatten()
            .any(|from| from > now.saturating_add(self.leeway))
        {
            return Err(Reason::NotYetValid);
        }
        if expires.saturating_sub(issued.unwrap_or(now)) > self.max_lifetime {
            return Err(Reason::Lifetime);
        }

        let role = string(claims, "role")?;
        let service_role = role == Some("service_role");
        if role == Some("anon") {
            return Err(Reason::Anonymous);
        }
        if service_role && !self.allow_service_role {
            return Err(Reason::ServiceRole);
        }
        match claims.get("is_anonymous") {
            None | Some(Value::Null | Value::Bool(false)) => {}
            Some(Value::Bool(true)) if self.allow_anonymous => {}
            Some(Value::Bool(true)) => return Err(Reason::Anonymous),
            Some(_) => return Err(Reason::Claims),
        }
        if claims.get("client_id").is_some_and(|id| !id.is_null())
            && !self.allow_third_party_clients
        {
            return Err(Reason::ThirdPartyClient);
        }

        // A service role's token may name nobody, but where it names somebody it has to be us.
        match claims.get("aud") {
            None if service_role => {}
            Some(audience) if self.is_named_by(audience) => {}
            _ => return Err(Reason::Audience),
        }
        let subject = match claims.get("sub") {
            None if service_role => "service_role".to_owned(),
            subject => subject.and_then(name).ok_or(Reason::Claims)?,
        };
        let find = |path: &Option<ClaimPath>| path.as_ref().and_then(|path| path.find(claims));
        let tenant_claim = match find(&self.tenant_claim) {
            None => None,
            Some(tenant) => Some(name(tenant).ok_or(Reason::Claims)?),
        };
        let role = match find(&self.role_claim) {
            _ if service_role => None,
            None => self.default_role,
            Some(role) => {
                let role = role.as_str().and_then(|role| role.parse().ok());
                Some(role.ok_or(Reason::UnknownRole)?)
            }
        };
        Ok(VerifiedToken {
            issuer: self.name.clone(),
            subject,
            tenant_claim,
            role,
            service_role,
            expires_at: Time::from_seconds(expires),
        })
    }

    /// Whether `aud` is one of ours, or a list of strings with one of ours in it.
    fn is_named_by(&self, audience: &Value) -> bool {
        let ours = |one: &Value| self.audience.iter().any(|our| one == our.as_str());
        match audience {
            Value::Array(list) => list.iter().all(Value::is_string) && list.iter().any(ours),
            one => ours(one),
        }
    }
}

/// A claim that is an integer if it is there.
fn integer(claims: &Map<String, Value>, name: &str) -> Result<Option<i64>, Reason> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_i64().map(Some).ok_or(Reason::Claims),
    }
}

/// A claim that is a string if it is there; `null` counts as none.
fn string<'a>(claims: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, Reason> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_str().map(Some).ok_or(Reason::Claims),
    }
}

/// A name that can stand in an entry.
fn name(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    let fits = (1..=MAX_NAME).contains(&text.len()) && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
}
