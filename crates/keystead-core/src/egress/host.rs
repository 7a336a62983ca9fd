//! Host names and the patterns that name them.
//!
//! What always holds here: two hosts are compared only in their canonical form (lower-case ASCII,
//! no trailing dot, strict address literals), and a pattern never reaches across a registrable name.

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not a host, or not a host pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostFault {
    /// Nothing there, or longer than DNS allows.
    #[error("a host has 1 to 253 characters")]
    Length,
    /// A label is empty, too long, or holds something other than letters, digits and inner hyphens.
    #[error(
        "a host is made of labels of letters, digits and inner hyphens, without a trailing dot"
    )]
    Label,
    /// Looks like an address, and is not written in the one strict form.
    #[error("an address is written as 192.0.2.1 or [2001:db8::1], in its shortest form")]
    Address,
    /// Not a valid internationalised name.
    #[error("not a valid internationalised name")]
    Idna,
    /// A wildcard must be the whole first label of a pattern, above a suffix that is one owner's.
    #[error("a wildcard is `*.` above at least two labels that belong to one owner")]
    Wildcard,
}

/// The one form in which hosts are compared: lower-case ASCII; addresses as [`Ipv4Addr`] and
/// bracketed [`Ipv6Addr`] print them. Allocates only if `host` was not in that form.
///
/// # Errors
/// [`HostFault`] for anything that is not a bare host: ports, user info and trailing dots included.
pub fn canonical_host(host: &str) -> Result<Cow<'_, str>, HostFault> {
    if host.is_empty() || host.len() > 253 {
        return Err(HostFault::Length);
    }
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or(HostFault::Address)?;
        let address: Ipv6Addr = inner.parse().map_err(|_| HostFault::Address)?;
        let written = format!("[{address}]");
        // One address, one text: `[::0001]` would slip past a comparison of strings.
        return if written == host {
            Ok(Cow::Borrowed(host))
        } else {
            Err(HostFault::Address)
        };
    }
    let host: Cow<'_, str> = if !host.is_ascii() {
        Cow::Owned(to_ascii(host)?)
    } else if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    };
    // Again: the ASCII form of a name is longer than what was read.
    if host.len() > 253 {
        return Err(HostFault::Length);
    }
    let mut last = "";
    let mut encoded = false;
    for label in host.split('.') {
        check_label(label)?;
        encoded |= label.starts_with("xn--");
        last = label;
    }
    // WHATWG reads a name whose last label is a number as an IPv4 address in one of many notations.
    if last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") {
        return match host.parse::<Ipv4Addr>() {
            Ok(_) => Ok(host),
            Err(_) => Err(HostFault::Address),
        };
    }
    if encoded && to_ascii(&host)? != *host {
        return Err(HostFault::Idna);
    }
    Ok(host)
}

fn to_ascii(host: &str) -> Result<String, HostFault> {
    match url::Host::parse(host) {
        Ok(url::Host::Domain(name)) => Ok(name),
        _ => Err(HostFault::Idna),
    }
}

fn check_label(label: &str) -> Result<(), HostFault> {
    let bytes = label.as_bytes();
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    if bytes.is_empty()
        || bytes.len() > 63
        || !bytes.iter().all(inner)
        || bytes.starts_with(b"-")
        || bytes.ends_with(b"-")
    {
        return Err(HostFault::Label);
    }
    Ok(())
}

/// One host (`api.openai.com`), or all hosts below a name (`*.googleapis.com`, which is not
/// `googleapis.com` itself). An address is only ever named exactly.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPattern {
    below: bool,
    name: Box<str>,
}

impl HostPattern {
    /// Reads a pattern. Ports, user info, trailing dots and other uses of `*` are refused.
    ///
    /// # Errors
    /// [`HostFault`]; `Wildcard` also for suffixes such as `co.uk` under which anyone registers.
    pub fn parse(text: &str) -> Result<Self, HostFault> {
        let (below, name) = match text.strip_prefix("*.") {
            Some(suffix) => (true, canonical_host(suffix)?),
            None if text.contains('*') => return Err(HostFault::Wildcard),
            None => (false, canonical_host(text)?),
        };
        if below && !is_one_owners(&name) {
            return Err(HostFault::Wildcard);
        }
        Ok(Self {
            below,
            name: name.into(),
        })
    }

    /// Whether `host` (without a port) is named by this pattern. What is not a host matches nothing.
    pub fn matches(&self, host: &str) -> bool {
        let Ok(host) = canonical_host(host) else {
            return false;
        };
        if !self.below {
            return *host == *self.name;
        }
        host.strip_suffix(&*self.name)
            .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
    }

    /// The host itself if the pattern names exactly one, in canonical form.
    pub fn exact(&self) -> Option<&str> {
        (!self.below).then_some(&*self.name)
    }
}

