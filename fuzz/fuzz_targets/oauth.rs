//! Answers of token endpoints: tokens are whole, their end is near, their host is the provider's,
//! and a refusal's code is a word.
#![no_main]

use http::HeaderMap;
use keystead_core::provider::oauth::{read_device, read_tokens};
use keystead_core::provider::{Config, Fields, Provider};
use keystead_core::time::Time;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

const NOW: Time = Time(1_795_000_000_000_000);
const STATUSES: [u16; 6] = [200, 201, 400, 401, 429, 503];

/// Bodies that are read in two ways: as the standard has it, and with what some providers do.
static PROVIDERS: LazyLock<[Provider; 2]> = LazyLock::new(|| {
    [
        "[mode.oauth.refresh]\nclass = 'reusable'",
        "reply = { success = [200, 201], ok = '/ok', access_token = '/user/0/token', host = '/url' }
         [mode.oauth.refresh]\nclass = 'single_use'\nlifetime = 60
         [[mode.oauth.rule]]\npointer = '/error/*'\ncontains = 'a'\nmeans = 'dead'",
    ]
    .map(|oauth| {
        let text = format!(
            "id = 'acme'\nname = 'Acme'\ndocs = 'https://acme.example'
             hosts = ['api.acme.example']\nhost_choices = ['*.my.acme.example']
             base_url = 'https://api.acme.example'\npath_prefixes = ['/']
             config = [{{ name = 'hosts', label = 'hosts', kind = 'hosts', required = false }}]
             sdk_token_headers = ['authorization']\ntest = {{ path = '/me' }}
             [[mode]]\nid = 'oauth'\nlabel = 'Acme'
             placement = {{ kind = 'bearer', field = 'access_token' }}
             [mode.oauth]\nauthorize_url = 'https://acme.example/a'
             token_url = 'https://acme.example/t'\n{oauth}"
        );
        Provider::parse("acme.toml", &text).expect("the file is valid")
    })
});

fuzz_target!(|input: &[u8]| {
    let Some((&first, body)) = input.split_first() else {
        return;
    };
    let status = STATUSES[usize::from(first >> 1) % STATUSES.len()];
    let provider = &PROVIDERS[usize::from(first & 1)];
    let before = Fields::from_message(br#"{"access_token":"a","refresh_token":"r"}"#);
    let (config, headers) = (Config::default(), HeaderMap::new());
    let word = |code: &str| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        assert!((1..=64).contains(&code.len()) && code.bytes().all(fits));
    };
    match read_tokens(
        provider,
        &config,
        status,
        &headers,
        body,
        NOW,
        before.as_ref(),
    ) {
        Ok(tokens) => {
            assert!(status == 200 || status == 201);
            let token = tokens.fields.get("access_token").expect("the token");
            assert!((1..=16 * 1024).contains(&token.len()));
            assert!(token.bytes().all(|b| b.is_ascii_graphic()));
            if let Some(at) = tokens.expires_at {
                assert!(at >= NOW.plus_seconds(30) && at <= NOW.plus_seconds(366 * 86_400));
            }
            if let Some(host) = tokens.fields.get("host") {
                assert!(host == "api.acme.example" || host.ends_with(".my.acme.example"));
            }
            let message = tokens.fields.to_message();
            let again = Fields::from_message(&message).expect("its own message");
            assert_eq!(again.to_message(), message);
        }
        Err(refusal) => word(&refusal.code),
    }
    match read_device(status, body) {
        Ok(codes) => assert!(codes.verification_uri.starts_with("https://")),
        Err(refusal) => word(&refusal.code),
    }
});
