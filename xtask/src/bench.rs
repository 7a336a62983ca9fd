//! `cargo xtask bench`: what Keystead costs beside a bare server and a plain reverse proxy.
//!
//! What always holds here: one load generator, one run, and rounds in turn (A B C … A B C …), so
//! that a machine whose speed drifts slows all alike; what is quoted is the median of the rounds,
//! and ratios are taken inside of each round.
//!
//! Deliberately not here: a verdict. The load shares the machine's cores with what it measures.

mod report;
mod servers;

use std::fs;
use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::args::Args;
use crate::process::{cargo, run};
use crate::tools;
use report::Sample;
use servers::{Keystead, Request, Server, released, request};

const ROUNDS: usize = 3;
const WARM_UP_SECONDS: u64 = 2;
/// Many for the throughput, one for the latency.
const CONNECTIONS: [usize; 2] = [64, 1];

/// About as long as what `info` answers, and as a short completion.
const BARE_BYTES: &str = "500";
const COMPLETION_BYTES: &str = "800";
const COMPLETIONS: &str = "v1/chat/completions";
const QUESTION: &str = r#"{"model":"gpt-canary","messages":[{"role":"user","content":"Say something short, and then say it once more."}]}"#;

/// What is measured: one request, sent again and again.
struct Case {
    /// What is done; what `--only` looks in.
    name: &'static str,
    /// Where Keystead keeps its rows; empty for what is not Keystead.
    store: &'static str,
    /// The name of the case it is compared with.
    beside: Option<&'static str>,
    request: Request,
}

pub(crate) fn command(mut args: Args) -> Result<()> {
    let json = args.option("--json")?;
    let only = args.option("--only")?;
    let seconds = args.number("--seconds")?.unwrap_or(6);
    args.end()?;

    // The whole workspace: `--package` would build other features of the same crates.
    run(cargo().args(["build", "--release", "--workspace", "--bins"]))?;
    let upstream = Server::start(released("keystead-bench").args(["bare", COMPLETION_BYTES]))?;
    let upstream = upstream.said("/address")?;
    let bare = Server::start(released("keystead-bench").args(["bare", BARE_BYTES]))?;
    let plain = Server::start(released("keystead-bench").args(["plain-proxy", upstream]))?;
    let sqlite = Keystead::on_sqlite(upstream)?;
    let postgres = Keystead::on_postgres(&tools::postgres_bin()?, upstream)?;

    let mut cases = vec![
        Case {
            name: "bare",
            store: "",
            beside: None,
            request: request("GET", bare.said("/address")?, "/", "", ""),
        },
        Case {
            name: "plain proxy",
            store: "",
            beside: None,
            request: request(
                "POST",
                plain.said("/address")?,
                &format!("/{COMPLETIONS}"),
                "",
                QUESTION,
            ),
        },
    ];
    cases.extend(of_keystead("SQLite", &sqlite));
    cases.extend(of_keystead("PostgreSQL", &postgres));
    if let Some(only) = &only {
        cases.retain(|case| case.beside.is_none() || case.name == only);
        if cases.iter().all(|case| case.beside.is_none()) {
            bail!("--only takes info, reveal or proxy");
        }
    }

    let samples = measure(&cases, seconds)?;
    print!("{}", report::table(&cases, &samples));
    if let Some(file) = json {
        fs::write(&file, format!("{:#}\n", report::json(&cases, &samples))).context(file)?;
    }
    Ok(())
}

fn of_keystead(store: &'static str, keystead: &Keystead) -> [Case; 3] {
    let id = &keystead.integration;
    let ask = |method, path: String, body| {
        request(method, &keystead.address, &path, &keystead.headers, body)
    };
    [
        Case {
            name: "info",
            store,
            beside: Some("bare"),
            request: ask("GET", format!("/api/integrations/{id}"), ""),
        },
        Case {
            name: "reveal",
            store,
            beside: Some("bare"),
            request: ask("POST", format!("/api/integrations/{id}/reveal"), "{}"),
        },
        Case {
            name: "proxy",
            store,
            beside: Some("plain proxy"),
            request: ask("POST", format!("/proxy/{id}/{COMPLETIONS}"), QUESTION),
        },
    ]
}

/// Samples in the order they were taken.
fn measure(cases: &[Case], seconds: u64) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for round in 0..ROUNDS {
        for connections in CONNECTIONS {
            for (index, case) in cases.iter().enumerate() {
                let said = load(&case.request, connections, seconds)
                    .with_context(|| format!("{} {} × {connections}", case.name, case.store))?;
                let number = |name: &str| said[name].as_f64().context("the load said no number");
                let sample = Sample {
                    case: index,
                    connections,
                    rps: number("rps")?,
                    p50_us: number("p50_us")?,
                    p99_us: number("p99_us")?,
                };
                eprintln!(
                    "round {}/{ROUNDS}  {connections:>2} × {:<11} {:<10} {:>8.0}/s  p50 {:>7.0} µs  p99 {:>7.0} µs",
                    round + 1,
                    case.name,
                    case.store,
                    sample.rps,
                    sample.p50_us,
                    sample.p99_us,
                );
                samples.push(sample);
            }
        }
    }
    Ok(samples)
}

fn load(request: &Request, connections: usize, seconds: u64) -> Result<Value> {
    let mut load = released("keystead-bench")
        .arg("load")
        .arg(&request.address)
        .args([
            connections.to_string(),
            WARM_UP_SECONDS.to_string(),
            seconds.to_string(),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    // Dropped at once, which ends the request.
    let mut stdin = load.stdin.take().context("no standard input")?;
    stdin.write_all(request.text.as_bytes())?;
    drop(stdin);
    let output = load.wait_with_output()?;
    if !output.status.success() {
        bail!("the load ended with {}", output.status);
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
