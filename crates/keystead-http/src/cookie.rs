//! Cookies, which only pages and what begins at the API for a browser have.
//!
//! What always holds: over TLS a cookie of ours is bound to this host (`__Host-`) and `Secure`; no
//! script reads it; it goes along on the way back from a provider (`Lax`), and on no form of
//! another site. A request that sends one twice has none: which is meant would be a guess.

use http::HeaderMap;
use http::header::{COOKIE, HeaderValue};
use zeroize::Zeroizing;

/// A cookie by its plain name.
#[derive(Clone, Copy)]
pub(crate) struct Cookie {
    /// Without `__Host-`.
    pub(crate) name: &'static str,
    /// Whether browsers reach this installation over TLS.
    pub(crate) secure: bool,
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

    /// What sets it, for so many seconds; `None` where the value is no cookie's.
    pub(crate) fn set(self, value: &str, seconds: u32) -> Option<HeaderValue> {
        let name = self.full_name();
        let secure = if self.secure { "; Secure" } else { "" };
        let text = Zeroizing::new(format!(
            "{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"
        ));
        let plain = value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
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
