//! Installations of a GitHub App, their repositories, and their tokens.

use std::collections::BTreeMap;

use keystead_broker::Error;
use keystead_core::action::Role;
use keystead_core::provider::resources::Wanted;
use keystead_testkit::vendors::{Github, Said};
use serde_json::json;

use crate::{
    conflict, connect, fetch, house, invalid, list, no_secret_in_addresses, nothing_is_kept,
};

fn may(of: &[(&str, &str)]) -> Option<BTreeMap<String, String>> {
    let pair = |(name, level): &(&str, &str)| ((*name).to_owned(), (*level).to_owned());
    Some(of.iter().map(pair).collect())
}

#[tokio::test]
async fn an_app_lists_its_installations_and_one_that_is_named_its_repositories() {
    let vendor = Github::open().await;
    let house = house("github", &vendor.desk).await;
    let id = connect(&house, "github", vendor.app(), json!({})).await;
    let listed = list(&house, id).await.unwrap();
    let seen: Vec<_> = listed
        .iter()
        .map(|one| (one.key.as_str(), one.name.as_str(), one.status.as_str()))
        .collect();
    assert_eq!(
        seen,
        [
            ("installation/41", "acme", "active"),
            ("installation/42", "globex", "suspended")
        ]
    );

    let own = json!({"installation_id": Github::INSTALLATION});
    let house = crate::house("github", &vendor.desk).await;
    let id = connect(&house, "github", vendor.app(), own).await;
    let listed = list(&house, id).await.unwrap();
    assert_eq!(listed.len(), 1 + 250);
    assert_eq!(listed[0].key, "installation/41");
    assert_eq!(
        (listed[1].key.as_str(), listed[1].name.as_str()),
        ("repository/1000", "acme/repo-0")
    );
    assert_eq!(listed[250].name, "acme/repo-249");
    assert_eq!(listed[8].status, "archived");
    // The token that the list is read with may do no more than that.
    let asked = vendor.desk.last("/app/installations/41/access_tokens");
    assert_eq!(
        asked.unwrap().json(),
        json!({"permissions": {"metadata": "read"}})
    );
    let viewer = house.user("victor", "acme", Role::Viewer).await;
    let page = house.broker.list_resources(&viewer, id, Some("3")).await;
    let page = page.unwrap();
    assert_eq!((page.data.len(), page.next), (50, None));
    assert_eq!(page.data[0].name, "acme/repo-200");
}

#[tokio::test]
async fn a_suspended_installation_is_shown_and_asked_for_nothing_more() {
    let vendor = Github::open().await;
    let house = house("github", &vendor.desk).await;
    let own = json!({"installation_id": Github::SUSPENDED});
    let id = connect(&house, "github", vendor.app(), own).await;
    let listed = list(&house, id).await.unwrap();
    assert_eq!((listed.len(), listed[0].status.as_str()), (1, "suspended"));
    let fault = fetch(&house, id, "installation/42", Wanted::default()).await;
    let (code, message) = conflict(fault.unwrap_err());
    assert!(
        code == "no_perm" && message.contains("suspended"),
        "{message}"
    );
}

