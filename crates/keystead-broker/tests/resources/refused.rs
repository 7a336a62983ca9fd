//! What a vendor refuses, and what it answers instead of an answer.

use keystead_broker::Error;
use keystead_core::provider::resources::Wanted;
use keystead_testkit::vendors::{Said, Supabase};
use serde_json::json;

use crate::{conflict, connect, fetch, house, invalid, kind, list};

#[tokio::test]
async fn a_permission_that_is_missing_is_named_and_the_failure_is_on_record() {
    let vendor = Supabase::open().await;
    let house = house("supabase", &vendor.desk).await;
    let id = connect(&house, "supabase", json!(vendor.token()), json!({})).await;
    for (scope, part) in [
        ("projects:read", "api-keys"),
        ("secrets:read", "api-keys"),
        ("database:read", "pooler"),
        ("database:read", "database"),
        ("database:write", "database"),
        ("secrets:read", "all"),
    ] {
        vendor.lacks(scope);
        let failed = [r#""action":"reveal""#, r#""outcome":"failed""#];
        let before = house.entries(&failed).await;
        let fault = fetch(&house, id, vendor.project(), kind(part)).await;
        let (code, message) = conflict(fault.unwrap_err());
        assert_eq!(code, "no_perm");
        assert!(message.contains(scope), "{part}: {message}");
        assert_eq!(house.entries(&failed).await, before + 1);
        vendor.has(scope);
    }
    vendor.lacks("projects:read");
    let (code, message) = conflict(list(&house, id).await.unwrap_err());
    assert!(
        code == "no_perm" && message.contains("projects:read"),
        "{message}"
    );
}

#[tokio::test]
async fn a_login_is_made_last_so_that_none_is_left_behind_by_a_failure() {
    let vendor = Supabase::open().await;
    let house = house("supabase", &vendor.desk).await;
    let id = connect(&house, "supabase", json!(vendor.token()), json!({})).await;
    vendor.lacks("secrets:read");
    let fault = fetch(&house, id, vendor.project(), kind("all")).await;
    assert_eq!(conflict(fault.unwrap_err()).0, "no_perm");
    let logins = vendor.desk.calls();
    assert!(
        !logins.iter().any(|call| call.ends_with("login-role")),
        "{logins:?}"
    );
}

#[tokio::test]
async fn a_project_that_is_not_of_the_grant_is_not_found_and_not_asked_for() {
    let vendor = Supabase::open().await;
    let house = house("supabase", &vendor.desk).await;
    let id = connect(&house, "supabase", json!(vendor.token()), json!({})).await;
    for key in [
        "zzzzzzzzzzzzzzzzzzzz",
        "../organizations",
        "ABC",
        "",
        "a/b",
        "a?b=c",
        "sbp_canary",
    ] {
        let fault = fetch(&house, id, key, kind("pooler")).await.unwrap_err();
        let found = matches!(fault, Error::NotFound { what: "resource" });
        assert!(found, "{key}: {fault:?}");
    }
    let calls = vendor.desk.calls();
    let others = calls.iter().filter(|call| call.contains("/v1/projects/"));
    assert_eq!(others.count(), 0, "{calls:?}");
    // A key in a wrong form is not written down either.
    house.log_is_clean().await;
}

#[tokio::test]
async fn a_paused_project_is_a_conflict_that_says_what_to_do() {
    let vendor = Supabase::open().await;
    let house = house("supabase", &vendor.desk).await;
    let id = connect(&house, "supabase", json!(vendor.token()), json!({})).await;
    let fault = fetch(&house, id, vendor.paused(), Wanted::default()).await;
    let (code, message) = conflict(fault.unwrap_err());
    assert_eq!(code, "paused");
    assert!(message.contains("restore"), "{message}");
    let calls = vendor.desk.calls();
    assert!(
        !calls.iter().any(|call| call.contains(vendor.paused())),
        "{calls:?}"
    );
}

#[tokio::test]
async fn what_a_project_does_not_have_is_refused_field_by_field_before_anybody_is_called() {
    let vendor = Supabase::open().await;
    let house = house("supabase", &vendor.desk).await;
    let id = connect(&house, "supabase", json!(vendor.token()), json!({})).await;
    let calls = vendor.desk.calls().len();
    let wanted = Wanted {
        lifetime_seconds: Some(60),
        scopes: Some(vec!["x".into()]),
        repositories: Some(vec!["x".into()]),
        permissions: Some([("x".into(), "read".into())].into()),
        ..kind("everything")
    };
    let fault = fetch(&house, id, vendor.project(), wanted).await;
    let fields = [
        "kind",
        "lifetime_seconds",
        "scopes",
        "repositories",
        "permissions",
    ];
    assert_eq!(invalid(fault.unwrap_err()), fields);
    let wanted = Wanted {
        read_only: Some(true),
        ..kind("api-keys")
    };
    let fault = fetch(&house, id, vendor.project(), wanted).await;
    assert_eq!(invalid(fault.unwrap_err()), ["read_only"]);
    assert_eq!(vendor.desk.calls().len(), calls);
    let viewer = house
        .user("victor", "acme", keystead_core::action::Role::Viewer)
        .await;
    let fault = house.broker.list_resources(&viewer, id, Some("2")).await;
    assert_eq!(invalid(fault.unwrap_err()), ["after"]);
}

#[tokio::test]
async fn what_is_no_answer_is_a_plain_fault_and_nothing_is_handed_out() {
    let vendor = Supabase::open().await;
    let house = house("supabase", &vendor.desk).await;
    let id = connect(&house, "supabase", json!(vendor.token()), json!({})).await;
    let path = format!("/v1/projects/{}/api-keys", vendor.project());
    let html = Said {
        status: 200,
        headers: vec![("content-type", "text/html".to_owned())],
        body: b"<html>canary-page</html>".to_vec(),
    };
    let large = Said {
        status: 200,
        headers: Vec::new(),
        body: vec![b' '; 10 << 20],
    };
    let twice = Said {
        status: 200,
        headers: Vec::new(),
        body: br#"[{"api_key":"canary-a","api_key":"canary-b"}]"#.to_vec(),
    };
    let elsewhere =
        Said::json(302, &json!({})).with("location", format!("{}/v1/projects", vendor.desk.url));
    for said in [
        html,
        large,
        twice,
        elsewhere,
        Said::json(200, &json!({"api_key": "canary-no-list-0123"})),
        Said::json(200, &json!(["canary-no-object-0123"])),
        Said::json(201, &json!([])),
        Said::json(500, &json!({"message": "canary-internal-0123"})),
        Said::json(503, &json!({})),
        Said::json(400, &json!({"message": "canary-strange-0123"})),
    ] {
        let status = said.status;
        let projects = vendor.desk.calls().len();
        vendor.desk.says(&path, Some(said));
        let fault = fetch(&house, id, vendor.project(), kind("api-keys")).await;
        let fault = fault.unwrap_err();
        assert!(
            matches!(fault, Error::Upstream { .. }),
            "{status}: {fault:?}"
        );
        assert!(!fault.to_string().contains("canary"), "{fault}");
        // The list, and the keys: nothing was followed, nothing repeated.
        assert_eq!(vendor.desk.calls().len(), projects + 2, "{status}");
    }
    vendor.desk.says(&path, None);
    assert!(
        fetch(&house, id, vendor.project(), kind("api-keys"))
            .await
            .is_ok()
    );
    house.log_is_clean().await;
}

#[tokio::test]
async fn a_provider_that_wants_to_be_left_alone_says_for_how_long() {
    let vendor = Supabase::open().await;
    let house = house("supabase", &vendor.desk).await;
    let id = connect(&house, "supabase", json!(vendor.token()), json!({})).await;
    let busy = || Said::json(429, &json!({"message": "ThrottlerException"}));
    for (said, seconds) in [
        (busy().with("retry-after", "17"), 17),
        (busy(), 60),
        (busy().with("retry-after", "0"), 1),
        (busy().with("retry-after", "999999"), 3600),
        (
            Said::json(403, &json!({})).with("x-ratelimit-remaining", "0"),
            60,
        ),
    ] {
        vendor.desk.says("/v1/projects", Some(said));
        for fault in [
            list(&house, id).await.unwrap_err(),
            fetch(&house, id, vendor.project(), kind("pooler"))
                .await
                .unwrap_err(),
        ] {
            let limited = matches!(fault, Error::Limited { retry_after } if retry_after == seconds);
            assert!(limited, "{seconds}: {fault:?}");
        }
    }
}

#[tokio::test]
async fn a_credential_that_the_provider_no_longer_takes_is_said_to_be_so() {
    let vendor = Supabase::open().await;
    let house = house("supabase", &vendor.desk).await;
    let id = connect(&house, "supabase", json!(vendor.token()), json!({})).await;
    vendor.expire();
    let fault = fetch(&house, id, vendor.project(), kind("pooler")).await;
    let fault = fault.unwrap_err();
    assert!(matches!(fault, Error::Credential { .. }), "{fault:?}");
}
