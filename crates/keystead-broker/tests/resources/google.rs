//! Access tokens of a service account.

use keystead_core::provider::resources::Wanted;
use keystead_testkit::vendors::{Google, Said};
use serde_json::json;

use crate::{
    conflict, connect, fetch, house, invalid, list, no_secret_in_addresses, nothing_is_kept,
};

const READ: &str = "https://www.googleapis.com/auth/devstorage.read_only";
const MAIL: &str = "https://www.googleapis.com/auth/gmail.readonly";
const ALL: &str = "https://www.googleapis.com/auth/cloud-platform";

fn scopes(of: &[&str]) -> Wanted {
    Wanted {
        scopes: Some(of.iter().map(|scope| (*scope).to_owned()).collect()),
        ..Wanted::default()
    }
}

#[tokio::test]
async fn a_token_has_the_scopes_that_were_asked_for_out_of_the_integrations_own() {
    let vendor = Google::open().await;
    let house = house("gcp_service_account", &vendor.desk).await;
    let config = json!({"scopes": format!("{READ} {MAIL}")});
    let id = connect(&house, "gcp_service_account", vendor.account(), config).await;
    let listed = list(&house, id).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].key, "access-token");
    assert_eq!(listed[0].name, "robot@acme-project.iam.gserviceaccount.com");
    assert_eq!(
        listed[0].details,
        json!({"project": "acme-project", "scopes": [READ, MAIL], "subject": null})
    );
    for (wanted, expected) in [
        (Wanted::default(), vec![READ, MAIL]),
        (scopes(&[READ]), vec![READ]),
        (scopes(&[MAIL, MAIL]), vec![MAIL]),
    ] {
        let made = fetch(&house, id, "access-token", wanted).await.unwrap();
        assert_eq!(made["kind"], "access-token");
        assert_eq!(made["credentials"]["scopes"], json!(expected));
        let token = vendor.desk.given().pop().unwrap();
        assert_eq!(made["credentials"]["access_token"], json!(token));
        assert!(made["expires_at"].is_string(), "{made}");
        let form = vendor.desk.last("/token").unwrap().form();
        let claims = form["assertion"].split('.').nth(1).unwrap();
        let claims = base64_json(claims);
        assert_eq!(claims["scope"], json!(expected.join(" ")));
    }
    no_secret_in_addresses(&vendor.desk);
    nothing_is_kept(&house, &vendor.desk).await;
}

fn base64_json(text: &str) -> serde_json::Value {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text);
    serde_json::from_slice(&bytes.unwrap()).unwrap()
}

#[tokio::test]
async fn more_than_the_integrations_scopes_is_refused_before_google_is_asked() {
    let vendor = Google::open().await;
    let house = house("gcp_service_account", &vendor.desk).await;
    let config = json!({"scopes": READ});
    let id = connect(&house, "gcp_service_account", vendor.account(), config).await;
    let calls = vendor.desk.calls().len();
    for wanted in [
        scopes(&[ALL]),
        scopes(&[READ, ALL]),
        scopes(&[]),
        scopes(&[&format!("{READ} {ALL}")]),
        scopes(&[&READ[..READ.len() - 1]]),
    ] {
        let fault = fetch(&house, id, "access-token", wanted).await;
        assert_eq!(invalid(fault.unwrap_err()), ["scopes"]);
    }
    let lasting = Wanted {
        lifetime_seconds: Some(43_200),
        ..Wanted::default()
    };
    let fault = fetch(&house, id, "access-token", lasting).await;
    assert_eq!(invalid(fault.unwrap_err()), ["lifetime_seconds"]);
    assert!(fetch(&house, id, "token", Wanted::default()).await.is_err());
    assert_eq!(vendor.desk.calls().len(), calls);
}

#[tokio::test]
async fn a_refused_delegation_and_a_token_that_cannot_be_read_are_told_apart() {
    let vendor = Google::open().await;
    let house = house("gcp_service_account", &vendor.desk).await;
    let config = json!({"scopes": READ, "subject": "boss@acme.example"});
    let id = connect(&house, "gcp_service_account", vendor.account(), config).await;
    let fault = fetch(&house, id, "access-token", Wanted::default()).await;
    let (code, message) = conflict(fault.unwrap_err());
    assert!(
        code == "no_perm" && message.contains("act for the user"),
        "{message}"
    );
    for said in [
        json!({"access_token": ""}),
        json!({"access_token": "canary two words"}),
        json!({"error": "none"}),
    ] {
        vendor.desk.says("/token", Some(Said::json(200, &said)));
        let fault = fetch(&house, id, "access-token", Wanted::default()).await;
        let fault = fault.unwrap_err();
        assert!(
            matches!(fault, keystead_broker::Error::Upstream { .. }),
            "{fault:?}"
        );
    }
}