#[tokio::test]
async fn a_list_that_goes_on_at_another_host_is_not_followed() {
    let vendor = Github::open().await;
    let other = Github::open().await;
    vendor.links_to(&other.desk.url);
    let house = house("github", &vendor.desk).await;
    let own = json!({"installation_id": Github::INSTALLATION});
    let id = connect(&house, "github", vendor.app(), own).await;
    let fault = list(&house, id).await.unwrap_err();
    let said = fault.to_string();
    assert!(said.contains("another host"), "{said}");
    assert_eq!(other.desk.calls(), Vec::<String>::new());
    for link in [
        "<https://api.github.com@evil.example/x?page=2>; rel=\"next\"",
        "<https://api.github.com.evil.example/x?page=2>; rel=\"next\"",
        "<http://api.github.com/x?page=2>; rel=\"next\"",
        "<https://api.github.com/x?page=1>; rel=\"next\"",
        "<https://api.github.com/x>; rel=\"next\"",
        "<nonsense>; rel=\"next\"",
    ] {
        let said = Said::json(200, &json!({"repositories": []})).with("link", link);
        vendor.desk.says("/installation/repositories", Some(said));
        let calls = vendor.desk.calls().len();
        let fault = list(&house, id).await.unwrap_err();
        assert!(matches!(fault, Error::Upstream { .. }), "{link}: {fault:?}");
        assert_eq!(vendor.desk.calls().len(), calls + 3, "{link}");
    }
    // Its own name is its own, wherever it is dialled.
    let last = Said::json(200, &json!({"repositories": []}))
        .with("link", "<https://api.github.com/x?page=1>; rel=\"prev\"");
    vendor.desk.says("/installation/repositories", Some(last));
    assert_eq!(list(&house, id).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_list_that_never_ends_is_read_in_parts() {
    let vendor = Github::open().await;
    let house = house("github", &vendor.desk).await;
    let id = connect(&house, "github", vendor.app(), json!({})).await;
    let viewer = house.user("victor", "acme", Role::Viewer).await;
    // The same page again and again: it makes no progress, and is left.
    let again = Said::json(200, &json!([{"id": 41, "account": {"login": "acme"}}])).with(
        "link",
        "<https://api.github.com/app/installations?page=2>; rel=\"next\"",
    );
    vendor.desk.says("/app/installations", Some(again));
    let fault = house.broker.list_resources(&viewer, id, None).await;
    assert!(matches!(fault, Err(Error::Upstream { .. })));
    for after in ["0", "-1", "x", "99999999999"] {
        let fault = house.broker.list_resources(&viewer, id, Some(after)).await;
        assert_eq!(invalid(fault.unwrap_err()), ["after"], "{after}");
    }
}

#[tokio::test]
async fn a_token_is_for_as_little_as_was_asked_for() {
    let vendor = Github::open().await;
    let house = house("github", &vendor.desk).await;
    let own = json!({"installation_id": Github::INSTALLATION});
    let id = connect(&house, "github", vendor.app(), own).await;
    let whole = fetch(&house, id, "installation/41", Wanted::default()).await;
    let whole = whole.unwrap();
    assert_eq!(whole["kind"], "installation-token");
    assert_eq!(whole["credentials"]["permissions"]["contents"], "write");
    assert_eq!(whole["credentials"]["repository_selection"], "all");
    assert!(whole["expires_at"].is_string());
    let token = vendor.desk.given().pop().unwrap();
    assert_eq!(whole["credentials"]["token"], json!(token));

    let narrow = Wanted {
        repositories: Some(vec!["repo-1".into(), "repo-2".into()]),
        permissions: may(&[("contents", "read")]),
        ..Wanted::default()
    };
    let narrow = fetch(&house, id, "installation/41", narrow).await.unwrap();
    assert_eq!(
        narrow["credentials"]["permissions"],
        json!({"contents": "read"})
    );
    assert_eq!(
        narrow["credentials"]["repositories"],
        json!(["acme/repo-1", "acme/repo-2"])
    );
    let one = fetch(&house, id, "repository/1003", Wanted::default()).await;
    let one = one.unwrap();
    assert_eq!(one["credentials"]["repositories"], json!(["acme/repo-3"]));
    let heard = vendor.desk.last("/app/installations/41/access_tokens");
    assert_eq!(heard.unwrap().json(), json!({"repository_ids": [1003]}));
    let clause = r#""reason":"installation-token of repository/1003""#;
    assert_eq!(house.entries(&[clause]).await, 1);
    no_secret_in_addresses(&vendor.desk);
    nothing_is_kept(&house, &vendor.desk).await;
}

#[tokio::test]
async fn what_the_installation_does_not_have_is_refused_and_a_wider_token_is_dropped() {
    let vendor = Github::open().await;
    let house = house("github", &vendor.desk).await;
    let own = json!({"installation_id": Github::INSTALLATION});
    let id = connect(&house, "github", vendor.app(), own).await;
    let repositories = |names: &[&str]| Wanted {
        repositories: Some(names.iter().map(|name| (*name).to_owned()).collect()),
        ..Wanted::default()
    };
    let permissions = |of: &[(&str, &str)]| Wanted {
        permissions: may(of),
        ..Wanted::default()
    };
    for (wanted, field) in [
        (repositories(&["repo-1", "none-such"]), "repositories"),
        (repositories(&[]), "repositories"),
        (repositories(&["acme/repo-1"]), "repositories"),
        (permissions(&[("contents", "admin")]), "permissions"),
        (permissions(&[("contents", "own")]), "permissions"),
        (permissions(&[]), "permissions"),
        (permissions(&[("Contents", "read")]), "permissions"),
    ] {
        let fault = fetch(&house, id, "installation/41", wanted).await;
        assert_eq!(invalid(fault.unwrap_err()), [field]);
    }
    // Another installation of the same app is none of this integration's.
    for key in [
        "installation/42",
        "installation/9",
        "installation/x",
        "repository/",
        "41",
    ] {
        let fault = fetch(&house, id, key, Wanted::default()).await;
        assert!(
            matches!(fault, Err(Error::NotFound { what: "resource" })),
            "{key}"
        );
    }
    let fault = fetch(&house, id, "repository/5", Wanted::default()).await;
    assert!(matches!(fault, Err(Error::NotFound { what: "resource" })));
    vendor.widens();
    let fault = fetch(&house, id, "repository/1003", Wanted::default()).await;
    let said = fault.unwrap_err().to_string();
    assert!(said.contains("wider"), "{said}");
    let without = crate::house("github", &vendor.desk).await;
    let id = connect(
        &without,
        "github",
        json!("ghp_canary0canary0canary0canary0canary01"),
        json!({}),
    )
    .await;
    let fault = fetch(&without, id, "installation/41", Wanted::default()).await;
    assert_eq!(conflict(fault.unwrap_err()).0, "no_resources");
}
