//! Hosts and base URLs: what passes is canonical, and a pattern covers nothing beside its name.
#![no_main]

use keystead_core::egress::{BaseUrl, HostPattern, Schemes, canonical_host};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str)| {
    let (left, right) = input;
    if let Ok(host) = canonical_host(left) {
        assert_eq!(canonical_host(&host).as_deref(), Ok(&*host));
    }
    if let Ok(url) = BaseUrl::parse(left, Schemes::Https) {
        assert!(url.is_https());
        assert_eq!(canonical_host(url.host()).as_deref(), Ok(url.host()));
        let again = BaseUrl::parse(url.as_str(), Schemes::Https).expect("its own text");
        assert_eq!(again.as_str(), url.as_str());
        assert!(!url.as_str().contains(['@', '?', '#', '\\']));
    }
    if let Ok(pattern) = HostPattern::parse(left)
        && pattern.matches(right)
    {
        let host = canonical_host(right).expect("only a host matches");
        match pattern.exact() {
            Some(name) => assert_eq!(name, host),
            None => assert!(host.ends_with(left[1..].to_ascii_lowercase().as_str())),
        }
    }
});
