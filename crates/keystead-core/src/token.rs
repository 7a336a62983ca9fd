//! What a caller presents: reads the text of a bearer token before anything is looked up or verified.
//!
//! ```text
//! bearer = kss_… | kso_…       a key of ours             (key)
//!        | head.payload.sig    a JWT, compact JWS only   (jwt)
//! ```
//!
//! What always holds here: nothing longer than [`MAX_BEARER`] and nothing outside ASCII is looked
//! at; what reads has one spelling only; a text that does not read says nothing of why to the
//! outside.
//!
//! Deliberately not here: signatures, issuers, key lookup (broker).

mod json;
mod jwt;
mod key;

pub use jwt::{BadJwt, Jwt, MAX_KID};
pub use key::{InvalidKey, KeyKind, PlainKey};

/// The longest bearer token that is looked at, in bytes.
pub const MAX_BEARER: usize = 16 * 1024;

/// What kind of token a bearer text is, by its form alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presented {
    /// A key of ours whose checksum fits. Whether it exists is the store's to say.
    Key(KeyKind),
    /// Three segments with dots between. Whether they read is [`Jwt::read`]'s to say.
    Jwt,
    /// Nothing that is known here.
    Unknown,
}

impl Presented {
    /// Classifies a bearer text. Reads no JSON and allocates nothing.
    pub fn of(bearer: &str) -> Presented {
        if bearer.len() > MAX_BEARER || !bearer.is_ascii() {
            return Presented::Unknown;
        }
        match key::check(bearer) {
            Ok(kind) => Presented::Key(kind),
            Err(InvalidKey) if bearer.bytes().filter(|byte| *byte == b'.').count() == 2 => {
                Presented::Jwt
            }
            Err(InvalidKey) => Presented::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_is_classified_by_its_form() {
        let service = PlainKey::new(KeyKind::Service, [7; 32]);
        let operator = PlainKey::new(KeyKind::Operator, [7; 32]);
        let at_cap = format!("a.b.{}", "c".repeat(MAX_BEARER - 4));
        let over_cap = format!("a.b.{}", "c".repeat(MAX_BEARER - 3));
        let damaged = format!("{}.a.b", service.expose());
        for (bearer, kind) in [
            (service.expose(), Presented::Key(KeyKind::Service)),
            (operator.expose(), Presented::Key(KeyKind::Operator)),
            ("a.b.c", Presented::Jwt),
            (&at_cap, Presented::Jwt),
            (&over_cap, Presented::Unknown),
            (&damaged, Presented::Jwt),
            ("a.b", Presented::Unknown),
            ("a.b.c.d", Presented::Unknown),
            ("a.b.c.d.e", Presented::Unknown),
            ("a.b.ç", Presented::Unknown),
            ("ksa_canary", Presented::Unknown),
            ("", Presented::Unknown),
        ] {
            assert_eq!(Presented::of(bearer), kind, "{bearer:.20}");
        }
    }
}
