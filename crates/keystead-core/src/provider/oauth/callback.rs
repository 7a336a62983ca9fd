//! What a provider signs of the answer that a browser brings, and what it repeats in it.
//!
//! What always holds: a signature covers all of the query but itself, so also the code and the
//! state that are used; it is compared in constant time; a parameter that is there twice is none.

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use super::ask::App;
use crate::provider::Config;
use crate::provider::model::Provider;
use crate::provider::template::{Into, push_encoded};

/// Why an answer is not the provider's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallbackFault {
    /// It is not signed, or not by the app's secret, or of another state or code.
    #[error("hmac")]
    Signature,
    /// It speaks of something else than was asked.
    #[error("params")]
    Parameter,
}

/// The answer that a browser brought.
#[derive(Clone, Copy)]
pub struct Answer<'a> {
    /// The whole query, as it came; `None` where whoever handed it in did not say.
    pub query: Option<&'a str>,
    /// The state that is taken.
    pub state: &'a str,
    /// The code that is exchanged.
    pub code: &'a str,
}

/// Whether an answer is the provider's, where the file says how that is seen.
///
/// # Errors
/// Why it is not.
pub fn check_callback(
    provider: &Provider,
    config: &Config,
    app: &App,
    answer: Answer<'_>,
) -> Result<(), CallbackFault> {
    let Some(oauth) = provider.oauth() else {
        return Ok(());
    };
    if oauth.callback_hmac.is_none() && oauth.callback_params.is_empty() {
        return Ok(());
    }
    let query = answer.query.ok_or(CallbackFault::Signature)?;
    let params = read(query);
    for (name, used) in [("state", answer.state), ("code", answer.code)] {
        if one(&params, name) != Some(used) {
            return Err(CallbackFault::Signature);
        }
    }
    if let Some(name) = &oauth.callback_hmac {
        let tag = one(&params, name).and_then(unhex);
        let (tag, secret) = tag
            .zip(app.client_secret.as_ref())
            .ok_or(CallbackFault::Signature)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        hmac::verify(&key, signed(&params, name).as_bytes(), &tag)
            .map_err(|_| CallbackFault::Signature)?;
    }
    for (name, template) in &oauth.callback_params {
        let expected = config.fill(provider, template, Into::Plain);
        if one(&params, name) != expected.ok().as_deref() {
            return Err(CallbackFault::Parameter);
        }
    }
    Ok(())
}

type Params = Vec<(String, Zeroizing<String>)>;

fn read(query: &str) -> Params {
    url::form_urlencoded::parse(query.as_bytes())
        .map(|(name, value)| (name.into_owned(), Zeroizing::new(value.into_owned())))
        .collect()
}

/// The parameter of that name, if it is there once.
fn one<'p>(params: &'p Params, name: &str) -> Option<&'p str> {
    let mut found = params.iter().filter(|(other, _)| other == name);
    match (found.next(), found.next()) {
        (Some((_, value)), None) => Some(value),
        _ => None,
    }
}

/// What is signed: the other parameters by their names, as a query.
fn signed(params: &Params, name: &str) -> Zeroizing<String> {
    let mut others: Vec<_> = params.iter().filter(|(other, _)| other != name).collect();
    others.sort_unstable_by(|a, b| (&a.0, a.1.as_str()).cmp(&(&b.0, b.1.as_str())));
    let mut text = Zeroizing::new(String::new());
    for (name, value) in others {
        if !text.is_empty() {
            text.push('&');
        }
        push_encoded(&mut text, name.as_bytes());
        text.push('=');
        push_encoded(&mut text, value.as_bytes());
    }
    text
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::provider::Catalogue;

    /// The example of Shopify's documentation.
    const SHOP: &str = "code=0907a61c0c8d55e99db179b68161bc00&hmac=700e2dadb827fcc8609e9d5ce208b2e9cdaab9df07390d2cbca10d7c328fc4bf&shop=some-shop.myshopify.com&state=0.6784241404160823&timestamp=1337178173";

    fn checked(query: Option<&str>, secret: Option<&str>, shop: &str) -> Result<(), CallbackFault> {
        let catalogue = Catalogue::embedded().unwrap();
        let provider = catalogue.get("shopify").unwrap();
        let (config, _) = Config::parse(provider, &json!({ "shop": shop })).unwrap();
        let app = App {
            client_id: "app".into(),
            client_secret: secret.map(|secret| Zeroizing::new(secret.into())),
        };
        let answer = Answer {
            query,
            state: "0.6784241404160823",
            code: "0907a61c0c8d55e99db179b68161bc00",
        };
        check_callback(provider, &config, &app, answer)
    }

    #[test]
    fn an_answer_is_taken_by_its_signature_in_whatever_order() {
        assert_eq!(checked(Some(SHOP), Some("hush"), "some-shop"), Ok(()));
        let mut parts: Vec<_> = SHOP.split('&').collect();
        parts.reverse();
        let turned = parts.join("&");
        assert_eq!(checked(Some(&turned), Some("hush"), "some-shop"), Ok(()));
    }

    #[test]
    fn an_answer_whose_signature_is_not_its_own_is_refused() {
        let refused = |query: Option<&str>, secret| {
            assert_eq!(
                checked(query, secret, "some-shop"),
                Err(CallbackFault::Signature),
                "{query:?}"
            );
        };
        refused(None, Some("hush"));
        refused(Some(SHOP), Some("hush2"));
        refused(Some(SHOP), None);
        for (old, new) in [
            ("hmac=70", "hmac=71"),
            ("hmac=70", "hmac="),
            ("hmac=70", "hmac=+0"),
            ("hmac=", "mac="),
            ("shop=some", "shop=other"),
            ("1337178173", "1337178174"),
            ("&timestamp=1337178173", ""),
            ("code=0907", "code=0908"),
            ("state=0.6", "state=0.7"),
            ("&shop=", "&state=0.6784241404160823&shop="),
            ("&shop=", "&more=1&shop="),
        ] {
            refused(Some(&SHOP.replace(old, new)), Some("hush"));
        }
    }

    #[test]
    fn an_answer_of_another_shop_is_refused() {
        assert_eq!(
            checked(Some(SHOP), Some("hush"), "other-shop"),
            Err(CallbackFault::Parameter)
        );
    }
}
