//! The attacker's side of the real socket: bad input, foreign tenants, faulty upstreams, and bytes
//! that no client would send. Each refusal is on record.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use keystead_testkit::client::{self, Answer, Client};
use keystead_testkit::issuer::TestKey;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::rig::{House, Server, TRUE_KEY, connect, jwt_with};

/// Fails where a refusal left no entry.
async fn assert_recorded(operator: &Client, answers: &[Answer]) {
    let log = operator.get("/api/audit/export").await.text();
    assert!(!log.contains("canary"), "{log}");
    for answer in answers {
        let request = answer.headers["keystead-request-id"].to_str().unwrap();
        let mut entries = log.lines().filter(|entry| entry.contains(request));
        // The same request may have brought a new tenant to light before it was refused.
        assert!(
            entries.any(
                |entry| answer.status.is_success() || !entry.contains(r#""outcome":"allowed""#)
            ),
            "no entry of {answer:?}"
        );
    }
}

fn problem(answer: &Answer, status: u16) -> Value {
    assert_eq!(answer.status.as_u16(), status, "{answer:?}");
    assert_eq!(
        answer.headers["content-type"], "application/problem+json",
        "{answer:?}"
    );
    assert!(!answer.text().contains("canary"), "{answer:?}");
    answer.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_told_apart_and_told_where_and_nothing_is_kept_of_it() {
    let house = House::new("").await;
    let server = house.serve();
    let alice = house.user(&server, "alice", "acme", "owner");
    let json = alice.header("content-type", "application/json");
    let path = "/api/integrations";
    let post = async |body: &str| {
        json.try_call(Method::POST, path, Bytes::from(body.to_owned()))
            .await
            .unwrap()
    };

    let mut answers = vec![
        post(r#"{"name": "canary"#).await,
        post("").await,
        post(&format!(
            r#"{{"name": "x", "credentials": {}"#,
            "[".repeat(20_000)
        ))
        .await,
    ];
    for answer in &answers {
        assert_eq!(problem(answer, 400)["code"], "malformed");
    }
    let wrong = alice
        .post(
            path,
            &json!({"name": 7, "type": "openai", "credentials": "sk-canary"}),
        )
        .await;
    assert_eq!(problem(&wrong, 422)["errors"][0]["path"], "name");
    let deep = alice.post(path, &json!({"name": "x", "type": "openai", "credentials": TRUE_KEY, "config": {"organization": {"canary": 1}}})).await;
    assert_eq!(
        problem(&deep, 422)["errors"][0]["path"],
        "config.organization"
    );
    let unknown = alice
        .post(
            path,
            &json!({"name": "x", "type": "opneai", "credentials": TRUE_KEY}),
        )
        .await;
    let said = problem(&unknown, 422);
    assert_eq!(said["errors"][0]["path"], "type");
    assert!(
        said["errors"][0]["message"]
            .as_str()
            .unwrap()
            .contains("openai"),
        "{said}"
    );
    let list = alice.post(path, &json!(["x", "openai", TRUE_KEY])).await;
    assert_eq!(
        problem(&list, 422)["errors"][0]["message"],
        "expected an object"
    );
    let extra = alice
        .post(
            path,
            &json!({"name": "x", "type": "openai", "credentials": TRUE_KEY, "nmae": "canary"}),
        )
        .await;
    assert_eq!(problem(&extra, 422)["code"], "invalid");
    let form = alice
        .header("content-type", "text/plain")
        .try_call(Method::POST, path, Bytes::from("{}"))
        .await
        .unwrap();
    problem(&form, 415);
    let credential = |length: usize| json!({"name": format!("n{length}"), "type": "openai", "credentials": "k".repeat(length)});
    let large = alice.post(path, &credential(64 * 1024 + 1)).await;
    assert_eq!(problem(&large, 413)["code"], "too_large");
    let huge = alice.post(path, &credential(1 << 20)).await;
    problem(&huge, 413);
    let most = alice.post(path, &credential(64 * 1024)).await;
    assert_eq!(most.status, 201, "{most:?}");
    let page = alice.get("/api/integrations?limit=201").await;
    assert_eq!(problem(&page, 422)["errors"][0]["path"], "limit");
    let method = alice
        .try_call(Method::PATCH, path, Bytes::new())
        .await
        .unwrap();
    problem(&method, 405);
    let route = alice.get("/api/nothing/here").await;
    problem(&route, 404);
    answers.extend([
        wrong, deep, unknown, list, extra, form, large, huge, page, method, route,
    ]);
    assert_recorded(&house.operator(&server), &answers).await;
    // What was refused is nowhere; what was taken is there.
    let kept = alice.get(path).await.expect(200);
    assert_eq!(kept["data"].as_array().unwrap().len(), 1, "{kept}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_token_gets_one_and_the_same_answer_on_both_faces() {
    let house = House::new("").await;
    let server = house.serve();
    house
        .user(&server, "alice", "acme", "owner")
        .get("/api/integrations")
        .await
        .expect(200);
    let (id, revoked) = house.service_key("acme", "info,list,use");
    assert_eq!(house.keystead(&["keys", "revoke", &id]).0, 0);
    let (_, other) = house.service_key("acme", "info,list,use");
    let alice = |more: Value| {
        let mut claims = json!({"sub": "alice", "tenant": "acme", "role": "owner"});
        claims
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        jwt_with(claims)
    };
    let good = house.jwt("alice", "acme", "owner");
    let signature = good.rfind('.').unwrap();
    let forged = TestKey::hs256("house", b"another secret of more than thirty-two bytes");
    let none = format!("eyJhbGciOiJub25lIn0.{}.", good.split('.').nth(1).unwrap());
    let tokens = [
        alice(json!({"exp": 1_700_000_000})),
        alice(json!({"nbf": 4_000_000_000_u64})),
        alice(json!({"iss": "https://other.example"})),
        alice(json!({"aud": "other"})),
        alice(json!({"exp": null})),
        good[..=signature].to_owned(),
        format!("{}x", good),
        none,
        forged.mint(&json!({"sub": "alice"})),
        revoked,
        other.replace("kss_", "kso_"),
        format!(
            "{}{}",
            &other[..other.len() - 1],
            if other.ends_with('a') { 'b' } else { 'a' }
        ),
        "kss_".to_owned(),
        "sk-canary-no-token-of-ours".to_owned(),
        "x".repeat(20_000),
    ];
    let nobody = Client::new(&server.url);
    let mut answers = Vec::new();
    for path in ["/api/integrations", "/api/keys", "/proxy/@openai/v1/models"] {
        let shape = |answer: &Answer| {
            let mut headers = answer.headers.clone();
            let request = headers.remove("keystead-request-id").unwrap();
            headers.remove("date");
            let text = answer.text().replace(request.to_str().unwrap(), "");
            (answer.status, format!("{headers:?}"), text)
        };
        let first = nobody.get(path).await;
        problem(&first, 401);
        assert_eq!(first.headers["www-authenticate"], "Bearer");
        for token in &tokens {
            let answer = nobody.bearer(token).get(path).await;
            assert_eq!(shape(&answer), shape(&first), "{path} {token:.60}");
            answers.push(answer);
        }
        for twice in [
            nobody.bearer(&good).bearer(&good),
            nobody.header("x-forwarded-user", "alice"),
            nobody.header("cookie", &good),
        ] {
            let answer = twice.get(path).await;
            assert_eq!(shape(&answer), shape(&first));
            answers.push(answer);
        }
        let in_query = nobody.get(&format!("{path}?access_token={good}")).await;
        assert_eq!(shape(&in_query), shape(&first));
        answers.push(in_query);
        answers.push(first);
    }
    assert_recorded(&house.operator(&server), &answers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_another_tenants_does_not_exist_by_any_road() {
    let house = House::new("").await;
    let server = house.serve();
    let alice = house.user(&server, "alice", "acme", "owner");
    let bob = house.user(&server, "bob", "globex", "owner");
    let made = connect(&alice, "main", TRUE_KEY).await;
    let id = made["id"].as_str().unwrap();
    bob.get("/api/integrations").await.expect(200);
    let (_, service) = house.service_key("globex", "info,list,use,reveal,put,delete,test");
    let service = Client::new(&server.url).bearer(&service);
    let missing = format!("int_{}", "0".repeat(32));
    let before = house.upstream.seen().len();
    let mut answers = Vec::new();
    for caller in [&bob, &service] {
        for id in [id, &missing] {
            let path = format!("/api/integrations/{id}");
            answers.push(caller.get(&path).await);
            answers.push(caller.put(&path, &json!({"name": "mine"})).await);
            answers.push(caller.post(&format!("{path}/test"), &json!({})).await);
            answers.push(caller.get(&format!("/proxy/{id}/v1/models")).await);
            answers.push(caller.delete(&path).await);
        }
        answers.push(caller.get("/proxy/@openai/v1/models").await);
        assert_eq!(
            caller.get("/api/integrations").await.expect(200)["data"],
            json!([])
        );
    }
    answers.push(
        service
            .post(&format!("/api/integrations/{id}/reveal"), &json!({}))
            .await,
    );
    answers.push(
        bob.header("keystead-tenant", "acme")
            .get("/api/integrations")
            .await,
    );
    answers.push(
        service
            .header("keystead-tenant", "acme")
            .get("/api/integrations")
            .await,
    );
    for answer in &answers {
        problem(answer, 404);
    }
    // Foreign and missing look alike.
    let text = |answer: &Answer| {
        answer
            .text()
            .replace(answer.headers["keystead-request-id"].to_str().unwrap(), "")
    };
    assert_eq!(text(&answers[0]), text(&answers[5]));
    // A user of any role of the right tenant does not reveal, either.
    let denied = alice
        .post(&format!("/api/integrations/{id}/reveal"), &json!({}))
        .await;
    problem(&denied, 403);
    answers.push(denied);
    assert_recorded(&house.operator(&server), &answers).await;
    assert_eq!(
        house.upstream.seen().len(),
        before,
        "something reached the upstream"
    );
    alice
        .get(&format!("/api/integrations/{id}"))
        .await
        .expect(200);
}

async fn generic(house: &House, alice: &Client, name: &str, base: &str) -> String {
    let _ = house;
    let new = json!({"name": name, "type": "generic_bearer", "credentials": TRUE_KEY, "config": {"base_url": base}});
    alice.post("/api/integrations", &new).await.expect(201)["id"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_down_is_502_and_one_that_hangs_is_504_and_both_are_on_record() {
    let down = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", down.local_addr().unwrap());
    drop(down);
    let house = House::new("[proxy]\nhead_timeout_seconds = 1\n").await;
    let config = std::fs::read_to_string(house.config()).unwrap();
    house.write(
        "keystead.toml",
        &config.replace("approved = [", &format!("approved = [\"{address}\", ")),
    );
    let server = house.serve();
    let alice = house.user(&server, "alice", "acme", "owner");
    let (gone, hangs) = (
        generic(&house, &alice, "gone", &address).await,
        generic(&house, &alice, "hangs", &house.upstream.url()).await,
    );
    let down = alice.get(&format!("/proxy/{gone}/v1/models")).await;
    assert_eq!(problem(&down, 502)["code"], "upstream_unreachable");
    let began = Instant::now();
    let hung = alice.get(&format!("/proxy/{hangs}/hang")).await;
    assert_eq!(problem(&hung, 504)["code"], "upstream_timeout");
    assert!(began.elapsed() < Duration::from_secs(5));
    for answer in [&down, &hung] {
        assert!(answer.headers.contains_key("keystead-error"));
    }
    // What the provider itself says goes through, and is told from ours.
    let own = alice.get(&format!("/proxy/{hangs}/status/502")).await;
    assert_eq!(own.status, 502);
    assert!(!own.headers.contains_key("keystead-error"));
    let log = house
        .operator(&server)
        .get("/api/audit/export")
        .await
        .text();
    for answer in [down, hung, own] {
        assert!(
            log.contains(answer.headers["keystead-request-id"].to_str().unwrap()),
            "no entry of {answer:?}"
        );
    }
    // A private address that nobody allowed is not dialled, whatever it answers.
    let house = House::new("").await;
    let config = std::fs::read_to_string(house.config()).unwrap();
    house.write(
        "keystead.toml",
        &config.replace("allow = [\"127.0.0.1\"]", "allow = []"),
    );
    let server = house.serve();
    let alice = house.user(&server, "alice", "acme", "owner");
    let id = generic(&house, &alice, "inside", &house.upstream.url()).await;
    let refused = alice.get(&format!("/proxy/{id}/v1/models")).await;
    problem(&refused, 502);
    assert!(house.upstream.seen().is_empty());
}

async fn connected(house: &House) -> (Server, Client) {
    let server = house.serve();
    let alice = house.user(&server, "alice", "acme", "owner");
    connect(&alice, "main", TRUE_KEY).await;
    (server, alice)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_path_leaves_the_providers_prefix() {
    let house = House::new("").await;
    let (server, _) = connected(&house).await;
    let jwt = house.jwt("alice", "acme", "owner");
    let before = house.upstream.seen().len();
    for path in [
        "/v1/../admin",
        "/v1/./x",
        "/v1/%2e%2e/admin",
        "/v1/%2E./admin",
        "/v1/..%2fadmin",
        "/v1/%252e%252e/admin",
        "/v1/%25252e%25252e/admin",
        "/v1\\admin",
        "/v1/%5c../admin",
        "/v1//admin",
        "/v1/..;/admin",
        "/v1/%00",
        "/v1/a%0d%0ax",
        "/admin",
        "/",
        "/v1evil/models",
        "/%76%31/models",
        "/~evil.example/v1/models",
        "/~127.0.0.1/v1/models",
    ] {
        let request = format!(
            "GET /proxy/@openai{path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {jwt}\r\nconnection: close\r\n\r\n"
        );
        let said = client::raw(&server.url, request.as_bytes()).await;
        let status = said.get(9..12).unwrap_or_default();
        assert!(
            ["400", "403", "404", "422"].contains(&status),
            "{path}: {said}"
        );
        assert!(!said.contains("canary"));
    }
    assert_eq!(
        house.upstream.seen().len(),
        before,
        "{:?}",
        house.upstream.last_seen().target
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn trace_connect_and_whole_urls_are_refused() {
    let house = House::new("").await;
    let (server, _) = connected(&house).await;
    let jwt = house.jwt("alice", "acme", "owner");
    let before = house.upstream.seen().len();
    for line in [
        "TRACE /proxy/@openai/v1/models",
        "TRACK /proxy/@openai/v1/models",
        "CONNECT 127.0.0.1:80",
        "GET http://evil.example/proxy/@openai/v1/models",
        "TRACE /api/integrations",
    ] {
        let request = format!(
            "{line} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {jwt}\r\nconnection: close\r\n\r\n"
        );
        let said = client::raw(&server.url, request.as_bytes()).await;
        let status = said.get(9..12).unwrap_or_default();
        assert!(status.starts_with('4'), "{line}: {said}");
        assert!(!said.contains(&jwt), "{line} was echoed");
    }
    assert_eq!(house.upstream.seen().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_framings_of_one_request_smuggle_nothing() {
    let house = House::new("").await;
    let (server, _) = connected(&house).await;
    let jwt = house.jwt("alice", "acme", "owner");
    let smuggled =
        "GET /proxy/@openai/v1/smuggled HTTP/1.1\r\nhost: x\r\nauthorization: Bearer JWT\r\n\r\n"
            .replace("JWT", &jwt);
    let head = format!(
        "POST /proxy/@openai/v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {jwt}\r\ncontent-type: application/json\r\n"
    );
    let length = smuggled.len();
    for framing in [
        format!(
            "content-length: {}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}",
            length + 5
        ),
        format!("transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("content-length: 0\r\ncontent-length: {length}\r\n\r\n{smuggled}"),
        format!("content-length: +{length}\r\n\r\n{smuggled}"),
        format!("content-length: 0, {length}\r\n\r\n{smuggled}"),
        format!("transfer-encoding: xchunked\r\n\r\n{smuggled}"),
        format!("transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("transfer-encoding : chunked\r\n\r\n0\r\n\r\n{smuggled}"),
        format!(
            "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n{smuggled}"
        ),
        format!("x: y\r\n\tz: w\r\ncontent-length: 0\r\n\r\n{smuggled}"),
        format!("transfer-encoding: chunked\r\n\r\n0x0\r\n\r\n{smuggled}"),
    ] {
        // Half closed after writing would hide a server that waits for more.
        let said = client::raw(&server.url, format!("{head}{framing}").as_bytes()).await;
        let first = said.get(9..12).unwrap_or_default();
        let answers = said.matches("HTTP/1.1 ").count();
        assert!(
            answers <= 1 && (first.starts_with('4') || first.is_empty()),
            "{framing:.60?}: {said}"
        );
    }
    let seen = house.upstream.seen();
    assert!(
        seen.iter().all(|seen| !seen.target.contains("smuggled")),
        "{seen:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn huge_heads_are_refused_and_slow_ones_cut_while_others_are_served() {
    let house = House::new("").await;
    let (server, alice) = connected(&house).await;
    let head = format!(
        "GET /api/integrations HTTP/1.1\r\nhost: x\r\nx-pad: {}\r\n\r\n",
        "p".repeat(70 * 1024)
    );
    let said = client::raw(&server.url, head.as_bytes()).await;
    assert!(said.starts_with("HTTP/1.1 431"), "{said}");
    let many: String = (0..200).map(|n| format!("x-{n}: y\r\n")).collect();
    let said = client::raw(
        &server.url,
        format!("GET / HTTP/1.1\r\nhost: x\r\n{many}\r\n").as_bytes(),
    )
    .await;
    assert!(said.starts_with("HTTP/1.1 431"), "{said}");

    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut stream = client::connect(&server.url).await.unwrap();
        stream
            .write_all(b"GET /api/integrations HTTP/1.1\r\nhost:")
            .await
            .unwrap();
        slow.push(stream);
    }
    let began = Instant::now();
    let drip = async {
        // A byte now and then does not keep a head alive.
        let (mut reads, mut writes) = slow.pop().unwrap().into_split();
        let dripping = tokio::spawn(async move {
            while writes.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(300)).await
            }
        });
        let mut rest = Vec::new();
        let _ = reads.read_to_end(&mut rest).await;
        dripping.abort();
        began.elapsed()
    };
    let serve = async {
        for _ in 0..20 {
            alice.get("/api/integrations").await.expect(200);
        }
        began.elapsed()
    };
    let (cut, served) = tokio::join!(tokio::time::timeout(Duration::from_secs(20), drip), serve);
    assert!(served < Duration::from_secs(5), "{served:?}");
    let cut = cut.expect("a slow head is cut");
    assert!(cut > Duration::from_secs(5), "{cut:?}");
}