/// At least two labels, no address, and not the kind of second level that a country sells names
/// under. Not the whole public suffix list: patterns are written by the operator, and the hosts of
/// a platform (`*.supabase.co`) are wanted.
fn is_one_owners(suffix: &str) -> bool {
    const SOLD: [&str; 12] = [
        "ac", "co", "com", "edu", "go", "gob", "gov", "mil", "ne", "net", "or", "org",
    ];
    let labels: Vec<&str> = suffix.split('.').collect();
    let is_address = suffix.parse::<Ipv4Addr>().is_ok() || suffix.starts_with('[');
    match labels[..] {
        _ if is_address => false,
        [] | [_] => false,
        [second, top] => !(top.len() == 2 && SOLD.contains(&second)),
        _ => true,
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.below { "*." } else { "" }, self.name)
    }
}

impl FromStr for HostPattern {
    type Err = HostFault;
    fn from_str(text: &str) -> Result<Self, HostFault> {
        Self::parse(text)
    }
}

impl TryFrom<String> for HostPattern {
    type Error = HostFault;
    fn try_from(text: String) -> Result<Self, HostFault> {
        Self::parse(&text)
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Deserialize)]
    struct Case {
        pattern: String,
        matches: Vec<String>,
        #[serde(rename = "not")]
        misses: Vec<String>,
    }
    #[derive(Deserialize)]
    struct Vectors {
        patterns: Vec<Case>,
        invalid: Vec<String>,
    }

    #[test]
    fn the_host_vectors_hold() {
        let text = include_str!("../../../../vectors/hosts/patterns.json");
        let vectors: Vectors = serde_json::from_str(text).unwrap();
        for case in vectors.patterns {
            let pattern = HostPattern::parse(&case.pattern).unwrap();
            for host in case.matches {
                assert!(pattern.matches(&host), "{pattern} must match {host:?}");
            }
            for host in case.misses {
                assert!(!pattern.matches(&host), "{pattern} must not match {host:?}");
            }
        }
        for text in vectors.invalid {
            assert!(
                HostPattern::parse(&text).is_err(),
                "{text:?} must be refused"
            );
        }
    }

    #[test]
    fn a_name_that_is_too_long_in_ascii_is_refused() {
        let short_to_read = ["ü"; 40].join(".");
        assert!(short_to_read.len() <= 253);
        assert_eq!(canonical_host(&short_to_read), Err(HostFault::Length));
    }

    #[test]
    fn a_pattern_prints_as_it_was_read() {
        for text in ["api.openai.com", "*.googleapis.com", "127.0.0.1", "[::1]"] {
            assert_eq!(HostPattern::parse(text).unwrap().to_string(), text);
        }
        let pattern = HostPattern::parse("*.BÜCHER.example").unwrap();
        assert_eq!(pattern.to_string(), "*.xn--bcher-kva.example");
    }

    fn label() -> impl Strategy<Value = String> {
        "[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?".prop_filter("not punycode", |l| !l.starts_with("xn--"))
    }
    fn registrable() -> impl Strategy<Value = String> {
        (label(), "[a-z]{3,6}").prop_map(|(name, top)| format!("{name}.{top}"))
    }

    proptest! {
        #[test]
        fn a_pattern_never_matches_below_another_registrable_name(
            owner in registrable(), other in registrable(), sub in label(), glue in "[.@:/#?%\\\\-]?",
        ) {
            prop_assume!(owner != other);
            for text in [owner.clone(), format!("*.{owner}"), format!("{sub}.{owner}")] {
                let pattern = HostPattern::parse(&text).unwrap();
                for host in [
                    other.clone(),
                    format!("{sub}.{other}"),
                    format!("{owner}.{other}"),
                    format!("{owner}{glue}{sub}.{other}"),
                    format!("{sub}.{owner}.{other}"),
                ] {
                    prop_assert!(!pattern.matches(&host), "{pattern} matched {host}");
                }
                if !glue.is_empty() && glue != "." && glue != "-" {
                    let host = format!("{}{glue}{}", other, owner);
                    prop_assert!(!pattern.matches(&host), "{pattern} matched {}", host);
                }
            }
        }

        #[test]
        fn a_wildcard_matches_whole_labels_in_any_case(owner in registrable(), sub in label()) {
            let pattern = HostPattern::parse(&format!("*.{owner}")).unwrap();
            let below = format!("{sub}.{owner}");
            let deeper = format!("a.{below}").to_uppercase();
            let glued = format!("{sub}{owner}");
            prop_assert!(pattern.matches(&below));
            prop_assert!(pattern.matches(&deeper));
            prop_assert!(!pattern.matches(&owner));
            prop_assert!(!pattern.matches(&glued));
        }

        #[test]
        fn no_text_makes_the_host_parser_panic_and_canonical_is_a_fixed_point(text in "\\PC{0,40}") {
            if let Ok(host) = canonical_host(&text) {
                prop_assert_eq!(&*canonical_host(&host).unwrap(), &*host);
            }
        }
    }
}
