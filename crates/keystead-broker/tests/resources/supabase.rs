//! Projects: their keys, pooler settings and database logins.

use keystead_core::provider::resources::Wanted;
use keystead_core::time::Time;
use keystead_testkit::vendors::Supabase;
use serde_json::json;

use crate::{conflict, connect, fetch, house, kind, list, no_secret_in_addresses, nothing_is_kept};

#[tokio::test]
async fn a_viewer_sees_the_projects_and_nothing_secret_of_them() {
    let vendor = Supabase::open().await;
    let house = house("supabase", &vendor.desk).await;
    let id = connect(&house, "supabase", json!(vendor.token()), json!({})).await;
    let listed = list(&house, id).await.unwrap();
    assert_eq!(listed.len(), 2);
    let shop = &listed[0];
    assert_eq!(
        (
            shop.key.as_str(),
            shop.kind,
            shop.name.as_str(),
            shop.status.as_str()
        ),
        (
            vendor.project(),
            "supabase_project",
            "shop",
            "ACTIVE_HEALTHY"
        )
    );
    assert_eq!(shop.region.as_deref(), Some("eu-west-3"));
    let host = format!("db.{}.example.com", vendor.project());
    assert_eq!(
        shop.details,
        json!({"organization": "acme", "database": {"host": host, "version": "17.6.1"}})
    );
    assert_eq!(listed[1].status, "INACTIVE");
    assert_eq!(vendor.desk.given(), Vec::<String>::new());
    let seen = [
        r#""action":"info""#,
        r#""outcome":"allowed""#,
        r#""reason":"resources""#,
    ];
    assert_eq!(house.entries(&seen).await, 1);
}

#[tokio::test]
async fn a_project_gives_its_keys_its_pooler_and_a_login_that_ends_by_itself() {
    let vendor = Supabase::open().await;
    let house = house("supabase", &vendor.desk).await;
    let id = connect(&house, "supabase", json!(vendor.token()), json!({})).await;
    let project = vendor.project();

    let keys = fetch(&house, id, project, kind("api-keys")).await.unwrap();
    assert_eq!(
        (&keys["kind"], &keys["expires_at"]),
        (&json!("api-keys"), &json!(null))
    );
    let rows = keys["credentials"]["api_keys"].as_array().unwrap();
    let types: Vec<_> = rows
        .iter()
        .map(|row| row["type"].as_str().unwrap())
        .collect();
    assert_eq!(types, ["legacy", "legacy", "publishable", "secret"]);
    let given = vendor.desk.given();
    for row in rows {
        let value = row["api_key"].as_str().unwrap();
        assert!(given.iter().any(|own| own == value), "{row}");
        assert!(row.get("hash").is_none(), "{row}");
    }
    assert_eq!(keys["credentials"].as_object().unwrap().len(), 1);

    let pooler = fetch(&house, id, project, kind("pooler")).await.unwrap();
    let rows = &pooler["credentials"]["pooler"];
    assert_eq!(rows.as_array().unwrap().len(), 3);
    assert_eq!(rows[1]["db_port"], 6543);
    assert_eq!(rows[1]["max_client_conn"], json!(null));

    let before = house.clock.now();
    for (read_only, role) in [
        (None, "cli_login_supabase_read_only_user"),
        (Some(true), "cli_login_supabase_read_only_user"),
        (Some(false), "cli_login_postgres"),
    ] {
        let wanted = Wanted {
            read_only,
            ..kind("database")
        };
        let made = fetch(&house, id, project, wanted).await.unwrap();
        let login = &made["credentials"]["database"];
        let password = vendor.desk.given().pop().unwrap();
        assert_eq!(
            (&login["role"], &login["password"], &login["ttl_seconds"]),
            (&json!(role), &json!(password), &json!(300))
        );
        let escaped = password
            .replace('@', "%40")
            .replace('/', "%2F")
            .replace(':', "%3A");
        let pool = "aws-1-eu-west-3.pooler.example.com";
        assert_eq!(
            login["connections"],
            json!({
                "direct": format!("postgresql://{role}:{escaped}@db.{project}.example.com/postgres"),
                "session": format!("postgresql://{role}.{project}:{escaped}@{pool}:5432/postgres"),
                "transaction": format!("postgresql://{role}.{project}:{escaped}@{pool}:6543/postgres"),
            })
        );
        let ends = made["expires_at"].as_str().and_then(Time::parse_rfc3339);
        let ends = ends.unwrap();
        let after = house.clock.now().plus_seconds(300);
        assert!((before.plus_seconds(300)..=after).contains(&ends), "{made}");
        assert!(made["credentials"].get("api_keys").is_none());
    }

    let all = fetch(&house, id, project, Wanted::default()).await.unwrap();
    assert_eq!(all["kind"], "all");
    assert!(all["expires_at"].is_string());
    for part in ["api_keys", "pooler", "database"] {
        assert!(!all["credentials"][part].is_null(), "{all}");
    }
    for part in ["api-keys", "pooler", "database", "all"] {
        let clause = format!(r#""reason":"{part} of {project}""#);
        assert!(
            house.entries(&[r#""action":"reveal""#, &clause]).await > 0,
            "{part}"
        );
    }
    no_secret_in_addresses(&vendor.desk);
    nothing_is_kept(&house, &vendor.desk).await;
}

#[tokio::test]
async fn a_connection_that_the_pooler_does_not_name_is_not_made_up() {
    let vendor = Supabase::open().await;
    let house = house("supabase", &vendor.desk).await;
    let id = connect(&house, "supabase", json!(vendor.token()), json!({})).await;
    vendor.pools_sessions(false);
    let made = fetch(&house, id, vendor.project(), kind("database")).await;
    let made = made.unwrap();
    let connections = made["credentials"]["database"]["connections"]
        .as_object()
        .unwrap();
    let names: Vec<_> = connections.keys().map(String::as_str).collect();
    assert_eq!(names, ["direct", "transaction"]);
}

#[tokio::test]
async fn keys_that_come_masked_are_a_permission_that_is_missing() {
    let vendor = Supabase::open().await;
    let house = house("supabase", &vendor.desk).await;
    let id = connect(&house, "supabase", json!(vendor.token()), json!({})).await;
    vendor.masks(true);
    let fault = fetch(&house, id, vendor.project(), kind("api-keys")).await;
    let (code, message) = conflict(fault.unwrap_err());
    assert_eq!(code, "no_perm");
    assert!(message.contains("secrets:read"), "{message}");
}

#[tokio::test]
async fn tokens_that_have_ended_are_renewed_before_anything_is_fetched() {
    let vendor = Supabase::open().await;
    let house = house("supabase", &vendor.desk).await;
    let (client_id, client_secret) = Supabase::APP;
    let grant = json!({
        "client_id": client_id, "client_secret": client_secret,
        "access_token": "sbp_oauth_ended-canary-0123456789", "refresh_token": Supabase::REFRESH,
    });
    let id = connect(&house, "supabase", grant, json!({})).await;
    let made = fetch(&house, id, vendor.project(), kind("api-keys")).await;
    assert_eq!(
        made.unwrap()["credentials"]["api_keys"][3]["name"],
        "backend"
    );
    assert_eq!(vendor.renewed(), 1);
    assert_eq!(list(&house, id).await.unwrap().len(), 2);
    assert_eq!(vendor.renewed(), 1);
    nothing_is_kept(&house, &vendor.desk).await;
}
