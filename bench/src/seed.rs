//! Fills a Keystead through its API: tenants, and in each so many integrations, verified.
//!
//! What always holds: when it ends, no verification runs any more; so what is measured next is not
//! disturbed by it.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::task::{JoinSet, LocalSet};

use crate::load::Connection;

const CONNECTIONS: usize = 32;
/// After so long a verification has failed, or is lost.
const VERIFIED_WITHIN: Duration = Duration::from_secs(60);

/// What all connections share.
struct Plan {
    address: SocketAddr,
    operator: String,
    service: String,
    each: usize,
    /// Tenants that are yet to be done.
    left: Cell<usize>,
}

/// Reads what `keystead dev --json` said from standard input, and prints one line of JSON: each
/// tenant with its integrations, and how long it took.
pub(crate) fn command(address: SocketAddr, tenants: usize, each: usize) -> Result<()> {
    let dev: Value = serde_json::from_reader(std::io::stdin().lock())?;
    let key = |name: &str| {
        let key = dev[name].as_str().map(str::to_owned);
        key.with_context(|| format!("no {name} was given"))
    };
    let plan = Plan {
        address,
        operator: key("operator_key")?,
        service: key("service_key")?,
        each,
        left: Cell::new(tenants),
    };
    let plan: &'static Plan = Box::leak(Box::new(plan));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let since = Instant::now();
    let made = LocalSet::new().block_on(&runtime, async {
        // All tenants first: each that is made lets the proofs of callers be forgotten.
        let names = all(|| make_tenants(plan)).await?;
        plan.left.set(names.len());
        let names: &'static [String] = names.leak();
        let made = all(|| fill(plan, names)).await?;
        plan.left.set(names.len());
        all(|| wait(plan, names)).await?;
        anyhow::Ok(made)
    })?;
    println!(
        "{}",
        json!({ "seconds": since.elapsed().as_secs_f64(), "tenants": made })
    );
    Ok(())
}

/// Does a part of the work on each connection, and returns what they made.
async fn all<T: 'static, F: Future<Output = Result<Vec<T>>> + 'static>(
    part: impl Fn() -> F,
) -> Result<Vec<T>> {
    let mut parts = JoinSet::new();
    for _ in 0..CONNECTIONS {
        parts.spawn_local(part());
    }
    let mut made = Vec::new();
    while let Some(part) = parts.join_next().await {
        made.extend(part??);
    }
    Ok(made)
}

impl Plan {
    fn next(&self) -> Option<usize> {
        let left = self.left.get().checked_sub(1)?;
        self.left.set(left);
        Some(left)
    }
}

async fn make_tenants(plan: &Plan) -> Result<Vec<String>> {
    let mut connection = Connection::open(plan.address).await?;
    let mut made = Vec::new();
    while let Some(number) = plan.next() {
        let body = json!({ "name": format!("tenant-{number}") });
        let request = request("POST", "/api/tenants", &plan.operator, "", Some(&body));
        made.push(id(&call(&mut connection, &request).await?)?);
    }
    Ok(made)
}

async fn fill(plan: &Plan, tenants: &[String]) -> Result<Vec<Value>> {
    let mut connection = Connection::open(plan.address).await?;
    let mut made = Vec::new();
    while let Some(number) = plan.next() {
        let tenant = &tenants[number];
        let mut integrations = Vec::with_capacity(plan.each);
        for place in 0..plan.each {
            let body = json!({
                "name": format!("integration {place}"),
                "type": "openai",
                "credentials": format!("sk-canary-bench-{number:06}-{place:03}-0123456789abcdefghijklmnopqrstuvwxyz"),
            });
            let request = request(
                "POST",
                "/api/integrations",
                &plan.service,
                tenant,
                Some(&body),
            );
            integrations.push(id(&call(&mut connection, &request).await?)?);
        }
        made.push(json!({ "id": tenant, "integrations": integrations }));
    }
    Ok(made)
}

async fn wait(plan: &Plan, tenants: &[String]) -> Result<Vec<()>> {
    let mut connection = Connection::open(plan.address).await?;
    let path = "/api/integrations?status=verifying&limit=1";
    let until = Instant::now() + VERIFIED_WITHIN;
    while let Some(number) = plan.next() {
        let request = request("GET", path, &plan.service, &tenants[number], None);
        while call(&mut connection, &request).await?["data"] != json!([]) {
            if Instant::now() > until {
                bail!("an integration was not verified in time");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(Vec::new())
}

fn request(method: &str, path: &str, key: &str, tenant: &str, body: Option<&Value>) -> String {
    let mut text =
        format!("{method} {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {key}\r\n");
    if !tenant.is_empty() {
        text += &format!("keystead-tenant: {tenant}\r\n");
    }
    match body.map(Value::to_string) {
        None => text + "\r\n",
        Some(body) => {
            let length = body.len();
            text + &format!(
                "content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
            )
        }
    }
}

/// Asks, and reads the body of the answer.
async fn call(connection: &mut Connection, request: &str) -> Result<Value> {
    let answer = connection.ask(request.as_bytes()).await?;
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let body = &answer[head.context("no answer")? + 4..];
    serde_json::from_slice(body).context("not JSON")
}

fn id(made: &Value) -> Result<String> {
    let id = made["id"].as_str().context("no id was given")?;
    Ok(id.to_owned())
}
