//! Where credentials go, and what is taken off first.

#![allow(clippy::unwrap_used)]

use http::{HeaderMap, Method};
use keystead_core::placement::{Head, Material, place};
use keystead_core::provider::{Catalogue, Config, Fields};
use keystead_core::time::Time;
use serde_json::json;

fn head(host: &str, path: &str, query: Option<&str>) -> Head {
    Head {
        method: Method::GET,
        logical_host: host.to_owned(),
        host_header: host.to_owned(),
        path: path.to_owned(),
        query: query.map(str::to_owned),
        headers: HeaderMap::new(),
    }
}

#[test]
fn a_bearer_replaces_what_the_caller_sent_and_does_not_show() {
    let catalogue = Catalogue::embedded().unwrap();
    let openai = catalogue.get("openai").unwrap();
    let (fields, warnings) = Fields::parse(openai, json!("sk-proj-canaryT3BlbkFJcanarycanary"))
        .ok()
        .unwrap();
    assert_eq!(warnings, []);
    let mut head = head("api.openai.com", "/v1/models", None);
    for name in ["authorization", "x-api-key", "cookie"] {
        head.headers.append(name, "of the caller".parse().unwrap());
        head.headers.append(name, "once more".parse().unwrap());
    }
    let config = Config::default();
    place(
        openai,
        Material::Fields(&fields),
        &config,
        &mut head,
        Time(0),
        None,
    )
    .unwrap();
    assert_eq!(head.headers.len(), 1);
    assert_eq!(
        head.headers["authorization"],
        "Bearer sk-proj-canaryT3BlbkFJcanarycanary"
    );
    assert!(!format!("{:?}", head.headers).contains("canary"));
}
