//! Cookies, which only pages and what begins at the API for a browser have.
//!
//! What always holds: over TLS a cookie of ours is bound to this host (`__Host-`) and `Secure`; no
//! script reads it; it goes along on no form of another site. A request that sends one twice has
//! none: which is meant would be a guess.

use http::HeaderMap;
use http::header::{COOKIE, HeaderValue};
use keystead_broker::Error;
use zeroize::Zeroizing;

/// A cookie by its plain name.
#[derive(Clone, Copy)]
pub(crate) struct Cookie {
    /// Without `__Host-`.
    pub(crate) name: &'static str,
    /// Whether browsers reach this installation over TLS.
    pub(crate) secure: bool,
    /// When it goes along.
    pub(crate) reach: Reach,
}

/// When a cookie goes along.
#[derive(Clone, Copy)]
pub(crate) enum Reach {
    /// From pages of our own alone.
    Own,
    /// Also when another site, such as a provider's, sends the browser here.
    Return,
    /// Also in a frame of another site, and then in that site's frames alone.
    Frame,
}

impl Reach {
    fn text(self, secure: bool) -> &'static str {
        match self {
            Reach::Return => "; SameSite=Lax",
            // Without TLS no browser takes it for another site's frame.
            Reach::Frame if secure => "; SameSite=None; Partitioned",
            Reach::Own | Reach::Frame => "; SameSite=Strict",
        }
    }
}

impl Cookie {
    fn full_name(self) -> String {
        let prefix = if self.secure { "__Host-" } else { "" };
        format!("{prefix}{}", self.name)
    }

    /// Its value on a request.
    pub(crate) fn read(self, headers: &HeaderMap) -> Option<Zeroizing<String>> {
        let name = self.full_name();
        let lines = headers.get_all(COOKIE).iter();
        let pairs = lines
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='));
        let mut values = pairs.filter(|(known, _)| *known == name);
        match (values.next(), values.next()) {
            (Some((_, value)), None) => Some(Zeroizing::new(value.to_owned())),
            _ => None,
        }
    }

    /// A secret of the browser's own: the one it has, so that several pages at once share it, else
    /// a new one.
    pub(crate) fn known_or_new(self, headers: &HeaderMap) -> Result<Zeroizing<String>, Error> {
        let ours = |value: &Zeroizing<String>| {
            value.len() == 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        if let Some(known) = self.read(headers).filter(ours) {
            return Ok(known);
        }
        let mut value = Zeroizing::new(String::with_capacity(64));
        for byte in keystead_broker::random::<32>()? {
            for nibble in [byte >> 4, byte & 15] {
                value.extend(char::from_digit(u32::from(nibble), 16));
            }
        }
        Ok(value)
    }

    /// What sets it, for so many seconds; `None` where the value is no cookie's.
    pub(crate) fn set(self, value: &str, seconds: u32) -> Option<HeaderValue> {
        let name = self.full_name();
        let secure = if self.secure { "; Secure" } else { "" };
        let reach = self.reach.text(self.secure);
        let text = Zeroizing::new(format!(
            "{name}={value}; Path=/; Max-Age={seconds}; HttpOnly{reach}{secure}"
        ));
        let plain = value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        let mut header = HeaderValue::from_str(&text).ok().filter(|_| plain)?;
        header.set_sensitive(true);
        Some(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Cookie = Cookie {
        name: "keystead-oauth",
        secure: false,
        reach: Reach::Return,
    };
    const SECURE: Cookie = Cookie {
        secure: true,
        ..PLAIN
    };

    fn sent(lines: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, HeaderValue::from_static(line));
        }
        headers
    }

    #[test]
    fn a_cookie_over_tls_is_bound_to_the_host() {
        let set = SECURE.set("value", 600).unwrap();
        assert_eq!(
            set.to_str().unwrap(),
            "__Host-keystead-oauth=value; Path=/; Max-Age=600; HttpOnly; SameSite=Lax; Secure"
        );
        assert!(set.is_sensitive());
        // What another site could plant without the prefix is not it.
        assert!(SECURE.read(&sent(&["keystead-oauth=planted"])).is_none());
        assert!(PLAIN.set("a; Domain=other", 1).is_none());
    }

    #[test]
    fn a_cookie_that_is_sent_twice_is_none() {
        let read = |lines| PLAIN.read(&sent(lines)).map(|value| value.to_string());
        let one = read(&["a=b; keystead-oauth=value; c=d"]);
        assert_eq!(one.as_deref(), Some("value"));
        assert_eq!(read(&["keystead-oauth=one; keystead-oauth=two"]), None);
        assert_eq!(read(&["keystead-oauth=one", "keystead-oauth=two"]), None);
        assert_eq!(read(&["xkeystead-oauth=one"]), None);
        assert_eq!(read(&[]), None);
    }
}
