//! The catalogue over the wire: what a form or a connect page learns of a provider.

#![allow(clippy::unwrap_used)]

mod house;

use house::House;
use keystead_core::action::Role;
use serde_json::{Value, json};

#[tokio::test]
async fn a_form_learns_what_to_ask_and_where_a_person_gets_it() {
    let house = House::new().await;
    let alice = house.jwt("alice", "acme", Role::Owner);
    let github = house
        .ask(&alice, "GET", "/api/providers/github", Value::Null)
        .await
        .json();
    assert_eq!(
        github["links"]["console"],
        "https://github.com/settings/developers"
    );
    let modes = github["modes"].as_array().unwrap();
    let ids: Vec<&str> = modes
        .iter()
        .filter_map(|mode| mode["id"].as_str())
        .collect();
    assert_eq!(ids, ["oauth", "token", "app"]);
    assert_eq!(
        modes[0]["oauth"],
        json!({"scopes": ["repo"], "device": true, "renewed": true})
    );
    // What the provider grants is not asked for.
    let asked = modes[0]["fields"].as_array().unwrap();
    let names: Vec<&str> = asked.iter().filter_map(|f| f["name"].as_str()).collect();
    assert_eq!(names, ["client_id", "client_secret"]);
    assert_eq!(modes[1]["oauth"], Value::Null);
    assert_eq!(modes[1]["revoke"]["by_call"], true);
    assert!(
        modes[1]["help"]
            .as_str()
            .unwrap()
            .contains("Personal access tokens")
    );
    assert_eq!(modes[2]["revoke"]["by_call"], false);
    assert!(
        modes[2]["revoke"]["page"]
            .as_str()
            .unwrap()
            .starts_with("https://")
    );

    // Nor is the host that its reply names.
    let salesforce = house
        .ask(&alice, "GET", "/api/providers/salesforce", Value::Null)
        .await
        .json();
    let config = salesforce["config"].as_array().unwrap();
    let names: Vec<&str> = config.iter().filter_map(|f| f["name"].as_str()).collect();
    assert_eq!(names, ["domain", "environment", "scopes"]);
}

#[tokio::test]
async fn no_endpoint_of_a_provider_is_in_the_catalogue_that_forms_get() {
    let house = House::new().await;
    let alice = house.jwt("alice", "acme", Role::Owner);
    let all = house
        .ask(&alice, "GET", "/api/providers", Value::Null)
        .await;
    assert_eq!(all.json()["data"].as_array().unwrap().len(), 51);
    for endpoint in [
        "oauth2.googleapis.com",
        "/oauth/token",
        "/oauth2/token",
        "/access_tokens",
    ] {
        assert!(!all.text().contains(endpoint), "{endpoint}");
    }
    for template in ["{shop}", "{tenant}", "{access_token}", "{refresh_token"] {
        assert!(!all.text().contains(template), "{template}");
    }
}
